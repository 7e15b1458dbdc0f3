# SPDX-License-Identifier: MIT
"""WebSocket libraries speak HTTP/1.1 alone: this gives them a socket behind which their handshake becomes an extended
CONNECT of HTTP/2 (RFC 8441), made with python-h2. Frames pass as they are, flow control from end to end."""

import base64
import contextlib
import hashlib
import select
import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from .gateway import Gateway
from .tunnel import OF_HTTP1

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


class Bridge:
    """One WebSocket, one connection. `socket` is the library's."""

    def __init__(self, gateway: Gateway):
        with socket.create_server(("127.0.0.1", 0)) as server:  # libraries set options of TCP
            self.socket = socket.create_connection(server.getsockname())
            self.inner = server.accept()[0]
        self.outer = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.stream = 0
        self.key = ""
        self.back = b""  # for the library
        self.unacknowledged = 0
        self.finished = False  # nothing more comes from the gateway
        self.shut = False  # the library's side has ended
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        try:
            self.begin()
            while not (self.finished and not self.back):
                self.turn()
            self.inner.shutdown(socket.SHUT_WR)
            self.inner.settimeout(20)
            while not self.shut and self.inner.recv(65536):  # no reset may meet what was written last
                pass
        except OSError:
            pass
        finally:
            self.inner.close()
            self.outer.close()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.outer.sendall(data)

    def begin(self) -> None:
        self.h2.initiate_connection()
        self.flush()
        while not self.h2.remote_settings.enable_connect_protocol:
            self.take(self.outer.recv(65536))
            if self.finished:
                raise OSError("the gateway offers no extended CONNECT")
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.inner.recv(65536)
        head, _, early = head.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        self.key = dict(pairs).get("sec-websocket-key", "")
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", first.split(" ")[1]),
        ]
        fields += [(":authority", dict(pairs)["host"]), *((n, v) for n, v in pairs if n not in OF_HTTP1)]
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(self.stream, fields)
        if early:
            self.h2.send_data(self.stream, early)
        self.flush()

    def turn(self) -> None:
        room = 65536 if self.finished else self.h2.local_flow_control_window(self.stream)
        reads = [self.outer] if not self.finished else []
        reads += [self.inner] if room > 0 and not self.shut else []
        ready, writable, _ = select.select(reads, [self.inner] if self.back else [], [], 20)
        if self.outer in ready:
            self.take(self.outer.recv(65536))
        if self.inner in ready:
            data = self.inner.recv(min(room, 16384))
            self.shut = not data
            if not self.finished:
                self.h2.send_data(self.stream, data, end_stream=self.shut)
        if writable:
            sent = self.inner.send(self.back)
            self.back = self.back[sent:]
            credit = min(sent, self.unacknowledged)
            if credit and not self.finished:
                self.h2.acknowledge_received_data(credit, self.stream)
                self.unacknowledged -= credit
        self.flush()

    def take(self, data: bytes) -> None:
        if not data:
            self.finished = True
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.response([(str(name), str(value)) for name, value in event.headers or []])
            elif isinstance(event, h2.events.DataReceived):
                self.back += event.data or b""
                self.unacknowledged += event.flow_controlled_length or 0
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated):
                self.finished = True
                if isinstance(event, h2.events.StreamEnded) and not self.shut:
                    with contextlib.suppress(h2.exceptions.ProtocolError):  # reset meanwhile
                        self.h2.end_stream(self.stream)
        self.flush()

    def response(self, headers: list[tuple[str, str]]) -> None:
        status = dict(headers)[":status"]
        plain = [(name, value) for name, value in headers if not name.startswith(":")]
        if status == "200":
            status = "101"
            plain += [
                ("upgrade", "websocket"),
                ("connection", "Upgrade"),
                ("sec-websocket-accept", accept_of(self.key)),
            ]
        lines = [f"HTTP/1.1 {status} over HTTP/2", *(f"{name}: {value}" for name, value in plain)]
        self.back += ("\r\n".join(lines) + "\r\n\r\n").encode()
