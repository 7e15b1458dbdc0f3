# SPDX-License-Identifier: MIT
"""WebSockets between raw clients and a scripted worker, over HTTP/1.1 and HTTP/2: the handshake, messages, credit."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.gateway import Gateway
from harness.scripted_worker import ScriptedWorker, c
from harness.websocket import (
    BINARY,
    CARRIERS,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    WsWorker,
    close_payload,
    frame,
    opened,
    ws_client,
)

Maker = Callable[..., Gateway]


H1 = pytest.mark.parametrize("site", ["h1"], indirect=True)  # what only this carrier has


@pytest.fixture(scope="module", params=CARRIERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("websocket"), tls=True, websocket={"max_message": "1MiB"})
    gateway.carrier = request.param
    try:
        yield gateway.start()
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture
def worker(site: Gateway) -> Iterator[WsWorker]:
    with WsWorker(site) as worker:
        yield worker
        worker.socket.settimeout(5)
        worker.leave()


def end(client: object, worker: WsWorker, stream: int) -> None:
    """The client closes; the worker is told and is done."""
    client.close(1000)  # type: ignore[attr-defined]
    assert worker.expect_ws_close(stream).code == 1000
    worker.done(stream)
    client.expect_close(1000)  # type: ignore[attr-defined]
    client.expect_end()  # type: ignore[attr-defined]


# --- handshake --------------------------------------------------------------------------------------------------------


@H1
def test_the_handshake_of_rfc_6455(site: Gateway, worker: WsWorker) -> None:
    with ws_client(site) as client:
        client.handshake("/chat?room=1", sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==")
        request = worker.websocket()
        assert (request.method, request.path, request.query, request.head[3]) == ("GET", "/chat", b"room=1", "ws")
        names = [name for name, _ in request.headers]
        assert names[0] == b"host" and b"upgrade" not in names and b"connection" not in names
        worker.accept(request.stream, fields=[(b"X-Seen", b"yes"), (b"set-cookie", b"a=b")])
        head = client.accepted()
        assert head.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert (head.header("upgrade"), head.header("connection")) == ("websocket", "Upgrade")
        assert (head.header("x-seen"), head.header("set-cookie")) == ("yes", "a=b")
        assert head.header("sec-websocket-protocol") is None and head.header("sec-websocket-extensions") is None
        assert head.header("transfer-encoding") is None and head.header("content-length") is None
        end(client, worker, request.stream)


def test_over_tls(site: Gateway, worker: WsWorker) -> None:
    with ws_client(site, tls=True) as client:
        client.handshake()
        request = worker.websocket()
        assert request.head[3] == "wss"
        worker.accept(request.stream)
        client.accepted()
        client.text("hi")
        assert worker.received(request.stream) == (b"hi", True)
        end(client, worker, request.stream)


def test_a_subprotocol(site: Gateway, worker: WsWorker) -> None:
    with ws_client(site) as client:
        client.handshake(sec_websocket_protocol="chat, superchat")
        request = worker.websocket()
        assert (b"sec-websocket-protocol", b"chat, superchat") in request.headers
        worker.accept(request.stream, "superchat")
        assert client.accepted().header("sec-websocket-protocol") == "superchat"
        end(client, worker, request.stream)


@H1
@pytest.mark.parametrize(
    ("status", "method", "fields"),
    [
        (400, "POST", {}),
        (400, "GET", {"sec_websocket_key": None}),
        (400, "GET", {"sec_websocket_key": "short"}),
        (400, "GET", {"sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ=!"}),
        (426, "GET", {"sec_websocket_version": "8"}),
        (426, "GET", {"sec_websocket_version": None}),
        (400, "GET", {"content_length": "1"}),
        (400, "GET", {"transfer_encoding": "chunked"}),
    ],
)
def test_a_wrong_handshake(site: Gateway, status: int, method: str, fields: dict[str, str | None]) -> None:
    with ws_client(site) as client:
        client.handshake(method=method, **fields)
        response = client.client.response()
        assert response.status == status and response.header("connection") == "close", response
        assert response.header("sec-websocket-version") == ("13" if status == 426 else None)


@H1
def test_an_upgrade_that_is_none(site: Gateway, worker: WsWorker) -> None:
    """RFC 9110 7.8: without Connection: upgrade, on HTTP/1.0, or to something else it is a plain request."""
    with site.client() as client:
        client.request("GET", "/plain", {"upgrade": "websocket"})
        request = worker.request()
        assert request.head[0] == c.KIND_HTTP
        worker.respond(request.stream)
        assert client.response().status == 200
        client.send(b"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        request = worker.request()
        assert request.head[0] == c.KIND_HTTP
        worker.respond(request.stream)
        assert client.response().status == 200


def test_the_app_refuses(site: Gateway, worker: WsWorker) -> None:
    with ws_client(site) as client:
        client.handshake()
        request = worker.websocket()
        worker.respond(request.stream, 403)
        response = client.client.response()
        assert (response.status, response.body) == (403, b"")
        assert response.header("connection") == ("close" if site.carrier == "h1" else None)
        client.expect_end()


def test_a_denial_with_a_streamed_body(site: Gateway, worker: WsWorker) -> None:
    with ws_client(site) as client:
        client.handshake()
        client.text("early, and in vain")
        stream = worker.websocket().stream
        worker.respond(stream, 401, [(b"www-authenticate", b"Basic")], b"who ", flags=0)
        worker.data(stream, b"are ")
        worker.data(stream, b"you?", c.FLAG_END_STREAM | c.FLAG_DONE)
        response = client.client.response()
        assert (response.status, response.body) == (401, b"who are you?")
        assert response.header("www-authenticate") == "Basic"


def test_no_worker_speaks_it(make_site: Maker) -> None:
    gateway = make_site(workers=0)
    with ScriptedWorker(gateway.app_socket) as worker, ws_client(gateway) as client:
        assert worker.ack["features"] == []
        client.handshake()
        assert client.client.response().status == 501
        worker.leave()


def test_origins(make_site: Maker) -> None:
    gateway = make_site(workers=0, websocket={"origins": ["https://example.com", "http://localhost:3000"]})
    with WsWorker(gateway) as worker:
        for origin in ("https://evil.example", "https://example.com.evil", "http://example.com", "null"):
            with ws_client(gateway) as client:
                client.handshake(origin=origin)
                assert client.client.response().status == 403
        for good in ("https://example.com", "http://localhost:3000", None):
            with ws_client(gateway) as client:
                client.handshake(origin=good)
                stream = worker.websocket().stream
                worker.accept(stream)
                client.accepted()
                end(client, worker, stream)
        gateway.expect_counted("ws_refused_origin", 4)
        worker.leave()


def test_long_lived_max(make_site: Maker) -> None:
    gateway = make_site(workers=0, app={"long_lived_max": 2})
    with WsWorker(gateway) as worker:
        first, one = opened(gateway, worker)
        second, two = opened(gateway, worker)
        with ws_client(gateway) as third:
            third.handshake()
            response = third.client.response()
            assert response.status == 503 and response.header("retry-after") is not None
        gateway.expect_counted("limit_long_lived")
        with gateway.client() as client:  # requests are not held up
            client.request("GET", "/")
            worker.respond(worker.request().stream)
            assert client.response().status == 200
        end(first, worker, one)
        gateway.wait_gauge("websockets", 1)
        third, three = opened(gateway, worker)
        end(second, worker, two)
        end(third, worker, three)
        worker.leave()


# --- messages ---------------------------------------------------------------------------------------------------------


def send_within_credit(worker: WsWorker, stream: int, payload: bytes) -> None:
    """A message of the app, as the client's reading gives credit for it."""
    sent, credit, more = 0, 65536, True
    while more:
        while credit <= c.DATA_OVERHEAD:
            credit += worker.expect(c.FRAME_WINDOW, stream).aux
        piece = payload[sent : sent + credit - c.DATA_OVERHEAD]
        sent += len(piece)
        credit -= len(piece) + c.DATA_OVERHEAD
        more = sent < len(payload)
        worker.message(stream, piece, c.FLAG_MORE if more else 0)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000, 1 << 20])
def test_sizes_in_both_directions(site: Gateway, worker: WsWorker, size: int) -> None:
    client, stream = opened(site, worker)
    with client:
        payload = bytes(i * 7 & 0xFF for i in range(size))
        with client.meanwhile(lambda: client.send(BINARY, payload)):
            assert worker.received(stream) == (payload, False)
        with ThreadPoolExecutor(1) as pool:
            whole = pool.submit(client.message)
            send_within_credit(worker, stream, payload)
            assert whole.result(20) == payload
        end(client, worker, stream)


def test_frames_that_come_before_accept_are_held(site: Gateway, worker: WsWorker) -> None:
    with ws_client(site) as client:
        client.handshake()
        client.text("one")
        client.send(PING, b"p")
        client.text("two")
        stream = worker.websocket().stream
        assert worker.alive()
        worker.accept(stream)
        client.accepted()
        assert worker.received(stream) == (b"one", True)
        assert worker.received(stream) == (b"two", True)
        assert client.expect(PONG).payload == b"p"
        end(client, worker, stream)


def test_fragments_and_pings_between_them(site: Gateway, worker: WsWorker) -> None:
    client, stream = opened(site, worker)
    with client:
        client.send(TEXT, "ä".encode()[:1], first=TEXT)
        client.send(PING, b"between")
        client.send(CONTINUATION, "ä".encode()[1:], first=FIN)
        assert worker.received(stream) == ("ä".encode(), True)
        assert client.expect(PONG).payload == b"between"
        end(client, worker, stream)


def test_many_frames_in_one_write(site: Gateway, worker: WsWorker) -> None:
    client, stream = opened(site, worker)
    with client:
        client.client.send(b"".join(frame(TEXT, b"%d" % i) for i in range(3000)))
        for i in range(3000):
            assert worker.received(stream) == (b"%d" % i, True)
        end(client, worker, stream)


def test_messages_of_the_app_that_come_with_its_close(site: Gateway, worker: WsWorker) -> None:
    client, stream = opened(site, worker)
    with client:
        for i in range(10):
            worker.text(stream, f"{i}")
        worker.close_websocket(stream, 4000, "that's all")
        assert [client.expect(TEXT).payload for _ in range(10)] == [b"%d" % i for i in range(10)]
        assert client.expect_close(4000) == "that's all"
        client.text("ignored")
        client.send(CLOSE, close_payload(4000))
        client.expect_end()


# --- credit -----------------------------------------------------------------------------------------------------------


def test_a_slow_app_stops_the_client(site: Gateway, worker: WsWorker) -> None:
    """Without credit at most a window lies with the worker, and about one in the gateway; the client's send blocks."""
    client, stream = opened(site, worker)
    with client:
        client.fill(frame(BINARY, bytes(50_000)))
        frames = worker.settled()
        assert all(got.kind == c.FRAME_WS_MSG for got in frames)
        held = sum(len(got.payload) + c.DATA_OVERHEAD for got in frames)
        assert 65536 - 17 < held <= 65536, held
        assert site.metric("buffered_bytes") <= 65536
        with site.client() as other:
            other.request("GET", "/")
            request = worker.request()
            worker.respond(request.stream)
            assert other.response().status == 200
        client.client.reset()
        worker.expect_disconnect(stream, c.ERROR_CLIENT_GONE)
        worker.done(stream)


def test_a_slow_client_stops_the_app(site: Gateway, worker: WsWorker) -> None:
    """A client that does not read: credit comes back only for what its socket took; empty messages are not free."""
    with ws_client(site, receive_buffer=4096) as client:
        client.handshake()
        stream = worker.websocket().stream
        worker.accept(stream)
        client.accepted()
        credit, given = 65536, 0
        while True:
            while credit >= 16 + 1000:
                worker.message(stream, bytes(1000))
                credit -= 1016
                given += 1
            granted = sum(got.aux for got in worker.settled())
            if granted == 0:
                break
            credit += granted
        assert given < 10_000
        empty = 0
        while credit >= 16:
            worker.message(stream, b"")
            credit -= 16
            empty += 1
        assert worker.settled() == []
        assert site.metric("buffered_bytes") <= 2 * 65536
        for _ in range(given):
            assert len(client.expect(BINARY).payload) == 1000
        for _ in range(empty):
            assert client.expect(BINARY).payload == b""
        client.close(1000)
        assert worker.expect_ws_close(stream).code == 1000
        worker.done(stream)


def test_a_client_that_sends_pings_and_reads_nothing(site: Gateway, worker: WsWorker) -> None:
    """One answer is enough for many PINGs (RFC 6455 5.5.3): they cannot fill the gateway."""
    with ws_client(site, receive_buffer=4096) as client:
        client.handshake()
        stream = worker.websocket().stream
        worker.accept(stream)
        client.accepted()
        ping = frame(PING, b"x" * 125)
        for _ in range(200):
            client.client.send(ping * 200)
        assert worker.alive()
        assert site.metric("buffered_bytes") <= 65536 + 8192
        client.send(PING, b"last")
        while client.expect(PONG).payload != b"last":
            pass
        end(client, worker, stream)
