# SPDX-License-Identifier: MIT
"""send(): a client that is gone (rule 18), credit, informational responses, trailers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_worker.protocol.constants import (
    ERROR_APP_INCOMPLETE,
    ERROR_CLIENT_EOF,
    ERROR_CLIENT_GONE,
    FLAG_DONE,
    FLAG_END_STREAM,
    FRAME_DATA,
)
from harness import Bench, serve
from test_asgi_send import START, body, error_of, exchange_of, start

# After the client is gone


@pytest.mark.parametrize("phase", ["before start", "after start", "in body", "waiting for credit"])
def test_rule_18_send_raises_oserror_when_the_client_is_gone(phase: str) -> None:
    async def test(bench: Bench) -> None:
        errors: list[BaseException] = []
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if phase != "before start":
                await send(START)
            if phase == "in body":
                await send(body(b"x", True))
            if phase != "waiting for credit":
                await go.wait()
            try:
                if phase == "before start":
                    await send(START)
                else:
                    while True:
                        await send(body(b"x" * 1000, True))
            except OSError as exc:
                errors.append(exc)
                raise

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.settled()
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.settled()
        go.set()
        exchange.gone = True
        await bench.until(lambda: exchange.done)
        assert len(errors) == 1
        assert exchange.reset is None
        assert bench.log.texts(logging.INFO) == []  # it escaped, and that is no error

    serve(exchange_of, test, auto_credit=False)


def test_rule_18_escaping_in_an_exception_group_is_no_error() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await go.wait()
            async with asyncio.TaskGroup() as group:
                group.create_task(send(body(b"x")))

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.settled()
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.settled()
        go.set()
        await bench.until(lambda: exchange.done)
        assert bench.log.texts(logging.INFO) == []

    serve(exchange_of, test)


def test_rule_18_a_framework_exception_made_of_it_is_no_error_but_others_are() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        class FrameworkDisconnect(Exception):
            pass

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await go.wait()
            try:
                await send(body(b"x"))
            except OSError:
                if scope["path"] == "/framework":
                    raise FrameworkDisconnect from None
            raise ValueError("a bug of its own")

        bench.service.app = app
        for path, logged in (("/framework", 0), ("/bug", 1)):
            go.clear()
            exchange = bench.peer.request(path=path)
            await bench.settled()
            bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
            await bench.settled()
            go.set()
            await bench.until(lambda: exchange.done)  # noqa: B023
            assert len(bench.log.texts(logging.ERROR)) == logged

    serve(exchange_of, test)


def test_rule_18_half_closed_client_still_gets_what_is_sent() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await go.wait()
            assert (await receive())["type"] == "http.disconnect"
            await send(START)
            await send(body(b"answer"))

        bench.service.app = app
        exchange = bench.peer.request()
        bench.peer.disconnect(exchange, ERROR_CLIENT_EOF)
        await bench.settled()
        go.set()
        await bench.until(lambda: exchange.done)
        assert exchange.body == b"answer"

    serve(exchange_of, test)


# Large bodies and credit


@pytest.mark.parametrize("size", [16383, 16384, 16385, 65519, 65520, 65521, 65536, 1_000_000])
def test_body_of_any_size_arrives_whole(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    exchange = exchange_of(START, body(data[:size]))
    assert exchange.body == data[:size]
    assert exchange.done
    assert exchange.frames[-1].flags == FLAG_END_STREAM | FLAG_DONE


def test_send_waits_without_credit_and_other_requests_go_on() -> None:
    async def test(bench: Bench) -> None:
        sent: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            if scope["path"] == "/big":
                for i in range(100):
                    await send(body(b"x" * 10000, True))
                    sent.append(i)
            await send(body(b"end"))

        bench.service.app = app
        big = bench.peer.request(path="/big")
        await bench.until(lambda: big.recv_left < 17)
        assert len(sent) < 7  # a window's worth, then it waits
        for _ in range(10):
            small = await bench.request(path="/small")
            assert small.body == b"end"
        before = len(big.body)
        await bench.settled()
        assert len(big.body) == before
        bench.peer.auto_credit = True
        bench.peer.window(big, 65536 - big.recv_left)
        big.consumed = 0
        await bench.until(lambda: big.done)
        assert len(big.body) == 1_000_003

    serve(exchange_of, test, auto_credit=False)


def test_a_sender_splits_rather_than_waits() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(body(b"x" * 200_000))

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.until(lambda: exchange.recv_left < 17)
        bench.peer.window(exchange, 17 - exchange.recv_left)
        before = len(exchange.body)
        await bench.until(lambda: len(exchange.body) > before)
        assert len(exchange.body) == before + 1  # credit for one byte: one byte goes
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)

    serve(exchange_of, test, auto_credit=False)


def test_the_end_waits_for_credit_too() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(body(b"x" * (65536 - 4 * 16), True))  # four slices: the whole window
            await send(body())

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.until(lambda: exchange.recv_left == 0)
        await bench.settled()
        assert not exchange.ended
        bench.peer.window(exchange, 16)
        await bench.until(lambda: exchange.done)
        assert exchange.frames[-1].kind == FRAME_DATA

    serve(exchange_of, test, auto_credit=False)


def test_cancelled_send_leaves_an_incomplete_response_that_is_reset() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(send(body(b"x" * 200_000)), 0.01)

        bench.service.app = app
        exchange = await bench.request()
        assert exchange.reset == ERROR_APP_INCOMPLETE

    serve(exchange_of, test, auto_credit=False)


# Informational responses and trailers


def test_early_hints_by_both_names() -> None:
    exchange = exchange_of(
        {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>"]},
        {"type": "http.response.informational", "status": 103, "headers": [(b"Link", b"</c>")]},
        START,
        {"type": "http.response.early_hint", "links": [b"</late>"]},
        body(b"x"),
        extensions={"early_hints": True},
    )
    assert exchange.informational == [
        (103, [(b"link", b"</a.css>; rel=preload"), (b"link", b"</b.js>")]),
        (103, [(b"link", b"</c>")]),
        (103, [(b"link", b"</late>")]),
    ]
    assert exchange.body == b"x"


def test_early_hints_are_dropped_where_the_client_takes_none() -> None:
    exchange = exchange_of({"type": "http.response.early_hint", "links": [b"</a>"]}, START, body())
    assert exchange.informational == []
    assert exchange.status == 200


def test_at_most_eight_informational_responses() -> None:
    hint = {"type": "http.response.early_hint", "links": [b"</a>"]}
    exchange = exchange_of(*[hint] * 20, START, body(), extensions={"early_hints": True})
    assert len(exchange.informational) == 8
    assert exchange.done


def test_trailers() -> None:
    exchange = exchange_of(
        start(200, trailers=True),
        body(b"data", True),
        body(b"end"),
        {"type": "http.response.trailers", "headers": [(b"A", b"1")], "more_trailers": True},
        {"type": "http.response.trailers", "headers": [(b"b", b"2")]},
        extensions={"trailers": True},
    )
    assert exchange.body == b"dataend"
    assert exchange.trailers == [(b"a", b"1"), (b"b", b"2")]
    assert exchange.done


def test_trailers_by_a_trailer_field_as_intent() -> None:
    exchange = exchange_of(
        start(200, (b"trailer", b"x-sum")),
        body(b"data"),
        {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]},
        extensions={"trailers": True},
    )
    assert exchange.trailers == [(b"x-sum", b"1")]


def test_trailer_field_without_trailers_completes_at_the_return() -> None:
    exchange = exchange_of(
        start(200, (b"trailer", b"x-sum")), body(b"data"), extensions={"trailers": True}
    )
    assert exchange.reset is None
    assert (exchange.body, exchange.ended, exchange.done) == (b"data", True, True)


def test_trailers_for_a_client_that_takes_none_are_dropped() -> None:
    exchange = exchange_of(
        start(200, trailers=True),
        body(b"data"),
        {"type": "http.response.trailers", "headers": [(b"a", b"1")]},
    )
    assert exchange.trailers is None
    assert (exchange.reset, exchange.body, exchange.done) == (None, b"data", True)


def test_body_where_trailers_are_due() -> None:
    error = error_of(start(200, trailers=True), body(b"x"), body(b"y"))
    assert isinstance(error, RuntimeError)
