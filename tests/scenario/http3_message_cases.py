# SPDX-License-Identifier: MIT
"""What an HTTP/3 client must not do, and what becomes of it (RFC 9114, RFC 9204, RFC 9218, RFC 9220): a table.

The 16 cases of h3spec's HTTP/3 and QPACK list are marked with their number (h1 to h16); the others are ours. Kinds:
"connection": it ends with one of the codes; "message": the stream is reset or the connection ends, with one of the
codes (the library beneath ends the connection where RFC 9114 4.1.2 would have the stream ended); "status": the request
is answered with one of the codes, or the connection ends with one; "fine": served with 200.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.http3 import (
    CANCEL_PUSH,
    CLOSED_CRITICAL_STREAM,
    CONTROL,
    DATA,
    DECODER,
    DECODER_STREAM_ERROR,
    DECOMPRESSION_FAILED,
    ENCODER,
    ENCODER_STREAM_ERROR,
    FRAME_ERROR,
    FRAME_UNEXPECTED,
    GENERAL_PROTOCOL_ERROR,
    GOAWAY,
    HEADERS,
    ID_ERROR,
    MAX_PUSH_ID,
    MESSAGE_ERROR,
    MISSING_SETTINGS,
    PRIORITY_UPDATE,
    PUSH,
    PUSH_PROMISE,
    QPACK_MAX_TABLE,
    REQUEST_INCOMPLETE,
    SETTINGS,
    SETTINGS_ERROR,
    STREAM_CREATION_ERROR,
    Fields,
    Http3,
    block,
    frame,
    request,
    settings,
)
from harness.quic import join

# Answers None for cases of the connection, else the stream that is judged.
Act = Callable[[Http3], int | None]


@dataclass
class Case:
    name: str
    kind: str
    codes: tuple[int, ...]
    act: Act
    options: dict[str, Any] = field(default_factory=dict)


CASES: list[Case] = []


def case(name: str, kind: str, *codes: int, **options: Any) -> Callable[[Act], Act]:
    def add(act: Act) -> Act:
        CASES.append(Case(name, kind, codes, act, options))
        return act

    return add


def stream(name: str, kind: str, *codes: int, send: bytes, end: bool = True) -> None:
    """Bytes on a request stream."""
    CASES.append(Case(name, kind, codes, lambda client: client.open_raw(send, end)))


def head(name: str, kind: str, *codes: int, fields: Any, end: bool = True) -> None:
    stream(name, kind, *codes, send=frame(HEADERS, block(fields)), end=end)


def control(name: str, *codes: int, send: bytes, first: bytes | None = None) -> None:
    """Bytes on the control stream, behind SETTINGS (or `first` in their place)."""

    def act(client: Http3) -> None:
        client.uni(ENCODER)
        client.uni(DECODER)
        opened = client.uni(CONTROL, settings() if first is None else first)
        client.raw(opened, send)
        client.flush()

    CASES.append(Case(name, "connection", codes, act, {"critical": False}))


def unidirectional(name: str, *codes: int, of: str, send: bytes, end: bool = False) -> None:
    """Bytes on the QPACK streams of an ordinary client."""

    def act(client: Http3) -> None:
        client.ready()
        client.raw(getattr(client, of), send, end)
        client.flush()

    CASES.append(Case(name, "connection", codes, act))


GET = request()
POST = request("/echo", "POST")
OK = frame(HEADERS, block(GET))


def without(name: str) -> Fields:
    return [pair for pair in GET if pair[0] != name]


# --- frames of request streams (RFC 9114 4.1, 7) ----------------------------------------------------------------------

stream("h1 DATA before HEADERS (4.1)", "connection", FRAME_UNEXPECTED, send=frame(DATA, b"x") + OK)
stream(
    "h12 CANCEL_PUSH on a request stream (7.2.3)", "connection", FRAME_UNEXPECTED, send=frame(CANCEL_PUSH, b"\0") + OK
)
for kind, name in ((SETTINGS, "SETTINGS"), (GOAWAY, "GOAWAY"), (MAX_PUSH_ID, "MAX_PUSH_ID")):
    stream(f"{name} on a request stream (7.2)", "connection", FRAME_UNEXPECTED, send=OK + frame(kind, b"\0"))
stream(
    "PUSH_PROMISE of a client (7.2.5)",
    "connection",
    FRAME_UNEXPECTED,
    send=OK + frame(PUSH_PROMISE, b"\0" + block(GET)),
)
for kind in (0x02, 0x06, 0x08, 0x09):
    stream(f"frame {kind} of HTTP/2 (7.2.8)", "connection", FRAME_UNEXPECTED, send=frame(kind, b"abcd") + OK)
stream(
    "HEADERS behind trailers (4.1)", "connection", FRAME_UNEXPECTED, send=OK + frame(HEADERS, block([("x-a", "b")])) * 2
)
stream(
    "DATA behind trailers (4.1)",
    "connection",
    FRAME_UNEXPECTED,
    send=OK + frame(HEADERS, block([("x-a", "b")])) + frame(DATA, b"x"),
)
stream("the end within a frame (7.1)", "connection", FRAME_ERROR, send=OK + join(DATA, 10, b"x"))
stream("the end before a head (4.1)", "message", REQUEST_INCOMPLETE, MESSAGE_ERROR, send=b"")
stream("an unknown frame first (9)", "fine", send=frame(0x21, b"grease") + OK)
stream("unknown frames everywhere (9)", "fine", send=OK + frame(0x1F * 7 + 0x21, b"") + frame(0x40, b"x" * 5000))
stream("empty DATA frames", "fine", send=OK + frame(DATA) * 20)

# --- heads (RFC 9114 4.2, 4.3) ----------------------------------------------------------------------------------------

head("h2 a pseudo-header field twice (4.3)", "message", MESSAGE_ERROR, fields=[*GET, (":method", "GET")])
head("h3 no :authority and no host (4.3.1)", "message", MESSAGE_ERROR, fields=without(":authority"))
head("h4 an unknown pseudo-header field (4.3)", "message", MESSAGE_ERROR, fields=[*GET, (":foo", "bar")])
head(
    "h5 a pseudo-header field behind a field (4.3)", "message", MESSAGE_ERROR, fields=[*GET[:3], ("foo", "bar"), GET[3]]
)
for name in (":method", ":scheme", ":path"):
    head(f"no {name} (4.3.1)", "message", MESSAGE_ERROR, fields=without(name))
head(":status in a request (4.3)", "message", MESSAGE_ERROR, fields=[*GET, (":status", "200")])
head("an empty :path (4.3.1)", "message", MESSAGE_ERROR, fields=[*without(":path"), (":path", "")])
head("upper case in a name (4.2)", "message", MESSAGE_ERROR, fields=[*GET, ("X-Upper", "a")])
for name, value in (
    ("connection", "close"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "close"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "websocket"),
    ("te", "gzip"),
):
    head(f"{name} (4.2)", "message", MESSAGE_ERROR, fields=[*GET, (name, value)])
head("te: trailers (4.2)", "fine", fields=[*GET, ("te", "trailers")])
head("host that is not :authority (4.3.1)", "status", 400, fields=[*GET, ("host", "other.example")])
head("host that is :authority (4.3.1)", "fine", fields=[*GET, ("host", "localhost")])
head("host without :authority (4.3.1)", "fine", fields=[*without(":authority"), ("host", "localhost")])
head(
    "two hosts",
    "status",
    400,
    MESSAGE_ERROR,
    fields=[*without(":authority"), ("host", "localhost"), ("host", "localhost")],
)
head("CONNECT (4.4)", "status", 405, 501, 400, fields=[(":method", "CONNECT"), (":authority", "localhost:443")])
head(
    "extended CONNECT to an unknown protocol (RFC 9220 3)",
    "status",
    501,
    400,
    fields=[*request("/", "CONNECT"), (":protocol", "made-up")],
    end=False,
)
head(
    "two content-lengths that differ",
    "message",
    MESSAGE_ERROR,
    fields=[*POST, ("content-length", "1"), ("content-length", "2")],
)
head("content-length that is no number", "message", MESSAGE_ERROR, fields=[*POST, ("content-length", "+1")])
stream(
    "less than content-length (4.1.2)",
    "message",
    MESSAGE_ERROR,
    send=frame(HEADERS, block([*POST, ("content-length", "10")])) + frame(DATA, b"short"),
)
stream(
    "more than content-length (4.1.2)",
    "message",
    MESSAGE_ERROR,
    send=frame(HEADERS, block([*POST, ("content-length", "2")])) + frame(DATA, b"long"),
)
stream(
    "content-length and no body (4.1.2)",
    "message",
    MESSAGE_ERROR,
    send=frame(HEADERS, block([*POST, ("content-length", "5")])),
)
stream(
    "pseudo-header field in trailers (4.3)",
    "message",
    MESSAGE_ERROR,
    send=frame(HEADERS, block(POST)) + frame(DATA, b"x") + frame(HEADERS, block([(":path", "/")])),
)
stream(
    "connection in trailers (4.2)",
    "message",
    MESSAGE_ERROR,
    send=frame(HEADERS, block(POST)) + frame(DATA, b"x") + frame(HEADERS, block([("connection", "close")])),
)
stream(
    "trailers",
    "fine",
    send=frame(HEADERS, block(POST)) + frame(DATA, b"x") + frame(HEADERS, block([("x-sum", "42")])),
)

# --- the control stream (RFC 9114 6.2.1, 7.2) -------------------------------------------------------------------------

control("h6 no SETTINGS first (6.2.1)", MISSING_SETTINGS, send=b"", first=frame(MAX_PUSH_ID, b"\x01"))
control("h7 DATA on the control stream (7.2.1)", FRAME_UNEXPECTED, send=frame(DATA))
control("h8 HEADERS on the control stream (7.2.2)", FRAME_UNEXPECTED, send=frame(HEADERS))
control("h9 a second SETTINGS frame (7.2.4)", FRAME_UNEXPECTED, send=settings())
control("h10 settings of HTTP/2 (7.2.4.1)", SETTINGS_ERROR, send=b"", first=settings((7, 100), (2, 200), (1, 4096)))
control(
    "h11 settings of HTTP/2 behind a reserved one (7.2.4.1)",
    SETTINGS_ERROR,
    send=b"",
    first=settings((0x21, 1), (3, 1)),
)
control("SETTINGS that end within a setting (7.1)", FRAME_ERROR, send=b"", first=frame(SETTINGS, b"\x07"))
control("PUSH_PROMISE on the control stream (7.2.5)", FRAME_UNEXPECTED, send=frame(PUSH_PROMISE, b"\0"))
control("a frame of HTTP/2 on the control stream (7.2.8)", FRAME_UNEXPECTED, send=frame(0x06, bytes(8)))
control("MAX_PUSH_ID that shrinks (7.2.7)", ID_ERROR, send=frame(MAX_PUSH_ID, b"\x05") + frame(MAX_PUSH_ID, b"\x02"))
control("GOAWAY that grows (5.2)", ID_ERROR, send=frame(GOAWAY, b"\x04") + frame(GOAWAY, b"\x08"))
control("CANCEL_PUSH of a push that never was (7.2.3)", ID_ERROR, send=frame(CANCEL_PUSH, b"\x05"))
control("PRIORITY_UPDATE of no request stream (RFC 9218 7.2)", ID_ERROR, send=frame(PRIORITY_UPDATE, join(3, b"u=1")))
control(
    "PRIORITY_UPDATE beyond the stream limit (RFC 9218 7.2)",
    ID_ERROR,
    send=frame(PRIORITY_UPDATE, join(1 << 20, b"u=1")),
)
control("PRIORITY_UPDATE that is cut short (RFC 9218 7.2)", FRAME_ERROR, send=frame(PRIORITY_UPDATE))


@case("h15 the control stream ends (6.2.1)", "connection", CLOSED_CRITICAL_STREAM)
def _(client: Http3) -> None:
    client.ready()
    client.raw(client.control, b"", True)
    client.flush()


@case("the control stream is reset (6.2.1)", "connection", CLOSED_CRITICAL_STREAM)
def _(client: Http3) -> None:
    client.ready()
    client.reset(client.control)


@case("a critical stream of the gateway is refused (6.2.1)", "connection", CLOSED_CRITICAL_STREAM)
def _(client: Http3) -> None:
    client.ready()
    client.inject(join(0x05, client.server_streams[CONTROL], 0))


unidirectional(
    "the encoder stream ends (RFC 9204 4.2)", CLOSED_CRITICAL_STREAM, of="encoder_stream", send=b"", end=True
)
unidirectional(
    "the decoder stream ends (RFC 9204 4.2)", CLOSED_CRITICAL_STREAM, of="decoder_stream", send=b"", end=True
)

# --- other streams (RFC 9114 6.2) -------------------------------------------------------------------------------------


def opened(name: str, kind: str, *codes: int, stream_kind: int, data: bytes = b"") -> None:
    """A stream of this type beside the control stream and the one of the encoder: there is credit for three."""

    def act(client: Http3) -> int | None:
        client.uni(CONTROL, settings())
        client.uni(DECODER if stream_kind == DECODER else ENCODER)
        client.uni(stream_kind, data)
        client.flush()
        client.ready()
        return client.open() if kind == "fine" else None

    CASES.append(Case(name, kind, codes, act, {"critical": False}))


opened("a second control stream (6.2.1)", "connection", STREAM_CREATION_ERROR, stream_kind=CONTROL, data=settings())
opened("a second encoder stream (RFC 9204 4.2)", "connection", STREAM_CREATION_ERROR, stream_kind=ENCODER)
opened("a second decoder stream (RFC 9204 4.2)", "connection", STREAM_CREATION_ERROR, stream_kind=DECODER)
opened("a push stream of a client (6.2.2)", "connection", STREAM_CREATION_ERROR, stream_kind=PUSH, data=b"\0")
opened("a stream of an unknown type (6.2.3)", "fine", stream_kind=0x21, data=b"grease" * 100)
opened("a stream of WebTransport", "fine", stream_kind=0x54, data=b"\0data")

# --- QPACK (RFC 9204) -------------------------------------------------------------------------------------------------


def instructions(name: str, *codes: int, send: bytes) -> None:
    """On the encoder stream of a client that has no encoder."""

    def act(client: Http3) -> None:
        client.uni(CONTROL, settings())
        client.uni(ENCODER, send)
        client.flush()

    CASES.append(Case(name, "connection", codes, act, {"critical": False}))


INDEXED_99 = b"\xff\x24"  # static, the table ends at 98


def section(name: str, *codes: int, send: bytes) -> None:
    stream(name, "connection", *codes, send=frame(HEADERS, send))


section("h13 a static index that is not there (3.1)", DECOMPRESSION_FAILED, send=block(GET) + INDEXED_99)
unidirectional(
    "h14 a capacity above the limit (4.3.1)",
    ENCODER_STREAM_ERROR,
    of="encoder_stream",
    send=b"\x3f\xe1\xc7\xaf\xa0\x25",
)
unidirectional("h16 an insert count increment of 0 (4.4.3)", DECODER_STREAM_ERROR, of="decoder_stream", send=b"\0")
unidirectional("an insert count increment of too much (4.4.3)", DECODER_STREAM_ERROR, of="decoder_stream", send=b"\x3e")
unidirectional("an acknowledgement of nothing (4.4.1)", DECODER_STREAM_ERROR, of="decoder_stream", send=b"\x84")
instructions("an insertion into a table of 0 bytes (3.2.3)", ENCODER_STREAM_ERROR, send=b"\x43abc\x01d")
instructions("a duplicate of nothing (4.3.4)", ENCODER_STREAM_ERROR, send=b"\x3f\xe1\x1f\x00")
instructions("a name that is not in the table (4.3.2)", ENCODER_STREAM_ERROR, send=b"\x3f\xe1\x1f\x85\x01d")
instructions("a static name that is not there (4.3.2)", ENCODER_STREAM_ERROR, send=b"\x3f\xe1\x1f\xff\x24\x01d")
instructions("an entry larger than the table (3.2.2)", ENCODER_STREAM_ERROR, send=b"\x3f\x01\x43abc\x01d")
section("a dynamic index that is not there (2.2.3)", DECOMPRESSION_FAILED, send=b"\0\0" + b"\x80" + block(GET)[2:])
section("a section that is cut short (2.2)", DECOMPRESSION_FAILED, send=block(GET)[:-1])
section("an empty section prefix (4.5.1)", DECOMPRESSION_FAILED, send=b"\0")
section("Huffman that does not end (RFC 7541 5.2)", DECOMPRESSION_FAILED, send=block(GET) + b"\x29a" + b"\x81\0")
section("a number that does not fit (4.1.1)", DECOMPRESSION_FAILED, send=b"\0\0\xff" + b"\xff" * 10 + b"\x7f")


@case("QPACK's dynamic table (3.2)", "fine", own_settings=((QPACK_MAX_TABLE, 4096), (7, 16)))
def _(client: Http3) -> int:
    client.ready()
    for _ in range(5):
        answer = client.get("/scope", ("x-repeated", "value" * 40), ("cookie", "session=" + "a" * 64))
        assert answer.status == 200 and b"valuevalue" in answer.body
    return client.open()


@case("a section that waits for the encoder stream (2.1.2)", "fine")
def _(client: Http3) -> int:
    """The instructions come behind the section that needs them."""
    client.ready()
    client.own_encoder = False
    stream = client.new_stream()
    # capacity 4096; insert x-late: yes (literal name)
    instructions = b"\x3f\xe1\x1f" + b"\x46x-late" + b"\x03yes"
    # required insert count 1 (encoded 2), base 1; indexed dynamic 0
    client.frame(stream, HEADERS, b"\x02\x00" + block(GET)[2:] + b"\x80", True)
    client.ping()
    assert not client.answers[stream].over, "it was answered without its fields"
    client.raw(client.encoder_stream, instructions)
    client.flush()
    return stream


@case("a never indexed field", "fine")
def _(client: Http3) -> int:
    return client.open_raw(frame(HEADERS, block(GET) + b"\x33x-a\x01b"))


@case("a request that is not HTTP/3 at all", "connection", FRAME_UNEXPECTED, FRAME_ERROR, GENERAL_PROTOCOL_ERROR)
def _(client: Http3) -> int:
    return client.open_raw(b"\x02GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
