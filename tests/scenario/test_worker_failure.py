# SPDX-License-Identifier: MIT
"""Real workers that die, stop or never start: what the retry table saves, and that nothing runs twice."""

import contextlib
import os
import time
from collections.abc import Callable

import pytest
from harness.gateway import VARIANT, Gateway, Worker
from harness.http1 import Client, Closed
from harness.load import Load
from harness.process import wait_for

Maker = Callable[..., Gateway]
# The promise is 200 ms; a test machine under sanitizers is allowed more before it is called broken.
SOON = 2.0 if VARIANT == "release" else 10.0


def worker_that_began(gateway: Gateway, name: str) -> Worker:
    """The worker that noted the beginning of the request with this id."""
    pid = int(gateway.wait_note(rf"^begun (\d+) {name}$").group(1))
    return next(worker for worker in gateway.workers if worker.pid == pid)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


def test_killed_before_the_response(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=2, gateway={"threads": 2})
    with Load(gateway) as load, gateway.client() as client:
        load.more(20)
        client.request("GET", "/batch?id=get&ms=300")
        worker_that_began(gateway, "get").kill()
        assert client.response().body == b"get"  # from the other one
        gateway.start_workers(1)
        client.request("POST", "/batch?id=post&ms=60000", body=b"x")
        victim = worker_that_began(gateway, "post")
        victim.kill()
        killed = time.monotonic()
        assert client.response().status == 502
        assert time.monotonic() - killed < SOON
        load.more(20)
    begun = [note.split()[2] for note in gateway.notes() if note.startswith("begun")]
    assert begun.count("get") == 2 and begun.count("post") == 1


@pytest.mark.parametrize("when", ["head", "body"])
def test_killed_after_the_head(make_gateway: Maker, when: str) -> None:
    gateway = make_gateway(workers=2)
    with gateway.client() as client:
        client.request("GET", f"/die?when={when}")
        response = client.head()
        began = time.monotonic()
        with pytest.raises(Closed):
            client.body(response)
        assert time.monotonic() - began < SOON
    expect_dead(gateway, 1)
    assert gateway.get("/").status == 200


def expect_dead(gateway: Gateway, count: int) -> None:
    """So many workers have killed themselves."""
    wait_for(lambda: sum(not worker.alive for worker in gateway.workers) == count, f"{count} dead workers")
    for worker in gateway.workers:
        if not worker.alive:
            worker.may_end_with = {-9}


def test_killed_in_the_middle_of_a_download(make_gateway: Maker) -> None:
    gateway = make_gateway()
    for target in ("/download?bytes=100000000&chunked=1", "/download?bytes=100000000"):
        with gateway.client() as client:
            client.request("GET", target)
            assert client.head().status == 200
            client.exactly(1_000_000)
            gateway.workers[-1].kill()
            rest = client.expect_end()
            assert len(rest) < 90_000_000 and not rest.endswith(b"0\r\n\r\n")
        gateway.start_workers(1)
    assert gateway.get("/").status == 200


def test_killed_in_the_middle_of_an_upload(make_gateway: Maker) -> None:
    gateway = make_gateway()
    with gateway.client() as client:
        client.request("POST", "/digest", {"content-length": str(8 << 20)})
        piece = b"x" * 65536
        for _ in range(64):
            client.send(piece)
        gateway.workers[0].kill()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(32):
                client.send(piece)
        response = client.response()
        assert response.status == 502 and response.header("connection") == "close"
    gateway.start_workers(1)
    assert gateway.get("/").status == 200


def test_only_worker_killed_and_replaced(make_gateway: Maker) -> None:
    """The GET waits for the replacement, and so does what comes meanwhile."""
    gateway = make_gateway(app={"queue_timeout": "20s"})
    with gateway.client() as first, gateway.client() as second:
        first.request("GET", "/sleep?ms=300&id=1")
        gateway.wait_note("start GET 1")
        gateway.workers[0].kill()
        second.request("POST", "/echo", body=b"new")
        gateway.start_workers(1)
        assert first.response().body == b"slept\n"
        assert second.response().body == b"new"


def test_batch_of_64_killed_in_its_middle(make_gateway: Maker) -> None:
    """Every id is checked: what had begun and may not be repeated is 502, the rest is answered, no POST twice."""
    gateway = make_gateway(app={"queue_timeout": "20s"})
    first = gateway.workers[0]
    first.pause()  # so that all 64 lie in its socket
    clients: dict[str, Client] = {}
    for number in range(64):
        method = "GET" if number % 8 == 5 else "POST"
        name = f"{method}-{number}"
        clients[name] = gateway.client()
        clients[name].request(method, f"/batch?id={name}" + ("&kill=1" if number == 31 else ""))
    gateway.wait_gauge("slots_taken", 64)
    (second,) = gateway.start_workers(1)
    first.may_end_with = {-9}
    first.go_on()
    statuses = {name: client.response() for name, client in clients.items()}
    begun = {name: set[int]() for name in clients}
    for note in gateway.notes():
        if note.startswith("begun "):
            _, pid, name = note.split()
            assert int(pid) not in begun[name], f"{name} has begun twice in worker {pid}"
            begun[name].add(int(pid))
    assert any(first.pid in pids for pids in begun.values()) and any(first.pid not in pids for pids in begun.values())
    for name, response in statuses.items():
        if name.startswith("POST") and first.pid in begun[name]:
            assert response.status == 502, name
            assert begun[name] == {first.pid}, name
        elif name.startswith("POST"):
            assert (response.status, response.body) == (200, name.encode()), name
            assert begun[name] == {second.pid}, name
    gets = [name for name in clients if name.startswith("GET")]
    for name in gets:  # begun ones within the retry budget
        assert statuses[name].status == 200 or first.pid in begun[name], name
        assert (statuses[name].status == 200) == (second.pid in begun[name]), name
    retried = sum(first.pid in begun[name] and second.pid in begun[name] for name in gets)
    assert retried == min(sum(first.pid in begun[name] for name in gets), 64 // 5)
    for client in clients.values():
        client.close()


def test_request_that_kills_two_workers_is_given_up(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=3)
    with gateway.client() as client:
        assert client.get("/poison").status == 502
        expect_dead(gateway, 2)
        gateway.process.wait_log(r"a request cost 2 workers: GET /poison")
        gateway.expect_counted("requests_poisonous", 1)
        assert client.get("/").status == 200


def test_replaced_one_by_one_under_load(make_gateway: Maker) -> None:
    """SIGTERM to a worker drains it: no request fails."""
    gateway = make_gateway(workers=2, gateway={"threads": 2})
    with Load(gateway, clients=6, target="/sleep?ms=2") as load:
        for _ in range(4):
            oldest = next(worker for worker in gateway.workers if worker.alive)
            gateway.start_workers(1)
            assert oldest.stop() == 0
            load.more(30)


# --- SIGSTOP ----------------------------------------------------------------------------------------------------------

QUICK = {"ping_interval": "50ms", "unresponsive_after": "300ms"}


def test_stopped_worker_gets_nothing_new_and_loses_nothing(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=2, ipc=QUICK)
    stopped = gateway.workers[0]
    clients = [gateway.client() for _ in range(8)]
    for number, client in enumerate(clients):  # by load, half of them go to each worker
        client.request("POST", f"/batch?id={number}", body=b"x")
        client.response()
    stopped.pause()
    for number, client in enumerate(clients):
        client.request("POST", f"/batch?id=again-{number}", body=b"x")
    gateway.process.wait_log(f"worker {stopped.pid}: link 0: no PONG")
    with Load(gateway, clients=2) as load:
        load.more(50)
    stopped.go_on()
    for number, client in enumerate(clients):
        assert client.response().body == f"again-{number}".encode()
        client.close()
    notes = [note.split()[2] for note in gateway.notes() if " again-" in note]
    assert sorted(notes) == sorted(set(notes)) and len(notes) == 8


def test_only_worker_stopped_requests_wait(make_gateway: Maker) -> None:
    gateway = make_gateway(ipc=QUICK, app={"queue_timeout": "20s"})
    worker = gateway.workers[0]
    worker.pause()
    gateway.process.wait_log(f"worker {worker.pid}: link 0: no PONG")
    with gateway.client() as client:
        client.request("POST", "/echo", body=b"waited")
        gateway.wait_gauge("requests_waiting", 1)
        worker.go_on()
        assert client.response().body == b"waited"


def test_stopped_worker_killed(make_gateway: Maker) -> None:
    """It was stopped before it could begin anything: even a POST is placed again."""
    gateway = make_gateway()
    first = gateway.workers[0]
    first.pause()
    with gateway.client() as client:
        client.request("POST", "/echo", body=b"not begun")
        gateway.wait_gauge("slots_taken", 1)
        gateway.start_workers(1)
        first.kill()
        assert client.response().body == b"not begun"
    gateway.expect_counted("retries_unstarted", 1)


# --- start ------------------------------------------------------------------------------------------------------------


def test_start_failure_is_told(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_timeout": "100ms"})
    worker = gateway.new_worker("broken:app")
    worker.start()
    assert worker.wait() == 3
    worker.may_end_with = {3}
    assert "the database password is missing" in worker.output
    gateway.process.wait_log("the database password is missing")
    assert "the database password is missing" in gateway.status()["apps"][0]["last_error"]
    assert gateway.get("/").status == 503


def test_worker_that_never_gets_ready(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, ipc={"start_timeout": "300ms"}, app={"queue_timeout": "100ms"})
    worker = gateway.new_worker("scenario:app", environment={"SCENARIO_STARTUP_SLEEP": "60"})
    worker.start()
    gateway.process.wait_log("STARTUP_FAILED|start_timeout|did not get ready|was not ready")
    gateway.expect_counted("ipc_start_timeouts", 1)
    assert gateway.get("/").status == 503
    worker.kill()
    gateway.start_workers(1)
    assert gateway.get("/").status == 200


def test_no_request_before_startup_complete(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_timeout": "20s"})
    with gateway.client() as client:
        client.request("GET", "/")
        gateway.start_workers(1, environment={"SCENARIO_STARTUP_SLEEP": "0.3"})
        assert client.response().status == 200
    assert gateway.notes()[0] == "lifespan.startup"


def test_workers_come_back_after_the_gateway_was_away(make_gateway: Maker) -> None:
    """A worker that was started first dials until the gateway is there; kill -9 of the server makes it dial again."""
    gateway = make_gateway(workers=1)
    old = gateway.server_pid
    os.kill(old, 9)
    gateway.process.wait_log(r"serving again, server pid (\d+)")
    assert gateway.server_pid != old
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError, Closed), gateway.client() as client:
            if client.get("/").status == 200:
                break
        assert time.monotonic() < deadline
    gateway.base_descriptors = [*gateway.server_descriptors()]
