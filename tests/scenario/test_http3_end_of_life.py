# SPDX-License-Identifier: MIT
"""The end-of-life table of docs/ARCHITECTURE.md, HTTP/3 column and what the worker is told: one test per cell.

The worker is a script: its side of each cell is asserted frame by frame. After each cell the connection serves another
request, unless the cell is the connection's end.
"""

from collections.abc import Callable, Iterator

import pytest
from harness.gateway import Gateway
from harness.http2 import Fields
from harness.http3 import (
    CLOSED_CRITICAL_STREAM,
    H3_NO_ERROR,
    INTERNAL_ERROR,
    MESSAGE_ERROR,
    REQUEST_CANCELLED,
    REQUEST_INCOMPLETE,
    REQUEST_REJECTED,
    Http3,
    request,
)
from harness.quic import Ended
from harness.scripted_worker import ScriptedWorker, SeenRequest, c

Maker = Callable[..., Gateway]
LIMITS = {"body_size": "1MiB", "body_idle": "500ms"}
GONE = c.ERROR_CLIENT_GONE


def connect(gateway: Gateway) -> Http3:
    return Http3(gateway.quic_address).ready()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose workers are scripts, with short limits."""
    gateway = Gateway(tmp_path_factory.mktemp("scripted"), quic=True, limits=LIMITS, app={"queue_timeout": "10s"})
    try:
        yield gateway.start()
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture
def limited(make_gateway: Maker) -> Maker:
    """limited(limits={...}): a gateway of its own, without workers."""

    def make(**sections: object) -> Gateway:
        return make_gateway(quic=True, workers=0, **sections)

    return make


@pytest.fixture
def worker(scripted: Gateway) -> Iterator[ScriptedWorker]:
    with ScriptedWorker(scripted.app_socket) as worker:
        yield worker
        worker.leave()


@pytest.fixture
def client(scripted: Gateway) -> Iterator[Http3]:
    with connect(scripted) as client:
        yield client


def begin(
    client: Http3, worker: ScriptedWorker, target: str, *, body: bool = False, fields: Fields | None = None
) -> tuple[int, SeenRequest]:
    stream = client.open(request(target, "POST" if body else "GET", *(fields or [])), end=not body)
    client.ping()  # what waits for the pacer goes out
    return stream, worker.request()


def serves(client: Http3, worker: ScriptedWorker) -> None:
    """The connection goes on."""
    stream, seen = begin(client, worker, "/next")
    assert seen.path == "/next"
    worker.respond(seen.stream, 200, [(b"content-length", b"2")], b"ok")
    assert client.answer(stream).body == b"ok"


def late_words(worker: ScriptedWorker, stream: int) -> None:
    """An app that has not noticed yet goes on; its frames are dropped, its DONE ends the stream."""
    worker.respond(stream, 200, body=b"late", flags=0)
    worker.data(stream, b"later")
    worker.done(stream)
    assert worker.alive()


# --- client gone ------------------------------------------------------------------------------------------------------


def test_cancel_while_the_response_is_awaited(client: Http3, worker: ScriptedWorker) -> None:
    stream, seen = begin(client, worker, "/wait")
    client.cancel(stream)
    client.pump_for(0.1)  # what answers it is acknowledged
    worker.expect_disconnect(seen.stream, GONE)
    late_words(worker, seen.stream)
    serves(client, worker)
    assert client.answers[stream].status == 0


def test_stop_of_an_idle_event_stream(client: Http3, worker: ScriptedWorker) -> None:
    """Nothing is being written: STOP_SENDING alone must reach the app (at once, and only this stream's)."""
    other, other_seen = begin(client, worker, "/other")
    stream, seen = begin(client, worker, "/events")
    worker.respond(seen.stream, 200, [(b"content-type", b"text/event-stream")], b"data: 1\n\n", flags=0)
    client.pump(lambda: client.answers[stream].received, "the first event")
    client.stop(stream)
    client.pump(lambda: client.answers[stream].reset is not None, "the answer to STOP_SENDING")
    client.pump_for(0.1)  # its acknowledgement leaves
    worker.expect_disconnect(seen.stream, GONE)
    worker.data(seen.stream, flags=c.FLAG_END_STREAM | c.FLAG_DONE)
    worker.respond(other_seen.stream, 200, [(b"content-length", b"0")])
    assert client.answer(other).status == 200


@pytest.mark.parametrize("head", [False, True])
def test_reset_inside_the_request_body(client: Http3, worker: ScriptedWorker, head: bool) -> None:
    stream, seen = begin(client, worker, "/upload", body=True)
    if head:
        worker.respond(seen.stream, 200, flags=0)
        client.head(stream)
    client.data(stream, b"part")
    client.ping()
    assert worker.expect(c.FRAME_DATA, seen.stream).payload == b"part"
    client.reset(stream)
    client.ping()
    worker.expect_disconnect(seen.stream, GONE)
    worker.done(seen.stream)
    assert client.answer(stream).reset == REQUEST_CANCELLED
    serves(client, worker)


def test_the_client_closes(scripted: Gateway, worker: ScriptedWorker) -> None:
    """Every stream of it is told."""
    client = connect(scripted)
    seen = [begin(client, worker, "/wait")[1] for _ in range(3)]
    client.close()
    told = {worker.expect(c.FRAME_DISCONNECT).stream for _ in seen}
    assert told == {one.stream for one in seen}
    for one in seen:
        worker.done(one.stream)
    scripted.wait_gauge("exchanges", 0)


def test_the_client_vanishes(limited: Maker) -> None:
    """Not a word any more: http3.idle_timeout."""
    gateway = limited(http3={"idle_timeout": "1s"})
    with ScriptedWorker(gateway.app_socket) as worker:
        client = connect(gateway)
        _, seen = begin(client, worker, "/wait")
        client.abandon()
        worker.expect_disconnect(seen.stream, GONE)
        worker.done(seen.stream)
        gateway.wait_gauge("exchanges", 0)
        worker.leave()


def test_gone_while_waiting_for_a_worker(scripted: Gateway, client: Http3) -> None:
    stream = client.open(request("/queued"))
    client.ping()
    scripted.wait_gauge("requests_waiting", 1)
    client.cancel(stream)
    client.pump_for(0.1)  # what answers it is acknowledged
    scripted.wait_gauge("requests_waiting", 0)


# --- early response ---------------------------------------------------------------------------------------------------


def test_early_response(client: Http3, worker: ScriptedWorker) -> None:
    """The whole answer, then STOP_SENDING(H3_NO_ERROR); what has come meanwhile only gives its credit back."""
    stream, seen = begin(client, worker, "/early", body=True)
    worker.respond(seen.stream, 403, [(b"content-length", b"5")], b"early")
    assert worker.expect(c.FRAME_RESET, seen.stream).code == c.ERROR_BODY_ABORTED
    client.data(stream, bytes(60000))
    answer = client.answer(stream)
    assert (answer.status, bytes(answer.body), answer.ended, answer.reset) == (403, b"early", True, None)
    client.pump(lambda: answer.stopped is not None, "STOP_SENDING")
    assert answer.stopped == H3_NO_ERROR
    for _ in range(20):  # the connection's window is not used up by what nobody takes
        serves(client, worker)


def test_early_response_without_a_body(client: Http3, worker: ScriptedWorker) -> None:
    stream, seen = begin(client, worker, "/early", body=True)
    worker.respond(seen.stream, 204)
    assert worker.expect(c.FRAME_RESET, seen.stream).code == c.ERROR_BODY_ABORTED
    answer = client.answer(stream)
    client.pump(lambda: answer.stopped is not None, "STOP_SENDING")
    assert (answer.status, answer.stopped) == (204, H3_NO_ERROR)
    serves(client, worker)


# --- worker lost ------------------------------------------------------------------------------------------------------


def test_lost_before_the_head_safe_method(scripted: Gateway, client: Http3) -> None:
    with ScriptedWorker(scripted.app_socket) as first:
        stream, _ = begin(client, first, "/again")
        with ScriptedWorker(scripted.app_socket) as second:
            first.close()
            seen = second.request()
            assert seen.path == "/again"
            second.respond(seen.stream, 200, [(b"content-length", b"3")], b"yes")
            assert client.answer(stream).body == b"yes"
            second.leave()


def test_lost_before_the_head_unsafe_method(scripted: Gateway, client: Http3) -> None:
    with ScriptedWorker(scripted.app_socket) as first:
        stream = client.open(request("/pay", "POST"), end=False)
        client.data(stream, b"42", end=True)
        client.ping()
        first.request()
        first.close()
        assert client.answer(stream).status == 502
    client.ping()


def test_lost_after_the_head(scripted: Gateway, client: Http3) -> None:
    """What was begun cannot look complete; the connection goes on."""
    with ScriptedWorker(scripted.app_socket) as first:
        stream, seen = begin(client, first, "/half")
        first.respond(seen.stream, 200, body=b"half", flags=0)
        client.pump(lambda: client.answers[stream].received, "a part of the answer")
        first.close()
        answer = client.answer(stream)
        assert (bytes(answer.body), answer.reset, answer.ended) == (b"half", INTERNAL_ERROR, False)
    with ScriptedWorker(scripted.app_socket) as second:
        serves(client, second)
        second.leave()


# --- no worker, deadlines ---------------------------------------------------------------------------------------------


def test_queue_deadline(limited: Maker) -> None:
    gateway = limited(app={"queue_timeout": "100ms"})
    with connect(gateway) as client:
        answer = client.get()
        assert answer.status == 503 and answer.header("retry-after") == "1"
        client.ping()


def test_queue_full(limited: Maker) -> None:
    gateway = limited(app={"queue_max": 1, "queue_timeout": "10s"})
    with connect(gateway) as client:
        client.open()
        client.ping()
        gateway.wait_gauge("requests_waiting", 1)
        answer = client.get()
        assert answer.status == 503 and answer.header("retry-after") == "1"


@pytest.mark.parametrize("limit", ["first_byte", "request_deadline"])
def test_deadline_before_the_head(limited: Maker, limit: str) -> None:
    gateway = limited(limits={limit: "100ms"})
    with ScriptedWorker(gateway.app_socket) as worker, connect(gateway) as client:
        stream, seen = begin(client, worker, "/slow")
        assert worker.expect(c.FRAME_RESET, seen.stream).code == c.ERROR_DEADLINE
        assert client.answer(stream).status == 504
        worker.done(seen.stream)
        serves(client, worker)
        worker.leave()


@pytest.mark.parametrize("limit", ["request_deadline", "response_idle"])
def test_deadline_after_the_head(limited: Maker, limit: str) -> None:
    gateway = limited(limits={limit: "200ms"})
    with ScriptedWorker(gateway.app_socket) as worker, connect(gateway) as client:
        stream, seen = begin(client, worker, "/stalls")
        worker.respond(seen.stream, 200, body=b"begun", flags=0)
        client.pump(lambda: client.answers[stream].received, "a part of the answer")
        answer = client.answer(stream)
        assert (answer.status, bytes(answer.body), answer.reset) == (200, b"begun", INTERNAL_ERROR)
        assert worker.expect(c.FRAME_RESET, seen.stream).code == c.ERROR_DEADLINE
        worker.done(seen.stream)
        serves(client, worker)
        worker.leave()


@pytest.mark.parametrize(
    ("code", "status"), [(c.ERROR_APP_EXCEPTION, 500), (c.ERROR_APP_INCOMPLETE, 500), (c.ERROR_INTERNAL, 502)]
)
@pytest.mark.parametrize("head", [False, True])
def test_reset_by_the_worker(client: Http3, worker: ScriptedWorker, code: int, status: int, head: bool) -> None:
    stream, seen = begin(client, worker, "/fails")
    if head:
        worker.respond(seen.stream, 200, flags=0)
        client.head(stream)
    worker.send(c.FRAME_RESET, stream=seen.stream, code=code)
    worker.done(seen.stream)
    answer = client.answer(stream)
    assert (answer.reset == INTERNAL_ERROR) if head else (answer.status == status)
    serves(client, worker)


# --- client protocol error --------------------------------------------------------------------------------------------


def test_bad_request_never_reaches_a_worker(client: Http3, worker: ScriptedWorker) -> None:
    assert client.get("/bad", ("host", "other.example")).status == 400
    serves(client, worker)  # the first REQUEST that the worker sees is /next


def test_no_request_at_all(client: Http3, worker: ScriptedWorker) -> None:
    assert client.answer(client.open_raw(b"")).reset == REQUEST_INCOMPLETE
    serves(client, worker)


@pytest.mark.parametrize("head", [False, True])
def test_body_at_odds_with_its_length(scripted: Gateway, worker: ScriptedWorker, head: bool) -> None:
    """A malformed message ends its connection (RFC 9114 8 lets it); every stream's worker is told."""
    with connect(scripted) as client:
        _, other = begin(client, worker, "/other")
        stream, seen = begin(client, worker, "/upload", body=True, fields=[("content-length", "3")])
        if head:
            worker.respond(seen.stream, 200, flags=0)
            client.head(stream)
        client.data(stream, b"four")
        assert client.expect_closed().code == MESSAGE_ERROR
        assert {worker.expect(c.FRAME_DISCONNECT).stream for _ in "12"} == {seen.stream, other.stream}
        worker.done(seen.stream)
        worker.done(other.stream)


def test_error_of_the_connection(scripted: Gateway, worker: ScriptedWorker) -> None:
    with connect(scripted) as client:
        _, first = begin(client, worker, "/one")
        _, second = begin(client, worker, "/two")
        client.raw(client.control, b"", end=True)
        client.flush()
        assert client.expect_closed().code == CLOSED_CRITICAL_STREAM
        assert {worker.expect(c.FRAME_DISCONNECT).stream for _ in "12"} == {first.stream, second.stream}
        worker.done(first.stream)
        worker.done(second.stream)


@pytest.mark.parametrize("head", [False, True])
def test_body_that_stops(client: Http3, worker: ScriptedWorker, head: bool) -> None:
    stream, seen = begin(client, worker, "/upload", body=True)
    if head:
        worker.respond(seen.stream, 200, flags=0)
        client.head(stream)
    answer = client.answer(stream)
    assert (answer.reset == REQUEST_CANCELLED) if head else (answer.status == 408)
    worker.expect_disconnect(seen.stream, GONE)
    worker.done(seen.stream)
    serves(client, worker)


# --- limits of a client's time ----------------------------------------------------------------------------------------


def test_a_response_that_is_not_taken(limited: Maker) -> None:
    """limits.write_stall: the stream alone is cut, its siblings go on."""
    gateway = limited(limits={"write_stall": "500ms"})
    narrow = Http3(gateway.quic_address, max_stream_data=1000)
    with ScriptedWorker(gateway.app_socket) as worker, narrow.ready() as client:
        stream, seen = begin(client, worker, "/taken-never")
        client.hold(stream)
        worker.respond(seen.stream, 200, body=bytes(30000), flags=0)
        answer = client.answer(stream)
        assert (answer.status, answer.reset) == (200, REQUEST_CANCELLED) and answer.received < 1000
        worker.expect_disconnect(seen.stream, GONE)
        worker.done(seen.stream)
        gateway.expect_counted("limit_write_stall")
        worker.leave()


def test_a_head_that_stops(limited: Maker) -> None:
    """limits.header_timeout, for a request that never becomes one."""
    gateway = limited(limits={"header_timeout": "500ms"})
    with ScriptedWorker(gateway.app_socket) as worker, connect(gateway) as client:
        serves(client, worker)
        stream = client.open_raw(b"\x01\x40\x80\0\0", end=False)
        assert client.answer(stream).reset == REQUEST_INCOMPLETE
        gateway.expect_counted("limit_header_timeout")
        serves(client, worker)
        worker.leave()


def test_an_idle_connection(limited: Maker) -> None:
    """limits.keep_alive: GOAWAY, then CONNECTION_CLOSE(H3_NO_ERROR), although the client sends PINGs."""
    gateway = limited(limits={"keep_alive": "500ms"})
    with ScriptedWorker(gateway.app_socket) as worker, connect(gateway) as client:
        serves(client, worker)
        closing = client.expect_closed()
        assert (closing.application, closing.code, client.goaways) == (True, H3_NO_ERROR, [4])
        gateway.expect_counted("limit_keep_alive")
        worker.leave()


# --- the gateway stops ------------------------------------------------------------------------------------------------


def test_a_graceful_end(limited: Maker) -> None:
    """GOAWAY twice; what is under way finishes, what comes later is rejected, then CONNECTION_CLOSE(H3_NO_ERROR)."""
    gateway = limited(gateway={"drain_timeout": "20s", "drain_idle": "0s"})
    with ScriptedWorker(gateway.app_socket) as worker, connect(gateway) as client:
        stream, seen = begin(client, worker, "/long")
        worker.respond(seen.stream, 200, body=b"part", flags=0)
        client.pump(lambda: client.answers[stream].received, "a part of the answer")
        gateway.process.send_signal(15)
        client.expect_goaway(2)
        assert client.goaways == [(1 << 62) - 4, stream + 4]
        late = client.open(request("/late"))
        assert client.answer(late).reset == REQUEST_REJECTED
        worker.data(seen.stream, b"end", flags=c.FLAG_END_STREAM | c.FLAG_DONE)
        answer = client.answer(stream)
        assert bytes(answer.body) == b"partend" and answer.ended
        closing = client.expect_closed()
        assert closing.application and closing.code == H3_NO_ERROR
        worker.ending()
    assert gateway.process.wait() == 0


def test_the_gateway_stops(limited: Maker) -> None:
    """drain_timeout has passed: what is under way ends with the connection, and its worker is told."""
    gateway = limited(gateway={"drain_timeout": "300ms", "drain_idle": "0s"})
    with ScriptedWorker(gateway.app_socket) as worker, connect(gateway) as client:
        stream, seen = begin(client, worker, "/long")
        worker.respond(seen.stream, 200, body=b"part", flags=0)
        client.pump(lambda: client.answers[stream].received, "a part of the answer")
        gateway.process.send_signal(15)
        with pytest.raises(Ended):
            client.answer(stream)
        assert not client.answers[stream].ended
        worker.ending()
    assert gateway.process.wait() == 0
