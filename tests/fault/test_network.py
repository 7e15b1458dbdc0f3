# SPDX-License-Identifier: MIT
"""Rows 14 and 21: packets that get lost, clocks that jump. The first runs itself again in a network of its own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gateway import VARIANT, Gateway
from harness.mixed import MixedLoad
from harness.process import Failed

Maker = Callable[..., Gateway]

INSIDE = "GATEWAYD_TEST_LOSSY_NETWORK"
# Every packet of the loopback passes once: 5 % are lost in each direction.
LOSSY = """
ip link set lo up
nft add table inet loss
nft 'add chain inet loss out { type filter hook output priority 0; }'
nft 'add rule inet loss out meta l4proto tcp numgen random mod 100 < 5 counter drop'
"""
SHOW = "nft list chain inet loss out"


def in_a_lossy_network(test: str) -> None:
    script = f'{LOSSY}"$@"; code=$?; {SHOW}; exit $code'
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        f"{__file__}::{test}",
    ]
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--user", "--map-root-user"]
    probe = subprocess.run([*unshare, "sh", "-ec", LOSSY], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no network of its own with nftables: {probe.stderr.strip()[-200:]}")
    done = subprocess.run(
        [*unshare, "sh", "-ec", script, "sh", *command],
        env={**os.environ, INSIDE: "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    print(done.stdout)
    if done.returncode:
        raise Failed(f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    lost = re.search(r"counter packets (\d+)", done.stdout)
    assert lost and int(lost[1]) > 20, f"the network lost nothing\n{done.stdout[-1000:]}"


def test_tcp_loss() -> None:
    """0 failures, only latency."""
    in_a_lossy_network("test_requests_while_packets_are_lost")


@pytest.mark.skipif(INSIDE not in os.environ, reason="test_tcp_loss runs it where packets are lost")
def test_requests_while_packets_are_lost(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=2, app_target="mixed:app", tls=True, log={"level": "info", "access": ""})
    with MixedLoad(gateway, 100) as load:
        load.more(600, 200)
    print(load)
    assert load.streams["download"] and load.streams["upload"] and load.streams["events"]


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
@pytest.mark.skipif(VARIANT != "release", reason="a sanitizer has to be the first library")
def test_clock_jumps(make_gateway: Maker, tmp_path: Path) -> None:
    """No timer fires, the logs show the time that it is said to be."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    gateway = make_gateway(
        tls=True,
        app_target="mixed:app",
        limits={"keep_alive": "60s", "header_timeout": "60s"},
        environment={
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    with gateway.client() as idle, gateway.client() as half, MixedLoad(gateway, 50) as load:
        assert idle.get("/").status == 200
        half.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for jump in ("+3600", "-3600", "+86400", "-86400", "+0"):
            (tmp_path / "clock.new").write_text(jump)
            (tmp_path / "clock.new").rename(clock)  # half a file would end the process that reads it
            load.more(50)
            assert idle.get("/").status == 200
            offset = int(jump)
            line = gateway.access_log()[-1]
            told = re.search(r"\[(\d+/\w+/\d+:\d+:\d+:\d+)", line)
            assert told, line
            seconds = time.mktime(time.strptime(told[1], "%d/%b/%Y:%H:%M:%S")) - (time.time() + offset)
            zone = round(seconds / 900) * 900  # the log may be in another zone than this process
            assert abs(seconds - zone) < 60 and abs(zone) <= 14 * 3600, f"{jump}: {line}"
        half.send(b"\r\n")
        assert half.response().status == 200
    metrics = gateway.metrics()
    timeouts = {name: count for name, count in metrics.items() if "timeout" in name or name == "limit_keep_alive"}
    assert not any(timeouts.values()), timeouts
