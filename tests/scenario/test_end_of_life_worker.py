# SPDX-License-Identifier: MIT
"""The rows of the end-of-life table that begin at the worker: lost, none there, too late, its own errors."""

from collections.abc import Callable, Iterator

import pytest
from asgi_worker.protocol.frames import frame
from harness.gateway import Gateway
from harness.http1 import Closed
from harness.scripted_worker import ScriptedWorker, c, response_head

Maker = Callable[..., Gateway]
LIMITS = {"early_response_drain_time": "300ms", "lingering_close": "2s", "body_size": "1MiB", "body_idle": "500ms"}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose workers are scripts, with short limits."""
    gateway = Gateway(tmp_path_factory.mktemp("scripted"), tls=True, limits=LIMITS, app={"queue_timeout": "10s"})
    try:
        yield gateway.start()
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture
def worker(scripted: Gateway) -> Iterator[ScriptedWorker]:
    with ScriptedWorker(scripted.app_socket) as worker:
        yield worker
        worker.leave()


def late_words(worker: ScriptedWorker, stream: int) -> None:
    """An app that has not noticed yet goes on; its frames are dropped, its DONE ends the stream."""
    worker.respond(stream, 200, body=b"late", flags=0)
    worker.data(stream, b"later")
    worker.done(stream)
    assert worker.alive()


# --- worker lost ------------------------------------------------------------------------------------------------------


def test_lost_before_the_head_safe_method(scripted: Gateway) -> None:
    with ScriptedWorker(scripted.app_socket) as first, scripted.client() as client:
        client.request("GET", "/again")
        first.request()
        with ScriptedWorker(scripted.app_socket) as second:
            first.close()
            request = second.request()
            assert request.path == "/again"
            second.respond(request.stream, 200, [(b"content-length", b"3")], b"yes")
            assert client.response().body == b"yes"
            second.leave()


def test_lost_before_the_head_unsafe_method(scripted: Gateway) -> None:
    """The process lives, so nobody knows what it has begun: a POST is not repeated."""
    with ScriptedWorker(scripted.app_socket) as first, scripted.client() as client:
        client.request("POST", "/pay", body=b"42")
        assert first.body(first.request()) == b"42"
        with ScriptedWorker(scripted.app_socket) as second:
            first.close()
            response = client.response()
            assert response.status == 502 and response.header("content-type") == "text/plain; charset=utf-8"
            client.request("GET", "/next")  # the connection goes on
            request = second.request()
            assert request.path == "/next"
            second.respond(request.stream)
            assert client.response().status == 200
            second.leave()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_lost_after_an_informational_head(scripted: Gateway, method: str) -> None:
    """Any RESPONSE frame, 1xx too, makes it final."""
    with ScriptedWorker(scripted.app_socket) as worker, scripted.client() as client:
        client.request(method, "/hint", body=b"x" if method == "POST" else None)
        request = worker.request()
        worker.respond(request.stream, 103, [(b"link", b"</a>")], flags=c.FLAG_INFORMATIONAL)
        assert client.head().status == 103
        worker.close()
        assert client.response().status == 502


def test_lost_during_an_upload(scripted: Gateway) -> None:
    with ScriptedWorker(scripted.app_socket) as worker, scripted.client() as client:
        client.request("POST", "/upload", {"content-length": str(800_000)})
        client.send(b"x" * 100_000)
        request = worker.request()
        worker.expect(c.FRAME_DATA, request.stream)  # within the first window
        worker.close()
        response = client.response()
        assert response.status == 502 and response.header("connection") == "close"
        client.send(b"x" * 100_000)  # lingering: no reset destroys the answer
        assert client.rest() == b""


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_lost_after_the_head(scripted: Gateway, framing: str) -> None:
    with ScriptedWorker(scripted.app_socket) as worker, scripted.client() as client:
        client.request("GET", "/cut")
        request = worker.request()
        fields = [(b"content-length", b"10")] if framing == "length" else []
        worker.respond(request.stream, 200, fields, b"half", flags=0)
        response = client.head()
        worker.close()
        with pytest.raises(Closed):
            client.body(response)


def test_lost_after_the_head_close_delimited(scripted: Gateway) -> None:
    """A FIN would make it look complete: only a reset tells the truth."""
    with ScriptedWorker(scripted.app_socket) as worker, scripted.client() as client:
        client.send(b"GET /cut HTTP/1.0\r\n\r\n")
        request = worker.request()
        worker.respond(request.stream, 200, body=b"half", flags=0)
        client.head()
        worker.close()
        with pytest.raises(Closed):
            client.rest()


# --- no worker --------------------------------------------------------------------------------------------------------


def test_queue_deadline_without_a_worker(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_timeout": "50ms"})
    response = gateway.get("/")
    assert response.status == 503 and response.header("retry-after") == "1"
    gateway.expect_counted("queue_timeouts", 1)


def test_queue_deadline_with_a_busy_worker(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_timeout": "50ms"})
    with ScriptedWorker(gateway.app_socket, max_concurrency=1) as worker, gateway.client() as client:
        client.request("GET", "/takes-the-slot")
        request = worker.request()
        response = gateway.get("/")
        assert response.status == 503 and response.header("retry-after") == "1"
        worker.respond(request.stream)
        assert client.response().status == 200
        worker.leave()


def test_queue_full(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_max": 2, "queue_timeout": "20s"})
    waiting = [gateway.client() for _ in range(2)]
    for client in waiting:
        client.request("GET", "/waits")
    gateway.wait_gauge("requests_waiting", 2)
    response = gateway.get("/")
    assert response.status == 503 and response.header("retry-after") == "1"
    gateway.expect_counted("queue_full", 1)
    with ScriptedWorker(gateway.app_socket) as worker:
        for _ in waiting:
            worker.respond(worker.request().stream)
        for client in waiting:
            assert client.response().status == 200
            client.close()
        worker.leave()


# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["first_byte", "request_deadline"])
def test_deadline_before_the_head(make_gateway: Maker, limit: str) -> None:
    gateway = make_gateway(workers=0, limits={limit: "100ms"})
    with ScriptedWorker(gateway.app_socket) as worker, gateway.client() as client:
        client.request("GET", "/slow")
        request = worker.request()
        assert worker.expect(c.FRAME_RESET, request.stream).code == c.ERROR_DEADLINE
        assert client.response().status == 504
        worker.done(request.stream)
        client.request("GET", "/next")
        worker.respond(worker.request().stream)
        assert client.response().status == 200
        worker.leave()


def test_request_deadline_in_the_queue(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, limits={"request_deadline": "100ms"})
    assert gateway.get("/").status == 504


@pytest.mark.parametrize("limit", ["request_deadline", "response_idle"])
def test_deadline_after_the_head(make_gateway: Maker, limit: str) -> None:
    gateway = make_gateway(workers=0, limits={limit: "200ms"})
    with ScriptedWorker(gateway.app_socket) as worker, gateway.client() as client:
        client.request("GET", "/stalls")
        request = worker.request()
        worker.respond(request.stream, 200, body=b"begun", flags=0)
        response = client.head()
        with pytest.raises(Closed):
            client.body(response)
        assert worker.expect(c.FRAME_RESET, request.stream).code == c.ERROR_DEADLINE
        worker.done(request.stream)
        worker.leave()


def test_first_byte_does_not_cut_a_response_under_way(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=1, limits={"first_byte": "150ms"})
    assert len(gateway.get("/drip?count=6&delay=100").body) == 6 * len(b"data: 0\n\n")


# --- the app's own ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"), [(c.ERROR_APP_EXCEPTION, 500), (c.ERROR_APP_INCOMPLETE, 500), (c.ERROR_INTERNAL, 502)]
)
def test_reset_by_the_worker(scripted: Gateway, worker: ScriptedWorker, code: int, status: int) -> None:
    with scripted.client() as client:
        client.request("GET", "/fails")
        request = worker.request()
        worker.send(c.FRAME_RESET, stream=request.stream, code=code, flags=c.FLAG_DONE)
        assert client.response().status == status
        client.request("GET", "/fails-late")
        request = worker.request()
        worker.respond(request.stream, 200, body=b"half", flags=0)
        response = client.head()
        worker.send(c.FRAME_RESET, stream=request.stream, code=code, flags=c.FLAG_DONE)
        with pytest.raises(Closed):
            client.body(response)


def test_refused_goes_elsewhere_whatever_its_method(scripted: Gateway) -> None:
    with ScriptedWorker(scripted.app_socket) as first, scripted.client() as client:
        client.request("POST", "/work", body=b"data")
        refused = first.request()
        with ScriptedWorker(scripted.app_socket) as second:
            first.send(c.FRAME_REFUSED, stream=refused.stream, code=c.ERROR_REFUSED)
            request = second.request()
            assert (request.method, second.body(request)) == ("POST", b"data")
            second.respond(request.stream, 201)
            assert client.response().status == 201
            first.leave()
            second.leave()


def test_above_the_last_id_of_goaway_goes_elsewhere(scripted: Gateway) -> None:
    with ScriptedWorker(scripted.app_socket) as first, scripted.client() as one, scripted.client() as two:
        one.request("GET", "/kept")
        kept = first.request()
        two.request("POST", "/moved", body=b"data")
        moved = first.request()
        with ScriptedWorker(scripted.app_socket) as second:
            first.send(c.FRAME_GOAWAY, code=c.ERROR_DRAINING, aux=kept.stream)
            request = second.request()
            assert (request.path, second.body(request)) == ("/moved", b"data")
            second.respond(request.stream, 201)
            assert two.response().status == 201
            first.done(moved.stream)
            first.respond(kept.stream)
            assert one.response().status == 200
            assert [frame.name for frame in first.ending() if frame.kind != c.FRAME_GOAWAY] == []
            second.leave()


@pytest.mark.parametrize("body", [b"", b"begun"])
def test_failure_in_the_same_read_as_the_head_replaces_it(
    scripted: Gateway, worker: ScriptedWorker, body: bytes
) -> None:
    """No byte of the head was on the wire, so the client can be told the truth, and the connection goes on."""
    with scripted.client() as client:
        client.request("GET", "/fails")
        stream = worker.request().stream
        head = response_head([(b"content-length", b"100"), (b"x-secret", b"1")])
        begun = frame(c.FRAME_RESPONSE, head + body, stream=stream, code=200, aux=len(head) if body else 0)
        worker.raw(begun + frame(c.FRAME_RESET, stream=stream, code=c.ERROR_APP_EXCEPTION, flags=c.FLAG_DONE))
        response = client.response()
        assert response.status == 500 and response.header("x-secret") is None and b"begun" not in response.body
        client.request("GET", "/next")
        worker.respond(worker.request().stream, 204)
        assert client.response().status == 204
