# SPDX-License-Identifier: MIT
"""Row 20, promise R3: new binaries take over again and again under mixed load, and no request fails."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest
from harness.gateway import GATEWAYD, ROOT, VARIANT, Gateway
from harness.mixed import MixedLoad
from harness.process import children_of, rss, wait_for

MIB = 1 << 20
RATE = 300 if VARIANT == "release" else 100
REQUESTS = 18_000
UPGRADES = 5
GATEWAYCTL = os.environ.get("GATEWAYCTL", str(ROOT / "build" / "gatewayctl"))

Maker = Callable[..., Gateway]


def upgrade(gateway: Gateway) -> None:
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), "upgrade", "--wait"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{gateway.process.tail()}"


def broken_upgrade(gateway: Gateway) -> None:
    path, kept = gateway.directory / "gatewayd", gateway.directory / "gatewayd.kept"
    path.rename(kept)
    path.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    path.chmod(0o755)
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), "upgrade", "--wait"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and re.search("exit code 1: broken", done.stderr), done
    kept.rename(path)


def alone(gateway: Gateway) -> None:
    wait_for(lambda: len(children_of(gateway.process.pid)) == 1, "the servers before to end", 60)


def settled(gateway: Gateway) -> int:
    wait_for(lambda: set(gateway.live_gauges()) <= {"workers", "ipc_links"}, f"quiet, not {gateway.live_gauges()}", 60)
    return len(gateway.server_descriptors())


def upgrade_under_load(make_gateway: Maker, upgrades: int, requests: int) -> None:
    http3 = True
    gateway = make_gateway(
        workers=2,
        app_target="mixed:app",
        tls=True,
        quic=http3,
        own_binary=True,
        gateway={"threads": 2, "drain_idle": "2s", "drain_timeout": "30s"},
        log={"level": "info", "access": ""},
    )
    master, workers = gateway.process.pid, sorted(worker.pid for worker in gateway.workers)
    with MixedLoad(gateway, RATE, http3=http3) as warm:
        warm.more(2 * RATE)
    upgrade(gateway)
    alone(gateway)
    descriptors, before = settled(gateway), rss(master)
    with MixedLoad(gateway, RATE, http3=http3) as load:
        for number in range(upgrades):
            if number % 2:
                broken_upgrade(gateway)
            else:
                shutil.copy(GATEWAYD, gateway.directory / "gatewayd.new")
                (gateway.directory / "gatewayd.new").rename(gateway.directory / "gatewayd")
            upgrade(gateway)
            load.more(requests // upgrades // 2)
        load.reach(requests, 600)
    alone(gateway)
    upgrade(gateway)  # alone with one before it, as the base was
    alone(gateway)
    print(f"{upgrades} upgrades{', HTTP/3 too' if http3 else ''}: {load}")
    assert gateway.process.pid == master and gateway.process.alive
    assert sorted(worker["pid"] for worker in gateway.admin("workers")) == workers
    # what it held of the server before goes a moment after that server
    wait_for(lambda: settled(gateway) <= descriptors, f"{descriptors} descriptors, not {gateway.server_descriptors()}")
    if VARIANT == "release":
        assert rss(master) - before <= 8 * MIB
    lost = [line for line in gateway.process.output.splitlines() if " lost: " in line]
    assert not lost, lost


def test_five_upgrades(make_gateway: Maker) -> None:
    upgrade_under_load(make_gateway, UPGRADES, REQUESTS)


@pytest.mark.check
def test_two_upgrades(make_gateway: Maker) -> None:
    upgrade_under_load(make_gateway, 2, 600)
