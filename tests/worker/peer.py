# SPDX-License-Identifier: MIT
"""The gateway's half of a link in Python, strict about what a worker may send.

Job: build REQUEST heads and frames, parse and check the worker's frames with the table of the
protocol, keep the credit of both directions. Used over a socketpair (harness.py) and over a
real Unix socket (gateway.py). It is written for tests: a breach by the worker is an assertion.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from asgi_worker.protocol.constants import (
    DATA_OVERHEAD,
    FLAG_DONE,
    FLAG_END_STREAM,
    FLAG_EXPECT,
    FLAG_INFORMATIONAL,
    FLAG_MORE,
    FLAG_TEXT,
    FRAME_DATA,
    FRAME_DISCONNECT,
    FRAME_DONE,
    FRAME_FILE,
    FRAME_FILE_DONE,
    FRAME_HELLO,
    FRAME_HELLO_ACK,
    FRAME_NAMES,
    FRAME_REFUSED,
    FRAME_REQUEST,
    FRAME_RESET,
    FRAME_RESPONSE,
    FRAME_TRAILERS,
    FRAME_WINDOW,
    FRAME_WS_ACCEPT,
    FRAME_WS_CLOSE,
    FRAME_WS_MSG,
)
from asgi_worker.protocol.frames import HEADER, check_header, frame
from asgi_worker.protocol.msgpack import packb, unpackb

Fields = Iterable[tuple[bytes, bytes]]
WINDOW = 65536
MAX_FRAME = 65536

DEFAULT_FIELDS = [
    (b"host", b"localhost:8080"),
    (b"user-agent", b"test/1.0"),
    (b"accept", b"*/*"),
]


def field_block(fields: Fields) -> bytes:
    return b"\0".join(part for pair in fields for part in pair)


def parse_block(block: bytes) -> list[tuple[bytes, bytes]]:
    if not block:
        return []
    parts = block.split(b"\0")
    assert len(parts) % 2 == 0, "an odd number of names and values"
    return list(zip(parts[::2], parts[1::2], strict=True))


def request_head(
    method: str = "GET",
    path: str = "/",
    *,
    kind: int = 0,
    version: str = "1.1",
    scheme: str = "http",
    raw_path: bytes | None = None,
    query: bytes = b"",
    root_path: str = "",
    client: bytes | None = b"127.0.0.1\x0054321",
    server: bytes = b"127.0.0.1\x008080",
    fields: Fields = DEFAULT_FIELDS,
    tls: list[int] | None = None,
    extensions: dict[str, Any] | None = None,
) -> bytes:
    return packb(
        [
            kind, method, version, scheme, path, raw_path, query, root_path,
            client, server, field_block(fields), tls, extensions,
        ]
    )  # fmt: skip


def hello_ack(**changes: Any) -> bytes:
    values: dict[str, Any] = {
        "proto": 1,
        "features": [],
        "gateway": b"G" * 16,
        "channels": 1,
        "token": b"T" * 16,
        "max_frame": MAX_FRAME,
        "window": WINDOW,
        "ws_max_message": 1 << 24,
        "ping_interval": 1000,
        "start_timeout": 60000,
        "server_cert": None,
    }
    values.update(changes)
    return frame(FRAME_HELLO_ACK, packb(values))


@dataclass
class Frame:
    kind: int
    flags: int
    code: int
    stream: int
    aux: int
    payload: bytes

    @property
    def name(self) -> str:
        return FRAME_NAMES[self.kind]

    def __repr__(self) -> str:
        return (
            f"<{self.name} flags={self.flags} code={self.code} stream={self.stream} "
            f"aux={self.aux} {self.payload[:60]!r}>"
        )


@dataclass
class Exchange:
    """What the gateway knows of one stream."""

    id: int
    send_credit: int
    recv_left: int = WINDOW
    frames: list[Frame] = field(default_factory=list)
    informational: list[tuple[int, list[tuple[bytes, bytes]]]] = field(default_factory=list)
    status: int | None = None
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[bytes, bytes]] | None = None
    ended: bool = False
    done: bool = False
    reset: int | None = None
    refused: int | None = None
    gone: bool = False
    consumed: int = 0
    granted: int = 0
    files: list[tuple[int, int]] = field(default_factory=list)
    # a WebSocket
    websocket: bool = False
    accepted: tuple[str | None, list[tuple[bytes, bytes]]] | None = None
    messages: list[str | bytes] = field(default_factory=list)
    part: bytearray = field(default_factory=bytearray)
    part_flags: int | None = None
    closed: tuple[int, str] | None = None

    def header(self, name: bytes) -> bytes | None:
        values = [value for key, value in self.fields if key == name]
        return values[0] if values else None


class Peer:
    """Sans-IO: feed() takes bytes of the worker, build methods return bytes for it."""

    def __init__(self, *, auto_credit: bool = True) -> None:
        self.streams: dict[int, Exchange] = {}
        self.frames: list[Frame] = []
        self.channel: list[Frame] = []
        self.next_id = 1
        self.auto_credit = auto_credit
        self.to_send = bytearray()
        self._buffer = b""

    def feed(self, data: bytes) -> list[Frame]:
        buffer = self._buffer + data
        result = []
        while len(buffer) >= HEADER.size:
            length, kind, flags, code, stream, aux = HEADER.unpack_from(buffer)
            assert length <= MAX_FRAME
            if len(buffer) < HEADER.size + length:
                break
            check_header(length, kind, flags, code, stream, aux, from_gateway=False)
            payload = buffer[HEADER.size : HEADER.size + length]
            buffer = buffer[HEADER.size + length :]
            item = Frame(kind, flags, code, stream, aux, payload)
            self.frames.append(item)
            result.append(item)
            if stream:
                self._stream_frame(item)
            else:
                self.channel.append(item)
        self._buffer = buffer
        return result

    def _charge(self, exchange: Exchange, length: int) -> None:
        cost = DATA_OVERHEAD + length
        assert exchange.recv_left >= cost, "the worker sent more than its credit"
        exchange.recv_left -= cost
        exchange.consumed += cost
        if self.auto_credit and not exchange.gone and exchange.consumed * 2 >= WINDOW:
            self.window(exchange, exchange.consumed)
            exchange.consumed = 0

    def _stream_frame(self, item: Frame) -> None:
        exchange = self.streams[item.stream]
        exchange.frames.append(item)
        assert not exchange.done, f"{item} after DONE"
        if item.kind not in (FRAME_WINDOW, FRAME_DONE):
            assert not exchange.ended, f"{item} after the end"
        if item.kind == FRAME_RESPONSE:
            self._response(exchange, item)
        elif item.kind == FRAME_DATA:
            assert exchange.status is not None
            self._charge(exchange, len(item.payload))
            exchange.body += item.payload
        elif item.kind in (FRAME_WS_ACCEPT, FRAME_WS_MSG, FRAME_WS_CLOSE):
            self._websocket(exchange, item)
        elif item.kind == FRAME_TRAILERS:
            exchange.trailers = parse_block(unpackb(item.payload)[0])
        elif item.kind == FRAME_WINDOW:
            exchange.send_credit += item.aux
            exchange.granted += item.aux
            assert exchange.send_credit <= WINDOW, "credit above the window"
        elif item.kind == FRAME_RESET:
            exchange.reset = item.code
            exchange.ended = True
        elif item.kind == FRAME_REFUSED:
            assert len(exchange.frames) == 1, "REFUSED is a first frame"
            exchange.refused = item.code
            exchange.ended = exchange.done = True
        elif item.kind == FRAME_FILE:
            exchange.files.append(
                (
                    int.from_bytes(item.payload[:8], "little"),
                    int.from_bytes(item.payload[8:], "little"),
                )
            )
        if item.kind == FRAME_DONE or item.flags & FLAG_DONE:
            exchange.done = True
        if item.flags & FLAG_END_STREAM:
            exchange.ended = True

    def _websocket(self, exchange: Exchange, item: Frame) -> None:
        assert exchange.websocket and exchange.status is None
        if item.kind == FRAME_WS_ACCEPT:
            assert exchange.accepted is None, "a second WS_ACCEPT"
            subprotocol, block = unpackb(item.payload)
            exchange.accepted = subprotocol, parse_block(block)
            return
        assert exchange.accepted is not None, f"{item} before WS_ACCEPT"
        if item.kind == FRAME_WS_CLOSE:
            exchange.closed = item.code, item.payload.decode()
            exchange.ended = True
            return
        self._charge(exchange, len(item.payload))
        text = item.flags & FLAG_TEXT
        assert exchange.part_flags in (None, text), "text in one part of a message only"
        exchange.part += item.payload
        exchange.part_flags = text if item.flags & FLAG_MORE else None
        if not item.flags & FLAG_MORE:
            data = bytes(exchange.part)
            exchange.part.clear()
            exchange.messages.append(data.decode() if text else data)

    def _response(self, exchange: Exchange, item: Frame) -> None:
        assert exchange.accepted is None, "RESPONSE after WS_ACCEPT"
        size = item.aux or len(item.payload)
        head, body = item.payload[:size], item.payload[size:]
        (block,) = unpackb(head)
        fields = parse_block(block)
        if item.flags & FLAG_INFORMATIONAL:
            assert exchange.status is None
            exchange.informational.append((item.code, fields))
            return
        assert exchange.status is None, "a second final RESPONSE"
        exchange.status = item.code
        exchange.fields = fields
        if body:
            self._charge(exchange, len(body))
            exchange.body += body

    # What the gateway sends; everything lands in self.to_send.

    def raw(self, data: bytes) -> None:
        self.to_send += data

    def request(
        self,
        body: bytes = b"",
        *,
        end: bool = True,
        expect: bool = False,
        head: bytes | None = None,
        stream: int | None = None,
        **changes: Any,
    ) -> Exchange:
        stream_id = self.next_id if stream is None else stream
        self.next_id = stream_id + 1
        if head is None:
            head = request_head(**changes)
        flags = (FLAG_END_STREAM if end else 0) | (FLAG_EXPECT if expect else 0)
        credit = 0 if expect else WINDOW
        if body:
            credit -= DATA_OVERHEAD + len(body)
        exchange = self.streams[stream_id] = Exchange(stream_id, credit)
        aux = len(head) if body else 0
        self.raw(frame(FRAME_REQUEST, head + body, flags=flags, stream=stream_id, aux=aux))
        return exchange

    def data(self, exchange: Exchange, payload: bytes, *, end: bool = False) -> None:
        exchange.send_credit -= DATA_OVERHEAD + len(payload)
        assert exchange.send_credit >= 0, "the test sends more than it has credit for"
        flags = FLAG_END_STREAM if end else 0
        self.raw(frame(FRAME_DATA, payload, flags=flags, stream=exchange.id))

    def websocket(
        self, fields: Fields = DEFAULT_FIELDS, *, scheme: str = "ws", **changes: Any
    ) -> Exchange:
        exchange = self.request(kind=1, end=False, scheme=scheme, fields=fields, **changes)
        exchange.websocket = True
        return exchange

    def message(
        self, exchange: Exchange, data: str | bytes, *, more: bool = False, text: bool = False
    ) -> None:
        """Send WS_MSG; `text` says what bytes are (a character may be split)."""
        payload = data.encode() if isinstance(data, str) else data
        exchange.send_credit -= DATA_OVERHEAD + len(payload)
        assert exchange.send_credit >= 0, "the test sends more than it has credit for"
        flags = FLAG_TEXT if text or isinstance(data, str) else 0
        flags |= FLAG_MORE if more else 0
        self.raw(frame(FRAME_WS_MSG, payload, flags=flags, stream=exchange.id))

    def close(self, exchange: Exchange, code: int, reason: str = "") -> None:
        self.raw(frame(FRAME_WS_CLOSE, reason.encode(), code=code, stream=exchange.id))
        exchange.gone = True

    def window(self, exchange: Exchange, increment: int) -> None:
        exchange.recv_left += increment
        self.raw(frame(FRAME_WINDOW, stream=exchange.id, aux=increment))

    def disconnect(self, exchange: Exchange, code: int) -> None:
        self.raw(frame(FRAME_DISCONNECT, stream=exchange.id, code=code))

    def reset(self, exchange: Exchange, code: int) -> None:
        self.raw(frame(FRAME_RESET, stream=exchange.id, code=code))

    def file_done(self, exchange: Exchange) -> None:
        self.raw(frame(FRAME_FILE_DONE, stream=exchange.id))

    def hello(self) -> dict[str, Any]:
        item = self.channel[0]
        assert item.kind == FRAME_HELLO
        value = unpackb(item.payload)
        assert isinstance(value, dict)
        return value
