# SPDX-License-Identifier: MIT
"""A new binary for a gateway that runs: SIGUSR2 and `gatewayctl upgrade --wait`."""

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable

import pytest
from harness.gateway import GATEWAYD, ROOT, Gateway
from harness.http1 import Client, Closed
from harness.ports import free_port
from harness.process import Failed, children_of, wait_for
from harness.websocket import WsClient

GATEWAYCTL = os.environ.get("GATEWAYCTL", str(ROOT / "build" / "gatewayctl"))

MakeGateway = Callable[..., Gateway]


@pytest.fixture
def make(make_gateway: MakeGateway) -> MakeGateway:
    """As make_gateway, with a binary of its own that a test may replace."""

    def make(*, workers: int = 1, target: str = "scenario:app", **sections: object) -> Gateway:
        return make_gateway(workers=workers, app_target=target, own_binary=True, **sections)

    return make


def replace(gateway: Gateway, text: str | None = None) -> None:
    """Another binary at the path of the running one; `text`: a script instead."""
    path, fresh = gateway.directory / "gatewayd", gateway.directory / "gatewayd.new"
    if text is None:
        shutil.copy(GATEWAYD, fresh)
    else:
        fresh.write_text(text)
        fresh.chmod(0o755)
    fresh.rename(path)


def upgrade(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), "upgrade", "--wait"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def good_upgrade(gateway: Gateway) -> tuple[int, int]:
    """The pids of the server before and of the new one."""
    done = upgrade(gateway)
    assert done.returncode == 0, f"{done}\n{gateway.process.tail()}"
    match = re.search(r"upgraded: server (\d+) serves, server (\d+) finishes", done.stdout)
    assert match, done
    return int(match[2]), int(match[1])


def alone(gateway: Gateway) -> None:
    """The server before has ended."""
    wait_for(lambda: len(children_of(gateway.process.pid)) == 1, "the server before to end", 30)


class Requests:
    """GETs in the background, one by one on connections that are made anew when an answer says so; none may fail."""

    def __init__(self, gateway: Gateway, clients: int = 4, target: str = "/"):
        self.gateway, self.target = gateway, target
        self.answered = 0
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def _run(self) -> None:
        client: Client | None = None
        while not self._stop.is_set():
            failure = ""
            try:
                client = client or self.gateway.client()
                answer = client.get(self.target)
                failure = "" if answer.status == 200 else f"status {answer.status} {answer.body!r}"
                close = answer.header("connection") == "close"
            except (OSError, Closed) as error:
                failure, close = repr(error), True
            if close and client is not None:
                client.close()
                client = None
            with self._lock:
                self.answered += 1
                self.failures += [failure] if failure else []
            self._stop.wait(0.002)
        if client is not None:
            client.close()

    def __enter__(self) -> "Requests":
        for thread in self._threads:
            thread.start()
        return self

    def more(self, count: int) -> None:
        goal = self.answered + count
        wait_for(lambda: self.answered >= goal, f"{count} more answers", 30)

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            assert not self.failures, f"{len(self.failures)} of {self.answered} failed: {self.failures[:5]}"


# --- it works ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_the_new_binary_serves_and_nobody_notices(make: MakeGateway, threads: int) -> None:
    gateway = make(workers=2, gateway={"threads": threads, "drain_idle": "1s"})
    master, pids = gateway.process.pid, {worker.pid for worker in gateway.workers}
    with Requests(gateway) as requests:
        requests.more(50)
        for _ in range(2):
            replace(gateway)
            old, new = good_upgrade(gateway)
            assert new in children_of(master) and old != new
            requests.more(100)
        assert gateway.process.alive and gateway.process.pid == master
        assert {int(row["pid"]) for row in gateway.admin("workers")} == pids
    alone(gateway)
    assert gateway.get("/").status == 200
    assert not gateway.status()["upgrade"]["failed"]


def test_a_signal_does_the_same(make: MakeGateway) -> None:
    gateway = make()
    replace(gateway)
    gateway.process.send_signal(signal.SIGUSR2)
    gateway.process.wait_log(r"upgraded: server \d+ serves")
    alone(gateway)
    assert gateway.get("/").status == 200


def test_what_is_under_way_goes_on(make: MakeGateway) -> None:
    gateway = make(tls=True, gateway={"drain_idle": "1s"})
    with (
        gateway.client() as slow,
        gateway.client() as upload,
        gateway.tls_client() as download,
        gateway.client() as sse,
    ):
        slow.send(b"GET /sleep?ms=1500 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        upload.send(b"POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50000)
        download.send(b"GET /download?bytes=30000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sse.send(b"GET /drip?count=60&delay=25 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gateway.wait_note("start GET")
        good_upgrade(gateway)
        assert gateway.get("/").status == 200
        upload.send(b"x" * 50000)
        assert b'"bytes": 100000' in upload.response().body
        assert len(download.response().body) == 30000000
        assert slow.response().body == b"slept\n"
        assert sse.response().body.endswith(b"data: 59\n\n")
    alone(gateway)


def test_a_websocket_is_told_that_the_server_goes(make: MakeGateway) -> None:
    gateway = make(target="websocket_app:app")
    with WsClient(gateway.client()) as client:
        client.handshake("/echo")
        client.accepted()
        good_upgrade(gateway)
        client.expect_close(1001)
    with WsClient(gateway.client()) as client:
        client.handshake("/echo")
        client.accepted()
    alone(gateway)


def test_a_new_configuration_comes_with_it(make: MakeGateway) -> None:
    gateway = make()
    added = free_port()
    gateway.listeners.append({"bind": f"127.0.0.1:{added}"})
    gateway.sections["ipc"] = {"window": "128KiB"}
    gateway.write_config()
    replace(gateway)
    good_upgrade(gateway)
    with Client(("127.0.0.1", added)) as client:
        assert client.get("/").status == 200
    alone(gateway)
    gateway.base_descriptors.append("the listener that was added")


def test_gateways_without_workers_wait_for_none(make: MakeGateway) -> None:
    gateway = make(workers=0)
    good_upgrade(gateway)
    gateway.start_workers(1)
    assert gateway.get("/").status == 200
    alone(gateway)


def test_a_second_one_while_the_first_drains(make: MakeGateway) -> None:
    gateway = make(gateway={"drain_timeout": "20s"})
    with gateway.client() as first, gateway.client() as second:
        first.send(b"GET /sleep?ms=4000&id=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gateway.wait_note("start GET 1")
        good_upgrade(gateway)
        second.close()
        with gateway.client() as third:
            third.send(b"GET /sleep?ms=3000&id=2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            gateway.wait_note("start GET 2")
            good_upgrade(gateway)
            assert len(children_of(gateway.process.pid)) == 3
            assert gateway.get("/").status == 200
            assert third.response().body == b"slept\n"
        assert first.response().body == b"slept\n"
    alone(gateway)


def test_a_reload_after_an_upgrade(make: MakeGateway) -> None:
    gateway = make()
    good_upgrade(gateway)
    gateway.process.send_signal(signal.SIGHUP)
    gateway.process.wait_log("configuration 3 is in effect")
    assert gateway.get("/").status == 200
    alone(gateway)


# --- it fails, and changes nothing ----------------------------------------------------------------------------------


def expect_failure(gateway: Gateway, why: str) -> None:
    server = gateway.server_pid
    with Requests(gateway, clients=2) as requests:
        requests.more(10)
        done = upgrade(gateway)
        assert done.returncode == 1 and re.search(why, done.stderr), f"{done}\n{gateway.process.tail()}"
        requests.more(10)
    assert gateway.server_pid == server
    status = gateway.status()["upgrade"]
    assert status["failed"] and re.search(why, status["text"])
    assert re.search(why, gateway.process.output)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\nexit 1\n", "ended with exit code 1"),
        ("#!/bin/sh\necho no library >&2; exit 127\n", "exit code 127: no library"),
        ("#!/bin/sh\nexit 0\n", "is no gatewayd that can take over"),
        ("#!/bin/sh\nkill -9 $$\n", "was killed by SIGKILL"),
        ("no program\n", "gatewayd"),
    ],
)
def test_a_binary_that_does_not_start(make: MakeGateway, script: str, why: str) -> None:
    gateway = make()
    replace(gateway, script)
    expect_failure(gateway, why)
    replace(gateway)
    good_upgrade(gateway)
    alone(gateway)


def test_a_binary_that_hangs(make: MakeGateway) -> None:
    gateway = make()
    replace(gateway, "#!/bin/sh\nexec sleep 1000\n")
    expect_failure(gateway, "did not show within 20 s")
    wait_for(lambda: len(children_of(gateway.process.pid)) == 1, "the trial to be gone")


def test_a_configuration_that_is_wrong(make: MakeGateway) -> None:
    gateway = make()
    gateway.config.write_text("[gatewa]\n")
    expect_failure(gateway, r"gateway.toml:1:\d+: ")
    gateway.write_config()


def test_an_address_that_is_taken(make: MakeGateway) -> None:
    gateway = make()
    gateway.listeners.append({"bind": "203.0.113.77:1"})
    gateway.write_config()
    expect_failure(gateway, r"gateway.toml:\d+:\d+: .*203.0.113.77")
    gateway.listeners.pop()
    gateway.write_config()


def kill_new_server(gateway: Gateway, after: str) -> None:
    """kill -9 of the new server once the log says this."""
    old = gateway.server_pid
    gateway.process.send_signal(signal.SIGUSR2)
    gateway.process.wait_log(after)
    found = wait_for(lambda: [pid for pid in children_of(gateway.process.pid) if pid != old], "the new server")
    assert isinstance(found, list)
    os.kill(found[0], signal.SIGKILL)


def test_a_new_server_that_is_killed_while_it_starts(make: MakeGateway) -> None:
    gateway = make(workers=2)
    server = gateway.server_pid
    gateway.workers[1].pause()  # so that there is time: not all of them come
    with Requests(gateway, clients=2) as requests:
        kill_new_server(gateway, "goes on meanwhile")
        gateway.process.wait_log("the upgrade has failed, the server before goes on: the new server ")
        gateway.workers[1].go_on()
        requests.more(50)
    assert gateway.server_pid == server
    wait_for(lambda: gateway.metric("workers_ready") == 2 and gateway.metric("workers") == 2, "two workers", 30)
    good_upgrade(gateway)
    alone(gateway)


def test_a_new_server_that_is_killed_while_the_workers_come(make: MakeGateway) -> None:
    gateway = make(workers=2)
    server = gateway.server_pid
    gateway.workers[1].pause()  # so that not all of them come, and a second is waited for
    with Requests(gateway, clients=2) as requests:
        kill_new_server(gateway, "stands by")
        gateway.process.wait_log("the upgrade has failed, the server before goes on: the new server ")
        gateway.workers[1].go_on()
        requests.more(50)
    assert gateway.server_pid == server
    wait_for(lambda: gateway.metric("workers_ready") == 2 and gateway.metric("workers") == 2, "two workers", 30)
    good_upgrade(gateway)
    alone(gateway)


def test_a_new_server_that_is_killed_afterwards_is_started_again(make: MakeGateway) -> None:
    gateway = make()
    _, new = good_upgrade(gateway)
    alone(gateway)
    os.kill(new, signal.SIGKILL)
    gateway.process.wait_log("serving again")
    wait_for(lambda: gateway.metric("workers_ready") == 1, "the worker")
    assert gateway.get("/").status == 200


def test_an_old_server_that_dies_meanwhile(make: MakeGateway) -> None:
    gateway = make()
    old = gateway.server_pid
    gateway.process.send_signal(signal.SIGUSR2)
    gateway.process.wait_log("goes on meanwhile")
    os.kill(old, signal.SIGKILL)
    gateway.process.wait_log(r"upgraded: server \d+ serves")
    wait_for(lambda: gateway.metric("workers_ready") == 1, "the worker")
    assert gateway.get("/").status == 200


def test_an_old_server_that_hangs_and_dies_before_it_has_said_what_it_knows(make: MakeGateway) -> None:
    gateway = make()
    old = gateway.server_pid
    os.kill(old, signal.SIGSTOP)
    gateway.process.send_signal(signal.SIGUSR2)
    gateway.process.wait_log("stands by")
    os.kill(old, signal.SIGKILL)
    gateway.process.wait_log(r"upgraded: server \d+ serves")
    wait_for(lambda: gateway.metric("workers_ready") == 1, "the worker")
    assert gateway.get("/").status == 200
    assert "the upgrade has failed" not in gateway.process.output


def test_a_reload_waits_for_the_upgrade(make: MakeGateway) -> None:
    gateway = make()
    old = gateway.server_pid
    os.kill(old, signal.SIGSTOP)  # so that there is time
    gateway.process.send_signal(signal.SIGUSR2)
    gateway.process.wait_log("stands by")
    port = free_port()
    gateway.listeners.append({"bind": f"127.0.0.1:{port}"})
    gateway.write_config()
    gateway.process.send_signal(signal.SIGHUP)
    gateway.process.wait_log("no reload yet: an upgrade is under way")
    os.kill(old, signal.SIGCONT)
    gateway.process.wait_log(r"upgraded: server \d+ serves")
    gateway.process.wait_log("configuration 3 is in effect")
    with Client(("127.0.0.1", port)) as client:
        assert client.get("/").status == 200
    gateway.listeners.pop()
    gateway.write_config()
    gateway.process.send_signal(signal.SIGHUP)
    gateway.process.wait_log("configuration 4 is in effect")
    alone(gateway)


def test_logs_that_the_new_binary_could_not_open(make: MakeGateway) -> None:
    gateway = make()
    link = gateway.directory / "link.log"  # what the check of the configuration does not see
    link.symlink_to(gateway.directory / "missing" / "access.log")
    gateway.sections["log"] = {"access": str(link)}
    gateway.write_config()
    expect_failure(gateway, "cannot open the log file")
    gateway.sections["log"] = {}
    gateway.write_config()


@pytest.mark.parametrize("after", ["SIGUSR2: upgrade", "goes on meanwhile", "stands by"])
def test_a_stop_during_an_upgrade(make: MakeGateway, after: str) -> None:
    gateway = make()
    gateway.process.send_signal(signal.SIGUSR2)
    gateway.process.wait_log(after)
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait() == 0, gateway.process.tail()
    with pytest.raises((Failed, OSError)):
        gateway.client().get("/")
