# SPDX-License-Identifier: MIT
"""One WebSocket: the application's receive() and send(), and what the link tells it.

Job: docs/ASGI.md rules 22 to 27 for one stream. It owns the messages that the application has not
taken yet (bounded by the credit that was granted), the message that is on its way out, and the
application's task. It must not know sockets, nor frames of RFC 6455: those are the gateway's.

A message that does not fit into the credit goes out in pieces. Once its first piece is out the
rest has to follow, whatever becomes of the task that sent it, so it belongs to the WebSocket: the
link pushes it on as credit comes, and send() only waits for that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from ..config import CancelPolicy
from ..protocol.codec import RequestHead, encode_accept
from ..protocol.constants import (
    DATA_OVERHEAD,
    ERROR_APP_EXCEPTION,
    ERROR_APP_INCOMPLETE,
    ERROR_DRAINING,
    ERROR_INTERNAL,
    ERROR_OVERLOADED,
    ERROR_PROTOCOL,
    FLAG_END_STREAM,
    FLAG_MORE,
    FLAG_TEXT,
)
from ..protocol.stream import WebSocketStream
from .cycle import Cycle
from .denial import Denial
from .errors import ClientDisconnected, WebSocketClosed, is_disconnect
from .scope import websocket_scope
from .waiting import wait, wake

if TYPE_CHECKING:
    from ..io.link import Link

# Where it stands. CLOSED: the application, the client or the gateway has ended it.
CONNECTING, DENYING, OPEN, CLOSED = range(4)

CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_NO_STATUS = 1005  # after the handshake the client went without a close frame
CLOSE_ABNORMAL = 1006  # there was no handshake
CLOSE_INTERNAL = 1011
CLOSE_RESTART = 1012
MAX_REASON = 123
REFUSED_STATUS = 403
_EMPTY_HEAD = b"\x91\xc4\x00"  # array [no fields]

# What the gateway's RESET of an accepted WebSocket means as a close code; else 1005.
_RESET_CLOSES = {
    ERROR_DRAINING: CLOSE_GOING_AWAY,
    ERROR_PROTOCOL: CLOSE_INTERNAL,
    ERROR_INTERNAL: CLOSE_INTERNAL,
    ERROR_OVERLOADED: CLOSE_INTERNAL,
}


_UNFINISHED = {
    CONNECTING: "without accepting or closing",
    DENYING: "before its response was complete",
    OPEN: "before a message was sent to its end",
}


class _Outgoing:
    """A message whose first piece could go out and whose rest could not."""

    __slots__ = ("flags", "rest", "sent")

    def __init__(self, data: bytes, flags: int) -> None:
        self.rest = memoryview(data)
        self.flags = flags
        self.sent = False


class WebSocketCycle(Cycle):
    """One WebSocket from its connect to the application's return."""

    __slots__ = (
        "connected",
        "denial",
        "end",
        "listens",
        "messages",
        "outgoing",
        "phase",
        "receive_waiters",
        "send_waiters",
        "stream",
        "told",
    )

    def __init__(self, link: Link, stream: WebSocketStream, head: RequestHead) -> None:
        service = link.service
        self.link = link
        self.service = service
        self.session = link.session
        self.stream = stream
        self.task = None
        self.phase = CONNECTING
        self.connected = False  # the application was given websocket.connect
        self.listens = False  # it has asked for more than that
        self.told = False  # it knows of the end
        self.gone = False  # the end came from the other side
        self.end: tuple[int, str] | None = None  # code and reason of websocket.disconnect
        self.messages: deque[tuple[str | bytes, int]] = deque()  # with what they cost
        self.receive_waiters: list[asyncio.Future[None]] = []
        self.outgoing: _Outgoing | None = None
        self.send_waiters: list[asyncio.Future[None]] = []
        self.denial: Denial | None = None
        self.cancelled = False
        self.timer = None
        self.scope = websocket_scope(head, service.state, service.root_path)
        tls = head[11]
        if tls is not None:
            self.scope["extensions"]["tls"] = link.tls_extension(tls)

    # The application's side

    async def receive(self) -> dict[str, Any]:
        """Return websocket.connect, then messages, then websocket.disconnect for ever."""
        if not self.connected:
            self.connected = True
            return {"type": "websocket.connect"}
        self.listens = True
        while True:
            if self.messages:
                return self._take()
            if self.end is not None:
                self.told = True
                code, reason = self.end
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            if self.phase == OPEN and self.session.message_wanted(self.stream):
                self.link.wrote()
            try:
                # The future only wakes: what it announces stays in self.messages.
                await wait(self.link.loop, self.receive_waiters)
            finally:
                if not self.receive_waiters:
                    self.stream.waiting = False

    def _take(self) -> dict[str, Any]:
        data, cost = self.messages.popleft()
        if self.session.message_taken(self.stream, cost):
            self.link.wrote()
        if isinstance(data, str):
            return {"type": "websocket.receive", "bytes": None, "text": data}
        return {"type": "websocket.receive", "bytes": data, "text": None}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message of the application (rules 22 to 27)."""
        try:
            kind = message["type"]
        except TypeError:
            raise TypeError(f"a message is a dict, not a {type(message).__name__}") from None
        except KeyError:
            raise ValueError("the message has no 'type'") from None
        if kind == "websocket.send":
            await self._send(*_content(message))
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            await self._close(message)
        elif kind == "websocket.http.response.start":
            self._deny(message)
        elif kind == "websocket.http.response.body":
            await self._deny_body(message)
        else:
            raise ValueError(f"{kind!r} is not a message of a WebSocket")

    def _expect(self, phase: int, kind: str) -> None:
        """Say why a message cannot be taken now, if it cannot."""
        if self.phase == phase:
            return
        if self.phase == CLOSED:
            self.told = True
            raise ClientDisconnected if self.gone else WebSocketClosed
        if self.phase == CONNECTING:
            first = "websocket.accept" if phase == OPEN else "websocket.http.response.start"
            raise RuntimeError(f"{kind} before {first}")
        last = "websocket.accept" if self.phase == OPEN else "websocket.http.response.start"
        raise RuntimeError(f"{kind} after {last}")

    def _accept(self, message: dict[str, Any]) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            if not isinstance(subprotocol, str):
                raise TypeError(f"subprotocol must be str, not {type(subprotocol).__name__}")
            if subprotocol not in self.scope["subprotocols"]:
                raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
        payload = encode_accept(subprotocol, message.get("headers") or ())
        if len(payload) > self.session.max_frame:
            raise ValueError(f"the header fields of websocket.accept take {len(payload)} bytes")
        self._expect(CONNECTING, "websocket.accept")
        self.phase = OPEN
        self.session.send_accept(self.stream, payload)
        self.link.wrote()
        wake(self.receive_waiters)  # to say that a message is wanted

    async def _send(self, data: bytes, flags: int) -> None:
        """Queue a message, waiting for credit, and for the message before it (rule 24)."""
        await self._turn("websocket.send")
        if self._fits(len(data)):
            self.session.send_message(self.stream, data, flags)
            self.link.wrote()
            return
        outgoing = self.outgoing = _Outgoing(data, flags)
        self._push()
        while self.outgoing is outgoing:
            await wait(self.link.loop, self.send_waiters)
        if not outgoing.sent:
            self._expect(OPEN, "websocket.send")

    def _fits(self, size: int) -> bool:
        """Tell whether so much can go out in one piece now; an empty message costs as well."""
        room = self.session.body_room(self.stream)
        return size <= room and (size > 0 or self.stream.send_credit >= DATA_OVERHEAD)

    async def _turn(self, kind: str) -> None:
        """Wait until no message is on its way out."""
        self._expect(OPEN, kind)
        while self.outgoing is not None:
            await wait(self.link.loop, self.send_waiters)
            self._expect(OPEN, kind)

    def _push(self) -> None:
        """Queue what credit allows of the message that is on its way out."""
        outgoing, session, stream = self.outgoing, self.session, self.stream
        assert outgoing is not None
        rest = outgoing.rest
        while not self._fits(len(rest)):
            room = session.body_room(stream)
            if not room:
                outgoing.rest = rest
                self.link.wrote()
                return
            session.send_message(stream, rest[:room], outgoing.flags | FLAG_MORE)
            rest = rest[room:]
        session.send_message(stream, rest, outgoing.flags)
        outgoing.sent = True
        self.outgoing = None
        wake(self.send_waiters)
        self.link.wrote()

    async def _close(self, message: dict[str, Any]) -> None:
        code, reason = _close_of(message)
        if self.phase == CONNECTING:  # rule 22
            self.session.send_response(
                self.stream, REFUSED_STATUS, _EMPTY_HEAD, b"", FLAG_END_STREAM
            )
            self._ended(CLOSE_ABNORMAL, "")
        elif self.denial is not None and self.phase == CLOSED and not self.gone:
            return  # the end of a denial is the end of its body; saying it again does no harm
        else:
            await self._turn("websocket.close")
            self.session.send_close(self.stream, code, reason.encode(), done=False)
            self._ended(code, reason)
        self.link.wrote()

    def _deny(self, message: dict[str, Any]) -> None:
        denial = Denial(self.session, self.stream)
        denial.start(message, self.service.encoder, self.scope["http_version"])
        self._expect(CONNECTING, "websocket.http.response.start")
        self.denial = denial
        self.phase = DENYING

    async def _deny_body(self, message: dict[str, Any]) -> None:
        kind = "websocket.http.response.body"
        self._expect(DENYING, kind)
        denial = self.denial
        assert denial is not None
        body, last = denial.body_of(message)
        rest = denial.write(body, last)
        self.link.wrote()
        while rest is not None:
            await wait(self.link.loop, self.send_waiters)
            self._expect(DENYING, kind)
            rest = denial.write(rest, last)
            self.link.wrote()
        if last:
            self._ended(CLOSE_ABNORMAL, "")

    # The end

    def _ended(self, code: int, reason: str) -> None:
        self.phase = CLOSED
        if self.end is None:
            self.end = (code, reason)
        self.outgoing = None
        wake(self.receive_waiters)
        wake(self.send_waiters)

    def _returned(self) -> None:
        session, stream = self.session, self.stream
        if self.gone or stream.send_ended:
            session.send_done(stream)
        elif self.phase == OPEN and self.outgoing is None:
            session.send_close(stream, CLOSE_NORMAL, b"", done=True)
        else:
            self.service.log.error(
                "the application returned %s: %s", _UNFINISHED[self.phase], self._name()
            )
            session.send_reset(stream, ERROR_APP_INCOMPLETE, done=True)
        self.link.wrote()

    def _failed(self, exc: BaseException) -> None:
        code = ERROR_APP_EXCEPTION
        if self.cancelled and isinstance(exc, asyncio.CancelledError):
            code = ERROR_DRAINING  # whose client is still there is cancelled only by a stop
        elif self.phase == CLOSED and is_disconnect(exc):
            self.service.log.debug("%s has ended", self._name())
        else:
            self.service.log.error("exception in the application: %s", self._name(), exc_info=exc)
        self.session.send_reset(self.stream, code, done=True)
        self.link.wrote()

    def _name(self) -> str:
        return f"WebSocket {self.scope.get('path')}"

    # The link's side

    def on_message(self, data: str | bytes, cost: int) -> None:
        """Take a complete message."""
        self.messages.append((data, cost))
        wake(self.receive_waiters)

    def on_credit(self) -> None:
        """Push on what waits for credit."""
        if self.outgoing is not None:
            self._push()
        else:
            wake(self.send_waiters)

    def on_close(self, code: int, reason: str) -> None:
        """Take WS_CLOSE: the client's close frame, or the gateway's own reason."""
        self._gone(code, reason)

    def on_disconnect(self, _code: int) -> None:
        """Take DISCONNECT: the client went without a word."""
        self.on_gone()

    def on_reset(self, code: int) -> None:
        """Take RESET: the gateway ended the stream."""
        if self.stream.accepted:
            self._gone(_RESET_CLOSES.get(code, CLOSE_NO_STATUS), "")
        else:
            self.on_gone()

    def on_gone(self) -> None:
        """Nothing can be delivered any more."""
        self._gone(CLOSE_NO_STATUS if self.stream.accepted else CLOSE_ABNORMAL, "")

    def _gone(self, code: int, reason: str) -> None:
        """End it from the other side; who does not listen for that is cancelled after the grace."""
        if self.gone:
            return
        self.gone = True
        self._ended(code, reason)
        policy = self.service.cancel_policy
        if policy is CancelPolicy.NEVER or self.timer is not None:
            return
        if policy is CancelPolicy.ALWAYS:
            self.timer = self.link.loop.call_later(self.service.grace, self.cancel)
        elif self.stream.accepted:
            self.timer = self.link.loop.call_later(self.service.grace, self._unheard)

    def _unheard(self) -> None:
        """Cancel an application that only ever sends and has nothing to send (rule 25).

        It would wait for ever. One that has asked for messages asks again, or its send() raises;
        what it does with the last message before that is not to be cut.
        """
        self.timer = None
        if not self.listens and not self.told:
            self.cancel()

    def disconnect(self) -> None:
        """Close at the deadline of a drain, or refuse what is not open yet."""
        if self.phase == DENYING or self.phase == CLOSED:
            return
        accepted = self.phase == OPEN
        if accepted and self.outgoing is None:
            self.session.send_close(self.stream, CLOSE_RESTART, b"", done=False)
        else:  # the gateway closes with 1012 as well, or says 503 (SPEC R89)
            self.session.send_reset(self.stream, ERROR_DRAINING, done=False)
        self._ended(CLOSE_RESTART if accepted else CLOSE_ABNORMAL, "")
        self.link.wrote()


def _content(message: dict[str, Any]) -> tuple[bytes, int]:
    """Return the bytes of websocket.send and the flags that say what they are."""
    data, text = message.get("bytes"), message.get("text")
    if (data is None) == (text is None):
        raise ValueError("websocket.send has either bytes or text")
    if text is not None:
        if not isinstance(text, str):
            raise TypeError(f"text must be str, not {type(text).__name__}")
        return text.encode(), FLAG_TEXT
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"bytes must be bytes, not {type(data).__name__}")
    return bytes(data), 0


def _close_of(message: dict[str, Any]) -> tuple[int, str]:
    """Return code and reason of websocket.close, checked (rule 26, SPEC R87)."""
    code = message.get("code")
    if code is None:
        code = CLOSE_NORMAL
    if not isinstance(code, int) or isinstance(code, bool):
        raise TypeError(f"code must be an int, not {type(code).__name__}")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise ValueError(f"close code {code} is reserved or none that may be sent")
    reason = message.get("reason") or ""
    if not isinstance(reason, str):
        raise TypeError(f"reason must be str, not {type(reason).__name__}")
    if len(reason.encode()) > MAX_REASON:
        raise ValueError(f"reason takes more than {MAX_REASON} bytes in UTF-8")
    return int(code), reason
