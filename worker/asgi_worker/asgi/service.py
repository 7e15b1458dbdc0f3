# SPDX-License-Identifier: MIT
"""What all requests of a worker share: the application, its state, settings and counters.

Job: be the one object that links and requests both know. It starts nothing and knows no
socket; process.py fills it before the first READY.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..config import ASGI_CONCURRENCY, WSGI_THREADS, CancelPolicy, Interface, Settings
from ..protocol.codec import RequestDecoder, ResponseEncoder

if TYPE_CHECKING:
    from .cycle import Cycle

App = Callable[..., Awaitable[Any]]


async def _no_app(*_: Any) -> None:
    raise RuntimeError("a request came before the application was loaded")


class Service:
    """The application with everything a request needs to run it."""

    __slots__ = (
        "active",
        "app",
        "cancel_policy",
        "decoder",
        "encoder",
        "grace",
        "log",
        "max_concurrency",
        "on_idle",
        "on_limit",
        "overloaded",
        "request_limit",
        "requests",
        "root_path",
        "state",
        "warned",
    )

    def __init__(self, settings: Settings, log: logging.Logger) -> None:
        self.app: App = _no_app
        self.state: dict[str, Any] = {}
        self.log = log
        self.decoder = RequestDecoder()
        self.encoder = ResponseEncoder()
        self.root_path = settings.root_path
        self.grace = settings.disconnect_grace
        self.cancel_policy: CancelPolicy = settings.cancel_on_disconnect
        # Before the import nobody knows whether the application is WSGI; the worker tells the
        # gateway again when it is.
        wsgi = settings.interface is Interface.WSGI
        default = WSGI_THREADS if wsgi else ASGI_CONCURRENCY
        self.max_concurrency = settings.max_concurrency or default
        # Requests whose task did not finish in its first step; also what keeps the tasks alive.
        self.active: set[Cycle] = set()
        self.requests = 0
        self.overloaded = 0
        self.warned: set[str] = set()
        self.on_idle: Callable[[], None] | None = None
        self.request_limit = sys.maxsize  # --max-requests with its jitter
        self.on_limit: Callable[[], None] | None = None

    def warn_once(self, key: str, message: str, *args: object) -> None:
        """Log a warning about the application the first time it earns it."""
        if key not in self.warned:
            self.warned.add(key)
            self.log.warning(message + " (said once)", *args)
