# SPDX-License-Identifier: MIT
"""A raw HTTP/2 client: the test says every frame, and sees every frame (RFC 9113 4.1)."""

import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from hpack import Decoder  # type: ignore[import-untyped]
from hpack.huffman import HuffmanEncoder  # type: ignore[import-untyped]
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH  # type: ignore[import-untyped]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 0x10
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST = range(
    1, 7
)
ENABLE_CONNECT_PROTOCOL = 8

Fields = list[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def string(text: str | bytes, *, huffman: bool = False) -> bytes:
    """RFC 7541 5.2."""
    data: bytes = text.encode() if isinstance(text, str) else text
    if huffman:
        data = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(data)
    return integer(len(data), 7, 0x80 if huffman else 0) + data


def literal(name: str | bytes, value: str | bytes, first: int = 0x00, *, huffman: bool = False) -> bytes:
    """A literal field with a new name (RFC 7541 6.2): 0x00 not indexed, 0x40 indexed, 0x10 never."""
    return bytes([first]) + string(name, huffman=huffman) + string(value, huffman=huffman)


def block(fields: Fields) -> bytes:
    return b"".join(literal(name, value) for name, value in fields)


def request(target: str = "/", method: str = "GET", *more: tuple[str, str], host: str = "localhost") -> Fields:
    return [(":method", method), (":scheme", "http"), (":authority", host), (":path", target), *more]


def settings(*entries: tuple[int, int]) -> bytes:
    return b"".join(struct.pack(">HI", key, value) for key, value in entries)


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: Fields = field(default_factory=list)

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        return int(struct.unpack_from(">I", self.payload, at)[0])

    @property
    def last_stream(self) -> int:
        return int(struct.unpack_from(">I", self.payload)[0]) & 0x7FFFFFFF

    @property
    def ends(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)


@dataclass
class Answer:
    """What a stream gave."""

    status: int = 0
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    informational: list[tuple[int, Fields]] = field(default_factory=list)
    reset: int | None = None
    ended: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)


class Ended(AssertionError):
    """The connection has ended: by a GOAWAY with this code, or (None) without one."""

    def __init__(self, code: int | None):
        super().__init__(f"the connection ended, GOAWAY code {code}")
        self.code = code


class Http2:
    """One connection. Unless told otherwise it begins with preface and SETTINGS, and opens windows as DATA comes."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext | None = None,
        *,
        handshake: bool = True,
        entries: tuple[tuple[int, int], ...] = (),
        receive_buffer: int | None = None,
        timeout: float = 20.0,
    ):
        plain = socket.socket()
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(timeout)
        plain.connect(address)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        self.timeout = timeout
        self.buffer = b""
        self.decoder = Decoder(max_header_list_size=1 << 20)
        self.answers: dict[int, Answer] = {}
        self.server_settings: dict[int, int] = {}
        self.granted: dict[int, int] = {}  # by WINDOW_UPDATE; 0: the connection
        self.spent: dict[int, int] = {}  # payload of DATA that was sent
        self.next_stream = 1
        self.goaways: list[Frame] = []
        self.open_windows = True
        self.closed = False
        if handshake:
            self.raw(PREFACE + frame(SETTINGS, 0, 0, settings(*entries)))
            self.wait(lambda got: got.kind == SETTINGS and not got.flags & ACK)

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # --- out ------------------------------------------------------------------------------------------------------

    def raw(self, data: bytes) -> None:
        """Sends what the gateway takes: it may have ended the connection before the end."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.raw(frame(kind, flags, stream, payload))

    def open(self, fields: Fields | None = None, end: bool = True, *, flags: int = END_HEADERS) -> int:
        """Opens a stream with a request and returns its id."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        payload = block(fields if fields is not None else request())
        self.send(HEADERS, flags | (END_STREAM if end else 0), stream, payload)
        return stream

    def data(self, stream: int, payload: bytes = b"", end: bool = False) -> None:
        for at in (0, stream):
            self.spent[at] = self.spent.get(at, 0) + len(payload)
        self.send(DATA, END_STREAM if end else 0, stream, payload)

    def room(self, stream: int) -> int:
        """How many bytes of DATA both windows allow now."""
        initial = self.server_settings.get(INITIAL_WINDOW_SIZE, 65535)
        windows = {0: 65535, stream: initial}
        return min(window + self.granted.get(at, 0) - self.spent.get(at, 0) for at, window in windows.items())

    def patient_data(self, stream: int, payload: bytes) -> None:
        """Sends as windows allow, in frames of 16 KiB at most, until the other side has ended the stream."""
        answer = self.answers.setdefault(stream, Answer())
        while payload and not answer.ended and answer.reset is None:
            if (room := self.room(stream)) <= 0:
                self.next()
                continue
            part = payload[: min(room, 16384)]
            self.data(stream, part)
            payload = payload[len(part) :]

    def reset(self, stream: int, code: int = CANCEL) -> None:
        self.send(RST_STREAM, 0, stream, struct.pack(">I", code))

    def window(self, stream: int, increment: int) -> None:
        self.send(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))

    # --- in -------------------------------------------------------------------------------------------------------

    def receive(self, deadline: float) -> None:
        """Reads more bytes, or finds the end."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise AssertionError(f"nothing came in time; answers so far {self.answers}")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise AssertionError(f"nothing came in time; answers so far {self.answers}") from None
        except (ConnectionResetError, ssl.SSLError, OSError):
            data = b""
        if not data:
            self.closed = True
            raise Ended(self.goaways[-1].code if self.goaways else None)
        self.buffer += data

    def next(self, timeout: float | None = None) -> Frame:
        """The next frame."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while len(self.buffer) < 9:
            self.receive(deadline)
        length = int.from_bytes(self.buffer[:3], "big")
        while len(self.buffer) < 9 + length:
            self.receive(deadline)
        kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
        got = Frame(kind, flags, stream & 0x7FFFFFFF, self.buffer[9 : 9 + length])
        self.buffer = self.buffer[9 + length :]
        self.note(got)
        return got

    def note(self, got: Frame) -> None:
        """Keeps count of what came."""
        if got.kind == HEADERS:
            assert got.flags & END_HEADERS, "the tests' answers fit into one frame"
            pairs: Any = self.decoder.decode(got.payload)
            got.fields = [(str(name), str(value)) for name, value in pairs]
            self.note_headers(got)
        elif got.kind == DATA:
            self.answers.setdefault(got.stream, Answer()).body += got.payload
            if self.open_windows and got.payload:
                self.window(0, len(got.payload))
                self.window(got.stream, len(got.payload))
        elif got.kind == RST_STREAM:
            self.answers.setdefault(got.stream, Answer()).reset = got.code
        elif got.kind == GOAWAY:
            self.goaways.append(got)
        elif got.kind == WINDOW_UPDATE:
            self.granted[got.stream] = self.granted.get(got.stream, 0) + int.from_bytes(got.payload, "big")
        elif got.kind == SETTINGS and not got.flags & ACK:
            for at in range(0, len(got.payload), 6):
                key, value = struct.unpack_from(">HI", got.payload, at)
                self.server_settings[key] = value
            self.send(SETTINGS, ACK, 0)
        elif got.kind == PING and not got.flags & ACK:
            self.send(PING, ACK, 0, got.payload)
        if got.ends:
            self.answers.setdefault(got.stream, Answer()).ended = True

    def note_headers(self, got: Frame) -> None:
        answer = self.answers.setdefault(got.stream, Answer())
        plain = [(name, value) for name, value in got.fields if not name.startswith(":")]
        status = int(dict(got.fields).get(":status", "0"))
        if 0 < status < 200:
            answer.informational.append((status, plain))
        elif status:
            answer.status, answer.fields = status, plain
        else:
            answer.trailers = plain

    def wait(self, wanted: Any, timeout: float | None = None) -> Frame:
        """Reads until a frame for which `wanted` is true."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            got = self.next(max(deadline - time.monotonic(), 0.001))
            if wanted(got):
                return got

    def answer(self, stream: int, timeout: float | None = None) -> Answer:
        """The stream's answer, once it has ended or was reset."""
        mine = self.answers.setdefault(stream, Answer())
        deadline = time.monotonic() + (timeout or self.timeout)
        while not mine.ended and mine.reset is None:
            self.next(max(deadline - time.monotonic(), 0.001))
        return mine

    def get(self, target: str = "/", *more: tuple[str, str]) -> Answer:
        return self.answer(self.open(request(target, "GET", *more)))

    def ping(self, opaque: bytes = b"12345678") -> None:
        """A round trip: everything sent before was seen, and what came of it has come."""
        self.send(PING, 0, 0, opaque)
        self.wait(lambda got: got.kind == PING and got.flags & ACK and got.payload == opaque)

    def end(self, timeout: float | None = None) -> int | None:
        """Reads until the connection has ended; the code of its GOAWAY, None without one."""
        deadline = time.monotonic() + (timeout or self.timeout)
        try:
            while True:
                self.next(max(deadline - time.monotonic(), 0.001))
        except Ended as ended:
            return ended.code

    def silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing comes for a moment. Only to let the other side go on: no test may depend on it."""
        return not self.buffer and not select.select([self.socket], [], [], seconds)[0]
