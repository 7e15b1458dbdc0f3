# SPDX-License-Identifier: MIT
"""asgi/wsgi.py: PEP 3333 over a link."""

from __future__ import annotations

import hashlib
import logging
import threading
from typing import Any

from asgi_worker.asgi.wsgi import WsgiAdapter
from asgi_worker.protocol.constants import (
    DATA_OVERHEAD,
    ERROR_APP_EXCEPTION,
    ERROR_CLIENT_GONE,
)
from harness import Bench, serve
from peer import Exchange


def run(app: Any, test: Any, **options: Any) -> Any:
    adapter = WsgiAdapter(app, 4)
    try:
        return serve(adapter, test, **options)
    finally:
        adapter.close()


def one(app: Any, *args: Any, **head: Any) -> tuple[Exchange, list[str]]:
    async def test(bench: Bench) -> Any:
        exchange = await bench.request(*args, **head)
        return exchange, bench.log.texts(logging.WARNING)

    result: tuple[Exchange, list[str]] = run(app, test)
    return result


def test_environ() -> None:
    seen: dict[str, Any] = {}

    def app(environ: Any, start_response: Any) -> Any:
        seen.update(environ)
        start_response("200 OK", [])
        return []

    fields = [
        (b"host", b"example.com"), (b"content-type", b"a/b"), (b"content-length", b"3"),
        (b"x-one", b"1"), (b"x-one", b"2"), (b"x_one", b"spoofed"),
    ]  # fmt: skip
    exchange, _ = one(
        app, b"abc", method="POST", path="/api/ü", raw_path=b"/api/%C3%BC", root_path="/api",
        query=b"q=%20", fields=fields, scheme="https", version="2",
    )  # fmt: skip
    assert exchange.status == 200
    assert seen["REQUEST_METHOD"] == "POST"
    assert seen["SCRIPT_NAME"] == "/api"
    assert seen["PATH_INFO"] == "/ü".encode().decode("latin-1")
    assert seen["RAW_URI"] == "/api/%C3%BC"
    assert seen["QUERY_STRING"] == "q=%20"
    assert seen["SERVER_PROTOCOL"] == "HTTP/2"
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("127.0.0.1", "8080")
    assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("127.0.0.1", "54321")
    assert seen["wsgi.url_scheme"] == "https"
    assert seen["CONTENT_TYPE"] == "a/b"
    assert seen["CONTENT_LENGTH"] == "3"
    assert seen["HTTP_X_ONE"] == "1,2"
    assert seen["HTTP_HOST"] == "example.com"


def test_a_list_is_one_frame_and_runs_in_a_thread() -> None:
    threads: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        threads.append(threading.current_thread().name)
        start_response("201 Created", [("Content-Type", "text/plain")])
        return [b"one", b"", b"two"]

    exchange, _ = one(app)
    assert (exchange.status, exchange.body) == (201, b"onetwo")
    assert threads[0].startswith("wsgi")
    assert len([f for f in exchange.frames if f.payload]) == 1


def test_generator_write_and_close() -> None:
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Any:
            yield b"b"
            yield b""
            yield b"c"

        def close(self) -> None:
            closed.append(True)

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        write(b"a")
        return Body()

    exchange, _ = one(app)
    assert exchange.body == b"abc"
    assert closed == [True]


def test_upload_is_pulled_through_the_window() -> None:
    data = bytes(range(256)) * 4000

    def app(environ: Any, start_response: Any) -> Any:
        digest = hashlib.sha256()
        while chunk := environ["wsgi.input"].read(7000):
            digest.update(chunk)
        start_response("200 OK", [])
        return [digest.hexdigest().encode()]

    async def test(bench: Bench) -> None:
        exchange = bench.peer.request(end=False, method="PUT")
        sent = 0
        while sent < len(data):
            room = min(len(data) - sent, 16384, exchange.send_credit - DATA_OVERHEAD)
            if room <= 0:
                await bench.flush()
                await bench.read()
                continue
            sent += room
            bench.peer.data(exchange, data[sent - room : sent], end=sent == len(data))
        await bench.until(lambda: exchange.done)
        assert exchange.body.decode() == hashlib.sha256(data).hexdigest()

    run(app, test)


def test_readline_and_iteration_of_the_input() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        stream = environ["wsgi.input"]
        lines = [stream.readline(), *stream]
        start_response("200 OK", [])
        return [b"|".join(lines)]

    exchange, _ = one(app, b"a\nb\nc")
    assert exchange.body == b"a\n|b\n|c"


def test_a_large_response_waits_for_credit_in_its_thread() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        for _ in range(100):
            yield b"x" * 10000

    exchange, _ = one(app)
    assert len(exchange.body) == 1_000_000


def test_exceptions_and_exc_info() -> None:
    def raises(environ: Any, start_response: Any) -> Any:
        raise ValueError("on purpose")

    exchange, logs = one(raises)
    assert exchange.reset == ERROR_APP_EXCEPTION
    assert len(logs) == 1

    def replaces(environ: Any, start_response: Any) -> Any:
        import sys

        start_response("200 OK", [])
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("500 Oops", [("X-Error", "1")], sys.exc_info())
        return [b"sorry"]

    exchange, _ = one(replaces)
    assert (exchange.status, exchange.body) == (500, b"sorry")

    def twice(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        start_response("200 OK", [])

    assert one(twice)[0].reset == ERROR_APP_EXCEPTION

    def silent(environ: Any, start_response: Any) -> Any:
        return []

    assert one(silent)[0].reset == ERROR_APP_EXCEPTION


def test_a_client_that_goes_away_raises_in_the_thread() -> None:
    async def test(bench: Bench) -> None:
        raised = threading.Event()
        blocked = threading.Event()

        def app(environ: Any, start_response: Any) -> Any:
            write = start_response("200 OK", [])
            try:
                while True:
                    write(b"x" * 10000)
                    blocked.set()
            except OSError:
                raised.set()
                raise

        bench.service.app = WsgiAdapter(app, 1)
        exchange = bench.peer.request()
        await bench.until(lambda: blocked.is_set() and exchange.recv_left < 17)
        bench.peer.disconnect(exchange, ERROR_CLIENT_GONE)
        await bench.until(lambda: exchange.done)
        assert raised.is_set()
        assert bench.log.texts(logging.INFO) == []

    run(None, test, auto_credit=False)
