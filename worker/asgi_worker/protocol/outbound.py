# SPDX-License-Identifier: MIT
"""The sending half of a Session: frames queued in the order in which they may leave.

Job: the `send_*` methods append frames to an outbound list, `data_to_send()` hands it over. Control
overtakes content, and the content of the streams takes turns (SPEC R78). It owns the table of
open streams and what a link knows of itself; session.py adds what the gateway sends. It must not
know sockets, event loops, clocks or applications.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from .constants import (
    DATA_OVERHEAD,
    DEFAULT_MAX_FRAME,
    ERROR_DRAINING,
    FLAG_DONE,
    FLAG_END_STREAM,
    FLAG_INFORMATIONAL,
    FRAME_CHANNEL_ERROR,
    FRAME_DATA,
    FRAME_DONE,
    FRAME_FILE,
    FRAME_GOAWAY,
    FRAME_HELLO,
    FRAME_PONG,
    FRAME_READY,
    FRAME_REFUSED,
    FRAME_RESET,
    FRAME_RESPONSE,
    FRAME_STATS,
    FRAME_TRAILERS,
    FRAME_WINDOW,
    FRAME_WS_ACCEPT,
    FRAME_WS_CLOSE,
    FRAME_WS_MSG,
    HEADER_SIZE,
    MAX_STREAM_ID,
)
from .credit import grant_due, payload_room
from .frames import FILE_PAYLOAD, frame, pack_header
from .msgpack import packb
from .stream import SLICE, Buffer, FileFrame, Stream, WebSocketStream

# Slices above this are handed to the socket as they are instead of being copied behind a header.
LARGE_BODY = 4096
# data_to_send() hands over at most about this much content, so that control can still overtake it.
HANDOVER = 262144


class Outbound:
    """What one link has to write, and the streams it writes for."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.last_id = 0
        self.out_bytes = 0
        self.max_frame = DEFAULT_MAX_FRAME  # payloads are no longer, either way
        self.files = False  # data_to_send() may give a FileFrame; who sent them all sets it back
        self._out: list[Buffer] = []
        self._ring: deque[Stream] = deque()  # streams whose queue is not empty
        self._window = 0
        self._pong: int | None = None
        self._features: tuple[str, ...] = ()
        self._ready = False
        self._goaway_last_id: int | None = None
        self._peer_going = False  # the gateway sent GOAWAY, and not only to announce it (R96)
        self._peer_last_id: int | None = None
        self._top_id = 0  # no REQUEST may have a higher id now

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
        """Queue content, or a frame that must not overtake the content of its own stream."""
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
        return self._goaway_last_id is not None or self._peer_going

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

    def send_file(
        self, stream: Stream, descriptor: Any, offset: int, count: int, flags: int
    ) -> None:
        """Queue FILE: `count` bytes of a file are body; nothing may follow before FILE_DONE."""
        head = pack_header(FILE_PAYLOAD.size, FRAME_FILE, flags, 0, stream.id, 0)
        data = FileFrame(head + FILE_PAYLOAD.pack(offset, count))
        data.stream = stream
        data.descriptor = descriptor
        self.files = stream.file_pending = True
        if stream.queue:
            self._send_in_order(stream, data)
        else:
            self._out.append(data)
            self.out_bytes += len(data)
        self._ended(stream, flags)

    @staticmethod
    def file_undone(stream: Stream) -> None:
        """Take back a FILE that the gateway did not take, or that could not be sent (R110)."""
        stream.file_pending = False
        stream.send_ended = False

    def send_accept(self, stream: WebSocketStream, payload: bytes) -> None:
        """Queue WS_ACCEPT."""
        self._send_frame(FRAME_WS_ACCEPT, 0, 0, stream.id, payload=payload)
        stream.accepted = True

    def send_message(self, stream: WebSocketStream, data: Buffer, flags: int) -> None:
        """Queue WS_MSG, a message or a part of one; the caller asked body_room()."""
        length = len(data)
        stream.send_credit -= DATA_OVERHEAD + length
        head = pack_header(length, FRAME_WS_MSG, flags, 0, stream.id, 0)
        if length > LARGE_BODY:
            self._send_in_order(stream, head, data)
        else:
            self._send_in_order(stream, b"".join((head, data)))

    def send_close(self, stream: WebSocketStream, code: int, reason: bytes, done: bool) -> None:
        """Queue WS_CLOSE, which ends the worker's side; with `done` also DONE."""
        flags = FLAG_DONE if done else 0
        self._send_end(stream, FRAME_WS_CLOSE, flags, code, reason)
        self._ended(stream, FLAG_END_STREAM | flags)

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
        return self._grant(stream)

    def message_taken(self, stream: WebSocketStream, cost: int) -> bool:
        """Note that the application took a message; True when WINDOW was queued."""
        stream.recv_used += cost
        if stream.send_ended or stream.gone or stream.id not in self.streams:
            return False
        return self._grant(stream)

    def message_wanted(self, stream: WebSocketStream) -> bool:
        """Note that the application waits for a message; True when WINDOW was queued.

        The frames of the unfinished one count as consumed from here on (R73).
        """
        stream.waiting = True
        cost, stream.part_cost = stream.part_cost, 0
        return cost > 0 and self.message_taken(stream, cost)

    def _grant(self, stream: Stream) -> bool:
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

    def _gone(self, stream: Stream) -> None:
        """Drop what is queued: the gateway ended the stream (R60) and would throw it away."""
        stream.gone = True
        if stream.queue:
            self.out_bytes -= sum(len(head) + len(body) for head, body in stream.queue)
            stream.queue.clear()
            self._ring.remove(stream)


def cut_text(text: str, limit: int) -> bytes:
    """Return text as UTF-8, cut at its end to `limit` bytes without splitting a character."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()
