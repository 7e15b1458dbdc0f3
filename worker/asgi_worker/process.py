# SPDX-License-Identifier: MIT
"""The life of one worker process: import, lifespan, links, graceful stop, exit code.

Job: bring the parts up in order and down again. READY is said only after lifespan.startup is
complete; a stop says GOAWAY, lets requests finish, tells the rest http.disconnect, cancels
them, and runs lifespan.shutdown last. Exit codes: 0 stop, 1 failure, 2 usage, 3 the
application could not be imported or started, 4 its generation is retired.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import platform
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from . import __version__, logs
from .asgi.lifespan import Lifespan, LifespanFailed
from .asgi.service import Service
from .asgi.wsgi import WsgiAdapter
from .config import WSGI_THREADS, ConfigError, Interface, LifespanMode, LoopKind, Settings
from .importer import AppLoadError, load_app
from .io.client import GatewayClient
from .notify import Notifier
from .pidfile import write_pid_file
from .protocol.constants import PROTOCOL_VERSION
from .supervised import Channel, end_by_force

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_APP, EXIT_RETIRED = range(5)

FIRST_DIAL_WAIT = 2.0
# What a supervised worker waits for a gateway before it says that it is ready without one.
REGISTER_WAIT = 5.0
STATS_INTERVAL = 1.0
# What a task may take to end after it was cancelled, before the worker goes on without it.
CANCEL_WAIT = 2.0
# What asynchronous generators and threads may take to end at the very end.
END_WAIT = 2.0


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class StartTimeout(Exception):
    """Import did not end within the start timeout."""


@contextmanager
def _import_deadline(seconds: float) -> Iterator[None]:
    """Raise StartTimeout in the importing code when it takes too long."""

    def expired(_number: int, _frame: Any) -> None:
        raise StartTimeout

    previous = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class AppFailed(Exception):
    """The application could not be imported or started; `detail` is for the gateway."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class Worker:
    """One worker process; main() is its life."""

    def __init__(
        self,
        settings: Settings,
        log: logging.Logger,
        channel: Channel | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._notifier = notifier or Notifier()
        self._channel = channel  # to the supervisor, if there is one
        self._service = Service(settings, log)
        self._lifespan: Lifespan | None = None
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._exit_code = EXIT_OK
        self._started_at = time.monotonic()
        self._recycle = asyncio.Event()  # a limit of this worker's life was reached
        if settings.max_requests is not None:
            jitter = random.randint(0, settings.max_requests_jitter)
            self._service.request_limit = settings.max_requests + jitter
            self._service.on_limit = self._recycle.set
        self._max_age, self._max_rss = settings.max_age, settings.max_rss
        if self._max_age is not None:
            self._max_age += random.uniform(0, settings.max_age_jitter)
        if self._max_rss is not None:
            self._max_rss += random.randint(0, settings.max_rss_jitter)
        self._cleanup: list[Callable[[], None]] = []

    # Start

    async def main(self) -> int:
        """Run until the end; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, signal.Signals(number).name)
        if self._channel is not None:
            self._obey(self._channel, loop)
        client = GatewayClient(self._settings.socket_path, self._hello(), self._service)
        dialler = loop.create_task(client.run())
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(client.first_try.wait(), FIRST_DIAL_WAIT)
            try:
                # else the application need not even be imported
                if not client.ending.done() and not self._stop.is_set():
                    await self._start_app(client)
            except AppFailed as exc:
                self._report(exc)
                if self._channel is not None:
                    self._channel.failed(str(exc))
                client.startup_failed(exc.detail or str(exc))
                return EXIT_APP
            if not self._stop.is_set() and not client.ending.done():
                client.set_ready()
                self._log.info("serving %s", self._settings.app)
                await self._serve(client)
            self._note_ending(client)
            self._notifier.stopping()
            await self._drain(client)
            dialler.cancel()
            client.close()
            await self._shut_down()
            return self._exit_code
        finally:
            dialler.cancel()
            client.close()
            for action in self._cleanup:
                action()

    def _hello(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "proto_min": PROTOCOL_VERSION,
            "proto_max": PROTOCOL_VERSION,
            "app": "",
            "generation": settings.generation,
            "pid": os.getpid(),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "worker_version": f"asgi_worker {__version__}",
            "max_concurrency": self._service.max_concurrency,
            "target": settings.app[:64],
        }

    async def _start_app(self, client: GatewayClient) -> None:
        """Import the application and run lifespan.startup; raises AppFailed."""
        settings = self._settings
        deadline = time.monotonic() + settings.startup_timeout
        try:
            with _import_deadline(settings.startup_timeout):
                app, interface = load_app(settings)
        except AppLoadError as exc:
            raise AppFailed(str(exc), exc.detail) from exc
        except StartTimeout:
            raise AppFailed(
                f"importing {settings.app} took longer than {settings.startup_timeout:g} s; "
                "--startup-timeout allows more",
                traceback.format_exc(),
            ) from None
        mode = settings.lifespan
        if interface is Interface.ASGI2:
            app = asgi2_to_asgi3(app)
        elif interface is Interface.WSGI:
            mode = LifespanMode.OFF
            threads = settings.max_concurrency or WSGI_THREADS
            self._service.max_concurrency = threads
            client.announce_concurrency(threads)
            app = WsgiAdapter(app, threads)
            self._cleanup.append(app.close)
        lifespan = Lifespan(app, mode, self._log)
        remaining = max(0.001, deadline - time.monotonic())
        startup: asyncio.Future[Any] = asyncio.ensure_future(lifespan.startup(remaining))
        stopped: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
        reasons = [startup, stopped, cast(asyncio.Future[Any], client.ending)]
        await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not startup.done():  # a signal during the start, or the generation is retired
            startup.cancel()
            await asyncio.wait([startup])
            return
        try:
            startup.result()
        except LifespanFailed as exc:
            cause = exc.__cause__
            trace = "".join(traceback.format_exception(cause)) if cause is not None else ""
            raise AppFailed(str(exc), trace) from exc
        self._lifespan = lifespan
        self._service.app = app
        self._service.state = lifespan.state
        # What import and startup made stays: the collector need not walk through it again.
        gc.collect()
        gc.freeze()

    def _report(self, exc: AppFailed) -> None:
        self._log.critical("the application could not be started: %s", exc)
        if exc.detail:
            sys.stderr.write(exc.detail)
            sys.stderr.flush()

    # Serve

    async def _serve(self, client: GatewayClient) -> None:
        """Wait for a reason to stop; meanwhile send figures and watch the limits."""
        stopped: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
        recycled: asyncio.Future[Any] = asyncio.ensure_future(self._recycle.wait())
        reasons = {stopped, recycled, cast(asyncio.Future[Any], client.ending)}
        told = asyncio.ensure_future(self._tell_ready(client))
        asked = False  # the supervisor for a replacement
        while True:
            done, _ = await asyncio.wait(
                reasons, timeout=STATS_INTERVAL, return_when=asyncio.FIRST_COMPLETED
            )
            if stopped in done or client.ending in done:
                break
            resident = _resident_bytes()
            reason = "" if asked else self._limit_reached(resident)
            if reason and self._channel is None:
                self._log.info("%s: draining", reason)
                break
            if reason and self._channel is not None:
                self._log.info("%s: serving until a replacement is ready", reason)
                asked = True
                reasons.discard(recycled)
                self._channel.recycle(reason)
            client.send_stats(resident, len(self._service.active), len(asyncio.all_tasks()))
        stopped.cancel()
        recycled.cancel()
        told.cancel()

    async def _tell_ready(self, client: GatewayClient) -> None:
        """Tell the supervisor, or the service manager, once a gateway knows that this one is ready.

        A gateway that is away, or that is full until another worker goes, must not hold up a
        reload for ever: after a while being able to serve is enough.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(client.registered.wait(), REGISTER_WAIT)
        if self._channel is not None:
            self._channel.ready()
            if self._settings.hang_timeout is not None:
                self._every(min(1.0, self._settings.hang_timeout / 4), self._channel.alive)
        else:
            self._notifier.ready()
            self._notifier.serving(True)
            if self._notifier.watchdog:
                self._every(self._notifier.watchdog, self._notifier.alive)

    def _every(self, seconds: float, action: Callable[[], None]) -> None:
        """Call from the event loop, now and again and again: the sign that it turns."""
        action()
        asyncio.get_running_loop().call_later(seconds, self._every, seconds, action)

    def _note_ending(self, client: GatewayClient) -> None:
        """Take over what the gateway said, if it said that it wants no more of this worker."""
        if client.ending.done():
            ending = client.ending.result()
            self._exit_code = EXIT_RETIRED if ending.retired else EXIT_FAILURE
            level = logging.WARNING if ending.retired else logging.CRITICAL
            self._log.log(level, "the gateway ends this worker: %s", ending.reason)
            if self._channel is not None:
                self._channel.failed(f"the gateway ends it: {ending.reason}")

    def _limit_reached(self, resident: int) -> str:
        if self._recycle.is_set():
            return f"{self._service.requests} requests were served (--max-requests)"
        if self._max_age is not None and time.monotonic() - self._started_at >= self._max_age:
            return f"this worker is {self._max_age:g} s old (--max-age)"
        if self._max_rss is not None and resident > self._max_rss:
            return f"resident memory is {resident} bytes (--max-rss)"
        return ""

    def _obey(self, channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        """Follow the supervisor; its end is a stop too, and one that surely comes."""

        def post(action: Callable[..., None], *args: Any) -> None:
            with suppress(RuntimeError):  # the loop has been closed: it is over anyway
                loop.call_soon_threadsafe(action, *args)

        def on_stop(reason: str, gone: bool) -> None:
            if gone:
                end_by_force(self._settings.longest_stop, EXIT_FAILURE)
            post(self._on_stop, reason)

        def on_now() -> None:
            post(self._hurry.set)

        # A terminal that closes tells everybody; only the supervisor knows what to do about it.
        loop.add_signal_handler(
            signal.SIGHUP, self._log.info, "SIGHUP: ignored, it is for the supervisor"
        )
        channel.listen(on_stop, on_now)

    def _on_stop(self, reason: str) -> None:
        if not self._stop.is_set():
            self._log.info("%s: requests in flight finish", reason)
            self._stop.set()

    def _on_signal(self, name: str) -> None:
        if self._channel is not None:
            # Service managers and terminals signal every process of a service, and then the
            # supervisor stops it too: the second word is no reason for haste here.
            self._on_stop(name)
        elif not self._stop.is_set():
            self._log.info("%s: stopping, requests in flight finish", name)
            self._stop.set()
        elif not self._hurry.is_set():
            self._log.warning("%s again: stopping now", name)
            self._hurry.set()

    # Stop

    async def _drain(self, client: GatewayClient) -> None:
        """Let requests finish; at the deadline http.disconnect, then cancellation."""
        settings = self._settings
        client.drain()
        if await self._requests_end(client, settings.graceful_timeout):
            return
        waiting = list(self._service.active)
        if waiting and not self._hurry.is_set():
            self._log.warning(
                "%d requests still run after %g s: they are told to disconnect",
                len(waiting),
                settings.graceful_timeout,
            )
            for cycle in waiting:
                cycle.disconnect()
            if await self._requests_end(client, settings.disconnect_grace):
                return
        for cycle in list(self._service.active):
            cycle.cancel()
        self._hurry.clear()
        if not await self._requests_end(client, CANCEL_WAIT) and self._service.active:
            self._log.error(
                "%d requests do not end; the worker goes without them", len(self._service.active)
            )

    async def _requests_end(self, client: GatewayClient, timeout: float) -> bool:
        """Wait until no request runs and all links are closed; a second signal ends the wait."""
        hurry = asyncio.ensure_future(self._hurry.wait())
        done = asyncio.ensure_future(self._all_done(client))
        await asyncio.wait([hurry, done], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finished = done.done()
        for task in (hurry, done):
            task.cancel()
        return finished

    async def _all_done(self, client: GatewayClient) -> None:
        idle = asyncio.Event()
        self._service.on_idle = idle.set
        while self._service.active:
            idle.clear()
            await idle.wait()
        await client.idle.wait()

    async def _shut_down(self) -> None:
        if self._lifespan is not None:
            timeout = self._settings.shutdown_timeout
            if not await self._lifespan.shutdown(timeout) and self._exit_code == EXIT_OK:
                self._exit_code = EXIT_FAILURE
        self._log.info("stopped after %d requests", self._service.requests)


def asgi2_to_asgi3(app: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an ASGI 2 application, which is called with the scope and then with the rest."""

    async def asgi3(scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope["asgi"] = {**scope["asgi"], "version": "2.0"}
        instance = app(scope)
        await instance(receive, send)

    return asgi3


def _loop_factory(kind: LoopKind) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where it is wanted; raises ConfigError when it is missing."""
    if kind is LoopKind.ASYNCIO:
        return None
    try:
        import uvloop  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        if kind is LoopKind.UVLOOP:
            raise ConfigError(
                "--loop uvloop: uvloop is not installed in this environment; "
                "install it, or use --loop asyncio"
            ) from None
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _end_tasks() -> None:
    """Cancel what tasks the application left behind, and close asynchronous generators."""
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=END_WAIT)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), END_WAIT)


def _run_loop(
    loop: asyncio.AbstractEventLoop,
    settings: Settings,
    log: logging.Logger,
    channel: Channel | None,
    notifier: Notifier | None,
) -> int:
    async def life() -> int:
        return await Worker(settings, log, channel, notifier).main()

    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(life())
    finally:
        loop.run_until_complete(_end_tasks())
        asyncio.set_event_loop(None)
        loop.close()


def _exit_despite_threads(code: int, log: logging.Logger) -> None:
    """End the process when threads of the application would keep it for ever.

    The interpreter joins every thread that is no daemon, and those of executors, before it
    exits; a stop that hangs on a blocking call has to be a stop all the same.
    """
    deadline = time.monotonic() + END_WAIT
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.error("the thread %r does not end; the worker exits without it", thread.name)
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)


def run(
    settings: Settings, channel: Channel | None = None, notifier: Notifier | None = None
) -> int:
    """Run one worker process, supervised if it has a channel; returns the exit code."""
    with suppress(OSError, ValueError, RuntimeError, AttributeError):  # a stderr that is no file
        # SIGABRT, from a supervisor or a service manager that waited too long, shows all stacks.
        faulthandler.enable()
    try:
        log = logs.configure(settings.log_level, settings.log_config)
        factory = _loop_factory(settings.loop) or asyncio.new_event_loop
        # The file of a supervised worker is its supervisor's.
        pid_file = settings.pid_file if channel is None else None
        remove_pid_file = write_pid_file(pid_file) if pid_file else None
    except ConfigError as exc:
        sys.stderr.write(f"asgi_worker: {exc}\n")
        if channel is not None:
            channel.failed(str(exc))
        return EXIT_USAGE
    code = EXIT_FAILURE
    try:
        code = _run_loop(factory(), settings, log, channel, notifier)
    except Exception:
        log.critical("the worker failed", exc_info=True)
    finally:
        if remove_pid_file is not None:
            remove_pid_file()
    _exit_despite_threads(code, log)
    return code
