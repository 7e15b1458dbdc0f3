# SPDX-License-Identifier: MIT
"""What one request costs the worker: frames replayed through a socketpair, no gateway.

    python tests/worker/bench_worker.py [--in-flight 64] [--requests 200000] [--profile]

Not a test. Batches of REQUEST frames (one connection's usual browser headers) go in, the
answers are counted and thrown away by the same thread, so the figure holds the whole path:
recvmsg, decode, scope, eager task, two sends, frame, one send per batch. The driver's own
share is measured without a worker and taken off.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "worker"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from asgi_worker.protocol.codec import ResponseEncoder
from asgi_worker.protocol.constants import FLAG_END_STREAM, FRAME_REQUEST, HEADER_SIZE
from asgi_worker.protocol.frames import frame
from harness import Bench
from peer import request_head

FIELDS = [
    (b"host", b"localhost:8080"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"cookie", b"session=0123456789abcdef0123456789abcdef"),
]

BODY = b"Hello, world!"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
ANSWER_SIZE = HEADER_SIZE + len(ResponseEncoder().encode(HEADERS).payload) + len(BODY)


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def batches(in_flight: int, count: int, connections: int) -> list[bytes]:
    heads = [
        request_head(path="/items/42", client=b"127.0.0.1\0%d" % (40000 + i), fields=FIELDS)
        for i in range(connections)
    ]
    result = []
    stream = 1
    for _ in range(count):
        parts = []
        for _ in range(in_flight):
            head = heads[stream % connections]
            parts.append(frame(FRAME_REQUEST, head, flags=FLAG_END_STREAM, stream=stream))
            stream += 1
        result.append(b"".join(parts))
    return result


async def measure(in_flight: int, requests: int, connections: int) -> float:
    bench = Bench(app)
    sock: socket.socket = bench._sock
    work = batches(in_flight, requests // in_flight, connections)
    await asyncio.sleep(0)
    begin = time.process_time()
    for batch in work:
        sock.send(batch)
        await asyncio.sleep(0)  # one turn reads and answers, or more when a budget is used up
        missing = in_flight * ANSWER_SIZE
        while missing:
            try:
                missing -= len(sock.recv(1 << 18))
            except BlockingIOError:
                await asyncio.sleep(0)
    total = time.process_time() - begin
    served = bench.service.requests
    bench.close()
    assert served == len(work) * in_flight, (served, len(work) * in_flight)
    # the driver alone: the same writes and reads and turns, answered by nobody
    ours, other = socket.socketpair()
    ours.setblocking(False)
    answer = b"x" * (in_flight * 80)
    begin = time.process_time()
    for batch in work:
        ours.send(batch)
        await asyncio.sleep(0)
        other.recv(1 << 18)
        other.send(answer)
        ours.recv(1 << 18)
    driver = (time.process_time() - begin) / 2
    return (total - driver) / served * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--in-flight", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=100000)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    for in_flight in options.in_flight:
        runs = options.requests // (8 if in_flight == 1 else 1)
        if options.profile:
            profile = cProfile.Profile()
            profile.enable()
        best = min(asyncio.run(measure(in_flight, runs, options.connections)) for _ in range(3))
        if options.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(18)
        print(f"{in_flight:4d} in flight: {best:6.2f} us of CPU per request")


if __name__ == "__main__":
    main()
