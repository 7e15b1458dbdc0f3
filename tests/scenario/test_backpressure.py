# SPDX-License-Identifier: MIT
"""One slow peer slows nobody and costs no more than its windows; large bodies flow through flat memory."""

import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.gateway import VARIANT, Gateway
from harness.http1 import Client
from harness.load import Load
from harness.process import rss, wait_for
from harness.scripted_worker import ScriptedWorker, c

Maker = Callable[..., Gateway]
WINDOW = 64 << 10
MIB = 1 << 20
LARGE = 1024 * MIB if VARIANT == "release" else 64 * MIB
# What a process may grow by and be called flat: allocators keep some of what they got, sanitizers a lot.
FLAT = 8 * MIB if VARIANT == "release" else 400 * MIB


def queued(port: int, client_port: int) -> int:
    """Bytes that the kernel holds between the gateway and one of its clients, both sockets."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ends = (int(fields[1].split(":")[1], 16), int(fields[2].split(":")[1], 16))
        out, into = (int(number, 16) for number in fields[4].split(":"))
        if ends == (port, client_port):
            total += out
        elif ends == (client_port, port):
            total += into
    return total


class Peak(threading.Thread):
    """`with Peak(pid, ...) as peak: ...`: the most that the processes grew by while it ran."""

    def __init__(self, *pids: int):
        super().__init__(daemon=True)
        self.before = {pid: rss(pid) for pid in pids}
        self.grown = 0
        self._stop_it = threading.Event()

    def run(self) -> None:
        while not self._stop_it.wait(0.02):
            for pid, before in self.before.items():
                self.grown = max(self.grown, rss(pid) - before)

    def __enter__(self) -> "Peak":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_it.set()
        self.join()


# --- slow clients -----------------------------------------------------------------------------------------------------


def taken(gateway: Gateway) -> int:
    """What the endless app has had taken by send()."""
    amounts = [int(note.split()[1]) for note in gateway.notes() if note.startswith("taken ")]
    return amounts[-1] if amounts else 0


def test_slow_client_holds_its_windows_and_slows_nobody(make_gateway: Maker) -> None:
    gateway = make_gateway()
    gateway.get("/")
    pids = (gateway.server_pid, gateway.workers[0].pid)
    # It reads 1 KiB a second: over the time of this test, this much.
    with gateway.client(receive_buffer=4096) as slow, Peak(*pids) as peak:
        slow.request("GET", "/endless")
        assert slow.head().status == 200
        received = len(slow.buffer)
        with Load(gateway, clients=100, pause=0) as load:
            wait_until_still(lambda: taken(gateway))
            stopped = taken(gateway)
            for _ in range(2):
                received += len(slow.socket.recv(1024))
                load.more(500)
        wait_until_still(lambda: taken(gateway))  # on a busy machine the buffers may still be filling
        kernel = queued(gateway.port, slow.socket.getsockname()[1])
        held = taken(gateway) - received - kernel
        # What send() took is with the client, in the kernel, or in the two windows: the gateway's and the worker's own.
        assert held <= 2 * WINDOW + 32_768, f"{held} bytes are held between the app and the client"
        assert gateway.metric("buffered_bytes") <= WINDOW
        assert stopped > 0 and taken(gateway) - stopped <= 4 * WINDOW + kernel
    assert peak.grown < FLAT, f"a process grew by {peak.grown >> 10} KiB"
    gateway.wait_note("send raised OSError")


def test_many_stalled_downloads_are_bounded(make_gateway: Maker) -> None:
    gateway = make_gateway()
    gateway.get("/")
    before = rss(gateway.server_pid)
    clients = []
    for _ in range(60):
        client = gateway.client(receive_buffer=4096)
        client.request("GET", "/endless")
        clients.append(client)
    for client in clients:
        assert client.head().status == 200
    wait_until_still(lambda: gateway.metric("ipc_bytes_in"))
    assert gateway.metric("buffered_bytes") <= 60 * WINDOW
    if VARIANT == "release":
        assert (rss(gateway.server_pid) - before) / 60 <= 160 << 10
    assert gateway.get("/").status == 200
    for client in clients:
        client.reset()
    gateway.wait_metric("exchanges", 0)
    assert gateway.metric("buffered_bytes") == 0


def wait_until_still(value: Callable[[], int]) -> None:
    """Waits until a figure stays the same for a while (that nothing happens has no event)."""
    last = -1
    for _ in range(100):
        now = value()
        if now == last:
            return
        last = now
        time.sleep(0.2)
    raise AssertionError("it never came to rest")


def test_credit_comes_only_as_the_client_reads(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0)
    with ScriptedWorker(gateway.app_socket) as worker, gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/stream")
        stream = worker.request().stream
        worker.respond(stream, 200, flags=0)
        sent, credit = 0, WINDOW
        worker.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                while credit >= 8192 + c.DATA_OVERHEAD:
                    worker.data(stream, b"x" * 8192)
                    credit -= 8192 + c.DATA_OVERHEAD
                    sent += 8192
                credit += worker.expect(c.FRAME_WINDOW, stream).aux
        worker.socket.settimeout(20)
        # At rest: what is out is in the kernel or in one window.
        assert sent - queued(gateway.port, client.socket.getsockname()[1]) <= WINDOW
        response = client.head()
        assert response.status == 200
        while sent:  # now it reads, and credit comes
            size = int(client._until(b"\r\n"), 16)
            assert client.exactly(size + 2) == b"x" * size + b"\r\n"
            sent -= size
        assert worker.expect(c.FRAME_WINDOW, stream).aux >= WINDOW // 2
        worker.data(stream, flags=c.FLAG_END_STREAM | c.FLAG_DONE)
        assert client.exactly(5) == b"0\r\n\r\n"
        worker.leave()


# --- slow apps --------------------------------------------------------------------------------------------------------


def test_body_that_nobody_reads_stays_with_the_client(make_gateway: Maker) -> None:
    """Without a grant the worker is sent one window at most; the gateway holds one more; the rest stays where it is."""
    gateway = make_gateway(workers=0)
    with ScriptedWorker(gateway.app_socket) as worker, gateway.client() as client:
        client.request("POST", "/unread", {"content-length": str(64 * MIB)})
        client.socket.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += client.socket.send(b"x" * 65536)
        request = worker.request()
        got = len(request.body) + (c.DATA_OVERHEAD if request.body else 0)
        worker.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                got += len(worker.expect(c.FRAME_DATA, request.stream).payload) + c.DATA_OVERHEAD
        worker.socket.settimeout(20)
        assert WINDOW - 4096 <= got <= WINDOW
        assert gateway.metric("buffered_bytes") <= 2 * WINDOW
        assert gateway.metric("bytes_received") <= 2 * WINDOW + 3 * 16_384
        worker.grant(request.stream, 10_000)  # and exactly so much more
        assert len(worker.expect(c.FRAME_DATA, request.stream).payload) == WINDOW - got + 10_000 - c.DATA_OVERHEAD
        client.reset()
        worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
        worker.done(request.stream)
        worker.leave()


def test_read_ahead_is_bounded(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0)
    with ScriptedWorker(gateway.app_socket) as worker, gateway.client() as client:
        client.request("GET", "/first")
        request = worker.request()
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                client.socket.send(b"GET /ahead HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        wait_until_still(lambda: gateway.metric("bytes_received"))
        assert gateway.metric("bytes_received") <= 3 * 16_384
        client.reset()
        worker.expect_disconnect(request.stream, c.ERROR_CLIENT_GONE)
        worker.done(request.stream)
        worker.leave()


# --- large bodies -----------------------------------------------------------------------------------------------------

PIECE = bytes(range(256)) * 256  # what the app's /download sends, too


def expected_digest(size: int) -> str:
    digest = hashlib.sha256()
    block = PIECE * 64
    for _ in range(size // len(block)):
        digest.update(block)
    return digest.hexdigest()


@pytest.fixture
def quiet(make_gateway: Maker) -> Iterator[Gateway]:
    gateway = make_gateway(limits={"body_size": "2GiB"})
    for _ in range(3):
        gateway.get("/download?bytes=2000000")
    yield gateway


def test_large_upload(quiet: Gateway) -> None:
    block = PIECE * 64
    with quiet.client(timeout=120) as client, Peak(quiet.server_pid, quiet.workers[0].pid) as peak:
        client.request("POST", "/digest", {"content-length": str(LARGE)})
        for _ in range(LARGE // len(block)):
            client.send(block)
        answer = json.loads(client.response().body)
    assert answer == {"bytes": LARGE, "sha256": expected_digest(LARGE)}
    assert peak.grown < FLAT, f"a process grew by {peak.grown >> 10} KiB"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_download(quiet: Gateway, framing: str) -> None:
    size = LARGE if framing == "length" else LARGE // 8
    digest = hashlib.sha256()
    with quiet.client(timeout=120) as client, Peak(quiet.server_pid, quiet.workers[0].pid) as peak:
        client.request("GET", f"/download?bytes={size}" + ("&chunked=1" if framing == "chunked" else ""))
        head = client.head()
        if framing == "chunked":
            digest.update(client.body(head))
        else:
            assert head.header("content-length") == str(size)
            digest.update(client.buffer)
            left = size - len(client.buffer)
            buffer = memoryview(bytearray(MIB))
            while left:
                got = client.socket.recv_into(buffer)
                assert got, f"closed with {left} bytes missing"
                digest.update(buffer[:got])
                left -= got
    assert digest.hexdigest() == expected_digest(size)
    assert peak.grown < FLAT, f"a process grew by {peak.grown >> 10} KiB"


def test_large_bodies_over_tls(make_gateway: Maker) -> None:
    gateway = make_gateway(tls=True)
    size = 32 * MIB
    with gateway.tls_client(timeout=60) as client:
        client.request("POST", "/digest", {"content-length": str(size)})
        for _ in range(size // MIB):
            client.send(PIECE * 16)
        assert json.loads(client.response().body)["sha256"] == expected_digest(size)
        client.request("GET", f"/download?bytes={size}")
        assert hashlib.sha256(client.response().body).hexdigest() == expected_digest(size)


def test_echo_stream_full_duplex(make_gateway: Maker) -> None:
    """Request and response of one exchange at the same time, both larger than all windows together."""
    gateway = make_gateway()
    size = 16 * MIB
    with gateway.client(timeout=60) as client:
        client.request("POST", "/echo-stream", {"content-length": str(size)})
        sender = threading.Thread(target=lambda: [client.send(PIECE * 16) for _ in range(size // MIB)], daemon=True)
        sender.start()
        assert hashlib.sha256(client.response().body).hexdigest() == expected_digest(size)
        sender.join()


# --- disconnects ------------------------------------------------------------------------------------------------------


def test_app_sees_the_reset_at_once(make_gateway: Maker) -> None:
    """http.disconnect within 100 ms of the client's reset: the best of several, because the machine may be busy."""
    gateway = make_gateway()
    delays = []
    for number in range(8):
        client = Client(("127.0.0.1", gateway.port))
        client.request("GET", "/disconnect")
        wait_for(lambda number=number: gateway.notes().count("waiting") == number + 1, "the app to wait")
        began = time.monotonic()
        client.reset()
        wait_for(lambda number=number: sum("got http" in n for n in gateway.notes()) == number + 1, "http.disconnect")
        note = [note for note in gateway.notes() if note.startswith("got http.disconnect")][-1]
        delays.append(float(note.split()[-1]) - began)
    assert min(delays) < 0.1, delays
    assert max(delays) < 5, delays


def test_endless_response_ends_with_its_client(make_gateway: Maker) -> None:
    gateway = make_gateway()
    with gateway.client() as client:
        client.request("GET", "/endless")
        client.exactly(200_000)
        client.socket.shutdown(socket.SHUT_RDWR)
    gateway.wait_note("send raised OSError")
    gateway.wait_metric("exchanges", 0)
