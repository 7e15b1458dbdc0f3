# SPDX-License-Identifier: MIT
"""The file with the process id, of a single worker or of a supervisor (--pid-file).

Job: write it, and remove it only while it still names this process. It knows no settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from .config import ConfigError


def write_pid_file(path: str) -> Callable[[], None]:
    """Write this process's id; returns what removes the file. Raises ConfigError."""
    mine = f"{os.getpid()}\n"
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(mine)
    except OSError as exc:
        raise ConfigError(f"--pid-file {path}: {exc.strerror}") from exc

    def remove() -> None:
        with suppress(OSError, UnicodeDecodeError):
            with open(path, encoding="ascii") as file:
                if file.read() != mine:
                    return  # another one has been started on this file
            os.unlink(path)

    return remove
