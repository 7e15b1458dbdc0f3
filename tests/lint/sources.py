# SPDX-License-Identifier: MIT
"""What the linters share: the repository's files, comments taken out of C, and the way a linter reports.

A linter is a module with `problems(root: Path) -> Iterable[str]`, each problem one line
"file:line: what is wrong and what would be right". Run alone it prints them and exits 1 when there are any.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files(root: Path, *suffixes: str) -> list[Path]:
    """The files that git knows or would add, below `root`; every file where there is no git."""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
        names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
        found = [root / name for name in names if name and (root / name).is_file()]
    else:
        found = [path for path in root.rglob("*") if path.is_file()]
    return sorted(path for path in found if not suffixes or path.suffix in suffixes)


def generated(path: Path) -> bool:
    with path.open(errors="replace") as file:
        return any("GENERATED" in line for _, line in zip(range(5), file, strict=False))


def strip_c(text: str, *, strings: bool = True) -> str:
    """Blanks comments (and the inside of strings), keeping every line where it is."""

    def blank(match: re.Match[str]) -> str:
        found = match[0]
        if found[0] in "\"'":
            return found[0] + " " * (len(found) - 2) + found[-1] if strings else found
        return re.sub(r"[^\n]", " ", found)

    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.DOTALL)


def at(root: Path, path: Path, line: int) -> str:
    return f"{path.relative_to(root)}:{line}"


def main(problems: Callable[[Path], Iterable[str]]) -> None:
    found = list(problems(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
    for problem in found:
        print(problem)
    sys.exit(1 if found else 0)
