# SPDX-License-Identifier: MIT
"""clang-tidy with .clang-tidy over gateway/*.c; files unchanged since they were clean are skipped."""

import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sources import files, main

INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def closure(root: Path, path: Path, seen: dict[Path, bytes]) -> None:
    """Adds `path` and every project header that it includes, directly or not."""
    if path in seen or not path.is_file():
        return
    seen[path] = path.read_bytes()
    for name in INCLUDE.findall(seen[path]):
        closure(root, root / "gateway" / name.decode(), seen)


def key(root: Path, path: Path, setting: str) -> str:
    seen: dict[Path, bytes] = {}
    closure(root, path, seen)
    digest = hashlib.sha256(setting.encode())
    for text in (text for _, text in sorted(seen.items())):
        digest.update(text)
    return digest.hexdigest()


def tidy(root: Path, path: Path, flags: list[str]) -> str:
    command = ["clang-tidy", "--quiet", "--warnings-as-errors=*", str(path.relative_to(root)), "--", *flags]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    found = [line for line in done.stdout.splitlines() if re.search(r": (error|warning):", line)]
    return "\n".join(line.replace(f"{root}/", "") for line in found) or done.stderr[-2000:]


def problems(root: Path) -> Iterator[str]:
    cache = Path(os.environ.get("LINT_CACHE", root / "build/lint")) / "tidy"
    cache.mkdir(parents=True, exist_ok=True)
    flags = [
        "-std=c17",
        "-D_GNU_SOURCE",
        '-DGATEWAYD_VERSION="0"',
        "-Igateway",
        *shlex.split(os.environ.get("LINT_CPPFLAGS", "")),
    ]
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout
    setting = version + (root / ".clang-tidy").read_text() + " ".join(flags)

    def judge(path: Path) -> str:
        stamp = cache / key(root, path, setting)
        if stamp.exists():
            os.utime(stamp)
            return ""
        found = tidy(root, path, flags)
        if not found:
            stamp.touch()
        return found

    sources = [path for path in files(root, ".c") if path.is_relative_to(root / "gateway")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(judge, sources):
            yield from found.splitlines()


if __name__ == "__main__":
    main(problems)
