# SPDX-License-Identifier: MIT
"""What `make run` starts: the demo app, from the first line of output to Ctrl-C, and a real browser in front of it."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness.gateway import GATEWAYD, ROOT
from harness.ports import free_port
from harness.process import Process, wait_for

RUN = ROOT / "conf" / "examples" / "demo" / "run"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[Process, int, int]]:
    https, http = free_port(), free_port()
    environment = {"GATEWAYD": GATEWAYD, "HTTPS_PORT": str(https), "HTTP_PORT": str(http)}
    process = Process("run", [str(RUN)], tmp_path / "run.log", environment)
    process.start()
    process.wait_log(r"Ctrl-C stops everything", 60)
    yield process, https, http
    if process.alive:
        process.stop(signal.SIGINT)
    process.kill_all()


def test_pages(demo: tuple[Process, int, int]) -> None:
    process, https, http = demo
    assert f"https://localhost:{https}/" in process.output
    hosts = ["127.0.0.1"]
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
            hosts.append("[::1]")
        except OSError:
            pass
    with httpx.Client(verify=False, timeout=30) as client:
        for host in hosts:
            for base in (f"https://{host}:{https}", f"http://{host}:{http}"):
                assert "<h1>gatewayd</h1>" in client.get(base + "/").text
        base = f"https://127.0.0.1:{https}"
        workers: set[int] = set()

        def both_answer() -> bool:
            workers.add(client.get(base + "/json").json()["worker"])
            return len(workers) == 2

        wait_for(both_answer, "answers from both workers")
        data = os.urandom(300_000)
        answer = client.post(base + "/upload", content=data).json()
        assert answer == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert len(client.get(base + "/download?bytes=1000001").content) == 1000001
        assert client.get(base + "/download?bytes=0").content == b""
        with client.stream("GET", base + "/events") as events:
            assert next(events.iter_lines()).startswith("data: ")
        assert client.get(base + "/nothing").status_code == 404
        assert client.get(base + "/").headers["alt-svc"] == f'h3=":{https}"; ma=86400'
        assert "alt-svc" not in client.get(f"http://127.0.0.1:{http}/").headers
    curl = ["curl", "-sk", "--http3-only", "--max-time", "30", "-w", "%{http_version}", base + "/"]
    page = subprocess.run(curl, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "<h1>gatewayd</h1>" in page and page.endswith("3")


def test_interrupt_stops_everything(demo: tuple[Process, int, int]) -> None:
    process, https, _ = demo
    assert process.stop(signal.SIGINT, 20) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", https), timeout=5)


def test_port_in_use_is_said(demo: tuple[Process, int, int], tmp_path: Path) -> None:
    _, https, http = demo
    environment = {"GATEWAYD": GATEWAYD, "HTTPS_PORT": str(https), "HTTP_PORT": str(http)}
    second = Process("second run", [str(RUN)], tmp_path / "second.log", environment)
    second.start()
    assert second.wait() == 1
    assert f"port {https} is in use" in second.output


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_browser(demo: tuple[Process, int, int], tmp_path: Path) -> None:
    process, https, _ = demo
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--timeout=4000"]
    switches += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    switches += [
        f"--user-data-dir={tmp_path}/profile",
        "--ignore-certificate-errors",
        f"--screenshot={tmp_path}/page.png",
    ]
    subprocess.run(["chromium", *switches, f"https://localhost:{https}/"], capture_output=True, timeout=60, check=True)
    # the page and what its script fetched; the log has a line when a response has ended
    for path in ("/", "/json", "/events"):
        process.wait_log(rf'"GET {path} HTTP/2" 200 .*HeadlessChrome')
