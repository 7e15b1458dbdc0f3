# SPDX-License-Identifier: MIT
"""WebSocket applications, by path."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends back what comes, until the client closes."""
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"], "bytes": message["bytes"]})


async def deny(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


async def denial(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-tea", b"pot")]})
    await send({"type": "websocket.http.response.body", "body": b"short and stout"})


async def scope_json(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    keys = ("type", "scheme", "http_version", "path", "subprotocols")
    await send({"type": "websocket.send", "text": json.dumps({key: scope[key] for key in keys})})
    await send({"type": "websocket.close", "code": 4001, "reason": "told"})


async def crash(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    raise RuntimeError("on purpose")


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """64 messages of 64 KiB."""
    await send({"type": "websocket.accept"})
    for number in range(64):
        await send({"type": "websocket.send", "bytes": bytes([number]) * 65536})
    await send({"type": "websocket.close"})


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes nothing for a while, then counts."""
    await send({"type": "websocket.accept"})
    await asyncio.sleep(0.5)
    total = 0
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "how many?":
            await send({"type": "websocket.send", "text": str(total)})
        else:
            total += len(message["bytes"])


PATHS = {
    "/echo": echo,
    "/deny": deny,
    "/denial": denial,
    "/scope": scope_json,
    "/crash": crash,
    "/return": returns,
    "/flood": flood,
    "/slow": slow,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    assert scope["type"] == "websocket", scope["type"]
    assert (await receive())["type"] == "websocket.connect"
    await PATHS[scope["path"]](scope, receive, send)
