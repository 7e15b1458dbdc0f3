# SPDX-License-Identifier: MIT
"""What WebSockets over HTTP/2 have of their own (RFC 8441): the handshake, many on one connection, ends of streams."""

from collections.abc import Iterator

import pytest
from harness.gateway import Gateway
from harness.http1 import Closed
from harness.http2 import (
    CANCEL,
    DATA,
    ENABLE_CONNECT_PROTOCOL,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    NO_ERROR,
    PROTOCOL_ERROR,
    RST_STREAM,
    STREAM_CLOSED,
    Ended,
    Fields,
    Http2,
    block,
    frame,
    request,
)
from harness.scripted_worker import c
from harness.tunnel import Tunnel
from harness.websocket import BINARY, CLOSE, PING, PONG, TEXT, WsClient, WsWorker, close_payload
from harness.websocket import frame as ws_frame

SHORT = {
    "body_size": "1KiB",
    "body_idle": "300ms",
    "keep_alive": "300ms",
    "lingering_close": "300ms",
    "first_byte": "5s",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Limits of requests that a tunnel must not meet, and a short one for its end."""
    gateway = Gateway(
        tmp_path_factory.mktemp("tunnels"),
        tls=True,
        limits=SHORT,
        websocket={"ping_interval": "1s", "max_message": "1MiB"},
    )
    gateway.carrier = "h2"
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


@pytest.fixture
def http2(site: Gateway) -> Iterator[Http2]:
    with Http2(("127.0.0.1", site.port)) as client:
        yield client


def opened(site: Gateway, worker: WsWorker, http2: Http2) -> tuple[WsClient, int]:
    client = WsClient(Tunnel(site, on=http2))
    client.handshake()
    stream = worker.websocket().stream
    worker.accept(stream)
    client.accepted()
    return client, stream


def tunnel(client: WsClient) -> Tunnel:
    assert isinstance(client.client, Tunnel)
    return client.client


def end(client: WsClient, worker: WsWorker, stream: int) -> None:
    client.close(1000)
    assert worker.expect_ws_close(stream).code == 1000
    worker.done(stream)
    client.expect_close(1000)
    client.expect_end()


def connect(*more: tuple[str, str], protocol: str | None = "websocket", method: str = "CONNECT") -> Fields:
    fields = [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", "/chat?room=1")]
    return [*fields, *([(":protocol", protocol)] if protocol is not None else []), *more]


VERSION = ("sec-websocket-version", "13")

# --- handshake --------------------------------------------------------------------------------------------------------


def test_the_handshake_of_rfc_8441(http2: Http2, worker: WsWorker) -> None:
    assert http2.server_settings[ENABLE_CONNECT_PROTOCOL] == 1
    offers = [("sec-websocket-protocol", "chat, superchat"), ("sec-websocket-extensions", "permessage-deflate")]
    stream = http2.open(connect(VERSION, *offers, ("origin", "http://localhost")), end=False)
    seen = worker.websocket()
    assert (seen.method, seen.path, seen.query, seen.head[2], seen.head[3]) == ("GET", "/chat", b"room=1", "2", "ws")
    names = [name for name, _ in seen.headers]
    assert names[0] == b"host" and not [name for name in names if name.startswith(b":")]
    worker.accept(seen.stream, "chat", [(b"X-Seen", b"yes")])
    got = http2.wait(lambda got: got.kind == HEADERS and got.stream == stream)
    answer = http2.answers[stream]
    assert answer.status == 200 and not got.flags & END_STREAM
    assert (answer.header("sec-websocket-protocol"), answer.header("x-seen")) == ("chat", "yes")
    assert (answer.header("sec-websocket-extensions") or "").startswith("permessage-deflate")
    for name in ("sec-websocket-accept", "upgrade", "connection", "content-length", "transfer-encoding"):
        assert answer.header(name) is None
    http2.reset(stream)
    worker.expect_disconnect(seen.stream, c.ERROR_CLIENT_GONE)
    worker.done(seen.stream)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (connect(), 426),
        (connect(("sec-websocket-version", "8")), 426),
        (connect(VERSION, protocol="connect-udp"), 501),
        (connect(VERSION, protocol="h2c"), 501),
        (connect(VERSION, ("content-length", "5")), 400),
        (connect(VERSION, ("content-length", "0")), 400),
        ([(":method", "CONNECT"), (":authority", "localhost:80")], 501),
    ],
)
def test_refused_with_a_status(http2: Http2, worker: WsWorker, fields: Fields, status: int) -> None:
    answer = http2.answer(http2.open(fields, end=False))
    assert answer.status == status and answer.ended
    assert answer.header("sec-websocket-version") == ("13" if status == 426 else None)
    http2.ping()


def test_a_tunnel_that_ends_with_its_request(http2: Http2, worker: WsWorker) -> None:
    assert http2.answer(http2.open(connect(VERSION), end=True)).status == 400


@pytest.mark.parametrize(
    "fields",
    [
        connect(VERSION, method="GET"),
        connect(VERSION, method="POST"),
        [field for field in connect(VERSION) if field[0] != ":path"],
        [field for field in connect(VERSION) if field[0] != ":scheme"],
        [field for field in connect(VERSION) if field[0] != ":authority"],
        connect(VERSION, ("connection", "upgrade")),
        connect(VERSION, ("upgrade", "websocket")),
        [*connect(VERSION)[:5], (":protocol", "websocket"), VERSION],
    ],
)
def test_malformed(http2: Http2, worker: WsWorker, fields: Fields) -> None:
    """RFC 9113 8.1.1: a stream error, or 400."""
    answer = http2.answer(http2.open(fields, end=False))
    assert answer.reset == PROTOCOL_ERROR or answer.status == 400, answer
    http2.ping()


def test_the_app_refuses_and_siblings_go_on(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    first, one = opened(site, worker, http2)
    second = WsClient(Tunnel(site, on=http2))
    second.handshake()
    second.text("early, and in vain")
    worker.respond(worker.websocket().stream, 403, body=b"no")
    response = second.client.response()
    assert (response.status, response.body) == (403, b"no")
    first.text("still")
    assert worker.received(one) == (b"still", True)
    end(first, worker, one)


def test_a_denial_cannot_be_a_2xx(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    """It would be taken for the accept."""
    client = WsClient(Tunnel(site, on=http2))
    client.handshake()
    stream = worker.websocket().stream
    worker.respond(stream, 200, body=b"yes?")
    assert client.client.response().status == 502
    assert worker.alive()


# --- many on one connection -------------------------------------------------------------------------------------------


def test_many_tunnels_and_requests_on_one_connection(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    pairs = [opened(site, worker, http2) for _ in range(30)]
    for turn in range(3):
        for number, (client, _) in enumerate(pairs):
            client.text(f"{number} {turn}")
        for number, (_, stream) in enumerate(pairs):
            assert worker.received(stream) == (f"{number} {turn}".encode(), True)
            worker.text(stream, f"{number} back {turn}")
        got = http2.open(request("/page"))
        seen = worker.request()
        worker.respond(seen.stream, 200, body=b"a page")
        assert http2.answer(got).body == b"a page"
        for number, (client, _) in enumerate(pairs):
            assert client.expect(TEXT).payload == f"{number} back {turn}".encode()
    for client, stream in pairs:
        end(client, worker, stream)
    site.wait_gauge("websockets", 0)


def test_one_slow_app_does_not_stop_the_others(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    """A stream's window is shut when its app takes nothing; the connection's is not."""
    slow, held = opened(site, worker, http2)
    fast, stream = opened(site, worker, http2)
    slow.fill(ws_frame(BINARY, bytes(50_000)))
    frames = worker.settled()
    assert sum(len(got.payload) + c.DATA_OVERHEAD for got in frames if got.stream == held) <= 65536
    for _ in range(20):
        with fast.meanwhile(lambda: fast.send(BINARY, bytes(100_000))):
            assert worker.received(stream) == (bytes(100_000), False)
    tunnel(slow).reset()
    worker.expect_disconnect(held, c.ERROR_CLIENT_GONE)
    worker.done(held)
    end(fast, worker, stream)
    site.wait_metric("buffered_bytes", 0)


def test_limits_of_requests_do_not_hold(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    """More bytes than limits.body_size, slower than limits.body_idle, without a request for limits.keep_alive."""
    client, stream = opened(site, worker, http2)
    for _ in range(3):
        client.send(BINARY, bytes(20_000))
        assert worker.received(stream) == (bytes(20_000), False)
        assert client.expect(PING).payload == b""  # a second of silence
        client.send(PONG)
    end(client, worker, stream)


def test_streams_that_are_given_up_count_until_the_worker_has_confirmed(site: Gateway, worker: WsWorker) -> None:
    with Http2(("127.0.0.1", site.port)) as http2:
        given_up = [http2.open(connect(VERSION), end=False) for _ in range(100)]
        held = [worker.websocket().stream for _ in given_up]
        for stream in given_up:
            http2.reset(stream)
        refused = http2.answer(http2.open(connect(VERSION), end=False))
        assert refused.reset is not None and refused.status == 0
        for stream in held:
            worker.expect_disconnect(stream, c.ERROR_CLIENT_GONE)
            worker.done(stream)
        assert worker.alive()
        client, stream = opened(site, worker, http2)
        end(client, worker, stream)


# --- ends of streams --------------------------------------------------------------------------------------------------


def test_end_stream_on_both_sides_is_the_end_in_order(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    client, stream = opened(site, worker, http2)
    end(client, worker, stream)
    http2.ping()
    answer = tunnel(client).answer
    assert answer.ended and answer.reset is None


def test_a_client_that_does_not_end_its_side(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    """END_STREAM, and after limits.lingering_close RST_STREAM(NO_ERROR)."""
    client, stream = opened(site, worker, http2)
    client.close(1000)
    worker.expect_ws_close(stream)
    worker.done(stream)
    client.expect_close(1000)
    client.text("behind the close frame")
    assert client.client.rest() == b""
    mine = tunnel(client)
    http2.wait(lambda got: got.kind == RST_STREAM and got.stream == mine.stream)
    assert mine.answer.reset == NO_ERROR
    http2.ping()


def test_data_behind_the_end_only_returns_credit(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    client, stream = opened(site, worker, http2)
    worker.close_websocket(stream, 1000)
    client.expect_close(1000)
    client.send(CLOSE, close_payload(1000))
    for _ in range(100):  # more than the connection's window, a stream's worth on each of several streams
        room = min(http2.room(tunnel(client).stream), 16384)
        if room <= 0:
            break
        http2.data(tunnel(client).stream, bytes(room))
        http2.ping()
    client.expect_end()
    other, stream = opened(site, worker, http2)
    with other.meanwhile(lambda: other.send(BINARY, bytes(1_000_000))):
        assert worker.received(stream) == (bytes(1_000_000), False)
    end(other, worker, stream)


def test_data_behind_end_stream_is_an_error(site: Gateway, worker: WsWorker) -> None:
    with Http2(("127.0.0.1", site.port)) as http2:
        client, stream = opened(site, worker, http2)
        client.client.shut()
        worker.expect_disconnect(stream, c.ERROR_CLIENT_GONE)
        worker.done(stream)
        http2.send(DATA, 0, tunnel(client).stream, b"x")
        try:
            assert http2.answer(tunnel(client).stream).reset in (CANCEL, STREAM_CLOSED)
            http2.ping()
        except Ended as ended:
            assert ended.code == STREAM_CLOSED


def test_trailers_of_a_tunnel_are_an_error(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    """RFC 9113 8.5: only DATA."""
    client, stream = opened(site, worker, http2)
    mine = tunnel(client).stream
    http2.raw(frame(HEADERS, END_HEADERS | END_STREAM, mine, block([("x-a", "b")])))
    assert http2.answer(mine).reset == PROTOCOL_ERROR
    worker.expect_disconnect(stream, c.ERROR_CLIENT_GONE)
    worker.done(stream)
    http2.ping()


def test_the_end_of_the_connection_ends_them_all(site: Gateway, worker: WsWorker) -> None:
    with Http2(("127.0.0.1", site.port)) as http2:
        streams = [opened(site, worker, http2)[1] for _ in range(5)]
    for stream in streams:
        worker.expect_disconnect(stream, c.ERROR_CLIENT_GONE)
        worker.done(stream)
    assert worker.alive()


def test_reset_says_cancel(site: Gateway, http2: Http2, worker: WsWorker) -> None:
    """A tunnel ended without a close frame is not answered in order."""
    client, stream = opened(site, worker, http2)
    client.client.shut()
    worker.expect_disconnect(stream, c.ERROR_CLIENT_GONE)
    worker.done(stream)
    with pytest.raises(Closed):
        client.frame()
    assert tunnel(client).answer.reset == CANCEL
