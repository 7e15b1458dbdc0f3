# SPDX-License-Identifier: MIT
"""The app of the mixed load as one generation of a deployment: DEPLOY_FAULT says what is wrong with it.

import: cannot be imported; lifespan: its start-up fails; hang: its start-up never ends; crash: it dies of a request;
error: every request raises. Requests for /generation are answered with DEPLOY_NAME.
"""

import asyncio
import os
import signal
from collections.abc import MutableMapping
from typing import Any

from mixed import app as mixed_app
from scenario import Receive, Send, note

FAULT = os.environ.get("DEPLOY_FAULT", "")
NAME = os.environ.get("DEPLOY_NAME", "")

if FAULT == "import":
    raise RuntimeError("the shop's database password is missing")


async def start(receive: Receive, send: Send) -> None:
    await receive()
    if FAULT == "lifespan":
        await send({"type": "lifespan.startup.failed", "message": "the shop's tables are not migrated"})
        return
    if FAULT == "hang":
        await asyncio.Event().wait()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await start(receive, send)
        return
    if FAULT == "crash":
        note(f"crash {os.getpid()} {scope['path']}")
        os.kill(os.getpid(), signal.SIGKILL)
    if FAULT == "error":
        raise RuntimeError("the shop is closed")
    if scope["type"] == "http" and scope["path"] == "/generation":
        body = f"{NAME} {os.getpid()}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        return
    await mixed_app(scope, receive, send)
