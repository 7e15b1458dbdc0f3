# SPDX-License-Identifier: MIT
"""What operators use: gatewayctl, the health endpoint, the redirect to https."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gateway import ROOT, Gateway
from harness.http1 import Client
from harness.ports import free_port
from harness.process import wait_for

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


LABEL = r'[a-z_][a-z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"([a-z_:][a-z0-9_:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9]+(?:\.[0-9]+)?)")


def test_prometheus_text_is_strict(make_gateway: Maker, tmp_path: Path) -> None:
    """Every metric is described once, before its samples, which stand together; no series is there twice."""
    port = free_port()
    gateway = make_gateway(workers=2, admin={"http": f"127.0.0.1:{port}"}, worker_options=["--generation", 'v"1\\'])
    gateway.get("/")
    with Client(("127.0.0.1", port)) as client:
        text = client.get("/metrics").body.decode()
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    helps: set[str] = set()
    finished: set[str] = set()
    series: set[str] = set()
    current = ""
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert name not in finished and not any(known.startswith(f"{name}{{") or known == name for known in series)
            if word == "HELP":
                assert name not in helps and rest
                helps.add(name)
            else:
                assert word == "TYPE" and name not in kinds and rest in ("counter", "gauge"), line
                assert (rest == "counter") == name.endswith("_total"), line
                kinds[name] = rest
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels = match.group(1), match.group(2) or ""
        assert name in kinds, line
        if name != current:
            assert name not in finished, line
            finished.add(current)
            current = name
        assert f"{name}{{{labels}}}" not in series, line
        series.add(f"{name}{{{labels}}}")
        assert kinds[name] == "gauge" or float(match.group(3)) >= 0
    assert any('generation="v\\"1\\\\"' in known for known in series)
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done


def test_answers_when_the_app_is_stuck(make_gateway: Maker) -> None:
    """The only worker is stopped and the queue is full: operators get their answers as ever."""
    port = free_port()
    gateway = make_gateway(
        admin={"http": f"127.0.0.1:{port}"},
        app={"queue_max": 2},
        ipc={"ping_interval": "50ms", "unresponsive_after": "200ms"},
    )
    gateway.workers[0].pause()
    wait_for(lambda: gateway.admin("workers")[0]["state"] == "unresponsive", "the worker to be unresponsive")
    waiting = [gateway.client() for _ in range(2)]
    for client in waiting:
        client.request("GET", "/")
    gateway.wait_metric("requests_waiting", 2)
    assert gateway.get("/").status == 503
    for command in ("status", "top", "apps", "generations", "workers", "connections", "requests", "metrics"):
        assert ctl(gateway, command).returncode == 0
    with Client(("127.0.0.1", port)) as client:
        assert client.get("/livez").status == 200
    assert ctl(gateway, "pause", "main").returncode == 0
    assert ctl(gateway, "resume", "main").returncode == 0
    gateway.workers[0].go_on()
    for client in waiting:
        assert client.response().status == 200
        client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused(make_gateway: Maker) -> None:
    gateway = make_gateway(admin={"mode": "0666"})
    for path in (gateway.directory, *gateway.directory.parents):
        if (
            path.owner() == "root"
            and path.is_relative_to(tempfile.gettempdir())
            and path != Path(tempfile.gettempdir())
        ):
            path.chmod(0o755)
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), "pause", "main"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, user=65534, group=65534)
    assert done.returncode == 3, done
    assert "user id 65534 may not ask" in done.stderr
    assert gateway.status()["apps"][0]["state"] == "serving"
    assert gateway.metric("admin_refused") == 1


def test_top_on_a_terminal(gateway: Gateway) -> None:
    """In place on a terminal, until a signal; then the terminal is as it was."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), "top", "--interval", "0.1"]
    with subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE) as child:
        os.close(slave)
        seen = b""
        while seen.count(b"\x1b[H") < 3:
            seen += os.read(master, 65536)
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the other side has closed
            while piece := os.read(master, 65536):
                seen += piece
        assert child.wait() == 0
    os.close(master)
    assert seen.startswith(b"\x1b[?1049h") and seen.endswith(b"\x1b[?1049l")
    page = seen.split(b"\x1b[H")[1]
    assert b"gatewayd" in page
    lines = page.replace(b"\x1b[K", b"").split(b"\r\n")
    assert len(lines) <= 20 and max(len(line) for line in lines) <= 60


def test_event_streams_are_long_lived(make_gateway: Maker) -> None:
    gateway = make_gateway(app={"long_lived_max": 1})
    with gateway.client() as first, gateway.client() as second:
        first.request("GET", "/drip?count=1000&delay=50")
        assert first.head().status == 200
        assert gateway.admin("workers")[0]["long_lived"] == 1
        refused = second.get("/drip?count=1&delay=1")
        assert refused.status == 503 and refused.header("retry-after")
        assert gateway.get("/").status == 200  # others are not concerned
        assert gateway.metric("limit_long_lived") == 1
    wait_for(lambda: gateway.admin("workers")[0]["long_lived"] == 0, "the stream's end")
    assert gateway.get("/drip?count=1&delay=1").status == 200


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


def test_requests_show_where_they_are(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.request("GET", "/sleep?ms=500&id=1")
        gateway.wait_note("start GET 1")
        (row,) = gateway.admin("requests")
        assert (row["phase"], row["worker"], row["app"]) == ("working", gateway.workers[0].pid, "main")
        assert row["credit"] == 0  # the request has ended: nothing may be sent any more
        assert row["age"] > 0
        assert client.response().status == 200
        upload = gateway.client()
        upload.request("POST", "/echo", {"content-length": "10"})
        wait_for(lambda: (gateway.admin("requests") or [{}])[0].get("credit"), "credit for the body")
        upload.send(b"0123456789")
        assert upload.response().body == b"0123456789"
        upload.close()


def test_worker_at_the_admin_socket_is_told_so(gateway: Gateway) -> None:
    """The likeliest mistake of a first try: it ends with a sentence instead of dialling for ever."""
    worker = gateway.new_worker()
    worker.command = [f"unix:{gateway.admin_socket}" if word.startswith("unix:") else word for word in worker.command]
    worker.may_end_with = {1, 2, 3}
    worker.start()
    assert worker.wait() in worker.may_end_with
    assert "a worker connects to the socket of its app" in worker.output
    assert gateway.get("/").status == 200
