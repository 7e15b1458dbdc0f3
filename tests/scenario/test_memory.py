# SPDX-License-Identifier: MIT
"""What clients can make gatewayd hold: idle connections, readers that stop, senders that crawl, floods."""

import contextlib
import json
import resource
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
from harness.gateway import VARIANT, Gateway, insecure_context
from harness.http1 import Client, Closed
from harness.load import Load
from harness.process import rss, wait_for

KIB = 1024
release_only = pytest.mark.skipif(VARIANT != "release", reason="sanitizers change what memory an allocation takes")


@pytest.fixture(scope="module", autouse=True)
def many_descriptors() -> Iterator[None]:
    """As many descriptors as this system gives to the clients, and to the gateway, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def idle_connections(gateway: Gateway, count: int, context: ssl.SSLContext | None = None) -> list[Client]:
    """Connections that have been used and wait for their next request."""
    made = []
    for _ in range(count):
        client = gateway.tls_client(context) if context else gateway.client()
        client.request("GET", "/")
        assert client.response().status == 200
        made.append(client)
    return made


def bytes_per_connection(gateway: Gateway, count: int, context: ssl.SSLContext | None = None) -> float:
    warm = idle_connections(gateway, 50, context)
    for client in warm:
        client.close()
    gateway.wait_gauge("conns", 0)
    before = rss(gateway.server_pid)
    clients = idle_connections(gateway, count, context)
    per_connection = (rss(gateway.server_pid) - before) / count
    for client in clients:
        client.close()
    return per_connection


@release_only
def test_idle_plain_connection(make_gateway: Callable[..., Gateway], record_property: Callable[..., None]) -> None:
    each = bytes_per_connection(make_gateway(), 2000)
    record_property("KiB per idle plain connection", round(each / KIB, 2))
    print(f"{each / KIB:.2f} KiB for each idle plain connection")
    assert each <= 16 * KIB


@release_only
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_idle_tls_connection(
    make_gateway: Callable[..., Gateway], record_property: Callable[..., None], version: ssl.TLSVersion
) -> None:
    context = insecure_context()
    context.minimum_version = context.maximum_version = version
    each = bytes_per_connection(make_gateway(tls=True), 2000, context)
    record_property(f"KiB per idle {version.name} connection", round(each / KIB, 2))
    print(f"{each / KIB:.2f} KiB for each idle {version.name} connection")
    assert each <= 64 * KIB


@release_only
def test_ten_thousand_idle_connections(make_gateway: Callable[..., Gateway]) -> None:
    count = 10_000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < count + 500:
        pytest.skip("the descriptor limit is too low")
    gateway = make_gateway(gateway={"threads": 2}, limits={"keep_alive": "10m"})
    before = rss(gateway.server_pid)
    clients = idle_connections(gateway, count)
    assert gateway.metric("conns") == count
    assert rss(gateway.server_pid) - before <= count * 16 * KIB
    for client in clients[:: count // 50]:  # they were kept, and the table of them is not slow
        client.request("GET", "/")
        assert client.response().body == b"hello\n"
    for client in clients:
        client.close()


@release_only
def test_requests_leave_no_memory_behind(make_gateway: Callable[..., Gateway]) -> None:
    """1,200 requests and 60 refusals each round: the last round needs nothing that the one before did not."""
    gateway = make_gateway()

    def round_of_requests() -> int:
        for _ in range(60):
            with gateway.client() as client:
                for number in range(20):
                    client.request("POST", "/echo", {f"x-{number}": "v" * 200}, b"b" * 3000)
                    assert client.response().status == 200
                client.send(b"GET /a b HTTP/1.1\r\n\r\n")
                assert client.response().status == 400
        return rss(gateway.server_pid)

    round_of_requests()
    first = round_of_requests()
    second = round_of_requests()
    assert second - first <= 512 * KIB


# --- readers and senders that stop ------------------------------------------------------------------------------------


def test_stalled_readers_are_bounded_and_cut(make_gateway: Callable[..., Gateway]) -> None:
    """An endless response to 20 clients that read nothing: windows bound it, then limits.write_stall ends it."""
    gateway = make_gateway(limits={"write_stall": "2s"})
    before = rss(gateway.server_pid)
    with Load(gateway, clients=2) as load:
        stalled = [gateway.client(receive_buffer=4096) for _ in range(20)]
        for client in stalled:
            client.request("GET", "/endless")
        load.more(100)
        gateway.wait_metric_at_least("exchanges", 20)
        if VARIANT == "release":
            assert rss(gateway.server_pid) - before <= 20 * 192 * KIB + 1024 * KIB
        gateway.wait_metric("limit_write_stall", 20)
        load.more(100)
        for client in stalled:
            data = client.expect_end()
            assert data.startswith(b"HTTP/1.1 200") and not data.endswith(b"0\r\n\r\n")
            client.close()
    wait_for(lambda: gateway.notes().count("send raised OSError") == 20, "the app to learn that its clients are gone")
    # Each send() of the app took 16 KiB: what is not with the client lies in windows and socket buffers, no more.
    taken = [int(note.split()[1]) for note in gateway.notes() if note.startswith("taken")]
    assert max(taken) <= 16 * 1024 * KIB


def test_app_that_does_not_read_holds_the_sender(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(limits={"body_idle": "30s"})
    before = rss(gateway.server_pid)
    with gateway.client() as client, gateway.client() as victim:
        client.request("POST", "/sleep?ms=1500", {"content-length": str(1 << 30)})
        client.socket.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 256 << 20:
                sent += client.socket.send(b"x" * 65536)
        assert sent < 64 << 20, "the gateway took everything although the app read nothing"
        assert victim.get("/").status == 200
        if VARIANT == "release":
            assert rss(gateway.server_pid) - before <= 2 * 1024 * KIB
        client.socket.settimeout(20)
        response = client.head()
        assert response.status == 200 and response.header("connection") == "close"


def crawl(client: Client, piece: bytes, stop: threading.Event) -> None:
    """Sends a piece now and then until the other side has had enough."""
    with contextlib.suppress(OSError):
        while not stop.wait(0.05):
            client.send(piece)


CRAWLS = {
    "header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", b"a", "limit_header_timeout"),
    "header after header": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X: 1\r\n", "limit_header_timeout"),
    "request line": (b"", b"G", None),
    "empty lines": (b"", b"\r", None),
    "nothing": (b"", b"", "limit_header_timeout"),
    "length": (b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"a", "limit_body_min_rate"),
    "chunks": (
        b"POST /digest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\na\r\n",
        "limit_body_min_rate",
    ),
    "chunk extension": (
        b"POST /digest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;",
        b"a",
        "limit_body_min_rate",
    ),
    "trailers": (
        b"POST /digest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X: 1\r\n",
        None,
    ),
    "no body": (b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"", "limit_body_idle"),
}


def test_slow_senders_are_closed_at_their_limits(make_gateway: Callable[..., Gateway]) -> None:
    """Every limit is a total or has a rate: no byte now and then stretches it. Others are served meanwhile."""
    limits = {
        "header_timeout": "1s",
        "body_idle": "1s",
        "body_min_rate": 1000,
        "body_min_rate_after": "1s",
        "keep_alive": "5s",
    }
    gateway = make_gateway(limits=limits)
    stop = threading.Event()
    clients = {name: [gateway.client(timeout=30) for _ in range(5)] for name in CRAWLS}
    threads = []
    with Load(gateway, clients=2) as load:
        for name, (first, piece, _) in CRAWLS.items():
            for client in clients[name]:
                client.send(first)
                if piece:
                    threads.append(threading.Thread(target=crawl, args=(client, piece, stop)))
                    threads[-1].start()
        load.more(200)
        for name, group in clients.items():
            for client in group:
                answer = client.expect_end(30)
                assert answer == b"" or answer.split()[1] in (b"408", b"400", b"431", b"501"), (name, answer)
        load.more(100)
    stop.set()
    for thread in threads:
        thread.join()
    for group in clients.values():
        for client in group:
            client.close()
    for counter in {counter for _, _, counter in CRAWLS.values() if counter}:
        gateway.wait_metric_at_least(counter, 5)
    assert gateway.metric("conns") <= 2


def test_slow_reader_is_cut_by_the_rate(make_gateway: Callable[..., Gateway]) -> None:
    """A client that takes a little now and then never stalls for long, and is cut all the same."""
    gateway = make_gateway(limits={"min_send_rate": 1 << 20, "min_send_rate_after": "1s", "write_stall": "20s"})
    with gateway.client(receive_buffer=4096) as client:
        client.request("GET", "/download?bytes=100000000")
        total = 0
        with contextlib.suppress(ConnectionResetError):
            while data := client.socket.recv(256):
                total += len(data)
                threading.Event().wait(0.01)
        assert total < 50_000_000
    gateway.wait_metric("limit_min_send_rate", 1)


# --- floods -----------------------------------------------------------------------------------------------------------


def test_flood_of_connections(make_gateway: Callable[..., Gateway]) -> None:
    """Over max_connections clients wait in the kernel; who is in goes on, and who waited is served in time."""
    gateway = make_gateway(gateway={"max_connections": 50})
    inside = idle_connections(gateway, 45)
    waiting = [gateway.client() for _ in range(100)]
    for client in waiting:
        client.request("GET", "/", {"connection": "close"})
    gateway.wait_metric_at_least("accept_paused", 1)
    assert gateway.metric("conns") <= 50
    for client in inside:
        client.request("GET", "/", {"connection": "close"})
        assert client.response().status == 200
        client.close()
    for client in waiting:
        assert client.response().status == 200
        client.close()
    assert "max_connections" in gateway.process.output


def test_connections_of_one_address(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(gateway={"max_connections_per_ip": 5}, proxy_headers={"trusted": ["192.0.2.1"]})
    inside = idle_connections(gateway, 5)
    with pytest.raises((Closed, OSError)):
        idle_connections(gateway, 1)
    gateway.wait_metric("conns_refused_per_ip", 1)
    assert inside[0].get("/").status == 200
    inside.pop().close()

    def let_in() -> bool:
        with contextlib.suppress(Closed, OSError):
            inside.extend(idle_connections(gateway, 1))
            return True
        return False

    wait_for(let_in, "a place to be free again")
    for client in inside:
        client.close()


def test_flood_of_resets(make_gateway: Callable[..., Gateway]) -> None:
    """Requests that are given up at once, 1000 times: nothing is left, others are served."""
    gateway = make_gateway()
    with Load(gateway, clients=2):
        for number in range(1000):
            client = gateway.client()
            client.request("GET", "/sleep?ms=50" if number % 2 else "/")
            client.reset()
    gateway.wait_gauge("exchanges", 0)


def test_flood_of_bad_requests_is_a_bounded_log(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(log={"level": "info"})
    for _ in range(500):
        with gateway.client() as client:
            client.send(b"\x00\r\n\r\n")
            assert client.response().status == 400
    lines = gateway.process.output.count("must begin with a method")
    assert 1 <= lines <= 300
    assert gateway.metric("h1_refused_syntax") == 500


def test_deep_pipeline_is_not_read_ahead(make_gateway: Callable[..., Gateway]) -> None:
    """Megabytes of pipelined requests behind a slow one: read-ahead ends at the read buffer."""
    gateway = make_gateway()
    before = rss(gateway.server_pid)
    request = b"GET / HTTP/1.1\r\nHost: x\r\nX-Fill: " + b"f" * 900 + b"\r\n\r\n"
    with gateway.client(receive_buffer=1 << 20) as client:
        client.request("GET", "/sleep?ms=700")
        sender = threading.Thread(target=lambda: client.socket.sendall(request * 5000))
        sender.start()
        gateway.wait_note("start GET")
        assert gateway.metric("buffered_bytes") <= 64 * KIB
        if VARIANT == "release":
            assert rss(gateway.server_pid) - before <= 1024 * KIB
        assert client.response().body == b"slept\n"
        for _ in range(5000):
            assert client.response().body == b"hello\n"
        sender.join()


def test_head_bomb(make_gateway: Callable[..., Gateway]) -> None:
    """The largest heads that are allowed, on many connections at once, each without its end."""
    gateway = make_gateway()
    before = rss(gateway.server_pid)
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 320) for i in range(95))
    clients = [gateway.client() for _ in range(100)]
    for client in clients:
        client.send(head)
    gateway.wait_metric("exchanges", 100)
    if VARIANT == "release":
        wait_for(lambda: gateway.metric("bytes_received") >= 100 * len(head), "all heads to be read")
        assert rss(gateway.server_pid) - before <= 100 * 128 * KIB
    for client in clients:
        client.send(b"\r\n")
        assert client.response().status == 200
        client.close()


def test_bodies_are_right_through_the_smallest_windows(make_gateway: Callable[..., Gateway]) -> None:
    """What is held back comes whole: both directions through windows that are much smaller than the bodies."""
    limits = {"target": "1KiB", "header_block": "4KiB"}
    gateway = make_gateway(ipc={"window": "32KiB", "max_frame": "32KiB"}, limits=limits)
    with gateway.client(receive_buffer=8192) as client:
        client.request("POST", "/digest", body=b"z" * 2_000_000)
        assert json.loads(client.response().body)["bytes"] == 2_000_000
        body = client.get("/download?bytes=2000000").body
        assert body == (bytes(range(256)) * 7813)[:2_000_000]
