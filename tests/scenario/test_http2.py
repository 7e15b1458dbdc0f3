# SPDX-License-Identifier: MIT
"""HTTP/2 with real clients and with frames of our own: what is served, flow control, priorities, deadlines, the end."""

import hashlib
import json
import re
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from harness.gateway import Gateway, insecure_context
from harness.http2 import (
    DATA,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    NO_ERROR,
    PING,
    PRIORITY_UPDATE,
    SETTINGS,
    SETTINGS_TIMEOUT,
    WINDOW_UPDATE,
    Http2,
    block,
    request,
)
from harness.ports import free_port
from harness.process import wait_for
from harness.scripted_worker import ScriptedWorker, c

Maker = Callable[..., Gateway]
BOTH = ["h2", "http/1.1"]
KIB = 1024


def speak_both(gateway: Gateway) -> Gateway:
    for listener in gateway.listeners:
        listener["protocols"] = BOTH
    return gateway


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = speak_both(Gateway(tmp_path_factory.mktemp("http2"), tls=True))
    try:
        gateway.start()
        gateway.start_workers(1)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture
def make(make_gateway: Maker) -> Maker:
    """make_gateway whose listener speaks both versions."""

    def made(**options: Any) -> Gateway:
        port = free_port()
        gateway = make_gateway(listeners=[{"bind": f"127.0.0.1:{port}", "protocols": BOTH}], **options)
        gateway.port = port
        return gateway

    return made


def connect(gateway: Gateway, **options: Any) -> Http2:
    return Http2(("127.0.0.1", gateway.port), **options)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


# --- real clients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["alpn", "prior knowledge"])
def test_curl(server: Gateway, tmp_path: Path, how: str) -> None:
    url, option = (server.tls_url, "--http2") if how == "alpn" else (server.url, "--http2-prior-knowledge")
    curl = ["curl", "-sk", option, "-w", "%{http_version} %{http_code} %{size_download}", "-o", str(tmp_path / "out")]
    assert run(*curl, f"{url}/") == "2 200 6"
    assert run(*curl, "-I", f"{url}/download") == "2 200 0"
    sent = bytes(range(256)) * 12345
    (tmp_path / "in").write_bytes(sent)
    assert run(*curl, "--data-binary", f"@{tmp_path / 'in'}", f"{url}/echo") == f"2 200 {len(sent)}"
    assert (tmp_path / "out").read_bytes() == sent
    assert run(*curl, "-T", str(tmp_path / "in"), f"{url}/digest").startswith("2 200")
    assert json.loads((tmp_path / "out").read_text())["sha256"] == hashlib.sha256(sent).hexdigest()
    assert run(*curl, "-H", "expect: 100-continue", "-T", str(tmp_path / "in"), f"{url}/echo-stream").startswith(
        "2 200"
    )
    assert (tmp_path / "out").read_bytes() == sent


def test_an_upgrade_is_ignored(server: Gateway) -> None:
    """h2c by Upgrade is gone from RFC 9113 (3.1): the answer comes on HTTP/1.1."""
    assert run("curl", "-s", "--http2", "-w", "%{http_version}", "-o", "/dev/null", f"{server.url}/") == "1.1"


def test_nghttp_many_streams(server: Gateway) -> None:
    """Fifty downloads at once on one connection."""
    target = f"{server.url}/download?bytes=200000"
    out = run("nghttp", "-sn", "-m", "50", target)
    codes = re.findall(r" (\d{3}) +\S+ /download", out)
    assert codes == ["200"] * 50, out


@pytest.mark.parametrize("tls", [False, True])
def test_h2load(server: Gateway, tls: bool) -> None:
    url = server.tls_url if tls else server.url
    out = run("h2load", "-n", "20000", "-c", "10", "-m", "100", f"{url}/")
    assert "20000 succeeded, 0 failed, 0 errored, 0 timeout" in out, out
    assert "20000 2xx" in out, out


def test_httpx(server: Gateway) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(http2=True, verify=False) as client:
        answers = [client.get(f"{server.tls_url}/") for _ in range(3)]
        echoed = client.post(f"{server.tls_url}/echo", content=b"x" * 300_000)
    assert [(answer.http_version, answer.text) for answer in answers] == [("HTTP/2", "hello\n")] * 3
    assert echoed.content == b"x" * 300_000


# --- who speaks what --------------------------------------------------------------------------------------------------


def test_alpn_decides(server: Gateway) -> None:
    with server.tls_client(insecure_context(["http/1.1"])) as old:
        assert old.get("/").status == 200
    with server.tls_client(insecure_context()) as none:  # a client without ALPN gets HTTP/1.1
        assert none.get("/").status == 200
    with Http2(("127.0.0.1", server.tls_port), insecure_context(["h2"])) as new:
        assert new.get().body == b"hello\n"


def test_only_http2(make_gateway: Maker) -> None:
    """With HTTP/1.1 switched off nothing falls back to it."""
    plain = free_port()
    gateway = make_gateway(tls=True, listeners=[{"bind": f"127.0.0.1:{plain}", "protocols": ["h2"]}])
    with Http2(("127.0.0.1", plain)) as client:
        assert client.get().status == 200
    gateway.port = plain
    with gateway.client() as old:
        old.request("GET", "/")
        assert b"HTTP/1.1" not in old.rest()


def test_only_http1(make_gateway: Maker) -> None:
    port = free_port()
    gateway = make_gateway(listeners=[{"bind": f"127.0.0.1:{port}", "protocols": ["http/1.1"]}])
    gateway.port = port
    with Http2(("127.0.0.1", port), handshake=False) as client:
        client.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.socket.recv(12) == b"HTTP/1.1 505"
    assert gateway.get("/").status == 200


# --- what the app sees ------------------------------------------------------------------------------------------------


def scope_of(client: Http2, *fields: tuple[str, str], **options: str) -> Any:
    stream = client.open(request("/scope?x=1", "GET", *fields, **options))
    return json.loads(client.answer(stream).body)


def test_scope(server: Gateway) -> None:
    with connect(server) as client:
        scope = scope_of(client, ("x-a", "1"), ("x-a", "2"), ("te", "trailers"), host="Example.org:80")
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("2", "GET", "http")
    assert (scope["path"], scope["query_string"]) == ("/scope", "x=1")
    assert scope["headers"] == [["host", "Example.org:80"], ["x-a", "1"], ["x-a", "2"]]
    assert "http.response.trailers" in scope["extensions"]


def test_host_comes_first_and_once(server: Gateway) -> None:
    with connect(server) as client:
        fields = request("/scope", "GET", ("a", "b"), ("host", "LOCALHOST"))
        scope = json.loads(client.answer(client.open(fields)).body)
        without = [pair for pair in fields if pair[0] != ":authority"]
        other = json.loads(client.answer(client.open(without)).body)
    assert scope["headers"] == [["host", "localhost"], ["a", "b"]]
    assert other["headers"] == [["host", "LOCALHOST"], ["a", "b"]]


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
        client.wait(lambda got: got.kind == HEADERS)
        assert client.answers[stream].informational == [(100, [])]
        client.data(stream, b"body", end=True)
        assert client.answer(stream).body == b"body"


def test_request_trailers_are_dropped(server: Gateway) -> None:
    with connect(server) as client:
        stream = client.open(request("/echo", "POST"), end=False)
        client.data(stream, b"body")
        client.send(HEADERS, 0x5, stream, b"\x00\x05x-sum\x0242")
        assert client.answer(stream).body == b"body"
    server.expect_counted("h2_request_trailers")


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body(server: Gateway, status: int) -> None:
    told = {"status": status, "headers": [["content-length", "5"], ["connection", "x"]], "body": ["bytes"]}
    with connect(server) as client:
        answer = client.get(f"/raw?r={quote(json.dumps(told))}")
        assert (answer.status, answer.body) == (status, b"")
        assert answer.header("connection") is None
        assert answer.header("content-length") == (None if status == 204 else "5")


# --- limits of a request ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "metric"),
    [
        ([(f"x-{i}", "y") for i in range(100)], 431, "limit_header_fields"),
        ([("cookie", "a=b")] * 101, 431, "limit_cookie_crumbs"),
        ([("x-a", "y" * 8000)] * 4 + [("x-b", "z" * 900)], 431, "limit_header_block"),
    ],
)
def test_head_over_its_limits(server: Gateway, fields: Any, status: int, metric: str) -> None:
    before = server.metric(metric)
    fields = [("host", "localhost"), *fields] if metric == "limit_header_fields" else fields
    with connect(server) as client:
        whole = block([*request("/"), *fields])
        client.next_stream = 3
        client.send(HEADERS, 0x1, 1, whole[:16384])
        rest = whole[16384:]
        while len(rest) > 16384:
            client.send(9, 0, 1, rest[:16384])
            rest = rest[16384:]
        client.send(9, 0x4, 1, rest)
        assert client.answer(1).status == status
        assert client.get().status == 200
    assert server.metric(metric) == before + 1


def test_target_over_its_limit(server: Gateway) -> None:
    with connect(server) as client:
        assert client.get("/" + "a" * 8192).status == 414
        assert client.get("/scope/" + "a" * 8000).status == 200


def test_body_over_its_limit(make: Maker) -> None:
    gateway = make(limits={"body_size": "10KiB"})
    with connect(gateway) as client:
        stated = client.open(request("/echo", "POST", ("content-length", "10241")), end=False)
        answer = client.answer(stated)
        assert answer.status == 413
        grown = client.open(request("/echo", "POST"), end=False)
        for _ in range(3):
            client.data(grown, bytes(4 * KIB))
        assert client.answer(grown).status == 413
        client.ping()
        assert client.answers[grown].reset in (None, NO_ERROR)
        assert client.get().status == 200


# --- flow control -----------------------------------------------------------------------------------------------------


def test_the_stream_window_opens_as_the_app_reads(make: Maker) -> None:
    gateway = make(workers=0)
    with ScriptedWorker(gateway.app_socket) as worker, connect(gateway) as client:
        stream = client.open(request("/upload", "POST"), end=False)
        seen = worker.request()
        for _ in range(4):
            client.data(stream, bytes(16 * KIB))
        client.ping()
        opened: list[int] = []

        def note(got: Any) -> bool:
            if got.kind == WINDOW_UPDATE and got.stream == stream:
                opened.append(struct.unpack(">I", got.payload)[0])
            return bool(got.kind == PING)

        client.send(PING, 0, 0, b"windows?")
        client.wait(note)
        assert sum(opened) <= 64 * KIB, "no more than the worker's first window was taken"
        before = sum(opened)
        got = 0
        while got < 64 * KIB:
            piece = len(worker.expect(c.FRAME_DATA, seen.stream).payload)
            worker.grant(seen.stream, piece + c.DATA_OVERHEAD)
            got += piece
        if not before:
            client.wait(lambda frame: frame.kind == WINDOW_UPDATE and frame.stream == stream)
        client.data(stream, b"end", end=True)
        worker.expect(c.FRAME_DATA, seen.stream)
        worker.respond(seen.stream, 200, [(b"content-length", b"0")])
        assert client.answer(stream).status == 200
        worker.leave()


def test_a_stalled_upload_does_not_stop_the_others(make: Maker) -> None:
    """Four uploads that no app reads fill their windows; the connection's window goes on for a fifth."""
    gateway = make()
    with connect(gateway) as client:
        client.wait(lambda got: got.kind == WINDOW_UPDATE and got.stream == 0)
        stalled = [client.open(request("/sleep?ms=1500", "POST"), end=False) for _ in range(4)]
        for stream in stalled:
            for _ in range(4):
                client.data(stream, bytes(16 * KIB))
        body = bytes(30 * KIB)
        live = client.open(request("/digest", "POST"), end=False)
        client.data(live, body[: 15 * KIB])
        client.data(live, body[15 * KIB :], end=True)
        assert json.loads(client.answer(live).body)["bytes"] == len(body)
        for stream in stalled:
            client.reset(stream)
        client.ping()


def test_a_slow_reader_holds_its_app(make: Maker) -> None:
    """An endless response goes no further than our window and the gateway's; another stream is not held."""
    gateway = make()
    with connect(gateway, entries=((INITIAL_WINDOW_SIZE, 10_000),)) as client:
        client.open_windows = False
        stream = client.open(request("/endless"))
        client.wait(lambda got: len(client.answers[stream].body) == 10_000 if stream in client.answers else False)
        assert client.answer(client.open()).body == b"hello\n"
        taken = [int(note.split()[1]) for note in gateway.notes() if note.startswith("taken")]
        client.ping()
        assert len(client.answers[stream].body) == 10_000
        assert not taken or max(taken) <= 256 * KIB
        client.reset(stream)
    gateway.wait_note("send raised")


def test_windows_of_a_large_response(server: Gateway) -> None:
    with connect(server) as client:
        answer = client.get("/download?bytes=3000000")
    pattern = bytes(range(256)) * 256
    assert answer.body == (pattern * 46)[:3000000]


# --- priorities: RFC 9218 ---------------------------------------------------------------------------------------------


def test_the_app_sees_the_priority(server: Gateway) -> None:
    with connect(server) as client:
        assert "http.response.priority" not in scope_of(client)["extensions"]
        said = scope_of(client, ("priority", "u=1, i"))
        assert ["priority", "u=1, i"] in said["headers"]
        client.send(PRIORITY_UPDATE, 0, 0, struct.pack(">I", client.next_stream) + b"u=6")
        updated = scope_of(client)
    told = [
        (s["extensions"]["http.response.priority"][key]) for s in (said, updated) for key in ("urgency", "incremental")
    ]
    assert told == [1, True, 6, False]


def order_of_data(client: Http2, streams: list[int]) -> list[int]:
    order: list[int] = []
    while not all(client.answers.get(stream) and client.answers[stream].ended for stream in streams):
        got = client.next()
        if got.kind == DATA and got.payload:
            order.append(got.stream)
    return order


def next_request(worker: ScriptedWorker) -> Any:
    """The next REQUEST; credit that comes back before it is of no interest."""
    while (got := worker.next()) is not None and got.kind == c.FRAME_WINDOW:
        pass
    assert got is not None and got.kind == c.FRAME_REQUEST, str(got)
    return worker.decode(got)


@pytest.mark.parametrize("how", ["field", "frame", "response"])
def test_urgent_streams_go_first(make: Maker, how: str) -> None:
    """Two responses wait for the connection's window; when it opens, the urgent one gets all of it first."""
    gateway = make(workers=0)
    with (
        ScriptedWorker(gateway.app_socket) as worker,
        connect(gateway, entries=((INITIAL_WINDOW_SIZE, 1 << 20),)) as client,
    ):
        client.open_windows = False
        filler = client.open(request("/filler"))
        seen = worker.request()
        worker.respond(seen.stream, 200, body=bytes(45_000), flags=0)
        worker.expect(c.FRAME_WINDOW, seen.stream)
        worker.data(seen.stream, bytes(20_535), c.FLAG_END_STREAM | c.FLAG_DONE)
        client.answer(filler)  # the connection's first window is used up
        slow, urgent = client.next_stream, client.next_stream + 2
        client.open(request("/slow", "GET", *([("priority", "u=5")] if how == "field" else [])))
        client.open(request("/urgent", "GET", *([("priority", "u=0")] if how == "field" else [])))
        if how == "frame":
            client.send(PRIORITY_UPDATE, 0, 0, struct.pack(">I", slow) + b"u=5")
            client.send(PRIORITY_UPDATE, 0, 0, struct.pack(">I", urgent) + b"u=0")
        for _ in range(2):
            seen = next_request(worker)
            said = [(b"priority", b"u=0" if seen.path == "/urgent" else b"u=6")] if how == "response" else []
            worker.respond(seen.stream, 200, said, bytes(40_000))
        client.wait(lambda got: got.kind == HEADERS and got.stream == urgent)
        client.ping()
        client.window(0, 1 << 20)
        order = order_of_data(client, [slow, urgent])
        assert order == sorted(order, reverse=True), order
        worker.leave()


# --- deadlines --------------------------------------------------------------------------------------------------------


def test_settings_that_are_not_acknowledged(make: Maker) -> None:
    gateway = make(http2={"settings_ack_timeout": "200ms"})
    with connect(gateway, handshake=False) as client:
        client.note = lambda got: client.goaways.append(got) if got.kind == GOAWAY else None  # type: ignore[method-assign]
        client.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]))
        assert client.end() == SETTINGS_TIMEOUT
    gateway.expect_counted("h2_settings_timeouts")


@pytest.mark.parametrize("sent", [b"", b"PRI * HTTP/2.0\r\n", None])
def test_a_connection_without_a_request(make: Maker, sent: bytes | None) -> None:
    gateway = make(limits={"header_timeout": "200ms"})
    with connect(gateway, handshake=sent is None) as client:
        client.raw(sent or b"")
        if sent is None:
            assert client.end() == NO_ERROR
        else:
            while client.socket.recv(1000):
                pass
    gateway.wait_gauge("conns", 0)
    gateway.expect_counted("limit_header_timeout")


def test_a_header_block_that_does_not_end(make: Maker) -> None:
    gateway = make(limits={"header_timeout": "200ms"})
    with connect(gateway) as client:
        client.get()
        client.send(HEADERS, 0x1, client.next_stream, b"\x82")
        assert client.end() is not None
    gateway.expect_counted("limit_header_timeout")


def test_keep_alive(make: Maker) -> None:
    gateway = make(limits={"keep_alive": "200ms"})
    with connect(gateway) as client:
        stream = client.open()
        client.answer(stream)
        assert client.end() == NO_ERROR
        assert client.goaways[-1].last_stream == stream
    gateway.expect_counted("limit_keep_alive")


def test_a_body_that_stops(make: Maker) -> None:
    gateway = make(limits={"body_idle": "200ms"})
    with connect(gateway) as client:
        stream = client.open(request("/echo", "POST"), end=False)
        client.data(stream, b"part")
        assert client.answer(stream).status == 408
        assert client.get().status == 200
    gateway.expect_counted("limit_body_idle")


def test_a_window_that_stays_shut(make: Maker) -> None:
    gateway = make(limits={"write_stall": "300ms"})
    with connect(gateway, entries=((INITIAL_WINDOW_SIZE, 0),)) as client:
        stream = client.open(request("/download"))
        answer = client.answer(stream)
        assert answer.reset is not None and not answer.ended
        client.send(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 65535))
        assert client.get().status == 200
    gateway.expect_counted("limit_write_stall")


def test_a_client_that_reads_nothing(make: Maker) -> None:
    gateway = make(limits={"write_stall": "300ms"})
    with connect(gateway, entries=((INITIAL_WINDOW_SIZE, 0x7FFFFFFF),), receive_buffer=4096) as client:
        client.window(0, 0x7FFF0000 - 65535)
        client.open(request("/endless"))
        gateway.expect_counted("limit_write_stall")
    gateway.wait_gauge("conns", 0)


def test_requests_of_a_connection(make: Maker) -> None:
    gateway = make(limits={"keep_alive_requests": 3})
    with connect(gateway) as client:
        for _ in range(3):
            assert client.get().status == 200
        assert client.end() == NO_ERROR
    gateway.expect_counted("limit_keep_alive_requests")


# --- the graceful end -------------------------------------------------------------------------------------------------


def test_drain_in_two_steps(make: Maker) -> None:
    """GOAWAY(2^31-1), a round trip in which requests are still taken, GOAWAY(last); what is under way is finished."""
    gateway = make(gateway={"drain_idle": "5s"})
    with connect(gateway) as client:
        slow = client.open(request("/sleep?ms=500"))
        gateway.wait_note("start GET")
        client.answers.clear()
        stopping = threading.Thread(target=gateway.process.send_signal, args=(15,))
        stopping.start()
        notice = client.wait(lambda got: got.kind == GOAWAY)
        assert (notice.last_stream, notice.code) == (0x7FFFFFFF, NO_ERROR)
        late = client.open()  # may have crossed the notice
        last = client.wait(lambda got: got.kind == GOAWAY)
        assert last.last_stream in (slow, late)
        assert client.answer(slow).status == 200
        if last.last_stream == late:
            assert client.answer(late).status == 200
        assert client.end() == NO_ERROR
        stopping.join()
    assert gateway.process.wait() == 0


def test_drain_of_an_idle_connection(make: Maker) -> None:
    gateway = make()
    with connect(gateway) as client:
        stream = client.open()
        client.answer(stream)
        gateway.process.send_signal(15)
        assert client.end() == NO_ERROR
        assert client.goaways[-1].last_stream == stream
    assert gateway.process.wait() == 0


def test_streams_above_the_limit_are_refused_until_the_worker_is_done(make: Maker) -> None:
    """Rapid reset: a stream that was reset counts until its worker says DONE."""
    gateway = make(workers=0, http2={"max_concurrent_streams": 4})
    with ScriptedWorker(gateway.app_socket) as worker, connect(gateway) as client:
        assert client.server_settings[MAX_CONCURRENT_STREAMS] == 4
        seen = []
        for _ in range(4):
            stream = client.open(request("/wait"))
            seen.append(worker.request())
            client.reset(stream)
            worker.expect_disconnect(seen[-1].stream, c.ERROR_CLIENT_GONE)
        refused = client.answer(client.open())
        assert refused.reset == 7
        worker.done(seen[0].stream)
        gateway.wait_gauge("exchanges", 3)
        stream = client.open(request("/again"))
        again = worker.request()
        worker.respond(again.stream, 200, [(b"content-length", b"0")])
        assert client.answer(stream).status == 200
        for request_seen in seen[1:]:
            worker.done(request_seen.stream)
        gateway.wait_gauge("exchanges", 0)
        worker.leave()
    gateway.expect_counted("h2_streams_refused")


def test_connections_in_status(server: Gateway) -> None:
    with connect(server) as client:
        client.get()
        text = json.dumps(server.admin("connections"))
        assert '"h2"' in text, text
    wait_for(lambda: not server.live_gauges().get("conns"), "the connection to be gone")
