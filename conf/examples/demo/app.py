# SPDX-License-Identifier: MIT
"""The demo app of `make run`: plain ASGI, standard library only, one function per page."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>gatewayd demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; }
code, pre { background: #8882; padding: .1rem .3rem; border-radius: .3rem; }
</style></head><body>
<h1>gatewayd</h1>
<p>This page came over <b id="protocol">HTTP</b> from worker process <b id="pid">?</b>.</p>
<ul>
<li><a href="/json">/json</a>: what the app sees of your request</li>
<li><a href="/download?bytes=10485760">/download?bytes=10485760</a>: streamed</li>
<li><a href="/events">/events</a>: server-sent events; the last one: <code id="event">-</code></li>
<li>upload: <input type="file" id="file"> <code id="digest"></code></li>
</ul>
<script>
fetch("/json").then(r => r.json()).then(j => {
  document.getElementById("protocol").textContent = "HTTP/" + j.http_version;
  document.getElementById("pid").textContent = j.worker;
});
new EventSource("/events").onmessage = e => document.getElementById("event").textContent = e.data;
document.getElementById("file").onchange = async e => {
  const answer = await fetch("/upload", {method: "POST", body: e.target.files[0]});
  document.getElementById("digest").textContent = JSON.stringify(await answer.json());
};
</script></body></html>
"""


async def respond(send: Send, body: bytes, content_type: str, status: int = 200) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond_json(send: Send, value: object) -> None:
    await respond(send, json.dumps(value, indent=1).encode() + b"\n", "application/json")


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, PAGE.encode(), "text/html; charset=utf-8")


async def show_request(scope: Scope, receive: Receive, send: Send) -> None:
    seen = {
        name: scope.get(name) for name in ("http_version", "method", "scheme", "path", "root_path", "client", "server")
    }
    seen["query"] = scope["query_string"].decode("latin-1")
    seen["headers"] = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in scope["headers"]]
    seen["worker"] = os.getpid()
    await respond_json(send, seen)


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    digest, size = hashlib.sha256(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message["body"])
        size += len(message["body"])
        if not message["more_body"]:
            break
    await respond_json(send, {"bytes": size, "sha256": digest.hexdigest()})


async def download(scope: Scope, receive: Receive, send: Send) -> None:
    query = parse_qs(scope["query_string"].decode("latin-1"))
    left = int(query.get("bytes", ["1048576"])[0])
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % left)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    piece = bytes(range(256)) * 256
    while left > len(piece):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        left -= len(piece)
    await send({"type": "http.response.body", "body": piece[:left]})


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while True:
        line = f"data: {time.strftime('%H:%M:%S')} from worker {os.getpid()}\n\n"
        await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
        await asyncio.sleep(1)


PAGES = {
    "/": page,
    "/json": show_request,
    "/upload": upload,
    "/download": download,
    "/events": events,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    handler = PAGES.get(scope["path"])
    if handler is None:
        await respond(send, b"Not found\n", "text/plain", 404)
    else:
        await handler(scope, receive, send)
