# SPDX-License-Identifier: MIT
"""From a path to a link that has shaken hands: connect, check the peer, HELLO, HELLO_ACK.

Job: give back a connected socket with its session and progress page, or raise: OSError when
the gateway is away, Refused when it says no, ProtocolError when it talks nonsense. It decides
nothing about trying again.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..protocol.codec import HelloAck, RequestDecoder
from ..protocol.constants import ERROR_NAMES, ERROR_PROTOCOL
from ..protocol.events import AckReceived, ChannelErrorReceived, Event
from ..protocol.frames import ProtocolError
from ..protocol.session import Session
from .page import ProgressPage

HANDSHAKE_TIMEOUT = 10.0
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_MAX_DESCRIPTORS = 8


class Refused(Exception):
    """The gateway answered HELLO with CHANNEL_ERROR."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{ERROR_NAMES.get(code, code)}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Handshaken:
    """What a successful handshake leaves; `events` came right behind HELLO_ACK."""

    sock: socket.socket
    session: Session
    ack: HelloAck
    page: ProgressPage
    events: list[Event]


def check_peer(sock: socket.socket, path: str) -> None:
    """Accept a gateway of uid 0, of our own, or of the directory's owner (SPEC S12)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    if uid in (0, os.geteuid()):
        return
    owner = os.stat(os.path.dirname(path) or ".").st_uid
    if uid != owner:
        raise PermissionError(
            f"the gateway behind {path} runs as uid {uid}, which is neither root, this worker's "
            f"uid {os.geteuid()} nor the owner of the directory (uid {owner})"
        )


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # A Unix socket connects at once, or fails at once with EAGAIN when the queue is full.
        sock.setblocking(False)
        sock.connect(path)
        check_peer(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_reader(sock.fileno(), ready)
    try:
        await future
    finally:
        loop.remove_reader(sock.fileno())


def _take_descriptors(ancillary: list[tuple[int, int, bytes]], into: list[int]) -> None:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            into.extend(numbers)


async def _answer(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, session: Session, descriptors: list[int]
) -> list[Event]:
    """Read until the gateway has answered HELLO."""
    space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * 4)
    while True:
        await _readable(loop, sock)
        try:
            data, ancillary, flags, _ = sock.recvmsg(65536, space, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            continue
        _take_descriptors(ancillary, descriptors)
        if flags & socket.MSG_CTRUNC:
            raise ProtocolError(ERROR_PROTOCOL, "HELLO_ACK came with too many descriptors")
        if not data:
            raise ConnectionResetError("the gateway closed the link during the handshake")
        events = session.receive_data(data)
        if events:
            return events


async def dial(
    loop: asyncio.AbstractEventLoop, path: str, hello: Mapping[str, Any], decoder: RequestDecoder
) -> Handshaken:
    """Open a link; raises OSError, Refused, ProtocolError or TimeoutError."""
    sock = _connect(path)
    descriptors: list[int] = []
    session = Session(decoder)
    try:
        session.send_hello(hello)
        sock.sendall(b"".join(session.data_to_send()))  # a fresh socket has room for HELLO
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            events = await _answer(loop, sock, session, descriptors)
        first = events.pop(0)
        if isinstance(first, ChannelErrorReceived):
            raise Refused(first.code, first.text)
        if not isinstance(first, AckReceived):
            raise ProtocolError(ERROR_PROTOCOL, "the handshake has no HELLO_ACK")
        if len(descriptors) != 1:
            raise ProtocolError(ERROR_PROTOCOL, f"HELLO_ACK with {len(descriptors)} descriptors")
        try:
            page = ProgressPage(descriptors.pop())
        except (OSError, ValueError) as exc:
            raise ProtocolError(ERROR_PROTOCOL, str(exc)) from exc
        return Handshaken(sock, session, first.ack, page, events)
    except BaseException as exc:
        if isinstance(exc, ProtocolError):
            session.send_channel_error(exc.code, exc.message)
            with suppress(OSError):
                sock.sendall(b"".join(session.data_to_send()))
        sock.close()
        raise
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
