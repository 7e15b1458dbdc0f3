# SPDX-License-Identifier: MIT
"""docs/ASGI.md rules 1 to 7: the scope."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_worker.asgi.scope import with_root
from asgi_worker.protocol.constants import FRAME_CONN
from asgi_worker.protocol.frames import frame
from asgi_worker.protocol.msgpack import packb
from harness import Bench, serve


def scope_of(*, prepare: Any = None, settings: dict[str, Any] | None = None, **head: Any) -> Any:
    """Return the scope that an application gets for a request head."""
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def test(bench: Bench) -> None:
        if prepare is not None:
            prepare(bench)
        exchange = await bench.request(**head)
        assert exchange.status == 200

    serve(app, test, **(settings or {}))
    return scopes[0]


def test_scope_has_exactly_the_keys_of_the_specification() -> None:
    scope = scope_of(path="/a", query=b"x=1", version="2", scheme="https", method="PUT")
    assert type(scope) is dict
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["http_version"] == "2"
    assert scope["method"] == "PUT"
    assert scope["scheme"] == "https"
    assert scope["path"] == "/a"
    assert scope["raw_path"] == b"/a"
    assert scope["query_string"] == b"x=1"
    assert scope["root_path"] == ""
    assert set(scope) == {
        "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string",
        "root_path", "headers", "client", "server", "state", "extensions",
    }  # fmt: skip


def test_rule_01_headers_keep_order_and_duplicates() -> None:
    fields = [(b"host", b"h"), (b"x", b"1"), (b"a", b""), (b"x", b"2"), (b"x", b"1")]
    scope = scope_of(fields=fields)
    assert list(scope["headers"]) == fields
    assert type(scope["headers"]) is list
    assert all(type(item) is tuple for item in scope["headers"])


def test_rule_01_headers_of_one_request_are_not_those_of_the_next() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(list(scope["headers"]))
        scope["headers"].append((b"x-mine", b"1"))
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def test(bench: Bench) -> None:
        for _ in range(3):
            await bench.request()

    serve(app, test)
    assert seen[0] == seen[1] == seen[2]


def test_rule_02_cookie_arrives_joined_and_stays_one_field() -> None:
    fields = [(b"host", b"h"), (b"cookie", b"a=1; b=2"), (b"x", b"1"), (b"x", b"2")]
    headers = scope_of(fields=fields)["headers"]
    assert [value for name, value in headers if name == b"cookie"] == [b"a=1; b=2"]
    assert [value for name, value in headers if name == b"x"] == [b"1", b"2"]


def test_rule_03_client_and_server() -> None:
    scope = scope_of(client=b"2001:db8::1\x0012345", server=b"10.0.0.1\x00443")
    assert scope["client"] == ("2001:db8::1", 12345)
    assert type(scope["client"][1]) is int
    assert scope["server"] == ("10.0.0.1", 443)


def test_rule_03_unix_peer_has_no_client_key() -> None:
    scope = scope_of(client=None, server=b"/run/x.sock\x00")
    assert "client" not in scope
    assert scope["server"] == ("/run/x.sock", None)


@pytest.mark.parametrize(
    ("root", "path", "raw", "expected"),
    [
        ("/api", "/users", None, ("/api/users", b"/api/users")),
        ("/api", "/api/users", None, ("/api/users", b"/api/users")),
        ("/api", "/apiary", None, ("/api/apiary", b"/api/apiary")),
        ("/api", "/api", None, ("/api", b"/api")),
        ("/api", "/ä b", b"/%C3%A4%20b", ("/api/ä b", b"/api/%C3%A4%20b")),
    ],
)
def test_rule_04_root_path_is_in_front_once(root: str, path: str, raw: Any, expected: Any) -> None:
    scope = scope_of(root_path=root, path=path, raw_path=raw)
    assert (scope["path"], scope["raw_path"]) == expected
    assert scope["root_path"] == root


def test_rule_04_option_counts_when_the_gateway_has_no_prefix() -> None:
    scope = scope_of(path="/x", settings={"root_path": "/opt"})
    assert (scope["root_path"], scope["path"]) == ("/opt", "/opt/x")
    scope = scope_of(path="/x", root_path="/gw", settings={"root_path": "/opt"})
    assert (scope["root_path"], scope["path"]) == ("/gw", "/gw/x")


def test_with_root_leaves_a_path_that_has_it() -> None:
    assert with_root("/a", "/a/b", b"/a/b") == ("/a/b", b"/a/b")


def test_rule_05_undecodable_path_stays_as_it_was_sent() -> None:
    scope = scope_of(path="/%ff%zz", raw_path=None)
    assert scope["path"] == "/%ff%zz"
    assert scope["raw_path"] == b"/%ff%zz"
    scope = scope_of(path="/ü", raw_path=b"/%C3%BC")
    assert scope["path"] == "/ü"
    assert scope["raw_path"] == b"/%C3%BC"


def test_rule_05_raw_path_of_a_path_that_was_sent_unencoded() -> None:
    assert scope_of(path="/ü")["raw_path"] == "/ü".encode()


def test_rule_06_state_is_a_shallow_copy() -> None:
    shared: list[int] = []
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["state"]))
        scope["state"]["leak"] = True
        scope["state"]["shared"].append(1)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def test(bench: Bench) -> None:
        bench.service.state = {"shared": shared}
        await bench.request()
        await bench.request()

    serve(app, test)
    assert seen == [{"shared": shared}, {"shared": shared}]
    assert shared == [1, 1]


def test_rule_07_extensions_are_a_fresh_dict_of_dicts() -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["extensions"]))
        scope["extensions"]["mine"] = {}
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def test(bench: Bench) -> None:
        offer = {"trailers": True, "early_hints": True, "priority": [2, True], "new": 1}
        await bench.request(extensions=offer)
        await bench.request(extensions=offer)
        await bench.request()

    serve(app, test)
    expected = {
        "http.response.trailers": {},
        "http.response.early_hint": {},
        "http.response.informational": {},
        "http.response.priority": {"urgency": 2, "incremental": True},
    }
    assert seen == [expected, expected, {}]


def test_rule_07_nothing_is_advertised_that_the_gateway_does_not_offer() -> None:
    assert scope_of(extensions={"trailers": False, "early_hints": False})["extensions"] == {}
    assert scope_of()["extensions"] == {}


def test_tls_extension_of_a_connection_without_client_certificate() -> None:
    scope = scope_of(
        scheme="https", tls=[0x0304, 0x1301, 0], settings={"ack": {"server_cert": "PEM"}}
    )
    assert scope["extensions"]["tls"] == {
        "server_cert": "PEM",
        "client_cert_chain": (),
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1301,
    }


def test_tls_extension_by_connection_id() -> None:
    def prepare(bench: Bench) -> None:
        conn = {
            "client_cert_chain": ["leaf", "ca"],
            "client_cert_name": "CN=me",
            "client_cert_error": None,
            "server_cert": "other",
        }
        bench.peer.raw(frame(FRAME_CONN, packb(conn), aux=9))

    tls = scope_of(prepare=prepare, scheme="https", tls=[0x0303, 1, 9])["extensions"]["tls"]
    assert tls["client_cert_chain"] == ("leaf", "ca")
    assert tls["client_cert_name"] == "CN=me"
    assert tls["server_cert"] == "other"


def test_unknown_connection_id_is_refused() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("must not run")

    async def test(bench: Bench) -> None:
        exchange = await bench.request(tls=[0x0303, 1, 77])
        assert exchange.refused == 5
        assert bench.page[0] == 0  # a refused request is not stored (SPEC R107)

    serve(app, test)
