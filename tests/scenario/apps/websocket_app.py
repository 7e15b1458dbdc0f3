# SPDX-License-Identifier: MIT
"""WebSockets, one path per behaviour: plain ASGI, and the same things said to Starlette below /starlette."""

import asyncio
import hashlib
import json
from typing import Any
from urllib.parse import unquote

from scenario import note
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.exceptions import HTTPException, WebSocketException
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


async def accept(receive: Any, send: Any, **more: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", **more})


def note_end(name: str, message: Any) -> None:
    note(f"{name} {message['code']} {message['reason']}".rstrip())


async def echo(scope: Any, receive: Any, send: Any) -> None:
    offered = scope["subprotocols"]
    await accept(receive, send, subprotocol=offered[-1] if offered else None, headers=[(b"x-app", b"echo")])
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"], "text": message["text"]})
    note_end("echo", message)


async def scope_json(scope: Any, receive: Any, send: Any) -> None:
    await accept(receive, send)

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value

    await send({"type": "websocket.send", "text": json.dumps(plain({**scope, "state": None}))})


async def digest(_scope: Any, receive: Any, send: Any) -> None:
    """Answers a message with its length and digest."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        data = message["bytes"] if message["text"] is None else message["text"].encode()
        await send({"type": "websocket.send", "text": f"{len(data)} {hashlib.sha256(data).hexdigest()}"})


async def flood(scope: Any, receive: Any, send: Any) -> None:
    """Sends until told to stop, and notes how many messages send() has taken; the client may not read."""
    await accept(receive, send)
    count, size = (int(part) for part in scope["query_string"].split(b"x"))
    for number in range(count):
        await send({"type": "websocket.send", "bytes": bytes([number & 255]) * size})
        note(f"flood {number}")


async def sleep(_scope: Any, receive: Any, send: Any) -> None:
    """Only sends, and has nothing to send."""
    await accept(receive, send)
    note("asleep")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        note("cancelled")
        raise


async def listen(_scope: Any, receive: Any, send: Any) -> None:
    await accept(receive, send)
    note("listening")
    while (message := await receive())["type"] == "websocket.receive":
        note(f"heard {message['text']}")
    note_end("listen", message)


async def late(_scope: Any, receive: Any, send: Any) -> None:
    """Accepts after what came early: the gateway has it, since it came with the handshake."""
    await receive()
    await asyncio.sleep(0.05)
    await send({"type": "websocket.accept"})
    for _ in range(2):
        await send({"type": "websocket.send", "text": (await receive())["text"]})


async def close(scope: Any, receive: Any, send: Any) -> None:
    code, _, reason = unquote(scope["query_string"].decode()).partition("-")
    await accept(receive, send)
    await send({"type": "websocket.send", "text": "before it"})
    await send({"type": "websocket.close", "code": int(code), "reason": reason})
    note_end("close", await receive())


async def leave(_scope: Any, receive: Any, send: Any) -> None:
    await accept(receive, send)
    await send({"type": "websocket.send", "text": "bye"})


async def fail(_scope: Any, receive: Any, send: Any) -> None:
    await accept(receive, send)
    await send({"type": "websocket.send", "text": "before it"})
    raise LookupError("own mistake")


async def fail_early(_scope: Any, receive: Any, _send: Any) -> None:
    await receive()
    raise LookupError("own mistake")


async def refuse(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})
    note_end("refuse", await receive())


async def deny(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"www-authenticate", b"Basic"), (b"content-type", b"text/plain")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"who are you?"})
    note_end("deny", await receive())


async def deny_in_parts(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 503})
    for number in range(20):
        body = b"x" * 10_000
        await send({"type": "websocket.http.response.body", "body": body, "more_body": number < 19})


async def wrong(_scope: Any, receive: Any, send: Any) -> None:
    """What send() refuses, one answer for each."""
    await receive()
    told = []
    for message in (
        {"type": "websocket.accept", "subprotocol": "never offered"},
        {"type": "websocket.accept", "headers": [(b"Sec-WebSocket-Accept", b"x")]},
        {"type": "websocket.send", "text": "early"},
        {"type": "websocket.accept"},
        {"type": "websocket.accept"},
        {"type": "websocket.send"},
        {"type": "websocket.close", "code": 1005},
        {"type": "websocket.close", "reason": "x" * 124},
    ):
        try:
            await send(message)
            told.append("taken")
        except Exception as exc:
            told.append(type(exc).__name__)
    await send({"type": "websocket.send", "text": " ".join(told)})


# --- Starlette --------------------------------------------------------------------------------------------------------


async def talk(socket: WebSocket) -> None:
    await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None), headers=[(b"x-app", b"talk")])
    try:
        async for text in socket.iter_text():
            await socket.send_json(
                {"room": socket.path_params["room"], "name": socket.query_params["name"], "text": text}
            )
    finally:
        note("talk is over")


async def told(socket: WebSocket) -> None:
    await socket.accept()
    try:
        await socket.receive_text()
    except WebSocketDisconnect as exc:
        note(f"told {exc.code} {exc.reason}".rstrip())


async def push(socket: WebSocket) -> None:
    """Sends to a client that goes: Starlette makes WebSocketDisconnect of the OSError."""
    await socket.accept()
    try:
        while True:
            await socket.send_text("x" * 1000)
            await asyncio.sleep(0)
    except WebSocketDisconnect as exc:
        note(f"push {exc.code}")
        raise


class Counter(WebSocketEndpoint):
    encoding = "bytes"

    async def on_connect(self, websocket: WebSocket) -> None:
        await websocket.accept()

    async def on_receive(self, websocket: WebSocket, data: bytes) -> None:
        await websocket.send_text(str(len(data)))

    async def on_disconnect(self, _websocket: WebSocket, close_code: int) -> None:
        note(f"counter {close_code}")


async def denied(socket: WebSocket) -> None:
    await socket.send_denial_response(PlainTextResponse("no entry", status_code=418, headers={"x-why": "because"}))


async def raises_http(_socket: WebSocket) -> None:
    raise HTTPException(status_code=402, detail="pay first")


async def raises_close(socket: WebSocket) -> None:
    await socket.accept()
    raise WebSocketException(code=4321, reason="policy")


async def page(_request: Any) -> PlainTextResponse:
    return PlainTextResponse("a page")


starlette = Starlette(
    routes=[
        Route("/starlette/page", page),
        WebSocketRoute("/starlette/talk/{room}", talk),
        WebSocketRoute("/starlette/told", told),
        WebSocketRoute("/starlette/push", push),
        WebSocketRoute("/starlette/counter", Counter),
        WebSocketRoute("/starlette/denied", denied),
        WebSocketRoute("/starlette/raises-http", raises_http),
        WebSocketRoute("/starlette/raises-close", raises_close),
    ]
)

PATHS = {
    "/echo": echo,
    "/scope": scope_json,
    "/digest": digest,
    "/flood": flood,
    "/sleep": sleep,
    "/listen": listen,
    "/late": late,
    "/close": close,
    "/leave": leave,
    "/fail": fail,
    "/fail-early": fail_early,
    "/refuse": refuse,
    "/deny": deny,
    "/deny-in-parts": deny_in_parts,
    "/wrong": wrong,
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        note("lifespan down")
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket" and scope["path"] in PATHS:
        await PATHS[scope["path"]](scope, receive, send)
    else:
        await starlette(scope, receive, send)
