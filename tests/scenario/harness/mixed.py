# SPDX-License-Identifier: MIT
"""Requests of every protocol at a rate, beside streams that last: what a roll, a reload or a fault must not hurt.

`with MixedLoad(gateway, rate=300): ...` (app mixed:app, a gateway with tls). A request that does not give the right
answer is a failure. What the protocols allow to a server that goes is none: `Connection: close`, GOAWAY with streams
above its last id (they are sent again), a WebSocket closed with 1001 or 1012.
"""

import hashlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .gateway import insecure_context
from .http1 import Client, Closed
from .http2 import Ended, Http2, request
from .websocket import CLOSE, TEXT, WsClient

if TYPE_CHECKING:
    from .gateway import Gateway

DOWNLOAD, UPLOAD, PIECES, EVENTS = 2 << 20, 1 << 20, 16, 20
PATTERN = bytes(range(256)) * 256
# How long a stream that lasts goes on, at least: longer than a worker takes to be replaced.
STREAM_SECONDS = 2.0
# Requests at once on an HTTP/2 connection.
STREAMS = 4
POLITE = (1001, 1012)

Excuse = Callable[[str, str], bool]


class Wrong(AssertionError):
    """An answer that is not the right one."""


class Client1:
    """HTTP/1.1 on one connection, until the gateway says that it closes it."""

    def __init__(self, gateway: "Gateway", tls: bool, keep: int):
        self.gateway, self.tls, self.keep = gateway, tls, keep
        self.client: Client | None = None
        self.left = 0

    def connected(self) -> Client:
        if self.client is None:
            self.client = self.gateway.tls_client() if self.tls else self.gateway.client()
            self.left = self.keep
        return self.client

    def get(self, number: int) -> None:
        client = self.connected()
        client.request("GET", f"/numbered?{number}")
        answer = client.response()
        if answer.status != 200 or answer.body != b"%d" % number:
            raise Wrong(f"{answer.status} {answer.body[:80]!r}")
        self.left -= 1
        if answer.header("connection") == "close" or not self.left:
            self.drop()

    def drop(self) -> None:
        if self.client is not None:
            self.client.close()
        self.client = None


class Client2:
    """HTTP/2, some streams at once."""

    def __init__(self, gateway: "Gateway", tls: bool, streams: int):
        self.gateway, self.tls, self.streams = gateway, tls, streams
        self.client: Http2 | None = None

    def connected(self) -> Http2:
        if self.client is None:
            port = self.gateway.tls_port if self.tls else self.gateway.port
            context = insecure_context(["h2"]) if self.tls else None
            self.client = Http2(("127.0.0.1", port), context)
        return self.client

    def get_all(self, numbers: list[int]) -> None:
        """Those above the last id of a GOAWAY are sent again on the next connection."""
        while numbers:
            client = self.connected()
            opened = {client.open(request(f"/numbered?{number}")): number for number in numbers}
            numbers = []
            for stream, number in opened.items():
                if self.unseen(client, stream):
                    numbers.append(number)
                    continue
                answer = client.answers[stream]
                if answer.status != 200 or answer.body != b"%d" % number:
                    raise Wrong(f"{answer.status} {answer.body[:80]!r} reset {answer.reset}")
            if client.goaways or client.next_stream > 20_000:
                self.drop()

    @staticmethod
    def unseen(client: Http2, stream: int) -> bool:
        """Waits for an answer; whether the gateway has said instead that it did not see the request."""

        def refused() -> bool:
            return any(stream > goaway.last_stream for goaway in client.goaways)

        try:
            while not refused():
                answer = client.answers.get(stream)
                if answer is not None and (answer.ended or answer.reset is not None):
                    return False
                client.next()
        except Ended:
            if not refused():
                raise
        return True

    def drop(self) -> None:
        if self.client is not None:
            self.client.socket.close()
        self.client = None


class Client3:
    """HTTP/3, one request after the other on a connection, which is renewed now and then."""

    KEEP = 100

    def __init__(self, gateway: "Gateway"):
        self.gateway = gateway
        self.client: Any = None
        self.left = 0

    def get(self, number: int) -> None:
        from .http3 import Http3, request  # not every machine has what it needs
        from .quic import Ended as QuicEnded

        while True:
            if self.client is None:
                self.client, self.left = Http3(self.gateway.quic_address), self.KEEP
            client = self.client
            try:
                stream = client.open(request(f"/numbered?{number}"))
                answer = client.answer(stream)
            except QuicEnded:
                self.drop()
                if not client.goaways:
                    raise
                continue  # it was told not to begin anything new here
            if answer.status != 200 or answer.body != b"%d" % number:
                if any(stream >= last for last in client.goaways):
                    self.drop()
                    continue
                raise Wrong(f"{answer.status} {answer.body[:80]!r} reset {answer.reset}")
            self.left -= 1
            if client.goaways or not self.left:
                self.drop()
            return

    def drop(self) -> None:
        if self.client is not None:
            self.client.close()
        self.client = None


class MixedLoad:
    """The load; `answered` and `streams` count what went well, `failures` says what did not."""

    def __init__(
        self,
        gateway: "Gateway",
        rate: float = 300,
        *,
        excuse: Excuse | None = None,
        streams: bool = True,
        http3: bool = False,
    ):
        self.gateway = gateway
        self.answered = 0
        self.streams: Counter[str] = Counter()
        self.failures: list[str] = []
        self.excused: Counter[str] = Counter()
        self.slowest = 0.0
        self._excuse = excuse
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        # What one turn of each sends; a turn of all comes so often that the sum is the rate.
        turns = {
            self._http1: 1,
            self._http1_tls: 1,
            self._http1_short: 1,
            self._http2: STREAMS,
            self._http2_tls: STREAMS,
            self._websocket: 1,
        }
        if http3:
            turns[self._http3] = 1
        self._threads: list[threading.Thread] = []
        for kind in turns:
            self._start(kind, sum(turns.values()) / rate)
        for stream in (self._download, self._upload, self._events, self._idle_websocket) if streams else ():
            self._start(stream, 0)

    def _start(self, kind: Callable[[float], None], period: float) -> None:
        self._threads.append(threading.Thread(target=kind, args=(period,), daemon=True, name=kind.__name__))

    # --- bookkeeping ----------------------------------------------------------------------------------------------

    def _count(self, kind: str, action: Callable[[], None], weight: int = 1, stream: bool = False) -> bool:
        """Does it once and notes how it went; whether it went well."""
        began = time.monotonic()
        try:
            action()
            failure = ""
        except (OSError, Closed, Ended, AssertionError) as error:
            failure = f"{type(error).__name__}: {error}"
        with self._lock:
            if not failure:
                if stream:
                    self.streams[kind] += 1
                else:
                    self.answered += weight
                    self.slowest = max(self.slowest, time.monotonic() - began)
            elif self._excuse is not None and self._excuse(kind, failure):
                self.excused[kind] += 1
            else:
                self.failures.append(f"{kind} after {time.monotonic() - began:.3f} s: {failure}")
        return not failure

    def _paced(self, period: float, action: Callable[[], None]) -> None:
        """At a rate: who is late makes up for it, but not for more than a second."""
        due = time.monotonic()
        while not self._stop.is_set():
            action()
            now = time.monotonic()
            due = max(due + period, now - 1)
            self._stop.wait(max(0.0, due - now))

    # --- requests -------------------------------------------------------------------------------------------------

    def _each(self, kind: str, client: Client1, period: float) -> None:
        def once() -> None:
            if not self._count(kind, lambda: client.get(next(self._numbers))):
                client.drop()

        self._paced(period, once)
        client.drop()

    def _http1(self, period: float) -> None:
        self._each("h1", Client1(self.gateway, False, 1 << 30), period)

    def _http1_tls(self, period: float) -> None:
        self._each("h1 tls", Client1(self.gateway, True, 200), period)

    def _http1_short(self, period: float) -> None:
        self._each("h1 short", Client1(self.gateway, False, 1), period)

    def _streams2(self, kind: str, client: Client2, period: float) -> None:
        def once() -> None:
            numbers = [next(self._numbers) for _ in range(client.streams)]
            if not self._count(kind, lambda: client.get_all(numbers), len(numbers)):
                client.drop()

        self._paced(period, once)
        client.drop()

    def _http2(self, period: float) -> None:
        self._streams2("h2", Client2(self.gateway, False, STREAMS), period)

    def _http2_tls(self, period: float) -> None:
        self._streams2("h2 tls", Client2(self.gateway, True, STREAMS), period)

    def _http3(self, period: float) -> None:
        client = Client3(self.gateway)

        def once() -> None:
            if not self._count("h3", lambda: client.get(next(self._numbers))):
                client.drop()

        self._paced(period, once)
        client.drop()

    def _websocket(self, period: float) -> None:
        socket: list[WsClient] = []

        def echo() -> None:
            if not socket:
                socket.append(self._open_websocket())
            text = f"message {next(self._numbers)}"
            socket[0].text(text)
            got = socket[0].frame()
            if got.opcode == CLOSE and got.code in POLITE:
                socket.pop().client.close()
                self.streams["websocket closed politely"] += 1
            elif got.opcode != TEXT or got.payload != text.encode():
                raise Wrong(f"WebSocket frame {got}")

        def once() -> None:
            if not self._count("websocket", echo):
                while socket:
                    socket.pop().client.close()

        self._paced(period, once)
        while socket:
            socket.pop().client.close()

    def _open_websocket(self) -> WsClient:
        client = WsClient(self.gateway.client())
        client.handshake("/ws")
        head = client.client.head()
        if head.status != 101:
            raise Wrong(f"WebSocket refused with {head.status}")
        return client

    # --- streams that last ----------------------------------------------------------------------------------------

    def _again_and_again(self, kind: str, action: Callable[[], None]) -> None:
        while not self._stop.is_set():
            if not self._count(kind, action, stream=True):
                self._stop.wait(0.05)

    def _download(self, _period: float) -> None:
        """Read slowly, so that the gateway holds it back; complete and right."""

        def once() -> None:
            with self.gateway.client(receive_buffer=32768) as client:
                client.request("GET", f"/download?bytes={DOWNLOAD}&chunked=1")
                head = client.head()
                if head.status != 200:
                    raise Wrong(f"download {head.status}")
                time.sleep(STREAM_SECONDS)
                body = client.body(head)
                if len(body) != DOWNLOAD or body != PATTERN * (DOWNLOAD // len(PATTERN)):
                    raise Wrong(f"download of {len(body)} bytes")

        self._again_and_again("download", once)

    def _upload(self, _period: float) -> None:
        piece = PATTERN[: UPLOAD // PIECES]
        digest = hashlib.sha256(piece * PIECES).hexdigest().encode()

        def once() -> None:
            with self.gateway.tls_client() as client:
                client.request("POST", "/digest", {"content-length": str(UPLOAD)})
                for _ in range(PIECES):
                    client.send(piece)
                    time.sleep(STREAM_SECONDS / PIECES)
                answer = client.response()
                if answer.status != 200 or digest not in answer.body:
                    raise Wrong(f"upload {answer.status} {answer.body[:80]!r}")

        self._again_and_again("upload", once)

    def _events(self, _period: float) -> None:
        delay = int(STREAM_SECONDS * 1000 / EVENTS)
        expected = b"".join(b"data: %d\n\n" % i for i in range(EVENTS))

        def once() -> None:
            with Http2(("127.0.0.1", self.gateway.port)) as client:
                answer = client.get(f"/drip?count={EVENTS}&delay={delay}")
                if answer.status != 200 or answer.body != expected or not answer.ended:
                    raise Wrong(f"events {answer.status} {answer.body[-80:]!r} reset {answer.reset}")

        self._again_and_again("events", once)

    def _idle_websocket(self, _period: float) -> None:
        """Waits for the gateway's close, which is polite; asks now and then whether it still is open."""

        def once() -> None:
            with self._open_websocket() as client:
                for count in range(int(STREAM_SECONDS / 0.2)):
                    client.text(f"{count}")
                    got = client.frame()
                    if got.opcode == CLOSE and got.code in POLITE:
                        return
                    if got.opcode != TEXT or got.payload != b"%d" % count:
                        raise Wrong(f"WebSocket frame {got}")
                    if self._stop.wait(0.2):
                        return

        self._again_and_again("websocket that lasts", once)

    # --- use ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> "MixedLoad":
        for thread in self._threads:
            thread.start()
        return self

    def more(self, count: int, seconds: float = 120.0) -> None:
        """Waits until so many more requests were answered."""
        self.reach(self.answered + count, seconds)

    def reach(self, total: int, seconds: float = 120.0) -> None:
        """Waits until so many requests were answered in all."""
        deadline = time.monotonic() + seconds
        while self.answered < total:
            assert time.monotonic() < deadline, f"{self.answered} of {total} answered, failures {self.failures[:5]}"
            assert len(self.failures) < 50, f"{self.failures[:5]}"
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it: every stream that has begun comes to its end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop()
        if kind is None:
            assert not self.failures, f"{len(self.failures)} of {self.answered} failed: {self.failures[:10]}"
            assert self.answered > 0

    def __str__(self) -> str:
        streams = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.streams.items()))
        excused = f"; excused {dict(self.excused)}" if self.excused else ""
        return (
            f"{self.answered} requests, {len(self.failures)} failed; {streams}; slowest {self.slowest:.3f} s{excused}"
        )
