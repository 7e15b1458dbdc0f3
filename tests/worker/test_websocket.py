# SPDX-License-Identifier: MIT
"""docs/ASGI.md rules 22 to 24: the scope of a WebSocket, its handshake and its messages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_worker.asgi.wsgi import WsgiAdapter
from asgi_worker.protocol.constants import (
    DATA_OVERHEAD,
    ERROR_APP_INCOMPLETE,
    ERROR_CLIENT_GONE,
    ERROR_HEADER_INVALID,
    ERROR_OVERLOADED,
    FLAG_END_STREAM,
    FLAG_MORE,
    FRAME_DONE,
    FRAME_WS_MSG,
)
from harness import Bench, serve, wait
from peer import DEFAULT_FIELDS
from ws_bench import (
    ACCEPT,
    CLOSE,
    CONNECT,
    binary,
    disconnected,
    echo,
    opened,
    received,
    serve_websockets,
    text,
)

PROTOCOL = b"sec-websocket-protocol"


# The scope


def scope_of(**changes: Any) -> dict[str, Any]:
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send(CLOSE)

    async def test(bench: Bench) -> None:
        bench.service.state["pool"] = "the pool"
        exchange = bench.peer.websocket(**changes)
        await bench.until(lambda: exchange.done)

    serve_websockets(app, test)
    return scopes[0]


def test_rule_22_scope() -> None:
    scope = scope_of(path="/chat", query=b"room=1")
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"room=1",
        "root_path": "",
        "headers": DEFAULT_FIELDS,
        "client": ("127.0.0.1", 54321),
        "server": ("127.0.0.1", 8080),
        "subprotocols": [],
        "state": {"pool": "the pool"},
        "extensions": {"websocket.http.response": {}},
    }


@pytest.mark.parametrize("version", ["1.1", "2", "3"])
def test_rule_22_scope_over_tls(version: str) -> None:
    scope = scope_of(version=version, scheme="wss", tls=[0x0304, 0x1301, 0])
    assert (scope["http_version"], scope["scheme"]) == (version, "wss")
    assert scope["extensions"]["tls"]["tls_version"] == 0x0304
    assert "websocket.http.response" in scope["extensions"]


def test_rule_22_root_path_is_part_of_the_path() -> None:
    scope = scope_of(path="/chat", root_path="/api")
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == (
        "/api/chat", b"/api/chat", "/api",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "offered"),
    [
        ([], []),
        ([b"chat"], ["chat"]),
        ([b"chat, superchat"], ["chat", "superchat"]),
        ([b"chat", b"superchat,\tv2"], ["chat", "superchat", "v2"]),
        ([b",chat,,", b"", b" "], ["chat"]),
    ],
)
def test_rule_22_subprotocols_of_commas_and_repeats(
    values: list[bytes], offered: list[str]
) -> None:
    scope = scope_of(fields=[(b"host", b"a"), *((PROTOCOL, value) for value in values)])
    assert scope["subprotocols"] == offered
    assert [v for k, v in scope["headers"] if k == PROTOCOL] == values


# The handshake


def test_rule_22_connect_comes_first_and_nothing_is_accepted_by_itself() -> None:
    got: list[Any] = []

    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            got.append(await receive())
            await go.wait()
            await send(ACCEPT)

        bench.service.app = app
        exchange = bench.peer.websocket()
        await bench.settled()
        assert got == [CONNECT]
        assert exchange.frames == []
        go.set()
        await bench.until(lambda: exchange.done)
        assert exchange.accepted == (None, [])

    serve_websockets(echo, test)


def test_rule_22_connect_is_first_even_when_accept_was() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        got.append(await receive())
        got.append(await receive())

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        bench.peer.message(exchange, "hello")
        await bench.until(lambda: exchange.done)

    serve_websockets(app, test)
    assert got == [CONNECT, received("hello")]


def test_rule_22_close_before_accept_is_403_and_then_1006() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4001, "reason": "no"})
        got.append(await receive())
        got.append(await receive())

    async def test(bench: Bench) -> None:
        exchange = bench.peer.websocket()
        await bench.until(lambda: exchange.done)
        assert exchange.status == 403
        assert exchange.frames[0].flags == FLAG_END_STREAM
        assert [f.kind for f in exchange.frames[1:]] == [FRAME_DONE]
        assert bench.log.records == []

    serve_websockets(app, test)
    assert got == [disconnected(1006)] * 2


def test_rule_22_return_without_an_answer_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def test(bench: Bench) -> None:
        exchange = bench.peer.websocket()
        await bench.until(lambda: exchange.done)
        assert exchange.reset == ERROR_APP_INCOMPLETE
        assert bench.log.texts() == [
            "the application returned without accepting or closing: WebSocket /"
        ]

    serve_websockets(app, test)


def test_rule_22_client_gone_before_accept_is_1006_and_accept_raises() -> None:
    got: list[Any] = []

    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            got.append(await receive())
            await go.wait()
            with pytest.raises(OSError, match="disconnected"):
                await send(ACCEPT)
            with pytest.raises(OSError, match="disconnected"):
                await send(CLOSE)
            got.append(await receive())

        bench.service.app = app
        exchange = bench.peer.websocket()
        await bench.settled()
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.settled()
        go.set()
        await bench.until(lambda: exchange.done)
        assert [f.kind for f in exchange.frames] == [FRAME_DONE]

    serve_websockets(echo, test)
    assert got == [CONNECT, disconnected(1006)]


def test_rule_22_receive_before_accept_waits_and_gets_what_comes_after_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await send(ACCEPT)
        await send(text((await waiting)["text"]))

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        bench.peer.message(exchange, b"x" * 40000, more=True, text=True)
        await bench.until(lambda: exchange.granted == 40000 + DATA_OVERHEAD)
        bench.peer.message(exchange, "!")
        await bench.until(lambda: exchange.done)
        assert exchange.messages == ["x" * 40000 + "!"]

    serve_websockets(app, test)


def test_rule_22_without_the_feature_the_head_is_malformed() -> None:
    async def test(bench: Bench) -> None:
        exchange = bench.peer.websocket()
        await bench.until(lambda: exchange.done)
        assert exchange.reset == ERROR_HEADER_INVALID

    serve(echo, test)


def test_rule_22_counts_against_the_concurrency_and_is_on_the_progress_page() -> None:
    async def test(bench: Bench) -> None:
        first = await opened(bench)
        assert bench.page[0] == first.id
        second = bench.peer.websocket()
        await bench.until(lambda: second.done)
        assert second.refused == ERROR_OVERLOADED
        assert bench.page[0] == first.id
        bench.peer.close(first, 1000)
        await bench.until(lambda: first.done)
        third = await opened(bench)
        assert bench.page[0] == third.id

    serve_websockets(echo, test, max_concurrency=1)


def test_rule_22_wsgi_refuses() -> None:
    app = WsgiAdapter(lambda environ, start_response: [], 1)

    async def test(bench: Bench) -> None:
        exchange = bench.peer.websocket()
        await bench.until(lambda: exchange.done)
        assert exchange.status == 403
        assert bench.log.records == []

    serve_websockets(app, test)
    app.close()


# Accept


def refused_accept(message: dict[str, Any], **changes: Any) -> BaseException:
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(Exception) as info:
            await send({"type": "websocket.accept", **message})
        raised.append(info.value)
        await send(ACCEPT)  # it was not taken, so there can be another

    async def test(bench: Bench) -> None:
        await opened(bench, **changes)

    serve_websockets(app, test)
    return raised[0]


def test_rule_23_subprotocol_and_headers() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"X-Name", b" value "), (b"set-cookie", b"a=b"), (b"Transfer-Encoding", b"x")]
        await send({"type": "websocket.accept", "subprotocol": "v2", "headers": headers})

    async def test(bench: Bench) -> None:
        exchange = await opened(bench, fields=[(b"host", b"a"), (PROTOCOL, b"v1, v2")])
        assert exchange.accepted == ("v2", [(b"x-name", b"value"), (b"set-cookie", b"a=b")])

    serve_websockets(app, test)


def test_rule_23_subprotocol_that_was_not_offered() -> None:
    fields = [(b"host", b"a"), (PROTOCOL, b"v1")]
    exc = refused_accept({"subprotocol": "v2"}, fields=fields)
    assert isinstance(exc, ValueError)
    assert "'v2'" in str(exc)
    assert isinstance(refused_accept({"subprotocol": "V1"}, fields=fields), ValueError)
    assert isinstance(refused_accept({"subprotocol": "v1"}), ValueError)
    assert isinstance(refused_accept({"subprotocol": b"v1"}, fields=fields), TypeError)


@pytest.mark.parametrize(
    "name",
    [
        b"Sec-WebSocket-Protocol", b"sec-websocket-accept", b"Sec-WebSocket-Extensions",
        b"sec-websocket-version", b"Connection", b"Upgrade", b"Content-Length",
    ],
)  # fmt: skip
def test_rule_23_headers_of_the_handshake(name: bytes) -> None:
    exc = refused_accept({"headers": [(name, b"1")]})
    assert isinstance(exc, ValueError)
    assert name.decode().lower() in str(exc)


def test_rule_23_malformed_headers() -> None:
    assert isinstance(refused_accept({"headers": [(b"a", b"b\r\nc")]}), ValueError)
    assert isinstance(refused_accept({"headers": [(b"a b", b"c")]}), ValueError)
    assert isinstance(refused_accept({"headers": [("a", "c")]}), TypeError)
    assert isinstance(refused_accept({"headers": b"a: b"}), TypeError)
    assert isinstance(refused_accept({"headers": [(b"a", b"x" * 66000)]}), ValueError)


# Messages


@pytest.mark.parametrize("data", ["", b"", "text", b"bytes", "\u20ac\U0001f600", b"\xff\0"])
def test_rule_24_both_keys_and_echo(data: str | bytes) -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        got.append(await receive())
        await send({**got[0], "type": "websocket.send"})  # both keys, one of them None

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        bench.peer.message(exchange, data)
        await bench.until(lambda: exchange.done)
        assert exchange.messages == [data]

    serve_websockets(app, test)
    assert got == [received(data)]


def test_rule_24_fragments_come_as_one_message_split_inside_a_character() -> None:
    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        for byte in "\u20ac\U0001f600!".encode():
            bench.peer.message(exchange, bytes([byte]), more=True, text=True)
            await bench.settled()
        assert exchange.messages == []
        bench.peer.message(exchange, "")
        bench.peer.message(exchange, b"1", more=True)
        bench.peer.message(exchange, b"2")
        await bench.until(lambda: len(exchange.messages) == 2)
        assert exchange.messages == ["\u20ac\U0001f600!", b"12"]

    serve_websockets(echo, test)


def test_rule_24_messages_in_hand_come_without_a_turn_of_the_loop() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()
        got: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            await go.wait()
            for _ in range(3):
                coroutine = receive()
                with pytest.raises(StopIteration) as info:
                    coroutine.send(None)
                got.append(info.value.value)

        bench.service.app = app
        exchange = await opened(bench)
        for name in "abc":
            bench.peer.message(exchange, name)
        await bench.settled()
        go.set()
        await bench.until(lambda: exchange.done)
        assert got == [received(name) for name in "abc"]

    serve_websockets(echo, test)


def test_rule_24_a_cancelled_receive_loses_nothing() -> None:
    async def test(bench: Bench) -> None:
        got: list[Any] = []
        waiting = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            task = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            bench.peer.message(exchange, "one")
            await bench.flush()
            while not bench.session.streams[exchange.id].handler.messages:
                await asyncio.sleep(0)
            task.cancel()  # woken, not yet run
            with pytest.raises(asyncio.CancelledError):
                await task
            waiting.set()
            got.append(await receive())

        bench.service.app = app
        exchange = bench.peer.websocket()
        await bench.flush()
        await wait(waiting)
        await bench.until(lambda: exchange.done)
        assert got == [received("one")]
        assert exchange.granted == 0  # one small message: nothing is due

    serve_websockets(echo, test)


@pytest.mark.parametrize("size", [16384, 16385, 65520, 65536, 1 << 20, 5_000_001])
def test_rule_24_large_messages_out_in_pieces(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send(binary(data[:size]))
        await send(text("behind it"))

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.messages == [data[:size], "behind it"]
        pieces = [f for f in exchange.frames if f.kind == FRAME_WS_MSG][:-1]
        assert max(len(f.payload) for f in pieces) <= 16384
        assert [bool(f.flags & FLAG_MORE) for f in pieces] == [True] * (len(pieces) - 1) + [False]

    serve_websockets(app, test)


def test_rule_24_large_messages_in_with_no_more_than_a_window_at_a_time() -> None:
    size = 3_000_000

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        left = size
        while left:
            await bench.until(lambda: exchange.send_credit > DATA_OVERHEAD)
            piece = min(left, exchange.send_credit - DATA_OVERHEAD, 16384)
            left -= piece
            bench.peer.message(exchange, b"x" * piece, more=left > 0, text=True)
        await bench.until(lambda: exchange.messages)
        assert exchange.messages == ["x" * size]

    serve_websockets(echo, test, ws_max_message=size)


# What send() refuses


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "websocket.send"}, ValueError),
        ({"type": "websocket.send", "bytes": None, "text": None}, ValueError),
        ({"type": "websocket.send", "bytes": b"a", "text": "a"}, ValueError),
        ({"type": "websocket.send", "text": b"a"}, TypeError),
        ({"type": "websocket.send", "bytes": "a"}, TypeError),
        ({"type": "websocket.send", "text": "\ud800"}, ValueError),
        ({"type": "websocket.accept"}, RuntimeError),
        ({"type": "websocket.http.response.start", "status": 403}, RuntimeError),
        ({"type": "websocket.http.response.body"}, RuntimeError),
        ({"type": "http.response.start", "status": 200}, ValueError),
        ({"bytes": b"a"}, ValueError),
        ([], TypeError),
        ({"type": "websocket.close", "code": "1000"}, TypeError),
        ({"type": "websocket.close", "code": True}, TypeError),
        ({"type": "websocket.close", "reason": b"no"}, TypeError),
    ],
)
def test_rule_24_messages_that_are_refused(message: Any, error: type[Exception]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        with pytest.raises(error):
            await send(message)
        await send(text("still open"))

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.messages == ["still open"]
        assert exchange.closed == (1000, "")

    serve_websockets(app, test)


@pytest.mark.parametrize(
    "message", [text("early"), {"type": "websocket.http.response.body", "body": b"x"}]
)
def test_rule_24_messages_before_accept_are_refused(message: dict[str, Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(RuntimeError, match="before websocket"):
            await send(message)
        await send(ACCEPT)

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.closed == (1000, "")

    serve_websockets(app, test)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_rule_24_buffers_are_taken_as_they_are_at_send(kind: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        data = bytearray(b"a" * 50000)
        await send({"type": "websocket.send", "bytes": kind(data)})
        data[:] = b"b" * 50000

    async def test(bench: Bench) -> None:
        exchange = await opened(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.messages == [b"a" * 50000]

    serve_websockets(app, test)
