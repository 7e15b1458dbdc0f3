# SPDX-License-Identifier: MIT
"""One link of the frame protocol seen from the worker, without any input or output.

Job: `receive_data()` turns bytes into events and enforces the rules of protocol/SPEC.md on what
the gateway sends; what the worker sends is in outbound.py. It must not know sockets, event loops,
clocks or applications; a breach of a rule is a ProtocolError, after which only
`send_channel_error()` makes sense.
"""

from __future__ import annotations

from .codec import (
    Certificates,
    HeadError,
    HelloAck,
    RequestDecoder,
    RequestHead,
    decode_conn,
    decode_hello_ack,
)
from .constants import (
    DATA_OVERHEAD,
    ERROR_BODY_ABORTED,
    ERROR_CLIENT_EOF,
    ERROR_CLIENT_GONE,
    ERROR_FLOW_CONTROL,
    ERROR_FRAME_SIZE,
    ERROR_HEADER_INVALID,
    ERROR_PROTOCOL,
    ERROR_RECONNECT,
    ERROR_REFUSED,
    FEATURE_WEBSOCKET,
    FLAG_DONE,
    FLAG_END_STREAM,
    FLAG_EXPECT,
    FLAG_MORE,
    FLAG_TEXT,
    FRAME_CHANNEL_ERROR,
    FRAME_CONN,
    FRAME_CONN_END,
    FRAME_DATA,
    FRAME_DISCONNECT,
    FRAME_FILE_DONE,
    FRAME_GOAWAY,
    FRAME_HELLO_ACK,
    FRAME_PING,
    FRAME_REFUSED,
    FRAME_REQUEST,
    FRAME_RESET,
    FRAME_WINDOW,
    FRAME_WS_MSG,
    GOAWAY_ANNOUNCED,
    HEADER_SIZE,
    KIND_HTTP,
    MAX_CONNS,
    MAX_INLINE_BODY,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PROTOCOL_VERSION,
)
from .events import (
    AckReceived,
    ChannelErrorReceived,
    CloseReceived,
    CreditReceived,
    DataReceived,
    Disconnected,
    Event,
    FileDone,
    GoawayReceived,
    HeadInvalid,
    MessageReceived,
    RequestReceived,
    StreamReset,
)
from .frames import ProtocolError, check_header, unpack_header_from
from .outbound import Outbound
from .stream import Stream, WebSocketStream


class Session(Outbound):
    """The state of one link."""

    def __init__(self, decoder: RequestDecoder) -> None:
        super().__init__()
        self.conns: dict[int, Certificates] = {}
        self.ack: HelloAck | None = None
        self.dropped_frames = 0
        self.backlog = False  # receive_data() stopped at its limit; call it again with b""
        self._decode = decoder.decode
        self._buffer = b""
        self._pos = 0
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
                payload = buffer[begin:end]
                if self.ack is None or rule is None or not stream_id:
                    self._channel_frame(events, kind, rule is None, code, aux, payload)
                elif kind == FRAME_WS_MSG:
                    self._message(events, payload, flags, stream_id)
                else:
                    self._stream_frame(events, kind, code, stream_id, aux, payload)
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
        elif kind == FRAME_WS_MSG:
            stream = self._find(stream_id, "WS_MSG", count=False)
            if stream is not None:
                self._check_message(stream, length, flags)

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
            if head[0] != KIND_HTTP:
                self._check_websocket(flags, aux)
                if self._knows_connection(stream_id, head):
                    socket = self.streams[stream_id] = WebSocketStream(stream_id, self._window)
                    events.append(RequestReceived(socket, head, b"", False))
                return
        except HeadError as exc:
            self._send_frame(FRAME_RESET, FLAG_DONE, ERROR_HEADER_INVALID, stream_id)
            events.append(HeadInvalid(stream_id, str(exc)))
            return
        if head[11] and not self._knows_connection(stream_id, head):
            return
        ended = flags & FLAG_END_STREAM != 0
        stream = self.streams[stream_id] = Stream(stream_id, self._window, window, ended)
        if flags & FLAG_EXPECT:
            stream.expect = True
        events.append(RequestReceived(stream, head, body, ended))

    def _knows_connection(self, stream_id: int, head: RequestHead) -> bool:
        """Refuse a request whose connection is not open (R104)."""
        tls = head[11]
        if tls is None or not tls[2] or tls[2] in self.conns:
            return True
        self._send_frame(FRAME_REFUSED, 0, ERROR_REFUSED, stream_id)
        return False

    def _check_websocket(self, flags: int, aux: int) -> None:
        """R46: what makes the head of a WebSocket malformed."""
        if self.ack is None or FEATURE_WEBSOCKET not in self.ack.features:
            raise HeadError("a WebSocket, which was not agreed on")
        if flags or aux:
            raise HeadError("a WebSocket with a body or the end of one")

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

    def _check_message(self, stream: Stream, length: int, flags: int) -> None:
        """R83, R85, R86 and credit, as far as the header of a WS_MSG tells."""
        if not isinstance(stream, WebSocketStream) or not stream.accepted:
            raise ProtocolError(ERROR_PROTOCOL, f"WS_MSG on {stream.id}, no accepted WebSocket")
        if stream.recv_left < DATA_OVERHEAD + length:
            raise ProtocolError(ERROR_FLOW_CONTROL, f"WS_MSG beyond the credit of {stream.id}")
        if stream.gone or stream.send_ended:
            return  # it is dropped, and so was what came before it
        if stream.text is not None and stream.text != (flags & FLAG_TEXT != 0):
            raise ProtocolError(ERROR_PROTOCOL, f"a message of {stream.id} is text only in parts")
        assert self.ack is not None
        if len(stream.part) + length > self.ack.ws_max_message:
            raise ProtocolError(ERROR_PROTOCOL, f"a message of {stream.id} is too long")

    def _message(self, events: list[Event], payload: bytes, flags: int, stream_id: int) -> None:
        """Take WS_MSG; a message is told when it is complete."""
        stream = self._find(stream_id, "WS_MSG")
        if stream is None:
            return
        self._check_message(stream, len(payload), flags)
        assert isinstance(stream, WebSocketStream)
        cost = DATA_OVERHEAD + len(payload)
        stream.recv_left -= cost
        if stream.gone:
            self.dropped_frames += 1
            return
        if stream.send_ended:  # it was on its way when WS_CLOSE went out
            return
        if flags & FLAG_MORE:
            stream.text = flags & FLAG_TEXT != 0
            stream.part += payload  # one buffer: many small fragments cost what they hold
            stream.part_cost += cost
            if stream.waiting:
                self.message_wanted(stream)
            return
        if stream.text is not None:
            stream.part += payload
            payload, stream.part = bytes(stream.part), bytearray()
            cost += stream.part_cost
            stream.part_cost = 0
            stream.text = None
        stream.waiting = False  # what comes behind it waits until it is asked for
        try:
            data = payload.decode() if flags & FLAG_TEXT else payload
        except UnicodeDecodeError:
            raise ProtocolError(ERROR_PROTOCOL, f"text of {stream_id} is no UTF-8") from None
        events.append(MessageReceived(stream, data, cost))

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
            self._peer_going = code != ERROR_RECONNECT or aux != GOAWAY_ANNOUNCED  # R96
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
        self, events: list[Event], kind: int, code: int, stream_id: int, aux: int, payload: bytes
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
            if stream.gone:  # it was on its way when we learned of the end
                self.dropped_frames += 1
                return
            if code:
                self.file_undone(stream)
            stream.file_pending = False
            events.append(FileDone(stream, code != 0))
        else:
            self._close(events, stream, code, payload)

    def _close(self, events: list[Event], stream: Stream, code: int, payload: bytes) -> None:
        """Take WS_CLOSE, which ends the stream (R60, R87)."""
        if not isinstance(stream, WebSocketStream) or not stream.accepted:
            raise ProtocolError(ERROR_PROTOCOL, f"WS_CLOSE on {stream.id}, no accepted WebSocket")
        if stream.gone:
            self.dropped_frames += 1
            return
        self._gone(stream)
        events.append(CloseReceived(stream, code, payload.decode("utf-8", "replace")))

    def _reset(self, events: list[Event], stream: Stream, code: int) -> None:
        if code == ERROR_BODY_ABORTED and isinstance(stream, WebSocketStream):
            raise ProtocolError(ERROR_PROTOCOL, f"BODY_ABORTED on the WebSocket {stream.id}")
        if stream.gone or (code == ERROR_BODY_ABORTED and stream.recv_ended):
            self.dropped_frames += 1
            return
        stream.recv_ended = True
        if code != ERROR_BODY_ABORTED:
            self._gone(stream)
        events.append(StreamReset(stream, code))

    def _disconnect(self, events: list[Event], stream: Stream, code: int) -> None:
        if code == ERROR_CLIENT_EOF and isinstance(stream, WebSocketStream):
            raise ProtocolError(ERROR_PROTOCOL, f"CLIENT_EOF on the WebSocket {stream.id}")
        if stream.gone or stream.disconnect == code:
            self.dropped_frames += 1
            return
        if code == ERROR_CLIENT_EOF and not stream.recv_ended:
            raise ProtocolError(ERROR_PROTOCOL, f"CLIENT_EOF inside the body of {stream.id}")
        stream.disconnect = code
        if code == ERROR_CLIENT_GONE:
            self._gone(stream)
        events.append(Disconnected(stream, code))
