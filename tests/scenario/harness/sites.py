# SPDX-License-Identifier: MIT
"""A framework's app behind a gateway, with clients for http and https; the same app under uvicorn to compare with."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from .gateway import APPS, Gateway, insecure_context
from .http1 import Client, Response
from .ports import free_port
from .process import Process, wait_for

PREFIX = "/under/here"
EXCEPTION = re.compile(r"^[\w.]+(Error|Exception|Disconnect\w*|Cancelled)(:|$)")
CAUSED = ("own mistake", "too late", r"(shorter|longer)( \w+)* than its content-length")  # by the common cases
REPEATABLE = {"PYTHONHASHSEED": "0"}  # sets have the same order in every process


class Site:
    """One gateway with one worker of an app: on http, https and HTTP/2, and below PREFIX as root_path."""

    def __init__(self, directory: Path, target: str, options: list[str] | None = None, **sections: Any):
        routes = [{"path": PREFIX, "app": "main", "strip_prefix": True}, {"path": "/", "app": "main"}]
        self.gateway = Gateway(directory, tls=True, route=routes, **sections)
        self.target = target
        self.options = ["--disconnect-grace", "0.1", *(options or [])]
        self.clients: dict[str, httpx.Client] = {}

    def start(self, environment: dict[str, str] | None = None) -> "Site":
        self.gateway.start()
        self.gateway.start_workers(1, self.target, self.options, {**REPEATABLE, **(environment or {})})
        for scheme, url in (("http", self.gateway.url), ("https", self.gateway.tls_url)):
            self.clients[scheme] = self.new_client(url)
        self.clients["h2"] = self.new_client(self.gateway.tls_url, http2=True)
        return self

    def new_client(self, url: str | None = None, **options: Any) -> httpx.Client:
        return httpx.Client(
            base_url=url or self.gateway.url, verify=insecure_context(), trust_env=False, timeout=20, **options
        )

    @property
    def worker_log(self) -> str:
        return self.gateway.workers[0].output

    def open_gate(self, name: str) -> None:
        """Lets the app go on that waits at this gate."""
        assert self.gateway.get(f"/common/gate/{name}").status == 204

    def wait_worker_log(self, pattern: str) -> None:
        wait_for(lambda: re.search(pattern, self.worker_log), f"{pattern!r} in the worker's log")

    def unexpected_errors(self, *causes: str) -> list[str]:
        """The exceptions in the worker's log that the cases do not cause."""
        known = (*CAUSED, *causes)
        ends = [line for line in self.worker_log.splitlines() if EXCEPTION.match(line)]
        return [line for line in ends if not any(re.search(cause, line) for cause in known)]

    def wait_idle(self) -> None:
        """Waits until no request is under way and the app has returned from every one."""
        self.gateway.wait_metric("exchanges", 0)
        self.gateway.wait_metric("ipc_streams", 0)

    def close_clients(self) -> None:
        for client in self.clients.values():
            client.close()


@contextlib.contextmanager
def running(site: Site, environment: dict[str, str] | None = None) -> Iterator[Site]:
    """The site while it runs; at the end nothing may be left."""
    try:
        yield site.start(environment)
        site.close_clients()
        site.gateway.finish()
    finally:
        site.close_clients()
        site.gateway.kill()


# --- beside uvicorn ---------------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """A request of the comparison."""

    method: str
    target: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


# Where the answers may differ from uvicorn's: fields that are not compared, and why. essence() names the rest.
NOT_COMPARED = {
    "server": "each names itself",
    "date": "the time of the answer",
    "connection": "uvicorn says close or keep-alive where the version says it already",
    "keep-alive": "a hint of HTTP/1.0 that RFC 9112 does not define",
}
EXPIRES = re.compile(r"expires=[^;]* GMT")  # of cookies: the time of the answer
NO_BODY = (204, 304)
OWN_PAGE = b"Internal Server Error\n"  # of the gateway, for an app that gave no answer; uvicorn's has no line end


class Uvicorn(Process):
    def __init__(self, directory: Path, target: str, environment: Mapping[str, str]):
        self.port = free_port()
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(APPS), "--port", str(self.port)]
        super().__init__("uvicorn", [*command, target], directory / "uvicorn.log", dict(environment))

    def client(self) -> Client:
        return Client(("127.0.0.1", self.port))


def essence(response: Response, method: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """What must be equal.

    A body in chunks is as good as one whose right length is told: the gateway knows the length when the whole body is
    there before its head goes out. On a 204 it drops content-length, which RFC 9110 section 8.6 forbids there.
    """
    fields = [(name, EXPIRES.sub("", value)) for name, value in response.headers if name not in NOT_COMPARED]
    fields.sort()
    body = b"" if method == "HEAD" else response.body
    framing = [("transfer-encoding", "chunked"), ("content-length", str(len(body)))]
    if response.status == 204 or (method != "HEAD" and response.status not in NO_BODY):
        fields = [pair for pair in fields if pair not in framing]
    return response.status, fields, OWN_PAGE.strip() if body == OWN_PAGE else body


def ask(client: Client, asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
    with client:
        client.request(asked.method, asked.target, [("host", "example.test"), *asked.headers], asked.body)
        return essence(client.response(asked.method), asked.method)


def differences(site: Site, directory: Path, environment: dict[str, str], requests: list[Asked]) -> list[str]:
    """Sends the same requests to uvicorn and to the gateway; what differs, as texts."""
    notes = {"SCENARIO_LOG": str(directory / "uvicorn-notes.log"), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    uvicorn = Uvicorn(directory, site.target, {**REPEATABLE, **notes, **environment})
    uvicorn.start()
    try:
        uvicorn.wait_log("Uvicorn running on")
        found = []
        for asked in requests:
            theirs, ours = ask(uvicorn.client(), asked), ask(site.gateway.client(), asked)
            if theirs != ours:
                found.append(f"{asked}\n  uvicorn:  {theirs}\n  gatewayd: {ours}")
        return found
    finally:
        uvicorn.kill_all()


def multipart(files: list[tuple[str, str, bytes]], boundary: str = "frontier") -> tuple[tuple[str, str], bytes]:
    """A multipart/form-data body with its content-type field, the same at every call."""
    body = b""
    for name, filename, data in files:
        disposition = f'form-data; name="{name}"' + (f'; filename="{quote(filename)}"' if filename else "")
        body += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"
    return ("content-type", f"multipart/form-data; boundary={boundary}"), body + f"--{boundary}--\r\n".encode()
