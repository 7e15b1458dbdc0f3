# SPDX-License-Identifier: MIT
"""The supervisor's processes: spawned, heard, told, reaped; and the slots that they fill.

Job: hold each worker process with its channel (supervised.py), read what workers say, take every
end, also those of strangers that process 1 of a container inherits. It owns the channels. It
decides nothing: when to start, replace or stop a worker is the supervisor's (supervisor.py).
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from .supervised import MARKER

BACKOFF_FIRST = 0.1
BACKOFF_LAST = 30.0


class State(Enum):
    """Where a worker process is in its life, as far as its supervisor cares."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(slots=True, eq=False)
class Child:
    """One worker process."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    spawned_at: float
    kill_at: float  # when patience ends: with its start, later with its stop
    state: State = State.STARTING
    ready_at: float | None = None
    alive_at: float = 0.0  # when its event loop last said that it turns
    aborted: bool = False  # SIGABRT was sent; SIGKILL is next
    failure: str = ""  # what it said about its end
    recycle: str = ""  # why it asked for a replacement
    unread: bytes = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal; not Popen.send_signal, which would reap an end unseen by reap()."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass(slots=True, eq=False)
class Slot:
    """The place of one worker: who serves in it, who is to replace him, when to try again."""

    child: Child | None = None
    replacement: Child | None = None
    crashes: int = 0  # in a row
    restart_at: float | None = None
    replacing: Replacing | None = None  # why the replacement starts

    @property
    def serves(self) -> bool:
        """Whether a ready worker is in it."""
        return self.child is not None and self.child.state is State.READY

    def next_pause(self, longest: float = BACKOFF_LAST) -> float:
        """How long to wait this time; longer each time, and not in step with other slots."""
        pause = min(longest, BACKOFF_FIRST * 2.0**self.crashes)
        self.crashes = min(self.crashes + 1, 16)
        return random.uniform(pause / 2, pause)


@dataclass(slots=True, eq=False)
class Replacing:
    """A worker to be replaced, when its turn has come."""

    slot: Slot
    reason: str
    reload: int  # the number of the reload that wants it; 0: it asked for it itself
    not_before: float = 0.0


def describe(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class Children:
    """All worker processes that have not been reaped."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        selector: selectors.BaseSelector,
        log: logging.Logger,
    ) -> None:
        self._command = list(command)
        self._environ = dict(environ)
        self._selector = selector  # a channel's data is its Child
        self._log = log
        self._by_pid: dict[int, Child] = {}

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_pid.values()))

    def __len__(self) -> int:
        return len(self._by_pid)

    def spawn(self, patience: float) -> Child | None:
        """Start a process; None (and a line in the log) when the system refuses."""
        ours, theirs = socket.socketpair()
        environ = {**self._environ, MARKER: str(theirs.fileno())}
        try:
            process = subprocess.Popen(
                self._command,
                env=environ,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        except OSError as exc:
            self._log.error("a worker could not be spawned (%s): %s", self._command[0], exc)
            ours.close()
            return None
        finally:
            theirs.close()
        ours.setblocking(False)
        now = time.monotonic()
        child = Child(process, ours, now, now + patience)
        self._by_pid[process.pid] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        return child

    def reap(self) -> Iterator[tuple[Child, int]]:
        """Take the ends of all processes; yields those of workers, with their exit codes."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._by_pid.get(pid)
            if child is None:
                continue  # an orphan that process 1 has inherited
            code = os.waitstatus_to_exitcode(status)
            child.process.returncode = code
            yield child, code

    def forget(self, child: Child) -> None:
        """Let go of a worker that was reaped."""
        del self._by_pid[child.pid]
        self._close(child)

    def _close(self, child: Child) -> None:
        if child.channel.fileno() >= 0:
            self._selector.unregister(child.channel)
            child.channel.close()

    def hear(self, child: Child) -> list[tuple[str, str]]:
        """Read what a worker says, until there is no more for now: words with their texts."""
        while child.channel.fileno() >= 0:
            try:
                data = child.channel.recv(4096)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._close(child)
                break
            child.unread += data
        *lines, child.unread = child.unread.split(b"\n")
        said = [line.decode(errors="replace").partition(" ") for line in lines]
        return [(word, text) for word, _, text in said]

    def tell(self, child: Child, word: str) -> None:
        """Say one word to a worker."""
        with suppress(OSError):  # it has ended, and its end will be reaped
            child.channel.send(f"{word}\n".encode())
