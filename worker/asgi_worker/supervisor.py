# SPDX-License-Identifier: MIT
"""The supervisor of several workers (--workers N): spawn, watch, back-off, signals, rolling reload.

Job: keep N worker processes serving. Each is the same command in a fresh interpreter, so that a
reload loads new code; a channel (supervised.py) tells when it is ready, and its end tells the
worker that the supervisor is gone. A worker is stopped only after its replacement is ready. It
owns the processes and the pid file; it reaps everything, and so may be process 1 of a container.
It knows neither applications nor the gateway: it imports no asgi/, protocol/ or io/.
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from . import logs
from .config import ConfigError, Settings
from .pidfile import write_pid_file
from .supervised import FAILED, MARKER, NOW, READY, RECYCLE, STOP

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_APP, EXIT_RETIRED = range(5)

BACKOFF_FIRST = 0.1
BACKOFF_LAST = 30.0
# A worker that served so long was no part of a series of crashes.
STEADY = 10.0
# So many failed starts in a row, with nobody serving, and the supervisor gives up.
FAILED_STARTS = 5
# What a start may take beyond --startup-timeout: the interpreter, and finding the gateway.
START_SLACK = 20.0
# What a second signal leaves the workers.
NOW_WAIT = 5.0
SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)


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
    failure: str = ""  # what it said about its end
    recycle: str = ""  # why it asked for a replacement
    unread: bytes = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


@dataclass(slots=True, eq=False)
class Slot:
    """The place of one worker: who serves in it, who is to replace him, when to try again."""

    child: Child | None = None
    replacement: Child | None = None
    crashes: int = 0  # in a row
    restart_at: float | None = None
    replacing: Replacing | None = None  # why the replacement starts

    def next_pause(self) -> float:
        """How long to wait this time; longer each time, and not in step with other slots."""
        pause = min(BACKOFF_LAST, BACKOFF_FIRST * 2.0**self.crashes)
        self.crashes = min(self.crashes + 1, 16)
        return random.uniform(pause / 2, pause)


@dataclass(slots=True, eq=False)
class Replacing:
    """A worker to be replaced, when its turn has come."""

    slot: Slot
    reason: str
    reload: bool
    not_before: float = 0.0


def describe(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class Supervisor:
    """All workers of one command; run() is its life."""

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: logging.Logger,
    ) -> None:
        self._settings = settings
        self._command = list(command)
        self._environ = dict(environ)
        self._log = log
        self._slots: list[Slot] = []
        self._children: dict[int, Child] = {}
        self._queue: list[Replacing] = []
        self._selector = selectors.DefaultSelector()
        self._signals: socket.socket | None = None
        self._stops = 0  # how often it was told to stop
        self._code = EXIT_OK
        self._failed_starts = 0  # in a row
        self._ever_ready = False

    # The loop

    def run(self) -> int:
        """Run until the last worker has ended; returns the exit code."""
        self._watch_signals()
        self._log.info("starting %d workers of %s", self._settings.workers, self._settings.app)
        self._slots = [Slot() for _ in range(self._settings.workers)]
        for slot in list(self._slots):
            self._fill(slot)
        while self._children or not self._stops:
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    self._on_signals()
                else:
                    self._hear(key.data)
            self._on_time()
        for number in SIGNALS:  # the interpreter's end must not become a death by a late one
            signal.signal(number, signal.SIG_IGN)
        self._log.info("stopped")
        return self._code

    def _watch_signals(self) -> None:
        self._signals, writer = socket.socketpair()
        self._signals.setblocking(False)
        writer.setblocking(False)
        self._selector.register(self._signals, selectors.EVENT_READ, None)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda _number, _frame: None)

    def _on_signals(self) -> None:
        assert self._signals is not None
        numbers = b""
        with suppress(BlockingIOError):
            numbers = self._signals.recv(4096)
        if signal.SIGCHLD in numbers:
            self._reap()
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._on_stop_signal(signal.Signals(number).name)
            elif number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGTTIN:
                self._grow()
            elif number == signal.SIGTTOU:
                self._shrink()

    def _patience(self) -> float | None:
        """How long nothing has to be done when nothing comes."""
        never = float("inf")
        times = [child.kill_at for child in self._children.values()]
        times += [slot.restart_at for slot in self._slots if slot.restart_at is not None]
        if all(slot.replacement is None for slot in self._slots):
            times += [entry.not_before for entry in self._queue]
        first = min(times, default=never)
        return None if first == never else max(0.0, first - time.monotonic())

    def _on_time(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if now >= child.kill_at:
                self._lose_patience(child)
        for slot in list(self._slots):
            if slot.restart_at is not None and now >= slot.restart_at:
                slot.restart_at = None
                self._fill(slot)
        self._advance()

    # Processes

    def _spawn(self) -> Child | None:
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
        child = Child(process, ours, now, now + self._settings.startup_timeout + START_SLACK)
        self._children[process.pid] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        return child

    def _fill(self, slot: Slot) -> None:
        """Start a worker in an empty slot."""
        if self._stops:
            return
        slot.child = self._spawn()
        if slot.child is None:
            self._start_failed(slot, EXIT_FAILURE)
        else:
            self._log.info("worker %d starts", slot.child.pid)

    def _reap(self) -> None:
        """Take the ends of all processes, also of those that an init inherits."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.get(pid)
            if child is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            child.process.returncode = code
            self._hear(child)  # what it said last
            del self._children[pid]
            self._close(child)
            self._on_exit(child, code)

    def _close(self, child: Child) -> None:
        if child.channel.fileno() >= 0:
            self._selector.unregister(child.channel)
            child.channel.close()

    def _hear(self, child: Child) -> None:
        """Read what a worker says, until there is no more for now."""
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
        for line in lines:
            word, _, text = line.decode(errors="replace").partition(" ")
            if word == READY:
                self._on_ready(child)
            elif word == RECYCLE:
                self._on_recycle(child, text)
            elif word == FAILED:
                child.failure = text

    def _tell(self, child: Child, word: str) -> None:
        with suppress(OSError):  # it has ended, and its end will be reaped
            child.channel.send(f"{word}\n".encode())

    def _stop(self, child: Child) -> None:
        """Let a worker finish what it does and go."""
        if child.state is not State.STOPPING:
            child.state = State.STOPPING
            child.kill_at = time.monotonic() + self._settings.longest_stop
            self._tell(child, STOP)

    def _lose_patience(self, child: Child) -> None:
        if child.state is State.STARTING:
            child.failure = "it did not become ready in time"
            self._log.error("worker %d does not become ready: killed", child.pid)
        else:
            self._log.error("worker %d does not stop: killed", child.pid)
        child.kill_at = float("inf")
        # Not Popen.send_signal: it would reap a process that has just ended, unseen by _reap().
        os.kill(child.pid, signal.SIGKILL)

    # What happens to workers

    def _slot_of(self, child: Child) -> Slot | None:
        for slot in self._slots:
            if child in (slot.child, slot.replacement):
                return slot
        return None

    def _on_ready(self, child: Child) -> None:
        if child.state is not State.STARTING:
            return
        child.state = State.READY
        child.ready_at = time.monotonic()
        child.kill_at = float("inf")
        self._failed_starts = 0
        self._ever_ready = True
        slot = self._slot_of(child)
        if slot is None or slot.replacement is not child:
            self._log.info("worker %d is ready", child.pid)
            return
        self._replaced(slot)

    def _on_recycle(self, child: Child, reason: str) -> None:
        child.recycle = reason or "recycled"
        slot = self._slot_of(child)
        if slot is not None and slot.child is child and not self._stops:
            self._queue_recycling(slot, 0.0)

    def _on_exit(self, child: Child, code: int) -> None:
        slot = self._slot_of(child)
        if slot is None or self._stops:
            self._on_awaited_exit(child, code)
            return
        if slot.replacement is child:
            slot.replacement = None
            self._replacement_failed(slot, child, code)
            return
        slot.child, slot.replacement, slot.replacing = slot.replacement, None, None
        if slot.child is None:  # what will start in it loads everything anew anyway
            self._queue = [entry for entry in self._queue if entry.slot is not slot]
        if code == EXIT_RETIRED:
            self._retire(slot, child)
            return
        why = f": {child.failure}" if child.failure else ""
        level = logging.ERROR if code else logging.INFO
        self._log.log(level, "worker %d %s%s", child.pid, describe(code), why)
        if slot.child is not None:
            return
        if child.ready_at is None:
            self._start_failed(slot, code)
            return
        if time.monotonic() - child.ready_at >= STEADY:
            slot.crashes = 0
        self._restart_later(slot)

    def _on_awaited_exit(self, child: Child, code: int) -> None:
        """Take the end of a worker that was told to go, or of any in a stop."""
        clean = code in (EXIT_OK, EXIT_RETIRED, -signal.SIGTERM, -signal.SIGINT)
        level = logging.INFO if clean else logging.WARNING
        why = f": {child.failure}" if child.failure else ""
        self._log.log(level, "worker %d %s%s", child.pid, describe(code), why)
        if not clean and self._stops and self._code == EXIT_OK:
            self._code = EXIT_FAILURE

    def _restart_later(self, slot: Slot) -> None:
        pause = slot.next_pause()
        slot.restart_at = time.monotonic() + pause
        self._log.info("a new worker starts in %.1f s", pause)

    def _start_failed(self, slot: Slot, code: int) -> None:
        """Try again, or give up when nobody serves and nobody can be expected to."""
        self._failed_starts += 1
        if any(s.child is not None and s.child.state is State.READY for s in self._slots):
            self._restart_later(slot)
            return
        hopeless = not self._ever_ready and code in (EXIT_USAGE, EXIT_APP)
        if not hopeless and self._failed_starts < FAILED_STARTS:
            self._restart_later(slot)
            return
        self._log.critical(
            "workers cannot start (%d failed in a row) and nobody serves: giving up; what they "
            "said is above",
            self._failed_starts,
        )
        known = (EXIT_FAILURE, EXIT_USAGE, EXIT_APP)
        self._stop_all(code if code in known else EXIT_APP)

    def _retire(self, slot: Slot, child: Child) -> None:
        """Give a slot up whose worker the gateway wants no more."""
        self._log.warning(
            "worker %d was told that its generation is retired: no other takes its place",
            child.pid,
        )
        self._give_up(slot)
        if not self._slots:
            self._stop_all(EXIT_RETIRED)

    def _give_up(self, slot: Slot) -> None:
        """Take a slot away, and let its workers go."""
        self._slots.remove(slot)
        self._queue = [entry for entry in self._queue if entry.slot is not slot]
        for child in (slot.child, slot.replacement):
            if child is not None:
                self._stop(child)

    # Replacing

    def _reload(self) -> None:
        """Replace all workers, newest first, one after the other."""
        if self._stops:
            return
        self._log.info("SIGHUP: replacing all workers, newest first")
        filled = [(slot.child.spawned_at, slot) for slot in self._slots if slot.child is not None]
        filled.sort(key=lambda pair: pair[0], reverse=True)
        self._queue = [Replacing(slot, "reload", True) for _, slot in filled]
        self._failed_starts = 0
        for slot in self._slots:
            slot.crashes = 0
            if slot.restart_at is not None:
                slot.restart_at = time.monotonic()  # the new code may be what was missing

    def _advance(self) -> None:
        """Begin the next replacement, if its time has come and no other is under way."""
        if self._stops or any(slot.replacement is not None for slot in self._slots):
            return
        now = time.monotonic()
        entry = next((entry for entry in self._queue if entry.not_before <= now), None)
        if entry is None:
            return
        self._queue.remove(entry)
        slot, old = entry.slot, entry.slot.child
        assert old is not None  # an empty slot has no entry
        slot.replacing, slot.replacement = entry, self._spawn()
        if slot.replacement is None:
            self._replace_later(slot)
        else:
            pids = (slot.replacement.pid, old.pid)
            self._log.info("worker %d starts in place of worker %d: %s", *pids, entry.reason)

    def _replaced(self, slot: Slot) -> None:
        """Let the old worker of a slot go: the new one is ready."""
        old, slot.child, slot.replacement = slot.child, slot.replacement, None
        entry, slot.replacing = slot.replacing, None
        slot.crashes = 0
        assert old is not None
        assert slot.child is not None
        self._log.info("worker %d is ready: worker %d may go", slot.child.pid, old.pid)
        self._stop(old)
        if entry is not None and entry.reload and not any(e.reload for e in self._queue):
            self._log.info("the reload is complete")

    def _replacement_failed(self, slot: Slot, child: Child, code: int) -> None:
        old = slot.child
        assert old is not None  # else the replacement would have taken the slot
        self._log.error(
            "worker %d %s before it was ready%s: worker %d stays",
            child.pid,
            describe(code),
            f" ({child.failure})" if child.failure else "",
            old.pid,
        )
        if code == EXIT_RETIRED:
            slot.replacing = None  # the gateway will send the old one away too
            self._give_reload_up()
        else:
            self._replace_later(slot)

    def _replace_later(self, slot: Slot) -> None:
        """After a replacement failed: a reload is given up, a recycling is tried again."""
        entry, slot.replacing = slot.replacing, None
        if entry is not None and entry.reload:
            self._give_reload_up()
        else:
            self._queue_recycling(slot, slot.next_pause())

    def _give_reload_up(self) -> None:
        self._queue = [entry for entry in self._queue if not entry.reload]
        self._log.error(
            "the reload is given up, what served goes on serving; send SIGHUP again when what "
            "is said above is mended"
        )
        for slot in self._slots:  # a reload that had been begun would have done for these
            self._queue_recycling(slot, BACKOFF_FIRST)

    def _queue_recycling(self, slot: Slot, pause: float) -> None:
        """Note that a slot's worker asked for a replacement, if it did and none is coming."""
        reason = slot.child.recycle if slot.child is not None else ""
        if reason and slot.replacement is None and all(e.slot is not slot for e in self._queue):
            self._queue.append(Replacing(slot, reason, False, time.monotonic() + pause))

    # What people want

    def _on_stop_signal(self, name: str) -> None:
        if not self._stops:
            self._log.info("%s: stopping, requests in flight finish", name)
            self._stop_all(EXIT_OK)
            return
        self._stops += 1
        if self._stops == 2:
            self._log.warning("%s again: stopping now", name)
        now = time.monotonic()
        for child in list(self._children.values()):
            self._tell(child, NOW)
            child.kill_at = min(child.kill_at, now + (NOW_WAIT if self._stops == 2 else 0.0))

    def _stop_all(self, code: int) -> None:
        """Let all workers go; run() returns this code when the last one has."""
        if not self._stops:
            self._stops = 1
            self._code = code
        self._queue.clear()
        for slot in self._slots:
            slot.restart_at = None
        for child in list(self._children.values()):
            self._stop(child)

    def _grow(self) -> None:
        if self._stops:
            return
        self._slots.append(Slot())
        self._log.info("SIGTTIN: %d workers from now on", len(self._slots))
        self._fill(self._slots[-1])

    def _shrink(self) -> None:
        if self._stops:
            return
        if len(self._slots) <= 1:
            self._log.warning("SIGTTOU: one worker stays; SIGTERM stops it")
            return

        def worth(slot: Slot) -> tuple[bool, float]:
            child = slot.child
            ready = child is not None and child.state is State.READY
            return ready, -child.spawned_at if child is not None else 0.0

        slot = min(self._slots, key=worth)  # one that does not serve, else the newest
        self._log.info("SIGTTOU: %d workers from now on", len(self._slots) - 1)
        self._give_up(slot)


def supervise(settings: Settings, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `command` as settings.workers worker processes; returns the exit code."""
    try:
        log = logs.configure(settings.log_level, settings.log_config)
        remove_pid_file = write_pid_file(settings.pid_file) if settings.pid_file else None
    except ConfigError as exc:
        sys.stderr.write(f"asgi_worker: {exc}\n")
        return EXIT_USAGE
    try:
        return Supervisor(settings, command, environ, log).run()
    except Exception:
        log.critical("the supervisor failed; its workers stop", exc_info=True)
        return EXIT_FAILURE
    finally:
        if remove_pid_file is not None:
            remove_pid_file()
