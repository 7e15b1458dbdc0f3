# SPDX-License-Identifier: MIT
"""A gateway with its workers in a directory of its own."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

from .http1 import Client
from .ports import free_port, free_port_of_both
from .process import Failed, Process, children_of, descriptors, wait_for

ROOT = Path(__file__).resolve().parents[3]
APPS = Path(__file__).resolve().parents[1] / "apps"
GATEWAYD = os.environ.get("GATEWAYD", str(ROOT / "build" / "gatewayd"))
VARIANT = os.environ.get("GATEWAYD_VARIANT", "release")


def make_certificate(directory: Path, name: str = "localhost", stem: str = "cert") -> tuple[Path, Path]:
    """A self-signed P-256 certificate and its key as PEM files."""
    cert, key = directory / f"{stem}.pem", directory / f"{stem}-key.pem"
    names = f"subjectAltName=DNS:{name},IP:127.0.0.1,IP:::1"
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
        "30",
    ]
    command += ["-subj", f"/CN={name}", "-addext", names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return cert, key


def toml(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value)


class Worker(Process):
    """One worker process of an app."""

    def __init__(self, gateway: "Gateway", number: int, target: str, options: list[str], environment: dict[str, str]):
        python = os.environ.get("WORKER_PYTHON", sys.executable)
        command = [python, "-m", "asgi_worker", "--connect", f"unix:{gateway.app_socket}"]
        command += ["--app-dir", str(APPS), *options, target]
        path = os.pathsep.join([str(ROOT / "worker"), os.environ.get("PYTHONPATH", "")])
        told = {"PYTHONPATH": path, "SCENARIO_LOG": str(gateway.notes_file), **environment}
        super().__init__(f"worker {number}", command, gateway.directory / f"worker-{number}.log", told)
        self.may_end_with = {0}

    def kill(self) -> None:
        """kill -9."""
        self.may_end_with = {-signal.SIGKILL}
        self.send_signal(signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        """SIGSTOP, until it has stopped."""
        self.send_signal(signal.SIGSTOP)
        wait_for(lambda: "(stopped)" in Path(f"/proc/{self.pid}/status").read_text(), f"{self.name} to stop")

    def go_on(self) -> None:
        self.send_signal(signal.SIGCONT)


class Gateway:
    """`Gateway(directory, limits={...}, app=...)`: sections as keyword arguments go into gateway.toml; a list of
    tables becomes [[name]], once for each. tls={...} gives a TLS listener too, with these keys of [tls];
    quic=True lets it speak all three versions of HTTP."""

    def __init__(
        self,
        directory: Path,
        *,
        listeners: list[dict[str, object]] | None = None,
        tls: bool | dict[str, Any] = False,
        quic: bool = False,
        **sections: Any,
    ):
        self.directory = directory
        self.sections = sections
        self.app_socket = directory / "main.sock"
        self.admin_socket = directory / "admin.sock"
        self.notes_file = directory / "notes.log"
        self.port = free_port()
        tls = tls or quic
        self.tls_port = free_port_of_both() if quic else free_port() if tls else 0
        self.listeners = listeners if listeners is not None else [{"bind": f"127.0.0.1:{self.port}"}]
        if tls:
            self.cert, self.key = make_certificate(directory)
            self.listeners.append({"bind": f"127.0.0.1:{self.tls_port}", "tls": True})
            if quic:
                self.listeners[-1]["protocols"] = ["h3", "h2", "http/1.1"]
            tls_section = dict(tls) if isinstance(tls, dict) else {}
            tls_section.setdefault("certificates", [{"cert": str(self.cert), "key": str(self.key)}])
            self.sections["tls"] = tls_section
        self.config = directory / "gateway.toml"
        self.environment: dict[str, str] = {}
        self.carrier = "h1"  # of the WebSockets that harness.websocket opens: h1, h2, h3
        self.workers: list[Worker] = []
        self.process = Process("gatewayd", [GATEWAYD, "-c", str(self.config)], directory / "gatewayd.log")
        self.base_descriptors: list[str] = []

    # --- life -----------------------------------------------------------------------------------------------------

    def write_config(self) -> None:
        sections: dict[str, Any] = {
            "gateway": {"threads": 1, "drain_idle": "0s", "drain_timeout": "10s"},
            "admin": {"socket": str(self.admin_socket)},
            "log": {"level": "debug", "access": str(self.directory / "access.log")},
            "apps.main": {"socket": str(self.app_socket)},
        }
        for name, values in self.sections.items():
            name = "apps.main" if name == "app" else name
            if isinstance(values, list):
                sections[name] = values
            else:
                sections.setdefault(name, {}).update(values)
        text = ""
        for name, values in {**sections, "listen": self.listeners}.items():
            head = f"[[{name}]]" if isinstance(values, list) else f"[{name}]"
            for table in values if isinstance(values, list) else [values]:
                text += f"{head}\n" + "".join(f"{key} = {toml(value)}\n" for key, value in table.items()) + "\n"
        self.config.write_text(text)

    def start(self) -> "Gateway":
        self.write_config()
        self.process.environment.update({"GATEWAYD_STRICT_EXIT": "1", **self.environment})
        self.process.start()
        self.process.wait_log(r"\bserving: ")
        self.base_descriptors = self.server_descriptors()
        return self

    def new_worker(
        self, app: str = "scenario:app", options: list[str] | None = None, environment: dict[str, str] | None = None
    ) -> Worker:
        """A worker that is not started yet."""
        worker = Worker(self, len(self.workers) + 1, app, options or [], environment or {})
        self.workers.append(worker)
        return worker

    def start_workers(
        self,
        count: int = 1,
        app: str = "scenario:app",
        options: list[str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> list[Worker]:
        """Starts workers and waits until the gateway holds each one ready."""
        started = [self.new_worker(app, options, environment) for _ in range(count)]
        for worker in started:
            worker.start()
        for worker in started:
            self.wait_ready(worker)
        return started

    def wait_ready(self, worker: Worker) -> None:
        """Waits until the gateway says that this worker is ready."""

        def ready() -> bool:
            if not worker.alive:
                raise Failed(f"{worker.name} ended while starting\n{worker.tail()}\n{self.process.tail()}")
            return f"worker {worker.pid} ready" in self.process.output

        wait_for(ready, f"{worker.name} to be ready")

    def finish(self) -> None:
        """Ends everything; nothing may be left: gauges, descriptors, exit code, sanitizer reports."""
        try:
            for worker in self.workers:
                if worker.alive:
                    worker.send_signal(signal.SIGCONT)
                    worker.send_signal(signal.SIGTERM)
            for worker in self.workers:
                if worker.child is None:
                    continue
                code = worker.wait()
                assert code in worker.may_end_with, f"{worker.name} ended with {code}\n{worker.tail()}"
            if self.process.alive:
                self.assert_clean()
                assert self.process.stop() == 0, f"gatewayd ended with an error\n{self.process.tail()}"
            self.process.assert_no_report()
        finally:
            self.kill()

    def kill(self) -> None:
        self.process.kill_all()
        for worker in self.workers:
            worker.kill_all()

    def notes(self) -> list[str]:
        """What the app has noted so far."""
        return self.notes_file.read_text().splitlines() if self.notes_file.exists() else []

    def wait_note(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Waits until the app has noted a line that matches."""

        def found() -> re.Match[str] | None:
            return next((m for m in (re.search(pattern, note) for note in self.notes()) if m), None)

        try:
            match = wait_for(found, f"the app's note {pattern!r}", seconds)
        except Failed as failed:
            raise Failed(f"{failed}; it noted {self.notes()[-20:]}\n{self.process.tail()}") from None
        assert isinstance(match, re.Match)
        return match

    # --- what it says ---------------------------------------------------------------------------------------------

    def admin(self, command: str) -> Any:
        """Sends one command to the admin socket and decodes the JSON reply."""
        with Client(str(self.admin_socket), timeout=10) as client:
            client.send(f"{command} --json\n".encode())
            verdict, _, answer = client.rest().partition(b"\n")
        if verdict != b"ok":
            raise Failed(f"gatewayd's admin socket says {verdict.decode()!r} to {command!r}")
        return json.loads(answer)

    def status(self) -> dict[str, Any]:
        status = self.admin("status")
        assert isinstance(status, dict)
        return status

    def metrics(self) -> dict[str, int]:
        metrics = self.admin("metrics")
        assert isinstance(metrics, dict)
        return metrics

    def metric(self, name: str) -> int:
        return int(self.metrics()[name])

    def wait_metric(self, name: str, value: int) -> None:
        wait_for(lambda: self.metric(name) == value, f"metric {name} = {value}")

    def wait_metric_at_least(self, name: str, value: int) -> None:
        wait_for(lambda: self.metric(name) >= value, f"metric {name} >= {value}")

    def wait_gauge(self, name: str, value: int) -> None:
        """Waits until a gauge has this value."""
        self.wait_metric(name, value)

    def expect_counted(self, name: str, least: int = 1) -> None:
        """A counter has come to `least`."""
        self.wait_metric_at_least(name, least)

    def access_log(self) -> list[str]:
        path = self.directory / "access.log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def server_pid(self) -> int:
        """The process that has the loops: the master's child."""
        children = children_of(self.process.pid)
        assert len(children) == 1, f"the master has children {children}"
        return children[0]

    def server_descriptors(self) -> list[str]:
        return descriptors(self.server_pid)

    def live_gauges(self) -> dict[str, int]:
        """Gauges of live objects that are not at zero."""
        live: dict[str, int] = self.status()["live"]
        return {name: value for name, value in live.items() if value != 0}

    def assert_clean(self) -> None:
        """Live objects are gone and descriptors back at the base."""

        def clean() -> bool:
            return not self.live_gauges() and len(self.server_descriptors()) <= len(self.base_descriptors)

        try:
            wait_for(clean, "a clean gateway")
        except Failed as failed:
            extra = [name for name in self.server_descriptors() if name not in self.base_descriptors]
            raise Failed(
                f"{failed}: live {self.live_gauges()}, more descriptors {extra}\n{self.process.tail()}"
            ) from None

    # --- clients --------------------------------------------------------------------------------------------------

    def client(self, **options: Any) -> Client:
        return Client(("127.0.0.1", self.port), **options)

    def tls_client(self, context: ssl.SSLContext | None = None, **options: Any) -> Client:
        return Client(("127.0.0.1", self.tls_port), tls=context or insecure_context(), **options)

    def get(self, target: str, headers: dict[str, str] | None = None) -> Any:
        with self.client() as client:
            return client.get(target, headers)

    @property
    def quic_address(self) -> tuple[str, int]:
        return "127.0.0.1", self.tls_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"


def insecure_context(alpn: list[str] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context
