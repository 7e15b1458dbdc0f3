# SPDX-License-Identifier: MIT
"""The app of the scenarios: one path per behaviour. What it sees goes to the file named by SCENARIO_LOG."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def note(text: str) -> None:
    """One line for the test to read, written at once (the process may be killed next)."""
    path = os.environ.get("SCENARIO_LOG")
    if path:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{text}\n".encode())
        os.close(descriptor)


class Request:
    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send):
        self.scope, self.receive, self.send = scope, receive, send
        self.query = {
            k: v[0] for k, v in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).items()
        }

    def number(self, name: str, default: int) -> int:
        return int(self.query.get(name, default))

    async def body(self) -> bytes:
        data = b""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                note("disconnect in body")
                raise ConnectionError("client left")
            data += message["body"]
            if not message["more_body"]:
                return data

    async def start(self, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None, **extra: Any) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers or [], **extra})

    async def write(self, body: bytes, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def reply(self, body: bytes, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        fields = [(b"content-length", b"%d" % len(body)), *(headers or [])]
        await self.start(status, fields)
        await self.write(body, False)


async def hello(request: Request) -> None:
    await request.reply(b"hello\n", headers=[(b"content-type", b"text/plain")])


async def scope_json(request: Request) -> None:
    scope = dict(request.scope)
    scope.pop("state", None)

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return value

    await request.reply(json.dumps(plain(scope)).encode())


async def pid(request: Request) -> None:
    await request.reply(b"%d" % os.getpid())


async def echo(request: Request) -> None:
    await request.reply(await request.body())


async def echo_stream(request: Request) -> None:
    """Sends each piece back as it comes: request and response at the same time."""
    await request.start()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            note("disconnect")
            return
        more = message["more_body"]
        await request.write(message["body"], more)


async def digest(request: Request) -> None:
    sha, size = hashlib.sha256(), 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            note("disconnect")
            return
        sha.update(message["body"])
        size += len(message["body"])
        if not message["more_body"]:
            break
    await request.reply(json.dumps({"bytes": size, "sha256": sha.hexdigest()}).encode())


async def download(request: Request) -> None:
    """bytes=N [chunked=1]: a pattern that a test can compute too."""
    left = request.number("bytes", 1 << 20)
    headers = [] if request.query.get("chunked") else [(b"content-length", b"%d" % left)]
    await request.start(headers=headers)
    piece = bytes(range(256)) * 256
    while left > len(piece):
        await request.write(piece)
        left -= len(piece)
    await request.write(piece[:left], False)


async def endless(request: Request) -> None:
    """Writes for ever and notes how much send() has taken."""
    await request.start()
    total = 0
    try:
        while True:
            await request.write(b"x" * 16384)
            total += 16384
            note(f"taken {total}")
    except OSError:
        note("send raised OSError")
        raise


async def drip(request: Request) -> None:
    """count=N pieces with delay=ms between them."""
    await request.start(headers=[(b"content-type", b"text/event-stream")])
    for i in range(request.number("count", 3)):
        await request.write(b"data: %d\n\n" % i)
        await asyncio.sleep(request.number("delay", 10) / 1000)
    await request.write(b"", False)


async def sleep(request: Request) -> None:
    """Notes its start, waits for ms, answers."""
    note(f"start {request.scope['method']} {request.query.get('id', '')}")
    await asyncio.sleep(request.number("ms", 100) / 1000)
    note(f"end {request.query.get('id', '')}")
    await request.reply(b"slept\n")


async def disconnect(request: Request) -> None:
    """Reads the body, then waits for http.disconnect, notes it and tries to answer."""
    await request.body()
    note("waiting")
    message = await request.receive()
    note(f"got {message['type']} {time.monotonic()}")
    try:
        await request.reply(b"after disconnect\n")
        note("send worked")
    except OSError as error:
        note(f"send raised {type(error).__name__}")
        raise


async def early(request: Request) -> None:
    """Answers without reading the body."""
    await request.reply(b"early\n", request.number("status", 200))


async def crash(request: Request) -> None:
    raise ValueError("the app's own mistake")


async def crash_late(request: Request) -> None:
    await request.start(headers=[(b"content-length", b"100")])
    await request.write(b"half")
    raise ValueError("too late")


async def crash_later(request: Request) -> None:
    """More than a window goes out first: some of it is with the client when the mistake happens."""
    await request.start(headers=[(b"content-length", b"400000")])
    await request.write(b"half" * 50000)
    raise ValueError("too late")


async def nothing(request: Request) -> None:
    """Returns without a response."""


async def die(request: Request) -> None:
    """when=before|head|body: the process ends itself as kill -9 would."""
    note(f"start {request.scope['method']} {request.query.get('id', '')}")
    when = request.query.get("when", "before")
    if when in ("head", "body"):
        await request.start()
    if when == "body":
        await request.write(b"x" * 1000)
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), 9)


async def batch(request: Request) -> None:
    """Notes that it has begun; with kill=1 the process ends at once, as kill -9 would end it."""
    note(f"begun {os.getpid()} {request.query['id']}")
    if request.query.get("kill"):
        os.kill(os.getpid(), 9)
    await asyncio.sleep(request.number("ms", 10) / 1000)
    await request.reply(request.query["id"].encode())


async def kills_each(request: Request) -> None:
    """Whatever process serves this ends."""
    os.kill(os.getpid(), 9)


async def raw(request: Request) -> None:
    """A response as told by the JSON in the query: status, headers [[name, value]], body, more."""
    told = json.loads(request.query["r"])
    headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in told.get("headers", [])]
    await request.start(told.get("status", 200), headers, **told.get("start", {}))
    for piece in told.get("body", [""])[:-1]:
        await request.write(piece.encode("latin-1"))
    await request.write(told.get("body", [""])[-1].encode("latin-1"), False)


async def hints(request: Request) -> None:
    await request.send(
        {"type": "http.response.informational", "status": 103, "headers": [(b"link", b"</a.css>; rel=preload")]}
    )
    await request.reply(b"hinted\n")


async def trailers(request: Request) -> None:
    await request.start(headers=[(b"trailer", b"x-sum")], trailers=True)
    await request.write(b"body", False)
    await request.send({"type": "http.response.trailers", "headers": [(b"x-sum", b"42")]})


async def background(request: Request) -> None:
    """Works on after the response."""
    await request.reply(b"done\n")
    await asyncio.sleep(request.number("ms", 200) / 1000)
    note("background over")


PATHS = {
    "/": hello,
    "/scope": scope_json,
    "/pid": pid,
    "/echo": echo,
    "/echo-stream": echo_stream,
    "/digest": digest,
    "/download": download,
    "/endless": endless,
    "/drip": drip,
    "/sleep": sleep,
    "/disconnect": disconnect,
    "/early": early,
    "/crash": crash,
    "/crash-late": crash_late,
    "/crash-later": crash_later,
    "/nothing": nothing,
    "/die": die,
    "/batch": batch,
    "/poison": kills_each,
    "/raw": raw,
    "/hints": hints,
    "/trailers": trailers,
    "/background": background,
}


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    request = Request(scope, receive, send)
    handler = PATHS.get(scope["path"])
    if handler is None and scope["path"].startswith("/scope/"):
        handler = scope_json
    if handler is None:
        await request.reply(b"no such path\n", 404)
    else:
        await handler(request)


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        note(message["type"])
        if message["type"] == "lifespan.startup":
            await asyncio.sleep(float(os.environ.get("SCENARIO_STARTUP_SLEEP", "0")))
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
