# SPDX-License-Identifier: MIT
"""Applications for tests with a real worker process."""

import asyncio
import os
import time

log: list[str] = []


async def _text(send, body: bytes, status: int = 200) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"text/plain")],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    """No lifespan: raises for anything but http, like many small applications."""
    assert scope["type"] == "http"
    path = scope["path"]
    if path == "/sleep":
        await asyncio.sleep(3600)
    elif path == "/block":
        time.sleep(3600)
    elif path == "/kill":
        os.kill(os.getpid(), 9)
    elif path == "/slow":
        await asyncio.sleep(0.2)
    elif path == "/stubborn":
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue
    elif path == "/sse":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"bye"})
        return
    elif path == "/deaf":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.sleep(3600)
    elif path == "/grow":
        log.append("x" * (1 << 27))
    await _text(send, b"hello")


async def with_state(scope, receive, send):
    """Lifespan with state; the shutdown leaves a file behind."""
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["greeting"] = "from startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        if "SHUTDOWN_FILE" in os.environ:
            with open(os.environ["SHUTDOWN_FILE"], "w", encoding="ascii") as file:
                file.write("shut down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await _text(send, scope["state"]["greeting"].encode())


async def fails_at_startup(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})


async def hangs_at_startup(scope, receive, send):
    await receive()
    await asyncio.sleep(3600)


def factory():
    return app


not_callable = 5


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi " + environ["PATH_INFO"].encode()]


class Asgi2:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        assert self.scope["type"] == "http"
        await _text(send, self.scope["asgi"]["version"].encode())
