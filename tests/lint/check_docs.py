# SPDX-License-Identifier: MIT
"""Documents and code agree: docs/FLOWS.md names only functions that exist, links between documents lead somewhere,
`make help` lists every target, every option is documented, and no file names the folder where somebody checked the
project out."""

import re
from collections.abc import Iterator
from pathlib import Path

from sources import at, files, main

TEXT = (".c", ".cc", ".h", ".def", ".py", ".md", ".toml", ".mk", ".yaml", ".service", ".socket", ".txt", "")
HOME = re.compile(r"(?<![\w.])/(?:home/(?!user\b|you\b)\w+|root|Users/\w+)/\w")


def defined_functions(root: Path) -> set[str]:
    """Functions, function-like macros and slots of tables of functions, in C and in Python."""
    names: set[str] = set()
    for path in files(root, ".c", ".cc", ".h", ".def"):
        if path.is_relative_to(root / "gateway"):
            text = path.read_text()
            names |= set(re.findall(r"^(?!return|else|if)[A-Za-z_][\w *]*?\b(\w+)\(", text, re.MULTILINE))
            names |= set(re.findall(r"^#define (\w+)\(", text, re.MULTILINE))
            names |= set(re.findall(r"\(\*(\w+)\)\(", text))
    for path in files(root, ".py"):
        if path.is_relative_to(root / "worker"):
            names |= set(re.findall(r"^\s*(?:async )?def (\w+)", path.read_text(), re.MULTILINE))
            names |= set(re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE))
    return names


def flow_problems(root: Path) -> Iterator[str]:
    """`name()` anywhere, and `two_words` in backticks that are not a path or a file, are functions."""
    page = root / "docs/FLOWS.md"
    if not page.exists():
        return
    defined = defined_functions(root)
    for number, line in enumerate(page.read_text().splitlines(), 1):
        named = set(re.findall(r"\b(\w+)\(\)", line))
        named |= set(re.findall(r"`([a-z]\w*_\w+)`", line))
        for name in sorted(named - defined):
            yield f"{at(root, page, number)}: there is no function {name}"


def option_problems(root: Path) -> Iterator[str]:
    """Every row OPTION(section, name, ...) of the schema is in the reference and in the annotated example."""
    schema = root / "gateway/config/schema.def"
    if not schema.exists():
        return
    for page in (root / "docs/CONFIGURATION.md", root / "conf/gateway.toml"):
        words = set(re.findall(r"\w+", page.read_text())) if page.exists() else set()
        for number, line in enumerate(schema.read_text().splitlines(), 1):
            row = re.match(r"OPTION\w*\((\w+),\s*(\w+),", line)
            if row and row[2] not in words:
                yield f"{at(root, schema, number)}: {row[1]}.{row[2]} is not in {page.relative_to(root)}"


def link_problems(root: Path) -> Iterator[str]:
    for page in files(root, ".md"):
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", line):
                if not (page.parent / target).exists():
                    yield f"{at(root, page, number)}: the link to {target} leads nowhere"


def help_problems(root: Path) -> Iterator[str]:
    makefile = root / "Makefile"
    if not makefile.exists():
        return
    for number, line in enumerate(makefile.read_text().splitlines(), 1):
        rule = re.match(r"([a-z][a-z-]*):(?!=)(.*)", line)
        if rule and "## " not in rule[2]:
            yield f"{at(root, makefile, number)}: target {rule[1]} has no '## what it does' for make help"


def path_problems(root: Path) -> Iterator[str]:
    here = re.compile(re.escape(str(root)) + r"\b")
    for path in files(root, *TEXT):
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            for found in (here.search(line), HOME.search(line)):
                if found:
                    yield f"{at(root, path, number)}: {found[0]} is a path of one machine"


def problems(root: Path) -> Iterator[str]:
    yield from flow_problems(root)
    yield from option_problems(root)
    yield from link_problems(root)
    yield from help_problems(root)
    yield from path_problems(root)


if __name__ == "__main__":
    main(problems)
