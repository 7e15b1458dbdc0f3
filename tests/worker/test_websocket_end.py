# SPDX-License-Identifier: MIT
"""docs/ASGI.md rules 25 to 27: how a WebSocket ends, and how it is denied."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_worker.asgi.errors import ClientDisconnected
from asgi_worker.config import CancelPolicy
from asgi_worker.protocol.constants import (
    ERROR_APP_EXCEPTION,
    ERROR_CANCEL,
    ERROR_CLIENT_GONE,
    ERROR_DEADLINE,
    ERROR_DRAINING,
    ERROR_HEADER_INVALID,
    ERROR_INTERNAL,
    ERROR_OVERLOADED,
    ERROR_PROTOCOL,
    FLAG_DONE,
    FRAME_DONE,
    FRAME_WS_CLOSE,
)
from harness import Bench
from peer import WINDOW
from ws_bench import (
    ACCEPT,
    CLOSE,
    binary,
    disconnected,
    echo,
    opened,
    received,
    serve_websockets,
    text,
)

DENY = "websocket.http.response.start"


class Listener:
    """Accepts, and collects what comes until the end."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        while True:
            self.messages.append(await receive())
            if self.messages[-1]["type"] == "websocket.disconnect":
                break
        for message in (text("late"), CLOSE, ACCEPT, {"type": DENY, "status": 403}):
            with pytest.raises(OSError, match="disconnected"):
                await send(message)
        self.messages.append(await receive())  # as often as it is asked


# The end from the other side


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1000, "bye"), (1001, ""), (1005, ""), (1009, "too big"), (1012, ""),
     (4999, "\u20ac" * 41)],
)  # fmt: skip
def test_rule_25_close_code_and_reason_as_the_gateway_tells(code: int, reason: str) -> None:
    app = Listener()

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        bench.peer.close(exchange, code, reason)
        await bench.until(lambda: exchange.done)
        assert [f.kind for f in exchange.frames[1:]] == [FRAME_DONE]
        assert bench.log.records == []

    serve_websockets(app, test)
    assert app.messages == [disconnected(code, reason)] * 2


def test_rule_25_client_gone_after_accept_is_1005() -> None:
    app = Listener()

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)

    serve_websockets(app, test)
    assert app.messages == [disconnected(1005)] * 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(ERROR_DRAINING, 1001), (ERROR_PROTOCOL, 1011), (ERROR_INTERNAL, 1011),
     (ERROR_OVERLOADED, 1011), (ERROR_CANCEL, 1005), (ERROR_DEADLINE, 1005)],
)  # fmt: skip
def test_rule_25_reset_after_accept(error: int, code: int) -> None:
    app = Listener()

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        bench.peer.reset(exchange, error)
        await bench.until(lambda: exchange.done)

    serve_websockets(app, test)
    assert app.messages == [disconnected(code)] * 2


def test_rule_25_reset_before_accept_is_1006() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        got.append(await receive())

    async def test(bench: Bench) -> None:
        exchange = bench.peer.websocket()
        await bench.settled()
        bench.peer.reset(exchange, ERROR_DRAINING)
        await bench.until(lambda: exchange.done)

    serve_websockets(app, test)
    assert got == [disconnected(1006)]


def test_rule_25_the_end_of_the_link_is_the_end() -> None:
    async def test(bench: Bench) -> None:
        app = bench.service.app = Listener()
        await opened(bench)
        bench.link.close("lost")
        await bench.turns()
        assert app.messages == [disconnected(1005)] * 2
        assert not bench.service.active

    serve_websockets(echo, test)


@pytest.mark.parametrize("how", ["close", "disconnect"])
def test_rule_26_queued_messages_come_before_the_end(how: str) -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()
        listener = Listener()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def late() -> Any:
                if send_count:
                    await go.wait()
                send_count.append(1)
                return await receive()

            send_count: list[int] = []
            await listener(scope, late, send)

        bench.service.app = app
        exchange = await opened(bench)
        bench.peer.message(exchange, "one")
        bench.peer.message(exchange, b"two")
        bench.peer.message(exchange, b"never complete", more=True)
        if how == "close":
            bench.peer.close(exchange, 1000)
        else:
            bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.settled()
        go.set()
        await bench.until(lambda: exchange.done)
        code = 1000 if how == "close" else 1005
        end = disconnected(code)
        assert listener.messages == [received("one"), received(b"two"), end, end]

    serve_websockets(echo, test)


def test_rule_25_a_waiting_send_raises_when_the_client_goes() -> None:
    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            results = await asyncio.gather(
                send(binary(b"x" * 100_000)), send(text("b")), send(CLOSE), return_exceptions=True
            )
            assert [type(result) for result in results] == [ClientDisconnected] * 3
            raise results[0]  # type: ignore[misc]

        bench.service.app = app
        exchange = await opened(bench)
        await bench.until(lambda: exchange.recv_left == 0)
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)
        assert exchange.reset is None
        assert bench.log.texts(logging.INFO) == []

    serve_websockets(echo, test, auto_credit=False)


def test_rule_25_messages_that_cross_our_close_are_dropped() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        got.append(await receive())
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        got.append(await receive())
        got.append(await receive())

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        bench.peer.message(exchange, b"begun", more=True)
        bench.peer.message(exchange, b"!")
        await bench.settled()
        bench.peer.message(exchange, b"a" * 60_000, more=True)
        await bench.until(lambda: exchange.done)
        assert exchange.closed == (4000, "enough")

    serve_websockets(app, test)
    assert got == [received(b"begun!"), disconnected(4000, "enough"), disconnected(4000, "enough")]


def test_rule_25_pieces_that_cross_our_close_may_be_of_another_kind() -> None:
    """What was dropped is not remembered: a text message may follow a dropped binary one."""

    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            await send(CLOSE)
            await go.wait()

        bench.service.app = app
        exchange = await opened(bench)
        bench.peer.message(exchange, b"a", more=True)
        bench.peer.message(exchange, b"b")
        bench.peer.message(exchange, "text")
        await bench.settled()
        assert bench.ends == []
        go.set()
        await bench.until(lambda: exchange.done)

    serve_websockets(echo, test)


# The application's end


def test_rule_25_return_without_close_is_1000() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send(text("bye"))

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.messages == ["bye"]
        assert exchange.closed == (1000, "")
        assert exchange.frames[-1].flags == FLAG_DONE  # one frame for both
        assert bench.log.records == []

    serve_websockets(app, test)


@pytest.mark.parametrize("accepts", [True, False])
def test_rule_25_an_exception_resets(accepts: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if accepts:
            await send(ACCEPT)
            await send(text("before it"))
        raise LookupError("the bug")

    async def test(bench: Bench) -> None:
        exchange = bench.peer.websocket(path="/chat")
        await bench.until(lambda: exchange.done)
        assert exchange.reset == ERROR_APP_EXCEPTION
        assert exchange.messages == (["before it"] if accepts else [])
        assert bench.log.texts() == ["exception in the application: WebSocket /chat"]
        info = bench.log.records[0].exc_info
        assert info is not None
        assert isinstance(info[1], LookupError)

    serve_websockets(app, test)


def test_rule_25_an_exception_after_the_end_is_logged_and_nothing_else() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send(CLOSE)
        raise LookupError("the bug")

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.closed == (1000, "")
        assert exchange.reset is None
        assert bench.log.texts() == ["exception in the application: WebSocket /"]

    serve_websockets(app, test)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
def test_rule_26_close_codes(code: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": code, "reason": "x" * 120 + "\u20ac"})
        for message in (text("late"), CLOSE, ACCEPT):
            with pytest.raises(OSError, match="closed by the application"):
                await send(message)

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.closed == (code, "x" * 120 + "\u20ac")

    serve_websockets(app, test)


@pytest.mark.parametrize("message", [CLOSE, {**CLOSE, "code": None, "reason": None}])
def test_rule_26_close_is_1000_without_reason(message: dict[str, Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send(message)

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.closed == (1000, "")

    serve_websockets(app, test)


@pytest.mark.parametrize(
    "fields",
    [*({"code": code} for code in (-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)),
     {"reason": "x" * 124}, {"reason": "\u20ac" * 42}, {"reason": "\ud800"}],
)  # fmt: skip
def test_rule_26_reserved_codes_and_long_reasons_are_errors(fields: dict[str, Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        with pytest.raises(ValueError):
            await send({"type": "websocket.close", **fields})
        await send(text("still open"))

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.messages == ["still open"]

    serve_websockets(app, test)


def test_rule_26_an_escaping_oserror_is_no_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send(CLOSE)
        await send(text("late"))

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert bench.log.texts(logging.INFO) == []

    serve_websockets(app, test)


# Cancellation


async def pusher(scope: Any, receive: Any, send: Any) -> None:
    """Only ever sends, and has nothing to send."""
    await receive()
    await send(ACCEPT)
    await asyncio.sleep(3600)


@pytest.mark.parametrize("policy", [CancelPolicy.STARTED, CancelPolicy.ALWAYS])
def test_rule_25_who_does_not_listen_is_cancelled_after_the_grace(policy: CancelPolicy) -> None:
    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)
        assert exchange.reset is None
        assert bench.log.records == []

    serve_websockets(pusher, test, disconnect_grace=0.01, cancel_on_disconnect=policy)


@pytest.mark.parametrize("policy", [CancelPolicy.STARTED, CancelPolicy.NEVER])
def test_rule_25_what_is_done_with_the_last_message_is_not_cut(policy: CancelPolicy) -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()
        got: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            got.append(await receive())
            await go.wait()
            got.append(await receive())

        bench.service.app = app
        exchange = await opened(bench)
        bench.peer.message(exchange, "work")
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.flush()
        await asyncio.sleep(0.05)  # many times the grace
        assert not exchange.done
        go.set()
        await bench.until(lambda: exchange.done)
        assert got == [received("work"), disconnected(1005)]

    serve_websockets(echo, test, disconnect_grace=0.005, cancel_on_disconnect=policy)


def test_rule_25_cancel_always_cuts_a_listener_and_what_is_not_accepted() -> None:
    async def test(bench: Bench) -> None:
        for accepts in (True, False):

            async def app(scope: Any, receive: Any, send: Any, accepts: bool = accepts) -> None:
                await receive()
                if accepts:
                    await send(ACCEPT)
                    await receive()
                await asyncio.sleep(3600)

            bench.service.app = app
            exchange = bench.peer.websocket()
            await bench.settled()
            bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
            await bench.until(lambda exchange=exchange: exchange.done)

    serve_websockets(echo, test, disconnect_grace=0.01, cancel_on_disconnect=CancelPolicy.ALWAYS)


# The drain of a worker


def test_drain_deadline_closes_with_1012_and_tells_the_application() -> None:
    async def test(bench: Bench) -> None:
        got: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            got.append(await receive())
            with pytest.raises(OSError, match="closed"):
                await send(text("late"))

        bench.service.app = app
        exchange = await opened(bench)
        for cycle in list(bench.service.active):
            cycle.disconnect()
            cycle.disconnect()
        await bench.until(lambda: exchange.done)
        assert exchange.closed == (1012, "")
        assert got == [disconnected(1012)]

    serve_websockets(echo, test)


def test_drain_deadline_before_accept_and_inside_a_message() -> None:
    async def test(bench: Bench) -> None:
        got: list[Any] = []

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            got.append(await receive())

        async def sends(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            with pytest.raises(OSError, match="closed"):
                await send(binary(b"x" * 100_000))
            got.append(await receive())

        for app in (waits, sends):
            bench.service.app = app
            exchange = bench.peer.websocket()
            await bench.settled()
            for cycle in list(bench.service.active):
                cycle.disconnect()
            await bench.until(lambda exchange=exchange: exchange.done)
            assert exchange.reset == ERROR_DRAINING
        assert got == [disconnected(1006), disconnected(1012)]

    serve_websockets(echo, test, auto_credit=False)


def test_drain_cancels_what_is_still_there() -> None:
    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        for cycle in list(bench.service.active):
            cycle.cancel()
        await bench.until(lambda: exchange.done)
        assert exchange.reset == ERROR_DRAINING  # the gateway closes with 1012

    serve_websockets(pusher, test)


def test_malformed_accept_reported_by_the_gateway() -> None:
    """RESET(HEADER_INVALID) is the gateway's answer to a WS_ACCEPT that it cannot use."""
    app = Listener()

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        bench.peer.reset(exchange, ERROR_HEADER_INVALID)
        await bench.until(lambda: exchange.done)
        assert FRAME_WS_CLOSE not in [f.kind for f in exchange.frames]
        assert exchange.recv_left == WINDOW

    serve_websockets(app, test)
    assert app.messages[0] == disconnected(1005)
