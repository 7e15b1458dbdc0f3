# SPDX-License-Identifier: MIT
"""A worker that does what the test says, frame by frame: it sees every frame of the gateway and sends any bytes.

It uses the numbers and the msgpack of the real worker, nothing of its behaviour. PINGs are answered unless told not to.
"""

import contextlib
import mmap
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "worker"))

from asgi_worker.protocol import constants as c
from asgi_worker.protocol.frames import HEADER, frame
from asgi_worker.protocol.msgpack import packb, unpackb

from .process import Failed


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
        return c.FRAME_NAMES.get(self.kind, str(self.kind))

    def __str__(self) -> str:
        code = c.ERROR_NAMES.get(self.code, str(self.code))
        return f"{self.name}(stream={self.stream} flags={self.flags:#x} code={code} {len(self.payload)} bytes)"


@dataclass
class SeenRequest:
    """A REQUEST frame, decoded."""

    stream: int
    flags: int
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    head: list[Any]
    body: bytes

    @property
    def ended(self) -> bool:
        return bool(self.flags & c.FLAG_END_STREAM)


def response_head(fields: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The payload of a RESPONSE or TRAILERS without any check."""
    return packb([b"\0".join(part for field in fields for part in field)])


class ScriptedWorker:
    """One link, connected; `ready=True` has shaken hands and said READY."""

    def __init__(self, path: Path, *, ready: bool = True, **hello: Any):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.buffer = b""
        self.answers_pings = True
        self.ack: dict[str, Any] = {}
        self.page: mmap.mmap | None = None
        self.hello_map: dict[str, Any] = {
            "proto_min": 1,
            "proto_max": 1,
            "features": [],
            "app": "",
            "instance": os.urandom(16),
            "generation": "",
            "pid": os.getpid(),
            "python": "script",
            "worker_version": "script",
            "max_concurrency": 1000,
            "channel_index": 0,
            "token": b"",
            **hello,
        }
        if ready:
            self.shake_hands()
            self.send(c.FRAME_READY)

    def __enter__(self) -> "ScriptedWorker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        if self.page is not None:
            self.page.close()

    # --- out ----------------------------------------------------------------------------------------------------------

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(
        self, kind: int, payload: bytes = b"", *, stream: int = 0, flags: int = 0, code: int = 0, aux: int = 0
    ) -> None:
        self.raw(frame(kind, payload, stream=stream, flags=flags, code=code, aux=aux))

    def file(self, stream: int, descriptors: list[int], offset: int, count: int, flags: int = 0) -> None:
        """FILE with these descriptors: one is right."""
        data = frame(c.FRAME_FILE, struct.pack("<QQ", offset, count), stream=stream, flags=flags)
        socket.send_fds(self.socket, [data], descriptors)

    def send_hello(self) -> None:
        self.send(c.FRAME_HELLO, packb(self.hello_map))

    def respond(
        self,
        stream: int,
        status: int = 200,
        fields: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        *,
        flags: int = c.FLAG_END_STREAM | c.FLAG_DONE,
    ) -> None:
        """One RESPONSE with its body behind the head; by default the end of everything."""
        head = response_head(fields)
        self.send(
            c.FRAME_RESPONSE,
            head + body,
            stream=stream,
            flags=flags,
            code=status,
            aux=len(head) if body else 0,
        )

    def data(self, stream: int, body: bytes = b"", flags: int = 0) -> None:
        self.send(c.FRAME_DATA, body, stream=stream, flags=flags)

    def done(self, stream: int) -> None:
        self.send(c.FRAME_DONE, stream=stream)

    def grant(self, stream: int, credit: int) -> None:
        self.send(c.FRAME_WINDOW, stream=stream, aux=credit)

    def started(self, stream: int) -> None:
        """Says on the progress page that requests up to this one have begun."""
        assert self.page is not None
        self.page[0:4] = stream.to_bytes(4, "little")

    # --- in -----------------------------------------------------------------------------------------------------------

    def shake_hands(self) -> None:
        self.send_hello()
        data, descriptors, _, _ = socket.recv_fds(self.socket, 65536, 4)
        self.buffer += data
        ack = self.next()
        assert ack is not None and ack.kind == c.FRAME_HELLO_ACK, f"{ack}: {ack and ack.payload!r}"
        self.ack = unpackb(ack.payload)
        assert len(descriptors) == 1, descriptors
        self.page = mmap.mmap(descriptors[0], c.PAGE_SIZE)
        os.close(descriptors[0])

    def _fill(self, length: int) -> bool:
        while len(self.buffer) < length:
            try:
                data = self.socket.recv(262144)
            except ConnectionResetError:
                return False
            if not data:
                return False
            self.buffer += data
        return True

    def next(self) -> Frame | None:
        """The next frame that is no PING; None at the end of the link."""
        while self._fill(c.HEADER_SIZE):
            length, kind, flags, code, stream, aux = HEADER.unpack_from(self.buffer)
            if not self._fill(c.HEADER_SIZE + length):
                raise Failed(f"the link ended within a {c.FRAME_NAMES.get(kind, kind)} frame")
            payload = self.buffer[c.HEADER_SIZE : c.HEADER_SIZE + length]
            self.buffer = self.buffer[c.HEADER_SIZE + length :]
            if kind != c.FRAME_PING:
                return Frame(kind, flags, code, stream, aux, payload)
            if self.answers_pings:
                try:
                    self.send(c.FRAME_PONG, aux=aux)
                except OSError:
                    self.answers_pings = False  # the end is near; what was sent is still read
        return None

    def expect(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame, which must be of this kind (and stream)."""
        got = self.next()
        wanted = c.FRAME_NAMES[kind] + (f" on stream {stream}" if stream is not None else "")
        if got is None:
            raise Failed(f"the link ended where {wanted} was expected")
        if got.kind != kind or (stream is not None and got.stream != stream):
            raise Failed(f"{got} came where {wanted} was expected")
        return got

    def request(self) -> SeenRequest:
        return self.decode(self.expect(c.FRAME_REQUEST))

    @staticmethod
    def decode(got: Frame) -> SeenRequest:
        size = got.aux or len(got.payload)
        head = unpackb(got.payload[:size])
        parts = head[10].split(b"\0") if head[10] else []
        headers = list(zip(parts[::2], parts[1::2], strict=True))
        return SeenRequest(got.stream, got.flags, head[1], head[4], head[6], headers, head, got.payload[size:])

    def body(self, request: SeenRequest) -> bytes:
        """The rest of a request body; grants credit as it comes."""
        body, ended = request.body, request.ended
        if body and not ended:
            self.grant(request.stream, len(body) + c.DATA_OVERHEAD)
        while not ended:
            got = self.expect(c.FRAME_DATA, request.stream)
            body += got.payload
            ended = bool(got.flags & c.FLAG_END_STREAM)
            if not ended:
                self.grant(request.stream, len(got.payload) + c.DATA_OVERHEAD)
        return body

    def ending(self) -> list[Frame]:
        """What comes until the gateway closes the link."""
        frames = []
        while (got := self.next()) is not None:
            frames.append(got)
        return frames

    def expect_error(self, code: int) -> str:
        """The link is closed by the gateway; its last frame is CHANNEL_ERROR with this code. Returns its text."""
        frames = self.ending()
        if not frames or frames[-1].kind != c.FRAME_CHANNEL_ERROR:
            raise Failed(f"the link ended without CHANNEL_ERROR, after {[str(f) for f in frames]}")
        assert frames[-1].code == code, f"{frames[-1]}: {frames[-1].payload!r}"
        return frames[-1].payload.decode()

    def expect_disconnect(self, stream: int, code: int) -> None:
        frame = self.expect(c.FRAME_DISCONNECT, stream)
        assert frame.code == code, str(frame)

    def leave(self) -> None:
        """Ends the link in order, which the gateway allows only when no stream is left."""
        self.send(c.FRAME_GOAWAY, code=c.ERROR_DRAINING, aux=0xFFFFFFFF)
        rest = self.ending()
        assert all(frame.kind in (c.FRAME_GOAWAY, c.FRAME_CONN_END) for frame in rest), [str(frame) for frame in rest]

    def alive(self) -> bool:
        """Whether the gateway still serves this link: it answers our PING."""
        self.send(c.FRAME_PING, aux=77)
        while (got := self.next()) is not None:
            if got.kind == c.FRAME_PONG and got.aux == 77:
                return True
        return False


class Echoing(threading.Thread):
    """A scripted worker that answers every request with 200 and its path until its link ends, in a thread."""

    def __init__(self, path: Path, **hello: Any):
        super().__init__(daemon=True)
        self.worker = ScriptedWorker(path, **hello)
        self.seen: list[tuple[str, str]] = []
        self.start()

    def __enter__(self) -> "Echoing":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        try:
            while (frame := self.worker.next()) is not None:
                if frame.kind != c.FRAME_REQUEST:
                    continue  # of a body that is not read, and what follows from that
                request = self.worker.decode(frame)
                self.seen.append((request.method, request.path))
                body = request.path.encode()
                self.worker.respond(request.stream, 200, [(b"content-length", b"%d" % len(body))], body)
        except (Failed, OSError):
            return

    def stop(self) -> None:
        with contextlib.suppress(OSError):  # the gateway may have closed it
            self.worker.socket.shutdown(socket.SHUT_RDWR)
        self.join()
        self.worker.close()
