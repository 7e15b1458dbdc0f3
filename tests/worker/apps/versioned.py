# SPDX-License-Identifier: MIT
"""An application whose code is a file that the test rewrites: APP_CODE names it.

The file's text is the answer; "broken" cannot be imported, "exit" ends the process while it
starts, "hang" never becomes ready.
"""

import asyncio
import os
import time

with open(os.environ["APP_CODE"], encoding="ascii") as file:
    CODE = file.read()

if CODE == "broken":
    raise RuntimeError("broken on purpose")
if CODE == "exit":
    os._exit(9)
if CODE == "hang":
    time.sleep(3600)


async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    elif scope["path"] == "/sleep":
        await asyncio.sleep(3600)
    elif scope["path"] == "/block":
        with open(os.environ["APP_CODE"] + ".blocked", "w", encoding="ascii"):
            pass
        time.sleep(3600)
    body = f"{CODE} {os.environ.get('FROM_FILE', '')}".strip().encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
