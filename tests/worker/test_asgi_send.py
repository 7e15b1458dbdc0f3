# SPDX-License-Identifier: MIT
"""asgi-contract rules 13 to 19: send()."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_worker.protocol.constants import (
    ERROR_APP_EXCEPTION,
    ERROR_APP_INCOMPLETE,
    ERROR_CLIENT_EOF,
    ERROR_CLIENT_GONE,
    FLAG_DONE,
    FLAG_END_STREAM,
    FRAME_DATA,
    FRAME_DONE,
    FRAME_RESPONSE,
)
from harness import Bench, serve, wait
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
        start(200, (b"Content-Type", b" text/html\t"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")),
        body(),
    )
    assert exchange.fields == [
        (b"content-type", b"text/html"), (b"set-cookie", b"a"), (b"set-cookie", b"b"),
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
    exchange = exchange_of({"type": "http.response.start", "status": 201}, {"type": "http.response.body"})
    assert (exchange.status, exchange.fields, exchange.body) == (201, [], b"")


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
    exchange = exchange_of(
        {"type": "http.response.early_hint", "links": [b"</a>"]}, START, body()
    )
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


# The end of the application (rules 20 and 21)


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
