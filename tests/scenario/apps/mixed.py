# SPDX-License-Identifier: MIT
"""The app of the mixed load: all of scenario.py, WebSockets that echo, and memory that grows on request."""

import os
from typing import Any

from scenario import app as http_app
from scenario import note

# What /grow has been asked to keep.
kept: list[bytes] = []


async def websocket(receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"], "text": message["text"]})


async def grow(scope: Any, send: Any) -> None:
    """Keeps as many bytes as the query says, and tells the process."""
    kept.append(os.urandom(4096) * (int(scope["query_string"]) // 4096))
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})


async def numbered(scope: Any, send: Any) -> None:
    """Notes the request's number before anything else: who runs twice is seen."""
    note(f"ran {scope['method']} {scope['query_string'].decode()}")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["query_string"]})


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await websocket(receive, send)
    elif scope["type"] == "http" and scope["path"] == "/grow":
        await grow(scope, send)
    elif scope["type"] == "http" and scope["path"] == "/numbered":
        await numbered(scope, send)
    else:
        await http_app(scope, receive, send)
