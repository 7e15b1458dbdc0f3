# SPDX-License-Identifier: MIT
"""Generated files are what their generators would write now."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from sources import main


def problems(root: Path) -> Iterator[str]:
    listed = subprocess.run([root / "tests/lint/generators"], capture_output=True, text=True, check=True)
    for command in listed.stdout.splitlines():
        arguments = [*command.split(), "--check"]
        done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            yield f"{command}: its output is not current, run make generate: {(done.stdout + done.stderr).strip()}"


if __name__ == "__main__":
    main(problems)
