# SPDX-License-Identifier: MIT
"""What carries a WebSocket over HTTP/3 (RFC 9220): a stream with the methods that WsClient knows from http1.Client."""

from .gateway import Gateway
from .http1 import Closed, Response
from .http2 import Fields
from .http3 import ENABLE_CONNECT_PROTOCOL, H3_NO_ERROR, REQUEST_CANCELLED, Answer, Http3, frame, join
from .quic import Ended
from .tunnel import Tunnel

# Fields of the handshake over HTTP/1.1 that the one over HTTP/3 has not (RFC 9220 3, RFC 8441 5.1).
OF_HTTP1 = ("connection", "upgrade", "sec-websocket-key", "host", "transfer-encoding")


class Tunnel3(Tunnel):
    """One stream; the connection is its own unless it is given one. `receive_buffer` becomes the stream's window."""

    scheme = "https"

    def __init__(self, gateway: Gateway, *, receive_buffer: int | None = None, on: Http3 | None = None):
        self.own = on is None
        window = max(receive_buffer or 0, 16384) if receive_buffer else 1 << 20
        self.http3 = on or Http3(gateway.quic_address, max_stream_data=window)
        self.http3.ready()
        assert self.http3.server_settings is not None and self.http3.server_settings[ENABLE_CONNECT_PROTOCOL] == 1
        self.narrow = receive_buffer is not None
        self.stream = 0
        self.taken = 0  # of the answer's body
        self.shut_down = False

    # --- out ----------------------------------------------------------------------------------------------------------

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
        self.stream = self.http3.open(fields, end=False)
        if self.narrow:
            self.http3.hold(self.stream)

    def send(self, data: bytes) -> None:
        """In DATA frames of 16 KiB at most; waits for the windows to let them out."""
        for at in range(0, len(data), 16384):
            self.http3.raw(self.stream, frame(0, data[at : at + 16384]))
        self.http3.pump(lambda: self.unsent <= 0 or self.answer.over, "the windows to open")

    @property
    def unsent(self) -> int:
        """Bytes that the windows hold back."""
        stream = self.http3.quic._streams.get(self.stream)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender.highest_offset

    def fill(self, payload: bytes) -> int:
        """Sends this again and again until no window opens any more; returns how many bytes that were."""
        sent = 0
        while True:
            while self.unsent < 65536:
                self.http3.raw(self.stream, join(0, len(payload), payload))
                sent += len(payload)
            before = self.unsent
            for _ in range(3):
                self.http3.ping()
            if self.unsent == before:
                return sent - self.unsent

    def shut(self) -> None:
        """FIN."""
        self.shut_down = True
        self.http3.raw(self.stream, b"", True)
        self.http3.flush()

    def end(self) -> None:
        """FIN, unless the stream is over for this side; then goodbye, if the connection is its own."""
        if not self.shut_down and self.answer.reset is None and self.answer.stopped is None:
            self.shut()
        self.close()

    def reset(self) -> None:
        self.http3.cancel(self.stream)
        self.http3.ping()

    def close(self) -> None:
        if self.own:
            self.http3.close()

    # --- in -----------------------------------------------------------------------------------------------------------

    @property
    def answer(self) -> Answer:  # type: ignore[override]
        return self.http3.answers[self.stream]

    def head(self) -> Response:
        answer = self.http3.head(self.stream)
        if not answer.status:
            raise Closed(b"")
        return Response("HTTP/3", answer.status, "", answer.fields)

    def response(self) -> Response:
        answer = self.http3.answer(self.stream)
        if not answer.ended:
            raise Closed(bytes(answer.body))
        return Response("HTTP/3", answer.status, "", answer.fields, bytes(answer.body))

    def exactly(self, length: int) -> bytes:
        if self.narrow:  # reading opens the window
            self.http3.go_on()
            self.narrow = False
        answer = self.answer
        try:
            self.http3.pump(lambda: len(answer.body) >= self.taken + length or answer.over, f"{length} bytes")
        except Ended:
            pass
        if len(answer.body) < self.taken + length:
            raise Closed(bytes(answer.body[self.taken :]))
        self.taken += length
        return bytes(answer.body[self.taken - length : self.taken])

    def rest(self) -> bytes:
        """Everything up to FIN; Closed when the stream was reset."""
        answer = self.http3.answer(self.stream)
        if not answer.ended or answer.reset not in (None, H3_NO_ERROR):
            raise Closed(bytes(answer.body[self.taken :]))
        at, self.taken = self.taken, len(answer.body)
        return bytes(answer.body[at:])


__all__ = ["REQUEST_CANCELLED", "Tunnel3"]
