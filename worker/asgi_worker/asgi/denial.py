# SPDX-License-Identifier: MIT
"""The HTTP response with which an application refuses a WebSocket (docs/ASGI.md rule 27).

Job: check the two messages of the websocket.http.response extension and queue the response, as
much of it at a time as credit allows. Its start is held until the first body message, so that a
denial in one piece is one frame. Waiting is the business of websocket.py.
"""

from __future__ import annotations

from typing import Any

from ..protocol.codec import ResponseEncoder, ResponseHead, without_content_length
from ..protocol.constants import DATA_OVERHEAD, FLAG_END_STREAM
from ..protocol.session import Session
from ..protocol.stream import Buffer, Stream

_BODYLESS = (204, 205, 304)


class Denial:
    """A response on the stream of a WebSocket that was not accepted."""

    __slots__ = ("head", "no_body", "remaining", "session", "status", "stream")

    def __init__(self, session: Session, stream: Stream) -> None:
        self.session = session
        self.stream = stream
        self.status = 403
        self.head: ResponseHead | None = None  # held; None once it went out
        self.no_body = False
        self.remaining: int | None = None  # of the declared content-length

    def start(self, message: dict[str, Any], encoder: ResponseEncoder, version: str) -> None:
        """Take websocket.http.response.start; raises TypeError or ValueError."""
        status = message.get("status")
        if not isinstance(status, int) or isinstance(status, bool):
            raise TypeError(f"status must be an int, not {type(status).__name__}")
        if not 200 <= status <= 999:
            raise ValueError(f"status {status} is not a final status")
        if status < 300 and not version.startswith("1"):
            raise ValueError(f"status {status} would accept the WebSocket on HTTP/{version}")
        headers = message.get("headers", ())
        head = encoder.encode(headers)
        self.no_body = status in _BODYLESS
        if self.no_body and status != 304:
            head = without_content_length(head, headers)
        elif not self.no_body:
            self.remaining = head.content_length
        if len(head.payload) > self.session.max_frame:
            raise ValueError(f"the response's header fields take {len(head.payload)} bytes")
        self.status = int(status)
        self.head = head

    def body_of(self, message: dict[str, Any]) -> tuple[bytes, bool]:
        """Return the bytes of websocket.http.response.body and whether they are the last."""
        body = message.get("body", b"")
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(f"body must be bytes, not {type(body).__name__}")
        last = not message.get("more_body", False)
        if self.no_body:
            return b"", last
        body = bytes(body)
        if self.remaining is not None:
            if len(body) > self.remaining:
                raise RuntimeError("the response body is longer than its content-length")
            self.remaining -= len(body)
            if last and self.remaining:
                raise RuntimeError(
                    f"the response body is {self.remaining} bytes shorter than its content-length"
                )
        return body, last

    def write(self, body: Buffer, last: bool) -> Buffer | None:
        """Queue what credit allows; returns what is left, None when nothing is."""
        session, stream = self.session, self.stream
        while True:
            head = self.head
            size = len(body)
            room = session.body_room(stream, 0 if head is None else len(head.payload))
            if not size and not last:
                return None
            free = not size and (head is not None or stream.send_credit >= DATA_OVERHEAD)
            if free or (size and size <= room):
                self._put(body, FLAG_END_STREAM if last else 0)
                return None
            if not room:
                if head is not None:
                    self._put(b"", 0)
                return body
            view = memoryview(body)
            self._put(view[:room], 0)
            body = view[room:]

    def _put(self, body: Buffer, flags: int) -> None:
        head, self.head = self.head, None
        if head is not None:
            self.session.send_response(self.stream, self.status, head.payload, body, flags)
        else:
            self.session.send_data(self.stream, body, flags)
