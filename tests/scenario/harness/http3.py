# SPDX-License-Identifier: MIT
"""A raw HTTP/3 client on QUIC: the test says every frame, and sees every frame (RFC 9114 7, RFC 9204)."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pylsqpack
from aioquic.buffer import Buffer, BufferReadError
from aioquic.quic import events

from .http2 import Fields
from .quic import Address, Options, Quic, join

DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0, 1, 3, 4, 5, 7, 0xD
PRIORITY_UPDATE = 0xF0700
CONTROL, PUSH, ENCODER, DECODER = range(4)  # types of unidirectional streams
QPACK_MAX_TABLE, MAX_FIELD_SECTION, QPACK_BLOCKED, ENABLE_CONNECT_PROTOCOL = 1, 6, 7, 8
H3_NO_ERROR, GENERAL_PROTOCOL_ERROR, INTERNAL_ERROR, STREAM_CREATION_ERROR, CLOSED_CRITICAL_STREAM = range(0x100, 0x105)
FRAME_UNEXPECTED, FRAME_ERROR, EXCESSIVE_LOAD, ID_ERROR, SETTINGS_ERROR, MISSING_SETTINGS = range(0x105, 0x10B)
REQUEST_REJECTED, REQUEST_CANCELLED, REQUEST_INCOMPLETE, MESSAGE_ERROR, CONNECT_ERROR = range(0x10B, 0x110)
DECOMPRESSION_FAILED, ENCODER_STREAM_ERROR, DECODER_STREAM_ERROR = range(0x200, 0x203)
OWN_SETTINGS = ((QPACK_MAX_TABLE, 4096), (QPACK_BLOCKED, 16), (0x21, 7))  # 0x21: of those that mean nothing


def frame(kind: int, payload: bytes = b"") -> bytes:
    return join(kind, len(payload), payload)


def settings(*entries: tuple[int, int]) -> bytes:
    return frame(SETTINGS, b"".join(join(key, value) for key, value in entries))


def integer(value: int, bits: int, first: int) -> bytes:
    """RFC 9204 4.1.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def literal(name: str | bytes, value: str | bytes) -> bytes:
    """A literal field line with a literal name, no Huffman (RFC 9204 4.5.6)."""
    name = name.encode("latin-1") if isinstance(name, str) else name
    value = value.encode("latin-1") if isinstance(value, str) else value
    return integer(len(name), 3, 0x20) + name + integer(len(value), 7, 0) + value


def block(fields: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """A field section that needs no table."""
    return b"\0\0" + b"".join(literal(name, value) for name, value in fields)


def request(target: str = "/", method: str = "GET", *more: tuple[str, str], host: str = "localhost") -> Fields:
    return [(":method", method), (":scheme", "https"), (":authority", host), (":path", target), *more]


@dataclass
class Answer:
    """What a request stream gave."""

    status: int = 0
    fields: Fields = field(default_factory=list)
    body: bytes | bytearray = field(default_factory=bytearray)
    trailers: Fields = field(default_factory=list)
    informational: list[tuple[int, Fields]] = field(default_factory=list)
    unknown: list[tuple[int, bytes]] = field(default_factory=list)  # frames of other types
    reset: int | None = None  # the code of RESET_STREAM
    stopped: int | None = None  # the code of STOP_SENDING
    ended: bool = False
    received: int = 0  # bytes of the body
    keep: bool = True  # False: the body is only counted and hashed
    sha256: Any = field(default_factory=hashlib.sha256)

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)

    def add(self, data: bytes) -> None:
        self.received += len(data)
        self.sha256.update(data)
        if self.keep:
            self.body += data

    def __str__(self) -> str:
        return f"status {self.status}, {self.received} bytes, ended {self.ended}, reset {self.reset}, {self.fields}"


@dataclass
class Reading:
    """The receiving side of a stream."""

    kind: int | None = None  # of a unidirectional stream
    buffer: bytearray = field(default_factory=bytearray)
    left: int = 0  # bytes of the DATA frame that are still to come
    blocked: bool = False  # its field section waits for the encoder
    end: bool = False
    frames: int = 0


class Http3(Quic):
    """One connection. Unless told otherwise it opens its control and QPACK streams at once."""

    def __init__(
        self,
        address: Address,
        options: Options | None = None,
        *,
        critical: bool = True,
        own_settings: tuple[tuple[int, int], ...] = OWN_SETTINGS,
        connect: bool = True,
        establish: bool = True,
        **changed: Any,
    ):
        self.answers: dict[int, Answer] = {}
        self.reading: dict[int, Reading] = {}
        self.server_settings: dict[int, int] | None = None
        self.goaways: list[int] = []
        self.priority_frames: list[bytes] = []
        self.server_streams: dict[int, int] = {}  # stream id of each type
        self.on_body: Callable[[int, bytes], None] | None = None
        self.own_settings = own_settings
        self.critical = critical
        self.control = self.encoder_stream = self.decoder_stream = -1
        self.encoder = pylsqpack.Encoder()
        self.own_encoder = True  # False: the test writes to the encoder stream itself
        self.decoder = pylsqpack.Decoder(
            dict(own_settings).get(QPACK_MAX_TABLE, 0), dict(own_settings).get(QPACK_BLOCKED, 0)
        )
        super().__init__(address, options, connect=connect, **changed)
        if connect and establish:
            self.establish()

    def __enter__(self) -> "Http3":
        return self

    def connect(self) -> None:
        super().connect()
        if self.critical:
            self.control = self.uni(CONTROL, settings(*self.own_settings))
            self.encoder_stream = self.uni(ENCODER)
            self.decoder_stream = self.uni(DECODER)

    # --- out ----------------------------------------------------------------------------------------------------------

    def uni(self, kind: int, data: bytes = b"", end: bool = False) -> int:
        """Opens a unidirectional stream of this type."""
        stream: int = self.quic.get_next_available_stream_id(is_unidirectional=True)
        self.quic.send_stream_data(stream, join(kind, data), end)
        return stream

    def raw(self, stream: int, data: bytes, end: bool = False) -> None:
        """Any bytes on a stream; they go out with the next pump."""
        self.quic.send_stream_data(stream, data, end)

    def frame(self, stream: int, kind: int, payload: bytes = b"", end: bool = False) -> None:
        self.raw(stream, frame(kind, payload), end)

    def new_stream(self) -> int:
        stream: int = self.quic.get_next_available_stream_id()
        self.answers[stream] = Answer()
        return stream

    def encode(self, stream: int, fields: Fields) -> bytes:
        """A field section by the QPACK encoder; its instructions go out before it."""
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        instructions, section = self.encoder.encode(stream, pairs)
        if instructions:
            self.raw(self.encoder_stream, instructions)
        return bytes(section)

    def open(self, fields: Fields | None = None, end: bool = True, *, plain: bool = False) -> int:
        """Sends a request's head; `plain` encodes without the QPACK encoder. Returns its stream."""
        stream = self.new_stream()
        fields = request() if fields is None else fields
        section = block(fields) if plain or not self.critical else self.encode(stream, fields)
        self.frame(stream, HEADERS, section, end)
        self.flush()
        return stream

    def open_raw(self, data: bytes, end: bool = True) -> int:
        """A request stream with these bytes."""
        stream = self.new_stream()
        self.raw(stream, data, end)
        self.flush()
        return stream

    def data(self, stream: int, data: bytes, end: bool = False) -> None:
        self.frame(stream, DATA, data, end)
        self.flush()

    def trailers(self, stream: int, fields: Fields) -> None:
        self.frame(stream, HEADERS, self.encode(stream, fields), True)
        self.flush()

    def reset(self, stream: int, code: int = REQUEST_CANCELLED) -> None:
        """RESET_STREAM, unless the library has answered STOP_SENDING with it."""
        sender = self.quic._streams[stream].sender if stream in self.quic._streams else None
        if sender is not None and sender._reset_error_code is None:
            self.quic.reset_stream(stream, code)
        self.flush()

    def stop(self, stream: int, code: int = REQUEST_CANCELLED) -> None:
        """STOP_SENDING. (The library forgets a stream that has ended; then there is nothing to stop.)"""
        if stream in self.quic._streams:
            self.quic.stop_stream(stream, code)
        self.flush()

    def cancel(self, stream: int) -> None:
        """Both: what a browser does with a request that it does not want any more."""
        self.reset(stream)
        self.stop(stream)

    def prioritize(self, stream: int, value: str) -> None:
        """PRIORITY_UPDATE (RFC 9218 7.2)."""
        self.frame(self.control, PRIORITY_UPDATE, join(stream, value.encode()))
        self.flush()

    def hold(self, *streams: int, connection: bool = False) -> None:
        """From now on these streams (the whole connection) get no more credit: a reader that has stopped reading."""
        quic: Any = self.quic
        stream_limits, limits = quic._write_stream_limits, quic._write_connection_limits

        def for_streams(builder: Any, space: Any, stream: Any) -> None:
            if stream.stream_id not in streams:
                stream_limits(builder=builder, space=space, stream=stream)

        def for_connection(builder: Any, space: Any) -> None:
            if not connection:
                limits(builder=builder, space=space)

        quic._write_stream_limits, quic._write_connection_limits = for_streams, for_connection
        self._unhold = (stream_limits, limits)

    def go_on(self) -> None:
        """Takes hold() back."""
        self.quic._write_stream_limits, self.quic._write_connection_limits = self._unhold

    # --- in -----------------------------------------------------------------------------------------------------------

    def on_event(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamReset):
            self.answers.setdefault(event.stream_id, Answer()).reset = event.error_code
        elif isinstance(event, events.StopSendingReceived):
            self.answers.setdefault(event.stream_id, Answer()).stopped = event.error_code
        elif isinstance(event, events.StreamDataReceived):
            reading = self.reading.setdefault(event.stream_id, Reading())
            reading.buffer += event.data
            reading.end = reading.end or event.end_stream
            if event.stream_id % 4 == 3:
                self._unidirectional(event.stream_id, reading)
            else:
                assert event.stream_id % 4 == 0, "the gateway opened a bidirectional stream"
                self._request(event.stream_id, reading)

    def _unidirectional(self, stream: int, reading: Reading) -> None:
        if reading.kind is None:
            buf = Buffer(data=bytes(reading.buffer))
            try:
                reading.kind = buf.pull_uint_var()
            except BufferReadError:
                return
            del reading.buffer[: buf.tell()]
            assert reading.kind != PUSH, "the gateway must not push"
            if reading.kind <= DECODER:
                assert reading.kind not in self.server_streams, "a second critical stream of one type"
                self.server_streams[reading.kind] = stream
        assert reading.kind > DECODER or not reading.end, "the gateway ended a critical stream"
        if reading.kind == CONTROL:
            while (got := self._whole_frame(reading)) is not None:
                self._control(reading, *got)
        elif reading.kind == ENCODER and reading.buffer:
            instructions, reading.buffer = bytes(reading.buffer), bytearray()
            for unblocked in self.decoder.feed_encoder(instructions):
                self.reading[unblocked].blocked = False
                acknowledged, pairs = self.decoder.resume_header(unblocked)
                self.raw(self.decoder_stream, acknowledged)
                self._head(unblocked, pairs)
                self._request(unblocked, self.reading[unblocked])
        elif reading.kind == DECODER and reading.buffer:
            if self.own_encoder:
                self.encoder.feed_decoder(bytes(reading.buffer))
            reading.buffer.clear()
        else:
            reading.buffer.clear()

    @staticmethod
    def _whole_frame(reading: Reading) -> tuple[int, bytes] | None:
        buf = Buffer(data=bytes(reading.buffer))
        try:
            kind, length = buf.pull_uint_var(), buf.pull_uint_var()
            payload = buf.pull_bytes(length)
        except BufferReadError:
            return None
        del reading.buffer[: buf.tell()]
        return kind, payload

    def _control(self, reading: Reading, kind: int, payload: bytes) -> None:
        reading.frames += 1
        assert (kind == SETTINGS) == (reading.frames == 1), "SETTINGS come first, and once"
        assert kind not in (DATA, HEADERS, PUSH_PROMISE, MAX_PUSH_ID, 2, 6, 8, 9), f"frame {kind} on the control stream"
        buf = Buffer(data=payload)
        if kind == SETTINGS:
            self.server_settings = {}
            while not buf.eof():
                key, value = buf.pull_uint_var(), buf.pull_uint_var()
                assert key not in (0, 2, 3, 4, 5) and key not in self.server_settings, f"setting {key}"
                self.server_settings[key] = value
            table, blocked = (self.server_settings.get(key, 0) for key in (QPACK_MAX_TABLE, QPACK_BLOCKED))
            if self.critical:
                self.raw(self.encoder_stream, self.encoder.apply_settings(table, blocked))
        elif kind == GOAWAY:
            self.goaways.append(buf.pull_uint_var())
        else:
            self.priority_frames.append(payload)

    def _request(self, stream: int, reading: Reading) -> None:
        """Takes frames apart; DATA need not be whole."""
        answer = self.answers.setdefault(stream, Answer())
        while not reading.blocked:
            if reading.left:
                piece = bytes(reading.buffer[: reading.left])
                if not piece:
                    break
                del reading.buffer[: len(piece)]
                reading.left -= len(piece)
                answer.add(piece)
                if self.on_body:
                    self.on_body(stream, piece)
                continue
            buf = Buffer(data=bytes(reading.buffer[:16]))
            try:
                kind, length = buf.pull_uint_var(), buf.pull_uint_var()
            except BufferReadError:
                break
            if kind == DATA:
                assert answer.status, "DATA before the final head"
                del reading.buffer[: buf.tell()]
                reading.left = length
                continue
            if len(reading.buffer) < buf.tell() + length:
                break
            payload = bytes(reading.buffer[buf.tell() : buf.tell() + length])
            del reading.buffer[: buf.tell() + length]
            if kind == HEADERS:
                self._section(stream, reading, payload)
            else:
                assert kind not in (2, 3, 4, 5, 6, 7, 8, 9, 0xD), f"frame {kind} on a request stream"
                answer.unknown.append((kind, payload))
        if reading.end and not reading.blocked:
            assert not reading.buffer and not reading.left, "the stream ended within a frame"
            answer.ended = True

    def _section(self, stream: int, reading: Reading, payload: bytes) -> None:
        try:
            acknowledged, pairs = self.decoder.feed_header(stream, payload)
        except pylsqpack.StreamBlocked:
            reading.blocked = True
            return
        if acknowledged and self.decoder_stream >= 0:
            self.raw(self.decoder_stream, acknowledged)
        self._head(stream, pairs)

    def _head(self, stream: int, pairs: list[tuple[bytes, bytes]]) -> None:
        answer = self.answers.setdefault(stream, Answer())
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
        assert all(name == name.lower() for name, _ in fields), fields
        plain = [pair for pair in fields if not pair[0].startswith(":")]
        banned = {"connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"}
        assert not banned & {name for name, _ in plain}, fields
        pseudo = [pair for pair in fields if pair[0].startswith(":")]
        assert fields[: len(pseudo)] == pseudo, "pseudo-header fields come first"
        if answer.status:
            assert not pseudo, "trailers have no pseudo-header fields"
            answer.trailers = plain
            return
        assert [name for name, _ in pseudo] == [":status"], fields
        status = int(pseudo[0][1])
        if status < 200:
            assert status != 101, "HTTP/3 has no 101"
            answer.informational.append((status, plain))
        else:
            answer.status, answer.fields = status, plain

    # --- both ---------------------------------------------------------------------------------------------------------

    def ready(self) -> "Http3":
        """Until the gateway's SETTINGS are there."""
        self.pump(lambda: self.server_settings is not None, "SETTINGS")
        return self

    def answer(self, stream: int, timeout: float | None = None) -> Answer:
        """The stream's answer, once it has ended or was reset."""
        mine = self.answers.setdefault(stream, Answer())
        self.pump(lambda: mine.over, f"the answer on stream {stream} ({mine})", timeout)
        return mine

    def head(self, stream: int, timeout: float | None = None) -> Answer:
        """The same once its final head is there."""
        mine = self.answers.setdefault(stream, Answer())
        self.pump(lambda: mine.status or mine.over, f"the head on stream {stream}", timeout)
        return mine

    def get(self, target: str = "/", *more: tuple[str, str], method: str = "GET") -> Answer:
        return self.answer(self.open(request(target, method, *more)))

    def post(self, target: str, body: bytes, *more: tuple[str, str], method: str = "POST") -> Answer:
        length = ("content-length", str(len(body)))
        stream = self.open(request(target, method, length, *more), end=not body)
        if body:
            self.data(stream, body, True)
        return self.answer(stream)

    def expect_goaway(self, count: int = 1) -> int:
        """The id of the last GOAWAY, once so many have come."""
        self.pump(lambda: len(self.goaways) >= count, f"GOAWAY number {count}")
        return self.goaways[-1]
