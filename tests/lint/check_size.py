# SPDX-License-Identifier: MIT
"""Files have at most 600 lines, headers 150, functions (C and Python) 60.

Generated files may be as long as they like.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sources import at, files, generated, main, strip_c

FILE_LINES = 600
HEADER_LINES = 150
FUNCTION_LINES = 60


def c_functions(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, first line, lines) of each function: in the project's style its braces stand alone in the first column."""
    lines = strip_c(text).splitlines()
    for number, line in enumerate(lines):
        if line.rstrip() != "{":
            continue
        start = number
        while (
            start > 0 and lines[start - 1].strip() and lines[start - 1][0] not in "}#/" and ";" not in lines[start - 1]
        ):
            start -= 1
        end = next((i for i in range(number, len(lines)) if lines[i].startswith("}")), len(lines) - 1)
        head = " ".join(lines[start:number])
        match = re.search(r"TEST\((\w+)\)", head) or re.search(r"(\w+)\s*\(", head)
        if match:
            yield match[1], start + 1, end - start + 1


def python_functions(text: str) -> Iterator[tuple[str, int, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def is_python(path: Path) -> bool:
    if path.suffix == ".py":
        return True
    with path.open(errors="replace") as file:
        return path.suffix == "" and "python3" in file.readline()


def problems(root: Path) -> Iterator[str]:
    for path in files(root, ".c", ".cc", ".h", ".py", ""):
        python = is_python(path)
        if generated(path) or (path.suffix == "" and not python):
            continue
        text = path.read_text()
        count = text.count("\n")
        limit = HEADER_LINES if path.suffix == ".h" and path.is_relative_to(root / "gateway") else FILE_LINES
        if count > limit:
            yield f"{at(root, path, limit)}: {count} lines, at most {limit}: split it by what its parts know"
        for name, line, length in python_functions(text) if python else c_functions(text):
            if length > FUNCTION_LINES:
                yield f"{at(root, path, line)}: {name} has {length} lines, at most {FUNCTION_LINES}"


if __name__ == "__main__":
    main(problems)
