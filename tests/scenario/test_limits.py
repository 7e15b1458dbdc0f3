# SPDX-License-Identifier: MIT
"""Limits of requests and responses: a breach gives its status or close, its counter and a log line."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness.gateway import Gateway
from harness.http1 import Client, Closed
from harness.scripted_worker import ScriptedWorker

Maker = Callable[..., Gateway]
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /digest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

# what, its setting, what is sent, status, counter, log line
REQUESTS: list[tuple[str, dict[str, Any], bytes, int, str, str]] = [
    ("target", {"limits": {"target": 64}}, b"GET /" + b"a" * 80 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "limit_target",
     "request target is longer"),
    ("header_block", {"limits": {"header_block": 256}}, HEAD + b"X: " + b"a" * 300 + b"\r\n\r\n", 431,
     "limit_header_block", "header fields are larger"),
    ("header_fields", {"limits": {"header_fields": 3}}, HEAD + b"A: b\r\n" * 3 + b"\r\n", 431, "limit_header_fields",
     "more header fields"),
    ("cookie_crumbs", {"limits": {"cookie_crumbs": 2}}, HEAD + b"Cookie: a=b\r\n" * 3 + b"\r\n", 431,
     "limit_cookie_crumbs", "more Cookie fields"),
    ("trailer_fields", {"limits": {"trailer_fields": 1}}, CHUNKED + b"0\r\nA: b\r\nC: d\r\n\r\n", 431,
     "limit_trailers", "more trailer fields"),
    ("trailer_block", {"limits": {"trailer_block": 20}}, CHUNKED + b"0\r\nA: " + b"b" * 30 + b"\r\n\r\n", 431,
     "limit_trailers", "trailer fields are larger"),
    ("body_size", {"limits": {"body_size": 10}}, b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n", 413,
     "limit_body_size", "limits.body_size"),
    ("body_size chunked", {"limits": {"body_size": 10}}, CHUNKED + b"b\r\nhello world\r\n0\r\n\r\n", 413,
     "limit_body_size", "limits.body_size"),
    ("leading_crlf", {"http1": {"leading_crlf": 1}}, b"\r\n\r\n" + HEAD + b"\r\n", 400, "limit_leading_crlf",
     "empty lines before"),
    ("chunk_line", {"http1": {"chunk_line": 32}}, CHUNKED + b"1;" + b"x" * 40 + b"\r\na\r\n0\r\n\r\n", 400,
     "limit_chunk_line", "first line is longer"),
    ("chunk_overhead", {"http1": {"chunk_overhead": 1024}}, CHUNKED + b"1;ext=123456789\r\nx\r\n" * 80, 400,
     "limit_chunk_overhead", "chunks are too small"),
    ("header_timeout", {"limits": {"header_timeout": "100ms"}}, HEAD, 408, "limit_header_timeout", "header_timeout"),
    ("body_idle", {"limits": {"body_idle": "100ms"}}, CHUNKED + b"5\r\nhel", 408, "limit_body_idle", "body_idle"),
    ("first_byte", {"limits": {"first_byte": "50ms"}}, b"GET /sleep?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n", 504,
     "first_byte_timeouts", "first_byte"),
    ("request_deadline", {"limits": {"request_deadline": "50ms"}},
     b"GET /sleep?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n", 504, "request_deadlines", "request_deadline"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "sent", "status", "counter", "line"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS]
)
def test_request_limit(
    make_gateway: Maker, sections: dict[str, Any], sent: bytes, status: int, counter: str, line: str
) -> None:
    gateway = make_gateway(worker_options=["--graceful-timeout", "0.1", "--disconnect-grace", "0.1"], **sections)
    with gateway.client() as client:
        client.send(sent)
        response = client.response()
        assert response.status == status
        # What was read to its end (a small body that is too large, too) leaves the connection in step.
        if status not in (413, 504):
            assert response.header("connection") == "close"
            assert client.expect_end() == b""
    gateway.expect_counted(counter, 1)
    gateway.process.wait_log(line)
    with gateway.client() as client:  # the next one is served
        client.send(HEAD + b"\r\n")
        assert client.response().status == 200


def test_request_at_the_limit_is_served(make_gateway: Maker) -> None:
    limits = {"target": 64, "header_fields": 3, "cookie_crumbs": 2, "body_size": 10, "trailer_fields": 1}
    gateway = make_gateway(limits=limits)
    fields = b"HTTP/1.1\r\nHost: x\r\nA: b\r\nC: d\r\nCookie: a\r\nCookie: b\r\n\r\n"
    with gateway.client() as client:
        client.send(b"GET /scope/" + b"a" * 57 + b" " + fields)
        assert client.response().status == 200
        client.request("POST", "/echo", body=b"0123456789")
        assert client.response().body == b"0123456789"
        client.send(CHUNKED + b"5\r\n01234\r\n5\r\n56789\r\n0\r\nA: b\r\n\r\n")
        assert client.response().status == 200
        client.send(b"GET /scope/" + b"a" * 58 + b" " + fields)
        assert client.response().status == 414


# --- deadlines are total: bytes now and then do not stretch them ---


def dribble(client: Client, pieces: bytes, pause: float) -> bool:
    """Sends byte by byte until the gateway has ended the connection; False: it let all pass."""
    client.socket.setblocking(False)
    try:
        for byte in pieces:
            client.socket.send(bytes([byte]))
            time.sleep(pause)
            with contextlib.suppress(BlockingIOError):
                data = client.socket.recv(65536)
                client.buffer += data
                if not data or client.buffer:
                    return True
    except (BrokenPipeError, ConnectionResetError):
        return True
    finally:
        client.socket.settimeout(20)
    return False


def test_header_timeout_is_total(make_gateway: Maker) -> None:
    gateway = make_gateway(limits={"header_timeout": "300ms"})
    with gateway.client() as client:
        assert dribble(client, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2000, 0.02)
        assert client.buffer.startswith(b"HTTP/1.1 408 ")
    gateway.expect_counted("limit_header_timeout", 1)


def test_connection_without_a_request(make_gateway: Maker) -> None:
    gateway = make_gateway(limits={"header_timeout": "100ms"})
    with gateway.client() as client:
        assert client.expect_end() == b""
    gateway.expect_counted("limit_header_timeout", 1)


def test_body_min_rate(make_gateway: Maker) -> None:
    gateway = make_gateway(limits={"body_min_rate": 500, "body_min_rate_after": "1s", "body_idle": "60s"})
    with gateway.client() as client:
        client.request("POST", "/digest", {"content-length": "100000"})
        assert dribble(client, b"x" * 5000, 0.02)
        assert client.buffer.startswith(b"HTTP/1.1 408 ")
    gateway.expect_counted("limit_body_min_rate", 1)
    gateway.process.wait_log("body_min_rate")


def test_clock_of_the_body_stands_while_the_app_is_slow(make_gateway: Maker) -> None:
    """The client is not to blame when nobody takes its bytes."""
    gateway = make_gateway(workers=0, limits={"body_idle": "200ms"})
    with ScriptedWorker(gateway.app_socket) as worker, gateway.client() as client:
        client.request("POST", "/slow-app", body=b"x" * 200_000)
        request = worker.request()
        time.sleep(0.6)
        assert len(worker.body(request)) == 200_000
        worker.respond(request.stream)
        assert client.response().status == 200
        worker.leave()


def test_keep_alive(make_gateway: Maker) -> None:
    gateway = make_gateway(limits={"keep_alive": "100ms"})
    with gateway.client() as client:
        assert client.get("/").status == 200
        assert client.expect_end() == b""
    gateway.expect_counted("limit_keep_alive", 1)
    gateway.process.wait_log("keep_alive")


def test_keep_alive_requests(make_gateway: Maker) -> None:
    gateway = make_gateway(limits={"keep_alive_requests": 2})
    with gateway.client() as client:
        assert client.get("/").header("connection") is None
        assert client.get("/").header("connection") == "close"
        assert client.expect_end() == b""
    gateway.expect_counted("limit_keep_alive_requests", 1)
    gateway.process.wait_log("keep_alive_requests")


# --- clients that do not take their response --------------------------------------------------------------------------


def test_write_stall(make_gateway: Maker) -> None:
    gateway = make_gateway(limits={"write_stall": "300ms"})
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/endless")
        gateway.expect_counted("limit_write_stall", 1)
        gateway.process.wait_log("write_stall")
        gateway.wait_note("send raised OSError")
        gateway.wait_metric("exchanges", 0)
        assert not client.expect_end().endswith(b"0\r\n\r\n")


def test_min_send_rate(make_gateway: Maker) -> None:
    gateway = make_gateway(limits={"min_send_rate": "1GiB", "min_send_rate_after": "1s", "write_stall": "60s"})
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/endless")
        deadline = time.monotonic() + 20
        with contextlib.suppress(ConnectionResetError):
            while client.socket.recv(4096):  # steady, and much slower than asked for
                time.sleep(0.01)
                assert time.monotonic() < deadline
    gateway.expect_counted("limit_min_send_rate", 1)
    gateway.process.wait_log("min_send_rate")


def test_slow_reader_above_the_rate_is_left_alone(make_gateway: Maker) -> None:
    gateway = make_gateway(limits={"write_stall": "400ms", "min_send_rate": 500, "min_send_rate_after": "1s"})
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/download?bytes=8000000")
        client.head()
        left = 8_000_000 - len(client.buffer)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            left -= len(client.socket.recv(20_000))
            time.sleep(0.05)
        while left:
            got = len(client.socket.recv(1 << 20))
            assert got
            left -= got
    assert gateway.metric("limit_write_stall") == 0


def test_response_idle(make_gateway: Maker) -> None:
    gateway = make_gateway(
        limits={"response_idle": "100ms"}, worker_options=["--graceful-timeout", "0.1", "--disconnect-grace", "0.1"]
    )
    with gateway.client() as client:
        client.request("GET", "/drip?count=2&delay=60000")
        response = client.head()
        with pytest.raises(Closed):
            client.body(response)
    gateway.expect_counted("response_idle_timeouts", 1)
    gateway.process.wait_log("response_idle")


def test_early_response_drain_and_lingering_close(make_gateway: Maker) -> None:
    limits = {"early_response_drain": "1KiB", "early_response_drain_time": "100ms", "lingering_close": "300ms"}
    gateway = make_gateway(limits=limits)
    with gateway.client() as client:  # more than the drain takes
        client.request("POST", "/early", {"content-length": "4096"})
        assert client.response().header("connection") == "close"
        client.send(b"x" * 2000)
        assert client.rest() == b""
        gateway.expect_counted("h1_early_closes", 1)
        gateway.expect_counted("limit_lingering_close", 1)  # we keep our side open until it gives up
    with gateway.client() as client:  # later than the drain waits
        client.request("POST", "/early", {"content-length": "1000"})
        assert client.response().header("connection") is None
        assert client.expect_end() == b""
        gateway.expect_counted("limit_early_response_drain", 1)
        gateway.process.wait_log("after an early response")


# --- apps -------------------------------------------------------------------------------------------------------------


def test_queue_max(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_max": 0})
    response = gateway.get("/")
    assert response.status == 503 and response.header("retry-after") == "1"
    gateway.expect_counted("queue_full", 1)
    gateway.process.wait_log("queue_max")
    gateway.start_workers(1)
    assert gateway.get("/").status == 200  # who need not wait does not need a place


def test_queue_timeout(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_timeout": "50ms"}, http={"retry_after": 7})
    assert gateway.get("/").header("retry-after") == "7"
    gateway.expect_counted("queue_timeouts", 1)
    gateway.process.wait_log("queue_timeout")


def test_worker_capacity(make_gateway: Maker) -> None:
    """max_concurrency of a worker is never passed; what comes meanwhile waits its turn."""
    gateway = make_gateway(worker_options=["--max-concurrency", "2"], app={"queue_timeout": "20s"})
    clients = [gateway.client() for _ in range(10)]
    for number, client in enumerate(clients):
        client.request("GET", f"/batch?id={number}&ms=30")
    gateway.wait_note("begun")
    assert gateway.metric("slots_taken") <= 2
    for number, client in enumerate(clients):
        assert client.response().body == b"%d" % number
        client.close()
