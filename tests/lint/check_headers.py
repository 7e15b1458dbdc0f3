# SPDX-License-Identifier: MIT
"""Every header of gateway/ has a guard named after its path and compiles alone."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sources import at, files, main

FLAGS = ["-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c"]


def guard_problem(root: Path, path: Path) -> str | None:
    expected = re.sub(r"[^A-Z0-9]", "_", str(path.relative_to(root)).upper())
    text = path.read_text()
    if f"#ifndef {expected}\n#define {expected}\n" in text:
        return None
    return f"{at(root, path, 1)}: its guard is not {expected}"


def compile_problem(root: Path, path: Path) -> str | None:
    name = path.relative_to(root / "gateway")
    # Twice: the guard works.
    source = f'#include "{name}"\n#include "{name}"\nextern int header_is_alone;\n'
    command = [os.environ.get("CC", "cc"), *FLAGS, "-Igateway", *shlex.split(os.environ.get("LINT_CPPFLAGS", "")), "-"]
    done = subprocess.run(command, input=source, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    first = next((line for line in done.stderr.splitlines() if "error" in line), "the compiler failed")
    return f"{at(root, path, 1)}: does not compile alone: {first}"


def problems(root: Path) -> Iterator[str]:
    headers = [path for path in files(root, ".h") if path.is_relative_to(root / "gateway")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda path: (guard_problem(root, path), compile_problem(root, path)), headers):
            yield from (problem for problem in found if problem)


if __name__ == "__main__":
    main(problems)
