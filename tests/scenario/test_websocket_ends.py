# SPDX-License-Identifier: MIT
"""The websocket column of the end-of-life table, cell by cell, over HTTP/1.1 and HTTP/2, and what breaks the rules."""

import signal
from collections.abc import Callable, Iterator

import pytest
from harness.gateway import Gateway
from harness.http1 import Closed
from harness.process import wait_for
from harness.scripted_worker import c, packb
from harness.websocket import (
    BINARY,
    CARRIERS,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    TEXT,
    WsWorker,
    close_payload,
    frame,
    opened,
    ws_client,
)

Maker = Callable[..., Gateway]


@pytest.fixture(scope="module", params=CARRIERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("ends"),
        websocket={"max_message": "64KiB", "max_fragments": 8},
        limits={"first_byte": "400ms"},
    )
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


# --- the client ends it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "shut"])
def test_gone_before_accept(site: Gateway, worker: WsWorker, how: str) -> None:
    with ws_client(site) as client:
        client.handshake()
        stream = worker.websocket().stream
        getattr(client.client, how)()
        worker.expect_disconnect(stream, c.ERROR_CLIENT_GONE)
        worker.accept(stream)  # too late, and no breach
        worker.text(stream, "late")
        worker.done(stream)
        assert worker.alive()


@pytest.mark.parametrize("how", ["reset", "shut"])
def test_gone_after_accept(site: Gateway, worker: WsWorker, how: str) -> None:
    client, stream = opened(site, worker)
    with client:
        client.text("last words")
        if how == "reset":
            assert worker.received(stream) == (b"last words", True)
        getattr(client.client, how)()
        if how == "shut":
            assert worker.received(stream) == (b"last words", True)
        worker.expect_disconnect(stream, c.ERROR_CLIENT_GONE)
        worker.done(stream)


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", 1005, b""),
        (close_payload(1000), 1000, b""),
        (close_payload(4321, "für heute"), 4321, "für heute".encode()),
    ],
)
def test_the_client_closes(site: Gateway, worker: WsWorker, payload: bytes, code: int, reason: bytes) -> None:
    client, stream = opened(site, worker)
    with client:
        client.text("before")
        client.send(CLOSE, payload)
        assert worker.received(stream, grant=False) == (b"before", True)
        close = worker.expect_ws_close(stream)
        assert (close.code, close.payload) == (code, reason)
        worker.text(stream, "crossing")  # dropped
        worker.close_websocket(stream, 1000)
        client.expect_close(code)
        client.expect_end()
        assert worker.alive()


def test_a_client_that_closes_while_its_messages_wait_for_the_app(site: Gateway, worker: WsWorker) -> None:
    """What came before the close frame is delivered first (SPEC R90)."""
    client, stream = opened(site, worker)

    def leave() -> None:
        for _ in range(3):
            client.send(BINARY, bytes(40_000))
        client.close(1001)
        client.client.shut()

    with client:
        with client.meanwhile(leave):
            for _ in range(3):
                assert worker.received(stream) == (bytes(40_000), False)
            assert worker.expect_ws_close(stream).code == 1001
        worker.done(stream)
        client.expect_close(1001)


# --- the client breaks a rule -----------------------------------------------------------------------------------------

BREACHES = {
    "reserved bit": (frame(TEXT, b"x", FIN | 0x20 | TEXT), 1002),
    "compressed without an agreement": (frame(TEXT, b"x", FIN | RSV1 | TEXT), 1002),
    "reserved opcode": (frame(3), 1002),
    "not masked": (b"\x81\x01x", 1002),
    "continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "ping in fragments": (frame(PING, b"x", PING), 1002),
    "ping too long": (frame(PING, b"x" * 126), 1002),
    "close with a reserved code": (frame(CLOSE, close_payload(1006)), 1002),
    "not UTF-8": (frame(TEXT, b"\xff"), 1007),
    "close reason not UTF-8": (frame(CLOSE, close_payload(1000) + b"\xff"), 1007),
    "message too long": (frame(BINARY, bytes(65537)), 1009),
    "fragments too long together": (frame(BINARY, bytes(40_000), BINARY) + frame(CONTINUATION, bytes(30_000)), 1009),
    "too many fragments": (frame(BINARY, b"x", BINARY) + frame(CONTINUATION, b"x", 0) * 8, 1008),
}


@pytest.mark.parametrize("name", BREACHES)
def test_the_client_breaks_a_rule(site: Gateway, worker: WsWorker, name: str) -> None:
    sent, code = BREACHES[name]
    client, stream = opened(site, worker)
    with client:
        client.client.send(sent)
        client.expect_close(code)
        client.client.shut()
        client.expect_end()
        got = worker.next()
        while got is not None and got.kind == c.FRAME_WS_MSG:
            got = worker.next()
        assert got is not None and (got.kind, got.code) == (c.FRAME_WS_CLOSE, code), str(got)
        worker.done(stream)


def test_the_access_log_has_one_line_at_the_end(site: Gateway, worker: WsWorker) -> None:
    client, stream = opened(site, worker, user_agent="once")
    with client:
        assert not [line for line in site.access_log() if "once" in line]
        client.close(1000)
        worker.expect_ws_close(stream)
        worker.done(stream)
        client.expect_close(1000)
        client.expect_end()
    site.wait_gauge("exchanges", 0)

    def lines() -> list[str]:
        return [line for line in site.access_log() if "once" in line]

    wait_for(lines, "the line")
    told = {"h1": '"GET / HTTP/1.1" 101 ', "h2": '"GET / HTTP/2" 200 ', "h3": '"GET / HTTP/3" 200 '}[site.carrier]
    assert len(lines()) == 1 and told in lines()[0], lines()


# --- the worker ends it -----------------------------------------------------------------------------------------------


def test_the_worker_is_lost_before_accept(site: Gateway) -> None:
    """Never tried again: the handshake may have had an effect."""
    with WsWorker(site) as lost, ws_client(site) as client:
        client.handshake()
        lost.websocket()
        with WsWorker(site) as other:
            lost.close()
            assert client.client.response().status == 502
            other.leave()


def test_the_worker_is_lost_after_accept(site: Gateway) -> None:
    worker = WsWorker(site)
    client, stream = opened(site, worker)
    with client:
        worker.text(stream, "one")
        worker.close()
        assert client.expect(TEXT).payload == b"one"
        assert client.expect_close(1011) == "the application process ended"
        client.close(1011)
        client.expect_end()


@pytest.mark.parametrize(
    ("code", "status"),
    [(c.ERROR_APP_EXCEPTION, 500), (c.ERROR_APP_INCOMPLETE, 500), (c.ERROR_INTERNAL, 502), (c.ERROR_DRAINING, 503)],
)
def test_a_reset_before_accept(site: Gateway, worker: WsWorker, code: int, status: int) -> None:
    with ws_client(site) as client:
        client.handshake()
        stream = worker.websocket().stream
        worker.send(c.FRAME_RESET, stream=stream, code=code, flags=c.FLAG_DONE)
        assert client.client.response().status == status


@pytest.mark.parametrize(
    ("code", "close"),
    [(c.ERROR_APP_EXCEPTION, 1011), (c.ERROR_APP_INCOMPLETE, 1011), (c.ERROR_CANCEL, 1011), (c.ERROR_DRAINING, 1012)],
)
def test_a_reset_after_accept(site: Gateway, worker: WsWorker, code: int, close: int) -> None:
    client, stream = opened(site, worker)
    with client:
        worker.send(c.FRAME_RESET, stream=stream, code=code, flags=c.FLAG_DONE)
        client.expect_close(close)
        client.close(close)
        client.expect_end()


def test_the_worker_goes_away(site: Gateway) -> None:
    """GOAWAY: its WebSockets are closed with 1012 at once, and one that is accepted later as well."""
    with WsWorker(site) as worker, ws_client(site) as late:
        client, stream = opened(site, worker)
        late.handshake()
        second = worker.websocket().stream
        with client:
            worker.send(c.FRAME_GOAWAY, code=c.ERROR_DRAINING, aux=0xFFFFFFFF)
            client.expect_close(1012)
            assert worker.expect_ws_close(stream).code == 1012
            worker.done(stream)
            worker.accept(second)
            late.accepted()
            late.expect_close(1012)
            assert worker.expect_ws_close(second).code == 1012
            worker.done(second)
            assert worker.ending() == []


def test_a_worker_that_goes_away_may_keep_them_for_a_while(make_site: Maker) -> None:
    gateway = make_site(workers=0, app={"ws_on_drain": "300ms"})
    with WsWorker(gateway) as worker:
        client, stream = opened(gateway, worker)
        with client:
            worker.send(c.FRAME_GOAWAY, code=c.ERROR_DRAINING, aux=0xFFFFFFFF)
            client.text("still")
            assert worker.received(stream) == (b"still", True)
            client.expect_close(1012)
            assert worker.expect_ws_close(stream).code == 1012
            worker.done(stream)
            assert worker.ending() == []


def test_first_byte(site: Gateway, worker: WsWorker) -> None:
    with ws_client(site) as client:
        client.handshake()
        stream = worker.websocket().stream
        assert client.client.response().status == 504
        reset = worker.expect(c.FRAME_RESET, stream)
        assert reset.code == c.ERROR_DEADLINE
        worker.done(stream)


def test_no_deadline_holds_for_an_open_one(make_site: Maker) -> None:
    deadlines = {"first_byte": "300ms", "request_deadline": "400ms", "response_idle": "300ms", "body_idle": "300ms"}
    gateway = make_site(workers=0, limits=deadlines, websocket={"ping_interval": "1s"})
    with WsWorker(gateway) as worker:
        client, stream = opened(gateway, worker)
        with client:
            assert client.expect(PING).payload == b""  # more than a second of silence
            client.send(PONG)
            worker.close_websocket(stream, 1000)
            client.expect_close(1000)
        worker.leave()


# --- the worker breaks a rule -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        packb(["other", b""]),
        packb(["", b""]),
        packb([None, b"upgrade\0x"]),
        packb([None, b"Connection\0x"]),
        packb([None, b"content-length\0001"]),
        packb([None, b"Sec-WebSocket-Accept\0x"]),
        packb([None, b"bad name\0x"]),
        packb([None, b"name\0va\nlue"]),
        packb([None, b"odd"]),
        packb([None]),
        b"\xc1",
    ],
)
def test_a_wrong_accept(site: Gateway, worker: WsWorker, payload: bytes) -> None:
    """SPEC R84: the stream is reset, the client gets 502, the link lives on."""
    with ws_client(site) as client:
        client.handshake(sec_websocket_protocol="chat")
        stream = worker.websocket().stream
        worker.send(c.FRAME_WS_ACCEPT, payload, stream=stream)
        assert client.client.response().status == 502
        assert worker.expect(c.FRAME_RESET, stream).code == c.ERROR_HEADER_INVALID
        worker.done(stream)
        assert worker.alive()


@pytest.mark.parametrize(
    ("kind", "code"), [("text", 0), ("close", 1005), ("close", 1016), ("close", 2999), ("reason", 0)]
)
def test_wrong_content_after_accept(site: Gateway, worker: WsWorker, kind: str, code: int) -> None:
    """SPEC R85, R87: RESET(PROTOCOL) to the worker, 1011 to the client."""
    client, stream = opened(site, worker)
    with client:
        if kind == "text":
            worker.message(stream, b"\xff", c.FLAG_TEXT)
        elif kind == "close":
            worker.close_websocket(stream, code, flags=0)
        else:
            worker.send(c.FRAME_WS_CLOSE, b"\xff", stream=stream, code=1000)
        client.expect_close(1011)
        assert worker.expect(c.FRAME_RESET, stream).code == c.ERROR_PROTOCOL
        worker.done(stream)
        client.close(1011)
        client.expect_end()
        assert worker.alive()


# --- the gateway ends it ----------------------------------------------------------------------------------------------


def test_the_gateway_stops(make_site: Maker) -> None:
    gateway = make_site(workers=0)
    with WsWorker(gateway) as worker, ws_client(gateway) as late:
        client, stream = opened(gateway, worker)
        late.handshake()
        second = worker.websocket().stream
        with client:
            gateway.process.send_signal(signal.SIGTERM)
            assert client.expect_close(1001) == "the server is stopping"
            assert worker.expect_ws_close(stream).code == 1001
            worker.done(stream)
            client.close(1001)
            client.expect_end()
            worker.accept(second)
            late.accepted()
            late.expect_close(1001)
            late.close(1001)
            late.expect_end()
            assert worker.expect_ws_close(second).code == 1001
            worker.done(second)
        assert gateway.process.wait() == 0


def test_a_client_that_does_not_answer_pings(make_site: Maker) -> None:
    gateway = make_site(workers=0, websocket={"ping_interval": "100ms", "ping_timeout": "100ms"})
    with WsWorker(gateway) as worker:
        client, stream = opened(gateway, worker)
        with client:
            client.expect(PING)
            client.send(PONG)
            client.expect(PING)
            assert client.expect_close(1011) == "ping timeout"
            assert worker.expect_ws_close(stream).code == 1011
            worker.done(stream)
        gateway.expect_counted("limit_ws_ping_timeout")
        worker.leave()


def test_a_client_that_waits_for_the_app_is_not_silent(make_site: Maker) -> None:
    """Its PONGs lie behind messages that the app does not take: the clock stands."""
    gateway = make_site(workers=0, websocket={"ping_interval": "50ms", "ping_timeout": "50ms"})
    with WsWorker(gateway) as worker:
        client, stream = opened(gateway, worker)
        with client:
            with client.meanwhile(lambda: client.send(BINARY, bytes(100_000))):
                got = worker.expect(c.FRAME_WS_MSG, stream)
                held = [got]
                while sum(len(f.payload) + c.DATA_OVERHEAD for f in held) < 65_500:
                    held.append(worker.expect(c.FRAME_WS_MSG, stream))
                for _ in range(5):
                    with gateway.client() as other:  # time passes
                        other.request("GET", "/")
                        request = worker.request()
                        worker.socket.settimeout(0.1)
                        with pytest.raises(TimeoutError):
                            worker._fill(c.HEADER_SIZE)
                        worker.socket.settimeout(20)
                        worker.respond(request.stream)
                        other.response()
                assert gateway.metric("limit_ws_ping_timeout") == 0
                worker.grant(stream, sum(len(f.payload) + c.DATA_OVERHEAD for f in held))
                rest = worker.received(stream, grant=False)[0]
                assert sum(len(f.payload) for f in held) + len(rest) == 100_000
            client.close(1000)
            worker.expect_ws_close(stream)
            worker.done(stream)
        worker.leave()


def test_close_timeout(make_site: Maker) -> None:
    gateway = make_site(workers=0, websocket={"close_timeout": "200ms"})
    with WsWorker(gateway) as worker:
        client, stream = opened(gateway, worker)
        with client:
            worker.close_websocket(stream, 1000)
            client.expect_close(1000)
            client.text("never an answer")
            with pytest.raises(Closed):
                client.frame()
        gateway.expect_counted("limit_ws_close_timeout")
        worker.leave()
