# SPDX-License-Identifier: MIT
"""One measurement of one server: probe, warm-up, load, CPU time and memory of every process, probe."""

import http.client
import os
import re
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from servers import ROOT, Running, Server

TICKS = os.sysconf("SC_CLK_TCK")
H3LOAD = os.environ.get("H3LOAD", str(ROOT / "build" / "release" / "h3load"))


@dataclass(frozen=True)
class Cell:
    name: str
    app: str
    target: str
    body: bytes
    connections: int
    workers: int
    streams: int = 0  # requests of a connection at once, over HTTP/3; 0: HTTP/1.1


@dataclass(frozen=True)
class Result:
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]  # per request, by role
    pss_mib: float

    @property
    def cpu_all(self) -> float:
        return sum(self.cpu_us.values())


class Broken(Exception):
    """A server did not answer as it must; its figure would mean nothing."""


def probe_http3(port: int, cell: Cell) -> None:
    url = f"https://127.0.0.1:{port}{cell.target}"
    command = ["curl", "-sk", "--http3-only", "--max-time", "5", "-w", " %{http_code} %{http_version}", url]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.stdout != cell.body + b" 200 3":
        raise Broken(f"answers {done.stdout[:60]!r}")


def probe(port: int, cell: Cell) -> None:
    """The exact response, or no figure."""
    if cell.streams:
        probe_http3(port, cell)
        return
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", cell.target)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200 or body != cell.body:
        raise Broken(f"answers {response.status} {body[:60]!r}")


def wait_ready(running: Running, cell: Cell) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            return probe(running.port, cell)
        except (OSError, http.client.HTTPException, Broken) as error:
            if time.monotonic() > deadline:
                raise Broken(f"never ready: {error}") from None
            time.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pss(pid: int) -> float:
    match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(match[1]) / 1024 if match else 0.0


def milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s)", text)
    if match is None:
        raise Broken(f"wrk printed a latency of {text!r}")
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]]


def load(port: int, cell: Cell, seconds: int) -> str:
    if cell.streams:
        command = [H3LOAD, "-c", str(cell.connections), "-m", str(cell.streams), "-d", str(seconds)]
        done = subprocess.run(
            [*command, "127.0.0.1", str(port), cell.target], capture_output=True, text=True, check=False
        )
        if "Requests/sec" not in done.stdout:
            raise Broken(done.stderr[-200:])
        return done.stdout
    url = f"http://127.0.0.1:{port}{cell.target}"
    command = ["wrk", "-t1", f"-c{cell.connections}", f"-d{seconds}s", "--latency", url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def roles(running: Running, before: dict[int, float], requests: int) -> dict[str, float]:
    """CPU microseconds per request: the gateway's processes together, the workers' together."""
    cost: dict[str, float] = {}
    for name, pid in running.pids().items():
        role = re.split(r"[-/]", name)[0]
        used = (cpu_seconds(pid) - before.get(pid, 0.0)) * 1e6 / requests
        cost[role] = cost.get(role, 0.0) + used
    return cost


def measure(server: Server, cell: Cell, seconds: int) -> Result:
    running = server.start(cell.app, cell.workers)
    try:
        wait_ready(running, cell)
        load(running.port, cell, 1)
        before = {pid: cpu_seconds(pid) for pid in running.pids().values()}
        text = load(running.port, cell, seconds)
        requests = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
        cost = roles(running, before, requests)
        memory = sum(pss(pid) for pid in running.pids().values())
        probe(running.port, cell)
    finally:
        running.stop()
    if "Socket errors" in text or "Non-2xx" in text:
        raise Broken(text)
    latency = dict(re.findall(r"(\d+)%\s+([\d.]+[a-z]+)", text))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
    return Result(rate, milliseconds(latency["50"]), milliseconds(latency["99"]), cost, memory)


def median(values: list[float]) -> float:
    return statistics.median(values)
