# SPDX-License-Identifier: MIT
"""One allocation after the other fails while HTTP/2 and WebSockets over both carriers are spoken, as in test_faults.py
HTTP/1.1. It costs at most a stream, a connection or a WebSocket, and the next of each works."""

import contextlib
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gateway import VARIANT, Gateway
from harness.http1 import Closed
from harness.http2 import Http2, request
from harness.process import Failed
from harness.scripted_worker import c
from harness.websocket import CARRIERS, FIN, PING, RSV1, TEXT, WsWorker, frame, ws_client
from test_faults import end, start_without_memory

STEPS = {"release": 11, "asan": 29}.get(VARIANT, 61)
RANGES = [(first, first + 200) for first in range(1, 1250, 200)]
BROKEN = (Closed, OSError, AssertionError, Failed, KeyError)


class Hurried(WsWorker):
    """A worker to whom nothing may come: then it gives up, whatever PINGs it gets meanwhile."""

    def __init__(self, gateway: Gateway):
        self.until = time.monotonic() + 3
        super().__init__(gateway)

    def _fill(self, length: int) -> bool:
        if time.monotonic() > self.until:
            raise Failed("nothing came")
        return super()._fill(length)


def speak_http2(gateway: Gateway, worker: WsWorker) -> bool:
    """A body there and back, trailers, a refusal, a stream that is given up."""
    with Http2(("127.0.0.1", gateway.port), timeout=5) as client:
        stream = client.open(request("/a", "POST", ("te", "trailers")), end=False)
        client.data(stream, bytes(16_000))
        client.data(stream, bytes(4_000), end=True)
        seen = worker.request()
        while (got := worker.next()) is not None and not got.flags & c.FLAG_END_STREAM:
            pass
        body = [(b"trailer", b"x-sum")]
        worker.respond(seen.stream, 200, body, b"x" * 20_000)
        fine = len(client.answer(stream).body) == 20_000
        fine &= client.answer(client.open([*request("/b"), *[("x", "y")] * 120])).status == 431
        stream = client.open(request("/c"))
        seen = worker.request()
        client.reset(stream)
        worker.expect_disconnect(seen.stream, c.ERROR_CLIENT_GONE)
        worker.done(seen.stream)
        client.ping()
    return fine


def speak_websocket(gateway: Gateway, worker: WsWorker, carrier: str) -> bool:
    """Compressed, with a PING, closed in order."""
    gateway.carrier = carrier
    pressed = zlib.compressobj(wbits=-12)
    data = pressed.compress(b"hello " * 1000) + pressed.flush(zlib.Z_SYNC_FLUSH)
    with ws_client(gateway) as client:
        (client.client if carrier == "h1" else client.client.http2).socket.settimeout(5)  # type: ignore[union-attr]
        client.handshake(sec_websocket_extensions="permessage-deflate")
        stream = worker.websocket().stream
        worker.accept(stream)
        client.accepted()
        client.client.send(frame(TEXT, data[:-4], FIN | RSV1 | TEXT))
        fine = worker.received(stream) == (b"hello " * 1000, True)
        worker.text(stream, "back " * 100)
        fine &= len(client.message()) < 100
        client.send(PING, b"p")
        fine &= client.frame().payload == b"p"
        client.close(1000)
        fine &= worker.expect_ws_close(stream).code == 1000
        worker.done(stream)
        client.expect_close(1000)
        client.expect_end()
    return fine


def live_with(gateway: Gateway) -> list[bool]:
    """What works of a request over HTTP/2 and of a WebSocket over each carrier."""
    acts: list[Callable[[WsWorker], bool]] = [lambda worker: speak_http2(gateway, worker)]
    acts += [lambda worker, carrier=carrier: speak_websocket(gateway, worker, carrier) for carrier in CARRIERS]  # type: ignore[misc]
    done = []
    for act in acts:
        fine = False
        with contextlib.suppress(*BROKEN):
            worker = Hurried(gateway)
            try:
                fine = act(worker)
                worker.leave()
            finally:
                worker.close()
        done.append(fine)
    return done


@pytest.mark.parametrize(("first", "last"), RANGES)
def test_one_allocation_fails(tmp_path: Path, first: int, last: int) -> None:
    for number in range(first, last, STEPS):
        directory = tmp_path / str(number)
        directory.mkdir()
        gateway = start_without_memory(directory, str(number))
        if gateway is None:
            continue
        try:
            rounds = [live_with(gateway) for _ in range(2)]
            failed = sum(turn.count(False) for turn in rounds)
            assert failed <= 1, f"{number}: {rounds}\n{gateway.process.tail(40)}"
            end(gateway, str(number), {0})
        finally:
            gateway.kill()
