# SPDX-License-Identifier: MIT
"""What a request and a WebSocket have in common: a task that runs the application for one stream.

Job: run the application, judge how it came back, cancel it. What it may send and is told is the
business of http.py and websocket.py.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..io.link import Link
    from ..protocol.session import Session
    from .service import Service


class Cycle:
    """The life of one stream. Subclasses set all attributes: one more call per request costs."""

    __slots__ = ("cancelled", "gone", "link", "scope", "service", "session", "task", "timer")

    link: Link
    service: Service
    session: Session
    scope: dict[str, Any]
    stream: Any
    task: asyncio.Task[None] | None
    timer: asyncio.TimerHandle | None  # of a cancellation after the grace
    cancelled: bool
    gone: bool  # the other side has ended it

    async def run(self) -> None:
        """Run the application; the body of its task."""
        self.link.words[0] = self.stream.id  # SPEC R106: nothing of the application ran before
        try:
            result = await self.service.app(self.scope, self.receive, self.send)
        except GeneratorExit:
            raise
        except BaseException as exc:
            self._failed(exc)
        else:
            if result is not None:
                self.service.warn_once(
                    "result", "the application returned %r; ASGI applications return None", result
                )
            self._returned()
        if self.task is not None:
            self._release()

    @abstractmethod
    async def receive(self) -> dict[str, Any]:
        """Give the application its next event."""

    @abstractmethod
    async def send(self, message: dict[str, Any]) -> None:
        """Take a message of the application."""

    @abstractmethod
    def disconnect(self) -> None:
        """Tell the application at the deadline of a drain."""

    @abstractmethod
    def _returned(self) -> None: ...

    @abstractmethod
    def _failed(self, exc: BaseException) -> None: ...

    def cancel(self) -> None:
        """Cancel the task now."""
        if self.task is not None and not self.task.done():
            self.cancelled = True
            self.task.cancel()

    def _release(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        active = self.service.active
        active.discard(self)
        if not active and self.service.on_idle is not None:
            self.service.on_idle()
