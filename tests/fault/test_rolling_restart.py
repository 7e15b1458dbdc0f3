# SPDX-License-Identifier: MIT
"""Row 7, promise R1: workers are replaced again and again under mixed load, and no request fails."""

import signal
from collections.abc import Callable

import pytest
from harness.gateway import VARIANT, Gateway, Worker
from harness.mixed import MixedLoad
from harness.process import children_of, rss, wait_for

MIB = 1 << 20
RATE = 300 if VARIANT == "release" else 100
# Enough that 0 failures bound the rate of failures below 1 in 6,000 (95 %).
REQUESTS = 18_000
ROLLS = 20
WORKERS = 3

Maker = Callable[..., Gateway]


def start_workers(gateway: Gateway, count: int = WORKERS, *options: str) -> Worker:
    """A supervisor whose workers the gateway holds ready."""
    supervisor = gateway.new_worker("mixed:app", ["--workers", str(count), *options])
    supervisor.start()
    wait_for(lambda: ready(gateway) == count, f"{count} ready workers", 60)
    return supervisor


def ready(gateway: Gateway) -> int:
    apps = gateway.status()["apps"]
    return int(apps[0]["ready"])


def roll(gateway: Gateway, supervisor: Worker, number: int) -> None:
    """One SIGHUP, until every old worker is gone and every new one ready."""
    old = set(children_of(supervisor.pid))
    supervisor.send_signal(signal.SIGHUP)
    wait_for(lambda: supervisor.output.count("the reload is complete") == number, f"reload {number}", 120)
    wait_for(lambda: not old & set(children_of(supervisor.pid)), f"the end of the old workers of reload {number}", 60)
    wait_for(lambda: ready(gateway) == WORKERS, f"ready workers after reload {number}", 60)


def settled(gateway: Gateway) -> int:
    """Waits until nothing but workers lives in the gateway; how many descriptors it has then."""

    def quiet() -> bool:
        return set(gateway.live_gauges()) <= {"workers", "ipc_links"}

    wait_for(quiet, f"a quiet gateway, not {gateway.live_gauges()}")
    return len(gateway.server_descriptors())


def roll_under_load(make_gateway: Maker, rolls: int, requests: int) -> None:
    http3 = True
    gateway = make_gateway(workers=0, tls=True, quic=http3, gateway={"threads": 2}, log={"level": "info", "access": ""})
    supervisor = start_workers(gateway)
    server = gateway.server_pid
    with MixedLoad(gateway, RATE, http3=http3) as warm:
        warm.more(2 * RATE)
    descriptors = settled(gateway)
    before = rss(server)
    with MixedLoad(gateway, RATE, http3=http3) as load:
        for number in range(1, rolls + 1):
            roll(gateway, supervisor, number)
        load.reach(requests, 600)
    print(f"{rolls} rolls{', HTTP/3 too' if http3 else ''}: {load}")
    assert load.streams["websocket closed politely"] + load.streams["websocket that lasts"] >= 1
    for kind in ("download", "upload", "events"):
        assert load.streams[kind] >= 1, f"no {kind} ended"
    assert gateway.server_pid == server
    # Whoever asks holds one for a moment himself.
    wait_for(lambda: settled(gateway) == descriptors, f"{descriptors} descriptors, not {gateway.server_descriptors()}")
    if VARIANT == "release":
        grown = rss(server) - before
        assert grown <= 8 * MIB, f"{grown / MIB:.1f} MiB more than before"
    assert "ERROR" not in supervisor.output, supervisor.tail()
    metrics = gateway.metrics()
    assert metrics["workers_lost"] == 0 and metrics["retries_over_budget"] == 0, metrics


def test_twenty_rolling_restarts(make_gateway: Maker) -> None:
    roll_under_load(make_gateway, ROLLS, REQUESTS)


@pytest.mark.check
def test_two_rolling_restarts(make_gateway: Maker) -> None:
    roll_under_load(make_gateway, 2, 600)


@pytest.mark.check
def test_leaking_workers_are_recycled(make_gateway: Maker) -> None:
    """Row 6: a worker that grows is replaced at its limit by drain, and no request fails."""
    gateway = make_gateway(workers=0, tls=True, log={"level": "info", "access": ""})
    supervisor = start_workers(gateway, 2, "--max-rss", "120MiB", "--max-rss-jitter", "20MiB")
    with MixedLoad(gateway, RATE / 2) as load:
        pids = set()
        while supervisor.output.count("may go") < 4:
            with gateway.client() as client:
                answer = client.get(f"/grow?{8 * MIB}")
            assert answer.status == 200
            pids.add(int(answer.body))
            load.more(5)
    print(f"{len(pids)} workers grew, {load}")
    assert len(pids) >= 4
    assert "(--max-rss)" in supervisor.output
    assert "ERROR" not in supervisor.output
