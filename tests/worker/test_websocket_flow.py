# SPDX-License-Identifier: MIT
"""docs/ASGI.md rule 24 and the credit of both directions: who waits for whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_worker.protocol.constants import (
    DATA_OVERHEAD,
    ERROR_APP_INCOMPLETE,
    ERROR_CLIENT_GONE,
    FLAG_DONE,
    FRAME_WINDOW,
)
from harness import Bench
from peer import WINDOW
from ws_bench import (
    ACCEPT,
    binary,
    echo,
    opened,
    serve_websockets,
    text,
)


def test_credit_send_waits_for_the_client_and_takes_the_whole_window() -> None:
    async def test(bench: Bench) -> None:
        sent: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            for number in range(3):
                await send(binary(b"x" * 50000))
                sent.append(number)

        bench.service.app = app
        exchange = await opened(bench)
        await bench.until(lambda: exchange.recv_left == 0)
        await bench.turns()
        assert sent == [0]
        bench.peer.window(exchange, DATA_OVERHEAD)  # not even one byte can go
        await bench.settled()
        assert exchange.recv_left == DATA_OVERHEAD
        bench.peer.window(exchange, 1)
        await bench.until(lambda: exchange.recv_left == 0)
        bench.peer.window(exchange, WINDOW)
        await bench.until(lambda: len(exchange.messages) >= 2)
        await bench.turns()
        assert sent == [0, 1]
        bench.peer.window(exchange, WINDOW)
        await bench.until(lambda: exchange.done)
        assert exchange.messages == [b"x" * 50000] * 3
        assert exchange.closed == (1000, "")

    serve_websockets(echo, test, auto_credit=False)


def test_credit_an_empty_message_costs_as_well() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            await send(binary(b"x" * (16384 - DATA_OVERHEAD)))
            for _ in range(3072):
                await send(binary(b""))
            await send(text(""))

        bench.service.app = app
        exchange = await opened(bench)
        await bench.until(lambda: exchange.recv_left == 0)
        await bench.settled()
        assert len(exchange.messages) == 3073
        bench.peer.window(exchange, DATA_OVERHEAD)
        await bench.until(lambda: exchange.done)
        assert exchange.messages[3073:] == [""]

    serve_websockets(echo, test, auto_credit=False)


def test_credit_is_given_back_as_messages_are_taken() -> None:
    async def test(bench: Bench) -> None:
        take = asyncio.Semaphore(0)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            while True:
                await take.acquire()
                if (await receive())["type"] == "websocket.disconnect":
                    return

        bench.service.app = app
        exchange = await opened(bench)
        for _ in range(4):
            bench.peer.message(exchange, b"x" * (16384 - DATA_OVERHEAD))
        assert exchange.send_credit == 0
        await bench.settled()
        assert exchange.frames[1:] == []  # nobody asked: no more than the window is held
        take.release()  # the sender is at zero: it gets back what there is
        await bench.until(lambda: exchange.granted == 16384)
        take.release()
        await bench.settled()
        assert exchange.granted == 16384
        take.release()
        await bench.until(lambda: exchange.granted == 3 * 16384)
        assert len([f for f in exchange.frames if f.kind == FRAME_WINDOW]) == 2
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        take.release()
        take.release()
        await bench.until(lambda: exchange.done)

    serve_websockets(echo, test)


def test_credit_for_an_unfinished_message_only_while_the_application_waits() -> None:
    async def test(bench: Bench) -> None:
        tasks: list[asyncio.Task[Any]] = []
        wanted = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            tasks.append(asyncio.ensure_future(receive()))
            await wanted.wait()
            await send(binary((await receive())["bytes"]))

        bench.service.app = app
        exchange = await opened(bench)
        bench.peer.message(exchange, b"1" * 40000, more=True)
        await bench.until(lambda: exchange.granted == 40000 + DATA_OVERHEAD)
        tasks[0].cancel()  # nobody waits any more
        await bench.turns()
        for digit in b"2", b"3":
            bench.peer.message(exchange, digit * (32768 - DATA_OVERHEAD), more=True)
        await bench.settled()
        assert exchange.send_credit == 0
        assert exchange.granted == 40000 + DATA_OVERHEAD
        wanted.set()
        await bench.until(lambda: exchange.send_credit == WINDOW)
        bench.peer.message(exchange, b"4")
        await bench.until(lambda: exchange.done)
        rest = 32768 - DATA_OVERHEAD
        assert exchange.messages == [b"1" * 40000 + b"2" * rest + b"3" * rest + b"4"]

    serve_websockets(echo, test)


def test_messages_of_two_tasks_do_not_mix() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        sends = [send(text(name * 200_000)) for name in "abc"] + [send(text("d"))]
        await asyncio.gather(*sends)

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.messages == ["a" * 200_000, "b" * 200_000, "c" * 200_000, "d"]

    serve_websockets(app, test)


def test_a_cancelled_send_still_ends_its_message() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            begun = asyncio.ensure_future(send(text("a" * 100_000)))
            queued = asyncio.ensure_future(send(text("never")))
            await asyncio.sleep(0)
            for task in (begun, queued):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await send(text("b"))
            await send({"type": "websocket.close", "code": 3000})

        bench.service.app = app
        exchange = await opened(bench)
        await bench.until(lambda: exchange.recv_left == 0)
        assert exchange.messages == []
        bench.peer.window(exchange, WINDOW)
        await bench.until(lambda: exchange.done)
        assert exchange.messages == ["a" * 100_000, "b"]
        assert exchange.closed == (3000, "")

    serve_websockets(echo, test, auto_credit=False)


def test_return_inside_a_message_resets() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        task = asyncio.ensure_future(send(text("a" * 100_000)))
        await asyncio.sleep(0)
        task.cancel()

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.reset == ERROR_APP_INCOMPLETE
        assert exchange.frames[-1].flags == FLAG_DONE
        assert bench.log.texts() == [
            "the application returned before a message was sent to its end: WebSocket /"
        ]

    serve_websockets(app, test, auto_credit=False)
