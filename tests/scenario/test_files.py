# SPDX-License-Identifier: MIT
"""Files that apps name and the gateway sends: http.response.pathsend and http.response.zerocopysend."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.gateway import VARIANT, Gateway
from harness.http1 import Client, Closed
from harness.http2 import Http2, request
from harness.process import rss, wait_for
from test_backpressure import FLAT, LARGE, Peak

Maker = Callable[..., Gateway]
TEXT = b"0123456789"
BIG = bytes(range(256)) * 4096 * 3  # 3 MiB


def make_files(folder: Path) -> Path:
    folder.mkdir()
    (folder / "ten").write_bytes(TEXT)
    (folder / "empty").write_bytes(b"")
    (folder / "big").write_bytes(BIG)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("served") / "files")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("files"), tls=True)
    try:
        gateway.start()
        gateway.start_workers(1, "file_app:app", environment={"APP_FILES": str(folder)})
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture(params=["http", "https"])
def client(request: pytest.FixtureRequest, site: Gateway) -> Iterator[Client]:
    with site.client() if request.param == "http" else site.tls_client() as client:
        yield client


@pytest.fixture
def small(make_gateway: Maker, tmp_path: Path) -> Callable[..., Gateway]:
    """small(**sections): a gateway of its own with a worker of the file app; .files is its folder."""

    def make(**sections: object) -> Gateway:
        files = make_files(tmp_path / "files")
        return make_gateway(app_target="file_app:app", worker_environment={"APP_FILES": str(files)}, **sections)

    return make


# --- what apps can do -------------------------------------------------------------------------------------------------


def test_both_are_offered(client: Client) -> None:
    assert {b"http.response.pathsend", b"http.response.zerocopysend"} <= set(client.get("/offered").body.split())


@pytest.mark.parametrize(("name", "body"), [("ten", TEXT), ("empty", b""), ("big", BIG)])
def test_path(client: Client, name: str, body: bytes) -> None:
    response = client.get(f"/path/{name}")
    assert (response.status, response.header("content-length")) == (200, str(len(body)))
    assert response.body == body
    assert client.get(f"/path/{name}").body == body  # the connection goes on


def test_head_gets_the_length_and_no_byte(client: Client) -> None:
    client.request("HEAD", "/path/big")
    response = client.response("HEAD")
    assert (response.status, response.header("content-length")) == (200, str(len(BIG)))
    assert client.get("/path/ten").body == TEXT


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_body(client: Client, status: int) -> None:
    response = client.get(f"/status/{status}/big")
    assert (response.status, response.body) == (status, b"")
    assert client.get("/path/ten").body == TEXT


@pytest.mark.parametrize(("name", "status"), [("none", 404), ("ten/below", 404), ("folder", 403), ("fifo", 403)])
def test_what_cannot_be_sent(client: Client, name: str, status: int) -> None:
    """The app's send() raises; when that escapes, the client gets a status that says what it is about."""
    response = client.get(f"/path/{name}")
    assert response.status == status and response.body.endswith(b"\n") and len(response.body) < 40
    assert client.get("/path/ten").body == TEXT


@pytest.mark.parametrize(("name", "error"), [("none", b"FileNotFoundError"), ("folder", b"IsADirectoryError")])
def test_the_app_may_catch_that(client: Client, name: str, error: bytes) -> None:
    response = client.get(f"/caught/{name}")
    assert (response.status, response.body) == (200, error)


def test_parts_of_files_between_text(client: Client) -> None:
    assert client.get("/parts/ten").body == b"<3456|56>"


@pytest.mark.parametrize("name", ["ten", "big"])
def test_descriptor_that_is_closed_at_once(client: Client, name: str) -> None:
    assert (
        hashlib.sha256(client.get(f"/whole/{name}").body).digest()
        == hashlib.sha256(TEXT if name == "ten" else BIG).digest()
    )


def test_more_behind_a_file(client: Client) -> None:
    response = client.get("/more/big")
    assert response.header("transfer-encoding") == "chunked"
    assert response.body == BIG + b"end"


def test_trailers_behind_a_file(client: Client) -> None:
    response = client.get("/trailers/ten", {"te": "trailers"})
    assert response.body == TEXT and response.trailers == [("x-after", "file")]
    assert client.get("/path/ten").body == TEXT


def test_more_than_the_head_promised(site: Gateway) -> None:
    """send() raises before a byte of the file is sent."""
    with site.client() as client, pytest.raises(Closed):
        response = client.get("/short/ten")
        assert response.status == 500
        raise Closed(b"")
    site.wait_note("short raised RuntimeError: the response body is longer than its content-length")


def test_worker_waits_until_the_last_byte_has_left(small: Callable[..., Gateway]) -> None:
    gateway = small()
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/path/big")
        assert client.head().status == 200
        wait_for(lambda: gateway.metric("files_open") == 1, "the file to be open")
        time.sleep(0.2)
        assert "path returned" not in gateway.notes()
        assert gateway.metric("buffered_bytes") <= 2 * 65536
        assert client.exactly(len(BIG)) == BIG
        gateway.wait_note("path returned")
    assert gateway.metric("files_sent") == 1 and gateway.metric("file_bytes") == len(BIG)


# --- HTTP/2 -----------------------------------------------------------------------------------------------------------


def http2(gateway: Gateway) -> Http2:
    return Http2(("127.0.0.1", gateway.port), timeout=60)


def test_http2(site: Gateway) -> None:
    with http2(site) as client:
        answer = client.get("/path/big")
        assert answer.status == 200 and answer.header("content-length") == str(len(BIG))
        assert bytes(answer.body) == BIG
        assert bytes(client.get("/parts/ten").body) == b"<3456|56>"
        assert client.get("/path/none").status == 404


def test_http2_many_at_once(site: Gateway) -> None:
    with http2(site) as client:
        streams = [client.open(request("/path/big" if n % 2 else "/whole/ten")) for n in range(20)]
        for n, stream in enumerate(streams):
            assert bytes(client.answer(stream).body) == (BIG if n % 2 else TEXT)


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["path", "more"])
def test_client_goes_away(small: Callable[..., Gateway], how: str) -> None:
    gateway = small()
    client = gateway.client(receive_buffer=4096)
    client.request("GET", f"/{how}/big")
    assert client.head().status == 200
    client.reset()
    gateway.wait_note(f"{how} raised ClientDisconnected")
    gateway.wait_metric("files_open", 0)
    assert gateway.get("/path/ten").body == TEXT


def test_killed_worker_does_not_cost_a_whole_file(small: Callable[..., Gateway]) -> None:
    """The gateway has the descriptor, and that is all the response still needs (SPEC R111)."""
    gateway = small()
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/path/big")
        assert client.head().status == 200
        wait_for(lambda: gateway.metric("files_open") == 1, "the file to be open")
        gateway.workers[0].kill()
        gateway.wait_metric("ipc_links", 0)
        assert client.exactly(len(BIG)) == BIG


def test_killed_worker_costs_a_file_with_something_behind_it(small: Callable[..., Gateway]) -> None:
    gateway = small()
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/more/big")
        head = client.head()
        wait_for(lambda: gateway.metric("files_open") == 1, "the file to be open")
        gateway.workers[0].kill()
        with pytest.raises(Closed):
            client.body(head)
    gateway.wait_metric("files_open", 0)


def test_impatient_app_takes_nothing_back(small: Callable[..., Gateway]) -> None:
    gateway = small()
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/impatient/big")
        assert client.head().status == 200
        gateway.wait_note("impatient gave up")
        gateway.wait_metric("ipc_streams", 0)  # its DONE has come
        assert client.exactly(len(BIG)) == BIG


def test_file_that_is_made_shorter_cuts_the_response(small: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = small()
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/path/big")
        head = client.head()
        wait_for(lambda: gateway.metric("files_open") == 1, "the file to be open")
        os.truncate(tmp_path / "files" / "big", 300_000)
        with pytest.raises(Closed):
            client.body(head)
    gateway.wait_note("path raised ClientDisconnected")
    assert gateway.metric("files_failed") == 1
    gateway.process.wait_log("the file was made shorter while it was sent")


def test_file_that_is_replaced_is_sent_as_it_was(small: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = small()
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/path/big")
        assert client.head().status == 200
        wait_for(lambda: gateway.metric("files_open") == 1, "the file to be open")
        (tmp_path / "new").write_bytes(b"another")
        os.rename(tmp_path / "new", tmp_path / "files" / "big")
        assert client.exactly(len(BIG)) == BIG


# --- limits -----------------------------------------------------------------------------------------------------------


def test_over_max_open_files_the_worker_reads_itself(small: Callable[..., Gateway]) -> None:
    gateway = small(app={"max_open_files": 1})
    with gateway.client(receive_buffer=4096) as first, gateway.client() as second:
        first.request("GET", "/path/big")
        assert first.head().status == 200
        wait_for(lambda: gateway.metric("files_open") == 1, "the file to be open")
        response = second.get("/path/big")
        assert response.header("content-length") == str(len(BIG)) and response.body == BIG
        assert second.get("/more/big").body == BIG + b"end"
        assert second.get("/parts/ten").body == b"<3456|56>"
        assert gateway.metric("files_refused") == 4
        assert first.exactly(len(BIG)) == BIG
        gateway.wait_metric("files_open", 0)
        assert second.get("/path/big").body == BIG
    assert gateway.metric("files_refused") == 4


def test_off_they_are_not_offered(small: Callable[..., Gateway]) -> None:
    gateway = small(app={"max_open_files": "off"})
    assert b"send" not in gateway.get("/offered").body
    assert gateway.get("/path/ten").status == 500


@pytest.mark.parametrize("target", ["/whole/ten", "/more/big", "/whole/empty"])
def test_warm_up_that_is_answered_with_a_file(small: Callable[..., Gateway], target: str) -> None:
    gateway = small(app={"warmup": target})
    assert gateway.metric("workers_ready") == 1
    with gateway.client() as client:
        assert client.get("/whole/ten").body == TEXT


def test_no_descriptors_left(small: Callable[..., Gateway]) -> None:
    """The link lives, and the worker sends the bytes."""
    import resource

    gateway = small()
    with gateway.client() as client:
        assert client.get("/path/ten").body == TEXT
        used = max(int(Path(entry).name) for entry in Path(f"/proc/{gateway.server_pid}/fd").iterdir()) + 1
        soft, hard = resource.prlimit(gateway.server_pid, resource.RLIMIT_NOFILE)
        resource.prlimit(gateway.server_pid, resource.RLIMIT_NOFILE, (used, hard))
        try:
            # Descriptors below the greatest one may be free: fill them with idle connections.
            idle = [gateway.client() for _ in range(8)]
            assert client.get("/path/big").body == BIG
            for one in idle:
                one.close()
        finally:
            resource.prlimit(gateway.server_pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert client.get("/path/big").body == BIG


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["http", "https", "http2"])
def test_large_file_in_flat_memory(small: Callable[..., Gateway], tmp_path: Path, kind: str) -> None:
    size = LARGE if kind == "http" else LARGE // 8
    gateway = small(tls=True)
    digest = hashlib.sha256()
    block = os.urandom(1 << 20)
    with (tmp_path / "files" / "large").open("wb") as file:
        for _ in range(size >> 20):
            digest.update(block)
            file.write(block)
            block = block[1:] + block[:1]
    gateway.get("/path/big")
    got = hashlib.sha256()
    with Peak(gateway.server_pid, gateway.workers[0].pid) as peak:
        if kind == "http2":
            command = ["curl", "-sS", "--http2-prior-knowledge", f"{gateway.url}/path/large"]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
                assert curl.stdout is not None
                while data := curl.stdout.read(1 << 20):
                    got.update(data)
            assert curl.returncode == 0
        else:
            with gateway.client(timeout=120) if kind == "http" else gateway.tls_client(timeout=120) as client:
                client.request("GET", "/path/large")
                assert client.head().header("content-length") == str(size)
                got.update(client.buffer)
                left = size - len(client.buffer)
                buffer = memoryview(bytearray(1 << 20))
                while left:
                    count = client.socket.recv_into(buffer)
                    assert count, f"closed with {left} bytes missing"
                    got.update(buffer[:count])
                    left -= count
    assert got.digest() == digest.digest()
    assert peak.grown < FLAT, f"a process grew by {peak.grown >> 10} KiB"
    assert rss(gateway.workers[0].pid) < 128 << 20 or VARIANT != "release"
