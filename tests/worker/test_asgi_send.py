# SPDX-License-Identifier: MIT
"""docs/ASGI.md rules 13 to 19: send()."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_worker.protocol.constants import (
    ERROR_APP_EXCEPTION,
    ERROR_APP_INCOMPLETE,
    ERROR_CLIENT_GONE,
    FLAG_DONE,
    FLAG_END_STREAM,
    FRAME_DATA,
    FRAME_RESPONSE,
)
from harness import Bench, serve
from peer import Exchange

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"a/b")]}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def exchange_of(*messages: dict[str, Any], **head: Any) -> Exchange:
    """Send messages from an application and return what the gateway got."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async def test(bench: Bench) -> Exchange:
        return await bench.request(**head)

    result = serve(app, test)
    assert isinstance(result, Exchange)
    return result


def error_of(*messages: dict[str, Any]) -> BaseException:
    """Return what the last of the messages raises; those before it must not."""
    errors: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except Exception as exc:
            errors.append(exc)

    async def test(bench: Bench) -> None:
        await bench.request()

    serve(app, test)
    assert errors, "send() did not raise"
    return errors[0]


# Framing


def test_rule_13_a_common_response_is_one_frame() -> None:
    exchange = exchange_of(START, body(b"hello"))
    assert [f.kind for f in exchange.frames] == [FRAME_RESPONSE]
    assert exchange.frames[0].flags == FLAG_END_STREAM | FLAG_DONE
    assert (exchange.status, exchange.body) == (200, b"hello")


def test_rule_13_start_and_first_body_merge_when_more_follows() -> None:
    exchange = exchange_of(START, body(b"one", True), body(b"two", True), body())
    assert [f.kind for f in exchange.frames] == [FRAME_RESPONSE, FRAME_DATA, FRAME_DATA]
    assert exchange.frames[0].payload.endswith(b"one")
    assert exchange.body == b"onetwo"
    assert exchange.frames[-1].flags == FLAG_END_STREAM | FLAG_DONE


def test_rule_13_a_lone_start_is_flushed_while_the_application_waits() -> None:
    async def test(bench: Bench) -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await go.wait()
            await send(body(b"later"))

        bench.service.app = app
        exchange = bench.peer.request()
        await bench.until(lambda: exchange.status)
        assert not exchange.ended
        go.set()
        await bench.until(lambda: exchange.done)
        assert exchange.body == b"later"

    serve(exchange_of, test)


def test_rule_13_a_lone_start_of_a_task_that_was_resumed() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await send(START)
        await receive()
        await receive()

    async def test(bench: Bench) -> None:
        exchange = bench.peer.request()
        await bench.until(lambda: exchange.status)
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)

    serve(app, test)


def test_rule_13_an_empty_chunk_is_no_frame() -> None:
    exchange = exchange_of(START, body(b"", True), body(b"x", True), body(b"", True), body())
    assert exchange.body == b"x"
    assert all(f.payload or f.flags & FLAG_END_STREAM for f in exchange.frames)


def test_rule_14_transfer_encoding_is_dropped_and_content_length_kept() -> None:
    exchange = exchange_of(
        start(200, (b"Transfer-Encoding", b"chunked"), (b"content-length", b"2")), body(b"ab")
    )
    assert exchange.fields == [(b"content-length", b"2")]


def test_rule_14_head_keeps_content_length_and_has_no_body() -> None:
    exchange = exchange_of(start(200, (b"content-length", b"5")), body(b"hello"), method="HEAD")
    assert exchange.fields == [(b"content-length", b"5")]
    assert exchange.body == b""
    assert exchange.done


@pytest.mark.parametrize(("status", "kept"), [(204, False), (205, False), (304, True)])
def test_rule_14_statuses_without_body(status: int, kept: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(status, (b"content-length", b"5"), (b"etag", b"x")))
        await send(body(b"hello"))

    async def test(bench: Bench) -> None:
        first = await bench.request()
        second = await bench.request()
        for exchange in (first, second):
            assert exchange.status == status
            assert exchange.body == b""
            assert exchange.header(b"etag") == b"x"
            assert (exchange.header(b"content-length") == b"5") == kept
        warnings = [t for t in bench.log.texts(logging.WARNING) if "dropped" in t]
        assert len(warnings) == 1  # said once

    serve(app, test)


def test_rule_15_longer_than_content_length_raises_and_nothing_of_it_goes_out() -> None:
    exchange = exchange_of(start(200, (b"content-length", b"3")), body(b"abcd"))
    assert exchange.status is None
    assert exchange.reset == ERROR_APP_EXCEPTION
    error = error_of(start(200, (b"content-length", b"3")), body(b"abc", True), body(b"d"))
    assert isinstance(error, RuntimeError)


def test_rule_15_shorter_than_content_length_is_aborted() -> None:
    exchange = exchange_of(start(200, (b"content-length", b"9")), body(b"abc", True), body(b"d"))
    assert exchange.reset == ERROR_APP_INCOMPLETE
    assert not any(f.flags & FLAG_END_STREAM for f in exchange.frames)
    assert exchange.done


def test_rule_15_swallowed_error_does_not_complete_the_response() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"content-length", b"3")))
        with pytest.raises(RuntimeError):
            await send(body(b"abcd"))

    async def test(bench: Bench) -> None:
        exchange = await bench.request()
        assert exchange.reset == ERROR_APP_INCOMPLETE

    serve(app, test)


def test_rule_16_names_are_lowered_and_values_trimmed() -> None:
    exchange = exchange_of(
        start(200, (b"Content-Type", b" a/b\t"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")),
        body(),
    )
    assert exchange.fields == [
        (b"content-type", b"a/b"), (b"set-cookie", b"a"), (b"set-cookie", b"b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nb: c"), (b"x", b"a\nb"), (b"x", b"\0"), (b"x", b"\x7f"), (b"x", b"\x1b[0m"),
        (b"x\r\n", b"a"), (b"x y", b"a"), (b"", b"a"), (b":status", b"200"), (b"x:", b"a"),
        (b"x\0", b"a"), (b"\xc3\xa4", b"a"),
    ],
)  # fmt: skip
def test_rule_16_control_bytes_and_bad_names_are_refused(header: tuple[bytes, bytes]) -> None:
    assert isinstance(error_of(start(200, header)), ValueError)


def test_rule_16_what_is_legal_passes() -> None:
    header = (b"X-_.~!#$%&'*+^`|9", b"\xc3\xa4 \t ~")
    exchange = exchange_of(start(200, header), body())
    assert exchange.fields == [(header[0].lower(), header[1])]


# Sequence


def test_rule_17_duplicate_start() -> None:
    assert isinstance(error_of(START, START), RuntimeError)
    assert isinstance(error_of(START, body(b"x", True), START), RuntimeError)


def test_rule_17_body_before_start() -> None:
    assert isinstance(error_of(body(b"x")), RuntimeError)


def test_rule_17_start_and_body_after_the_end() -> None:
    assert isinstance(error_of(START, body(), body(b"x")), RuntimeError)
    assert isinstance(error_of(START, body(), START), RuntimeError)


def test_rule_17_late_hints_and_trailers_are_ignored() -> None:
    exchange = exchange_of(
        START,
        body(b"x"),
        {"type": "http.response.early_hint", "links": [b"</a>"]},
        {"type": "http.response.trailers", "headers": [(b"a", b"b")]},
        extensions={"trailers": True, "early_hints": True},
    )
    assert exchange.body == b"x"
    assert exchange.done
    assert not exchange.informational
    assert exchange.trailers is None


def test_rule_17_extra_keys_are_no_error() -> None:
    exchange = exchange_of({**START, "x": 1}, {**body(b"y"), "z": 2})
    assert exchange.body == b"y"


def test_defaults_of_missing_keys() -> None:
    exchange = exchange_of(
        {"type": "http.response.start", "status": 201}, {"type": "http.response.body"}
    )
    assert (exchange.status, exchange.fields, exchange.body) == (201, [], b"")


# Exception classes


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (["no dict"], TypeError),
        ([{}], ValueError),
        ([{"type": "http.response.unknown"}], ValueError),
        ([{"type": "websocket.send"}], ValueError),
        ([{"type": "http.response.start"}], TypeError),
        ([{"type": "http.response.start", "status": "200"}], TypeError),
        ([{"type": "http.response.start", "status": True}], TypeError),
        ([start(99)], ValueError),
        ([start(103)], ValueError),
        ([start(1000)], ValueError),
        ([{"type": "http.response.start", "status": 200, "headers": b"x"}], TypeError),
        ([{"type": "http.response.start", "status": 200, "headers": "x"}], TypeError),
        ([{"type": "http.response.start", "status": 200, "headers": 5}], TypeError),
        ([{"type": "http.response.start", "status": 200, "headers": [b"abc"]}], ValueError),
        ([{"type": "http.response.start", "status": 200, "headers": [("a", b"b")]}], TypeError),
        ([{"type": "http.response.start", "status": 200, "headers": [(b"a", 1)]}], TypeError),
        ([start(200, (b"content-length", b"x"))], ValueError),
        ([start(200, (b"content-length", b"-1"))], ValueError),
        ([start(200, (b"content-length", b"1"), (b"content-length", b"2"))], ValueError),
        ([start(200, (b"x", b"y" * 70000))], ValueError),
        ([START, {"type": "http.response.body", "body": "text"}], TypeError),
        ([START, {"type": "http.response.body", "body": None}], TypeError),
        ([{"type": "http.response.early_hint", "links": b"x"}], TypeError),
        ([{"type": "http.response.informational", "status": 101}], ValueError),
        ([{"type": "http.response.informational", "status": "103"}], TypeError),
    ],
)
def test_rule_19_exception_classes(messages: Any, expected: type[Exception]) -> None:
    assert type(error_of(*messages)) is expected


def test_rule_19_a_refused_start_can_be_repeated_rightly() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(ValueError, match="control character"):
            await send(start(200, (b"x", b"\n")))
        await send(START)
        await send(body(b"ok"))

    async def test(bench: Bench) -> None:
        assert (await bench.request()).body == b"ok"

    serve(app, test)


def test_headers_may_be_lists_tuples_generators_and_bytes_like() -> None:
    for headers in (
        [[b"a", b"b"]],
        ((b"a", b"b"),),
        ([name, b"b"] for name in [b"a"]),
        [(bytearray(b"a"), memoryview(b"b"))],
    ):
        exchange = exchange_of(
            {"type": "http.response.start", "status": 200, "headers": headers}, body()
        )
        assert exchange.fields == [(b"a", b"b")]


def test_the_same_content_length_twice_is_said_once() -> None:
    field = (b"content-length", b"2")
    exchange = exchange_of(start(200, field, (b"a", b"b"), field), body(b"xy"))
    assert exchange.fields == [field, (b"a", b"b")]


def test_body_may_be_a_bytearray_or_memoryview_that_changes_later() -> None:
    data = bytearray(b"abc")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(memoryview(data), True))  # type: ignore[arg-type]
        data[:] = b"xyz"
        await send(body(data))  # type: ignore[arg-type]
        data[:] = b"..."

    async def test(bench: Bench) -> None:
        assert (await bench.request()).body == b"abcxyz"

    serve(app, test)


def test_status_may_be_an_enum() -> None:
    from http import HTTPStatus

    exchange = exchange_of({"type": "http.response.start", "status": HTTPStatus.CREATED}, body())
    assert exchange.status == 201
