# SPDX-License-Identifier: MIT
"""An app that sends files: FILES is the folder, the path says how. Raw ASGI, so that nothing stands in between."""

import asyncio
import os
from pathlib import Path
from typing import Any

from recorder import note

FILES = Path(os.environ["APP_FILES"])


async def start(send: Any, status: int = 200, length: int | None = None, **more: Any) -> None:
    headers = [(b"content-type", b"application/octet-stream")]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def sendfile(send: Any, name: str, **keys: Any) -> None:
    with (FILES / name).open("rb") as file:
        await send({"type": "http.response.zerocopysend", "file": file, **keys})


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    how, _, name = scope["path"].strip("/").partition("/")
    try:
        await answer(scope, send, how, name)
    except BaseException as exc:
        note(f"{how} raised {type(exc).__name__}: {exc}")
        raise
    note(f"{how} returned")


async def answer(scope: Any, send: Any, how: str, name: str) -> None:
    if how == "offered":
        await start(send)
        await send({"type": "http.response.body", "body": " ".join(sorted(scope["extensions"])).encode()})
    elif how == "path":
        await start(send)
        await send({"type": "http.response.pathsend", "path": str(FILES / name)})
    elif how == "status":
        status, _, name = name.partition("/")
        await start(send, int(status))
        await send({"type": "http.response.pathsend", "path": str(FILES / name)})
    elif how == "caught":  # the app sees the error and makes something of it
        await start(send, 200)
        try:
            await send({"type": "http.response.pathsend", "path": str(FILES / name)})
        except OSError as exc:
            await send({"type": "http.response.body", "body": type(exc).__name__.encode()})
    elif how == "parts":  # text, a part of a file, text, the rest of it from where it stands, text
        await start(send)
        await send({"type": "http.response.body", "body": b"<", "more_body": True})
        await sendfile(send, name, offset=3, count=4, more_body=True)
        await send({"type": "http.response.body", "body": b"|", "more_body": True})
        with (FILES / name).open("rb") as file:
            file.read(5)
            await send({"type": "http.response.zerocopysend", "file": file, "count": 2, "more_body": True})
            assert file.tell() == 5
        await send({"type": "http.response.body", "body": b">"})
    elif how == "whole":  # the app's descriptor is closed as soon as send() has returned
        await start(send, 200, (FILES / name).stat().st_size)
        await sendfile(send, name)
    elif how == "more":  # not the end: what comes after it needs the worker
        await start(send)
        await sendfile(send, name, more_body=True)
        await send({"type": "http.response.body", "body": b"end"})
    elif how == "trailers":
        await start(send, trailers=True)
        await sendfile(send, name)
        await send({"type": "http.response.trailers", "headers": [(b"x-after", b"file")]})
    elif how == "short":  # the head promises less than the file has
        await start(send, 200, 3)
        await sendfile(send, name)
    elif how == "impatient":  # gives up waiting, which takes nothing back
        await start(send)
        try:
            async with asyncio.timeout(0.2):
                await send({"type": "http.response.pathsend", "path": str(FILES / name)})
        except TimeoutError:
            note("impatient gave up")
    else:
        raise AssertionError(how)
