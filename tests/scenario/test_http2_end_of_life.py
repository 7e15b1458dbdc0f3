# SPDX-License-Identifier: MIT
"""The end-of-life table of docs/ARCHITECTURE.md, HTTP/2 column and what the worker is told: one test per cell.

The worker is a script: its side of each cell is asserted frame by frame. After each cell the connection serves another
request, unless the cell is the connection's end.
"""

import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from harness.gateway import Gateway, insecure_context
from harness.http2 import (
    CANCEL,
    DATA,
    HEADERS,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    RST_STREAM,
    STREAM_CLOSED,
    Answer,
    Ended,
    Fields,
    Http2,
    request,
)
from harness.scripted_worker import ScriptedWorker, SeenRequest, c

Maker = Callable[..., Gateway]
LIMITS = {"body_size": "1MiB", "body_idle": "500ms"}
GONE = c.ERROR_CLIENT_GONE


def speak_http2(gateway: Gateway) -> Gateway:
    for listener in gateway.listeners:
        listener["protocols"] = ["h2", "http/1.1"]
    return gateway


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose workers are scripts, with short limits."""
    gateway = Gateway(tmp_path_factory.mktemp("scripted"), tls=True, limits=LIMITS, app={"queue_timeout": "10s"})
    try:
        yield speak_http2(gateway).start()
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Gateway]]:
    """limited(limits={...}): a gateway of its own, without workers."""
    made: list[Gateway] = []

    def make(**sections: object) -> Gateway:
        gateway = speak_http2(Gateway(tmp_path_factory.mktemp("limited"), **sections))
        made.append(gateway)
        return gateway.start()

    try:
        yield make
        for gateway in made:
            gateway.finish()
    finally:
        for gateway in made:
            gateway.kill()


@pytest.fixture
def worker(scripted: Gateway) -> Iterator[ScriptedWorker]:
    with ScriptedWorker(scripted.app_socket) as worker:
        yield worker
        worker.leave()


@pytest.fixture
def client(scripted: Gateway) -> Iterator[Http2]:
    with Http2(("127.0.0.1", scripted.port)) as client:
        yield client


def begin(
    client: Http2, worker: ScriptedWorker, target: str, *, body: bool = False, fields: Fields | None = None
) -> tuple[int, SeenRequest]:
    stream = client.open(request(target, "POST" if body else "GET", *(fields or [])), end=not body)
    return stream, worker.request()


def serves(client: Http2, worker: ScriptedWorker) -> None:
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


def begun(client: Http2, stream: int) -> None:
    client.wait(lambda got: got.kind == HEADERS and got.stream == stream)


# --- client gone ------------------------------------------------------------------------------------------------------


def test_reset_while_the_response_is_awaited(client: Http2, worker: ScriptedWorker) -> None:
    stream, seen = begin(client, worker, "/wait")
    client.reset(stream)
    worker.expect_disconnect(seen.stream, GONE)
    late_words(worker, seen.stream)
    serves(client, worker)
    assert client.answers.get(stream, Answer()) == Answer()


def test_reset_of_an_idle_event_stream(client: Http2, worker: ScriptedWorker) -> None:
    """Nothing is being written: the reset alone must reach the app (at once, and only this stream's)."""
    other, other_seen = begin(client, worker, "/other")
    stream, seen = begin(client, worker, "/events")
    worker.respond(seen.stream, 200, [(b"content-type", b"text/event-stream")], b"data: 1\n\n", flags=0)
    client.wait(lambda got: got.kind == DATA)
    client.reset(stream)
    worker.expect_disconnect(seen.stream, GONE)
    worker.data(seen.stream, flags=c.FLAG_END_STREAM | c.FLAG_DONE)
    worker.respond(other_seen.stream, 200, [(b"content-length", b"0")])
    assert client.answer(other).status == 200


@pytest.mark.parametrize("head", [False, True])
def test_reset_inside_the_request_body(client: Http2, worker: ScriptedWorker, head: bool) -> None:
    stream, seen = begin(client, worker, "/upload", body=True)
    if head:
        worker.respond(seen.stream, 200, flags=0)
        begun(client, stream)
    client.data(stream, b"part")
    assert worker.expect(c.FRAME_DATA, seen.stream).payload == b"part"
    client.reset(stream)
    worker.expect_disconnect(seen.stream, GONE)
    worker.done(seen.stream)
    serves(client, worker)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_connection_ends(scripted: Gateway, worker: ScriptedWorker, tls: bool, how: str) -> None:
    """Every stream of it is told."""
    port, context = (scripted.tls_port, insecure_context(["h2"])) if tls else (scripted.port, None)
    client = Http2(("127.0.0.1", port), context)
    seen = [begin(client, worker, "/wait")[1] for _ in range(3)]
    if how == "RST":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
    told = {worker.expect(c.FRAME_DISCONNECT).stream for _ in seen}
    assert told == {one.stream for one in seen}
    for one in seen:
        worker.done(one.stream)
    scripted.wait_gauge("exchanges", 0)


def test_gone_while_waiting_for_a_worker(scripted: Gateway, client: Http2) -> None:
    stream = client.open(request("/queued"))
    scripted.wait_gauge("requests_waiting", 1)
    client.reset(stream)
    scripted.wait_gauge("requests_waiting", 0)
    client.ping()


# --- early response ---------------------------------------------------------------------------------------------------


def test_early_response(client: Http2, worker: ScriptedWorker) -> None:
    """END_STREAM, then RST_STREAM(NO_ERROR); what the client has sent meanwhile only gives its credit back."""
    stream, seen = begin(client, worker, "/early", body=True)
    worker.respond(seen.stream, 403, [(b"content-length", b"5")], b"early")
    assert worker.expect(c.FRAME_RESET, seen.stream).code == c.ERROR_BODY_ABORTED
    order = []
    while not order or order[-1] != RST_STREAM:
        got = client.next()
        if got.stream == stream:
            order.append(got.kind)
    answer = client.answers[stream]
    assert order == [HEADERS, DATA, RST_STREAM]
    assert (answer.status, answer.body, answer.ended, answer.reset) == (403, b"early", True, NO_ERROR)
    for _ in range(40):  # more than any window
        client.data(stream, bytes(16384))
    client.ping()
    serves(client, worker)


def test_early_response_without_a_body(client: Http2, worker: ScriptedWorker) -> None:
    stream, seen = begin(client, worker, "/early", body=True)
    worker.respond(seen.stream, 204)
    assert worker.expect(c.FRAME_RESET, seen.stream).code == c.ERROR_BODY_ABORTED
    client.wait(lambda got: got.kind == RST_STREAM and got.stream == stream)
    assert (client.answers[stream].status, client.answers[stream].reset) == (204, NO_ERROR)
    serves(client, worker)


# --- worker lost ------------------------------------------------------------------------------------------------------


def test_lost_before_the_head_safe_method(scripted: Gateway, client: Http2) -> None:
    with ScriptedWorker(scripted.app_socket) as first:
        stream, _ = begin(client, first, "/again")
        with ScriptedWorker(scripted.app_socket) as second:
            first.close()
            seen = second.request()
            assert seen.path == "/again"
            second.respond(seen.stream, 200, [(b"content-length", b"3")], b"yes")
            assert client.answer(stream).body == b"yes"
            second.leave()


def test_lost_before_the_head_unsafe_method(scripted: Gateway, client: Http2) -> None:
    with ScriptedWorker(scripted.app_socket) as first:
        stream = client.open(request("/pay", "POST"), end=False)
        client.data(stream, b"42", end=True)
        first.request()
        first.close()
        assert client.answer(stream).status == 502
    client.ping()


def test_lost_after_the_head(scripted: Gateway, client: Http2) -> None:
    """What was begun cannot look complete; the connection and its other streams go on."""
    with ScriptedWorker(scripted.app_socket) as first, ScriptedWorker(scripted.app_socket) as second:
        stream = client.open(request("/half"))
        (mine, other) = (first, second)
        first.socket.settimeout(0.5)
        try:
            seen = first.request()
        except TimeoutError:
            mine, other = second, first
            seen = second.request()
        first.socket.settimeout(20)
        mine.respond(seen.stream, 200, body=b"half", flags=0)
        client.wait(lambda got: got.kind == DATA)
        mine.close()
        answer = client.answer(stream)
        assert (answer.body, answer.reset, answer.ended) == (b"half", INTERNAL_ERROR, False)
        serves(client, other)
        other.leave()


# --- no worker, deadlines ---------------------------------------------------------------------------------------------


def test_queue_deadline(limited: Maker) -> None:
    gateway = limited(app={"queue_timeout": "100ms"})
    with Http2(("127.0.0.1", gateway.port)) as client:
        answer = client.get()
        assert answer.status == 503 and answer.header("retry-after") == "1"
        client.ping()


def test_queue_full(limited: Maker) -> None:
    gateway = limited(app={"queue_max": 1, "queue_timeout": "10s"})
    with Http2(("127.0.0.1", gateway.port)) as client:
        client.open()
        gateway.wait_gauge("requests_waiting", 1)
        answer = client.get()
        assert answer.status == 503 and answer.header("retry-after") == "1"


@pytest.mark.parametrize("limit", ["first_byte", "request_deadline"])
def test_deadline_before_the_head(limited: Maker, limit: str) -> None:
    gateway = limited(limits={limit: "100ms"})
    with ScriptedWorker(gateway.app_socket) as worker, Http2(("127.0.0.1", gateway.port)) as client:
        stream, seen = begin(client, worker, "/slow")
        assert worker.expect(c.FRAME_RESET, seen.stream).code == c.ERROR_DEADLINE
        assert client.answer(stream).status == 504
        worker.done(seen.stream)
        serves(client, worker)
        worker.leave()


@pytest.mark.parametrize("limit", ["request_deadline", "response_idle"])
def test_deadline_after_the_head(limited: Maker, limit: str) -> None:
    gateway = limited(limits={limit: "200ms"})
    with ScriptedWorker(gateway.app_socket) as worker, Http2(("127.0.0.1", gateway.port)) as client:
        stream, seen = begin(client, worker, "/stalls")
        worker.respond(seen.stream, 200, body=b"begun", flags=0)
        answer = client.answer(stream)
        assert (answer.status, answer.body, answer.reset) == (200, b"begun", INTERNAL_ERROR)
        assert worker.expect(c.FRAME_RESET, seen.stream).code == c.ERROR_DEADLINE
        worker.done(seen.stream)
        serves(client, worker)
        worker.leave()


@pytest.mark.parametrize(
    ("code", "status"), [(c.ERROR_APP_EXCEPTION, 500), (c.ERROR_APP_INCOMPLETE, 500), (c.ERROR_INTERNAL, 502)]
)
@pytest.mark.parametrize("head", [False, True])
def test_reset_by_the_worker(client: Http2, worker: ScriptedWorker, code: int, status: int, head: bool) -> None:
    stream, seen = begin(client, worker, "/fails")
    if head:
        worker.respond(seen.stream, 200, flags=0)
        begun(client, stream)
    worker.send(c.FRAME_RESET, stream=seen.stream, code=code)
    worker.done(seen.stream)
    answer = client.answer(stream)
    assert (answer.reset == INTERNAL_ERROR) if head else (answer.status == status)
    serves(client, worker)


# --- client protocol error --------------------------------------------------------------------------------------------


def test_malformed_request_never_reaches_a_worker(client: Http2, worker: ScriptedWorker) -> None:
    answer = client.get("/bad", ("connection", "close"))
    assert answer.reset == PROTOCOL_ERROR
    serves(client, worker)  # the first REQUEST that the worker sees is /next


@pytest.mark.parametrize("head", [False, True])
def test_body_at_odds_with_its_length(client: Http2, worker: ScriptedWorker, head: bool) -> None:
    stream, seen = begin(client, worker, "/upload", body=True, fields=[("content-length", "3")])
    if head:
        worker.respond(seen.stream, 200, flags=0)
        begun(client, stream)
    client.data(stream, b"four")
    assert client.answer(stream).reset == PROTOCOL_ERROR
    worker.expect_disconnect(seen.stream, GONE)
    worker.done(seen.stream)
    serves(client, worker)


def test_error_of_the_connection(client: Http2, worker: ScriptedWorker) -> None:
    """GOAWAY; every stream's worker is told."""
    _, first = begin(client, worker, "/one")
    _, second = begin(client, worker, "/two")
    client.send(DATA, 0, 1, b"behind END_STREAM")
    assert client.end() == STREAM_CLOSED
    assert {worker.expect(c.FRAME_DISCONNECT).stream for _ in "12"} == {first.stream, second.stream}
    worker.done(first.stream)
    worker.done(second.stream)


def test_body_that_stops_after_the_head(client: Http2, worker: ScriptedWorker) -> None:
    stream, seen = begin(client, worker, "/upload", body=True)
    worker.respond(seen.stream, 200, flags=0)
    begun(client, stream)
    assert client.answer(stream).reset == CANCEL
    worker.expect_disconnect(seen.stream, GONE)
    worker.done(seen.stream)
    serves(client, worker)


def test_the_gateway_stops(limited: Maker) -> None:
    """drain_timeout has passed: what is under way ends with the connection, and its worker is told."""
    gateway = limited(gateway={"drain_timeout": "300ms", "drain_idle": "0s"})
    with ScriptedWorker(gateway.app_socket) as worker, Http2(("127.0.0.1", gateway.port)) as client:
        stream, seen = begin(client, worker, "/long")
        worker.respond(seen.stream, 200, body=b"part", flags=0)
        client.wait(lambda got: got.kind == DATA)
        gateway.process.send_signal(15)
        with pytest.raises(Ended):
            client.answer(stream)
        assert not client.answers[stream].ended
        worker.ending()
    assert gateway.process.wait() == 0
