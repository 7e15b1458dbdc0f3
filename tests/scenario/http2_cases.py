# SPDX-License-Identifier: MIT
# ruff: noqa: E501 (a table: one case, one line)
"""HTTP/2 frame by frame, and what must become of each: the table of test_http2_conformance.py. RFC 9113 and RFC 7541.

`fine` cases end with an answered stream (200, or a status of the list) on a connection that goes on. `connection` cases end the connection, by a GOAWAY
with one of the codes, or by closing it. `stream` cases end their stream by RST_STREAM with one of the codes (or an answer of status
400 where the list has 400), or the connection as above; `strict` ones never the connection.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from harness.http2 import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Http2,
    block,
    frame,
    literal,
    request,
    settings,
)

BAD_REQUEST = 400  # beside the error codes: an answer with this status
ALL_H, LAST = END_HEADERS, END_HEADERS | END_STREAM

Act = Callable[[Http2], int]


@dataclass(frozen=True)
class Case:
    name: str
    kind: str  # fine, connection, stream, strict
    codes: tuple[int, ...]
    act: Act
    handshake: bool = True


CASES: list[Case] = []


def case(name: str, kind: str, *codes: int, handshake: bool = True) -> Callable[[Act], Act]:
    def add(act: Act) -> Act:
        CASES.append(Case(name, kind, codes, act, handshake))
        return act

    return add


def frames(name: str, kind: str, *codes: int, send: bytes, stream: int = 1) -> None:
    """A case of bytes alone; its outcome is looked for on `stream`."""

    def act(client: Http2) -> int:
        client.raw(send)
        return stream

    CASES.append(Case(name, kind, codes, act))


GET = block(request())
POST = block(request("/echo", "POST"))
WINDOW = struct.pack(">I", 1)
HALF = len(GET) // 2


def headers(fields: bytes = GET, flags: int = LAST, stream: int = 1) -> bytes:
    return frame(HEADERS, flags, stream, fields)


def prioritized(dependency: int, weight: int, stream: int = 1) -> bytes:
    return frame(HEADERS, LAST | PRIORITIZED, stream, struct.pack(">IB", dependency, weight) + GET)


# --- 3.4: the preface ------------------------------------------------------------------------------------------------


@case("3.4 preface and SETTINGS in one write with a request", "fine", handshake=False)
def _(client: Http2) -> int:
    client.raw(PREFACE + frame(SETTINGS, 0, 0) + headers())
    return 1


@case("3.4 preface byte by byte", "fine", handshake=False)
def _(client: Http2) -> int:
    for byte in PREFACE + frame(SETTINGS, 0, 0) + headers():
        client.raw(bytes([byte]))
    return 1


@case("3.4 preface that goes wrong behind its first line", "connection", PROTOCOL_ERROR, handshake=False)
def _(client: Http2) -> int:
    client.raw(PREFACE[:18] + b"XX\r\n\r\n" + frame(SETTINGS, 0, 0))
    return 0


@case("3.4 preface not followed by SETTINGS", "connection", PROTOCOL_ERROR, handshake=False)
def _(client: Http2) -> int:
    client.raw(PREFACE + headers())
    return 0


# --- 4: frames -------------------------------------------------------------------------------------------------------

frames("4.1 unknown type", "fine", send=frame(0x16, 0xFF, 0, b"x" * 8) + headers())
frames("4.1 unknown type on a stream", "fine", send=frame(0x16, 0, 1, b"x" * 8) + headers())
frames("4.1 undefined flags of PING", "fine", send=frame(PING, 0x16, 0, b"x" * 8) + headers())
frames("4.1 reserved bit of the stream id", "fine", send=frame(PING, 0, 0x80000000, b"x" * 8) + headers())
frames("4.2 DATA of 16384 bytes", "fine", send=headers(POST, ALL_H) + frame(DATA, END_STREAM, 1, bytes(16384)))
frames(
    "4.2 DATA larger than SETTINGS_MAX_FRAME_SIZE",
    "stream",
    FRAME_SIZE_ERROR,
    send=headers(POST, ALL_H) + frame(DATA, END_STREAM, 1, bytes(16385)),
)
frames(
    "4.2 HEADERS larger than SETTINGS_MAX_FRAME_SIZE",
    "connection",
    FRAME_SIZE_ERROR,
    send=headers(GET + literal("a", "b" * 16384)),
)
frames("4.3 field block that is no HPACK", "connection", COMPRESSION_ERROR, send=headers(b"\x40"))
frames(
    "4.3 PRIORITY within a field block",
    "connection",
    PROTOCOL_ERROR,
    send=headers(GET, END_STREAM)
    + frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 255))
    + frame(CONTINUATION, END_HEADERS, 1, b""),
)
frames(
    "4.3 HEADERS of another stream within a field block",
    "connection",
    PROTOCOL_ERROR,
    send=headers(GET, END_STREAM) + headers(GET, LAST, 3),
)
frames(
    "4.3 field block in three pieces",
    "fine",
    send=headers(GET[:5], END_STREAM)
    + frame(CONTINUATION, 0, 1, GET[5:HALF])
    + frame(CONTINUATION, END_HEADERS, 1, GET[HALF:]),
)
frames(
    "4.3 field block with an empty CONTINUATION",
    "fine",
    send=headers(GET, END_STREAM) + frame(CONTINUATION, END_HEADERS, 1, b""),
)

# --- 5.1: states -----------------------------------------------------------------------------------------------------

frames("5.1 idle: DATA", "connection", PROTOCOL_ERROR, send=frame(DATA, END_STREAM, 1, b"x"))
frames("5.1 idle: RST_STREAM", "connection", PROTOCOL_ERROR, send=frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
frames("5.1 idle: WINDOW_UPDATE", "connection", PROTOCOL_ERROR, send=frame(WINDOW_UPDATE, 0, 1, WINDOW))
frames("5.1 idle: CONTINUATION", "connection", PROTOCOL_ERROR, send=frame(CONTINUATION, LAST, 1, GET))
frames("5.1 idle: PRIORITY", "fine", send=frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 15)) + headers())
frames(
    "5.1 half-closed: DATA",
    "stream",
    STREAM_CLOSED,
    send=headers(block(request("/sleep?ms=1000"))) + frame(DATA, END_STREAM, 1, b"x"),
)
frames("5.1 half-closed: HEADERS", "stream", STREAM_CLOSED, send=headers(block(request("/sleep?ms=1000"))) + headers())
frames(
    "5.1 half-closed: CONTINUATION",
    "connection",
    STREAM_CLOSED,
    PROTOCOL_ERROR,
    send=headers(block(request("/sleep?ms=1000"))) + frame(CONTINUATION, END_HEADERS, 1, GET),
)
frames("5.1 half-closed: WINDOW_UPDATE", "fine", send=headers() + frame(WINDOW_UPDATE, 0, 1, WINDOW))
frames("5.1 half-closed: PRIORITY", "fine", send=headers() + frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 15)))
frames(
    "5.1 closed by the client's RST_STREAM: DATA",
    "stream",
    STREAM_CLOSED,
    send=headers(POST, ALL_H) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)) + frame(DATA, END_STREAM, 1, b"x"),
)
frames(
    "5.1 closed by the client's RST_STREAM: HEADERS",
    "stream",
    STREAM_CLOSED,
    send=headers(POST, ALL_H) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)) + headers(),
)
frames(
    "5.1 closed by the client's RST_STREAM: CONTINUATION",
    "connection",
    STREAM_CLOSED,
    PROTOCOL_ERROR,
    send=headers(POST, ALL_H) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)) + frame(CONTINUATION, LAST, 1, GET),
)


def after_answer(sent: bytes) -> Act:
    def act(client: Http2) -> int:
        assert client.get().status == 200
        client.raw(sent)
        return 1

    return act


case("5.1 closed: DATA", "connection", STREAM_CLOSED)(after_answer(frame(DATA, END_STREAM, 1, b"x")))
case("5.1 closed: HEADERS", "connection", STREAM_CLOSED)(after_answer(headers()))
case("5.1 closed: CONTINUATION", "connection", STREAM_CLOSED, PROTOCOL_ERROR)(
    after_answer(frame(CONTINUATION, LAST, 1, GET))
)
case("5.1 closed: WINDOW_UPDATE", "fine")(after_answer(frame(WINDOW_UPDATE, 0, 1, WINDOW)))
case("5.1 closed: PRIORITY", "fine")(after_answer(frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 15))))
case("5.1 closed: RST_STREAM", "fine")(after_answer(frame(RST_STREAM, 0, 1, struct.pack(">I", 8))))

frames("5.1.1 even stream id", "connection", PROTOCOL_ERROR, send=headers(GET, LAST, 2), stream=2)
frames(
    "5.1.1 stream id smaller than an earlier one",
    "connection",
    PROTOCOL_ERROR,
    send=headers(GET, LAST, 5) + headers(GET, LAST, 3),
    stream=3,
)
frames("5.1.1 stream ids with gaps", "fine", send=headers(GET, LAST, 5) + headers(GET, LAST, 2001), stream=2001)


@case("5.1.2 more streams than SETTINGS_MAX_CONCURRENT_STREAMS", "stream", REFUSED_STREAM, PROTOCOL_ERROR)
def _(client: Http2) -> int:
    for _ in range(client.server_settings[MAX_CONCURRENT_STREAMS]):
        client.open(request("/sleep?ms=1000"))
    return client.open()


frames(
    "5.3.1 HEADERS that depend on themselves",
    "stream",
    PROTOCOL_ERROR,
    send=prioritized(1, 255),
)
frames(
    "5.3.1 PRIORITY that depends on itself",
    "stream",
    PROTOCOL_ERROR,
    send=frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 15)) + headers(),
)
frames(
    "5.5 unknown frame within a field block",
    "connection",
    PROTOCOL_ERROR,
    send=headers(GET, END_STREAM) + frame(0xFF, 0, 0, b"x" * 8),
)

# --- 6.1, 6.2: DATA, HEADERS -----------------------------------------------------------------------------------------

frames("6.1 DATA", "fine", send=headers(POST, ALL_H) + frame(DATA, END_STREAM, 1, b"x"))
frames(
    "6.1 several DATA",
    "fine",
    send=headers(POST, ALL_H) + frame(DATA, 0, 1, b"x") + frame(DATA, 0, 1, b"") + frame(DATA, END_STREAM, 1, b"y"),
)
frames(
    "6.1 padded DATA", "fine", send=headers(POST, ALL_H) + frame(DATA, END_STREAM | PADDED, 1, b"\x06hello" + bytes(6))
)
frames(
    "6.1 DATA that is all padding",
    "fine",
    send=headers(POST, ALL_H) + frame(DATA, END_STREAM | PADDED, 1, b"\xff" + bytes(255)),
)
frames(
    "6.1 DATA without a stream",
    "connection",
    PROTOCOL_ERROR,
    send=headers(POST, ALL_H) + frame(DATA, END_STREAM, 0, b"x"),
)
frames(
    "6.1 more padding than DATA",
    "connection",
    PROTOCOL_ERROR,
    send=headers(POST, ALL_H) + frame(DATA, END_STREAM | PADDED, 1, b"\x06hello"),
)
frames(
    "6.1 padded DATA without a length",
    "connection",
    PROTOCOL_ERROR,
    FRAME_SIZE_ERROR,
    send=headers(POST, ALL_H) + frame(DATA, END_STREAM | PADDED, 1, b""),
)
frames("6.2 padded HEADERS", "fine", send=headers(b"\x06" + GET + bytes(6), LAST | PADDED))
frames("6.2 HEADERS with a priority", "fine", send=prioritized(0, 15))
frames("6.2 HEADERS with an exclusive priority", "fine", send=prioritized(0x80000000, 255))
frames(
    "6.2 padded HEADERS with a priority",
    "fine",
    send=headers(b"\x02" + struct.pack(">IB", 0, 15) + GET + bytes(2), LAST | PADDED | PRIORITIZED),
)
frames("6.2 HEADERS without a stream", "connection", PROTOCOL_ERROR, send=headers(GET, LAST, 0))
frames("6.2 more padding than HEADERS", "connection", PROTOCOL_ERROR, send=headers(b"\xff" + GET, LAST | PADDED))
frames(
    "6.2 HEADERS too short for their priority",
    "connection",
    PROTOCOL_ERROR,
    FRAME_SIZE_ERROR,
    send=headers(b"\0\0", LAST | PRIORITIZED),
)

# --- 6.3 to 6.8 ------------------------------------------------------------------------------------------------------

frames(
    "6.3 PRIORITY without a stream", "connection", PROTOCOL_ERROR, send=frame(PRIORITY, 0, 0, struct.pack(">IB", 0, 15))
)
frames(
    "6.3 PRIORITY of another length",
    "stream",
    FRAME_SIZE_ERROR,
    send=headers(POST, ALL_H) + frame(PRIORITY, 0, 1, bytes(4)),
)
frames("6.4 RST_STREAM without a stream", "connection", PROTOCOL_ERROR, send=frame(RST_STREAM, 0, 0, bytes(4)))
frames(
    "6.4 RST_STREAM of another length",
    "connection",
    FRAME_SIZE_ERROR,
    send=headers(POST, ALL_H) + frame(RST_STREAM, 0, 1, bytes(3)),
)
frames(
    "6.4 RST_STREAM with an unknown code",
    "fine",
    send=headers(POST, ALL_H) + frame(RST_STREAM, 0, 1, b"\0\0\0\xff") + headers(GET, LAST, 3),
    stream=3,
)
frames("6.5 acknowledged SETTINGS with entries", "connection", FRAME_SIZE_ERROR, send=frame(SETTINGS, ACK, 0, bytes(6)))
frames(
    "6.5 SETTINGS of a stream",
    "connection",
    PROTOCOL_ERROR,
    send=frame(SETTINGS, 0, 1, settings((MAX_CONCURRENT_STREAMS, 100))),
)
frames("6.5 SETTINGS of another length", "connection", FRAME_SIZE_ERROR, send=frame(SETTINGS, 0, 0, bytes(3)))
frames("6.5.2 ENABLE_PUSH 2", "connection", PROTOCOL_ERROR, send=frame(SETTINGS, 0, 0, settings((ENABLE_PUSH, 2))))
frames(
    "6.5.2 INITIAL_WINDOW_SIZE above 2^31-1",
    "connection",
    FLOW_CONTROL_ERROR,
    send=frame(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 1 << 31))),
)
frames(
    "6.5.2 MAX_FRAME_SIZE below 16384",
    "connection",
    PROTOCOL_ERROR,
    send=frame(SETTINGS, 0, 0, settings((MAX_FRAME_SIZE, 16383))),
)
frames(
    "6.5.2 MAX_FRAME_SIZE above 2^24-1",
    "connection",
    PROTOCOL_ERROR,
    send=frame(SETTINGS, 0, 0, settings((MAX_FRAME_SIZE, 1 << 24))),
)
frames("6.5.2 unknown entry", "fine", send=frame(SETTINGS, 0, 0, settings((0xFF, 1))) + headers())
frames(
    "6.5.3 an entry twice: the last counts",
    "fine",
    send=frame(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 100))) + headers(),
)
frames(
    "6.5.3 HEADER_TABLE_SIZE 0, then 4096",
    "fine",
    send=frame(SETTINGS, 0, 0, settings((HEADER_TABLE_SIZE, 0)))
    + headers()
    + frame(SETTINGS, 0, 0, settings((HEADER_TABLE_SIZE, 4096)))
    + headers(GET, LAST, 3),
    stream=3,
)


@case("6.5.3 SETTINGS are acknowledged", "fine")
def _(client: Http2) -> int:
    client.send(SETTINGS, 0, 0)
    client.wait(lambda got: got.kind == SETTINGS and got.flags & ACK)
    return client.open()


frames(
    "6.6 PUSH_PROMISE from a client",
    "connection",
    PROTOCOL_ERROR,
    send=headers(POST, ALL_H) + frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + GET),
)


@case("6.7 PING is answered with its bytes", "fine")
def _(client: Http2) -> int:
    client.ping(b"\0\1\2\3abcd")
    return client.open()


frames("6.7 acknowledged PING that nobody sent", "fine", send=frame(PING, ACK, 0, bytes(8)) + headers())
frames("6.7 PING of a stream", "connection", PROTOCOL_ERROR, send=frame(PING, 0, 1, bytes(8)))
frames("6.7 PING of another length", "connection", FRAME_SIZE_ERROR, send=frame(PING, 0, 0, bytes(6)))
frames("6.8 GOAWAY of a stream", "connection", PROTOCOL_ERROR, send=frame(GOAWAY, 0, 1, bytes(8)))
frames("6.8 GOAWAY of another length", "connection", FRAME_SIZE_ERROR, send=frame(GOAWAY, 0, 0, bytes(7)))


@case("6.8 GOAWAY with an unknown code: what is under way is finished", "last", handshake=True)
def _(client: Http2) -> int:
    stream = client.open()
    client.send(GOAWAY, 0, 0, struct.pack(">II", 0, 0xFF) + b"because")
    return stream


# --- 6.9, 6.10: WINDOW_UPDATE, CONTINUATION --------------------------------------------------------------------------

frames(
    "6.9 WINDOW_UPDATE of 0 on the connection", "connection", PROTOCOL_ERROR, send=frame(WINDOW_UPDATE, 0, 0, bytes(4))
)
frames(
    "6.9 WINDOW_UPDATE of 0 on a stream",
    "stream",
    PROTOCOL_ERROR,
    send=headers(POST, ALL_H) + frame(WINDOW_UPDATE, 0, 1, bytes(4)),
)
frames("6.9 WINDOW_UPDATE of another length", "connection", FRAME_SIZE_ERROR, send=frame(WINDOW_UPDATE, 0, 0, bytes(3)))
frames(
    "6.9.1 connection window above 2^31-1",
    "connection",
    FLOW_CONTROL_ERROR,
    send=frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
)
frames(
    "6.9.1 stream window above 2^31-1",
    "stream",
    FLOW_CONTROL_ERROR,
    send=headers(POST, ALL_H) + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff") * 2,
)
# RFC 9113 asks for the connection's end; the library ends the stream.
frames(
    "6.9.2 SETTINGS make a window larger than 2^31-1",
    "stream",
    FLOW_CONTROL_ERROR,
    send=headers(POST, ALL_H)
    + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\x00\x00")
    + frame(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 0x7FFFFFFF))),
)


@case("6.9.1 DATA within a window of one byte", "fine")
def _(client: Http2) -> int:
    client.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 1)))
    stream = client.open()
    first = client.wait(lambda got: got.kind == DATA)
    assert first.payload == b"h"
    return stream


@case("6.9.2 a window opened by SETTINGS", "fine")
def _(client: Http2) -> int:
    client.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 0)))
    stream = client.open()
    client.wait(lambda got: got.kind == HEADERS)
    client.ping()
    assert client.answers[stream].body == b""
    client.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 1)))
    assert client.wait(lambda got: got.kind == DATA).payload == b"h"
    return stream


@case("6.9.2 a window made negative by SETTINGS", "fine")
def _(client: Http2) -> int:
    client.open_windows = False
    client.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 3)))
    stream = client.open()
    client.wait(lambda got: got.kind == DATA)
    client.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 2)))
    client.window(stream, 1)  # -1 + 1 = 0
    client.ping()
    assert client.answers[stream].body == b"hel"
    client.window(stream, 3)
    return stream


frames(
    "6.10 CONTINUATION without HEADERS",
    "connection",
    PROTOCOL_ERROR,
    send=headers(POST, ALL_H) + frame(CONTINUATION, END_HEADERS, 1, GET),
)
frames(
    "6.10 CONTINUATION behind one with END_HEADERS",
    "connection",
    PROTOCOL_ERROR,
    send=headers(POST[:9], 0)
    + frame(CONTINUATION, END_HEADERS, 1, POST[9:])
    + frame(CONTINUATION, END_HEADERS, 1, b""),
)
frames(
    "6.10 CONTINUATION behind DATA",
    "connection",
    PROTOCOL_ERROR,
    send=headers(POST, ALL_H) + frame(DATA, 0, 1, b"x") + frame(CONTINUATION, END_HEADERS, 1, GET),
)
frames(
    "6.10 CONTINUATION without a stream",
    "connection",
    PROTOCOL_ERROR,
    send=headers(GET, END_STREAM) + frame(CONTINUATION, END_HEADERS, 0, b""),
)
frames(
    "6.10 CONTINUATION followed by DATA",
    "connection",
    PROTOCOL_ERROR,
    send=headers(GET, 0) + frame(CONTINUATION, 0, 1, b"") + frame(DATA, END_STREAM, 1, b"x"),
)
