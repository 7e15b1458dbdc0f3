# SPDX-License-Identifier: MIT
"""Which source files have changed: the eyes of --reload.

Job: look over directories now and then and report Python files that came, went or changed once
they have been still for two looks, so that an editor or a checkout that writes many files is one
change. The standard library has nothing but stat() for it; a look at 10,000 files takes some
50 ms, and the pause between looks grows with what a look takes. It starts and reloads nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

PAUSE = 0.2
# A look may take this part of the time.
SHARE = 0.1
SUFFIX = ".py"
IGNORED = {"__pycache__", "node_modules", "site-packages"}

Stamp = tuple[int, int, int]


class Watcher:
    """The files below some directories, and some files by name."""

    def __init__(self, directories: Sequence[str], files: Sequence[str] = ()) -> None:
        self._directories = [os.path.abspath(path) for path in directories]
        self._files = [os.path.abspath(path) for path in files]
        self._known = self._look()  # what was reported, or was there at the beginning
        self._last = self._known
        self.next_look = time.monotonic() + PAUSE

    def changes(self) -> list[str]:
        """Look, and return the files of a change that is over; empty: none, or still going on."""
        began = time.monotonic()
        now = self._look()
        ended = time.monotonic()
        self.next_look = ended + max(PAUSE, (ended - began) / SHARE)
        still, self._last = now == self._last, now
        if not still or now == self._known:
            return []
        differ = {path for path, _ in self._known.items() ^ now.items()}
        self._known = now
        return sorted(differ)

    def _look(self) -> dict[str, Stamp]:
        found: dict[str, Stamp] = {}
        for path in self._files:
            with suppress(OSError):
                found[path] = _stamp(os.stat(path))
        for directory in self._directories:
            for entry in _sources(directory):
                with suppress(OSError):  # it has just gone
                    found[entry.path] = _stamp(entry.stat())
        return found


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _sources(top: str) -> Iterator[os.DirEntry[str]]:
    """Yield the Python files below `top`, but not those of hidden folders and environments."""
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(directory) as entries:
                listed = list(entries)
        except OSError:
            continue
        if directory != top and any(entry.name == "pyvenv.cfg" for entry in listed):
            continue
        for entry in listed:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith(".") and entry.name not in IGNORED:
                        waiting.append(entry.path)
                elif entry.name.endswith(SUFFIX):
                    yield entry
