# SPDX-License-Identifier: MIT
"""One link of the frame protocol seen from the worker, without any input or output.

Job: `receive_data()` turns bytes into events and enforces the rules of protocol/SPEC.md on what
the gateway sends; the `send_*` methods append frames to an outbound list that `data_to_send()`
hands over. It owns the table of open streams and their credit. It must not know sockets, event
loops, clocks or applications; a breach of a rule is a ProtocolError, after which only
`send_channel_error()` makes sense.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from .codec import (
    Certificates,
    HeadError,
    HelloAck,
    RequestDecoder,
    decode_conn,
    decode_hello_ack,
)
from .constants import (
    DATA_OVERHEAD,
    DEFAULT_MAX_FRAME,
    ERROR_BODY_ABORTED,
    ERROR_CLIENT_EOF,
    ERROR_CLIENT_GONE,
    ERROR_DRAINING,
    ERROR_FLOW_CONTROL,
    ERROR_FRAME_SIZE,
    ERROR_HEADER_INVALID,
    ERROR_PROTOCOL,
    ERROR_REFUSED,
    FLAG_DONE,
    FLAG_END_STREAM,
    FLAG_EXPECT,
    FLAG_INFORMATIONAL,
    FRAME_CHANNEL_ERROR,
    FRAME_CONN,
    FRAME_CONN_END,
    FRAME_DATA,
    FRAME_DISCONNECT,
    FRAME_DONE,
    FRAME_FILE_DONE,
    FRAME_GOAWAY,
    FRAME_HELLO,
    FRAME_HELLO_ACK,
    FRAME_PING,
    FRAME_PONG,
    FRAME_READY,
    FRAME_REFUSED,
    FRAME_REQUEST,
    FRAME_RESET,
    FRAME_RESPONSE,
    FRAME_STATS,
    FRAME_TRAILERS,
    FRAME_WINDOW,
    HEADER_SIZE,
    KIND_HTTP,
    MAX_CONNS,
    MAX_INLINE_BODY,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PROTOCOL_VERSION,
)
from .credit import grant_due, payload_room
from .events import (
    AckReceived,
    ChannelErrorReceived,
    CreditReceived,
    DataReceived,
    Disconnected,
    Event,
    FileDone,
    GoawayReceived,
    HeadInvalid,
    RequestReceived,
    StreamReset,
)
from .frames import ProtocolError, check_header, frame, pack_header, unpack_header_from
from .msgpack import packb
from .stream import SLICE, Buffer, Stream

# Slices above this are handed to the socket as they are instead of being copied behind a header.
LARGE_BODY = 4096
# data_to_send() hands over at most about this much DATA, so that control can still overtake it.
HANDOVER = 262144


class Session:
    """The state of one link."""

    def __init__(self, decoder: RequestDecoder) -> None:
        self.streams: dict[int, Stream] = {}
        self.conns: dict[int, Certificates] = {}
        self.ack: HelloAck | None = None
        self.last_id = 0
        self.dropped_frames = 0
        self.backlog = False  # receive_data() stopped at its limit; call it again with b""
        self.out_bytes = 0
        self._decode = decoder.decode
        self._out: list[Buffer] = []
        self._ring: deque[Stream] = deque()  # streams whose queue is not empty
        self._buffer = b""
        self._pos = 0
        self._window = 0
        self.max_frame = DEFAULT_MAX_FRAME  # max_frame: payloads are no longer, either way
        self._pong: int | None = None
        self._features: tuple[str, ...] = ()
        self._ready = False
        self._goaway_last_id: int | None = None
        self._peer_last_id: int | None = None
        self._top_id = 0  # no REQUEST may have a higher id now
        self._closed = False

    # Receiving

    def receive_data(self, data: bytes, limit: int = 1 << 30) -> list[Event]:
        """Take bytes and return what they mean, at most `limit` requests of it.

        Raises ProtocolError. What was decoded before the breach is lost with the link.
        """
        buffer = self._buffer
        pos = self._pos
        if data:
            buffer = buffer[pos:] + data if buffer else data
            pos = 0
        size = len(buffer)
        events: list[Event] = []
        self.backlog = False
        while pos + HEADER_SIZE <= size and not self._closed:
            length, kind, flags, code, stream_id, aux = unpack_header_from(buffer, pos)
            if length > self.max_frame:
                raise ProtocolError(ERROR_FRAME_SIZE, f"a payload of {length} bytes")
            begin = pos + HEADER_SIZE
            end = begin + length
            if end > size:
                self._judge(length, kind, flags, code, stream_id, aux)
                break
            if kind == FRAME_REQUEST:
                if limit <= 0:
                    self.backlog = True
                    break
                limit -= 1
                self._request(events, buffer[begin:end], flags, code, stream_id, aux)
            elif kind == FRAME_DATA:
                self._data(events, buffer[begin:end], flags, code, stream_id, aux)
            else:
                rule = check_header(length, kind, flags, code, stream_id, aux)
                if self.ack is None or rule is None or not stream_id:
                    payload = buffer[begin:end]
                    self._channel_frame(events, kind, rule is None, code, aux, payload)
                else:
                    self._stream_frame(events, kind, code, stream_id, aux)
            pos = end
        if pos == size:
            buffer = b""
            pos = 0
        self._buffer = buffer
        self._pos = pos
        return events

    def _judge(
        self, length: int, kind: int, flags: int, code: int, stream_id: int, aux: int
    ) -> None:
        """Judge a header whose payload is not complete, before more of it is waited for (R3)."""
        check_header(length, kind, flags, code, stream_id, aux)
        if kind == FRAME_REQUEST:
            self._check_request_id(stream_id)
        elif kind == FRAME_DATA:
            stream = self._find(stream_id, "DATA", count=False)
            if stream is not None:
                self._check_data(stream, length)

    def _check_request_id(self, stream_id: int) -> None:
        if not self._ready:
            raise ProtocolError(ERROR_PROTOCOL, "REQUEST before READY")
        if stream_id <= self.last_id or stream_id > MAX_STREAM_ID:
            raise ProtocolError(
                ERROR_PROTOCOL, f"REQUEST with id {stream_id} after id {self.last_id}"
            )
        if self._peer_last_id is not None and stream_id > self._peer_last_id:
            raise ProtocolError(ERROR_PROTOCOL, f"REQUEST {stream_id} above the gateway's GOAWAY")

    def _request(
        self, events: list[Event], payload: bytes, flags: int, code: int, stream_id: int, aux: int
    ) -> None:
        if flags & ~FLAG_END_STREAM or code or not payload:  # rare: judge it by the table
            check_header(len(payload), FRAME_REQUEST, flags, code, stream_id, aux)
        if not self.last_id < stream_id <= self._top_id:
            self._check_request_id(stream_id)
        self.last_id = stream_id
        body = b""
        window = 0 if flags & FLAG_EXPECT else self._window
        if aux:
            check_header(len(payload), FRAME_REQUEST, flags, code, stream_id, aux)
            body = payload[aux:]
            payload = payload[:aux]
            if body:
                window -= DATA_OVERHEAD + len(body)
                if len(body) > MAX_INLINE_BODY:
                    raise ProtocolError(ERROR_PROTOCOL, f"REQUEST {stream_id}: too much body")
        if self._goaway_last_id is not None and stream_id > self._goaway_last_id:
            return  # in flight while our GOAWAY was; the gateway places it elsewhere (R92)
        try:
            head = self._decode(payload)
            if head[0] != KIND_HTTP:  # R46: the feature is not offered
                raise HeadError("a WebSocket, which this worker does not offer")
        except HeadError as exc:
            self._send_frame(FRAME_RESET, FLAG_DONE, ERROR_HEADER_INVALID, stream_id)
            events.append(HeadInvalid(stream_id, str(exc)))
            return
        if head[11] and head[11][2] and head[11][2] not in self.conns:  # R104
            self._send_frame(FRAME_REFUSED, 0, ERROR_REFUSED, stream_id)
            return
        ended = flags & FLAG_END_STREAM != 0
        stream = self.streams[stream_id] = Stream(stream_id, self._window, window, ended)
        if flags & FLAG_EXPECT:
            stream.expect = True
        events.append(RequestReceived(stream, head, body, ended))

    def _check_data(self, stream: Stream, length: int) -> None:
        if stream.recv_ended:
            raise ProtocolError(ERROR_PROTOCOL, f"DATA after the end of request {stream.id}")
        if stream.recv_left < DATA_OVERHEAD + length:
            raise ProtocolError(ERROR_FLOW_CONTROL, f"DATA beyond the credit of {stream.id}")

    def _data(
        self, events: list[Event], payload: bytes, flags: int, code: int, stream_id: int, aux: int
    ) -> None:
        check_header(len(payload), FRAME_DATA, flags, code, stream_id, aux)
        stream = self._find(stream_id, "DATA")
        if stream is None:
            return
        self._check_data(stream, len(payload))
        stream.recv_left -= DATA_OVERHEAD + len(payload)
        stream.recv_ended = ended = flags & FLAG_END_STREAM != 0
        if stream.gone:
            self.dropped_frames += 1
            return
        events.append(DataReceived(stream, payload, ended))

    def _find(self, stream_id: int, name: str, count: bool = True) -> Stream | None:
        """Return an open stream, None for one whose frames are dropped (R20, R21, R92)."""
        stream = self.streams.get(stream_id)
        if stream is None:
            ours = self._goaway_last_id
            if stream_id > self.last_id and (ours is None or stream_id <= ours):
                raise ProtocolError(ERROR_PROTOCOL, f"{name} on id {stream_id}, never opened")
            self.dropped_frames += count
        return stream

    def _channel_frame(
        self, events: list[Event], kind: int, unknown: bool, code: int, aux: int, payload: bytes
    ) -> None:
        if kind == FRAME_CHANNEL_ERROR:
            self._closed = True
            events.append(ChannelErrorReceived(code, payload.decode("utf-8", "replace")))
        elif (kind == FRAME_HELLO_ACK) != (self.ack is None):
            raise ProtocolError(ERROR_PROTOCOL, f"frame type {kind} out of place in the handshake")
        elif kind == FRAME_HELLO_ACK:
            self._hello_ack(events, payload)
        elif unknown:
            self.dropped_frames += 1
        elif kind == FRAME_PING:
            self.dropped_frames += self._pong is not None
            self._pong = aux
        elif kind == FRAME_GOAWAY:
            if self._peer_last_id is not None and aux > self._peer_last_id:
                raise ProtocolError(ERROR_PROTOCOL, f"a later GOAWAY with the greater id {aux}")
            self._peer_last_id = aux
            self._top_id = min(self._top_id, aux)
            events.append(GoawayReceived(code, aux, payload.decode("utf-8", "replace")))
        elif kind == FRAME_CONN:
            self._conn(aux, payload)
        elif kind == FRAME_CONN_END:
            if self.conns.pop(aux, None) is None:
                raise ProtocolError(ERROR_PROTOCOL, f"CONN_END for {aux}, which is not open")
        else:  # a PONG that answers no PING (R76)
            self.dropped_frames += 1

    def _hello_ack(self, events: list[Event], payload: bytes) -> None:
        try:
            ack = decode_hello_ack(payload)
        except HeadError as exc:
            raise ProtocolError(ERROR_PROTOCOL, f"HELLO_ACK: {exc}") from exc
        if ack.proto != PROTOCOL_VERSION:
            raise ProtocolError(ERROR_PROTOCOL, f"HELLO_ACK chose version {ack.proto}")
        if not ack.features.issubset(self._features):
            raise ProtocolError(ERROR_PROTOCOL, "HELLO_ACK names a feature that was not offered")
        self.ack = ack
        self._window = ack.window
        self.max_frame = ack.max_frame
        events.append(AckReceived(ack))

    def _conn(self, conn_id: int, payload: bytes) -> None:
        if conn_id in self.conns:
            raise ProtocolError(ERROR_PROTOCOL, f"CONN {conn_id} is open already")
        if len(self.conns) >= MAX_CONNS:
            raise ProtocolError(ERROR_PROTOCOL, f"more than {MAX_CONNS} connections are open")
        try:
            self.conns[conn_id] = decode_conn(payload)
        except HeadError as exc:
            raise ProtocolError(ERROR_PROTOCOL, f"CONN {conn_id}: {exc}") from exc

    def _stream_frame(
        self, events: list[Event], kind: int, code: int, stream_id: int, aux: int
    ) -> None:
        stream = self._find(stream_id, f"frame type {kind}")
        if stream is None:
            return
        if kind == FRAME_WINDOW:
            if stream.send_ended or stream.gone:
                self.dropped_frames += 1
                return
            stream.send_credit += aux
            if stream.send_credit > MAX_WINDOW:
                raise ProtocolError(ERROR_FLOW_CONTROL, f"WINDOW overflow on {stream_id}")
            events.append(CreditReceived(stream))
        elif kind == FRAME_RESET:
            self._reset(events, stream, code)
        elif kind == FRAME_DISCONNECT:
            self._disconnect(events, stream, code)
        elif kind == FRAME_FILE_DONE:
            if not stream.file_pending:
                raise ProtocolError(ERROR_PROTOCOL, f"FILE_DONE without FILE on {stream_id}")
            stream.file_pending = False
            events.append(FileDone(stream))
        else:  # WS_MSG, WS_CLOSE: the feature is not offered (R28)
            raise ProtocolError(ERROR_PROTOCOL, f"frame type {kind} on an HTTP request")

    def _reset(self, events: list[Event], stream: Stream, code: int) -> None:
        if stream.gone or (code == ERROR_BODY_ABORTED and stream.recv_ended):
            self.dropped_frames += 1
            return
        stream.recv_ended = True
        if code != ERROR_BODY_ABORTED:
            self._gone(stream)
        events.append(StreamReset(stream, code))

    def _disconnect(self, events: list[Event], stream: Stream, code: int) -> None:
        if stream.gone or stream.disconnect == code:
            self.dropped_frames += 1
            return
        if code == ERROR_CLIENT_EOF and not stream.recv_ended:
            raise ProtocolError(ERROR_PROTOCOL, f"CLIENT_EOF inside the body of {stream.id}")
        stream.disconnect = code
        if code == ERROR_CLIENT_GONE:
            self._gone(stream)
        events.append(Disconnected(stream, code))

    def _gone(self, stream: Stream) -> None:
        """Drop what is queued: the gateway ended the stream (R60) and would throw it away."""
        stream.gone = True
        if stream.queue:
            self.out_bytes -= sum(len(head) + len(body) for head, body in stream.queue)
            stream.queue.clear()
            self._ring.remove(stream)

    # Sending

    def data_to_send(self) -> list[Buffer]:
        """Hand over what is to be written, control first, then slices of DATA in turn (R78).

        At most about HANDOVER bytes of DATA come at once; `wants_write` tells of the rest.
        """
        out = self._out
        if self._pong is not None:
            out.insert(0, frame(FRAME_PONG, aux=self._pong))
            self._pong = None
        self._out = []
        self.out_bytes = 0
        if self._ring:
            self._take_slices(out)
        return out

    def _take_slices(self, out: list[Buffer]) -> None:
        room = HANDOVER
        ring = self._ring
        while ring and room > 0:
            stream = ring.popleft()
            assert stream.queue is not None
            head, body = stream.queue.popleft()
            room -= len(head) + len(body)
            out.append(head)
            if body:
                out.append(body)
            if stream.queue:
                ring.append(stream)
        for stream in ring:
            assert stream.queue is not None
            self.out_bytes += sum(len(head) + len(body) for head, body in stream.queue)

    @property
    def wants_write(self) -> bool:
        """True while data_to_send() would return something."""
        return bool(self._out or self._ring) or self._pong is not None

    def _send_frame(
        self, kind: int, flags: int, code: int, stream_id: int, aux: int = 0, payload: bytes = b""
    ) -> None:
        self._out.append(pack_header(len(payload), kind, flags, code, stream_id, aux) + payload)
        self.out_bytes += HEADER_SIZE + len(payload)

    def _send_in_order(self, stream: Stream, head: Buffer, body: Buffer = b"") -> None:
        """Queue DATA, or a frame that must not overtake the DATA of its own stream."""
        self.out_bytes += len(head) + len(body)
        queue = stream.queue
        if queue is None:
            queue = stream.queue = deque()
        if not queue:
            self._ring.append(stream)
        queue.append((head, body))

    def _send_end(self, stream: Stream, kind: int, flags: int, code: int, payload: bytes) -> None:
        """Queue a control frame of a stream, behind its DATA if some waits."""
        data = pack_header(len(payload), kind, flags, code, stream.id, 0) + payload
        if stream.queue:
            self._send_in_order(stream, data)
        else:
            self._out.append(data)
            self.out_bytes += len(data)

    def send_hello(self, fields: Mapping[str, Any]) -> None:
        """Queue HELLO; nothing else may be sent before HELLO_ACK."""
        self._features = tuple(fields["features"])
        self._send_frame(FRAME_HELLO, 0, 0, 0, payload=packb(dict(fields)))

    def send_ready(self) -> None:
        """Queue READY: the application has started."""
        self._ready = True
        self._top_id = MAX_STREAM_ID
        if self._peer_last_id is not None:
            self._top_id = min(MAX_STREAM_ID, self._peer_last_id)
        self._send_frame(FRAME_READY, 0, 0, 0)

    def send_goaway(self, text: str) -> None:
        """Queue GOAWAY(DRAINING): requests that arrive from now on are dropped."""
        if self._goaway_last_id is None:
            self._goaway_last_id = self.last_id
            payload = cut_text(text, 1024)
            self._send_frame(FRAME_GOAWAY, 0, ERROR_DRAINING, 0, self.last_id, payload)

    @property
    def going_away(self) -> bool:
        """True once either side sent GOAWAY: who finds no open stream closes the link (R94)."""
        return self._goaway_last_id is not None or self._peer_last_id is not None

    def send_channel_error(self, code: int, text: str) -> None:
        """Queue the link's last frame; a long traceback is cut at its beginning (R41)."""
        payload = text.encode("utf-8", "replace")[-32768:].decode("utf-8", "ignore").encode()
        self._send_frame(FRAME_CHANNEL_ERROR, 0, code, 0, payload=payload)

    def send_stats(self, rss: int, in_flight: int, tasks: int) -> None:
        """Queue STATS; the caller keeps to one per second."""
        payload = packb({"rss": rss, "in_flight": in_flight, "tasks": tasks})
        self._send_frame(FRAME_STATS, 0, 0, 0, payload=payload)

    def body_room(self, stream: Stream, head: int = 0) -> int:
        """Return how many body bytes a frame may carry now, behind `head` bytes of head."""
        return payload_room(stream.send_credit, min(SLICE, self.max_frame - head))

    def send_response(
        self, stream: Stream, status: int, payload: bytes, body: Buffer, flags: int
    ) -> None:
        """Queue the final RESPONSE with first body bytes; the caller asked body_room()."""
        head_size = size = len(payload)
        if body:
            length = len(body)
            size += length
            stream.send_credit -= DATA_OVERHEAD + length
            head = pack_header(size, FRAME_RESPONSE, flags, status, stream.id, head_size)
            if length > LARGE_BODY:
                self._out += (head + payload, body)
            else:
                self._out.append(b"".join((head, payload, body)))
        else:
            head = pack_header(size, FRAME_RESPONSE, flags, status, stream.id, 0)
            self._out.append(head + payload)
        self.out_bytes += HEADER_SIZE + size
        if flags:
            stream.send_ended = True
            if flags & FLAG_DONE:
                del self.streams[stream.id]

    def send_informational(self, stream: Stream, status: int, payload: bytes) -> None:
        """Queue a 1xx RESPONSE; the caller counts them."""
        self._send_frame(FRAME_RESPONSE, FLAG_INFORMATIONAL, status, stream.id, payload=payload)

    def send_data(self, stream: Stream, body: Buffer, flags: int) -> None:
        """Queue DATA; the caller asked body_room(). Empty only with END_STREAM."""
        length = len(body)
        stream.send_credit -= DATA_OVERHEAD + length
        head = pack_header(length, FRAME_DATA, flags, 0, stream.id, 0)
        if length > LARGE_BODY:
            self._send_in_order(stream, head, body)
        else:
            self._send_in_order(stream, b"".join((head, body)))
        if flags:
            self._ended(stream, flags)

    def send_trailers(self, stream: Stream, payload: bytes, flags: int) -> None:
        """Queue TRAILERS, which end the response."""
        flags |= FLAG_END_STREAM
        self._send_end(stream, FRAME_TRAILERS, flags, 0, payload)
        self._ended(stream, flags)

    def send_reset(self, stream: Stream, code: int, done: bool) -> None:
        """Queue RESET, unless either side has ended the stream; with `done` also DONE."""
        if stream.send_ended or stream.gone:
            if done:
                self.send_done(stream)
            return
        flags = FLAG_DONE if done else 0
        self._send_end(stream, FRAME_RESET, flags, code, b"")
        self._ended(stream, FLAG_END_STREAM | flags)

    def send_refused(self, stream: Stream, code: int) -> None:
        """Queue REFUSED: no application code has run for this stream."""
        self._send_frame(FRAME_REFUSED, 0, code, stream.id)
        self._ended(stream, FLAG_END_STREAM | FLAG_DONE)

    def send_done(self, stream: Stream) -> None:
        """Queue DONE: the application has returned."""
        self._send_end(stream, FRAME_DONE, 0, 0, b"")
        self._ended(stream, FLAG_DONE)

    def _ended(self, stream: Stream, flags: int) -> None:
        if flags & FLAG_END_STREAM:
            stream.send_ended = True
        if flags & FLAG_DONE:
            self.streams.pop(stream.id, None)

    def consumed(self, stream: Stream, cost: int) -> bool:
        """Note that the application took `cost` of credit; True when WINDOW was queued (R70)."""
        stream.recv_used += cost
        if stream.recv_ended or stream.gone or stream.id not in self.streams:
            return False
        if not grant_due(self._window, stream.recv_left, stream.recv_used):
            return False
        self._send_window(stream, stream.recv_used)
        stream.recv_used = 0
        return True

    def open_window(self, stream: Stream) -> bool:
        """Grant the first window of a request with EXPECT (R68); True when it was queued."""
        stream.expect = False
        if stream.recv_ended or stream.gone or stream.id not in self.streams:
            return False
        self._send_window(stream, self._window)
        return True

    def _send_window(self, stream: Stream, increment: int) -> None:
        stream.recv_left += increment
        self._send_frame(FRAME_WINDOW, 0, 0, stream.id, increment)


def cut_text(text: str, limit: int) -> bytes:
    """Return text as UTF-8, cut at its end to `limit` bytes without splitting a character."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()
