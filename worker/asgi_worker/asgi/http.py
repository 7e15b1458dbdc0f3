# SPDX-License-Identifier: MIT
"""One HTTP request: the application's receive() and send(), and what the link tells it.

Job: docs/ASGI.md rules 8 to 21 for one stream. It owns the buffered request body (bounded by
the credit that was granted), the order of the response's messages and the application's task.
It must not know sockets: it queues frames in the session and tells its link about it.

What goes out is held back where that merges frames: a start until its first body message, and
the end of the response until the application has returned, so that a common exchange is one
frame. settle() sends what is still held when the link writes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..config import CancelPolicy
from ..protocol.codec import (
    RequestHead,
    ResponseHead,
    check_headers,
    encode_field_array,
    without_content_length,
)
from ..protocol.constants import (
    DATA_OVERHEAD,
    ERROR_APP_EXCEPTION,
    ERROR_APP_INCOMPLETE,
    ERROR_BODY_ABORTED,
    ERROR_CANCEL,
    ERROR_CLIENT_GONE,
    ERROR_INTERNAL,
    FLAG_DONE,
    FLAG_END_STREAM,
    MAX_INFORMATIONAL,
)
from ..protocol.stream import SLICE, Buffer, Stream
from .cycle import Cycle
from .errors import ClientDisconnected, is_disconnect
from .files import Descriptor, answer_error, send_part, send_path
from .scope import http_scope, request_extensions
from .waiting import wait, wake

if TYPE_CHECKING:
    from ..io.link import Link

# Phases of the response, in order.
START, BODY, TRAILERS, COMPLETE = range(4)

_BODYLESS = (204, 205, 304)


class HttpCycle(Cycle):
    """One request and its response."""

    body_begun: bool  # some of it went out
    no_body: bool
    status: int

    __slots__ = (
        "accepts_trailers",
        "body_aborted",
        "body_begun",
        "body_ended",
        "chunk_cost",
        "chunks",
        "credit_waiters",
        "disconnected",
        "file_error",
        "file_refused",
        "half_closed",
        "head",
        "hints",
        "moved",
        "no_body",
        "phase",
        "receive_waiters",
        "remaining",
        "request_read",
        "status",
        "stream",
        "tail",
        "trailer_fields",
        "trailers",
    )

    def __init__(
        self, link: Link, stream: Stream, head: RequestHead, body: bytes, ended: bool
    ) -> None:
        service = link.service
        self.link = link
        self.service = service
        self.session = link.session
        self.stream = stream
        self.task = None
        # the request
        self.chunks = [body] if body else None
        self.chunk_cost = DATA_OVERHEAD + len(body) if body else 0
        self.body_ended = ended
        self.body_aborted = False
        self.request_read = False  # the application was given more_body False
        self.disconnected = False  # receive() says so
        self.gone = False  # send() says so as well
        self.half_closed = False  # the client has closed its sending side
        self.moved = False  # a body message came since the last look at a half-closed client
        self.receive_waiters: list[asyncio.Future[None]] | None = None
        # the response
        self.phase = START
        self.status = 0
        self.head: ResponseHead | None = None  # held; None once it went out
        self.tail: Buffer | None = None  # the held end of the body
        self.no_body = head[1] == "HEAD"
        self.body_begun = False
        self.file_error: OSError | None = None  # raised for a pathsend
        self.file_refused = False
        self.remaining: int | None = None  # of the declared content-length
        self.credit_waiters: list[asyncio.Future[None]] | None = None
        self.cancelled = False
        self.timer = None
        self.trailers = False
        offered = head[12]
        tls = head[11]
        if offered is None and tls is None:
            self.hints = self.accepts_trailers = False
            extensions: dict[str, Any] = link.extensions.copy()
        else:
            extensions = request_extensions(offered, link.extensions)
            self.hints = "http.response.early_hint" in extensions
            self.accepts_trailers = "http.response.trailers" in extensions
            if tls is not None:
                extensions["tls"] = link.tls_extension(tls)
        self.scope = http_scope(head, service.state, service.root_path, extensions)

    # The application's side

    async def receive(self) -> dict[str, Any]:
        """Return the body, then block until the client is gone or the response complete."""
        while True:
            if self.chunks:
                return self._take_body()
            if self.body_ended and not self.request_read and not self.body_aborted:
                self.request_read = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self.disconnected or self.phase == COMPLETE:
                return {"type": "http.disconnect"}
            if self.stream.expect and self.session.open_window(self.stream):
                self.link.wrote()
            if self.receive_waiters is None:
                self.receive_waiters = []
            # The future only wakes: what it announces stays in self.chunks, so that a cancelled
            # receive() loses nothing.
            await wait(self.link.loop, self.receive_waiters)

    def _take_body(self) -> dict[str, Any]:
        chunks = self.chunks
        assert chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self.chunks = None
        more = not self.body_ended or self.body_aborted
        self.request_read = not more
        cost = self.chunk_cost
        self.chunk_cost = 0
        if more and self.session.consumed(self.stream, cost):
            self.link.wrote()
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message of the response (rules 13 to 19)."""
        try:
            kind = message["type"]
        except TypeError:
            raise TypeError(f"a message is a dict, not a {type(message).__name__}") from None
        except KeyError:
            raise ValueError("the message has no 'type'") from None
        if kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.body":
            body = message.get("body", b"")
            if type(body) is not bytes:
                if not isinstance(body, (bytes, bytearray, memoryview)):
                    raise TypeError(f"body must be bytes, not {type(body).__name__}")
                body = bytes(body)
            more = message.get("more_body", False)
            if self.phase != BODY or self.gone:
                self._refuse_body(kind)
            if self.stream.file_pending:
                await self._file_over()
                self.expect_body(kind)
            if self.no_body:
                if body and self.status in _BODYLESS:
                    self._warn_body()
                body = b""
            elif self.remaining is not None:
                self._police(len(body), more)
            if not more:
                if self.trailers:
                    self.phase = TRAILERS
                else:
                    self._complete()
                    if self._hold(body):
                        return
            await self._write(body, not more and not self.trailers)
        elif kind in ("http.response.early_hint", "http.response.informational"):
            self._informational(kind, message)
        elif kind == "http.response.trailers":
            await self._trailers(message)
        elif kind == "http.response.pathsend" and self.link.extensions:
            await send_path(self, message)
        elif kind == "http.response.zerocopysend" and self.link.extensions:
            await send_part(self, message)
        else:
            raise ValueError(f"{kind!r} is not a message of an HTTP response")

    def _start(self, message: dict[str, Any]) -> None:
        status = message.get("status")
        if type(status) is not int:
            if not isinstance(status, int) or isinstance(status, bool):
                raise TypeError(f"status must be an int, not {type(status).__name__}")
            status = int(status)
        if not 200 <= status <= 999:
            raise ValueError(
                f"status {status} is not a final status; http.response.early_hint sends hints"
            )
        if self.phase != START:
            raise RuntimeError("http.response.start was sent already")
        if self.gone:
            self._arm_cancel()
            raise ClientDisconnected
        headers = message.get("headers", ())
        head = self.service.encoder.encode(headers)
        if status in _BODYLESS:
            self.no_body = True
            if status != 304:
                head = without_content_length(head, headers)
        elif not self.no_body:
            self.remaining = head.content_length
        if len(head.payload) > self.session.max_frame:
            raise ValueError(f"the response's header fields take {len(head.payload)} bytes")
        if not self.no_body and (message.get("trailers", False) or head.announces_trailers):
            self._want_trailers(bool(message.get("trailers", False)))
        self.status = status
        self.head = head
        self.phase = BODY
        if self.half_closed:
            self._watch_silence()
        if self.task is not None:
            self.link.hold(self)

    def _want_trailers(self, explicit: bool) -> None:
        # A `trailer` field alone is an intent too (Gunicorn's documented applications do that),
        # but only where it can come true: else the response would wait for nothing.
        self.trailers = explicit or self.accepts_trailers
        self.trailer_fields: list[tuple[bytes, bytes]] = []

    def _refuse_body(self, kind: str) -> None:
        """Say why a body or trailers message cannot be taken now."""
        if self.phase == START:
            raise RuntimeError(f"{kind} before http.response.start")
        if self.phase == COMPLETE:
            if self.gone:
                raise ClientDisconnected
            raise RuntimeError(f"{kind} after the response was complete")
        if self.gone:
            raise ClientDisconnected
        raise RuntimeError(f"{kind} where http.response.trailers was expected")

    def _police(self, length: int, more: bool) -> None:
        """Hold the body against the declared content-length (rule 15)."""
        assert self.remaining is not None
        if length > self.remaining:
            raise RuntimeError("the response body is longer than its content-length")
        self.remaining -= length
        if not more and self.remaining:
            # Said here, because the application is still on the stack and can be looked at; the
            # stream is aborted when it returns or goes on.
            self._abort(ERROR_APP_INCOMPLETE)
            raise RuntimeError(
                f"the response body is {self.remaining} bytes shorter than its content-length"
            )

    def _abort(self, code: int) -> None:
        self.phase = COMPLETE
        self.head = self.tail = None
        self.session.send_reset(self.stream, code, done=False)
        self.link.wrote()
        self._wake_receivers()

    def _warn_body(self) -> None:
        self.service.warn_once(
            f"body-{self.status}",
            "the application sent a body with status %d, which has none; it was dropped",
            self.status,
        )

    def _complete(self) -> None:
        self.phase = COMPLETE
        if self.receive_waiters:
            self._wake_receivers()

    def _hold(self, body: Buffer) -> bool:
        """Keep the end of the response for settle() or for the application's return."""
        head = self.head
        if body or head is None:  # a RESPONSE without body is free
            size = len(body)
            if self.stream.send_credit < DATA_OVERHEAD + size or size > SLICE:
                return False
            if head is not None and len(head.payload) + size > self.session.max_frame:
                return False
        self.tail = body
        if self.task is not None:
            self.link.hold(self)
        return True

    async def _write(self, body: Buffer, end: bool) -> None:
        """Queue body bytes as credit allows, waiting for more of it when there is none."""
        session, stream = self.session, self.stream
        self.moved = True
        while True:
            if end and self._hold(body):
                return
            size = len(body)
            if not size and not end:
                return
            head = self.head
            room = session.body_room(stream, 0 if head is None else len(head.payload))
            if size and room:
                self.body_begun = True
                view = memoryview(body) if size > room else body
                piece, body = view[:room], view[room:]
                if head is not None:
                    self.head = None
                    session.send_response(stream, self.status, head.payload, piece, 0)
                else:
                    session.send_data(stream, piece, 0)
                self.link.wrote()
                continue
            if head is not None:
                self._send_head(head)
            await self._wait_credit()

    # Files (files.py)

    def expect_body(self, kind: str) -> None:
        """Raise unless a part of the body may come now."""
        if self.phase != BODY or self.gone:
            self._refuse_body(kind)

    def begin_file(self, count: int, more: bool) -> bool:
        """Count the bytes of a file into the response; True when they are the last."""
        if self.remaining is not None:
            self._police(count, more)
        self.body_begun = self.moved = True
        if more:
            return False
        if self.trailers:
            self.phase = TRAILERS
            return False
        self._complete()
        return True

    async def pass_file(self, file: Descriptor, offset: int, count: int, end: bool) -> bool:
        """Let the gateway send it; False when it cannot and no byte was taken (SPEC R110)."""
        if self.stream.file_pending:
            await self._file_over()
        if self.head is not None:
            self._send_head(self.head)
        self.file_refused = False
        flags = FLAG_END_STREAM if end else 0
        self.session.send_file(self.stream, file, offset, count, flags)
        self.link.wrote()
        await self._file_over()
        return not self.file_refused

    async def _file_over(self) -> None:
        while self.stream.file_pending:
            await self._wait_credit()

    async def send_bytes(self, data: bytes, end: bool) -> None:
        """Send a piece of a file that was read here."""
        await self._write(data, end)

    def abort_file(self) -> None:
        """Cut the response: the file does not hold what was promised."""
        self._abort(ERROR_INTERNAL)

    def _send_head(self, head: ResponseHead) -> None:
        self.head = None
        self.session.send_response(self.stream, self.status, head.payload, b"", 0)
        self.link.wrote()

    async def _wait_credit(self) -> None:
        if self.gone:
            raise ClientDisconnected
        if self.credit_waiters is None:
            self.credit_waiters = []
        await wait(self.link.loop, self.credit_waiters)
        if self.gone:
            raise ClientDisconnected

    def _informational(self, kind: str, message: dict[str, Any]) -> None:
        if kind == "http.response.early_hint":
            status = 103
            links = message.get("links", ())
            if isinstance(links, (str, bytes)):
                raise TypeError("links must be an iterable of bytes")
            fields = check_headers([(b"link", link) for link in links])
        else:
            status = message.get("status", 103)
            fields = check_headers(message.get("headers", ()))
            if not isinstance(status, int):
                raise TypeError(f"status must be an int, not {type(status).__name__}")
            if not 102 <= status <= 199:
                raise ValueError(f"status {status} is no informational status that can be sent")
        if self.phase == START or (self.phase == BODY and self.head is not None):
            if self.gone:
                raise ClientDisconnected
            if self.hints and self.stream.informational < MAX_INFORMATIONAL:
                self.stream.informational += 1
                self.session.send_informational(self.stream, status, encode_field_array(fields))
                self.link.wrote()

    async def _trailers(self, message: dict[str, Any]) -> None:
        fields = check_headers(message.get("headers", ()))
        if self.phase == COMPLETE:
            return  # late trailers are ignored (rule 17)
        if self.phase != TRAILERS or self.gone:
            self._refuse_body("http.response.trailers")
        if self.stream.file_pending:
            await self._file_over()
        self.trailer_fields += fields
        if message.get("more_trailers", False):
            return
        self._complete()
        await self._end_with_trailers(False)

    async def _end_with_trailers(self, done: bool) -> None:
        fields, self.trailer_fields = self.trailer_fields, []
        if not fields or not self.accepts_trailers:
            await self._write(b"", True)
            return
        if self.head is not None:
            self._send_head(self.head)
        flags = FLAG_DONE if done else 0
        self.session.send_trailers(self.stream, encode_field_array(fields), flags)
        self.link.wrote()

    # The end of the application

    def settle(self) -> None:
        """Queue what is held: the link writes now and the application goes on."""
        if self.gone:
            return
        if self.tail is not None:
            self._send_tail(FLAG_END_STREAM)
        elif self.head is not None:
            head, self.head = self.head, None
            self.session.send_response(self.stream, self.status, head.payload, b"", 0)

    def _send_tail(self, flags: int) -> None:
        tail, self.tail = self.tail, None
        assert tail is not None
        head = self.head
        if head is not None:
            self.head = None
            self.session.send_response(self.stream, self.status, head.payload, tail, flags)
        else:
            self.session.send_data(self.stream, tail, flags)

    def _returned(self) -> None:
        stream = self.stream
        if self.phase == TRAILERS and stream.send_credit >= DATA_OVERHEAD:
            self.tail = b""  # trailers were announced and none came: the body is complete
        if self.tail is not None and not self.gone:
            self._send_tail(FLAG_END_STREAM | FLAG_DONE)
        elif self.gone or stream.send_ended:
            self.session.send_done(stream)
        else:
            what = (
                "without a response" if self.phase == START else "before its response was complete"
            )
            self.service.log.error("the application returned %s: %s", what, self._name())
            self.head = None  # what is held must not follow the RESET
            self.session.send_reset(stream, ERROR_APP_INCOMPLETE, done=True)
        self.link.wrote()

    def _failed(self, exc: BaseException) -> None:
        code = ERROR_APP_EXCEPTION
        if self.cancelled and isinstance(exc, asyncio.CancelledError):
            code = ERROR_CANCEL
        elif self.gone and is_disconnect(exc):
            self.service.log.debug("the client of %s is gone", self._name())
        else:
            self.service.log.error("exception in the application: %s", self._name(), exc_info=exc)
        if self.file_error is exc and self.head is not None and not self.gone:
            answer_error(self, self.file_error)
        if self.tail is not None and not self.gone:
            # The response was complete before the exception: the client gets it.
            self._send_tail(FLAG_END_STREAM | FLAG_DONE)
        else:
            self.head = None
            self.session.send_reset(self.stream, code, done=True)
        self.link.wrote()

    def _name(self) -> str:
        return f"{self.scope.get('method')} {self.scope.get('path')}"

    # The link's side

    def on_data(self, data: bytes, ended: bool) -> None:
        """Take a piece of the request body."""
        self.body_ended = ended
        if data:
            if self.chunks is None:
                self.chunks = []
            self.chunks.append(data)
            self.chunk_cost += DATA_OVERHEAD + len(data)
        self._wake_receivers()

    def on_credit(self) -> None:
        """Wake the send() that waits for credit."""
        wake(self.credit_waiters)

    def on_file_done(self, refused: bool) -> None:
        """Wake the send() that waits for the gateway to have sent a file."""
        self.file_refused = refused
        wake(self.credit_waiters)

    def on_reset(self, code: int) -> None:
        """Take RESET: the end of the stream, or of the request body only."""
        if code == ERROR_BODY_ABORTED:
            self.body_aborted = True
            self.body_ended = True
            self.disconnected = True
            self._wake_receivers()
        else:
            self.on_gone()

    def on_disconnect(self, code: int) -> None:
        """Take DISCONNECT: a half-close shows in receive(), and ends a response gone silent."""
        if code == ERROR_CLIENT_GONE:
            self.on_gone()
        elif not self.half_closed:
            self.half_closed = self.disconnected = True
            self._wake_receivers()
            if self.phase != START:
                self._watch_silence()

    def on_gone(self) -> None:
        """Nothing can be delivered any more: tell the application, cancel it after the grace."""
        if self.gone:
            return
        self.gone = self.disconnected = True
        if self.half_closed and self.timer is not None and not self.cancelled:
            self.timer.cancel()  # of _watch_silence(): from now on it is about leaving
            self.timer = None
        self._wake_receivers()
        wake(self.credit_waiters)
        if self.phase != START or self.service.cancel_policy is CancelPolicy.ALWAYS:
            self._arm_cancel()

    def disconnect(self) -> None:
        """Say http.disconnect at the deadline of a drain; sending goes on working."""
        self.disconnected = True
        self._wake_receivers()

    def _arm_cancel(self) -> None:
        # A complete response with work behind it (a background task) is nobody's to cancel.
        never = self.service.cancel_policy is CancelPolicy.NEVER or self.phase == COMPLETE
        if not never and self.timer is None and not self.cancelled:
            self.timer = self.link.loop.call_later(self.service.grace, self.cancel)

    def _watch_silence(self) -> None:
        """Look after a grace whether anything was sent to the half-closed client.

        A client that has closed altogether looks the same until something is written to it. An
        event stream that has nothing to write would wait for ever (rule 21).
        """
        if self.service.cancel_policy is not CancelPolicy.NEVER and self.timer is None:
            self.moved = False
            self.timer = self.link.loop.call_later(self.service.grace, self._silent)

    def _silent(self) -> None:
        self.timer = None
        if self.phase in (BODY, TRAILERS):
            if self.moved or self.credit_waiters:  # it sends, or the client has yet to read
                self._watch_silence()
            else:
                self.cancel()

    def _wake_receivers(self) -> None:
        wake(self.receive_waiters)
