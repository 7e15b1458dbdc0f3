# SPDX-License-Identifier: MIT
"""pathsend and zerocopysend in the worker: what is judged, what goes out, what is waited for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgi_worker.asgi.files import Descriptor
from asgi_worker.protocol.codec import ResponseEncoder, with_content_length
from asgi_worker.protocol.constants import (
    ERROR_APP_EXCEPTION,
    ERROR_APP_INCOMPLETE,
    ERROR_CLIENT_GONE,
    ERROR_INTERNAL,
    ERROR_OVERLOADED,
    FRAME_DONE,
    FRAME_FILE,
    FRAME_FILE_DONE,
    FRAME_RESPONSE,
)
from asgi_worker.protocol.frames import frame
from harness import Bench
from harness import serve as serve_plain
from test_asgi_send import START, body, start

TEXT = b"0123456789"


def serve(app: Callable[..., Any], test: Callable[[Bench], Any]) -> Any:
    """Serve on a link that offers files."""
    return serve_plain(app, test, ack={"features": ["files"]})


def error_of(*messages: dict[str, Any]) -> tuple[Any, BaseException]:
    """Return the exchange, and what the last of the messages raises."""
    errors: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except Exception as exc:
            errors.append(exc)

    async def test(bench: Bench) -> Any:
        return await bench.request()

    exchange = serve(app, test)
    assert errors, "send() did not raise"
    return exchange, errors[0]


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    path = tmp_path / "ten"
    path.write_bytes(TEXT)
    return path


def pathsend(path: object) -> dict[str, object]:
    return {"type": "http.response.pathsend", "path": str(path)}


def zerocopy(file: object, **keys: object) -> dict[str, object]:
    return {"type": "http.response.zerocopysend", "file": file, **keys}


def app_of(*messages: dict[str, Any]) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def file_done(bench: Bench, stream: int, code: int = 0) -> None:
    bench.peer.raw(frame(FRAME_FILE_DONE, stream=stream, code=code))


async def passed(bench: Bench, **request: Any) -> Any:
    """The exchange of a request whose FILE has come."""
    exchange = bench.peer.request(**request)
    await bench.until(lambda: exchange.files)
    return exchange


# What goes out


def test_a_path_is_the_head_and_a_file_with_its_descriptor(ten: Path) -> None:
    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        assert [f.kind for f in exchange.frames] == [FRAME_RESPONSE, FRAME_FILE]
        assert exchange.files == [(0, 10)] and exchange.ended and not exchange.done
        assert exchange.header(b"content-length") == b"10"
        [number] = bench.descriptors
        assert os.pread(number, 100, 0) == TEXT
        await bench.settled()
        assert not exchange.done  # send() waits
        file_done(bench, 1)
        await bench.until(lambda: exchange.done)
        assert [f.kind for f in exchange.frames][2:] == [FRAME_DONE]

    serve(app_of(START, pathsend(ten)), test)


@pytest.mark.parametrize("declared", [None, 3, 10, 99])
def test_the_content_length_of_a_path_is_the_files(ten: Path, declared: int | None) -> None:
    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        lengths = [value for name, value in exchange.fields if name == b"content-length"]
        assert lengths == [b"10"]
        assert exchange.header(b"x-a") == b"b"

    fields = [(b"x-a", b"b")]
    if declared is not None:
        fields.append((b"Content-Length", b"%d" % declared))
    serve(app_of(start(200, *fields), pathsend(ten)), test)


def test_an_empty_file_needs_no_descriptor(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        exchange = await bench.request()
        assert exchange.header(b"content-length") == b"0" and exchange.body == b""
        assert exchange.files == [] and bench.descriptors == []

    (tmp_path / "empty").touch()
    serve(app_of(START, pathsend(tmp_path / "empty")), test)


@pytest.mark.parametrize("which", ["path", "file"])
def test_head_sends_no_file(ten: Path, which: str) -> None:
    async def test(bench: Bench) -> None:
        exchange = await bench.request(method="HEAD")
        assert exchange.status == 200 and exchange.files == [] and bench.descriptors == []
        assert exchange.header(b"content-length") == (b"10" if which == "path" else None)

    with ten.open("rb") as file:
        serve(app_of(START, pathsend(ten) if which == "path" else zerocopy(file)), test)


@pytest.mark.parametrize(
    ("keys", "read", "expected"),
    [
        ({}, 0, (0, 10)),
        ({}, 4, (4, 6)),
        ({"count": 3}, 4, (4, 3)),
        ({"offset": 2}, 4, (2, 8)),
        ({"offset": 2, "count": 5}, 4, (2, 5)),
        ({"offset": None, "count": None}, 4, (4, 6)),
    ],
)
def test_where_a_file_begins_and_ends(
    ten: Path, keys: dict[str, int], read: int, expected: tuple[int, int]
) -> None:
    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        assert exchange.files == [expected]
        assert buffered.tell() == read
        file_done(bench, 1)
        await bench.until(lambda: exchange.done)
        buffered.read()  # it is still the application's

    with ten.open("rb") as buffered:  # it has read ahead to the end
        buffered.read(read)
        serve(app_of(START, zerocopy(buffered, **keys)), test)


def test_a_bare_number_is_an_open_file_too(ten: Path) -> None:
    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        assert exchange.files == [(6, 4)]

    number = os.open(ten, os.O_RDONLY)
    os.lseek(number, 6, os.SEEK_SET)
    try:
        serve(app_of(START, zerocopy(number)), test)
    finally:
        os.close(number)


def test_text_and_files_take_turns(ten: Path) -> None:
    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        assert exchange.body == b"<" and not exchange.ended
        file_done(bench, 1)
        await bench.until(lambda: len(exchange.files) == 2)
        assert exchange.body == b"<|"
        file_done(bench, 1)
        await bench.until(lambda: exchange.done)
        assert exchange.body == b"<|>" and exchange.files == [(1, 2), (5, 1)]

    with ten.open("rb") as file:
        first = zerocopy(file, offset=1, count=2, more_body=True)
        second = zerocopy(file, offset=5, count=1, more_body=True)
        serve(app_of(START, body(b"<", True), first, body(b"|", True), second, body(b">")), test)


def test_another_task_waits_until_the_file_is_out(ten: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        async with asyncio.TaskGroup() as group:
            with ten.open("rb") as file:
                group.create_task(send(zerocopy(file, more_body=True)))
                await asyncio.sleep(0)
            group.create_task(send(body(b"behind")))

    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        await bench.settled()
        assert exchange.body == b""
        file_done(bench, 1)
        await bench.until(lambda: exchange.done)
        assert exchange.body == b"behind"

    serve(app, test)


# What is refused, before anything is sent


@pytest.mark.parametrize(
    ("name", "error", "status"),
    [
        ("none", FileNotFoundError, 404),
        ("ten/below", NotADirectoryError, 404),
        ("x" * 300, OSError, 404),
        ("folder", IsADirectoryError, 403),
        ("fifo", OSError, 403),
        ("loop", OSError, 403),
    ],
)
@pytest.mark.parametrize("caught", [True, False])
def test_a_path_that_cannot_be_sent(
    ten: Path, name: str, error: type[Exception], status: int, caught: bool
) -> None:
    seen: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            await send(pathsend(ten.parent / name))
        except OSError as exc:
            seen.append(exc)
            if not caught:
                raise
            await send(body(b"instead"))

    async def test(bench: Bench) -> None:
        exchange = await bench.request()
        assert isinstance(seen[0], error)
        assert exchange.status == (200 if caught else status)
        assert (exchange.body == b"instead") == caught
        assert exchange.reset is None

    (ten.parent / "folder").mkdir()
    os.mkfifo(ten.parent / "fifo")
    (ten.parent / "loop").symlink_to("loop")
    serve(app, test)


def test_a_path_that_cannot_be_sent_after_the_head_went_out(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await asyncio.sleep(0.01)
        await send(pathsend(tmp_path / "none"))

    async def test(bench: Bench) -> None:
        exchange = await bench.request()
        assert exchange.status == 200 and exchange.reset == ERROR_APP_EXCEPTION

    serve(app, test)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "http.response.pathsend"}, TypeError),
        ({"type": "http.response.pathsend", "path": b"/etc/passwd"}, TypeError),
        (pathsend("relative"), ValueError),
        ({"type": "http.response.zerocopysend"}, TypeError),
        (zerocopy("/etc/passwd"), TypeError),
        (zerocopy(True), TypeError),
        (zerocopy("FILE", offset="0"), TypeError),
        (zerocopy("FILE", count=1.5), TypeError),
        (zerocopy("FILE", offset=-1), ValueError),
        (zerocopy("FILE", offset=11), ValueError),
        (zerocopy("FILE", offset=5, count=6), ValueError),
        (zerocopy("PIPE"), ValueError),
    ],
)
def test_messages_that_are_wrong(
    ten: Path, message: dict[str, Any], error: type[Exception]
) -> None:
    ends = os.pipe()
    with ten.open("rb") as file:
        if message.get("file") in ("FILE", "PIPE"):
            message = {**message, "file": file if message["file"] == "FILE" else ends[0]}
        exchange, raised = error_of(START, message)
    for end in ends:
        os.close(end)
    assert type(raised) is error
    assert exchange.files == []


def test_files_before_the_start_and_behind_text(ten: Path) -> None:
    assert isinstance(error_of(pathsend(ten))[1], RuntimeError)
    assert isinstance(error_of(START, body(b"x", True), pathsend(ten))[1], RuntimeError)
    assert isinstance(error_of(START, body(b"x"), pathsend(ten))[1], RuntimeError)


def test_a_part_longer_than_the_content_length(ten: Path) -> None:
    with ten.open("rb") as file:
        exchange, raised = error_of(start(200, (b"content-length", b"9")), zerocopy(file))
    assert isinstance(raised, RuntimeError) and exchange.files == []


def test_a_part_shorter_than_the_content_length(ten: Path) -> None:
    with ten.open("rb") as file:
        head = start(200, (b"content-length", b"11"))
        exchange, raised = error_of(head, zerocopy(file))
    assert isinstance(raised, RuntimeError) and exchange.files == []
    assert exchange.reset == ERROR_APP_INCOMPLETE


# The end


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("more", [False, True])
def test_a_file_that_the_gateway_refuses_is_read_here(ten: Path, big: bool, more: bool) -> None:
    content = TEXT * (20000 if big else 1)
    ten.write_bytes(content)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with ten.open("rb") as file:
            await send(zerocopy(file, offset=1, more_body=more))
        if more:
            await send(body(b"end"))

    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        exchange.ended = False  # SPEC R110
        file_done(bench, 1, ERROR_OVERLOADED)
        await bench.until(lambda: exchange.done)
        assert exchange.body == content[1:] + (b"end" if more else b"") and exchange.reset is None

    serve(app, test)


def test_a_refused_file_that_was_made_shorter(ten: Path) -> None:
    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        exchange.ended = False
        os.truncate(ten, 4)
        file_done(bench, 1, ERROR_OVERLOADED)
        await bench.until(lambda: exchange.done)
        assert exchange.body == TEXT[:4] and exchange.reset == ERROR_INTERNAL

    serve(app_of(START, pathsend(ten)), test)


def test_the_client_goes_away_during_a_file(ten: Path) -> None:
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            await send(pathsend(ten))
        except OSError as exc:
            raised.append(exc)

    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)
        assert type(raised[0]).__name__ == "ClientDisconnected"

    serve(app, test)


def test_giving_up_leaves_the_file_to_the_gateway(ten: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await send(pathsend(ten))

    async def test(bench: Bench) -> None:
        exchange = await passed(bench)
        await bench.until(lambda: exchange.done)
        assert exchange.reset is None and exchange.ended

    serve(app, test)


def test_no_descriptor_is_left_open(ten: Path) -> None:
    async def test(bench: Bench) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(20):
            exchange = bench.peer.request()
            await bench.until(lambda e=exchange: e.files)
            if number % 2:
                file_done(bench, exchange.id)
            else:
                bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
            await bench.until(lambda e=exchange: e.done)
            os.close(bench.descriptors.pop())
        assert len(os.listdir("/proc/self/fd")) == before

    serve(app_of(START, pathsend(ten)), test)


def test_files_that_do_not_fit_into_the_socket_keep_their_order(ten: Path) -> None:
    """Many at once, read slowly: each FILE has its own descriptor, in however many pieces."""
    count = 300
    for number in range(count):
        (ten.parent / str(number)).write_bytes(b"%d" % number)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        number = scope["path"].strip("/")
        with (ten.parent / number).open("rb") as file:
            await send(body(b"-" * 3000, True))
            await send(zerocopy(file))

    async def test(bench: Bench) -> None:
        exchanges = [bench.peer.request(path=f"/{number}") for number in range(count)]
        await bench.flush()
        await bench.turns(200)
        order = []
        while len(order) < count:
            for item in await bench.read():
                if item.kind == FRAME_FILE:
                    order.append(item.stream)
        assert len(bench.descriptors) == count
        for stream, number in zip(order, bench.descriptors, strict=True):
            assert os.pread(number, 10, 0) == b"%d" % (stream - exchanges[0].id)
        for exchange in exchanges:
            file_done(bench, exchange.id)
        await bench.until(lambda: all(exchange.done for exchange in exchanges))

    serve(app, test)


def test_a_closed_descriptor_is_never_sent() -> None:
    ends = os.pipe()
    descriptor = Descriptor(ends[0])
    descriptor.close()
    descriptor.close()
    assert descriptor.number == -1
    os.close(ends[1])


def test_with_content_length_replaces_what_is_there() -> None:
    encoder = ResponseEncoder()
    for fields in ([], [(b"content-length", b"1")], [(b"a", b"b"), (b"content-length", b"7")]):
        head = with_content_length(encoder.encode(fields), 7)
        assert head.content_length == 7
        assert head.payload.count(b"content-length") == 1
