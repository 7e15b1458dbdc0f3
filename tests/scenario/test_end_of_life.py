# SPDX-License-Identifier: MIT
"""The end-of-life table of docs/ARCHITECTURE.md, HTTP/1.1 column and what the worker is told: one test per cell.

The worker is a script: its side of each cell is asserted frame by frame.
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from harness.gateway import Gateway
from harness.http1 import Closed
from harness.scripted_worker import ScriptedWorker, c

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


# --- client gone ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_reset_while_the_response_is_awaited(scripted: Gateway, worker: ScriptedWorker, tls: bool) -> None:
    client = scripted.tls_client() if tls else scripted.client()
    client.request("GET", "/wait")
    request = worker.request()
    client.reset()
    worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
    late_words(worker, request.stream)


def test_reset_while_the_response_is_written(scripted: Gateway, worker: ScriptedWorker) -> None:
    client = scripted.client()
    client.request("GET", "/stream")
    request = worker.request()
    worker.respond(request.stream, 200, body=b"first", flags=0)
    assert client.head().status == 200
    client.reset()
    worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
    worker.data(request.stream, b"second")
    worker.data(request.stream, flags=c.FLAG_END_STREAM | c.FLAG_DONE)
    assert worker.alive()


def test_reset_of_a_client_that_does_not_read(scripted: Gateway, worker: ScriptedWorker) -> None:
    """The gateway is stopped by backpressure and by a full read-ahead: it must still see the reset."""
    client = scripted.client(receive_buffer=4096)
    client.request("GET", "/stream")
    request = worker.request()
    worker.respond(request.stream, 200, flags=0)
    credit = c.DEFAULT_WINDOW
    client.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            client.socket.send(b"GET /ahead HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    worker.socket.settimeout(0.5)
    with contextlib.suppress(TimeoutError):  # until no credit comes any more: the client's buffers are full
        while True:
            while credit >= 16400:
                worker.data(request.stream, b"x" * 16384)
                credit -= 16400
            credit += worker.expect(c.FRAME_WINDOW, request.stream).aux
    worker.socket.settimeout(20)
    client.reset()
    worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
    worker.done(request.stream)


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_end_inside_the_request_body(scripted: Gateway, worker: ScriptedWorker, end: str) -> None:
    client = scripted.client()
    client.request("POST", "/upload", {"content-length": "100"})
    client.send(b"half")
    request = worker.request()
    body = request.body or worker.expect(c.FRAME_DATA, request.stream).payload
    assert body == b"half"
    if end == "reset":
        client.reset()
    else:
        client.shut()
    worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
    if end == "fin":
        assert client.expect_end() == b""
    worker.done(request.stream)


def test_end_inside_the_request_body_after_the_head(scripted: Gateway, worker: ScriptedWorker) -> None:
    client = scripted.client()
    client.request("POST", "/upload", {"transfer-encoding": "chunked"})
    request = worker.request()
    worker.respond(request.stream, 200, body=b"begun", flags=0)
    assert client.head().status == 200
    client.shut()
    worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
    assert not client.expect_end().endswith(b"0\r\n\r\n")
    worker.done(request.stream)


def test_gone_while_waiting_for_a_worker(scripted: Gateway) -> None:
    """It leaves the queue at once and never reaches an app."""
    with scripted.client() as client:
        client.request("POST", "/never", body=b"x")
        client.reset()
    with scripted.client() as client:
        client.request("GET", "/second")
        with ScriptedWorker(scripted.app_socket) as worker:
            request = worker.request()
            assert request.path == "/second"
            worker.respond(request.stream)
            assert client.response().status == 200
            worker.leave()


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHos", b"\r\n"])
def test_end_before_a_request_is_complete(scripted: Gateway, sent: bytes) -> None:
    with scripted.client() as client:
        client.send(sent)
        client.shut()
        assert client.expect_end() == b""


# --- half-closed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"whole body"])
def test_half_closed_gets_its_answer(scripted: Gateway, worker: ScriptedWorker, body: bytes | None) -> None:
    with scripted.client() as client:
        client.request("POST" if body else "GET", "/half", body=body)
        client.shut()
        request = worker.request()
        assert worker.body(request) == (body or b"")
        worker.expect_disconnect(request.stream, c.ERROR_CLIENT_EOF)
        worker.respond(request.stream, 200, body=b"one", flags=0)
        worker.data(request.stream, b"two", c.FLAG_END_STREAM | c.FLAG_DONE)
        response = client.response()
        assert response.body == b"onetwo"
        assert client.rest() == b""


def test_half_closed_later_then_reset(scripted: Gateway, worker: ScriptedWorker) -> None:
    client = scripted.client()
    client.request("GET", "/half")
    request = worker.request()
    client.shut()
    worker.expect_disconnect(request.stream, c.ERROR_CLIENT_EOF)
    client.reset()
    worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
    late_words(worker, request.stream)


def test_half_closed_in_the_queue(scripted: Gateway) -> None:
    with scripted.client() as client:
        client.request("GET", "/half")
        client.shut()
        with ScriptedWorker(scripted.app_socket) as worker:
            request = worker.request()
            worker.expect_disconnect(request.stream, c.ERROR_CLIENT_EOF)
            worker.respond(request.stream, 200, body=b"x")
            assert client.response().body == b"x"
            assert client.rest() == b""
            worker.leave()


def test_half_closed_pipeline_is_answered_to_its_end(scripted: Gateway, worker: ScriptedWorker) -> None:
    with scripted.client() as client:
        client.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        client.shut()
        for path in ("/1", "/2"):
            request = worker.request()
            assert request.path == path
            worker.expect_disconnect(request.stream, c.ERROR_CLIENT_EOF)
            worker.respond(request.stream, 200, [(b"content-length", b"2")], path.encode())
        assert client.response().body == b"/1"
        assert client.response().body == b"/2"
        assert client.rest() == b""


# --- early response, body unread --------------------------------------------------------------------------------------


def test_early_response_small_body_is_drained(scripted: Gateway, worker: ScriptedWorker) -> None:
    with scripted.client() as client:
        client.request("POST", "/early", {"content-length": "1000"})
        request = worker.request()
        worker.respond(request.stream, 403, [(b"content-length", b"0")])
        assert worker.expect(c.FRAME_RESET, request.stream).code == c.ERROR_BODY_ABORTED
        response = client.response()
        assert response.status == 403 and response.header("connection") is None
        client.send(b"x" * 1000)
        client.request("GET", "/next")
        request = worker.request()
        assert request.path == "/next"
        worker.respond(request.stream)
        assert client.response().status == 200


def test_early_response_large_body_closes(scripted: Gateway, worker: ScriptedWorker) -> None:
    """More than early_response_drain is still to come: the answer says close, and no reset destroys it."""
    with scripted.client() as client:
        client.request("POST", "/early", {"content-length": "900000"})
        request = worker.request()
        worker.respond(request.stream, 403, [(b"content-length", b"5")], b"early")
        assert worker.expect(c.FRAME_RESET, request.stream).code == c.ERROR_BODY_ABORTED
        client.send(b"x" * 300_000)
        response = client.response()
        assert (response.status, response.body) == (403, b"early")
        assert response.header("connection") == "close"
        assert client.rest() == b""


def test_early_response_chunked_body_beyond_the_drain(scripted: Gateway, worker: ScriptedWorker) -> None:
    with scripted.client() as client:
        client.request("POST", "/early", {"transfer-encoding": "chunked"})
        request = worker.request()
        worker.respond(request.stream, 200, [(b"content-length", b"2")], b"ok")
        assert worker.expect(c.FRAME_RESET, request.stream).code == c.ERROR_BODY_ABORTED
        assert client.response().body == b"ok"
        for _ in range(20):
            client.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        assert client.rest() == b""


def test_early_response_body_that_does_not_come(scripted: Gateway, worker: ScriptedWorker) -> None:
    """Nobody waits longer than early_response_drain_time for the rest."""
    with scripted.client() as client:
        client.request("POST", "/early", {"content-length": "10"})
        request = worker.request()
        worker.respond(request.stream, 200, [(b"content-length", b"2")], b"ok")
        assert worker.expect(c.FRAME_RESET, request.stream).code == c.ERROR_BODY_ABORTED
        assert client.response().body == b"ok"
        assert client.rest() == b""


def test_done_after_the_response_keeps_the_slot(scripted: Gateway) -> None:
    """DONE is not END_STREAM: the client has its answer, the slot is free only with DONE."""
    with ScriptedWorker(scripted.app_socket, max_concurrency=1) as worker, scripted.client() as client:
        client.request("GET", "/one")
        first = worker.request()
        worker.respond(first.stream, flags=c.FLAG_END_STREAM)
        assert client.response().status == 200
        client.request("GET", "/two")
        assert worker.alive()  # nothing but PONG came in between
        worker.done(first.stream)
        second = worker.request()
        worker.respond(second.stream)
        assert client.response().status == 200
        worker.leave()


# --- client protocol errors -------------------------------------------------------------------------------------------

BAD_HEADS = [
    (b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n", 413),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n", 417),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
]


@pytest.mark.parametrize(("head", "status"), BAD_HEADS, ids=[f"{s}-{n}" for n, (_, s) in enumerate(BAD_HEADS)])
def test_bad_head_never_reaches_a_worker(scripted: Gateway, worker: ScriptedWorker, head: bytes, status: int) -> None:
    with scripted.client() as client:
        client.send(head)
        response = client.response()
        assert response.status == status and response.header("connection") == "close"
        assert client.expect_end() == b""
    assert worker.alive()


BAD_CHUNKS = [
    b"5\r\nhelloX\r\n",
    b"zz\r\n",
    b"5 \r\nhello\r\n",
    b"-1\r\n",
    b"5\nhello\r\n",
    b"0\r\nbad name: x\r\n\r\n",
]


@pytest.mark.parametrize("chunk", BAD_CHUNKS)
def test_bad_body_before_the_head(scripted: Gateway, worker: ScriptedWorker, chunk: bytes) -> None:
    with scripted.client() as client:
        client.request("POST", "/upload", {"transfer-encoding": "chunked"})
        request = worker.request()
        client.send(chunk)
        response = client.response()
        assert response.status == 400 and response.header("connection") == "close"
        assert client.expect_end() == b""
        while (frame := worker.next()) is not None and frame.kind == c.FRAME_DATA:
            assert not frame.flags & c.FLAG_END_STREAM
        assert frame is not None and (frame.kind, frame.code) == (c.FRAME_DISCONNECT, c.ERROR_CLIENT_GONE), str(frame)
        worker.done(request.stream)


def test_bad_body_after_the_head(scripted: Gateway, worker: ScriptedWorker) -> None:
    with scripted.client() as client:
        client.request("POST", "/upload", {"transfer-encoding": "chunked"})
        request = worker.request()
        worker.respond(request.stream, 200, body=b"begun", flags=0)
        response = client.head()
        client.send(b"zz\r\n")
        with pytest.raises(Closed):
            client.body(response)
        worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
        worker.done(request.stream)


def test_body_over_the_limit_while_it_comes(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, limits={"body_size": "10KiB"})
    with ScriptedWorker(gateway.app_socket) as worker, gateway.client() as client:
        client.request("POST", "/upload", {"transfer-encoding": "chunked"})
        request = worker.request()
        client.send(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        assert len(worker.expect(c.FRAME_DATA, request.stream).payload) > 0
        client.send(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        response = client.response()
        assert response.status == 413 and response.header("connection") == "close"
        while (frame := worker.next()) is not None and frame.kind == c.FRAME_DATA:
            pass
        assert frame is not None and (frame.kind, frame.code) == (c.FRAME_DISCONNECT, c.ERROR_CLIENT_GONE), str(frame)
        worker.done(request.stream)
        worker.leave()


def test_body_that_stops(scripted: Gateway, worker: ScriptedWorker) -> None:
    with scripted.client() as client:
        client.request("POST", "/upload", {"content-length": "10"})
        request = worker.request()
        response = client.response()
        assert response.status == 408 and response.header("connection") == "close"
        worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
        worker.done(request.stream)


# --- the real worker's side -------------------------------------------------------------------------------------------


def test_app_sees_the_ends(make_gateway: Maker) -> None:
    gateway = make_gateway()
    client = gateway.client()
    client.request("GET", "/disconnect")
    gateway.wait_note("waiting")
    client.reset()
    gateway.wait_note("got http.disconnect")
    gateway.wait_note("send raised .*")
    gateway.notes_file.unlink()
    with gateway.client() as client:
        client.request("POST", "/disconnect", body=b"x")
        client.shut()
        gateway.wait_note("got http.disconnect")
        gateway.wait_note("send worked")
        assert client.response().body == b"after disconnect\n"
        assert client.rest() == b""


def test_app_errors(make_gateway: Maker) -> None:
    gateway = make_gateway()
    with gateway.client() as client:
        assert client.get("/crash").status == 500
        assert client.get("/nothing").status == 500
        client.request("GET", "/crash-late")
        # Head, half the body and the failure may come in one read: then nothing was written, and it is a 500.
        head = client.head()
        if head.status == 500:
            assert b"half" not in client.body(head)
            assert gateway.metric("responses_replaced") == 1
        else:
            assert head.status == 200 and client.expect_end() in (b"", b"half")
