# SPDX-License-Identifier: MIT
"""A worker that breaks the rules of files: bad descriptors and frames cost its link, bad files one response."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.gateway import Gateway
from harness.http1 import Client, Closed
from harness.scripted_worker import ScriptedWorker, c

ALL = (1 << 64) - 1
LENGTH = 16 << 20  # more than sockets hold


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("hostile-files"), tls=True)
    try:
        yield gateway.start()
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(bytes(LENGTH))
    number = os.open(tmp_path / "file", os.O_RDWR)
    yield number
    os.close(number)


class Asked:
    """A worker that offers files and has said the head of a response, which its client has seen."""

    def __init__(self, gateway: Gateway, worker: ScriptedWorker, client: Client, length: int | None = LENGTH):
        self.worker, self.client = worker, client
        client.request("GET", "/file")
        self.stream = worker.request().stream
        fields = [] if length is None else [(b"content-length", b"%d" % length)]
        worker.respond(self.stream, 200, fields, flags=0)
        self.head = client.head()
        assert self.head.status == 200

    def expect_cut(self) -> None:
        with pytest.raises(Closed):
            self.client.body(self.head)

    def expect_reset(self) -> None:
        reset = self.worker.expect(c.FRAME_RESET, self.stream)
        assert reset.code == c.ERROR_PROTOCOL, str(reset)
        self.worker.done(self.stream)
        assert self.worker.alive()
        self.worker.leave()


@pytest.fixture
def asked(gateway: Gateway) -> Iterator[Asked]:
    with (
        ScriptedWorker(gateway.app_socket, features=["files"]) as worker,
        gateway.client(receive_buffer=4096) as client,
    ):
        assert worker.ack["features"] == ["files"]
        yield Asked(gateway, worker, client)
    gateway.wait_metric("files_open", 0)


def test_it_works_at_all(asked: Asked, file: int) -> None:
    asked.worker.file(asked.stream, [file], 0, ALL, c.FLAG_END_STREAM)
    assert asked.client.body(asked.head) == bytes(LENGTH)
    assert asked.worker.expect(c.FRAME_FILE_DONE, asked.stream).code == 0
    asked.worker.done(asked.stream)
    asked.worker.leave()


# --- what costs the link ----------------------------------------------------------------------------------------------


def breaks(name: str) -> Callable[[Asked, int], None]:
    def no_descriptor(asked: Asked, file: int) -> None:
        asked.worker.file(asked.stream, [], 0, 5)

    def two(asked: Asked, file: int) -> None:
        asked.worker.file(asked.stream, [file, file], 0, 5)

    def many(asked: Asked, file: int) -> None:
        asked.worker.file(asked.stream, [file] * 200, 0, 5)

    def with_data(asked: Asked, file: int) -> None:
        data = c.FRAME_DATA.to_bytes(1, "little")
        frame = (1).to_bytes(4, "little") + data + bytes(3) + asked.stream.to_bytes(4, "little") + bytes(4) + b"x"
        socket.send_fds(asked.worker.socket, [frame], [file])

    def data_behind(asked: Asked, file: int) -> None:
        asked.worker.file(asked.stream, [file], 0, LENGTH - 1)
        asked.worker.data(asked.stream, b"x")

    def twice(asked: Asked, file: int) -> None:
        asked.worker.file(asked.stream, [file], 0, LENGTH - 5)
        asked.worker.file(asked.stream, [file], 5, 5)

    def after_the_end(asked: Asked, file: int) -> None:
        asked.worker.file(asked.stream, [file], 0, ALL, c.FLAG_END_STREAM)
        asked.worker.file(asked.stream, [file], 0, 5)

    def idle(asked: Asked, file: int) -> None:
        asked.worker.file(asked.stream + 1, [file], 0, 5)

    found: Callable[[Asked, int], None] = locals()[name]
    return found


@pytest.mark.parametrize(
    "name", ["no_descriptor", "two", "many", "with_data", "data_behind", "twice", "after_the_end", "idle"]
)
def test_link_is_lost(asked: Asked, file: int, name: str) -> None:
    breaks(name)(asked, file)
    assert asked.worker.expect_error(c.ERROR_PROTOCOL)


def test_descriptor_without_the_feature(gateway: Gateway, file: int) -> None:
    with ScriptedWorker(gateway.app_socket) as worker, gateway.client() as client:
        asked = Asked(gateway, worker, client)
        worker.file(asked.stream, [file], 0, 5)
        assert worker.expect_error(c.ERROR_PROTOCOL)
        asked.expect_cut()


# --- what costs the response ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_file(kind: str) -> Iterator[int]:
    if kind == "pipe":
        number, other = os.pipe()
    elif kind == "socket":
        one, two = socket.socketpair()
        number, other = one.detach(), two.detach()
    else:
        number, other = os.open("/" if kind == "folder" else "/dev/zero", os.O_RDONLY), -1
    try:
        yield number
    finally:
        os.close(number)
        if other >= 0:
            os.close(other)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
@pytest.mark.parametrize("flags", [0, c.FLAG_END_STREAM])
def test_no_regular_file(asked: Asked, kind: str, flags: int) -> None:
    with no_file(kind) as number:
        asked.worker.file(asked.stream, [number], 0, 5, flags)
    asked.expect_cut()
    asked.expect_reset()


@pytest.mark.parametrize(
    ("offset", "count"),
    [
        (0, LENGTH + 1),
        (1, LENGTH),
        (LENGTH + 1, 0),
        (LENGTH + 1, ALL),
        (1 << 63, 1),
        (1, (1 << 63) - 1),
        (ALL, ALL),
        (5, LENGTH - 6),  # less than the head promised
    ],
)
def test_offsets_and_counts(asked: Asked, file: int, offset: int, count: int) -> None:
    asked.worker.file(asked.stream, [file], offset, count, c.FLAG_END_STREAM)
    asked.expect_cut()
    asked.expect_reset()


def test_more_than_the_head_promised(gateway: Gateway, file: int) -> None:
    with ScriptedWorker(gateway.app_socket, features=["files"]) as worker, gateway.client() as client:
        asked = Asked(gateway, worker, client, 100)
        worker.file(asked.stream, [file], 0, 101)
        asked.expect_cut()
        asked.expect_reset()


def test_many_pieces_and_text_between(gateway: Gateway, file: int) -> None:
    """Each FILE waits for the one before; credit of the text comes back although files lie between."""
    with ScriptedWorker(gateway.app_socket, features=["files"]) as worker, gateway.client() as client:
        asked = Asked(gateway, worker, client, None)
        for _ in range(20):
            worker.data(asked.stream, b"t" * 10_000)
            worker.file(asked.stream, [file], 10, 20_000)
            while (got := worker.next()) is not None and got.kind != c.FRAME_FILE_DONE:
                assert got.kind == c.FRAME_WINDOW, str(got)
        worker.data(asked.stream, flags=c.FLAG_END_STREAM | c.FLAG_DONE)
        assert client.body(asked.head) == (b"t" * 10_000 + bytes(20_000)) * 20
        worker.leave()


def test_link_lost_with_a_breach_while_the_rest_of_a_response_is_a_file(asked: Asked, file: int) -> None:
    """What the response needs is all there (SPEC R111)."""
    asked.worker.file(asked.stream, [file], 0, ALL, c.FLAG_END_STREAM)
    asked.worker.send(0x7F)
    assert asked.client.body(asked.head) == bytes(LENGTH)
