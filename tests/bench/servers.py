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

# The other servers over HTTP/3 stand in front of uvicorn, as gatewayd stands in front of its worker.
CADDY = """\
{{
    admin off
    storage file_system {run}/caddy
    auto_https disable_redirects
    skip_install_trust
    servers {{
        protocols h1 h2 h3
    }}
}}
https://:{port} {{
    bind 127.0.0.1
    tls {run}/cert.pem {run}/key.pem
    reverse_proxy 127.0.0.1:{app_port}
}}
"""
NGINX = """\
daemon off;
worker_processes 1;
pid {run}/nginx.pid;
error_log {run}/nginx-error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/fastcgi;
    uwsgi_temp_path {run}/uwsgi; scgi_temp_path {run}/scgi;
    quic_gso on;
    upstream app {{ server 127.0.0.1:{app_port}; keepalive 128; }}
    server {{
        listen 127.0.0.1:{port} quic reuseport;
        listen 127.0.0.1:{port} ssl;
        keepalive_requests 1000000000;
        ssl_certificate {run}/cert.pem;
        ssl_certificate_key {run}/key.pem;
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
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


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def start_gatewayd(running: Running, app: str, workers: int, loop: str) -> None:
    running.start("gatewayd", [GATEWAYD, "-c", str(running.run / "gateway.toml")])
    wait_for_file(running.run / "main.sock")
    for i in range(workers):
        command = [sys.executable, "-m", "asgi_worker", "--connect", f"unix:{running.run}/main.sock", "--loop", loop]
        running.start(f"worker-{i + 1}", [*command, "--log-level", "warning", app])


def gatewayd(app: str, workers: int, loop: str, access: bool) -> Running:
    running = Running(free_port())
    log = str(running.run / "access.log") if access else ""
    text = CONFIG.format(run=running.run, port=running.port, access=log, threads=0)
    (running.run / "gateway.toml").write_text(text)
    start_gatewayd(running, app, workers, loop)
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


def certificate(running: Running) -> None:
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(running.run / "key.pem"), "-out", str(running.run / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    (running.run / "key.pem").chmod(0o600)


def gatewayd_http3(app: str, workers: int, loop: str) -> Running:
    running = Running(free_port())
    certificate(running)
    text = CONFIG.format(run=running.run, port=running.port, access="", threads=0)
    text += f'tls = true\nprotocols = ["h3", "h2"]\n[[tls.certificates]]\ncert = "{running.run}/cert.pem"\n'
    text += f'key = "{running.run}/key.pem"\n'
    (running.run / "gateway.toml").write_text(text)
    start_gatewayd(running, app, workers, loop)
    return running


def before_uvicorn(app: str, workers: int, role: str, command: list[str], name: str, text: str) -> Running:
    """A reverse proxy with HTTP/3, and uvicorn behind it."""
    running = Running(free_port())
    app_port = free_port()
    certificate(running)
    (running.run / name).write_text(text.format(run=running.run, port=running.port, app_port=app_port))
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    uvicorn = [sys.executable, "-m", "uvicorn", "--port", str(app_port), "--workers", str(workers)]
    running.start("uvicorn", [*uvicorn, *options, app])
    running.start(role, [*command, str(running.run / name)])
    return running


def caddy(app: str, workers: int) -> Running:
    command = ["caddy", "run", "--adapter", "caddyfile", "--config"]
    return before_uvicorn(app, workers, "caddy", command, "Caddyfile", CADDY)


def nginx(app: str, workers: int) -> Running:
    return before_uvicorn(app, workers, "nginx", ["nginx", "-c"], "nginx.conf", NGINX)


@dataclass(frozen=True)
class Server:
    name: str
    start: Callable[[str, int], Running]
    module: str  # what has to be importable; a server that is not there is left out by name
    program: str = ""  # what has to be installed as well


SERVERS = [
    Server("gatewayd, asyncio", lambda app, workers: gatewayd(app, workers, "asyncio", False), "asyncio"),
    Server("gatewayd, asyncio, access log", lambda app, workers: gatewayd(app, workers, "asyncio", True), "asyncio"),
    Server("gatewayd, uvloop", lambda app, workers: gatewayd(app, workers, "uvloop", False), "uvloop"),
    Server("uvicorn, uvloop, httptools", uvicorn, "uvicorn"),
    Server("hypercorn, uvloop, h11", hypercorn, "hypercorn"),
]


HTTP3_SERVERS = [
    Server("gatewayd, asyncio", lambda app, workers: gatewayd_http3(app, workers, "asyncio"), "asyncio"),
    Server("gatewayd, uvloop", lambda app, workers: gatewayd_http3(app, workers, "uvloop"), "uvloop"),
    Server("caddy, uvicorn", caddy, "uvicorn", "caddy"),
    Server("nginx, uvicorn", nginx, "uvicorn", "nginx"),
]


def available(server: Server) -> bool:
    there = not server.program or shutil.which(server.program) is not None
    return there and importlib.util.find_spec(server.module) is not None
