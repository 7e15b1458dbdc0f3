# SPDX-License-Identifier: MIT
"""Who the client is when a proxy stands between: X-Forwarded-* and the PROXY protocol, good, bad and forged."""

import json
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.gateway import Gateway
from harness.http1 import Client
from harness.ports import free_port
from harness.process import wait_for
from harness.tls import context

ALL = {"trusted": ["127.0.0.1", "10.0.0.0/8", "2001:db8::/32", "unix"], "use": ["for", "proto", "host", "prefix"]}


def started(directory: Path, **sections: Any) -> Gateway:
    gateway = Gateway(directory, **sections)
    gateway.start()
    gateway.start_workers(1, "recorder:app")
    return gateway


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gateway]]:
    """One that trusts its clients in everything, one that trusts nobody here, one as delivered."""
    made: dict[str, Gateway] = {}
    try:
        for name, section in {"all": ALL, "nobody": {**ALL, "trusted": ["192.0.2.1"]}, "default": {}}.items():
            made[name] = started(tmp_path_factory.mktemp(name), proxy_headers=section)
        yield made
        for gateway in made.values():
            gateway.finish()
    finally:
        for gateway in made.values():
            gateway.kill()


def told(gateway: Gateway, *fields: tuple[str, str]) -> Any:
    with gateway.client() as client:
        client.request("GET", "/a", list(fields))
        response = client.response()
        assert response.status == 200
        return json.loads(response.body)


def test_the_access_log_names_the_client_behind_the_proxy(gateways: dict[str, Gateway]) -> None:
    for name, expected in (("all", "203.0.113.9"), ("nobody", "127.0.0.1")):
        gateway = gateways[name]
        with gateway.client() as client:
            client.request("GET", "/logged", [("X-Forwarded-For", "203.0.113.9")])
            client.response()

        def lines(gateway: Gateway = gateway) -> list[str]:
            return [line for line in gateway.access_log() if "/logged" in line]

        wait_for(lines, "the line in the access log")
        assert lines()[0].startswith(f"{expected} - - [")


# --- X-Forwarded-For --------------------------------------------------------------------------------------------------

FOR = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, 10.1.2.3"], "203.0.113.7"),  # 10.1.2.3 is a proxy of ours
        (["198.51.100.1, 203.0.113.7, 10.1.2.3, 10.9.9.9"], "203.0.113.7"),  # the first may be made up by the second
        (["198.51.100.1", "203.0.113.7", "10.1.2.3"], "203.0.113.7"),  # fields of one name are one list
        (["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["2001:db9::1"], "2001:db9::1"),
        (["[2001:db9::1]:4711"], "2001:db9::1"),
        ([" \t203.0.113.7 "], "203.0.113.7"),
        ([""], "127.0.0.1"),
        ([","], "127.0.0.1"),
        (["unknown"], "127.0.0.1"),
        (["203.0.113.7, unknown, 10.1.2.3"], "10.1.2.3"),
        (["<script>alert(1)</script>"], "127.0.0.1"),
        (["203.0.113.999"], "127.0.0.1"),
        (["203.0.113"], "127.0.0.1"),
        (["0x7f.1"], "127.0.0.1"),
        (["203.0.113.7" + ", 10.0.0.1" * 500], "203.0.113.7"),
        (["a" * 5000], "127.0.0.1"),
        (["203.0.113.7\xff"], "127.0.0.1"),
    ],
)
def test_forwarded_for(gateways: dict[str, Gateway], values: list[str], client: str) -> None:
    assert told(gateways["all"], *((FOR, value) for value in values))["client"][0] == client


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("https", "https"), ("HTTPS", "https"), ("http", "http"), ("wss", "https"), ("https, http", "http"),
     ("http, https", "https"), ("ftp", "http"), ("", "http"), ("https\x80", "http"), ("javascript", "http")],
)  # fmt: skip
def test_forwarded_proto(gateways: dict[str, Gateway], value: str, scheme: str) -> None:
    assert told(gateways["all"], ("X-Forwarded-Proto", value))["scheme"] == scheme


@pytest.mark.parametrize(
    ("value", "host"),
    [("www.example", "www.example"), ("a.example, www.example:8443", "www.example:8443"), ("[::1]:80", "[::1]:80"),
     ("a/b", "localhost"), ("user@a", "localhost"), ("a b", "localhost"), ("", "localhost"), ("a:99999", "localhost")],
)  # fmt: skip
def test_forwarded_host(gateways: dict[str, Gateway], value: str, host: str) -> None:
    headers = told(gateways["all"], ("X-Forwarded-Host", value))["headers"]
    assert [item for name, item in headers if name == "host"] == [host]


@pytest.mark.parametrize(
    ("value", "root"),
    [
        ("/app", "/app"),
        ("/app/", "/app"),
        ("/", ""),
        ("app", ""),
        ("", ""),
        ("//evil.example", ""),
        ("/a b", ""),
        ("/a,/b", "/b"),
    ],
)
def test_forwarded_prefix(gateways: dict[str, Gateway], value: str, root: str) -> None:
    seen = told(gateways["all"], ("X-Forwarded-Prefix", value))
    assert seen["root_path"] == root and seen["path"] == root + "/a"


# --- Forwarded (RFC 7239) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "client", "scheme", "host"),
    [
        (["for=203.0.113.7;proto=https;host=www.example"], "203.0.113.7", "https", "www.example"),
        (['For="[2001:db9::1]:4711";Proto=https'], "2001:db9::1", "https", "localhost"),
        (["for=203.0.113.7;proto=https", "for=10.1.2.3;proto=http"], "203.0.113.7", "https", "localhost"),
        (["for=198.51.100.1;proto=https, for=203.0.113.7"], "203.0.113.7", "http", "localhost"),
        (["for=203.0.113.7, for"], "127.0.0.1", "http", "localhost"),
        (['for="203.0.113.7'], "127.0.0.1", "http", "localhost"),
    ],
)
def test_rfc_7239(gateways: dict[str, Gateway], fields: list[str], client: str, scheme: str, host: str) -> None:
    seen = told(gateways["all"], *(("Forwarded", value) for value in fields))
    assert (seen["client"][0], seen["scheme"]) == (client, scheme)
    assert [item for name, item in seen["headers"] if name == "host"] == [host]


def test_forwarded_does_not_count_beside_x_forwarded(gateways: dict[str, Gateway]) -> None:
    """A proxy that writes X-Forwarded-For passes on what its client wrote as Forwarded."""
    seen = told(gateways["all"], (FOR, "203.0.113.7"), ("Forwarded", "for=198.51.100.1;proto=https"))
    assert (seen["client"][0], seen["scheme"]) == ("203.0.113.7", "http")


FORGED = [
    (FOR, "203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-Port", "1"),
    ("X-Forwarded-Server", "evil"),
    ("X-FORWARDED-ANYTHING", "1"),
    ("Forwarded", "for=203.0.113.7;proto=https"),
    ("X-Real-IP", "203.0.113.7"),
    ("X_Forwarded_For", "203.0.113.7"),  # a CGI name cannot tell it from the one above
    ("X-Forwarded_Proto", "https"),
    ("X_Real-IP", "203.0.113.7"),
]


def test_everything_from_others_is_stripped(gateways: dict[str, Gateway]) -> None:
    seen = told(gateways["nobody"], *FORGED, ("X-Kept", "1"), ("Via", "1.1 x"))
    assert seen["client"][0] == "127.0.0.1" and seen["scheme"] == "http" and seen["root_path"] == ""
    assert seen["headers"] == [["host", "localhost"], ["x-kept", "1"], ["via", "1.1 x"]]


def test_a_trusted_proxy_is_passed_on(gateways: dict[str, Gateway]) -> None:
    names = {name for name, _ in told(gateways["all"], *FORGED)["headers"]}
    assert {name.lower() for name, _ in FORGED} <= names


def test_as_delivered_host_and_prefix_are_not_used(gateways: dict[str, Gateway]) -> None:
    seen = told(gateways["default"], *FORGED)
    assert seen["client"][0] == "203.0.113.7" and seen["scheme"] == "https"
    assert seen["root_path"] == "" and ["host", "localhost"] in seen["headers"]


def test_trust_over_a_unix_socket(make_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    for trusted, expected in ((["unix"], "203.0.113.7"), (["127.0.0.1"], None)):
        gateway = make_gateway(
            app_target="recorder:app", listeners=[{"bind": f"unix:{path}"}], proxy_headers={"trusted": trusted}
        )
        with Client(str(path)) as client:
            client.request("GET", "/a", {FOR: "203.0.113.7"})
            seen = json.loads(client.response().body)["client"]
        assert seen == ([expected, 0] if expected else None)
        gateway.finish()


# --- the PROXY protocol -----------------------------------------------------------------------------------------------

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
REQUEST = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"


def v2(command: int, family: int, payload: bytes, signature: bytes = SIGNATURE) -> bytes:
    return signature + struct.pack(">BBH", command, family, len(payload)) + payload


def tcp4(source: str = "203.0.113.7", destination: str = "198.51.100.1", ports: tuple[int, int] = (4711, 443)) -> bytes:
    return socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack(">HH", *ports)


def tcp6() -> bytes:
    addresses = (socket.inet_pton(socket.AF_INET6, text) for text in ("2001:db9::7", "2001:db9::1"))
    return b"".join(addresses) + struct.pack(">HH", 4711, 443)


TLV = b"\x01\x00\x02h2" + b"\x04\x00\x00"
V1 = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"
GOOD = {
    "v1 tcp4": (V1, ["203.0.113.7", 4711]),
    "v1 tcp6": (b"PROXY TCP6 2001:db9::7 2001:db9::1 4711 443\r\n", ["2001:db9::7", 4711]),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown with anything": (b"PROXY UNKNOWN ffff::1 a b c\r\n", None),
    "v1 port 0": (b"PROXY TCP4 203.0.113.7 198.51.100.1 0 0\r\n", ["203.0.113.7", 0]),
    "v2 tcp4": (v2(0x21, 0x11, tcp4()), ["203.0.113.7", 4711]),
    "v2 tcp6": (v2(0x21, 0x21, tcp6()), ["2001:db9::7", 4711]),
    "v2 tcp4 with more": (v2(0x21, 0x11, tcp4() + TLV), ["203.0.113.7", 4711]),
    "v2 local": (v2(0x20, 0x00, b""), None),
    "v2 local with bytes": (v2(0x20, 0x11, tcp4()), None),
    "v2 unspecified": (v2(0x21, 0x00, b""), None),
    "v2 unix": (v2(0x21, 0x31, bytes(216)), None),
}
BAD = {
    "none": b"",
    "v1 lower case": b"proxy TCP4 203.0.113.7 198.51.100.1 1 2\r\n",
    "v1 other family": b"PROXY TCP5 203.0.113.7 198.51.100.1 1 2\r\n",
    "v1 udp": b"PROXY UDP4 203.0.113.7 198.51.100.1 1 2\r\n",
    "v1 families mixed": b"PROXY TCP4 203.0.113.7 2001:db9::1 1 2\r\n",
    "v1 address of tcp6 in tcp4": b"PROXY TCP4 2001:db9::7 2001:db9::1 1 2\r\n",
    "v1 port too large": b"PROXY TCP4 203.0.113.7 198.51.100.1 65536 2\r\n",
    "v1 port with zero": b"PROXY TCP4 203.0.113.7 198.51.100.1 01 2\r\n",
    "v1 port signed": b"PROXY TCP4 203.0.113.7 198.51.100.1 +1 2\r\n",
    "v1 port missing": b"PROXY TCP4 203.0.113.7 198.51.100.1 1\r\n",
    "v1 two spaces": b"PROXY  TCP4 203.0.113.7 198.51.100.1 1 2\r\n",
    "v1 more behind": b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2 3\r\n",
    "v1 lf only": b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\n",
    "v1 name": b"PROXY TCP4 localhost 198.51.100.1 1 2\r\n",
    "v1 octal": b"PROXY TCP4 0313.0.113.7 198.51.100.1 1 2\r\n",
    "v1 nul": b"PROXY TCP4 203.0.113.7\0 198.51.100.1 1 2\r\n",
    "v1 too long": b"PROXY UNKNOWN " + b"a" * 200 + b"\r\n",
    "v2 signature cut": v2(0x21, 0x11, tcp4(), SIGNATURE[:-1] + b"X"),
    "v2 version 1": v2(0x11, 0x11, tcp4()),
    "v2 other command": v2(0x22, 0x11, tcp4()),
    "v2 too short": v2(0x21, 0x11, tcp4()[:-1]),
    "v2 tcp6 too short": v2(0x21, 0x21, tcp4()),
    "v2 other family": v2(0x21, 0x41, bytes(40)),
    "v2 other protocol": v2(0x21, 0x13, tcp4()),
    "v2 too long": v2(0x21, 0x11, tcp4() + bytes(60000)),
}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Listeners for "any", "v1", "v2", and TLS with "any"; the plain port knows no PROXY protocol."""
    gateway = Gateway(tmp_path_factory.mktemp("behind"), tls=True, gateway={"handshake_timeout": "1s"})
    gateway.proxied = {kind: free_port() for kind in ("any", "v1", "v2", "tls")}  # type: ignore[attr-defined]
    for kind, port in gateway.proxied.items():  # type: ignore[attr-defined]
        told = {"bind": f"127.0.0.1:{port}", "proxy_protocol": "any" if kind == "tls" else kind, "tls": kind == "tls"}
        gateway.listeners.append(told)
    try:
        gateway.start()
        gateway.start_workers(1, "recorder:app")
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def through(gateway: Gateway, kind: str) -> Client:
    return Client(("127.0.0.1", gateway.proxied[kind]))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("piece", [1, 1000])
def test_proxy_protocol(behind: Gateway, name: str, piece: int) -> None:
    header, expected = GOOD[name]
    with through(behind, "any") as client:
        data = header + REQUEST
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), piece):
            client.send(data[start : start + piece])
        seen = json.loads(client.response().body)
        assert seen["client"] == (expected or ["127.0.0.1", client.socket.getsockname()[1]])
        if expected and "tcp4" in name:
            assert seen["server"] == ["198.51.100.1", 443]
        assert client.get("/b").status == 200  # one header for each connection, not for each request


@pytest.mark.parametrize("name", BAD)
def test_bad_proxy_header_is_no_request(behind: Gateway, name: str) -> None:
    """Closed without a word: who speaks here is a proxy that is set up wrongly, or nobody who should."""
    requests, errors = behind.metric("requests"), behind.metric("proxy_protocol_errors")
    with through(behind, "any") as client:
        client.send(BAD[name] + REQUEST)
        assert client.expect_end() == b""
    assert behind.metric("requests") == requests
    behind.wait_metric_at_least("proxy_protocol_errors", errors + 1)


@pytest.mark.parametrize(("kind", "name"), [("v1", "v2 tcp4"), ("v2", "v1 tcp4")])
def test_only_the_version_that_was_told(behind: Gateway, kind: str, name: str) -> None:
    with through(behind, kind) as client:
        client.send(GOOD[name][0] + REQUEST)
        assert client.expect_end() == b""
    other = "v1 tcp4" if kind == "v1" else "v2 tcp4"
    with through(behind, kind) as client:
        client.send(GOOD[other][0] + REQUEST)
        assert json.loads(client.response().body)["client"] == ["203.0.113.7", 4711]


def test_proxy_header_that_never_ends(behind: Gateway) -> None:
    with through(behind, "any") as silent, through(behind, "any") as half:
        half.send(V1[:20])
        assert silent.expect_end() == b"" and half.expect_end() == b""


def test_second_header_is_a_bad_request(behind: Gateway) -> None:
    with through(behind, "any") as client:
        client.send(V1 + V1 + REQUEST)
        assert client.response().status in (400, 501)
        assert client.expect_end() == b""


def test_proxy_protocol_before_tls(behind: Gateway) -> None:
    plain = socket.create_connection(("127.0.0.1", behind.proxied["tls"]), 20)  # type: ignore[attr-defined]
    plain.sendall(GOOD["v2 tcp4 with more"][0])
    client = Client.__new__(Client)
    client.socket, client.buffer = context().wrap_socket(plain, server_hostname="localhost"), b""
    with client:
        seen = json.loads(client.get("/a").body)
    assert seen["client"] == ["203.0.113.7", 4711] and seen["scheme"] == "https" and seen["tls"]


def test_trust_is_of_who_the_header_names(behind: Gateway) -> None:
    """203.0.113.7 is no trusted proxy, although 127.0.0.1 is: its X-Forwarded-For is a forgery."""
    with through(behind, "any") as client:
        client.send(V1 + REQUEST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 10.0.0.9\r\n\r\n"))
        seen = json.loads(client.response().body)
    assert seen["client"] == ["203.0.113.7", 4711] and seen["headers"] == [["host", "localhost"]]


def test_log_names_the_client_of_the_header(behind: Gateway) -> None:
    with through(behind, "any") as client:
        client.send(V1 + REQUEST.replace(b"/a", b"/logged"))
        assert client.response().status == 200
    with behind.client() as client:
        assert client.get("/after").status == 200
    behind.wait_gauge("exchanges", 0)

    def line() -> str:
        return next((line for line in behind.access_log() if "/logged" in line), "")

    wait_for(line, "the line")
    assert line().startswith("203.0.113.7 ")
