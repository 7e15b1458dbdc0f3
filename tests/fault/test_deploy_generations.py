# SPDX-License-Identifier: MIT
"""Promise R1 for deploys: generations take over from each other under mixed load, and no request fails."""

import time
from collections.abc import Callable

import pytest
from harness.deploy import ctl, generations
from harness.gateway import VARIANT, Gateway, Worker
from harness.mixed import MixedLoad
from harness.process import rss, wait_for

MIB = 1 << 20
RATE = 300 if VARIANT == "release" else 100
REQUESTS = 18_000
DEPLOYS = 20
WORKERS = 2

Maker = Callable[..., Gateway]


def start_generation(gateway: Gateway, name: str, app: str = "mixed:app", count: int = WORKERS) -> list[Worker]:
    workers = [gateway.new_worker(app, ["--generation", name]) for _ in range(count)]
    for worker in workers:
        worker.may_end_with = {0, 4, -15}
        worker.start()
    return workers


def settled(gateway: Gateway) -> int:
    """Waits until nothing but workers lives in the gateway; how many descriptors it has then."""

    def quiet() -> bool:
        return set(gateway.live_gauges()) <= {"workers", "ipc_links"} and gateway.metric("workers") == WORKERS

    wait_for(quiet, f"a quiet gateway, not {gateway.live_gauges()}", 60)
    return len(gateway.server_descriptors())


def deploy_under_load(make_gateway: Maker, deploys: int, requests: int, **options: object) -> Gateway:
    app = {"soak": "200ms", "probation": "500ms", **options}
    log = {"level": "info", "access": ""}
    gateway = make_gateway(workers=0, tls=True, quic=True, gateway={"threads": 2}, app=app, log=log)
    old = start_generation(gateway, "g0")
    wait_for(lambda: gateway.status()["apps"][0]["ready"] == WORKERS, "two ready workers", 60)
    server = gateway.server_pid
    with MixedLoad(gateway, RATE, http3=True) as warm:
        warm.more(2 * RATE)
    descriptors = settled(gateway)
    before = rss(server)
    longest = 0.0
    with MixedLoad(gateway, RATE, http3=True) as load:
        for number in range(1, deploys + 1):
            began = time.monotonic()
            new = start_generation(gateway, f"g{number}")
            done = ctl(
                gateway, "deploy", "main", "--generation", f"g{number}", "--wait", "--timeout", "120", seconds=130
            )
            assert done.returncode == 0, done
            for worker in old:
                assert worker.wait(60) == 4
            longest = max(longest, time.monotonic() - began)
            old = new
        load.reach(requests, 600)
    print(f"{deploys} deploys, the longest {longest:.1f} s, {load}")
    assert load.streams["websocket closed politely"] + load.streams["websocket that lasts"] >= 1
    for kind in ("download", "upload", "events"):
        assert load.streams[kind] >= 1, f"no {kind} ended"
    assert gateway.server_pid == server
    assert abs(settled(gateway) - descriptors) <= 2, gateway.server_descriptors()
    if VARIANT == "release":
        grown = rss(server) - before
        assert grown <= 8 * MIB, f"{grown / MIB:.1f} MiB more than before"
    metrics = gateway.metrics()
    assert metrics["workers_lost"] == 0 and metrics["deploys_failed"] == 0, metrics
    assert metrics["deploys_promoted"] == deploys + 1
    states = [row["state"] for row in generations(gateway).values()]
    assert states.count("current") == 1 and states.count("retired") == min(deploys, 16)
    return gateway


def test_twenty_deploys(make_gateway: Maker) -> None:
    deploy_under_load(make_gateway, DEPLOYS, REQUESTS)


@pytest.mark.check
def test_two_deploys(make_gateway: Maker) -> None:
    deploy_under_load(make_gateway, 2, 600)


def test_deploy_and_roll_back_under_load(make_gateway: Maker) -> None:
    """There and back five times; the app's connections never notice."""
    app = {"soak": "100ms", "probation": "0s", "rollback_keep": "1h"}
    log = {"level": "info", "access": ""}
    gateway = make_gateway(workers=0, tls=True, quic=True, gateway={"threads": 2}, app=app, log=log)
    start_generation(gateway, "base")
    wait_for(lambda: gateway.status()["apps"][0]["ready"] == WORKERS, "two ready workers", 60)
    with MixedLoad(gateway, RATE, http3=True) as load:
        for number in range(5):
            new = start_generation(gateway, f"try{number}")
            done = ctl(gateway, "deploy", "main", "--generation", f"try{number}", "--wait", "--timeout", "120")
            assert done.returncode == 0, done
            load.more(RATE // 2)
            assert ctl(gateway, "rollback", "main").returncode == 0
            for worker in new:
                assert worker.wait(60) == 4
            load.more(RATE // 2)
    print(load)
    assert generations(gateway)["base"]["state"] == "current"
    assert gateway.metric("deploys_rolled_back") == 5
    assert gateway.metric("workers_lost") == 0


def test_broken_generations_under_load(make_gateway: Maker) -> None:
    """One that cannot be imported, that fails in its lifespan, that dies of its first request, that never starts."""
    app = {"soak": "200ms", "probation": "2s"}
    gateway = make_gateway(
        workers=0,
        tls=True,
        quic=True,
        gateway={"threads": 2},
        app=app,
        ipc={"start_timeout": "5s"},
        log={"level": "info", "access": ""},
    )
    start_generation(gateway, "good")
    wait_for(lambda: gateway.status()["apps"][0]["ready"] == WORKERS, "two ready workers", 60)
    with MixedLoad(gateway, RATE / 2, streams=False, http3=True) as load:
        for fault in ("import", "lifespan", "crash", "hang"):
            workers = [
                gateway.new_worker("deployed:app", ["--generation", fault], {"DEPLOY_FAULT": fault})
                for _ in range(WORKERS)
            ]
            for worker in workers:
                worker.may_end_with = {0, 1, 3, 4, -9, -15}
                worker.start()
            done = ctl(gateway, "deploy", "main", "--generation", fault, "--wait", "--timeout", "60", seconds=70)
            assert done.returncode == 4, done
            for worker in workers:
                worker.wait(60)
            load.more(100)
    print(load)
    rows = generations(gateway)
    assert {rows[fault]["state"] for fault in ("import", "lifespan", "crash", "hang")} == {"deploy_failed"}
    assert "Traceback" in rows["import"]["reason"]
    assert rows["good"]["state"] == "current"
