# SPDX-License-Identifier: MIT
"""io/link.py: one read and one write per wake-up, budgets, a full socket, the link's end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any

import pytest

from asgi_worker.io import link as link_module
from asgi_worker.protocol.constants import (
    ERROR_CLIENT_GONE,
    ERROR_DEADLINE,
    ERROR_DRAINING,
    ERROR_OVERLOADED,
    ERROR_PROTOCOL,
    FRAME_CHANNEL_ERROR,
    FRAME_DATA,
    FRAME_GOAWAY,
    FRAME_PING,
    FRAME_PONG,
)
from asgi_worker.protocol.frames import frame
from harness import Bench, serve, wait


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


class CountingSocket:
    """Counts the calls that reach the kernel."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reads = 0
        self.writes = 0

    def recvmsg(self, *args: Any) -> Any:
        self.reads += 1
        return self.sock.recvmsg(*args)

    def send(self, *args: Any) -> int:
        self.writes += 1
        return self.sock.send(*args)

    def sendmsg(self, *args: Any) -> int:
        self.writes += 1
        return self.sock.sendmsg(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


def counted(bench: Bench) -> CountingSocket:
    sock = CountingSocket(bench.link._sock)
    bench.link._sock = sock  # type: ignore[assignment]
    return sock


def test_a_batch_is_one_read_and_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    # the time budgets have tests of their own; a slow machine must not decide this one
    monkeypatch.setattr(link_module, "monotonic", lambda: 0.0)

    async def test(bench: Bench) -> None:
        sock = counted(bench)
        exchanges = [bench.peer.request(path=f"/{i}") for i in range(60)]
        await bench.until(lambda: all(e.done for e in exchanges))
        assert [bytes(e.body) for e in exchanges] == [b"/%d" % i for i in range(60)]
        assert (sock.reads, sock.writes) == (1, 1)

    serve(hello, test)


def test_resumed_tasks_share_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await hello(scope, receive, send)

        bench.service.app = app
        exchanges = [bench.peer.request() for _ in range(50)]
        await bench.settled()
        sock = counted(bench)
        go.set()
        await bench.until(lambda: all(e.done for e in exchanges))
        assert sock.writes <= 2
        assert all(len(e.frames) == 1 for e in exchanges)

    serve(hello, test)


def test_requests_beyond_the_budget_wait_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "monotonic", lambda: 0.0)

    async def test(bench: Bench) -> None:
        turns: list[int] = []
        turn = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            turns.append(turn)
            await hello(scope, receive, send)

        bench.service.app = app
        exchanges = [bench.peer.request() for _ in range(200)]
        await bench.flush()
        while len(turns) < 200:
            await asyncio.sleep(0)
            turn += 1
        per_turn = [turns.count(t) for t in sorted(set(turns))]
        assert max(per_turn) <= 64
        assert len(per_turn) >= 4
        await bench.until(lambda: all(e.done for e in exchanges))
        assert bench.page[0] == 200

    serve(hello, test)


def test_the_time_budget_ends_a_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def clock() -> float:
        return now

    monkeypatch.setattr(link_module, "monotonic", clock)

    async def test(bench: Bench) -> None:
        turns: list[int] = []
        turn = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal now
            now += 0.0009  # each request takes its time
            turns.append(turn)
            await hello(scope, receive, send)

        bench.service.app = app
        sock = counted(bench)
        exchanges = [bench.peer.request() for _ in range(12)]
        await bench.flush()
        while len(turns) < 12:
            await asyncio.sleep(0)
            turn += 1
        await bench.until(lambda: all(e.done for e in exchanges))
        per_turn = [turns.count(t) for t in sorted(set(turns))]
        if link_module.sys.version_info >= (3, 12):  # lazy tasks start after the callback
            assert max(per_turn) == 3
            assert sock.writes >= 6  # at least every millisecond, and before going on

    serve(hello, test)


def test_ping_is_answered_in_a_batch_and_while_apps_wait() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await receive()

        bench.service.app = app
        exchange = bench.peer.request()
        bench.peer.raw(frame(FRAME_PING, aux=42))
        await bench.until(lambda: any(f.kind == FRAME_PONG for f in bench.peer.channel))
        assert bench.peer.channel[-1].aux == 42
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)

    serve(hello, test)


def test_above_max_concurrency_is_refused() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()
        ran: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            ran.append(scope["path"])
            await go.wait()
            await hello(scope, receive, send)

        bench.service.app = app
        first = [bench.peer.request(path=f"/{i}") for i in range(3)]
        over = bench.peer.request(b"body", end=False, path="/over")
        bench.peer.data(over, b"more")  # decoded before the refusal: dropped
        await bench.until(lambda: over.done)
        assert over.refused == ERROR_OVERLOADED
        assert bench.service.overloaded == 1
        go.set()
        await bench.until(lambda: all(e.done for e in first))
        assert ran == ["/0", "/1", "/2"]
        assert bench.page[0] == 3

    serve(hello, test, max_concurrency=3)


def test_a_gateway_that_does_not_read_stops_nothing_else() -> None:
    async def test(bench: Bench) -> None:
        body = os.urandom(60000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": body})

        bench.service.app = app
        exchanges = [bench.peer.request() for _ in range(40)]
        await bench.flush()
        for _ in range(200):  # nobody reads: the socket fills, the worker keeps turning
            await asyncio.sleep(0)
        assert bench.link._unsent
        served = bench.service.requests
        assert served == 40  # it went on reading
        await bench.until(lambda: all(e.done for e in exchanges))
        assert all(bytes(e.body) == body for e in exchanges)
        assert not bench.link._unsent

    serve(hello, test)


def test_control_overtakes_data_behind_a_full_socket() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"x" * 60000})

        bench.service.app = app
        exchanges = [bench.peer.request() for _ in range(60)]
        await bench.flush()
        for _ in range(200):
            await asyncio.sleep(0)
        bench.peer.raw(frame(FRAME_PING, aux=9))
        await bench.until(lambda: all(e.done for e in exchanges) and bench.peer.channel)
        order = [f.kind for f in bench.peer.frames]
        pong = order.index(FRAME_PONG)
        assert FRAME_DATA in order[pong:], "PONG came behind all of the queued DATA"

    serve(hello, test)


def test_breach_by_the_gateway_closes_with_a_sentence() -> None:
    async def test(bench: Bench) -> None:
        bench.peer.raw(frame(99))
        await bench.flush()
        with pytest.raises(EOFError):
            while True:
                await bench.read()
        (item,) = bench.peer.channel
        assert (item.kind, item.code) == (FRAME_CHANNEL_ERROR, ERROR_PROTOCOL)
        assert b"99" in item.payload
        assert bench.ends == [(ERROR_PROTOCOL, "PROTOCOL: frame type 99 is unknown")]

    serve(hello, test)


def test_a_descriptor_out_of_place_closes_the_link_and_leaks_nothing() -> None:
    async def test(bench: Bench) -> None:
        before = len(os.listdir("/proc/self/fd"))
        read, write = os.pipe()
        socket.send_fds(bench._sock, [frame(FRAME_PING, aux=1)], [read])
        os.close(read)
        os.close(write)
        while not bench.ends:
            await asyncio.sleep(0)
        assert bench.ends[0][0] == ERROR_PROTOCOL
        assert len(os.listdir("/proc/self/fd")) == before - 1  # the link's own socket

    serve(hello, test)


def test_end_of_the_stream_without_goaway_is_a_loss() -> None:
    async def test(bench: Bench) -> None:
        gone = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            assert (await receive())["type"] == "http.disconnect"
            gone.set()

        bench.service.app = app
        bench.peer.request()
        await bench.settled()
        bench._sock.close()
        await wait(gone)
        assert bench.ends == [(0, "the gateway closed the link")]
        await bench.turns()
        assert not bench.service.active

    serve(hello, test)


def test_frames_before_the_end_are_handled() -> None:
    async def test(bench: Bench) -> None:
        ran = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            ran.set()

        bench.service.app = app
        bench.peer.request()
        bench.peer.raw(b"\x05\0\0\0partial")
        await bench.flush()
        bench._sock.close()
        await wait(ran)

    serve(hello, test)


def test_goaway_and_no_stream_is_an_orderly_end() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await hello(scope, receive, send)

        bench.service.app = app
        exchange = bench.peer.request()
        bench.peer.raw(frame(FRAME_GOAWAY, b"stop", code=ERROR_DRAINING, aux=1))
        await bench.settled()
        assert [g.text for g in bench.goaways] == ["stop"]
        assert bench.ends == []  # a stream is open
        go.set()
        with pytest.raises(EOFError):
            while True:
                await bench.read()
        assert exchange.done
        assert bench.ends == [(0, "")]

    serve(hello, test)


def test_goaway_on_an_idle_link_ends_it_at_once() -> None:
    async def test(bench: Bench) -> None:
        bench.peer.raw(frame(FRAME_GOAWAY, code=ERROR_DRAINING, aux=0))
        await bench.flush()
        with pytest.raises(EOFError):
            await bench.read()
        assert bench.ends == [(0, "")]

    serve(hello, test)


def test_channel_error_from_the_gateway() -> None:
    async def test(bench: Bench) -> None:
        bench.peer.raw(frame(FRAME_CHANNEL_ERROR, b"another link was lost", code=16))
        await bench.flush()
        with pytest.raises(EOFError):
            await bench.read()
        assert bench.ends == [(16, "WORKER_LOST: another link was lost")]

    serve(hello, test)


def test_malformed_head_is_logged_and_costs_one_stream() -> None:
    async def test(bench: Bench) -> None:
        bad = await bench.request(head=b"\xdd\x01\0\0\0")
        assert bad.reset == 18
        assert bench.page[0] == 0
        assert (await bench.request(path="/ok")).body == b"/ok"
        assert len(bench.log.texts(logging.ERROR)) == 1

    serve(hello, test)


def test_the_page_is_stored_before_the_application_runs() -> None:
    async def test(bench: Bench) -> None:
        seen: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(bench.page[0])
            await asyncio.sleep(0)
            await hello(scope, receive, send)

        bench.service.app = app
        exchanges = [bench.peer.request() for _ in range(100)]
        await bench.until(lambda: all(e.done for e in exchanges))
        assert seen == list(range(1, 101))  # rising, each its own
        assert list(bench.page[1:]) == [0] * 1023

    serve(hello, test)


def test_reset_before_a_lazy_task_has_started() -> None:
    async def test(bench: Bench) -> None:
        exchange = bench.peer.request()
        bench.peer.reset(exchange, ERROR_DEADLINE)
        await bench.until(lambda: exchange.done)

    serve(hello, test)


def test_no_objects_are_left_behind() -> None:
    async def test(bench: Bench) -> None:
        for i in range(50):
            await bench.request(b"x", path=f"/{i}")
        assert not bench.session.streams
        assert not bench.service.active
        assert not bench.link._held
        assert not bench.session.wants_write

    serve(hello, test)
