# SPDX-License-Identifier: MIT
"""A gateway for tests with a real worker process: a Unix socket, pages, blocking reads.

Every wait has a deadline (DEADLINE) that only a broken worker meets.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from asgi_worker.protocol.constants import (
    FRAME_CHANNEL_ERROR,
    FRAME_GOAWAY,
    FRAME_HELLO,
    FRAME_PING,
    FRAME_PONG,
    FRAME_READY,
    MAX_STREAM_ID,
    PAGE_SIZE,
)
from asgi_worker.protocol.frames import frame
from peer import Exchange, Frame, Peer, hello_ack

DEADLINE = 30.0
WORKER_DIR = Path(__file__).resolve().parents[2] / "worker"
Process = subprocess.Popen[bytes]
APPS_DIR = Path(__file__).resolve().parent / "apps"


def new_page() -> int:
    """Return a memfd like the gateway's: one page, sealed against growing and shrinking."""
    descriptor = os.memfd_create("progress", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, PAGE_SIZE)
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


class GatewayLink:
    """One accepted link; blocking, with deadlines."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.peer = Peer()
        self.page = new_page()
        self.ended = False

    def handshake(self, **changes: Any) -> dict[str, Any]:
        """Take HELLO, answer HELLO_ACK with the page; returns HELLO."""
        hello = self.hello()
        socket.send_fds(self.sock, [hello_ack(**changes)], [self.page])
        return hello

    def hello(self) -> dict[str, Any]:
        self.until(lambda: any(f.kind == FRAME_HELLO for f in self.peer.channel))
        return self.peer.hello()

    def refuse(self, code: int, text: str) -> None:
        self.hello()
        self.peer.raw(frame(FRAME_CHANNEL_ERROR, text.encode(), code=code))
        self.flush()
        self.close()

    def wait_ready(self) -> None:
        self.until(lambda: self.has(FRAME_READY))

    def has(self, kind: int) -> bool:
        return any(f.kind == kind for f in self.peer.channel)

    def of(self, kind: int) -> list[Frame]:
        return [f for f in self.peer.channel if f.kind == kind]

    def ping(self, nonce: int = 7) -> None:
        """Wait for the answer of a PING: the worker has read everything before it."""
        self.peer.raw(frame(FRAME_PING, aux=nonce))
        self.until(lambda: any(f.kind == FRAME_PONG and f.aux == nonce for f in self.peer.channel))

    def goaway(self, code: int, last_id: int = MAX_STREAM_ID, text: str = "") -> None:
        self.peer.raw(frame(FRAME_GOAWAY, text.encode(), code=code, aux=last_id))
        self.flush()

    def flush(self) -> None:
        data, self.peer.to_send = bytes(self.peer.to_send), bytearray()
        if data:
            self.sock.sendall(data)

    def read(self) -> None:
        """Read once; sets `ended` at the end of the stream."""
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
        self.peer.feed(data)
        self.flush()

    def until(self, condition: Callable[[], object]) -> None:
        self.flush()
        limit = time.monotonic() + DEADLINE
        while not condition():
            assert not self.ended, f"the link ended; frames: {self.peer.frames}"
            ready, _, _ = select.select([self.sock], [], [], max(0.0, limit - time.monotonic()))
            assert ready, f"nothing came in {DEADLINE} s; frames: {self.peer.frames}"
            self.read()

    def until_end(self) -> None:
        """Read until the worker has closed the link."""
        limit = time.monotonic() + DEADLINE
        while not self.ended:
            ready, _, _ = select.select([self.sock], [], [], max(0.0, limit - time.monotonic()))
            assert ready, "the link did not end"
            self.read()

    def request(self, *args: Any, **kwargs: Any) -> Exchange:
        exchange = self.peer.request(*args, **kwargs)
        self.until(lambda: exchange.done)
        return exchange

    def word(self, index: int) -> int:
        """Read a word of the page as the gateway does: pread, never a mapping."""
        return int.from_bytes(os.pread(self.page, 4, 4 * index), sys.byteorder)

    def close(self) -> None:
        self.sock.close()


class Gateway:
    """A listener, and the workers that the test starts for it."""

    def __init__(self, listen: bool = True) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="gw")
        self.path = os.path.join(self._directory.name, "main.sock")
        self._listener: socket.socket | None = None
        self.workers: list[Process] = []
        self._links: list[GatewayLink] = []
        if listen:
            self.listen()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for link in self._links:
            link.close()
            os.close(link.page)
        self.shut()
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait(DEADLINE)
            for pipe in (worker.stdout, worker.stderr):
                if pipe is not None:
                    pipe.close()
        self._directory.cleanup()

    def listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._listener.settimeout(DEADLINE)

    def shut(self) -> None:
        """Stop listening and remove the socket, as a gateway that goes away."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            os.unlink(self.path)

    def accept(self) -> GatewayLink:
        assert self._listener is not None
        sock, _ = self._listener.accept()
        link = GatewayLink(sock)
        self._links.append(link)
        return link

    def pending(self, seconds: float = 0.0) -> bool:
        """Tell whether a worker is dialling."""
        assert self._listener is not None
        return bool(select.select([self._listener], [], [], seconds)[0])

    def start(
        self, app: str, *options: str, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a worker on this socket; its stderr is kept."""
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ASGI_WORKER_")},
            "PYTHONPATH": str(WORKER_DIR),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(env or {}),
        }
        worker = subprocess.Popen(
            [
                sys.executable, "-m", "asgi_worker", "--connect", f"unix:{self.path}",
                "--app-dir", str(APPS_DIR), "--loop", "asyncio", *options, app,
            ],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd=self._directory.name,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def ready(
        self, app: str, *options: str, **ack: Any
    ) -> tuple[subprocess.Popen[bytes], GatewayLink]:
        """Start a worker with one channel and bring it to READY."""
        worker = self.start(app, *options)
        link = self.accept()
        link.handshake(**ack)
        link.wait_ready()
        return worker, link


def stop(worker: Process) -> tuple[int, str]:
    """SIGTERM, wait; returns exit code and stderr."""
    worker.send_signal(signal.SIGTERM)
    return finish(worker)


def finish(worker: Process) -> tuple[int, str]:
    """Wait for the worker's end; returns exit code and stderr."""
    _, errors = worker.communicate(timeout=DEADLINE)
    return worker.returncode, errors.decode()
