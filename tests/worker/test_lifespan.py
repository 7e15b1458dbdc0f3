# SPDX-License-Identifier: MIT
"""docs/ASGI.md rule 28: lifespan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_worker.asgi.lifespan import Lifespan, LifespanFailed
from asgi_worker.config import LifespanMode
from harness import Records

AUTO, ON, OFF = LifespanMode.AUTO, LifespanMode.ON, LifespanMode.OFF
COMPLETE = {"type": "lifespan.startup.complete"}


def run(
    app: Any,
    mode: LifespanMode = AUTO,
    test: Callable[[Lifespan], Awaitable[Any]] | None = None,
    timeout: float = 10.0,
) -> tuple[Any, list[str]]:
    records = Records()
    logger = logging.Logger("lifespan-test")
    logger.addHandler(records)

    async def main() -> Any:
        lifespan = Lifespan(app, mode, logger)
        await lifespan.startup(timeout)
        return await test(lifespan) if test is not None else lifespan

    return asyncio.run(main()), records.texts()


async def good(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "lifespan"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert "extensions" not in scope
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["db"] = "open"
    await send(COMPLETE)
    assert await receive() == {"type": "lifespan.shutdown"}
    scope["state"]["db"] = "closed"
    await send({"type": "lifespan.shutdown.complete"})


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("Django can only handle ASGI/HTTP connections")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return


async def fails(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def exits(scope: Any, receive: Any, send: Any) -> None:
    raise SystemExit(3)


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await asyncio.sleep(3600)


@pytest.mark.parametrize("mode", [AUTO, ON])
def test_rule_28_startup_state_and_shutdown(mode: LifespanMode) -> None:
    async def test(lifespan: Lifespan) -> None:
        assert lifespan.supported
        assert lifespan.state == {"db": "open"}
        assert await lifespan.shutdown(10)
        assert lifespan.state == {"db": "closed"}

    _, texts = run(good, mode, test)
    assert texts == []


@pytest.mark.parametrize("app", [raises, returns])
def test_rule_28_auto_goes_on_without(app: Any) -> None:
    async def test(lifespan: Lifespan) -> None:
        assert not lifespan.supported
        assert lifespan.state == {}
        assert await lifespan.shutdown(10)

    _, texts = run(app, AUTO, test)
    assert len(texts) == 1
    assert "does not support lifespan" in texts[0]


@pytest.mark.parametrize("app", [raises, returns])
def test_rule_28_on_makes_it_fatal(app: Any) -> None:
    with pytest.raises(LifespanFailed) as info:
        run(app, ON)
    if app is raises:
        assert isinstance(info.value.__cause__, ValueError)


@pytest.mark.parametrize("mode", [AUTO, ON])
def test_rule_28_startup_failed_is_fatal_in_both(mode: LifespanMode) -> None:
    with pytest.raises(LifespanFailed, match="no database"):
        run(fails, mode)


@pytest.mark.parametrize("mode", [AUTO, ON])
def test_rule_28_exit_at_startup_is_fatal_in_both(mode: LifespanMode) -> None:
    with pytest.raises(LifespanFailed):
        run(exits, mode)


@pytest.mark.parametrize("mode", [AUTO, ON])
def test_rule_28_startup_timeout_is_fatal(mode: LifespanMode) -> None:
    with pytest.raises(LifespanFailed, match="longer than"):
        run(hangs, mode, timeout=0.02)


def test_rule_28_off_never_calls() -> None:
    called: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(1)

    async def test(lifespan: Lifespan) -> None:
        assert await lifespan.shutdown(10)

    run(app, OFF, test)
    assert called == []


def test_rule_28_shutdown_timeout_cancels() -> None:
    cancelled: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def test(lifespan: Lifespan) -> None:
        assert not await lifespan.shutdown(0.02)

    _, texts = run(app, AUTO, test)
    assert cancelled == [1]
    assert "longer than" in texts[0]


def test_rule_28_shutdown_failed_and_raising() -> None:
    async def failed(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "busy"})

    async def raising(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        raise ValueError("at shutdown")

    async def test(lifespan: Lifespan) -> bool:
        return await lifespan.shutdown(10)

    for app, text in ((failed, "busy"), (raising, "raised")):
        result, texts = run(app, AUTO, test)
        assert result is False
        assert text in texts[0]


def test_rule_28_third_receive_blocks() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        await receive()

    async def test(lifespan: Lifespan) -> None:
        assert await lifespan.shutdown(10)

    run(app, AUTO, test)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([COMPLETE, COMPLETE], RuntimeError),
        ([{"type": "lifespan.shutdown.complete"}], RuntimeError),
        ([{"type": "http.response.start"}], ValueError),
    ],
)
def test_messages_out_of_place(messages: list[Any], error: type[Exception]) -> None:
    errors: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            for message in messages:
                await send(message)
        except Exception as exc:
            errors.append(exc)
        await receive()

    async def test(lifespan: Lifespan) -> None:
        await asyncio.sleep(0)

    try:
        run(app, AUTO, test, timeout=0.05)
    except LifespanFailed:
        pass
    assert type(errors[0]) is error


def test_startup_and_shutdown_share_task_and_context() -> None:
    from contextvars import ContextVar

    variable: ContextVar[int] = ContextVar("variable")
    tasks: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        variable.set(7)
        tasks.append(asyncio.current_task())
        await send(COMPLETE)
        await receive()
        assert variable.get() == 7
        tasks.append(asyncio.current_task())
        await send({"type": "lifespan.shutdown.complete"})

    async def test(lifespan: Lifespan) -> None:
        assert await lifespan.shutdown(10)

    run(app, ON, test)
    assert tasks[0] is tasks[1]
