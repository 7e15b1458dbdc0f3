# SPDX-License-Identifier: MIT
"""What operators use: gatewayctl, the health endpoint, the redirect to https."""

import json
import os
import re
import subprocess
from collections.abc import Callable

from harness.gateway import ROOT, Gateway
from harness.http1 import Client
from harness.ports import free_port

GATEWAYCTL = os.environ.get("GATEWAYCTL", str(ROOT / "build" / "gatewayctl"))
Maker = Callable[..., Gateway]


def ctl(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_gatewayctl_tables(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.get("/")
        client.request("GET", "/sleep?ms=60000")
        gateway.wait_metric("exchanges", 1)
        for command in ("status", "apps", "workers", "connections", "requests", "metrics", "version", "help"):
            done = ctl(gateway, command)
            assert done.returncode == 0, (command, done)
            assert done.stdout.strip()
        workers = ctl(gateway, "workers").stdout.splitlines()
        assert re.match(r"APP +PID", workers[0])
        assert str(gateway.workers[0].pid) in workers[1]
        assert "/sleep" in ctl(gateway, "requests").stdout
        assert "http/1.1" in ctl(gateway, "connections").stdout
    gateway.workers[0].may_end_with = {-9}
    gateway.workers[0].kill_all()


def test_gatewayctl_json(gateway: Gateway) -> None:
    gateway.get("/")
    status = json.loads(ctl(gateway, "--json", "status").stdout)
    assert status["ready"] is True
    assert status["apps"][0]["ready"] == 1
    assert status["metrics"]["requests"] == 1
    for command in ("apps", "workers", "connections", "requests", "metrics"):
        json.loads(ctl(gateway, "--json", command).stdout)
    counters = json.loads(ctl(gateway, "--json", "metrics", "requests").stdout)
    assert counters
    assert all(name.startswith("requests") for name in counters)


def test_gatewayctl_says_what_is_wrong(gateway: Gateway) -> None:
    assert ctl(gateway).returncode == 2
    unknown = ctl(gateway, "stauts")
    assert unknown.returncode != 0
    assert "stauts" in unknown.stderr
    away = subprocess.run(
        [GATEWAYCTL, "-s", str(gateway.directory / "none.sock"), "status"], capture_output=True, text=True, check=False
    )
    assert away.returncode == 3
    assert "none.sock" in away.stderr


def test_log_level_changes_while_it_runs(make_gateway: Maker) -> None:
    gateway = make_gateway(log={"level": "info"})
    assert "info" in ctl(gateway, "loglevel").stdout
    assert ctl(gateway, "loglevel", "debug").returncode == 0
    assert "debug" in ctl(gateway, "loglevel").stdout
    assert ctl(gateway, "loglevel", "loud").returncode == 1
    assert "debug" in ctl(gateway, "loglevel").stdout


def test_health_endpoint(make_gateway: Maker) -> None:
    port = free_port()
    gateway = make_gateway(workers=0, admin={"http": f"127.0.0.1:{port}"})

    def get(path: str) -> tuple[int, str]:
        with Client(("127.0.0.1", port)) as client:
            response = client.get(path)
            return response.status, response.body.decode()

    assert get("/livez")[0] == 200
    assert get("/readyz")[0] == 503
    assert "main" in get("/readyz")[1]
    gateway.start_workers(1)
    assert get("/readyz")[0] == 200
    assert json.loads(get("/status")[1])["ready"] is True
    gateway.get("/")
    status, text = get("/metrics")
    assert status == 200
    assert re.search(r"^# TYPE gatewayd_requests_total counter$", text, re.MULTILINE), text[:400]
    assert re.search(r"^gatewayd_requests_total 1$", text, re.MULTILINE)
    assert get("/nothing")[0] == 404


def test_redirect_to_https(make_gateway: Maker) -> None:
    plain = free_port()
    gateway = make_gateway(tls=True, listeners=[{"bind": f"127.0.0.1:{plain}", "redirect_https": True}])

    def location(target: str, host: str) -> tuple[int, str | None]:
        with Client(("127.0.0.1", plain)) as client:
            response = client.get(target, {"host": host})
            return response.status, response.header("location")

    assert location("/a?b=c", "example.com") == (308, f"https://example.com:{gateway.tls_port}/a?b=c")
    assert location("/", f"example.com:{plain}") == (308, f"https://example.com:{gateway.tls_port}/")
    assert location("/", f"[::1]:{plain}") == (308, f"https://[::1]:{gateway.tls_port}/")
    with gateway.tls_client() as client:
        assert client.get("/").body == b"hello\n"
