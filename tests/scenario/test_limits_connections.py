# SPDX-License-Identifier: MIT
"""Limits of connections, of the links to workers and of descriptors: breached, counted, logged, served again."""

import contextlib
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gateway import Gateway
from harness.http1 import Client, Closed
from harness.scripted_worker import Echoing, ScriptedWorker, c

Maker = Callable[..., Gateway]


def test_max_connections(make_gateway: Maker) -> None:
    """What is over the limit waits in the kernel, is counted, and is served as soon as there is room."""
    gateway = make_gateway(gateway={"max_connections": 3})
    clients = [gateway.client() for _ in range(3)]
    for client in clients:
        assert client.get("/").status == 200
    with gateway.client() as fourth:
        fourth.request("GET", "/")
        gateway.expect_counted("accept_paused", 1)
        gateway.process.wait_log("max_connections")
        fourth.expect_silence(0.2)
        clients[0].close()
        assert fourth.response().status == 200
    assert clients[1].get("/").status == 200
    for client in clients:
        client.close()


def test_max_connections_per_ip(make_gateway: Maker) -> None:
    sections = {"gateway": {"max_connections_per_ip": 2}, "proxy_headers": {"trusted": ["192.0.2.1"]}}
    gateway = make_gateway(**sections)
    clients = [gateway.client() for _ in range(2)]
    for client in clients:
        assert client.get("/").status == 200
    with gateway.client() as third:
        assert third.expect_end() == b""
    gateway.expect_counted("conns_refused_per_ip", 1)
    gateway.process.wait_log("max_connections_per_ip")
    clients[0].close()
    gateway.wait_metric("conns", 1)
    assert gateway.get("/").status == 200
    clients[1].close()


def test_trusted_proxies_have_no_limit_per_ip(make_gateway: Maker) -> None:
    gateway = make_gateway(gateway={"max_connections_per_ip": 1})
    clients = [gateway.client() for _ in range(5)]
    for client in clients:
        assert client.get("/").status == 200
        client.close()


# --- descriptors ------------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_descriptors_run_out(make_gateway: Maker) -> None:
    """EMFILE: accepting pauses without spinning, what is open is served, and it recovers at once when some are free."""
    gateway = make_gateway()
    pid = gateway.server_pid
    used = len(gateway.server_descriptors())
    limit = used + 12
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    clients = [gateway.client() for _ in range(30)]
    served, waiting = [], []
    for client in clients:
        client.request("GET", "/")
    deadline = time.monotonic() + 20
    while not served and time.monotonic() < deadline:
        gateway.process.wait_log("descriptor|EMFILE|Too many open files|accepting pauses")
        served = [client for client in clients if responds(client)]
    waiting = [client for client in clients if client not in served]
    assert served and waiting
    began, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(1)
    assert cpu_seconds(pid) - before < 0.2 * (time.monotonic() - began) + 0.05, "it spins"
    assert served[0].get("/").status == 200
    for client in served:
        client.close()
    answered = closed = 0
    for client in waiting:  # they are answered, a few at a time as others leave, or were closed with the reserve
        try:
            assert client.response().status == 200
            answered += 1
        except Closed:
            closed += 1
        client.close()
    assert answered > 0
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert gateway.get("/").status == 200


def responds(client: Client) -> bool:
    client.socket.settimeout(0.05)
    try:
        return client.response().status == 200
    except (TimeoutError, Closed):
        return False
    finally:
        client.socket.settimeout(20)


def test_worker_links_when_descriptors_run_out(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_timeout": "20s"})
    pid = gateway.server_pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with Echoing(gateway.app_socket) as good:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(gateway.server_descriptors()), hard))
        dialling = ScriptedWorker(gateway.app_socket, ready=False)
        dialling.send_hello()
        gateway.process.wait_log("accepting workers pauses|descriptors")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert gateway.get("/still").body == b"/still"
        dialling.close()
        assert good.worker.ack


# --- workers ----------------------------------------------------------------------------------------------------------


def test_hello_timeout(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=1, ipc={"hello_timeout": "150ms"})
    with ScriptedWorker(gateway.app_socket, ready=False) as silent:
        assert all(frame.kind == c.FRAME_CHANNEL_ERROR for frame in silent.ending())
    gateway.expect_counted("ipc_handshake_timeouts", 1)
    gateway.process.wait_log("HELLO did not come within hello_timeout")
    assert gateway.get("/").status == 200


def test_pending_handshakes_do_not_block_a_good_worker(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0)
    silent = [ScriptedWorker(gateway.app_socket, ready=False) for _ in range(20)]
    gateway.start_workers(1)
    assert gateway.get("/").status == 200
    for worker in silent:
        worker.close()


def test_max_links(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, ipc={"max_links": 1})
    with Echoing(gateway.app_socket):
        with ScriptedWorker(gateway.app_socket, ready=False) as second:
            with contextlib.suppress(BrokenPipeError):  # it may be refused before it says a word
                second.send_hello()
            assert "max_links" in second.expect_error(c.ERROR_FULL)
        assert gateway.get("/served").body == b"/served"
    gateway.expect_counted("ipc_links_full", 1)
    gateway.process.wait_log("max_links")


def test_allow_uids(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"allow_uids": [os.getuid() + 4242], "queue_timeout": "50ms"})
    with ScriptedWorker(gateway.app_socket, ready=False) as worker:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.send_hello()
        assert all(frame.kind == c.FRAME_CHANNEL_ERROR for frame in worker.ending())
    gateway.expect_counted("ipc_uids_refused", 1)
    gateway.process.wait_log("allow_uids")
    assert gateway.get("/").status == 503


def test_unresponsive_after(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, ipc={"ping_interval": "20ms", "unresponsive_after": "100ms"})
    with ScriptedWorker(gateway.app_socket) as worker:
        gateway.expect_counted("ipc_unresponsive", 1)
        gateway.process.wait_log("no PONG")
        assert gateway.admin("workers")[0]["state"] == "unresponsive"
        assert worker.alive()  # answers its PINGs now
        deadline = time.monotonic() + 20
        while gateway.admin("workers")[0]["state"] != "ready":
            assert worker.alive()
            assert time.monotonic() < deadline


@pytest.mark.parametrize(("window", "frame"), [("64KiB", "49KiB"), ("256KiB", "64KiB"), ("128KiB", "128KiB")])
def test_configured_window(make_gateway: Maker, window: str, frame: str) -> None:
    gateway = make_gateway(ipc={"window": window, "max_frame": frame})
    body = bytes(range(256)) * 8192
    with gateway.client() as client:
        client.request("POST", "/echo", body=body)
        assert client.response().body == body
