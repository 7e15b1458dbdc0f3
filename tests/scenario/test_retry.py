# SPDX-License-Identifier: MIT
"""The retry table row by row: what is placed again when a worker that may have begun it is lost.

The workers are scripts in this process, which lives on when their links end: whatever was written may have begun.
"""

from collections.abc import Callable

import pytest
from harness.gateway import Gateway
from harness.scripted_worker import ScriptedWorker, c

Maker = Callable[..., Gateway]

# retry setting, method, whether a begun request of it is placed again
ROWS = [
    ("never", "GET", False),
    ("unstarted", "GET", False),
    ("safe", "GET", True),
    ("safe", "HEAD", True),
    ("safe", "OPTIONS", True),
    ("safe", "PUT", False),
    ("safe", "POST", False),
    ("idempotent", "GET", True),
    ("idempotent", "PUT", True),
    ("idempotent", "DELETE", True),
    ("idempotent", "POST", False),
    ("idempotent", "PATCH", False),
]


@pytest.mark.parametrize(("retry", "method", "again"), ROWS)
def test_begun_request(make_gateway: Maker, retry: str, method: str, again: bool) -> None:
    gateway = make_gateway(workers=0, app={"retry": retry})
    with ScriptedWorker(gateway.app_socket) as first, gateway.client() as client:
        body = b"b" * 20_000 if method in ("PUT", "POST", "PATCH") else None
        client.request(method, "/x", body=body)
        assert first.body(first.request()) == (body or b"")
        with ScriptedWorker(gateway.app_socket) as second:
            first.close()
            if again:
                request = second.request()
                assert (request.method, second.body(request)) == (method, body or b"")
                second.respond(request.stream)
                assert client.response(method).status == 200
                gateway.expect_counted("retries_started", 1)
            else:
                assert client.response(method).status == 502
            assert second.alive()
            second.leave()


@pytest.mark.parametrize("refusal", [c.ERROR_REFUSED, c.ERROR_OVERLOADED, c.ERROR_DRAINING])
def test_refused_is_placed_again_with_retry_unstarted(make_gateway: Maker, refusal: int) -> None:
    gateway = make_gateway(workers=0, app={"retry": "unstarted"})
    with ScriptedWorker(gateway.app_socket) as worker, gateway.client() as client:
        client.request("POST", "/x", body=b"again")
        worker.send(c.FRAME_REFUSED, stream=worker.request().stream, code=refusal)
        request = worker.request()  # the only worker is asked again after a while
        assert worker.body(request) == b"again"
        worker.respond(request.stream)
        assert client.response().status == 200
        worker.leave()
    gateway.expect_counted("retries_refused", 1)


def test_only_one_retry_of_a_begun_request(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0)
    with gateway.client() as client:
        client.request("GET", "/x")
        for _ in range(2):
            with ScriptedWorker(gateway.app_socket) as worker:
                worker.request()
        assert client.response().status == 502
    gateway.process.wait_log("a request cost 2 workers: GET /x")


def test_body_over_64_kib_is_not_kept(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"retry": "idempotent"})
    with ScriptedWorker(gateway.app_socket) as first, gateway.client() as client:
        client.request("PUT", "/x", body=b"b" * 70_000)
        assert len(first.body(first.request())) == 70_000
        first.close()
        assert client.response().status == 502


def test_gateways_own_100_does_not_count_as_a_response(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"retry": "idempotent"})
    with ScriptedWorker(gateway.app_socket) as first, gateway.client() as client:
        client.request("PUT", "/x", {"expect": "100-continue", "content-length": "4"})
        request = first.request()
        assert request.flags & c.FLAG_EXPECT
        first.grant(request.stream, 65_536)
        assert client.head().status == 100
        client.send(b"body")
        assert first.body(request) == b"body"
        with ScriptedWorker(gateway.app_socket) as second:
            first.close()
            request = second.request()
            assert not request.flags & c.FLAG_EXPECT
            assert second.body(request) == b"body"
            second.respond(request.stream)
            assert client.response().status == 200
            second.leave()


def test_retry_budget(make_gateway: Maker) -> None:
    """At most max(3, 20 % of the requests of the last ten seconds) begun requests are placed again."""
    gateway = make_gateway(workers=0)
    clients = [gateway.client() for _ in range(10)]
    with ScriptedWorker(gateway.app_socket) as first:
        for number, client in enumerate(clients):
            client.request("GET", f"/{number}")
            first.request()
        with ScriptedWorker(gateway.app_socket) as second:
            first.close()
            placed = [second.request() for _ in range(3)]
            for request in placed:
                second.respond(request.stream)
            statuses = [client.response().status for client in clients]
            assert sorted(statuses) == [200] * 3 + [502] * 7
            assert second.alive()
            second.leave()
    gateway.expect_counted("retries_over_budget", 7)
    for client in clients:
        client.close()


def test_retry_goes_to_the_head_of_the_queue(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_timeout": "20s"})
    with ScriptedWorker(gateway.app_socket, max_concurrency=1) as first:
        with gateway.client() as old, gateway.client() as new:
            old.request("GET", "/old")
            first.request()
            new.request("GET", "/new")
            gateway.wait_gauge("requests_waiting", 1)
            first.close()
            gateway.wait_gauge("requests_waiting", 2)  # its fate is decided
            with ScriptedWorker(gateway.app_socket, max_concurrency=1) as second:
                request = second.request()
                assert request.path == "/old"
                second.respond(request.stream)
                request = second.request()
                assert request.path == "/new"
                second.respond(request.stream)
                assert old.response().status == new.response().status == 200
                second.leave()
