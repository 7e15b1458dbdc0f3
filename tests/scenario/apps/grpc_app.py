# SPDX-License-Identifier: MIT
"""What a gRPC service is on the wire, as plain ASGI: messages behind five bytes, the status in trailers."""

import struct
from collections.abc import AsyncIterator
from typing import Any


async def messages(receive: Any) -> AsyncIterator[bytes]:
    data, more = b"", True
    while more or len(data) >= 5:
        while more and (len(data) < 5 or len(data) < 5 + struct.unpack(">I", data[1:5])[0]):
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            data, more = data + event["body"], event["more_body"]
        if len(data) < 5:
            return
        (length,) = struct.unpack(">I", data[1:5])
        yield data[5 : 5 + length]
        data = data[5 + length :]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("only http")
    method = scope["path"].rsplit("/", 1)[1]
    headers = [(b"content-type", b"application/grpc"), (b"x-version", scope["http_version"].encode())]
    status = b"0"

    async def message(payload: bytes) -> None:
        body = struct.pack(">BI", 0, len(payload)) + payload
        await send({"type": "http.response.body", "body": body, "more_body": True})

    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    if method == "Fail":
        status = b"5"
    elif method == "Collect":
        await message(b"".join([part async for part in messages(receive)]))
    else:
        async for part in messages(receive):
            for number in range(int(part) if method == "Count" else 1):
                await message(b"%d" % number if method == "Count" else part)
    await send({"type": "http.response.body", "body": b""})
    trailers = [(b"grpc-status", status), (b"grpc-message", b"told to" if status != b"0" else b"")]
    await send({"type": "http.response.trailers", "headers": trailers})
