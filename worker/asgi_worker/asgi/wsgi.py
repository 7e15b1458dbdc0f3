# SPDX-License-Identifier: MIT
"""WSGI applications (PEP 3333) behind the ASGI interface: one thread per request.

Job: present a WSGI application as an ASGI one. The request body is read through wsgi.input as
the application asks for it and the response is sent chunk by chunk, each waiting for credit, so
that backpressure reaches the thread. The worker announces as many slots as there are threads,
so a request that was taken is never queued behind another one.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_GROUPED = 65536  # input is read in pieces of about this size


class BodyReader(io.RawIOBase):
    """wsgi.input: pulls the body from the event loop as the application reads."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        """Say that this is an input."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with at least one byte, 0 at the end of the body."""
        while not self._rest and not self._ended:
            message = self._bridge.receive()
            if message["type"] != "http.request":
                raise ConnectionResetError("the client went away inside the request body")
            self._rest = message.get("body", b"")
            self._ended = not message.get("more_body", False)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class Bridge:
    """One request: its thread calls receive() and send() of the event loop and waits."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, scope: Any, receive: Any, send: Any
    ) -> None:
        self._loop = loop
        self._scope = scope
        self._receive = receive
        self._send = send
        self._status: str | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._started = False

    def receive(self) -> dict[str, Any]:
        """Wait for the next message of the request, from the thread."""
        message: dict[str, Any] = asyncio.run_coroutine_threadsafe(
            self._receive(), self._loop
        ).result()
        return message

    def _put(self, *messages: dict[str, Any]) -> None:
        """Send messages from the thread, all in one visit to the event loop."""
        asyncio.run_coroutine_threadsafe(self._send_all(messages), self._loop).result()

    async def _send_all(self, messages: tuple[dict[str, Any], ...]) -> None:
        for message in messages:
            await self._send(message)

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        if exc_info is not None:
            try:
                if self._started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._status is not None:
            raise RuntimeError("start_response() was called already")
        if len(status) < 4 or not status[:3].isdecimal():
            raise ValueError(f"{status!r} is not a status line")
        self._status = status
        self._headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers]
        return self._write

    def _write(self, data: bytes) -> None:
        if data:
            self._put(
                *self._start(), {"type": "http.response.body", "body": data, "more_body": True}
            )

    def _start(self) -> list[dict[str, Any]]:
        """Return the response's start, once."""
        if self._status is None:
            raise RuntimeError("the application sent a body without start_response()")
        if self._started:
            return []
        self._started = True
        status = int(self._status[:3])
        return [{"type": "http.response.start", "status": status, "headers": self._headers}]

    def run(self, app: WsgiApp) -> None:
        """Run the application in this thread."""
        environ = make_environ(self._scope, io.BufferedReader(BodyReader(self), _GROUPED))
        result = app(environ, self._start_response)
        try:
            last = b""
            if isinstance(result, (list, tuple)):  # nothing comes later: one message is enough
                last = b"".join(result)
            else:
                for data in result:
                    self._write(data)
            self._put(*self._start(), {"type": "http.response.body", "body": last})
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()


def make_environ(scope: dict[str, Any], body: Any) -> Environ:
    """Build the environ of PEP 3333 from an ASGI scope."""
    root_path = scope["root_path"]
    path = scope["path"].removeprefix(root_path)
    server, port = scope["server"]
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root_path.encode().decode("latin-1"),
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "RAW_URI": scope["raw_path"].decode("latin-1"),
        "SERVER_NAME": server or "localhost",
        "SERVER_PORT": str(port or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if "client" in scope:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = scope["client"][0], str(scope["client"][1])
    for name, value in scope["headers"]:
        key = name.decode("latin-1").replace("-", "_").upper()
        if "_" in name.decode("latin-1"):
            continue  # x_y and x-y would be one variable: only the gateway's spelling counts
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


class WsgiAdapter:
    """A WSGI application as an ASGI application."""

    def __init__(self, app: WsgiApp, threads: int) -> None:
        self._app = app
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="wsgi")

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Run one request in a thread; lifespan is none of WSGI's business."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before accept: 403
            return
        if scope["type"] != "http":
            raise ValueError(f"a WSGI application has no {scope['type']}")
        loop = asyncio.get_running_loop()
        bridge = Bridge(loop, scope, receive, send)
        # A thread cannot be cancelled: the task waits for it, and its send() raises OSError.
        future = loop.run_in_executor(self._executor, bridge.run, self._app)
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError:
                if future.cancelled():
                    raise
        future.result()

    def close(self) -> None:
        """Let the threads end; one that hangs does not keep the worker."""
        self._executor.shutdown(wait=False, cancel_futures=True)
