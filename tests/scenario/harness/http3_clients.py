# SPDX-License-Identifier: MIT
"""HTTP/3 behind the faces that the suites of the frameworks know: http1.Client, and a transport of httpx."""

from collections.abc import Iterator
from typing import Any

import httpx

from .http1 import Closed, Response
from .http3 import Answer, Fields, Http3
from .quic import Address, Ended

NOT_OF_HTTP3 = ("connection", "transfer-encoding", "keep-alive", "host", "upgrade", "proxy-connection")


def fields_of(method: str, target: str, pairs: Fields, host: str) -> Fields:
    lower = [(name.lower(), value) for name, value in pairs]
    host = dict(lower).get("host", host)
    head = [(":method", method), (":scheme", "https"), (":authority", host), (":path", target)]
    return head + [pair for pair in lower if pair[0] not in NOT_OF_HTTP3]


class H3Client:
    """One connection; each request is a stream, answers are read in the order of the requests."""

    def __init__(self, address: Address, receive_buffer: int | None = None, **_: Any):
        window = {"max_stream_data": receive_buffer} if receive_buffer else {}
        self.http3 = Http3(address, **window)
        self.narrow = receive_buffer is not None
        self.streams: list[int] = []
        self.taken = 0
        self.chunked = False

    def __enter__(self) -> "H3Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.streams and self.http3.closing is None:
            self.http3.ping()  # what was asked for has come before the goodbye
        self.http3.close()

    def reset(self) -> None:
        self.http3.cancel(self.streams[-1])
        self.http3.ping()

    def shut(self) -> None:
        """There is no half-closed connection; a request has its end anyway."""

    def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes | None = None,
    ) -> None:
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        if target.startswith("http"):
            target = "/" + target.split("/", 3)[3]
        names = {name.lower(): value for name, value in pairs}
        self.chunked = "chunked" in names.get("transfer-encoding", "")
        self.left = int(names.get("content-length", "0")) if body is None else 0
        if body is not None and "content-length" not in names:
            pairs.append(("content-length", str(len(body))))
        open_end = body is None and (self.chunked or self.left > 0)
        stream = self.http3.open(fields_of(method, target, pairs, "localhost"), end=not body and not open_end)
        self.streams.append(stream)
        if self.narrow:
            self.http3.hold(stream)
        if body:
            self.http3.data(stream, body, True)

    def send(self, data: bytes) -> None:
        """More of the body, with the framing of HTTP/1.1 when that was announced."""
        stream = self.streams[-1]
        if not self.chunked:
            self.left -= len(data)
            self.http3.data(stream, data, self.left <= 0)
            return
        while data:
            size, _, rest = data.partition(b"\r\n")
            length = int(size, 16)
            self.http3.data(stream, rest[:length], length == 0)
            data = rest[length + 2 :]

    def _response(self, answer: Answer) -> Response:
        made = Response("HTTP/3", answer.status, "", answer.fields, bytes(answer.body))
        made.trailers = answer.trailers
        return made

    def head(self) -> Response:
        answer = self.http3.head(self.streams[0])
        if not answer.status:
            raise Closed(b"")
        return self._response(answer)

    def exactly(self, length: int) -> bytes:
        answer = self.http3.answers[self.streams[0]]
        self.http3.pump(lambda: len(answer.body) >= self.taken + length or answer.over, f"{length} bytes")
        if len(answer.body) < self.taken + length:
            raise Closed(bytes(answer.body))
        self.taken += length
        return bytes(answer.body[self.taken - length : self.taken])

    def response(self, method: str = "GET") -> Response:
        stream = self.streams.pop(0)
        self.taken = 0
        if self.narrow:
            self.http3.go_on()
        try:
            answer = self.http3.answer(stream)
        except Ended:
            raise Closed(bytes(self.http3.answers[stream].body)) from None
        if not answer.ended:
            raise Closed(b"HTTP/3 %d\r\n\r\n" % answer.status + bytes(answer.body))
        return self._response(answer)

    def get(self, target: str, headers: dict[str, str] | None = None) -> Response:
        self.request("GET", target, headers)
        return self.response()


class Body(httpx.SyncByteStream):
    """A body as it comes. Leaving it early cancels the request."""

    def __init__(self, http3: Http3, stream: int):
        self.http3, self.stream = http3, stream

    def __iter__(self) -> Iterator[bytes]:
        answer = self.http3.answers[self.stream]
        while True:
            self.http3.pump(lambda: answer.body or answer.over, "more of the body")
            if answer.body:
                piece = bytes(answer.body)
                answer.body = bytearray()
                yield piece
            elif answer.reset is not None:
                raise httpx.RemoteProtocolError(f"the stream was reset with {answer.reset:#x}")
            else:
                return

    def close(self) -> None:
        if not self.http3.answers[self.stream].over:
            self.http3.cancel(self.stream)


class Transport(httpx.BaseTransport):
    """One connection for all requests, made when it is needed first."""

    def __init__(self, address: Address):
        self.address = address
        self.http3: Http3 | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.http3 is None or self.http3.closing is not None:
            self.http3 = Http3(self.address)
        http3 = self.http3
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        asked = fields_of(request.method, request.url.raw_path.decode("latin-1"), pairs, request.url.netloc.decode())
        stream = http3.open(asked, end=False)
        assert isinstance(request.stream, httpx.SyncByteStream)
        for piece in request.stream:
            http3.data(stream, piece)
        http3.raw(stream, b"", True)
        answer = http3.head(stream)
        if not answer.status:
            raise httpx.RemoteProtocolError(f"the stream was reset with {answer.reset}")
        extensions = {"http_version": b"HTTP/3"}
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.fields]
        return httpx.Response(answer.status, headers=fields, stream=Body(http3, stream), extensions=extensions)

    def close(self) -> None:
        if self.http3 is not None:
            self.http3.close()
