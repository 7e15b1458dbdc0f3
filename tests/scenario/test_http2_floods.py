# SPDX-License-Identifier: MIT
"""Floods over HTTP/2: each ends at its bound with ENHANCE_YOUR_CALM, in bounded memory, and leaves other clients alone.

The numbers of frames are above every bound that the gateway has, so that the end comes whatever the timing.
"""

import contextlib
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from harness.gateway import VARIANT, Gateway
from harness.http2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PRIORITY,
    PRIORITY_UPDATE,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Ended,
    Http2,
    block,
    frame,
    literal,
    request,
    settings,
)
from harness.load import Load
from harness.ports import free_port
from harness.process import rss, wait_for

MIB = 1 << 20
GET = block(request())
SLOW = block(request("/sleep?ms=300"))
POST = block(request("/digest", "POST"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("floods"), log={"level": "info"})
    gateway.listeners[0]["protocols"] = ["h2", "http/1.1"]
    try:
        gateway.start()
        gateway.start_workers(2)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture(autouse=True)
def bounded(server: Gateway, request: pytest.FixtureRequest) -> Iterator[None]:
    """Around each flood other clients are served, memory stays, and nothing is left."""
    with Load(server, clients=2):
        server.get("/")
        before = rss(server.server_pid)
        yield
        after = rss(server.server_pid)
    if VARIANT == "release" and "memory" not in request.node.name:
        assert after - before < 24 * MIB, f"{(after - before) / MIB:.1f} MiB more"
    wait_for(lambda: server.status()["live"]["conns"] == 0, "all connections to be gone")
    wait_for(lambda: server.status()["live"]["exchanges"] == 0, "all requests to be over")


def connect(gateway: Gateway, **entries: int) -> Http2:
    pairs = tuple((INITIAL_WINDOW_SIZE, value) for value in entries.values())
    return Http2(("127.0.0.1", gateway.port), entries=pairs)


def flood(client: Http2, pieces: Iterator[bytes]) -> int | None:
    """Sends while a thread reads, until the connection has ended; its code."""
    code: list[int | None] = []
    reader = threading.Thread(target=lambda: code.append(client.end()))
    client.decoder.max_header_list_size = 1 << 24
    reader.start()
    for piece in pieces:
        if client.closed or client.goaways:
            break
        client.raw(piece)
    reader.join(20)
    assert code, "the connection has not ended"
    return code[0]


def in_rounds(client: Http2, pieces: Iterator[bytes]) -> int | None:
    """Sends fifty, waits until the gateway has seen them, and so on: never more streams at once than are allowed."""
    try:
        while True:
            client.raw(b"".join(next(pieces) for _ in range(50)))
            client.ping()
    except Ended as ended:
        return ended.code


def opened(payload: bytes, flags: int = END_HEADERS | END_STREAM, count: int = 100_000) -> Iterator[tuple[int, bytes]]:
    for stream in range(1, 2 * count, 2):
        yield stream, frame(HEADERS, flags, stream, payload)


def test_rapid_reset(server: Gateway) -> None:
    """CVE-2023-44487: streams opened and reset at once; few of them cost a worker anything."""
    with connect(server) as client:
        reset = struct.pack(">I", CANCEL)
        pieces = (head + frame(RST_STREAM, 0, stream, reset) for stream, head in opened(SLOW))
        assert flood(client, pieces) in (ENHANCE_YOUR_CALM, None)
    server.expect_counted("h2_reset_floods")


def test_made_you_reset_by_window_updates(server: Gateway) -> None:
    """CVE-2025-8671: the client makes the server reset the streams."""
    with connect(server) as client:
        bad = bytes(4)
        pieces = (head + frame(WINDOW_UPDATE, 0, stream, bad) for stream, head in opened(POST, END_HEADERS))
        assert flood(client, pieces) in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR, None)


def test_made_you_reset_by_malformed_requests(server: Gateway) -> None:
    before = server.metric("h2_reset_floods")
    with connect(server) as client:
        bad = block([*request(), ("connection", "close")])
        assert in_rounds(client, (head for _, head in opened(bad))) in (ENHANCE_YOUR_CALM, None)
    assert server.metric("h2_reset_floods") == before + 1


def test_made_you_reset_by_bodies(server: Gateway) -> None:
    before = server.metric("h2_reset_floods")
    with connect(server) as client:
        bad = block(request("/digest", "POST", ("content-length", "1")))
        pieces = (head + frame(DATA, 0, stream, b"xx") for stream, head in opened(bad, END_HEADERS))
        assert in_rounds(client, pieces) in (ENHANCE_YOUR_CALM, None)
    assert server.metric("h2_reset_floods") == before + 1


def repeated(piece: bytes, count: int = 200_000, batch: int = 100) -> Iterator[bytes]:
    for _ in range(count // batch):
        yield piece * batch


GLITCHES = {
    "PING": frame(PING, 0, 0, bytes(8)),
    "SETTINGS": frame(SETTINGS, 0, 0),
    "SETTINGS that change the table": frame(SETTINGS, 0, 0, settings((1, 0), (1, 4096))),
    "PRIORITY": frame(PRIORITY, 0, 1001, struct.pack(">IB", 0, 15)),
    "PRIORITY_UPDATE": frame(PRIORITY_UPDATE, 0, 0, struct.pack(">I", 1) + b"u=1"),
    "WINDOW_UPDATE": frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)),
    "unknown frames": frame(0xEE, 0, 0, b"x" * 100),
    "acknowledged PING": frame(PING, 1, 0, bytes(8)),
}


@pytest.mark.parametrize("kind", GLITCHES)
def test_frames_without_use(server: Gateway, kind: str) -> None:
    before = server.metric("h2_glitch_floods") + server.metric("h2_outbound_floods")
    with connect(server) as client:
        stream = client.open(request("/digest", "POST"), end=False)
        assert stream == 1
        assert flood(client, repeated(GLITCHES[kind])) in (ENHANCE_YOUR_CALM, None)
    assert server.metric("h2_glitch_floods") + server.metric("h2_outbound_floods") == before + 1


@pytest.mark.parametrize("padding", [b"", b"\x09" + bytes(9)])
def test_empty_data(server: Gateway, padding: bytes) -> None:
    with connect(server) as client:
        client.open(request("/digest", "POST"), end=False)
        piece = frame(DATA, 0x8 if padding else 0, 1, padding)
        assert flood(client, repeated(piece)) in (ENHANCE_YOUR_CALM, None)


def test_continuation(server: Gateway) -> None:
    """CVE-2024-28182 and its like: a header block without end."""

    def pieces() -> Iterator[bytes]:
        yield frame(HEADERS, END_STREAM, 1, GET)
        for number in range(10_000):
            yield frame(CONTINUATION, 0, 1, literal(f"x-{number}", "y" * 1000))

    with connect(server) as client:
        assert flood(client, pieces()) in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR, None)


def test_empty_continuation(server: Gateway) -> None:
    def pieces() -> Iterator[bytes]:
        yield frame(HEADERS, END_STREAM, 1, GET)
        yield from repeated(frame(CONTINUATION, 0, 1))

    with connect(server) as client:
        assert flood(client, pieces()) in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR, None)


@pytest.mark.parametrize(
    ("name", "length", "uses", "metric"),
    [
        ("x-bomb", 3800, 20, "limit_header_block"),
        ("x-bomb", 1, 150, "limit_header_fields"),
        ("cookie", 1, 150, "limit_cookie_crumbs"),
    ],
)
def test_small_bombs(server: Gateway, name: str, length: int, uses: int, metric: str) -> None:
    """One entry of the table, then one byte for each use, on streams whose windows stay shut: 431 for each."""
    before = server.metric(metric)
    with connect(server, window=0) as client:
        first = client.open(request("/"), flags=END_HEADERS)
        client.wait(lambda got: got.kind == HEADERS and got.stream == first)
        client.open([*request("/"), ("x", "y")])
        head = block(request()) + literal(name, "v" * length, 0x40)
        for _ in range(50):
            stream, client.next_stream = client.next_stream, client.next_stream + 2
            client.send(HEADERS, END_HEADERS | END_STREAM, stream, head + b"\xbe" * uses)
            head = block(request())
        for _ in range(50):
            client.wait(lambda got: got.kind == HEADERS and client.answers[got.stream].status == 431)
    assert server.metric(metric) == before + 50


@pytest.mark.parametrize(("name", "length"), [("x-bomb", 3800), ("x-bomb", 1), ("cookie", 1)])
def test_bomb(server: Gateway, name: str, length: int) -> None:
    """CVE-2026-49975: decoding itself is what costs, so the fields behind the limits count."""
    before = server.metric("h2_glitch_floods")
    with connect(server) as client:
        head = block(request()) + literal(name, "v" * length, 0x40)
        client.send(HEADERS, END_HEADERS | END_STREAM, client.next_stream, head + b"\xbe" * 12_000)
        assert client.end() == ENHANCE_YOUR_CALM
    assert server.metric("h2_glitch_floods") == before + 1


def test_zero_window(server: Gateway) -> None:
    """Responses that nobody takes hold what the windows between worker and gateway allow, and no more."""
    with connect(server, window=0) as client:
        for _ in range(90):
            client.open(request("/download?bytes=10000000"))
        for _ in range(90):
            client.wait(lambda got: got.kind == HEADERS)
        client.ping()
        assert server.metric("buffered_bytes") <= 90 * 64 * 1024
        assert server.get("/").status == 200


def test_client_that_does_not_read(server: Gateway) -> None:
    """PINGs and requests whose answers are not read: what waits is bounded."""
    before = server.metric("h2_outbound_floods") + server.metric("h2_glitch_floods")
    with Http2(("127.0.0.1", server.port), receive_buffer=4096) as client:
        client.socket.settimeout(5)
        for piece in repeated(frame(PING, 0, 0, bytes(8)), count=100_000):
            try:
                client.socket.sendall(piece)
            except OSError:
                break
        wait_for(
            lambda: server.metric("h2_outbound_floods") + server.metric("h2_glitch_floods") > before, "the flood to end"
        )


# --- what streams and connections cost --------------------------------------------------------------------------------

release_only = pytest.mark.skipif(VARIANT != "release", reason="sanitizers change what memory an allocation takes")


def fresh(make_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway whose memory nobody has used before."""
    port = free_port()
    gateway = make_gateway(listeners=[{"bind": f"127.0.0.1:{port}", "protocols": ["h2", "http/1.1"]}])
    gateway.port = port
    return gateway


@release_only
def test_memory_of_a_stalled_stream(make_gateway: Callable[..., Gateway], record_property: Callable[..., None]) -> None:
    """Responses whose windows stay shut: at most the worker's window and what the stream itself takes."""
    connections, streams = 10, 50
    server = fresh(make_gateway)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server, window=0)) for _ in range(connections)]
        before = rss(server.server_pid)
        for client in clients:
            for _ in range(streams):
                client.open(request("/download?bytes=10000000"))
        for client in clients:
            for _ in range(streams):
                client.wait(lambda got: got.kind == HEADERS)
        wait_for(lambda: server.metric("buffered_bytes") >= connections * streams * 40_000, "the windows to fill")
        each = (rss(server.server_pid) - before) / (connections * streams)
    record_property("KiB per stalled stream", round(each / 1024, 1))
    print(f"{each / 1024:.1f} KiB for each stalled stream")
    assert each <= 160 * 1024


@release_only
def test_memory_of_an_idle_connection(
    make_gateway: Callable[..., Gateway], record_property: Callable[..., None]
) -> None:
    count = 500
    server = fresh(make_gateway)
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            assert stack.enter_context(connect(server)).get().status == 200
        before = rss(server.server_pid)
        for _ in range(count):
            assert stack.enter_context(connect(server)).get().status == 200
        each = (rss(server.server_pid) - before) / count
    record_property("KiB per idle HTTP/2 connection", round(each / 1024, 1))
    print(f"{each / 1024:.1f} KiB for each idle connection")
    assert each <= 32 * 1024
