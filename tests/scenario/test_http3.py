# SPDX-License-Identifier: MIT
"""HTTP/3 with real clients and frames of our own: what is served, limits, flow control, priorities, the end."""

import asyncio
import hashlib
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aioquic.asyncio.client import connect as aioquic_connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from harness.gateway import VARIANT, Gateway, insecure_context
from harness.http2 import Http2
from harness.http3 import (
    H3_NO_ERROR,
    HEADERS,
    Http3,
    block,
    frame,
    request,
)
from harness.process import rss, wait_for
from harness.scripted_worker import ScriptedWorker, c

Maker = Callable[..., Gateway]
KIB, MIB = 1024, 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("http3"), quic=True)
    try:
        gateway.start()
        gateway.start_workers(1)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def connect(gateway: Gateway, **options: Any) -> Http3:
    return Http3(gateway.quic_address, **options)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


CURL = ("curl", "-sk", "--http3-only", "--max-time", "280", "-w", "%{http_version} %{http_code} %{size_download}")


def pattern(size: int) -> bytes:
    """What /download sends."""
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def sha256_of_pattern(size: int) -> str:
    sha, piece = hashlib.sha256(), pattern(MIB)
    for _ in range(size // MIB):
        sha.update(piece)
    sha.update(piece[: size % MIB])
    return sha.hexdigest()


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- real clients -----------------------------------------------------------------------------------------------------


def test_curl(server: Gateway, tmp_path: Path) -> None:
    out, url = tmp_path / "out", server.tls_url
    curl = [*CURL, "-o", str(out)]
    assert run(*curl, f"{url}/") == "3 200 6"
    assert out.read_bytes() == b"hello\n"
    assert run(*curl, "-I", f"{url}/download") == "3 200 0"
    sent = bytes(range(256)) * 12345
    (tmp_path / "in").write_bytes(sent)
    assert run(*curl, "--data-binary", f"@{tmp_path / 'in'}", f"{url}/echo") == f"3 200 {len(sent)}"
    assert out.read_bytes() == sent
    assert run(*curl, "-T", str(tmp_path / "in"), f"{url}/echo-stream").startswith("3 200")
    assert out.read_bytes() == sent
    assert run(*curl, f"{url}/nothing-here").startswith("3 404")


def test_curl_trailers_and_hints(server: Gateway, tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    out = run(*CURL, "-D", str(heads), "-H", "te: trailers", f"{server.tls_url}/trailers")
    assert out.startswith("body") and "3 200" in out
    assert "x-sum: 42" in heads.read_text() + out
    assert run(*CURL, "-D", str(heads), f"{server.tls_url}/hints") == "hinted\n3 200 7"
    assert heads.read_text().startswith("HTTP/3 103") and "link: </a.css>; rel=preload" in heads.read_text()


def transfer(gateway: Gateway, directory: Path, size: int) -> None:
    """An upload and a download of `size` bytes; the gateway does not grow by them."""
    out, source, url = directory / "out", directory / "in", gateway.tls_url
    with source.open("wb") as file:
        for _ in range(size // MIB):
            file.write(pattern(MIB))
    assert run(*CURL, "-o", str(out), f"{url}/").startswith("3 200")  # what every connection needs is there now
    before = rss(gateway.server_pid)
    assert run(*CURL, "-o", str(out), "-T", str(source), f"{url}/digest").startswith("3 200")
    assert json.loads(out.read_text()) == {"bytes": size, "sha256": sha256_of_pattern(size)}
    assert run(*CURL, "-o", str(out), f"{url}/download?bytes={size}") == f"3 200 {size}"
    assert sha256_of_file(out) == sha256_of_pattern(size)
    grown = rss(gateway.server_pid) - before
    assert VARIANT != "release" or grown < 16 * MIB, f"RSS grew by {grown >> 10} KiB"


def test_curl_64_mib(server: Gateway, tmp_path: Path) -> None:
    transfer(server, tmp_path, 64 * MIB)


@pytest.mark.long
def test_curl_1_gib(make_gateway: Maker, tmp_path: Path) -> None:
    transfer(make_gateway(quic=True, limits={"body_size": "2GiB"}), tmp_path, 1024 * MIB)


def test_curl_parallel(server: Gateway, tmp_path: Path) -> None:
    """Fifty downloads at once."""
    urls = [f"{server.tls_url}/download?bytes=200000&n=[1-50]", "-o", "/dev/null"]
    out = run(
        "curl", "-sk", "--http3-only", "-Z", "--parallel-max", "50", "-w", "%{http_version} %{size_download}\n", *urls
    )
    assert out.splitlines() == ["3 200000"] * 50


class Plain(QuicConnectionProtocol):
    """aioquic's own client, with its own HTTP/3: nothing of our harness."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.bodies: dict[int, bytes] = {}
        self.statuses: dict[int, bytes] = {}
        self.waiting: dict[int, asyncio.Future[None]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        for got in self.http.handle_event(event):
            if isinstance(got, HeadersReceived) and got.stream_id not in self.statuses:
                self.statuses[got.stream_id] = dict(got.headers)[b":status"]
            if isinstance(got, DataReceived):
                self.bodies[got.stream_id] = self.bodies.get(got.stream_id, b"") + got.data
            if isinstance(got, (HeadersReceived, DataReceived)) and got.stream_ended:
                self.waiting[got.stream_id].set_result(None)

    async def post(self, path: str, body: bytes) -> tuple[bytes, bytes]:
        stream = self._quic.get_next_available_stream_id()
        self.waiting[stream] = asyncio.get_running_loop().create_future()
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
        ]
        self.http.send_headers(stream, fields)
        self.http.send_data(stream, body, True)
        self.transmit()
        await asyncio.wait_for(self.waiting[stream], 20)
        return self.statuses[stream], self.bodies.get(stream, b"")


def test_aioquic(server: Gateway) -> None:
    async def talk() -> list[tuple[bytes, bytes]]:
        options = QuicConfiguration(alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE)
        where = {"host": "127.0.0.1", "port": server.tls_port}
        async with aioquic_connect(**where, configuration=options, create_protocol=Plain) as client:
            bodies = [b"x" * size for size in (0, 10, 300_000)]
            return list(await asyncio.gather(*(client.post("/echo", body) for body in bodies)))

    answers = asyncio.run(talk())
    assert [(status, len(body)) for status, body in answers] == [(b"200", 0), (b"200", 10), (b"200", 300_000)]


# --- who speaks what --------------------------------------------------------------------------------------------------


def test_alt_svc(server: Gateway) -> None:
    """HTTP/3 is announced where it can be had, and only there."""
    told = f'h3=":{server.tls_port}"; ma=86400'
    with server.tls_client(insecure_context(["http/1.1"])) as old:
        assert old.get("/").header("alt-svc") == told
    with Http2(("127.0.0.1", server.tls_port), insecure_context(["h2"])) as two:
        assert two.get().header("alt-svc") == told
    with connect(server) as three:
        assert three.get().header("alt-svc") is None
    assert server.get("/").header("alt-svc") is None  # the plain listener


def test_alt_svc_as_told(make_gateway: Maker) -> None:
    gateway = make_gateway(quic=True, http3={"alt_svc_max_age": "60s", "alt_svc_port": 443})
    with gateway.tls_client() as client:
        assert client.get("/").header("alt-svc") == 'h3=":443"; ma=60'
    off = make_gateway(quic=True, http3={"alt_svc_max_age": "off"})
    with off.tls_client() as client:
        assert client.get("/").header("alt-svc") is None


def test_refused_without_tls(make_gateway: Maker, tmp_path: Path) -> None:
    """A plain listener cannot speak it: the configuration is refused with a sentence."""
    gateway = Gateway(tmp_path)
    gateway.listeners[0]["protocols"] = ["h3", "http/1.1"]
    gateway.write_config()
    done = subprocess.run([*gateway.process.command, "-t"], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode != 0 and "h3" in done.stderr, done.stderr


# --- what the app sees ------------------------------------------------------------------------------------------------


def scope_of(client: Http3, *fields: tuple[str, str], **options: str) -> Any:
    stream = client.open(request("/scope?x=1", "GET", *fields, **options))
    return json.loads(bytes(client.answer(stream).body))


def test_scope(server: Gateway) -> None:
    with connect(server) as client:
        port = client.local[1]
        scope = scope_of(client, ("x-a", "1"), ("x-a", "2"), ("te", "trailers"), host="Example.org:443")
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("3", "GET", "https")
    assert (scope["path"], scope["query_string"]) == ("/scope", "x=1")
    assert scope["headers"] == [["host", "Example.org:443"], ["x-a", "1"], ["x-a", "2"]]
    assert scope["client"] == ["127.0.0.1", port] and scope["server"] == ["127.0.0.1", server.tls_port]
    assert "http.response.trailers" in scope["extensions"]
    tls = scope["extensions"]["tls"]
    assert tls["tls_version"] == 0x0304 and tls["cipher_suite"] >> 8 == 0x13 and tls["server_cert"]


def test_cookie_crumbs_are_joined(server: Gateway) -> None:
    with connect(server) as client:
        scope = scope_of(client, ("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e=f"))
    assert [value for name, value in scope["headers"] if name == "cookie"] == ["a=b; c=d; e=f"]


def test_trailers_and_hints(server: Gateway) -> None:
    with connect(server) as client:
        answer = client.get("/trailers", ("te", "trailers"))
        assert (answer.body, answer.trailers) == (b"body", [("x-sum", "42")])
        assert client.get("/trailers").trailers == []
        assert client.get("/hints").informational == [(103, [("link", "</a.css>; rel=preload")])]


def test_continue(server: Gateway) -> None:
    """100 comes when the app asks for the body."""
    with connect(server) as client:
        stream = client.open(request("/echo", "POST", ("expect", "100-continue")), end=False)
        client.pump(lambda: client.answers[stream].informational, "100")
        assert client.answers[stream].informational == [(100, [])]
        client.data(stream, b"body", end=True)
        assert client.answer(stream).body == b"body"


def test_request_trailers_are_dropped(server: Gateway) -> None:
    with connect(server) as client:
        stream = client.open(request("/echo", "POST"), end=False)
        client.data(stream, b"body")
        client.trailers(stream, [("x-sum", "42")])
        assert client.answer(stream).body == b"body"
    server.expect_counted("h3_request_trailers")


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body(server: Gateway, status: int) -> None:
    told = {"status": status, "headers": [["content-length", "5"], ["connection", "x"]], "body": ["bytes"]}
    with connect(server) as client:
        answer = client.get(f"/raw?r={quote(json.dumps(told))}")
        assert (answer.status, answer.body) == (status, b"")
        assert answer.header("content-length") == (None if status == 204 else "5")


def test_head(server: Gateway) -> None:
    with connect(server) as client:
        answer = client.get("/download?bytes=100000", method="HEAD")
        assert (answer.status, answer.received, answer.header("content-length")) == (200, 0, "100000")


def test_the_body_in_pieces(server: Gateway) -> None:
    """Frames need not be whole in a packet, nor packets in a frame."""
    with connect(server) as client:
        stream = client.new_stream()
        body = pattern(5000)
        whole = frame(HEADERS, block(request("/echo", "POST"))) + b"".join(
            frame(0, body[at : at + 700]) for at in range(0, 5000, 700)
        )
        for at in range(0, len(whole), 37):
            client.raw(stream, whole[at : at + 37], at + 37 >= len(whole))
            client.flush()
        assert client.answer(stream).body == body


def test_access_log(server: Gateway) -> None:
    with connect(server) as client:
        assert client.get("/scope/logged").status == 200
    wait_for(lambda: any('"GET /scope/logged HTTP/3" 200' in line for line in server.access_log()), "the line")


# --- limits of a request ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "metric"),
    [
        ([("host", "localhost"), *((f"x-{i}", "y") for i in range(100))], 431, "limit_header_fields"),
        ([("cookie", "a=b")] * 101, 431, "limit_cookie_crumbs"),
        ([("x-a", "y" * 8000)] * 4 + [("x-b", "z" * 900)], 431, "limit_header_block"),
    ],
)
def test_head_over_its_limits(server: Gateway, fields: Any, status: int, metric: str) -> None:
    before = server.metric(metric)
    with connect(server) as client:
        assert client.answer(client.open([*request("/"), *fields], plain=True)).status == status
        assert client.get().status == 200
    assert server.metric(metric) == before + 1


def test_target_over_its_limit(server: Gateway) -> None:
    with connect(server) as client:
        assert client.answer(client.open(request("/" + "a" * 8192), plain=True)).status == 414
        assert client.answer(client.open(request("/scope/" + "a" * 8000), plain=True)).status == 200


def test_body_over_its_limit(make_gateway: Maker) -> None:
    gateway = make_gateway(quic=True, limits={"body_size": "10KiB"})
    with connect(gateway) as client:
        stated = client.open(request("/echo", "POST", ("content-length", "10241")), end=False)
        assert client.answer(stated).status == 413
        grown = client.open(request("/echo", "POST"), end=False)
        for _ in range(3):
            client.data(grown, bytes(4 * KIB))
        assert client.answer(grown).status == 413
        client.pump(lambda: client.answers[grown].stopped is not None, "STOP_SENDING")
        assert client.answers[grown].stopped == H3_NO_ERROR
        assert client.get().status == 200


def test_early_answer(server: Gateway) -> None:
    """The answer is there before the request is: the rest is not wanted (RFC 9114 4.1.1), the connection goes on."""
    with connect(server) as client:
        stream = client.open(request("/early", "POST"), end=False)
        client.data(stream, bytes(1000))
        answer = client.answer(stream)
        assert (answer.status, answer.body) == (200, b"early\n")
        client.pump(lambda: answer.stopped is not None, "STOP_SENDING")
        assert answer.stopped == H3_NO_ERROR
        client.reset(stream)
        assert client.get().status == 200


# --- flow control -----------------------------------------------------------------------------------------------------


def test_a_slow_app_stops_the_upload(make_gateway: Maker) -> None:
    """What the app does not read stays with the client; what it has read is granted again."""
    gateway = make_gateway(quic=True, workers=0)
    with ScriptedWorker(gateway.app_socket) as worker, connect(gateway) as client:
        stream = client.open(request("/upload", "POST"), end=False)
        seen = worker.request()
        client.data(stream, bytes(MIB))
        sender = client.quic._streams[stream].sender
        client.pump(lambda: sender.highest_offset >= 32 * KIB, "the window to be used")
        client.pump_for(0.3)
        assert 32 * KIB <= sender.highest_offset <= 192 * KIB, sender.highest_offset
        assert gateway.metric("buffered_bytes") <= 192 * KIB
        other = client.open()  # the connection is not stuck
        client.ping()
        while (got := worker.next()) is not None and got.kind == c.FRAME_DATA:
            assert got.stream == seen.stream
        assert got is not None and got.kind == c.FRAME_REQUEST, str(got)
        worker.respond(got.stream)
        assert client.answer(other).status == 200
        client.cancel(stream)
        worker.expect_disconnect(seen.stream, c.ERROR_CLIENT_GONE)
        worker.done(seen.stream)
        worker.leave()


def test_a_slow_reader_does_not_slow_its_siblings(server: Gateway) -> None:
    """One stream gets no more credit; others come whole, and the first when it is read again."""
    with connect(server, max_stream_data=64 * KIB, max_data=64 * MIB) as client:
        slow = client.open(request(f"/download?bytes={4 * MIB}"))
        client.hold(slow)
        client.pump(lambda: client.answers[slow].received >= 48 * KIB, "the held stream to be full")
        for _ in range(20):
            answer = client.get(f"/download?bytes={256 * KIB}")
            assert answer.sha256.hexdigest() == sha256_of_pattern(256 * KIB)
        held = client.answers[slow].received
        assert held <= 64 * KIB
        wait_for(lambda: server.metric("buffered_bytes") <= 1 * MIB, "little to be held for it")
        client.go_on()
        assert client.answer(slow).sha256.hexdigest() == sha256_of_pattern(4 * MIB)


def test_a_reader_that_stops_stops_the_app(make_gateway: Maker) -> None:
    gateway = make_gateway(quic=True)
    with connect(gateway, max_stream_data=64 * KIB, max_data=256 * KIB) as client:
        stream = client.open(request("/endless"))
        client.hold(stream, connection=True)
        client.head(stream)

        def taken() -> int:
            notes = [note for note in gateway.notes() if note.startswith("taken")]
            return int(notes[-1].split()[1]) if notes else 0

        client.pump(lambda: client.answers[stream].received >= 48 * KIB, "the window to be full")
        last = -1
        while taken() != last:
            last = taken()
            client.pump_for(0.3)
        assert last <= 2 * MIB, last
        client.cancel(stream)
        client.ping()
    gateway.wait_note("send raised OSError")


def test_reset_tells_the_app(server: Gateway) -> None:
    with connect(server) as client:
        stream = client.open(request("/disconnect"))
        server.wait_note("^waiting$")
        client.cancel(stream)
        client.flush()
        server.wait_note("^got http.disconnect")
        assert client.get().status == 200


@pytest.mark.parametrize("how", ["close", "silent"])
def test_a_client_that_goes(make_gateway: Maker, how: str) -> None:
    """CONNECTION_CLOSE tells the app at once, silence after the idle time-out."""
    gateway = make_gateway(quic=True, http3={"idle_timeout": "2s"})
    client = connect(gateway)
    client.open(request("/disconnect"))
    client.flush()
    gateway.wait_note("^waiting$")
    if how == "close":
        client.close()
    else:
        client.abandon()
    gateway.wait_note("^got http.disconnect")
    gateway.wait_gauge("quic_conns", 0)


# --- priorities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["field", "frame"])
def test_priorities(server: Gateway, how: str) -> None:
    """The urgent response comes first, although it was asked for last (RFC 9218)."""
    with connect(server, max_stream_data=8 * MIB, max_data=32 * KIB) as client:
        client.hold(connection=True)
        size = 2 * MIB
        fields = (("priority", "u=7"),) if how == "field" else ()
        late = client.open(request(f"/download?bytes={size}", "GET", *fields))
        if how == "frame":
            client.prioritize(late, "u=7")
        client.head(late)
        urgent = client.open(request(f"/download?bytes={size}", "GET", ("priority", "u=0")))
        client.pump(lambda: client.answers[urgent].status or client.answers[late].received >= 31 * KIB, "a full window")
        client.ping()
        client.pump_for(0.2)  # both wait for the window with something to send
        before = client.answers[late].received
        client.go_on()
        client.answer(urgent)
        behind = client.answers[late].received - before
        assert behind <= size // 2, f"{behind} bytes of the background came before the urgent response had ended"
        client.answer(late)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_gateway_that_stops(make_gateway: Maker) -> None:
    """Two GOAWAYs; what is under way is finished, what comes late is rejected for another try."""
    gateway = make_gateway(quic=True)
    with connect(gateway) as client:
        assert client.get().status == 200
        under_way = client.open(request("/sleep?ms=1500&id=slow"))
        gateway.wait_note("^start GET slow")
        gateway.process.send_signal(15)
        assert client.expect_goaway() >= 1 << 60
        last = client.expect_goaway(2)
        assert under_way < last <= client.quic.get_next_available_stream_id()
        answer = client.answer(under_way)
        assert (answer.status, answer.body) == (200, b"slept\n")
        closing = client.expect_closed()
        assert closing.application and closing.code == H3_NO_ERROR, closing
    assert gateway.process.wait() == 0


def test_cancelled_requests_are_not_served(server: Gateway) -> None:
    before = server.metric("h3_resets_in")
    with connect(server) as client:
        for _ in range(20):
            client.cancel(client.open(request("/sleep?ms=2000&id=cancelled")))
        client.ping()
        assert client.get().status == 200
    server.wait_metric_at_least("h3_resets_in", before + 20)
