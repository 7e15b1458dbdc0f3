# SPDX-License-Identifier: MIT
"""The supervisor of workers (--workers N, --reload): back-off, signals, rolling reload, hangs.

Job: keep N worker processes serving. Each is the same command in a fresh interpreter, so that a
reload loads new code; a channel (supervised.py) tells when it is ready, and its end tells the
worker that the supervisor is gone. A worker is stopped only after its replacement is ready. It
owns the pid file and the processes (children.py); it reaps everything, and so may be process 1 of
a container. It knows neither applications nor the gateway: it imports no asgi/, protocol/ or io/.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from . import logs
from .children import BACKOFF_FIRST, BACKOFF_LAST, Child, Children, Replacing, Slot, State, describe
from .config import ConfigError, Settings
from .notify import Notifier
from .pidfile import write_pid_file
from .supervised import ALIVE, FAILED, NOW, READY, RECYCLE, STOP
from .watch import Watcher

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_APP, EXIT_RETIRED = range(5)

# A worker that served so long was no part of a series of crashes.
STEADY = 10.0
# The longest pause after a worker that could be started: who dies of requests is needed back soon.
BACKOFF_SERVED = 1.0
# So many failed starts in a row, with nobody serving, and the supervisor gives up.
FAILED_STARTS = 5
# What a start may take beyond --startup-timeout: the interpreter, and finding the gateway.
START_SLACK = 20.0
# What a second signal leaves the workers.
NOW_WAIT = 5.0
# What a worker has to write its stacks after SIGABRT, before SIGKILL.
ABORT_WAIT = 3.0
# A supervisor that slept so much too long was stopped, and its workers with it perhaps.
OVERSLEPT = 2.0
SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)


class Supervisor:
    """All workers of one command; run() is its life."""

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: logging.Logger,
        notifier: Notifier | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._slots: list[Slot] = []
        self._queue: list[Replacing] = []
        self._selector = selectors.DefaultSelector()
        self._children = Children(command, environ, self._selector, log)
        self._signals: socket.socket | None = None
        self._notifier = notifier or Notifier()
        self._watcher: Watcher | None = None
        self._stops = 0  # how often it was told to stop
        self._code = EXIT_OK
        self._failed_starts = 0  # in a row
        self._ever_ready = False
        self._announced = False  # to the service manager
        self._reloads = 0
        self._reloading = False
        self._next_sign = 0.0 if self._notifier.watchdog else float("inf")

    # The loop

    def run(self) -> int:
        """Run until the last worker has ended; returns the exit code."""
        settings = self._settings
        self._watch_signals()
        if settings.reload:
            directories = settings.reload_dir or (settings.app_dir,)
            files = (settings.env_file,) if settings.env_file else ()
            self._watcher = Watcher(directories, files)
            names = ", ".join(map(os.path.abspath, directories))
            self._log.info("watching the Python files in %s", names)
        self._log.info("starting %d workers of %s", settings.workers, settings.app)
        self._slots = [Slot() for _ in range(settings.workers)]
        for slot in list(self._slots):
            self._fill(slot)
        while self._children or not self._stops:
            self._turn()
        for number in SIGNALS:  # the interpreter's end must not become a death by a late one
            signal.signal(number, signal.SIG_IGN)
        self._log.info("stopped")
        return self._code

    def _turn(self) -> None:
        patience = self._patience()
        began = time.monotonic()
        for key, _ in self._selector.select(patience):
            if key.data is None:
                self._on_signals()
            else:
                self._hear(key.data)
        now = time.monotonic()
        if patience is not None and now - began > patience + OVERSLEPT:
            for child in self._children:
                child.alive_at = now
        self._on_time(now)
        self._tell_manager(now)

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
                self._reload("SIGHUP")
            elif number == signal.SIGTTIN:
                self._grow()
            elif number == signal.SIGTTOU:
                self._shrink()

    def _patience(self) -> float | None:
        """How long nothing has to be done when nothing comes."""
        never = float("inf")
        times = [child.kill_at for child in self._children]
        times += [self._hung_at(child) for child in self._children]
        times += [slot.restart_at for slot in self._slots if slot.restart_at is not None]
        if all(slot.replacement is None for slot in self._slots):
            times += [entry.not_before for entry in self._queue]
        if self._watcher is not None and not self._stops:
            times.append(self._watcher.next_look)
        first = min([*times, self._next_sign])
        return None if first == never else max(0.0, first - time.monotonic())

    def _on_time(self, now: float) -> None:
        for child in self._children:
            if now >= min(child.kill_at, self._hung_at(child)):
                self._lose_patience(child)
        for slot in list(self._slots):
            if slot.restart_at is not None and now >= slot.restart_at:
                slot.restart_at = None
                self._fill(slot)
        if self._watcher is not None and not self._stops and now >= self._watcher.next_look:
            changed = self._watcher.changes()
            if changed:
                self._on_change(changed)
        self._advance()
        if self._reloading and not self._stops:
            self._finish_reload()

    def _hung_at(self, child: Child) -> float:
        """When a worker whose event loop does not turn is killed."""
        if self._settings.hang_timeout is None or child.state is not State.READY or child.aborted:
            return float("inf")
        return child.alive_at + self._settings.hang_timeout

    def _tell_manager(self, now: float) -> None:
        """Keep the service manager informed."""
        ready = sum(slot.serves for slot in self._slots)
        if not self._announced and ready == len(self._slots) and not self._stops:
            self._announced = True
            self._notifier.ready()
        self._notifier.serving(self._announced and ready > 0 and not self._stops)
        if self._stops:
            text = f"stopping, {len(self._children)} workers left"
        else:
            text = f"{ready} of {len(self._slots)} workers ready"
            text += ", reloading" if self._reloading else ""
        self._notifier.status(text)
        if now >= self._next_sign and self._notifier.watchdog:
            self._next_sign = now + self._notifier.watchdog
            self._notifier.alive()

    # Processes

    def _spawn(self) -> Child | None:
        return self._children.spawn(self._settings.startup_timeout + START_SLACK)

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
        for child, code in self._children.reap():
            self._hear(child)  # what it said last
            self._children.forget(child)
            self._on_exit(child, code)

    def _hear(self, child: Child) -> None:
        for word, text in self._children.hear(child):
            if word == ALIVE:
                child.alive_at = time.monotonic()
            elif word == READY:
                self._on_ready(child)
            elif word == RECYCLE:
                self._on_recycle(child, text)
            elif word == FAILED:
                child.failure = text

    def _stop(self, child: Child) -> None:
        """Let a worker finish what it does and go."""
        if child.state is not State.STOPPING:
            child.state = State.STOPPING
            if not child.aborted:
                child.kill_at = time.monotonic() + self._settings.longest_stop
            self._children.tell(child, STOP)

    def _lose_patience(self, child: Child) -> None:
        """End a worker by force: first in a way that makes it write its stacks."""
        if child.aborted:
            self._log.error("worker %d does not stop: killed", child.pid)
            child.kill_at = float("inf")
            child.signal(signal.SIGKILL)
            return
        if child.state is State.STARTING:
            child.failure = "it did not become ready in time"
            what = "does not become ready"
        elif child.state is State.STOPPING:
            what = "does not stop"
        else:
            child.failure = "its event loop stood still"
            seconds = time.monotonic() - child.alive_at
            what = f"has not turned its event loop for {seconds:.1f} s (--hang-timeout)"
        self._log.error("worker %d %s: killed, its stacks follow", child.pid, what)
        child.aborted = True
        child.kill_at = time.monotonic() + ABORT_WAIT
        child.signal(signal.SIGABRT)

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
        child.ready_at = child.alive_at = time.monotonic()
        if not child.aborted:
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
        if child.ready_at is not None:
            if time.monotonic() - child.ready_at >= STEADY:
                slot.crashes = 0
            self._restart_later(slot, BACKOFF_SERVED)
        elif code == -signal.SIGKILL and not child.aborted:  # by somebody else: no word on the app
            self._restart_later(slot, BACKOFF_SERVED)
        else:
            self._start_failed(slot, code)

    def _on_awaited_exit(self, child: Child, code: int) -> None:
        """Take the end of a worker that was told to go, or of any in a stop."""
        clean = code in (EXIT_OK, EXIT_RETIRED, -signal.SIGTERM, -signal.SIGINT)
        level = logging.INFO if clean else logging.WARNING
        why = f": {child.failure}" if child.failure else ""
        self._log.log(level, "worker %d %s%s", child.pid, describe(code), why)
        if not clean and self._stops and self._code == EXIT_OK:
            self._code = EXIT_FAILURE

    def _restart_later(self, slot: Slot, longest: float = BACKOFF_LAST) -> None:
        pause = slot.next_pause(longest)
        slot.restart_at = time.monotonic() + pause
        self._log.info("a new worker starts in %.1f s", pause)

    def _start_failed(self, slot: Slot, code: int) -> None:
        """Try again, or give up when nobody serves and nobody can be expected to."""
        self._failed_starts += 1
        if self._watcher is not None and code in (EXIT_USAGE, EXIT_APP):
            self._log.error("waiting for the next change of a file")
            return
        if any(other.serves for other in self._slots):
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

    def _reload(self, why: str) -> None:
        """Replace all workers, newest first, one after the other."""
        if self._stops:
            return
        self._log.info("%s: replacing all workers, newest first", why)
        self._reloads += 1
        self._reloading = True
        self._notifier.reloading()
        filled = [(slot.child.spawned_at, slot) for slot in self._slots if slot.child is not None]
        filled.sort(key=lambda pair: pair[0], reverse=True)
        self._queue = [Replacing(slot, "reload", self._reloads) for _, slot in filled]
        self._failed_starts = 0
        for slot in self._slots:
            slot.crashes = 0
            if slot.child is None:
                slot.restart_at = time.monotonic()  # the new code may be what was missing

    def _on_change(self, paths: Sequence[str]) -> None:
        """Reload because files have changed; who still starts may have read some of them before."""
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        names = ", ".join(os.path.relpath(path) for path in paths[:3])
        for slot in self._slots:
            if slot.replacement is not None:
                child, slot.replacement, slot.replacing = slot.replacement, None, None
                self._stop(child)
        self._reload(f"{names}{more} changed")

    def _finish_reload(self) -> None:
        """Notice that a reload has nothing left to do."""
        waiting = [*self._queue, *(slot.replacing for slot in self._slots)]
        starting = (slot.child and slot.child.state is State.STARTING for slot in self._slots)
        if any(entry is not None and entry.reload for entry in waiting) or any(starting):
            return
        self._log.info("the reload is complete")
        self._end_reload()

    def _end_reload(self) -> None:
        self._reloading = False
        if self._announced:
            self._notifier.ready()

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
        slot.replacing = None
        slot.crashes = 0
        assert old is not None
        assert slot.child is not None
        self._log.info("worker %d is ready: worker %d may go", slot.child.pid, old.pid)
        self._stop(old)

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
            self._give_reload_up(self._reloads)
        else:
            self._replace_later(slot)

    def _replace_later(self, slot: Slot) -> None:
        """After a replacement failed: a reload is given up, a recycling is tried again."""
        entry, slot.replacing = slot.replacing, None
        if entry is not None and entry.reload:
            self._give_reload_up(entry.reload)
        else:
            self._queue_recycling(slot, slot.next_pause())

    def _give_reload_up(self, number: int) -> None:
        """Leave a reload; a newer one, asked for meanwhile, goes on."""
        self._queue = [entry for entry in self._queue if not 0 < entry.reload <= number]
        again = "save a file again" if self._watcher is not None else "send SIGHUP again"
        self._log.error(
            "the reload is given up, what served goes on serving; %s when what is said above is "
            "mended",
            again,
        )
        for slot in self._slots:  # a reload that had been begun would have done for these
            self._queue_recycling(slot, BACKOFF_FIRST)
        if not any(entry.reload for entry in self._queue):
            self._end_reload()

    def _queue_recycling(self, slot: Slot, pause: float) -> None:
        """Note that a slot's worker asked for a replacement, if it did and none is coming."""
        reason = slot.child.recycle if slot.child is not None else ""
        if reason and slot.replacement is None and all(e.slot is not slot for e in self._queue):
            self._queue.append(Replacing(slot, reason, 0, time.monotonic() + pause))

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
        for child in self._children:
            self._children.tell(child, NOW)
            child.aborted = True  # who does it a second time wants an end, no stacks
            child.kill_at = min(child.kill_at, now + (NOW_WAIT if self._stops == 2 else 0.0))

    def _stop_all(self, code: int) -> None:
        """Let all workers go; run() returns this code when the last one has."""
        if not self._stops:
            self._stops = 1
            self._code = code
            self._notifier.stopping()
        self._queue.clear()
        for slot in self._slots:
            slot.restart_at = None
        for child in self._children:
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


def supervise(
    settings: Settings, command: Sequence[str], environ: Mapping[str, str], notifier: Notifier
) -> int:
    """Run `command` as settings.workers worker processes; returns the exit code."""
    try:
        log = logs.configure(settings.log_level, settings.log_config)
        remove_pid_file = write_pid_file(settings.pid_file) if settings.pid_file else None
    except ConfigError as exc:
        sys.stderr.write(f"asgi_worker: {exc}\n")
        return EXIT_USAGE
    try:
        return Supervisor(settings, command, environ, log, notifier).run()
    except Exception:
        log.critical("the supervisor failed; its workers stop", exc_info=True)
        return EXIT_FAILURE
    finally:
        if remove_pid_file is not None:
            remove_pid_file()
