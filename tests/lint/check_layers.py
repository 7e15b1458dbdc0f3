# SPDX-License-Identifier: MIT
"""Includes follow the two tables of docs/ARCHITECTURE.md."""

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sources import at, files, main, strip_c

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)


LAYER_HEAD = ("layer", "folder", "project", "third party")
LIBRARY_HEAD = ("third party", "headers", "only in")


@dataclass(frozen=True, slots=True)
class Rules:
    project: dict[str, set[str]]  # folder -> folders it may include
    third_party: dict[str, set[str]]  # folder -> libraries
    headers: dict[str, list[str]]  # library -> header patterns
    places: dict[str, list[str]]  # library -> folders or files


def words(cell: str) -> list[str]:
    return [] if cell.strip() == "-" else cell.split()


def read_rules(document: str) -> Rules:
    rules = Rules({}, {}, {}, {})
    table: tuple[str, ...] = ()  # the first cells of the table's head
    for line in document.splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if not line.startswith("|"):
            table = ()
        elif not table:
            table = cells
        elif set(cells[0]) <= set("-: "):
            continue
        elif table == LAYER_HEAD:
            rules.project[cells[1]] = set(words(cells[2]))
            rules.third_party[cells[1]] = set(words(cells[3]))
        elif table == LIBRARY_HEAD:
            rules.headers[cells[0]] = words(cells[1])
            rules.places[cells[0]] = words(cells[2])
    return rules


def library_of(rules: Rules, header: str) -> str | None:
    for library, patterns in rules.headers.items():
        if any(fnmatch.fnmatch(header, pattern) for pattern in patterns):
            return library
    return None


def judge(rules: Rules, name: str, folder: str, header: str) -> str | None:
    """What is wrong with `header` in the file `name` (below gateway/) of `folder`; None when nothing is."""
    library = library_of(rules, header)
    if library is not None:
        if library not in rules.third_party[folder] or not {folder, name} & set(rules.places[library]):
            return f"{header} belongs to {library}, which only {' '.join(rules.places[library])} may use"
        return None
    target = header.partition("/")[0] if "/" in header else "."
    if target == folder or (target != "." and target in rules.project[folder]):
        return None
    if target not in rules.project:
        return None  # libc's
    allowed = " ".join(sorted(rules.project[folder])) or "nothing of the project"
    return f"{folder} may not include {header}: it may include {allowed} (docs/ARCHITECTURE.md)"


def problems(root: Path) -> Iterator[str]:
    rules = read_rules((root / "docs/ARCHITECTURE.md").read_text())
    if not rules.project or not rules.headers:
        yield "docs/ARCHITECTURE.md:1: the tables of layers and libraries are not there"
        return
    gateway = root / "gateway"
    for path in files(root, ".c", ".cc", ".h", ".def"):
        if not path.is_relative_to(gateway):
            continue
        name = str(path.relative_to(gateway))
        folder = name.rpartition("/")[0] or "."
        if folder not in rules.project:
            yield f"{at(root, path, 1)}: folder {folder} is not in the table of docs/ARCHITECTURE.md"
            continue
        text = strip_c(path.read_text(), strings=False)
        for match in INCLUDE.finditer(text):
            if match[1] == "<" and library_of(rules, match[2]) is None:
                continue
            wrong = judge(rules, name, folder, match[2])
            if wrong:
                yield f"{at(root, path, text.count(chr(10), 0, match.start()) + 1)}: {wrong}"


if __name__ == "__main__":
    main(problems)
