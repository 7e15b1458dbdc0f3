# SPDX-License-Identifier: MIT
"""What the WebSocket tests share: a link with the feature, and applications made of steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from harness import App, Bench, serve
from peer import Exchange

CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": data}


def binary(data: bytes) -> dict[str, Any]:
    return {"type": "websocket.send", "bytes": data}


def received(data: str | bytes) -> dict[str, Any]:
    """What receive() has to return for a message: both keys, one of them None."""
    if isinstance(data, str):
        return {"type": "websocket.receive", "bytes": None, "text": data}
    return {"type": "websocket.receive", "bytes": data, "text": None}


def disconnected(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send back what comes until the end."""
    assert await receive() == CONNECT
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def opened(bench: Bench, **changes: Any) -> Exchange:
    """Open a WebSocket and wait until it is accepted."""
    exchange = bench.peer.websocket(**changes)
    await bench.until(lambda: exchange.accepted is not None)
    return exchange


def serve_websockets(
    app: App,
    test: Callable[[Bench], Awaitable[Any]],
    *,
    ws_max_message: int = 1 << 24,
    **options: Any,
) -> Any:
    """serve() on a link with the feature."""
    ack = {"features": ["websocket"], "ws_max_message": ws_max_message}
    return serve(app, test, ack=ack, **options)
