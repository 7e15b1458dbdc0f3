# SPDX-License-Identifier: MIT
"""The servers that are compared: how each one is started, with the options that its own documentation recommends."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
APPS = HERE / "apps"
GATEWAYD = os.environ.get("GATEWAYD", str(ROOT / "build" / "gatewayd"))

CONFIG = """\
[gateway]
drain_idle = "0s"
threads = {threads}
[admin]
socket = "{run}/admin.sock"
[log]
level = "warning"
access = "{access}"
[apps.main]
socket = "{run}/main.sock"
[[listen]]
bind = "127.0.0.1:{port}"
"""


@dataclass
class Running:
    """A started server: its processes, by role."""

    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    run: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="bench-")))

    def start(self, role: str, command: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'worker'}:{APPS}"}
        log = (self.run / f"{role}.log").open("wb")
        self.processes[role] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=APPS, start_new_session=True
        )

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self.run, ignore_errors=True)

    def pids(self) -> dict[str, int]:
        """Every process and its children, by a name that tells the role."""
        found: dict[str, int] = {}
        for role, process in self.processes.items():
            queue = [process.pid]
            while queue:
                pid = queue.pop(0)
                found[role if pid == process.pid else f"{role}/{pid}"] = pid
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    queue += [int(word) for word in children.read_text().split()]
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def gatewayd(app: str, workers: int, loop: str, access: bool) -> Running:
    running = Running(free_port())
    log = str(running.run / "access.log") if access else ""
    text = CONFIG.format(run=running.run, port=running.port, access=log, threads=0)
    (running.run / "gateway.toml").write_text(text)
    running.start("gatewayd", [GATEWAYD, "-c", str(running.run / "gateway.toml")])
    deadline = time.monotonic() + 10
    while not (running.run / "main.sock").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for i in range(workers):
        command = [sys.executable, "-m", "asgi_worker", "--connect", f"unix:{running.run}/main.sock", "--loop", loop]
        running.start(f"worker-{i + 1}", [*command, "--log-level", "warning", app])
    return running


def uvicorn(app: str, workers: int) -> Running:
    running = Running(free_port())
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "--port", str(running.port), "--workers", str(workers), *options]
    running.start("uvicorn", [*command, app])
    return running


def hypercorn(app: str, workers: int) -> Running:
    running = Running(free_port())
    bind = f"127.0.0.1:{running.port}"
    command = [sys.executable, "-m", "hypercorn", "--bind", bind, "--workers", str(workers), "--worker-class", "uvloop"]
    running.start("hypercorn", [*command, "--log-level", "warning", app])
    return running


@dataclass(frozen=True)
class Server:
    name: str
    start: Callable[[str, int], Running]
    module: str  # what has to be importable; a server that is not there is left out by name


SERVERS = [
    Server("gatewayd, asyncio", lambda app, workers: gatewayd(app, workers, "asyncio", False), "asyncio"),
    Server("gatewayd, asyncio, access log", lambda app, workers: gatewayd(app, workers, "asyncio", True), "asyncio"),
    Server("gatewayd, uvloop", lambda app, workers: gatewayd(app, workers, "uvloop", False), "uvloop"),
    Server("uvicorn, uvloop, httptools", uvicorn, "uvicorn"),
    Server("hypercorn, uvloop, h11", hypercorn, "hypercorn"),
]


def available(server: Server) -> bool:
    return importlib.util.find_spec(server.module) is not None
