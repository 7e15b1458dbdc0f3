# SPDX-License-Identifier: MIT
"""The lifespan protocol 2.0 (docs/ASGI.md rule 28): startup before READY, shutdown at the end.

Job: run the application once with a lifespan scope in a task of its own, hand it the two
events, and judge what comes back by the mode: in auto an application without lifespan is
served without it; in on it is fatal; off never calls. `state` is what requests copy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ..config import LifespanMode

# How long a task may take to return after it said shutdown.complete, before it is cancelled.
_RETURN_GRACE = 1.0


class LifespanFailed(Exception):
    """The application refused to start; the text and `__cause__` say why. Exit code 3."""


class Lifespan:
    """One run of the lifespan protocol; startup() then shutdown(), each once."""

    def __init__(
        self, app: Callable[..., Awaitable[Any]], mode: LifespanMode, log: logging.Logger
    ) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._received = 0
        self._stop = asyncio.Event()
        self._started = False
        self._start_failure: str | None = None
        self._shut = False
        self._shut_failure: str | None = None
        self._progress = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def supported(self) -> bool:
        """True between a startup.complete and the shutdown."""
        return self._started

    async def startup(self, timeout: float) -> None:
        """Run until startup.complete; raises LifespanFailed."""
        if self._mode is LifespanMode.OFF:
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), name="lifespan")
        await self._wait(timeout)
        if self._started:
            return
        if self._start_failure is not None:
            raise LifespanFailed(f"lifespan.startup.failed: {self._start_failure or 'no message'}")
        if not self._task.done():
            await self._cancel()
            raise LifespanFailed(
                f"lifespan.startup took longer than {timeout:g} s; --startup-timeout allows more"
            )
        error = self._error
        if error is not None and not isinstance(error, Exception):
            raise LifespanFailed(f"the application raised {error!r} at startup") from error
        if self._mode is LifespanMode.ON:
            if error is not None:
                raise LifespanFailed("the application raised at lifespan startup") from error
            raise LifespanFailed(
                "the application returned without lifespan.startup.complete; "
                "--lifespan off serves it without"
            )
        reason = f"{type(error).__name__}: {error}" if error is not None else "it returned at once"
        self._log.info("the application does not support lifespan (%s); going on without", reason)

    async def shutdown(self, timeout: float) -> bool:
        """Run the shutdown event; returns False when the application failed or took too long."""
        task = self._task
        if task is None or not self._started:
            return True
        if task.done():
            return self._error is None
        self._progress.clear()
        self._stop.set()
        await self._wait(timeout)
        if self._shut_failure is not None:
            self._log.error("lifespan.shutdown.failed: %s", self._shut_failure or "no message")
        elif not self._shut and not task.done():
            self._log.error("lifespan.shutdown took longer than %g s; it is cancelled", timeout)
        if not task.done() and self._shut:
            await asyncio.wait([task], timeout=_RETURN_GRACE)
        await self._cancel()
        return self._shut_failure is None and (self._shut or self._error is None)

    async def _wait(self, timeout: float) -> None:
        try:
            await asyncio.wait_for(self._progress.wait(), timeout)
        except TimeoutError:
            return

    async def _cancel(self) -> None:
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_RETURN_GRACE)

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as exc:
            self._error = exc
            if self._started and not isinstance(exc, asyncio.CancelledError):
                self._log.error("the application's lifespan raised", exc_info=exc)
        finally:
            self._progress.set()

    async def _receive(self) -> dict[str, Any]:
        self._received += 1
        if self._received == 1:
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        if self._received == 2:
            return {"type": "lifespan.shutdown"}
        # There is no third event; block until the worker ends.
        never: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        return await never

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in ("lifespan.startup.complete", "lifespan.startup.failed"):
            if self._started or self._start_failure is not None:
                raise RuntimeError(f"{kind} after the startup was already answered")
            if kind == "lifespan.startup.complete":
                self._started = True
            else:
                self._start_failure = str(message.get("message", ""))
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            if not self._stop.is_set() or self._shut or self._shut_failure is not None:
                raise RuntimeError(f"{kind} without a lifespan.shutdown to answer")
            if kind == "lifespan.shutdown.complete":
                self._shut = True
            else:
                self._shut_failure = str(message.get("message", ""))
        else:
            raise ValueError(f"{kind!r} is not a message of the lifespan protocol")
        self._progress.set()
