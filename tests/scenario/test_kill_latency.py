# SPDX-License-Identifier: MIT
"""kill -9 of a worker before, during and after the response head: the client's answer comes within 200 ms.

It is what the end-of-life table says, measured from the instant of the kill. A busy machine delays any single try, a
gateway that waits for a timer delays all of them: the best of several is held against the promise, and all are printed.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_worker.protocol.frames import frame
from harness.gateway import VARIANT, Gateway
from harness.http1 import Client, Closed
from harness.http2 import Http2, request
from harness.scripted_worker import Echoing, ScriptedWorker, c, response_head

PROMISE = 0.2 if VARIANT == "release" else 2.0
TRIES = 7
# A child uses a socket and a pipe, and no lock that another thread may hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
PHASES = ["before", "during", "after"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("kill"), app={"queue_timeout": "20s"})
    try:
        yield gateway.start()
        gateway.finish()
    finally:
        gateway.kill()


def behave(path: Path, phase: str, told: int) -> None:
    """A worker that takes one request, goes as far as `phase` says, and waits to be killed."""
    worker = ScriptedWorker(path, max_concurrency=1)
    os.write(told, b"r")
    stream = worker.request().stream
    worker.started(stream)
    head = frame(c.FRAME_RESPONSE, response_head([(b"content-length", b"1000")]), stream=stream, code=200)
    if phase == "during":
        worker.raw(head[: len(head) // 2])
    elif phase == "after":
        worker.raw(head + frame(c.FRAME_DATA, b"x" * 100, stream=stream))
    os.write(told, b"s")
    while True:
        signal.pause()


class Victim:
    """That worker as a process of its own, ready."""

    def __init__(self, gateway: Gateway, phase: str):
        self.told, end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                behave(gateway.app_socket, phase, end)
            finally:
                os._exit(1)
        os.close(end)
        self.wait_for(b"r")

    def wait_for(self, word: bytes) -> None:
        assert os.read(self.told, 1) == word

    def kill(self) -> float:
        """Returns the instant."""
        at = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        return at

    def bury(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self.told)


def first_version(gateway: Gateway, victim: Victim, phase: str, method: str) -> float:
    with gateway.client() as client:
        client.request(method, "/kill", body=b"x" if method == "POST" else None)
        victim.wait_for(b"s")
        if phase == "after":
            head = client.head()
            assert client.exactly(100) == b"x" * 100
            at = victim.kill()
            client_sees_cut(client, head)
        else:
            at = victim.kill()
            response = client.response()
            assert response.status == (502 if method == "POST" else 200), response
        return time.monotonic() - at


def client_sees_cut(client: Client, head: Any) -> None:
    with pytest.raises(Closed):
        client.exactly(900)
    assert head.status == 200


def second_version(gateway: Gateway, victim: Victim, phase: str, method: str) -> float:
    with Http2(("127.0.0.1", gateway.port)) as client:
        stream = client.open(request("/kill", method), end=method == "GET")
        if method == "POST":
            client.data(stream, b"x", end=True)
        victim.wait_for(b"s")
        if phase == "after":
            client.wait(lambda got: got.stream == stream and got.payload == b"x" * 100)
        at = victim.kill()
        answer = client.answer(stream)
        took = time.monotonic() - at
        if phase == "after":
            assert (answer.status, answer.reset) == (200, 2)
        else:
            assert answer.status == (502 if method == "POST" else 200)
        return took


Version = Callable[[Gateway, Victim, str, str], float]
VERSIONS: dict[str, Version] = {"HTTP/1.1": first_version, "HTTP/2": second_version}


@pytest.mark.parametrize("version", sorted(VERSIONS))
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_answer_within_200_ms(gateway: Gateway, version: str, phase: str, method: str) -> None:
    took = []
    for _ in range(TRIES):
        victim = Victim(gateway, phase)
        try:
            took.append(measure(gateway, version, victim, phase, method))
        finally:
            victim.bury()
    print(f"{version} {method} killed {phase} the head: " + ", ".join(f"{1000 * t:.1f}" for t in sorted(took)) + " ms")
    assert min(took) < PROMISE, took


def measure(gateway: Gateway, version: str, victim: Victim, phase: str, method: str) -> float:
    """What may be repeated is served by another worker, which must come after the victim has the request."""
    if method == "GET" and phase != "after":
        return with_a_second_worker(gateway, version, victim, phase)
    return VERSIONS[version](gateway, victim, phase, method)


def with_a_second_worker(gateway: Gateway, version: str, victim: Victim, phase: str) -> float:
    real_kill = victim.kill
    others: list[Echoing] = []

    def kill() -> float:
        others.append(Echoing(gateway.app_socket))
        gateway.wait_metric("ipc_links", 2)
        with gateway.client() as client:  # a retry budget of 20 % needs something that it is a part of
            assert all(client.get("/budget").status == 200 for _ in range(10))
        return real_kill()

    victim.kill = kill  # type: ignore[method-assign]
    try:
        return VERSIONS[version](gateway, victim, phase, "GET")
    finally:
        for other in others:
            other.stop()
        gateway.wait_metric("ipc_links", 0)
