# SPDX-License-Identifier: MIT
"""A child process whose output is kept in a file and whose end is certain."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

SANITIZER = re.compile(
    r"ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:|REQUIRE|check failed"
)


class Failed(AssertionError):
    """A process did not do what the scenario needs; the text holds its last output."""


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20.0) -> object:
    """Calls `condition` until it is true; the generous deadline only ends a broken run."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s for {what}")
        time.sleep(0.01)


class Process:
    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str] | None = None):
        self.name = name
        self.log = log
        self.command = command
        self.environment = {**os.environ, **(environment or {})}
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.output.splitlines()[-lines:])

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 30.0) -> int:
        assert self.child is not None
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {seconds} s\n{self.tail()}") from None

    def wait_log(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Waits until the output matches."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.output)
            if match is None and not self.alive:
                raise Failed(
                    f"{self.name} ended with {self.child and self.child.returncode} before {pattern!r}\n{self.tail()}"
                )
            return match

        match = wait_for(found, f"{pattern!r} in the output of {self.name}", seconds)
        assert isinstance(match, re.Match)
        return match

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        if self.alive:
            self.send_signal(number)
        return self.wait(seconds)

    def kill_all(self) -> None:
        """Ends what is left of it and its session, whatever state it is in."""
        if self.child is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def assert_no_report(self) -> None:
        found = SANITIZER.search(self.output)
        if found:
            raise Failed(f"{self.name} printed {found.group(0)!r}:\n{self.tail(120)}")


def descriptors(pid: int) -> list[str]:
    """What the descriptors of a process point to."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(entry.readlink()))
    return found


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise Failed(f"no VmRSS of {pid}")
