# SPDX-License-Identifier: MIT
"""Notes when a request begins and when its body is complete, and answers with what it saw."""

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]


def note(text: str) -> None:
    descriptor = os.open(os.environ["SCENARIO_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    name = f"{scope['method']} {scope['raw_path'].decode('latin-1')}"
    note(f"begun {name}")
    body, more = b"", not scope["path"].startswith("/unread")
    while more:
        message = await receive()
        if message["type"] != "http.request":
            note(f"gone {name}")
            return
        body += message["body"]
        more = message["more_body"]
    note(f"complete {name}")
    seen = {
        "method": scope["method"],
        "version": scope["http_version"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
        "scheme": scope["scheme"],
        "client": scope.get("client"),
        "server": scope.get("server"),
        "root_path": scope["root_path"],
        "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in scope["headers"]],
        "tls": scope["extensions"].get("tls"),
        "body": body.decode("latin-1"),
    }
    reply = json.dumps(seen).encode()
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": reply})
