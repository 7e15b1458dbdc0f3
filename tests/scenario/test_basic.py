# SPDX-License-Identifier: MIT
"""The path from a client to the app and back, with the real worker: what each side sees."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.gateway import Gateway
from harness.http1 import Client
from harness.ports import free_port


def scope_of(gateway: Gateway, target: str, headers: dict[str, str] | list[tuple[str, str]] | None = None) -> Any:
    with gateway.client() as client:
        client.request("GET", target, headers)
        return json.loads(client.response().body)


# --- methods and bodies -----------------------------------------------------------------------------------------------


def test_get(shared: Gateway) -> None:
    with shared.client() as client:
        response = client.get("/")
        assert (response.version, response.status, response.reason, response.body) == (
            "HTTP/1.1",
            200,
            "OK",
            b"hello\n",
        )
        assert response.header("content-type") == "text/plain"
        assert response.header("content-length") == "6"
        assert response.header("server") == "gatewayd"
        assert len(response.all("date")) == 1
        assert response.header("transfer-encoding") is None
        assert response.header("connection") is None


def test_head_has_the_length_and_no_body(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("HEAD", "/")
        assert client.response("HEAD").header("content-length") == "6"
        assert client.get("/").body == b"hello\n"  # nothing of a body was left in between


def test_post_with_length(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("POST", "/echo", body=b"a body")
        assert client.response().body == b"a body"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "REPORT", "QUERY"])
def test_methods(shared: Gateway, method: str) -> None:
    with shared.client() as client:
        client.request(method, "/scope", body=b"x")
        assert json.loads(client.response().body)["method"] == method


def test_chunked_request(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("POST", "/echo", {"transfer-encoding": "chunked"})
        client.send(b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nx-trailer: dropped\r\n\r\n")
        assert client.response().body == b"hello world"
        assert client.get("/").status == 200


def test_chunked_request_byte_by_byte(shared: Gateway) -> None:
    with shared.client() as client:
        for byte in b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
            client.send(bytes([byte]))
        assert client.response().body == b"abc"


def test_chunked_response(shared: Gateway) -> None:
    with shared.client() as client:
        response = client.get("/drip?count=5&delay=1")
        assert response.header("transfer-encoding") == "chunked"
        assert response.header("content-length") is None
        assert response.body == b"".join(b"data: %d\n\n" % i for i in range(5))
        assert client.get("/").status == 200


def test_streams_both_ways_at_once(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("POST", "/echo-stream", {"transfer-encoding": "chunked"})
        head = client.head()
        assert head.status == 200
        for piece in (b"one", b"two", b"three"):
            client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            assert int(client._until(b"\r\n"), 16) == len(piece)
            assert client.exactly(len(piece) + 2) == piece + b"\r\n"
        client.send(b"0\r\n\r\n")
        assert client.exactly(5) == b"0\r\n\r\n"


def test_body_of_one_mebibyte(shared: Gateway) -> None:
    body = bytes(range(256)) * 4096
    with shared.client() as client:
        client.request("POST", "/echo", body=body)
        assert client.response().body == body


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(shared: Gateway, status: int) -> None:
    told = json.dumps({"status": status, "headers": [["x-mark", "1"]], "body": [""]})
    with shared.client() as client:
        client.request("GET", "/raw?r=" + told.replace(" ", "").replace('"', "%22"))
        response = client.response()
        assert response.status == status and response.header("x-mark") == "1"
        assert response.header("transfer-encoding") is None
        assert response.header("content-length") is None
        assert client.get("/").status == 200


def raw_target(told: dict[str, Any]) -> str:
    return "/raw?r=" + "".join(f"%{byte:02x}" for byte in json.dumps(told).encode())


def test_content_length_longer_than_the_body_is_cut(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("GET", raw_target({"headers": [["content-length", "10"]], "body": ["abc", ""]}))
        head = client.head()
        if head.status == 200:
            assert client.expect_end() in (b"", b"abc")
        else:  # head and failure came in one read, so that nothing had been sent
            assert head.status == 500 and b"abc" not in client.body(head)
    assert shared.get("/").status == 200


def test_repeated_fields_and_app_fields(shared: Gateway) -> None:
    fields = [["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"], ["Server", "mine"], ["Date", "then"]]
    with shared.client() as client:
        response = client.get(raw_target({"headers": fields, "body": ["x"]}))
        assert response.all("set-cookie") == ["a=1", "b=2"]
        assert response.all("server") == ["mine"]
        assert response.all("date") == ["then"]


def test_hop_by_hop_fields_of_the_app_are_dropped(shared: Gateway) -> None:
    fields = [["transfer-encoding", "gzip"], ["connection", "close, x-a"], ["keep-alive", "timeout=5"], ["x-b", "1"]]
    with shared.client() as client:
        response = client.get(raw_target({"headers": fields, "body": ["x", "y"]}))
        assert response.body == b"xy"
        assert response.header("transfer-encoding") is None  # it came whole
        assert response.header("keep-alive") is None
        assert response.header("x-b") == "1"
        assert client.get("/").status == 200


# --- connections ------------------------------------------------------------------------------------------------------


def test_keep_alive(shared: Gateway) -> None:
    with shared.client() as client:
        for _ in range(20):
            assert client.get("/").status == 200


def test_connection_close(shared: Gateway) -> None:
    with shared.client() as client:
        response = client.get("/", {"connection": "close"})
        assert response.header("connection") == "close"
        assert client.rest() == b""


def test_pipelining_keeps_the_order(shared: Gateway) -> None:
    with shared.client() as client:
        client.send(
            b"".join(
                b"GET /sleep?ms=%d&id=p%d HTTP/1.1\r\nHost: x\r\nX-N: %d\r\n\r\n" % (30 - 10 * i, i, i)
                for i in range(3)
            )
            + b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /scope/last HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert [client.response().body for _ in range(3)] == [b"slept\n"] * 3
        assert client.response().body == b"abc"
        assert json.loads(client.response().body)["path"] == "/scope/last"
    starts = [note for note in shared.notes() if note.startswith("start GET p")]
    assert starts == ["start GET p0", "start GET p1", "start GET p2"]


def test_http_1_0(shared: Gateway) -> None:
    with shared.client() as client:
        client.send(b"GET /scope HTTP/1.0\r\n\r\n")
        response = client.head()
        assert response.version == "HTTP/1.1" and response.header("connection") == "close"
        scope = json.loads(client.body(response))
        assert scope["http_version"] == "1.0" and scope["headers"] == []
        assert client.rest() == b""


def test_http_1_0_keep_alive(shared: Gateway) -> None:
    with shared.client() as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = client.response()
            assert response.header("connection") == "keep-alive" and response.body == b"hello\n"


def test_http_1_0_gets_no_chunks(shared: Gateway) -> None:
    with shared.client() as client:
        client.send(b"GET /drip?count=3&delay=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = client.head()
        assert response.header("transfer-encoding") is None and response.header("connection") == "close"
        assert client.rest() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_leading_empty_line(shared: Gateway) -> None:
    with shared.client() as client:
        client.send(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.response().status == 200


def test_hundred_connections_at_once(shared: Gateway) -> None:
    clients = [shared.client() for _ in range(100)]
    for number, client in enumerate(clients):
        client.request("GET", f"/scope/{number}")
    for number, client in enumerate(clients):
        assert json.loads(client.response().body)["path"] == f"/scope/{number}"
        client.close()


# --- expectations, hints, trailers ------------------------------------------------------------------------------------


def test_100_continue_comes_when_the_app_asks(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("POST", "/echo", {"expect": "100-continue", "content-length": "4"})
        assert client.head().status == 100
        client.send(b"body")
        assert client.response().body == b"body"
        assert client.get("/").status == 200


def test_100_continue_is_not_sent_when_the_app_does_not_ask(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("POST", "/early?status=403", {"expect": "100-continue", "content-length": "4"})
        response = client.head()
        assert response.status == 403
        assert client.body(response) == b"early\n"
        # The body may or may not come: the connection cannot go on.
        assert response.header("connection") == "close"


def test_body_sent_without_waiting_for_100(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("POST", "/echo", {"expect": "100-continue"}, body=b"body")
        assert client.response().body == b"body"


def test_unknown_expectation(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("POST", "/echo", {"expect": "miracles"}, body=b"x")
        assert client.response().status == 417
        assert client.expect_end() == b""


def test_early_hints(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("GET", "/hints")
        hint = client.head()
        assert hint.status == 103 and hint.header("link") == "</a.css>; rel=preload"
        assert client.response().body == b"hinted\n"


def test_no_early_hints_for_http_1_0(shared: Gateway) -> None:
    with shared.client() as client:
        client.send(b"GET /hints HTTP/1.0\r\n\r\n")
        assert client.head().status == 200


def test_trailers_for_who_takes_them(shared: Gateway) -> None:
    with shared.client() as client:
        client.request("GET", "/trailers", {"te": "trailers"})
        response = client.response()
        assert (response.body, response.trailers) == (b"body", [("x-sum", "42")])
        client.request("GET", "/trailers")
        response = client.response()
        assert (response.body, response.trailers) == (b"body", [])


# --- the scope --------------------------------------------------------------------------------------------------------


def test_scope(shared: Gateway) -> None:
    with shared.client() as client:
        port = client.socket.getsockname()[1]
        client.request("GET", "/scope/a%20b%C3%A4?x=%31&y", {"host": "Example.com:81", "X-A": "1"})
        scope = json.loads(client.response().body)
    assert scope["type"] == "http" and scope["scheme"] == "http" and scope["method"] == "GET"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["http_version"] == "1.1"
    assert scope["path"] == "/scope/a bä" and scope["raw_path"] == "/scope/a%20b%C3%A4"
    assert scope["query_string"] == "x=%31&y" and scope["root_path"] == ""
    assert scope["headers"] == [["host", "Example.com:81"], ["x-a", "1"]]
    assert scope["client"] == ["127.0.0.1", port]
    assert scope["server"] == ["127.0.0.1", shared.port]
    assert "tls" not in scope["extensions"]


def test_scope_keeps_duplicates_in_order(shared: Gateway) -> None:
    scope = scope_of(shared, "/scope", [("x-a", "1"), ("X-B", "2"), ("x-A", "3")])
    assert scope["headers"][1:] == [["x-a", "1"], ["x-b", "2"], ["x-a", "3"]]


def test_scope_absolute_target(shared: Gateway) -> None:
    with shared.client() as client:
        client.send(b"GET http://abs.example/scope/x?q=1 HTTP/1.1\r\nHost: abs.example\r\n\r\n")
        scope = json.loads(client.response().body)
    assert (scope["path"], scope["query_string"]) == ("/scope/x", "q=1")
    assert scope["headers"] == [["host", "abs.example"]]


def test_bad_percent_sequences_stay_literal(shared: Gateway) -> None:
    scope = scope_of(shared, "/scope/%zz%")
    assert scope["path"] == "/scope/%zz%"


def test_forwarded_fields_of_a_trusted_proxy(shared: Gateway) -> None:
    scope = scope_of(shared, "/scope", {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"})
    assert scope["client"][0] == "203.0.113.7" and scope["scheme"] == "https"


def test_forwarded_fields_of_others_are_stripped(make_gateway: Any) -> None:
    gateway = make_gateway(proxy_headers={"trusted": ["192.0.2.1"]})
    fields = {"x-forwarded-for": "203.0.113.7", "forwarded": "for=203.0.113.7", "x-real-ip": "1.2.3.4", "x-kept": "1"}
    scope = scope_of(gateway, "/scope", fields)
    assert scope["client"][0] == "127.0.0.1" and scope["scheme"] == "http"
    assert [name for name, _ in scope["headers"]] == ["host", "x-kept"]


def test_large_headers_both_ways(shared: Gateway) -> None:
    fields = {f"x-{i}": "v" * 600 for i in range(48)}
    scope = scope_of(shared, "/scope", fields)
    assert dict(scope["headers"])["x-47"] == "v" * 600
    with shared.client() as client:
        response = client.get(raw_target({"headers": [["x-big", "v" * 2000]], "body": ["ok"]}))
        assert response.header("x-big") == "v" * 2000


# --- where it listens -------------------------------------------------------------------------------------------------


def test_ipv6(make_gateway: Any) -> None:
    port = free_port("::1")
    make_gateway(listeners=[{"bind": f"[::1]:{port}"}])
    with Client(("::1", port)) as client:
        client.request("GET", "/scope")
        scope = json.loads(client.response().body)
    assert scope["client"][0] == "::1" and scope["server"] == ["::1", port]


def test_unix_listener(make_gateway: Any, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    gateway = make_gateway(listeners=[{"bind": f"unix:{path}"}], gateway={"threads": 2})
    for _ in range(4):
        with Client(str(path)) as client:
            client.request("GET", "/scope")
            scope = json.loads(client.response().body)
            assert "client" not in scope or scope["client"] is None
            assert scope["server"] == [str(path), None]
    assert gateway.process.alive


# --- foreign clients --------------------------------------------------------------------------------------------------


def curl(*arguments: str) -> str:
    done = subprocess.run(["curl", "-sS", "--max-time", "20", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(shared: Gateway, tmp_path: Path) -> None:
    assert curl(shared.url + "/") == "hello\n"
    assert curl("-I", shared.url + "/").startswith("HTTP/1.1 200 OK\n")
    body = tmp_path / "body"
    body.write_bytes(b"z" * 300_000)
    assert json.loads(curl("-T", str(body), shared.url + "/digest"))["bytes"] == 300_000
    assert (
        json.loads(curl("-H", "Expect: 100-continue", "--data-binary", f"@{body}", shared.url + "/digest"))["bytes"]
        == 300_000
    )
    assert (
        json.loads(curl("-H", "Transfer-Encoding: chunked", "-T", str(body), shared.url + "/digest"))["bytes"]
        == 300_000
    )
    assert curl(shared.url + "/drip?count=2&delay=1") == "data: 0\n\ndata: 1\n\n"
    assert curl("-0", shared.url + "/drip?count=1&delay=1") == "data: 0\n\n"


def test_httpx(shared: Gateway) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=shared.url, trust_env=False) as client:
        assert client.get("/").text == "hello\n"
        assert client.post("/echo", content=iter([b"a", b"b"])).content == b"ab"
        assert client.post("/digest", files={"f": b"data"}).json()["bytes"] > 0
        with client.stream("GET", "/download?bytes=200000&chunked=1") as response:
            assert sum(len(piece) for piece in response.iter_bytes()) == 200_000
