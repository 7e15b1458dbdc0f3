# SPDX-License-Identifier: MIT
"""One socket to the gateway: reads, hands events out, writes once per wake-up.

Job: be the only reader and writer of a link, in batches and within budgets. It never awaits an
application: what arrives goes into buffers bounded by the credit that was granted, and requests
become tasks. It owns the socket, the writer's state and the requests that hold output back;
what a link's end means for the others is its owner's business (client.py).
"""

from __future__ import annotations

import errno
import socket
import sys
import time
from array import array
from asyncio import AbstractEventLoop, Task
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from contextvars import copy_context
from itertools import islice, takewhile
from typing import Any, Protocol

from ..asgi.files import EXTENSIONS as FILE_EXTENSIONS
from ..asgi.http import HttpCycle
from ..asgi.scope import tls_extension
from ..asgi.service import Service
from ..asgi.websocket import WebSocketCycle
from ..protocol.codec import RequestHead, Tls
from ..protocol.constants import (
    ERROR_NAMES,
    ERROR_OVERLOADED,
    ERROR_PROTOCOL,
    FEATURE_FILES,
    KIND_HTTP,
)
from ..protocol.events import (
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
from ..protocol.frames import ProtocolError
from ..protocol.session import Session
from ..protocol.stream import Buffer, FileFrame, Stream, WebSocketStream

READ_SIZE = 262144
MAX_REQUESTS = 64  # in one callback, then other links and tasks get their turn
READ_BUDGET = 0.002
WRITE_SIZE = 65536  # queued bytes that are written at once, without waiting for the turn's end
WRITE_INTERVAL = 0.001
JOIN_LIMIT = 65536  # up to here one copy and send() is cheaper than sendmsg() with a list
MAX_BUFFERS = 512  # of one sendmsg, under the system's IOV_MAX
MAX_TLS_EXTENSIONS = 4096

monotonic = time.monotonic
Cycle = HttpCycle | WebSocketCycle
_STREAM_EVENTS = (
    DataReceived,
    MessageReceived,
    CreditReceived,
    Disconnected,
    CloseReceived,
    StreamReset,
    FileDone,
)

# Each task has a context of its own. Eager tasks run their first step here and now, and most
# finish in it; asking for that per task changes nothing for the tasks that applications make.
if sys.version_info >= (3, 12):

    def _start_task(cycle: Cycle, loop: AbstractEventLoop) -> Task[None]:
        return Task(cycle.run(), loop=loop, context=copy_context(), eager_start=True)

else:

    def _start_task(cycle: Cycle, loop: AbstractEventLoop) -> Task[None]:
        return Task(cycle.run(), loop=loop, context=copy_context())


def _before_file(buffers: Iterable[memoryview | FileFrame]) -> list[Buffer]:
    """Return what can go in one write: all up to the first FILE frame."""
    return list(takewhile(lambda buffer: not isinstance(buffer, FileFrame), buffers))


class LinkOwner(Protocol):
    """What a link tells."""

    def on_goaway(self, link: Link, event: GoawayReceived) -> None:
        """Take the gateway's GOAWAY; the link goes on serving its streams."""

    def on_link_end(self, link: Link, code: int, reason: str) -> None:
        """Take the link's end; code NO_ERROR and an empty reason for an orderly one."""


class Link:
    """A link after its handshake."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        sock: socket.socket,
        session: Session,
        service: Service,
        words: memoryview[int],
        owner: LinkOwner,
        index: int = 0,
    ) -> None:
        self.loop = loop
        self.session = session
        self.service = service
        self.words = words
        self.owner = owner
        self.index = index
        self.closed = False
        ack = session.ack
        # What every response on this link can make use of.
        files = ack is not None and FEATURE_FILES in ack.features
        self.extensions: dict[str, dict[str, Any]] = dict(FILE_EXTENSIONS) if files else {}
        self._sock = sock
        self._held: list[HttpCycle] = []
        self._events: deque[Event] = deque()
        self._unsent: deque[memoryview | FileFrame] = deque()
        self._reading = False
        self._scheduled = False
        self._continuing = False
        self._last_write = 0.0
        self._tls: dict[Tls, dict[str, Any]] = {}

    def start(self, events: list[Event]) -> None:
        """Begin to read; `events` is what came behind the handshake."""
        self.loop.add_reader(self._sock.fileno(), self._readable)
        self._events.extend(events)
        self._process()

    # Reading

    def _readable(self) -> None:
        if self._continuing:
            return  # what was read before comes first; its callback is scheduled
        try:
            data, _, flags, _ = self._sock.recvmsg(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._end(0, f"reading failed: {exc.strerror}", lost=True)
            return
        if flags & socket.MSG_CTRUNC:  # the kernel closed it, because there was no room for it
            self._breach(ProtocolError(ERROR_PROTOCOL, "a descriptor came out of place"))
            return
        if not data:
            self._end(0, "the gateway closed the link", lost=True)
            return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        try:
            self._events.extend(self.session.receive_data(data, MAX_REQUESTS))
        except ProtocolError as exc:
            self._breach(exc)
            return
        self._process()

    def _process(self) -> None:
        """Handle events within the budget, then write; what is left goes on in the next turn."""
        self._reading = True
        events = self._events
        session = self.session
        now = self._last_write = monotonic()
        deadline = now + READ_BUDGET
        while events:
            event = events.popleft()
            if type(event) is RequestReceived:
                self._request(event)
                now = monotonic()
                if session.out_bytes >= WRITE_SIZE or now - self._last_write > WRITE_INTERVAL:
                    self.flush()
                if now > deadline:
                    break
            else:
                self._dispatch(event)
            if self.closed:
                return
        self._reading = False
        if self._held:
            self._settle(starts=False)
        self.flush()
        if (events or session.backlog) and not self.closed:
            self._continuing = True
            self.loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._continuing = False
        if self.closed:
            return
        if self._events:
            self._process()
        else:
            self._receive(b"")

    def _request(self, event: RequestReceived) -> None:
        service = self.service
        stream, head, body, ended = event
        if len(service.active) >= service.max_concurrency:
            service.overloaded += 1
            self.session.send_refused(stream, ERROR_OVERLOADED)
            return
        service.requests += 1
        if service.requests >= service.request_limit and service.on_limit is not None:
            service.on_limit()
        if head[0] != KIND_HTTP:
            self._websocket(stream, head)
            return
        cycle = HttpCycle(self, stream, head, body, ended)
        stream.handler = cycle
        task = _start_task(cycle, self.loop)
        if task.done():
            return
        if cycle.tail is not None or cycle.head is not None:
            self._held.append(cycle)
        cycle.task = task
        service.active.add(cycle)

    def _websocket(self, stream: Stream, head: RequestHead) -> None:
        assert isinstance(stream, WebSocketStream)
        cycle = WebSocketCycle(self, stream, head)
        stream.handler = cycle
        task = _start_task(cycle, self.loop)
        if not task.done():
            cycle.task = task
            self.service.active.add(cycle)

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, _STREAM_EVENTS):
            handler = event.stream.handler
            if handler is None:  # refused after its frames were decoded
                return
            if isinstance(event, DataReceived):
                handler.on_data(event.data, event.end)
            elif isinstance(event, MessageReceived):
                handler.on_message(event.data, event.cost)
            elif isinstance(event, CreditReceived):
                handler.on_credit()
            elif isinstance(event, Disconnected):
                handler.on_disconnect(event.code)
            elif isinstance(event, CloseReceived):
                handler.on_close(event.code, event.reason)
            elif isinstance(event, FileDone):
                handler.on_file_done(event.refused)
            else:
                handler.on_reset(event.code)
        elif isinstance(event, GoawayReceived):
            self.owner.on_goaway(self, event)
        elif isinstance(event, ChannelErrorReceived):
            name = ERROR_NAMES.get(event.code, str(event.code))
            self._end(event.code, f"{name}: {event.text}", lost=True)
        elif isinstance(event, HeadInvalid):
            self.service.log.error(
                "request %d was refused, its head is malformed: %s", event.stream_id, event.reason
            )

    def tls_extension(self, tls: Tls) -> dict[str, Any]:
        """Return the tls extension of a connection, built once."""
        extension = self._tls.get(tls)
        if extension is None:
            if len(self._tls) >= MAX_TLS_EXTENSIONS:
                self._tls.clear()
            ack = self.session.ack
            certificate = ack.server_cert if ack is not None else None
            extension = tls_extension(tls, self.session.conns, certificate)
            self._tls[tls] = extension
        return extension

    # Writing

    def hold(self, cycle: HttpCycle) -> None:
        """Note that a request holds output back until the turn's end."""
        self._held.append(cycle)
        self.wrote()

    def wrote(self) -> None:
        """Note that frames were queued: they are written at the end of this turn."""
        if self._reading or self.closed:
            return
        if self.session.out_bytes >= WRITE_SIZE:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        self._scheduled = False
        if self._held:
            self._settle(starts=True)
        self.flush()

    def _settle(self, starts: bool) -> None:
        """Queue what requests hold back; a lone start may wait one turn for its first body."""
        held, self._held = self._held, []
        for cycle in held:
            if starts or cycle.tail is not None:
                cycle.settle()
            elif cycle.head is not None:
                self._held.append(cycle)
        if self._held and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush_turn)

    def flush(self) -> None:
        """Write what is queued, until it is gone or the socket is full."""
        if self.closed or self._unsent:
            return
        session = self.session
        while session.wants_write:
            size = session.out_bytes
            buffers = session.data_to_send()
            if session.files:
                self._write_files(buffers)
                if self._unsent:
                    break
            elif not self._write(buffers, size):
                break
        self._last_write = monotonic()
        if session.going_away and not self.closed:
            self.close_if_done()

    def _write(self, buffers: list[Buffer], size: int) -> bool:
        """Write buffers; False when the socket is full (the rest is kept) or gone."""
        try:
            if len(buffers) == 1:
                size = len(buffers[0])
                sent = self._sock.send(buffers[0])
            elif size <= JOIN_LIMIT:
                data = b"".join(buffers)
                buffers = [data]
                size = len(data)
                sent = self._sock.send(data)
            else:
                size = sum(map(len, buffers))
                sent = self._sock.sendmsg(buffers[:MAX_BUFFERS])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as exc:
            # What the gateway sent before it closed can still be read; the reader sees the end.
            self._writing_failed(exc)
            return False
        if sent == size:
            return True
        for buffer in buffers:
            length = len(buffer)
            if sent >= length:
                sent -= length
            else:
                self._unsent.append(memoryview(buffer)[sent:])
                sent = 0
        self.loop.add_writer(self._sock.fileno(), self._writable)
        return False

    def _writing_failed(self, exc: OSError) -> None:
        self._end(0, f"writing failed: {exc.strerror}", lost=True)

    def _write_files(self, buffers: list[Buffer]) -> None:
        """Write buffers of which some are FILE frames; what does not go is kept."""
        self._unsent.extend(b if isinstance(b, FileFrame) else memoryview(b) for b in buffers)
        # What is still in the queues of streams is looked at when data_to_send() gives it.
        self.session.files = self.session.wants_write
        if not self._write_unsent() and not self.closed:
            self.loop.add_writer(self._sock.fileno(), self._writable)

    def _send_file(self, frame: FileFrame) -> int:
        """Send a FILE frame by itself, with its descriptor (SPEC R5, S3)."""
        number = frame.descriptor.number
        if number < 0:  # its request is over: DONE or RESET stands behind it
            return len(frame)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [number]))
        try:
            return self._sock.sendmsg([frame], [rights])
        except OSError as exc:
            if exc.errno != errno.ETOOMANYREFS:
                raise
        # Too many descriptors of ours are under way: the request reads its file itself.
        self.session.file_undone(frame.stream)
        frame.stream.handler.on_file_done(True)
        return len(frame)

    def _writable(self) -> None:
        if self._write_unsent():
            self.loop.remove_writer(self._sock.fileno())
            self.flush()

    def _write_unsent(self) -> bool:
        """Go on with what is kept; True when all of it is gone, False for a full socket."""
        unsent = self._unsent
        try:
            while unsent:
                first = unsent[0]
                if isinstance(first, FileFrame):
                    sent = self._send_file(first)
                    # A rest of it has no descriptor any more.
                    unsent[0] = memoryview(first)
                else:
                    sent = self._sock.sendmsg(_before_file(islice(unsent, MAX_BUFFERS)))
                while unsent and sent >= len(unsent[0]):
                    sent -= len(unsent.popleft())
                if sent:
                    unsent[0] = memoryview(unsent[0])[sent:]
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:
            self._writing_failed(exc)
            return False
        return True

    # The end

    def close_if_done(self) -> None:
        """Close in order when a GOAWAY was said and nothing is open (SPEC R94)."""
        session = self.session
        if self.closed or not session.going_away or session.streams or self._events:
            return
        if not self._unsent and not session.wants_write:
            self._end(0, "", lost=False)

    def _breach(self, exc: ProtocolError) -> None:
        """Close with CHANNEL_ERROR: the gateway broke a rule of the protocol."""
        self.fail(exc.code, exc.message)

    def fail(self, code: int, text: str) -> None:
        """Say CHANNEL_ERROR, if that can be done without waiting, and close."""
        if self.closed:
            return
        self.session.send_channel_error(code, text)
        if not self._unsent:
            with suppress(OSError):
                self._sock.sendmsg(self.session.data_to_send()[:MAX_BUFFERS])
        self._end(code, f"{ERROR_NAMES.get(code, code)}: {text}", lost=True)

    def close(self, reason: str) -> None:
        """Close without a word: another link of the instance is lost, or the worker ends."""
        self._end(0, reason, lost=True)

    def _end(self, code: int, reason: str, lost: bool) -> None:
        if self.closed:
            return
        self.closed = True
        self._reading = False
        descriptor = self._sock.fileno()
        self.loop.remove_reader(descriptor)
        self.loop.remove_writer(descriptor)
        self._sock.close()
        self._unsent.clear()
        self._held.clear()
        self._events.clear()
        for stream in list(self.session.streams.values()):
            if stream.handler is not None:
                stream.handler.on_gone()
        orderly = not lost or (self.session.going_away and not self.session.streams and not code)
        self.owner.on_link_end(self, code, "" if orderly else reason)
