# SPDX-License-Identifier: MIT
"""One link over a socketpair in one event loop: the real Link and HttpCycle, a Peer outside.

`serve(app, test)` runs `await test(bench)`; every wait has a deadline that only a broken
worker meets, so that timing decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from asgi_worker.asgi.service import Service
from asgi_worker.config import Settings
from asgi_worker.io.link import Link
from asgi_worker.protocol.events import GoawayReceived
from asgi_worker.protocol.session import Session
from peer import Exchange, Frame, Peer, hello_ack

DEADLINE = 20.0

App = Callable[..., Awaitable[Any]]


class Records(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self, level: int = logging.DEBUG) -> list[str]:
        return [r.getMessage() for r in self.records if r.levelno >= level]


class Bench:
    """The gateway's end of the socketpair."""

    def __init__(self, app: App, *, auto_credit: bool = True, ack: dict[str, Any] | None = None,
                 **settings: Any) -> None:  # fmt: skip
        self.loop = asyncio.get_running_loop()
        self.peer = Peer(auto_credit=auto_credit)
        self.log = Records()
        logger = logging.Logger("worker-test")
        logger.addHandler(self.log)
        self.service = Service(Settings(app="test:app", **settings), logger)
        self.service.app = app
        self.ends: list[tuple[int, str]] = []
        self.goaways: list[GoawayReceived] = []
        self.descriptors: list[int] = []  # that came with FILE frames
        self.page = memoryview(bytearray(4096)).cast("I")
        self._sock, worker = socket.socketpair()
        self._sock.setblocking(False)
        worker.setblocking(False)
        session = Session(self.service.decoder)
        session.send_hello({"features": ["files", "websocket"]})
        session.data_to_send()
        session.receive_data(hello_ack(**(ack or {})))
        session.send_ready()
        session.data_to_send()
        self.session = session
        self.link = Link(self.loop, worker, session, self.service, self.page, self)
        self.link.start([])

    # LinkOwner

    def on_goaway(self, link: Link, event: GoawayReceived) -> None:
        self.goaways.append(event)

    def on_link_end(self, link: Link, code: int, reason: str) -> None:
        self.ends.append((code, reason))

    # The gateway

    async def flush(self) -> None:
        """Write what the peer has queued."""
        data, self.peer.to_send = bytes(self.peer.to_send), bytearray()
        if data:
            await asyncio.wait_for(self.loop.sock_sendall(self._sock, data), DEADLINE)

    async def read(self) -> list[Frame]:
        """Read what is there, at least something."""
        data = b""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._sock, 1 << 18, 8)
            except BlockingIOError:
                await asyncio.wait_for(self._readable(), DEADLINE)
                continue
            self.descriptors += descriptors
            break
        if not data:
            raise EOFError
        frames = self.peer.feed(data)
        await self.flush()
        return frames

    async def _readable(self) -> None:
        future: asyncio.Future[None] = self.loop.create_future()
        self.loop.add_reader(self._sock, lambda: future.done() or future.set_result(None))
        try:
            await future
        finally:
            self.loop.remove_reader(self._sock)

    async def until(self, condition: Callable[[], object]) -> None:
        """Exchange frames until the condition holds."""
        await self.flush()
        while not condition():
            await self.read()

    async def request(self, *args: Any, **kwargs: Any) -> Exchange:
        """Send a request and wait until the worker is done with it."""
        exchange = self.peer.request(*args, **kwargs)
        await self.until(lambda: exchange.done)
        return exchange

    async def turns(self, count: int = 20) -> None:
        """Let the loop turn; whatever is ready has happened then."""
        for _ in range(count):
            await asyncio.sleep(0)

    async def settled(self) -> None:
        """PING, and wait for its PONG: the worker has read everything sent before."""
        await self.flush()
        await self.turns()

    def close(self) -> None:
        self._sock.close()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.link.close("the test is over")


def serve(app: App, test: Callable[[Bench], Awaitable[Any]], **options: Any) -> Any:
    """Run one test against one application."""

    async def main() -> Any:
        bench = Bench(app, **options)
        try:
            return await test(bench)
        finally:
            bench.close()
            for cycle in list(bench.service.active):
                cycle.cancel()
            await bench.turns()

    return asyncio.run(main())


async def wait(event: asyncio.Event) -> None:
    """Wait for an event that must come."""
    await asyncio.wait_for(event.wait(), DEADLINE)
