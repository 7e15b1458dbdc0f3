# SPDX-License-Identifier: MIT
"""What carries a WebSocket over HTTP/2 (RFC 8441): a stream with the methods that WsClient knows from http1.Client."""

from .gateway import Gateway, insecure_context
from .http1 import Closed, Response
from .http2 import CANCEL, ENABLE_CONNECT_PROTOCOL, HEADERS, NO_ERROR, Answer, Fields, Http2

# Fields of the handshake over HTTP/1.1 that the one over HTTP/2 has not (RFC 8441 5.1).
OF_HTTP1 = ("connection", "upgrade", "sec-websocket-key", "host", "transfer-encoding")


class Tunnel:
    """One stream; the connection is its own unless it is given one."""

    def __init__(
        self, gateway: Gateway, *, tls: bool = False, receive_buffer: int | None = None, on: Http2 | None = None
    ):
        port = gateway.tls_port if tls else gateway.port
        context = insecure_context(["h2"]) if tls else None
        self.scheme = "https" if tls else "http"
        self.own = on is None
        self.http2 = on or Http2(("127.0.0.1", port), context, receive_buffer=receive_buffer)
        assert self.http2.server_settings[ENABLE_CONNECT_PROTOCOL] == 1
        self.stream = 0
        self.taken = 0  # of the answer's body
        self.shut_down = False

    # --- out ------------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        protocol: str = "websocket",
    ) -> None:
        """GET, which a handshake over HTTP/1.1 has, is CONNECT here."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        host = dict(pairs).get("host", "localhost")
        fields: Fields = [(":method", "CONNECT" if method == "GET" else method), (":protocol", protocol)]
        fields += [(":scheme", self.scheme), (":authority", host), (":path", target)]
        fields += [(name, value) for name, value in pairs if name not in OF_HTTP1]
        self.stream = self.http2.open(fields, end=False)
        self.http2.answers[self.stream] = Answer()

    def send(self, data: bytes) -> None:
        self.http2.patient_data(self.stream, data)

    def fill(self, payload: bytes) -> int:
        """Sends this again and again until no window opens any more; returns how many bytes that were."""
        sent = 0
        while True:
            while (room := min(self.http2.room(self.stream), 16384)) > 0:
                part = (payload[sent % len(payload) :] + payload)[:room]
                self.http2.data(self.stream, part)
                sent += len(part)
            self.http2.ping()
            if self.http2.room(self.stream) == 0:
                return sent

    def shut(self) -> None:
        """END_STREAM."""
        self.shut_down = True
        self.http2.data(self.stream, end=True)

    def end(self) -> None:
        """END_STREAM, unless the stream is over for this side."""
        if not self.shut_down and self.answer.reset is None:
            self.shut()

    def reset(self) -> None:
        self.http2.reset(self.stream, CANCEL)

    def close(self) -> None:
        if self.own:
            self.http2.socket.close()

    # --- in -------------------------------------------------------------------------------------------------------

    @property
    def answer(self) -> Answer:
        return self.http2.answers[self.stream]

    def head(self) -> Response:
        if not self.answer.status:
            self.http2.wait(lambda got: got.kind == HEADERS and got.stream == self.stream and self.answer.status > 0)
        return Response("HTTP/2", self.answer.status, "", self.answer.fields)

    def response(self) -> Response:
        answer = self.http2.answer(self.stream)
        if not answer.ended:
            raise Closed(answer.body)
        return Response("HTTP/2", answer.status, "", answer.fields, answer.body)

    def exactly(self, length: int) -> bytes:
        while len(self.answer.body) < self.taken + length:
            if self.answer.ended or self.answer.reset is not None:
                raise Closed(self.answer.body[self.taken :])
            self.http2.next()
        self.taken += length
        return self.answer.body[self.taken - length : self.taken]

    def rest(self) -> bytes:
        """Everything up to END_STREAM; Closed when the stream was reset."""
        answer = self.http2.answer(self.stream)
        if not answer.ended or answer.reset not in (None, NO_ERROR):
            raise Closed(answer.body[self.taken :])
        at, self.taken = self.taken, len(answer.body)
        return answer.body[at:]
