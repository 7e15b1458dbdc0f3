# SPDX-License-Identifier: MIT
"""docs/ASGI.md rules 20 and 21: how an application ends, and when it is cancelled."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_worker.protocol.constants import (
    ERROR_APP_EXCEPTION,
    ERROR_APP_INCOMPLETE,
    ERROR_CANCEL,
    ERROR_CLIENT_EOF,
    ERROR_CLIENT_GONE,
    FLAG_END_STREAM,
    FRAME_DONE,
)
from harness import Bench, serve, wait
from test_asgi_send import START, body, exchange_of


def failing(*messages: dict[str, Any], error: BaseException | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        raise error if error is not None else ValueError("on purpose")

    async def test(bench: Bench) -> Any:
        exchange = await bench.request()
        return exchange, bench.log.records

    return serve(app, test)


def test_rule_20_exception_before_the_start() -> None:
    exchange, records = failing()
    assert (exchange.status, exchange.reset) == (None, ERROR_APP_EXCEPTION)
    assert len(exchange.frames) == 1  # RESET with DONE: the gateway answers 500
    assert records[0].exc_info is not None
    assert records[0].exc_info[0] is ValueError


def test_rule_20_exception_inside_the_body_aborts() -> None:
    exchange, records = failing(START, body(b"x" * 100, True))
    assert (exchange.status, exchange.reset) == (200, ERROR_APP_EXCEPTION)
    assert not any(f.flags & FLAG_END_STREAM for f in exchange.frames)
    assert len(records) == 1


def test_rule_20_exception_after_a_complete_response() -> None:
    exchange, records = failing(START, body(b"whole"))
    assert (exchange.status, exchange.body, exchange.reset) == (200, b"whole", None)
    assert exchange.done
    assert len(records) == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_rule_20_other_escapes_cost_one_request_only(error: BaseException) -> None:
    exchange, records = failing(error=error)
    assert exchange.reset == ERROR_APP_EXCEPTION
    assert len(records) == 1


def test_rule_20_return_without_a_response() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    async def test(bench: Bench) -> None:
        exchange = await bench.request()
        assert exchange.reset == ERROR_APP_INCOMPLETE
        assert "without a response" in bench.log.texts(logging.ERROR)[0]

    serve(app, test)


def test_rule_20_return_inside_the_body_aborts() -> None:
    exchange = exchange_of(START, body(b"half", True))
    assert exchange.reset == ERROR_APP_INCOMPLETE
    assert exchange.done


def test_rule_20_a_returned_value_is_logged_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> Any:
        await send(START)
        await send(body(b"x"))
        return 5

    async def test(bench: Bench) -> None:
        for _ in range(3):
            assert (await bench.request()).body == b"x"
        assert len(bench.log.texts(logging.WARNING)) == 1

    serve(app, test)


def test_rule_20_background_work_keeps_the_slot_but_not_the_client() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(body(b"done"))
            await go.wait()

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.until(lambda: exchange.ended)
        assert exchange.body == b"done"
        assert not exchange.done
        assert len(bench.service.active) == 1
        # the client goes away now: background work is nobody's to cancel
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.settled()
        go.set()
        await bench.until(lambda: exchange.done)
        assert exchange.frames[-1].kind == FRAME_DONE
        assert not bench.service.active

    serve(exchange_of, test, disconnect_grace=0.0)


def test_rule_21_cancelled_after_the_grace_once_started() -> None:
    async def test(bench: Bench) -> None:
        cancelled = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(body(b"data", True))
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.until(lambda: exchange.body)
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.flush()
        await wait(cancelled)
        await bench.until(lambda: exchange.done)
        assert bench.log.texts(logging.INFO) == []

    serve(exchange_of, test, disconnect_grace=0.01)


def test_rule_21_not_cancelled_before_the_start() -> None:
    async def test(bench: Bench) -> None:
        steps: list[str] = []
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            steps.append("paid")
            try:
                await send(START)
            except OSError:
                steps.append("oserror")

        bench.service.app = app
        exchange = bench.peer.request(method="POST", path="/pay")
        await bench.settled()
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.settled()
        await asyncio.sleep(0.05)  # many times the grace
        assert not exchange.done
        go.set()
        await bench.until(lambda: exchange.done)
        assert steps == ["paid", "oserror"]

    serve(exchange_of, test, disconnect_grace=0.001)


@pytest.mark.parametrize(("policy", "started", "cancels"), [
    ("always", False, True), ("always", True, True), ("never", True, False),
])  # fmt: skip
def test_rule_21_policies(policy: str, started: bool, cancels: bool) -> None:
    from asgi_worker.config import CancelPolicy

    async def test(bench: Bench) -> None:
        cancelled = asyncio.Event()
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if started:
                await send(START)
            try:
                await go.wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.settled()
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.flush()
        if cancels:
            await wait(cancelled)
        else:
            await bench.turns()
            await asyncio.sleep(0.05)
            assert not cancelled.is_set()
            go.set()
        await bench.until(lambda: exchange.done)

    serve(exchange_of, test, disconnect_grace=0.001, cancel_on_disconnect=CancelPolicy(policy))


def test_current_task_and_timeouts_work_in_the_first_step() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert asyncio.current_task() is not None
        async with asyncio.timeout(5):
            await send(START)
        async with asyncio.TaskGroup() as group:
            group.create_task(send(body(b"ok")))

    async def test(bench: Bench) -> None:
        assert (await bench.request()).body == b"ok"

    serve(app, test)


def test_each_request_has_a_context_of_its_own() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set(scope["path"])
        await asyncio.sleep(0)
        seen.append(variable.get())
        await send(START)
        await send(body())

    async def test(bench: Bench) -> None:
        await bench.request(path="/a")
        await bench.request(path="/b")

    serve(app, test)
    assert seen == ["unset", "/a", "unset", "/b"]


# A half-closed client: closed altogether looks the same until something is written


@pytest.mark.parametrize("when", ["after the start", "before the start"])
def test_rule_21_silent_response_to_a_half_closed_client_is_cancelled(when: str) -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()
        cancelled = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if when == "before the start":
                await go.wait()
            await send(START)
            await send(body(b"data", True))
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.settled()
        bench.peer.disconnect(exchange, ERROR_CLIENT_EOF)
        await bench.settled()
        go.set()
        await wait(cancelled)
        await bench.until(lambda: exchange.done)
        assert (exchange.status, exchange.body) == (200, b"data")
        assert exchange.reset == ERROR_CANCEL
        assert bench.log.texts(logging.ERROR) == []

    serve(exchange_of, test, disconnect_grace=0.01)


def test_rule_21_half_closed_client_gets_a_response_that_goes_on() -> None:
    """Many graces long: messages come, then the client has yet to read."""

    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            for _ in range(20):
                await asyncio.sleep(0.02)
                await send(body(b"x" * 10, True))
            await send(body(b"y" * 100_000))  # more than the window

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.settled()
        bench.peer.disconnect(exchange, ERROR_CLIENT_EOF)
        await bench.until(lambda: len(exchange.body) > 60_000)
        await asyncio.sleep(0.5)
        assert exchange.reset is None
        bench.peer.window(exchange, 60_000)
        await bench.until(lambda: exchange.done)
        assert exchange.body == b"x" * 200 + b"y" * 100_000

    serve(exchange_of, test, auto_credit=False, disconnect_grace=0.2)


def test_rule_21_half_closed_then_gone_is_cancelled_once() -> None:
    async def test(bench: Bench) -> None:
        cancels: list[int] = []
        cancelled = asyncio.Event()
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            for _ in range(2):
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    cancels.append(1)
                    cancelled.set()

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.until(lambda: exchange.status)  # before the start it would run to its end
        bench.peer.disconnect(exchange, ERROR_CLIENT_EOF)
        await bench.flush()
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        exchange.gone = True
        await bench.flush()
        await wait(cancelled)
        await asyncio.sleep(0.05)  # many times the grace
        assert cancels == [1]
        go.set()
        await bench.until(lambda: exchange.done)

    serve(exchange_of, test, disconnect_grace=0.005)
