# SPDX-License-Identifier: MIT
"""A raw HTTP/1.1 client: the test says every byte, and sees every byte."""

import socket
import ssl
import struct
import time
from dataclasses import dataclass, field


class Closed(AssertionError):
    """The peer closed before the response was complete; `data` is what came."""

    def __init__(self, data: bytes):
        super().__init__(f"closed after {len(data)} bytes: {data[:200]!r}")
        self.data = data


@dataclass
class Response:
    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name.lower()]
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]


class Client:
    """One connection. Reads with a generous deadline; a test that expects silence says so with expect_silence."""

    def __init__(
        self,
        address: tuple[str, int] | str,
        tls: ssl.SSLContext | None = None,
        timeout: float = 20.0,
        server_hostname: str = "localhost",
        receive_buffer: int | None = None,
    ):
        if isinstance(address, str):
            plain = socket.socket(socket.AF_UNIX)
        else:
            plain = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(timeout)
        plain.connect(address)
        self.socket = tls.wrap_socket(plain, server_hostname=server_hostname) if tls else plain
        self.buffer = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Closes with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def shut(self) -> None:
        """Half-closes: FIN, still reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes | None = None,
    ) -> None:
        fields = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        names = [name.lower() for name, _ in fields]
        if "host" not in names:
            fields.insert(0, ("host", "localhost"))
        if body is not None and "content-length" not in names and "transfer-encoding" not in names:
            fields.append(("content-length", str(len(body))))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields) + "\r\n"
        self.send(head.encode("latin-1") + (body or b""))

    def _more(self) -> bytes:
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLError) as error:
            raise Closed(self.buffer) from error
        return data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            data = self._more()
            if not data:
                raise Closed(self.buffer)
            self.buffer += data
        part, self.buffer = self.buffer.split(mark, 1)
        return part

    def exactly(self, length: int) -> bytes:
        pieces, have = [self.buffer], len(self.buffer)
        while have < length:
            data = self._more()
            if not data:
                raise Closed(b"".join(pieces))
            pieces.append(data)
            have += len(data)
        whole = b"".join(pieces)
        part, self.buffer = whole[:length], whole[length:]
        return part

    def head(self) -> Response:
        """Reads one head, informational or final."""
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, *reason = lines[0].split(" ", 2)
        headers = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        return Response(version, int(status), reason[0] if reason else "", headers)

    def body(self, response: Response, method: str = "GET") -> bytes:
        """Reads the body that belongs to a head; raises Closed when it is cut short."""
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            return b""
        if response.header("transfer-encoding") == "chunked":
            self._chunked(response)
        elif (length := response.header("content-length")) is not None:
            response.body = self.exactly(int(length))
        else:
            response.body = self.rest()
        return response.body

    def _chunked(self, response: Response) -> None:
        while True:
            size = int(self._until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                break
            response.chunks.append(self.exactly(size))
            assert self.exactly(2) == b"\r\n"
        while line := self._until(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(":")
            response.trailers.append((name.lower(), value.strip()))
        response.body = b"".join(response.chunks)

    def response(self, method: str = "GET") -> Response:
        """The next final response with its body; informational ones are skipped."""
        while (response := self.head()).status < 200:
            pass
        self.body(response, method)
        return response

    def get(self, target: str, headers: dict[str, str] | None = None) -> Response:
        self.request("GET", target, headers)
        return self.response()

    def rest(self) -> bytes:
        """Everything up to the end of the connection in order; Closed when it was reset."""
        data = self.buffer
        self.buffer = b""
        while True:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError as error:
                raise Closed(data) from error
            if not more:
                return data
            data += more

    def expect_end(self, seconds: float = 20.0) -> bytes:
        """Waits for FIN or RST and returns what came before."""
        self.socket.settimeout(seconds)
        try:
            return self.rest()
        except Closed as closed:
            return closed.data

    def expect_silence(self, seconds: float) -> None:
        """Nothing comes and nothing ends for so long (the only use of time here: absence has no event)."""
        assert not self.buffer, self.buffer
        self.socket.settimeout(seconds)
        started = time.monotonic()
        try:
            data = self.socket.recv(1)
        except TimeoutError:
            return
        raise AssertionError(f"{data!r} came after {time.monotonic() - started:.2f} s")
