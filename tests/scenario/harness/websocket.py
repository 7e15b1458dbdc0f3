# SPDX-License-Identifier: MIT
"""WebSockets byte by byte: a client that sends and sees every frame, and a scripted worker for such streams."""

import base64
import contextlib
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .gateway import Gateway
from .http1 import Client, Response
from .process import Failed
from .scripted_worker import Frame, ScriptedWorker, SeenRequest, c, packb
from .tunnel import Tunnel
from .tunnel3 import Tunnel3

CARRIERS = ("h1", "h2")
FIN, RSV1 = 0x80, 0x40
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = base64.b64encode(bytes(range(16))).decode()


@dataclass
class WsFrame:
    first: int
    payload: bytes

    @property
    def opcode(self) -> int:
        return self.first & 15

    @property
    def code(self) -> int:
        """Of a close frame; 1005 when it has none."""
        return struct.unpack(">H", self.payload[:2])[0] if self.payload else 1005


def frame(opcode: int, payload: bytes = b"", first: int | None = None, *, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A client's frame; `first` replaces the whole first byte."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + struct.pack(">H", size) if size <= 0xFFFF else b"\xff" + struct.pack(">Q", size)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if any(mask) else payload
    return bytes([FIN | opcode if first is None else first]) + length + mask + masked


def close_payload(code: int, reason: str = "") -> bytes:
    return struct.pack(">H", code) + reason.encode()


class WsClient:
    """One WebSocket; `handshake` sends the request, `accepted` reads 101, or 200 from HTTP/2 on."""

    def __init__(self, client: Client | Tunnel):
        self.client = client

    def __enter__(self) -> "WsClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def handshake(self, target: str = "/", method: str = "GET", **replaced: str | None) -> None:
        """Fields are replaced by keyword (sec_websocket_key="..."), None leaves one out."""
        fields: dict[str, str | None] = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": KEY,
        }
        fields.update({name.replace("_", "-"): value for name, value in replaced.items()})
        self.client.request(method, target, {name: value for name, value in fields.items() if value is not None})

    def accepted(self) -> Response:
        head = self.client.head()
        assert head.status == (200 if isinstance(self.client, Tunnel) else 101), head
        return head

    def send(self, opcode: int, payload: bytes = b"", first: int | None = None) -> None:
        self.client.send(frame(opcode, payload, first))

    def text(self, text: str) -> None:
        self.send(TEXT, text.encode())

    def close(self, code: int, reason: str = "") -> None:
        self.send(CLOSE, close_payload(code, reason))

    def frame(self) -> WsFrame:
        first, length = self.client.exactly(2)
        assert not length & 0x80, "a server's frame is not masked"
        if length == 126:
            (length,) = struct.unpack(">H", self.client.exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.client.exactly(8))
        return WsFrame(first, self.client.exactly(length))

    def expect(self, opcode: int) -> WsFrame:
        got = self.frame()
        assert got.opcode == opcode, got
        return got

    def message(self) -> bytes:
        """A whole data message, of one frame or more."""
        got = self.frame()
        assert got.opcode in (TEXT, BINARY), got
        whole = got.payload
        while not got.first & FIN:
            got = self.expect(CONTINUATION)
            whole += got.payload
        return whole

    def expect_close(self, code: int) -> str:
        """The close frame, then the end of the connection once ours has gone. Returns the reason."""
        got = self.expect(CLOSE)
        assert got.code == code, got
        return got.payload[2:].decode()

    def expect_end(self) -> None:
        """The carrier's end; over HTTP/2 the client ends its side, too."""
        assert self.client.rest() == b""
        if isinstance(self.client, Tunnel):
            self.client.end()

    @contextlib.contextmanager
    def meanwhile(self, act: Callable[[], None]) -> Iterator[None]:
        """Does with the client what it may have to wait for; nobody else uses it meanwhile."""
        actor = threading.Thread(target=act, daemon=True)
        actor.start()
        yield
        actor.join(20)
        assert not actor.is_alive(), "the client is still waiting"

    def fill(self, payload: bytes) -> None:
        """Sends this again and again until nothing of it is taken any more."""
        if isinstance(self.client, Tunnel):
            self.client.fill(payload)
            return
        sent = 0
        self.client.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:
                sent += self.client.socket.send(payload[sent % len(payload) :])
        self.client.socket.settimeout(20)


class WsWorker(ScriptedWorker):
    """A scripted worker that offers WebSockets."""

    def __init__(self, gateway: Gateway, **hello: object):
        super().__init__(gateway.app_socket, features=["websocket"], **hello)

    def websocket(self) -> SeenRequest:
        request = self.request()
        assert request.head[0] == c.KIND_WEBSOCKET and not request.ended, request
        return request

    def accept(self, stream: int, subprotocol: str | None = None, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        block = b"\0".join(part for field in fields for part in field)
        self.send(c.FRAME_WS_ACCEPT, packb([subprotocol, block]), stream=stream)

    def message(self, stream: int, payload: bytes, flags: int = 0) -> None:
        self.send(c.FRAME_WS_MSG, payload, stream=stream, flags=flags)

    def text(self, stream: int, text: str) -> None:
        self.message(stream, text.encode(), c.FLAG_TEXT)

    def close_websocket(self, stream: int, code: int, reason: str = "", flags: int = c.FLAG_DONE) -> None:
        self.send(c.FRAME_WS_CLOSE, reason.encode(), stream=stream, code=code, flags=flags)

    def settled(self) -> list[Frame]:
        """What the gateway has to say until it has answered two PINGs, one after the other."""
        frames: list[Frame] = []
        for nonce in (101, 102):
            self.send(c.FRAME_PING, aux=nonce)
            while (got := self.next()) is not None and not (got.kind == c.FRAME_PONG and got.aux == nonce):
                frames.append(got)
            if got is None:
                raise Failed("the link ended")
        return frames

    def received(self, stream: int, *, grant: bool = True) -> tuple[bytes, bool]:
        """The next whole message and whether it is text; credit is given back as it comes."""
        payload = b""
        while True:
            got = self.next()
            if got is None:
                raise Failed("the link ended within a message")
            if got.kind == c.FRAME_WINDOW:
                continue
            assert got.kind == c.FRAME_WS_MSG and got.stream == stream, str(got)
            payload += got.payload
            if grant:
                self.grant(stream, len(got.payload) + c.DATA_OVERHEAD)
            if not got.flags & c.FLAG_MORE:
                return payload, bool(got.flags & c.FLAG_TEXT)

    def expect_ws_close(self, stream: int) -> Frame:
        got = self.next()
        while got is not None and got.kind == c.FRAME_WINDOW:
            got = self.next()
        if got is None or got.kind != c.FRAME_WS_CLOSE or got.stream != stream:
            raise Failed(f"{got} came where WS_CLOSE on stream {stream} was expected")
        return got


def ws_client(gateway: Gateway, *, tls: bool = False, receive_buffer: int | None = None) -> WsClient:
    if gateway.carrier == "h3":
        return WsClient(Tunnel3(gateway, receive_buffer=receive_buffer))
    if gateway.carrier == "h2":
        return WsClient(Tunnel(gateway, tls=tls, receive_buffer=receive_buffer))
    return WsClient(gateway.tls_client() if tls else gateway.client(receive_buffer=receive_buffer))


def opened(gateway: Gateway, worker: WsWorker, **fields: str) -> tuple[WsClient, int]:
    """An accepted WebSocket and its stream."""
    client = ws_client(gateway)
    client.handshake(**fields)
    stream = worker.websocket().stream
    worker.accept(stream)
    client.accepted()
    return client, stream


__all__ = [
    "BINARY",
    "CARRIERS",
    "CLOSE",
    "CONTINUATION",
    "FIN",
    "KEY",
    "PING",
    "PONG",
    "RSV1",
    "TEXT",
    "WsClient",
    "WsFrame",
    "WsWorker",
]
__all__ += ["close_payload", "frame", "opened", "ws_client"]
