# SPDX-License-Identifier: MIT
"""docs/ASGI.md rules 8 to 12: receive()."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from asgi_worker.protocol.constants import (
    DATA_OVERHEAD,
    ERROR_BODY_ABORTED,
    ERROR_CLIENT_EOF,
    ERROR_CLIENT_GONE,
    ERROR_DEADLINE,
    FRAME_WINDOW,
)
from harness import Bench, serve, wait
from peer import WINDOW

DISCONNECT = {"type": "http.disconnect"}


async def respond(send: Any, body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


class Reader:
    """An application that receives when it is told to."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.started = asyncio.Event()
        self.finish = asyncio.Event()
        self.got = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.started.set()
        while not self.messages or self.messages[-1] != DISCONNECT:
            task = asyncio.ensure_future(receive())
            stop = asyncio.ensure_future(self.finish.wait())
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not task.done():
                task.cancel()
                break
            self.messages.append(task.result())
            self.got.set()
        await respond(send)


def test_rule_08_first_message_of_a_bodyless_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await respond(send)

    async def test(bench: Bench) -> None:
        assert (await bench.request()).status == 200

    serve(app, test)


def test_rule_08_receive_blocks_after_the_body_until_disconnect() -> None:
    async def test(bench: Bench) -> None:
        app = bench.service.app = Reader()
        exchange = bench.peer.request()
        await bench.settled()
        assert len(app.messages) == 1  # no early http.disconnect on a GET without body
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)
        assert app.messages[1:] == [DISCONNECT]

    serve(Reader.__call__, test)


def test_rule_08_disconnect_when_the_response_is_complete_and_repeatable() -> None:
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await respond(send)
        messages.append(await waiting)
        for _ in range(3):
            messages.append(await receive())

    async def test(bench: Bench) -> None:
        await bench.request()

    serve(app, test)
    assert messages == [DISCONNECT] * 4


@pytest.mark.parametrize("how", ["gone", "eof", "deadline", "link"])
def test_rule_08_each_way_to_go_counts(how: str) -> None:
    async def test(bench: Bench) -> None:
        app = bench.service.app = Reader()
        exchange = bench.peer.request()
        await bench.settled()
        if how == "gone":
            bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        elif how == "eof":
            bench.peer.disconnect(exchange, ERROR_CLIENT_EOF)
        elif how == "deadline":
            bench.peer.reset(exchange, ERROR_DEADLINE)
        else:
            bench.link.close("gone")
        await bench.settled()
        assert app.messages[1:] == [DISCONNECT]
        if how == "eof":  # a half-closed client still gets its answer
            await bench.until(lambda: exchange.done)
            assert exchange.status == 200

    serve(Reader.__call__, test)


def test_rule_08_body_aborted_is_a_disconnect_and_the_response_goes_on() -> None:
    async def test(bench: Bench) -> None:
        app = bench.service.app = Reader()
        exchange = bench.peer.request(b"abc", end=False)
        await bench.settled()
        assert app.messages == [{"type": "http.request", "body": b"abc", "more_body": True}]
        bench.peer.reset(exchange, ERROR_BODY_ABORTED)
        await bench.until(lambda: exchange.done)
        assert app.messages[1:] == [DISCONNECT]
        assert exchange.status == 200

    serve(Reader.__call__, test)


def test_rule_08_queued_body_comes_before_the_disconnect() -> None:
    messages: list[Any] = []
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        messages.append(await receive())
        messages.append(await receive())

    async def test(bench: Bench) -> None:
        exchange = bench.peer.request(b"abc", end=False)
        bench.peer.data(exchange, b"def")
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.settled()
        go.set()
        await bench.until(lambda: exchange.done)

    serve(app, test)
    assert messages == [
        {"type": "http.request", "body": b"abcdef", "more_body": True},
        DISCONNECT,
    ]


def test_rule_09_queued_message_comes_without_a_turn_of_the_loop() -> None:
    steps: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # Driven by hand: a coroutine that does not suspend ends in its first send(None).
        coroutine = receive()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            steps.append(stop.value["type"])
        await respond(send)
        coroutine = receive()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            steps.append(stop.value["type"])

    async def test(bench: Bench) -> None:
        await bench.request(b"body")

    serve(app, test)
    assert steps == ["http.request", "http.disconnect"]


def test_rule_09_receive_in_a_cancelled_scope() -> None:
    """What Starlette's is_disconnected() does: cancel first, then receive()."""
    results: list[Any] = []

    async def poll(receive: Any) -> Any:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        return await receive()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await asyncio.create_task(poll(receive))
        except asyncio.CancelledError:
            results.append("nothing queued")
        results.append(await asyncio.create_task(poll_after(receive, send)))

    async def poll_after(receive: Any, send: Any) -> Any:
        await respond(send)
        return await receive()

    async def test(bench: Bench) -> None:
        await bench.request()

    serve(app, test)
    assert results == ["nothing queued", DISCONNECT]


def test_rule_10_cancellation_propagates() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            seen.append("cancelled")
        await respond(send)

    async def test(bench: Bench) -> None:
        assert (await bench.request()).status == 200

    serve(app, test)
    assert seen == ["cancelled"]


def test_rule_10_cancelled_receive_loses_no_chunk() -> None:
    async def test(bench: Bench) -> None:
        bodies: list[bytes] = []
        cancelled = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            bodies.append((await receive())["body"])
            first = asyncio.create_task(receive())
            await asyncio.sleep(0)
            # the chunk arrives and the cancellation comes in the same turn
            bench.session.streams[1].handler.on_data(b"two", False)
            first.cancel()
            try:
                await first
            except asyncio.CancelledError:
                cancelled.set()
            bodies.append((await receive())["body"])
            await respond(send)

        bench.service.app = app
        exchange = bench.peer.request(b"one", end=False)
        await bench.until(lambda: exchange.done)
        assert cancelled.is_set()
        assert bodies == [b"one", b"two"]

    serve(Reader.__call__, test)


def test_rule_10_wait_for_receive_with_a_timeout() -> None:
    bodies: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.001)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"go", "more_body": True})
        bodies.append((await receive())["body"])
        await send({"type": "http.response.body"})

    async def test(bench: Bench) -> None:
        exchange = bench.peer.request(b"one", end=False)
        await bench.until(lambda: exchange.body == b"go")
        bench.peer.data(exchange, b"two", end=True)
        await bench.until(lambda: exchange.done)

    serve(app, test)
    assert bodies == [b"one", b"two"]


def test_rule_11_receive_and_send_are_coroutine_functions() -> None:
    kinds: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kinds.append(inspect.iscoroutinefunction(receive))
        kinds.append(inspect.iscoroutinefunction(send))
        message = await asyncio.create_task(receive())
        assert message["type"] == "http.request"
        await asyncio.create_task(send({"type": "http.response.start", "status": 204}))
        await asyncio.create_task(send({"type": "http.response.body"}))

    async def test(bench: Bench) -> None:
        assert (await bench.request()).status == 204

    serve(app, test)
    assert kinds == [True, True]


def test_rule_12_chunks_are_bytes() -> None:
    bodies: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            bodies.append(message["body"])
            if not message["more_body"]:
                break
        await respond(send)

    async def test(bench: Bench) -> None:
        exchange = bench.peer.request(b"a" * 100, end=False)
        bench.peer.data(exchange, b"b" * 20000)
        bench.peer.data(exchange, b"", end=True)
        await bench.until(lambda: exchange.done)

    serve(app, test)
    assert all(type(body) is bytes for body in bodies)
    assert b"".join(bodies) == b"a" * 100 + b"b" * 20000


def test_several_receivers_all_get_the_disconnect() -> None:
    async def test(bench: Bench) -> None:
        results: list[Any] = []
        waiting = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            tasks = [asyncio.create_task(receive()) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()  # one of them goes: the others still wait
            waiting.set()
            results.extend(await asyncio.gather(*tasks, return_exceptions=True))

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.flush()
        await wait(waiting)
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)
        assert results[0] == results[2] == DISCONNECT
        assert isinstance(results[1], asyncio.CancelledError)

    serve(Reader.__call__, test)


# Credit of the request body


def test_no_credit_is_granted_for_a_body_nobody_asks_for() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            size = 0
            while True:
                message = await receive()
                size += len(message["body"])
                if not message["more_body"]:
                    break
            await respond(send, b"%d" % size)

        bench.service.app = app
        exchange = bench.peer.request(b"x" * 1000, end=False)
        while exchange.send_credit > DATA_OVERHEAD:
            size = min(16384, exchange.send_credit - DATA_OVERHEAD)
            bench.peer.data(exchange, b"y" * size)
        await bench.settled()
        assert exchange.granted == 0
        go.set()
        await bench.until(lambda: exchange.granted)
        assert exchange.granted == WINDOW - exchange.send_credit + exchange.granted
        bench.peer.data(exchange, b"z" * 10, end=True)
        await bench.until(lambda: exchange.done)

    serve(Reader.__call__, test)


def test_window_comes_at_half_a_window_not_per_chunk() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            while (await receive())["more_body"]:
                pass
            await respond(send)

        bench.service.app = app
        exchange = bench.peer.request(end=False)
        for _ in range(20):
            bench.peer.data(exchange, b"y" * 1000)
            await bench.settled()
        windows = [f for f in exchange.frames if f.kind == FRAME_WINDOW]
        assert windows == []
        for _ in range(15):
            bench.peer.data(exchange, b"y" * 1000)
            await bench.settled()
        await bench.until(lambda: exchange.granted)
        assert len([f for f in exchange.frames if f.kind == FRAME_WINDOW]) == 1
        assert exchange.granted >= WINDOW // 2
        bench.peer.data(exchange, b"", end=True)
        await bench.until(lambda: exchange.done)

    serve(Reader.__call__, test)


def test_large_upload_streams_through_the_window() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            size = 0
            while True:
                message = await receive()
                size += len(message["body"])
                if not message["more_body"]:
                    break
            await respond(send, b"%d" % size)

        bench.service.app = app
        total = 3_000_000
        left = total
        exchange = bench.peer.request(end=False)
        while left:
            room = min(left, 16384, exchange.send_credit - DATA_OVERHEAD)
            if room <= 0:
                await bench.flush()
                await bench.read()
                continue
            left -= room
            bench.peer.data(exchange, b"y" * room, end=not left)
        await bench.until(lambda: exchange.done)
        assert exchange.body == b"%d" % total

    serve(Reader.__call__, test)


def test_expect_grants_the_window_with_the_first_receive() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            message = await receive()
            await respond(send, message["body"])

        bench.service.app = app
        exchange = bench.peer.request(end=False, expect=True)
        await bench.settled()
        assert exchange.granted == 0
        go.set()
        await bench.until(lambda: exchange.granted)
        assert exchange.granted == WINDOW
        bench.peer.data(exchange, b"asked for", end=True)
        await bench.until(lambda: exchange.done)
        assert exchange.body == b"asked for"

    serve(Reader.__call__, test)


def test_expect_without_receive_grants_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 417})
        await send({"type": "http.response.body"})

    async def test(bench: Bench) -> None:
        exchange = await bench.request(end=False, expect=True)
        assert exchange.status == 417
        assert exchange.granted == 0

    serve(app, test)
