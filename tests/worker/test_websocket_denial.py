# SPDX-License-Identifier: MIT
"""docs/ASGI.md rule 27: the response with which a WebSocket is denied."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_worker.protocol.constants import (
    DATA_OVERHEAD,
    ERROR_APP_EXCEPTION,
    ERROR_APP_INCOMPLETE,
    ERROR_CLIENT_GONE,
    FLAG_END_STREAM,
    FRAME_DATA,
    FRAME_DONE,
    FRAME_RESET,
    FRAME_RESPONSE,
)
from harness import Bench, wait
from ws_bench import (
    ACCEPT,
    CLOSE,
    disconnected,
    echo,
    serve_websockets,
    text,
)

DENY = "websocket.http.response.start"
DENY_BODY = "websocket.http.response.body"


def denial(messages: list[dict[str, Any]], **options: Any) -> Any:
    """What becomes of a response in these messages: the exchange and what receive() said."""
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in messages:
            await send(message)
        got.append(await receive())

    async def test(bench: Bench) -> Any:
        exchange = bench.peer.websocket(**options)
        await bench.until(lambda: exchange.done)
        return exchange

    exchange = serve_websockets(app, test)
    assert got == [disconnected(1006)]
    return exchange


def test_rule_27_denial_in_one_piece_is_one_frame() -> None:
    exchange = denial(
        [
            {"type": DENY, "status": 401, "headers": [(b"WWW-Authenticate", b"Basic")]},
            {"type": DENY_BODY, "body": b"who are you?"},
        ]
    )
    assert (exchange.status, exchange.body) == (401, b"who are you?")
    assert exchange.fields == [(b"www-authenticate", b"Basic")]
    assert [f.kind for f in exchange.frames] == [FRAME_RESPONSE, FRAME_DONE]
    assert exchange.frames[0].flags == FLAG_END_STREAM


def test_rule_27_denial_without_body_and_a_close_behind_it() -> None:
    exchange = denial([{"type": DENY, "status": 404}, {"type": DENY_BODY}, CLOSE])
    assert (exchange.status, exchange.body) == (404, b"")
    assert [f.kind for f in exchange.frames] == [FRAME_RESPONSE, FRAME_DONE]


def test_rule_27_streamed_denial_waits_for_credit() -> None:
    parts = [b"a" * 100_000, b"", b"b" * 100_000]
    exchange = denial(
        [
            {"type": DENY, "status": 500, "headers": [(b"content-length", b"200000")]},
            *({"type": DENY_BODY, "body": part, "more_body": True} for part in parts),
            {"type": DENY_BODY},
        ]
    )
    assert exchange.body == b"".join(parts)
    assert exchange.header(b"content-length") == b"200000"
    assert max(len(f.payload) for f in exchange.frames if f.kind == FRAME_DATA) <= 16384


def test_rule_27_denial_without_credit() -> None:
    """The head goes out, the body waits, the end of it as well."""

    async def test(bench: Bench) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": DENY, "status": 403})
            await send({"type": DENY_BODY, "body": b"x" * 65472, "more_body": True})
            await send({"type": DENY_BODY})

        bench.service.app = app
        exchange = bench.peer.websocket()
        await bench.until(lambda: exchange.recv_left == 0)
        await bench.settled()
        assert not exchange.ended
        bench.peer.window(exchange, DATA_OVERHEAD)
        await bench.until(lambda: exchange.done)
        assert len(exchange.body) == 65472

    serve_websockets(echo, test, auto_credit=False)


def test_rule_27_statuses_without_a_body() -> None:
    exchange = denial(
        [
            {"type": DENY, "status": 304, "headers": [(b"content-length", b"5")]},
            {"type": DENY_BODY, "body": b"hello"},
        ]
    )
    assert (exchange.status, exchange.body) == (304, b"")
    assert exchange.header(b"content-length") == b"5"


@pytest.mark.parametrize(
    ("message", "error", "version"),
    [
        ({"type": DENY}, TypeError, "1.1"),
        ({"type": DENY, "status": "403"}, TypeError, "1.1"),
        ({"type": DENY, "status": True}, TypeError, "1.1"),
        ({"type": DENY, "status": 101}, ValueError, "1.1"),
        ({"type": DENY, "status": 1000}, ValueError, "1.1"),
        ({"type": DENY, "status": 200}, ValueError, "2"),
        ({"type": DENY, "status": 204}, ValueError, "3"),
        ({"type": DENY, "status": 403, "headers": [(b"a", b"\n")]}, ValueError, "1.1"),
        ({"type": DENY, "status": 403, "headers": [(b"a", b"x" * 66000)]}, ValueError, "1.1"),
        ({"type": DENY_BODY, "body": b""}, RuntimeError, "1.1"),
    ],
)
def test_rule_27_what_is_no_denial(
    message: dict[str, Any], error: type[Exception], version: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(error):
            await send(message)
        await send(CLOSE)

    async def test(bench: Bench) -> None:
        exchange = bench.peer.websocket(version=version)
        await bench.until(lambda: exchange.done)
        assert exchange.status == 403

    serve_websockets(app, test)


def test_rule_27_denial_is_not_to_be_mixed_with_anything() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": DENY, "status": 403, "headers": [(b"content-length", b"3")]})
        for message in (ACCEPT, CLOSE, text("x"), {"type": DENY, "status": 403}):
            with pytest.raises(RuntimeError, match="after websocket"):
                await send(message)
        with pytest.raises(TypeError):
            await send({"type": DENY_BODY, "body": "abc"})
        with pytest.raises(RuntimeError, match="longer"):
            await send({"type": DENY_BODY, "body": b"abcd"})
        await send({"type": DENY_BODY, "body": b"abc"})
        with pytest.raises(OSError, match="closed"):
            await send({"type": DENY_BODY, "body": b"d"})

    async def test(bench: Bench) -> None:
        exchange = bench.peer.websocket()
        await bench.until(lambda: exchange.done)
        assert exchange.body == b"abc"

    serve_websockets(app, test)


@pytest.mark.parametrize("how", ["returns", "raises", "is short"])
def test_rule_27_denial_that_is_not_complete(how: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": DENY, "status": 403, "headers": [(b"content-length", b"9")]})
        await send({"type": DENY_BODY, "body": b"abc", "more_body": True})
        if how == "raises":
            raise LookupError
        if how == "is short":
            await send({"type": DENY_BODY})

    async def test(bench: Bench) -> None:
        exchange = bench.peer.websocket()
        await bench.until(lambda: exchange.done)
        code = ERROR_APP_INCOMPLETE if how == "returns" else ERROR_APP_EXCEPTION
        assert exchange.reset == code
        assert len(bench.log.texts(logging.ERROR)) == 1

    serve_websockets(app, test)


def test_rule_27_client_gone_inside_a_denial() -> None:
    async def test(bench: Bench) -> None:
        raised = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": DENY, "status": 403})
            with pytest.raises(OSError, match="disconnected"):
                await send({"type": DENY_BODY, "body": b"x" * 100_000})
            assert await receive() == disconnected(1006)
            raised.set()

        bench.service.app = app
        exchange = bench.peer.websocket()
        await bench.until(lambda: exchange.recv_left < DATA_OVERHEAD + 1)
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)
        await wait(raised)
        assert FRAME_RESET not in [f.kind for f in exchange.frames]

    serve_websockets(echo, test, auto_credit=False)
