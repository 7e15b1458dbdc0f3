# SPDX-License-Identifier: MIT
"""Each flood of HTTP/2 beside an honest client: what the attack costs in processor time and memory, and what the client
notices of it. Its 99th percentile stays below three times what it is beside an honest neighbour that asks as fast as it
can. The bounds of each flood itself are in test_http2_floods.py; here time is measured: `make scenarios-long` runs it.
"""

import contextlib
import multiprocessing
import os
import re
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event

import pytest
from harness.gateway import VARIANT, Gateway
from harness.http2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    literal,
    request,
    settings,
)
from harness.process import rss

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(VARIANT != "release", reason="sanitizers change what everything costs"),
]
MIB = 1 << 20
WHOLE = END_HEADERS | END_STREAM
SECONDS = 2.5
POST = frame(HEADERS, END_HEADERS, 1, block(request("/digest", "POST")))
START = PREFACE + frame(SETTINGS, 0, 0)
SHUT = PREFACE + frame(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 0)))
IDS = range(1, 4001, 2)
BOMB = block(request()) + literal("x-bomb", "v" * 3800, 0x40)


def each(make: Callable[[int], bytes]) -> bytes:
    return b"".join(make(stream) for stream in IDS)


def opened(fields: bytes, flags: int = WHOLE) -> Callable[[int], bytes]:
    return lambda stream: frame(HEADERS, flags, stream, fields)


SLOW, BAD = opened(block(request("/sleep?ms=300"))), opened(block([*request(), ("connection", "close")]))
ATTACKS: dict[str, bytes] = {
    "rapid reset": START + each(lambda n: SLOW(n) + frame(RST_STREAM, 0, n, struct.pack(">I", CANCEL))),
    "MadeYouReset": START + each(BAD),
    "MadeYouReset by windows": START
    + each(lambda n: frame(HEADERS, END_HEADERS, n, POST[9:]) + frame(8, 0, n, bytes(4))),
    "CONTINUATION": START + POST[:4] + b"\0" + POST[5:] + frame(CONTINUATION, 0, 1, literal("x", "y" * 16000)) * 50,
    "empty CONTINUATION": START + POST[:4] + b"\0" + POST[5:] + frame(CONTINUATION, 0, 1) * 20000,
    "SETTINGS": START + frame(SETTINGS, 0, 0) * 20000,
    "PING": START + frame(PING, 0, 0, bytes(8)) * 20000,
    "empty DATA": START + POST + frame(DATA, 0, 1) * 20000,
    "windows": START + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 20000,
    "PRIORITY": START + frame(PRIORITY, 0, 1001, struct.pack(">IB", 0, 15)) * 20000,
    "bomb": SHUT
    + each(lambda n: frame(HEADERS, WHOLE, n, (BOMB if n == 1 else block(request())) + b"\xbe" * 12000))[: 12 * MIB],
    "zero window": SHUT + b"".join(opened(block(request("/download?bytes=10000000")))(n) for n in range(1, 180, 2)),
}


def strike(port: int, blob: bytes, stop: Event, count: "multiprocessing.sharedctypes.Synchronized[int]") -> None:
    """Connection after connection, each with the whole attack, until the gateway ends it (a second at most)."""
    os.nice(19)  # the attacker has a machine of its own elsewhere
    while not stop.is_set():
        with socket.socket() as client, contextlib.suppress(OSError):
            client.settimeout(1)
            client.connect(("127.0.0.1", port))
            client.sendall(blob)
            until = time.monotonic() + 1
            while time.monotonic() < until and client.recv(1 << 20):
                pass
        count.value += 1


def ask(port: int, stop: Event, count: "multiprocessing.sharedctypes.Synchronized[int]") -> None:
    """The honest neighbour."""
    os.nice(19)
    client = connected(port)
    while not stop.is_set():
        answered(client)
        count.value += 1


def connected(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def answered(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    data = b""
    while not data.endswith(b"hello\n"):
        more = client.recv(65536)
        assert more
        data += more
    assert data.startswith(b"HTTP/1.1 200")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("attacks"), log={"level": "info"}, limits={"write_stall": "2s"})
    gateway.listeners[0]["protocols"] = ["h2", "http/1.1"]
    try:
        gateway.start()
        gateway.start_workers(2)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def seconds_used(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def victim(server: Gateway, beside: Callable[..., None], *more: object) -> tuple[float, float, int]:
    """The victim's 99th percentile (ms) beside another process, the gateway's share of a processor, and the rounds."""
    stop, count = multiprocessing.Event(), multiprocessing.Value("i", 0)
    other = multiprocessing.Process(target=beside, args=(server.port, *more, stop, count))
    other.start()
    try:
        time.sleep(0.3)
        with connected(server.port) as client:
            used, begun, times = seconds_used(server.server_pid), time.monotonic(), []
            while time.monotonic() - begun < SECONDS:
                at = time.perf_counter()
                answered(client)
                times.append(time.perf_counter() - at)
                time.sleep(0.001)
            share = (seconds_used(server.server_pid) - used) / (time.monotonic() - begun)
    finally:
        stop.set()
        other.join(20)
    return statistics.quantiles(times, n=100)[98] * 1000, share, count.value


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(server: Gateway, name: str, record_property: Callable[..., None]) -> None:
    told = []
    for _ in range(4):  # other programs may be busy meanwhile: one quiet run is asked for
        base, _, _ = victim(server, ask)
        before = rss(server.server_pid)
        p99, share, rounds = victim(server, strike, ATTACKS[name])
        grown = (rss(server.server_pid) - before) / MIB
        told.append(
            f"p99 {p99:.2f} ms (base {base:.2f}), gateway {share:.0%} of a processor, {rounds} attacks, {grown:.1f} MiB"
        )
        print(f"{name}: {told[-1]}")
        assert rounds > 0 and grown < 48, told
        if p99 < 3 * base and share < 0.9:
            break
    else:
        pytest.fail(f"{name}: {told}")
    record_property(name, told[-1])
    server.wait_metric("exchanges", 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_h2load(tmp_path_factory: pytest.TempPathFactory, scheme: str) -> None:
    """100,000 requests on 10 connections with 100 streams each: none fails."""
    gateway = Gateway(tmp_path_factory.mktemp("h2load"), tls=True, log={"level": "info"})
    try:
        gateway.start().start_workers(2)
        url = gateway.url if scheme == "http" else gateway.tls_url
        command = ["h2load", "-n", "100000", "-c", "10", "-m", "100", f"{url}/"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        print(done.stdout)
        found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
        assert found and found.groups() == ("100000", "0", "0", "0"), done.stdout
        assert "status codes: 100000 2xx" in done.stdout
        gateway.finish()
    finally:
        gateway.kill()
