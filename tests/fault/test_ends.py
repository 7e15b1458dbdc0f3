# SPDX-License-Identifier: MIT
"""Rows 4, 12, 23: WebSockets of a killed worker, slow clients by slowhttptest, requests as the drain begins."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gateway import Gateway
from harness.http1 import Closed
from harness.http2 import Ended, Http2
from harness.mixed import MixedLoad
from harness.websocket import ws_client

Maker = Callable[..., Gateway]


@pytest.mark.check
def test_websockets_of_a_killed_worker(make_gateway: Maker) -> None:
    """1011 at once, and those of the other worker go on."""
    gateway = make_gateway(workers=2, app_target="mixed:app")
    victim = gateway.workers[0]
    sockets = []
    for _ in range(20):
        client = ws_client(gateway)
        client.handshake()
        client.accepted()
        sockets.append(client)
    mine = {worker["pid"]: worker["in_flight"] for worker in gateway.admin("workers")}
    assert mine[victim.pid] > 0 and sum(mine.values()) == 20, mine
    began = time.monotonic()
    victim.kill()
    closed = 0
    for number, client in enumerate(sockets):
        with contextlib.suppress(OSError):  # the gateway may have closed its side already
            client.text(f"{number}")
        got = client.frame()
        if got.opcode == 8:
            assert got.code == 1011, got
            closed += 1
        else:
            assert got.payload == b"%d" % number
    assert closed == mine[victim.pid]
    print(f"{closed} of 20 were closed with 1011; all were asked within {time.monotonic() - began:.3f} s")
    for client in sockets:
        client.client.close()


SLOW = {
    "headers": ["-H", "-i", "1"],
    "body": ["-B", "-i", "1", "-s", "8192", "-t", "POST"],
    "read": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"],
}
LIMITS = {
    "header_timeout": "4s",
    "keep_alive": "4s",
    "body_idle": "4s",
    "body_min_rate_after": "3s",
    "write_stall": "4s",
    "lingering_close": "1s",
}


@pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="slowhttptest is not installed")
@pytest.mark.parametrize("kind", SLOW)
def test_slow_clients(make_gateway: Maker, kind: str, tmp_path: Path) -> None:
    """They are cut at their limits, and who is quick does not notice them."""
    gateway = make_gateway(tls=True, app_target="mixed:app", limits=LIMITS, log={"level": "info", "access": ""})
    target = {"read": "/download?bytes=10000000", "body": "/digest"}.get(kind, "/")
    command = ["slowhttptest", *SLOW[kind], "-c", "200", "-r", "100", "-l", "14", "-u", f"{gateway.url}{target}"]
    with MixedLoad(gateway, 50, streams=False) as load:
        with (tmp_path / "slowhttptest.log").open("wb") as out:
            attack = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            gateway.wait_metric_at_least("conns", 100)
            load.more(100)
            attack.wait(60)
        finally:
            attack.kill()
            attack.wait()
        load.more(50)
    metrics = gateway.metrics()
    counters = ["limit_header_timeout", "limit_body_idle", "limit_body_min_rate", "limit_write_stall"]
    cut = {name: metrics[name] for name in [*counters, "limit_min_send_rate"]}
    print(f"{kind}: cut {cut}; the others: {load}")
    assert sum(cut.values()) >= 50, cut
    assert load.slowest < 5, load


def test_requests_as_the_drain_begins(make_gateway: Maker) -> None:
    """Whatever a keep-alive client sends before it hears of the end is answered; then no connection is left."""
    gateway = make_gateway(workers=2, app_target="mixed:app", gateway={"threads": 2, "drain_idle": "1s"})
    answered, told, failures = [0] * 16, [0] * 16, []
    started = threading.Barrier(17)

    def talk1(index: int) -> None:
        client = gateway.client()
        assert client.get("/").status == 200
        started.wait()
        try:
            while True:
                response = client.get("/")
                answered[index] += response.status == 200
                if response.header("connection") == "close":
                    told[index] = 1
                    return
        except (OSError, Closed) as error:
            failures.append(f"h1: {error!r} after {answered[index]} answers")
        finally:
            client.close()

    def talk2(index: int) -> None:
        client = Http2(("127.0.0.1", gateway.port))
        assert client.get("/").status == 200
        started.wait()
        try:
            while not client.goaways:
                stream = client.open()
                answered[index] += client.answer(stream).status == 200
            told[index] = 1
        except Ended as ended:
            failures.append(f"h2: {ended} after {answered[index]} answers")
        finally:
            client.socket.close()

    threads = [threading.Thread(target=talk1 if i < 8 else talk2, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    started.wait()
    before = sum(answered)
    while sum(answered) < before + 200:
        time.sleep(0.005)
    os.kill(gateway.process.pid, signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures, failures
    assert sum(told) == 16, told
    assert gateway.process.wait() == 0
