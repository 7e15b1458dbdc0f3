# SPDX-License-Identifier: MIT
"""TLS at the listener: versions, names, client certificates, what the app sees of it, and its limits."""

import json
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.gateway import Gateway, insecure_context, make_certificate
from harness.http1 import Client
from harness.ports import free_port

Maker = Callable[..., Gateway]


def make_authority(directory: Path) -> tuple[Path, Path, Path]:
    """A CA, and a client certificate of it with its key."""
    ca, ca_key = make_certificate(directory, "Test Authority", "ca")
    key, request, cert = directory / "client-key.pem", directory / "client.csr", directory / "client.pem"
    algorithm = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subject = ["-subj", "/O=Example, Inc./CN=alice"]
    authority = ["-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial", "-days", "30"]
    commands = [
        ["req", *algorithm, *subject, "-keyout", str(key), "-out", str(request)],
        ["x509", "-req", *authority, "-in", str(request), "-out", str(cert)],
    ]
    for command in commands:
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return ca, cert, key


def tls_scope(client: Client) -> Any:
    client.request("GET", "/scope")
    return json.loads(client.response().body)


@pytest.fixture
def secure(make_gateway: Maker) -> Gateway:
    return make_gateway(tls=True)


@pytest.mark.parametrize(("version", "number"), [(ssl.TLSVersion.TLSv1_2, 0x0303), (ssl.TLSVersion.TLSv1_3, 0x0304)])
def test_versions(secure: Gateway, version: ssl.TLSVersion, number: int) -> None:
    context = insecure_context(["http/1.1"])
    context.minimum_version = context.maximum_version = version
    with secure.tls_client(context) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.selected_alpn_protocol() == "http/1.1"
        cipher = client.socket.cipher()
        scope = tls_scope(client)
        assert client.get("/").body == b"hello\n"
    tls = scope["extensions"]["tls"]
    assert scope["scheme"] == "https" and scope["server"] == ["127.0.0.1", secure.tls_port]
    assert tls["tls_version"] == number
    assert cipher is not None and tls["cipher_suite"] in range(0x1301, 0xCCB0)
    assert tls["server_cert"].strip() == secure.cert.read_text().strip()
    assert list(tls["client_cert_chain"]) == [] and tls["client_cert_name"] is None and tls["client_cert_error"] is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(secure: Gateway, version: ssl.TLSVersion) -> None:
    context = insecure_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        secure.tls_client(context)
    secure.expect_counted("tls_handshake_failures", 1)


def test_min_version(make_gateway: Maker) -> None:
    gateway = make_gateway(tls={"min_version": "1.3"})
    context = insecure_context()
    with gateway.tls_client(context) as client:
        assert client.get("/").status == 200
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        gateway.tls_client(context)
    gateway.expect_counted("tls_handshake_failures", 1)


def test_resumption(secure: Gateway) -> None:
    context = insecure_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    plain = socket.create_connection(("127.0.0.1", secure.tls_port))
    first = context.wrap_socket(plain, server_hostname="localhost")
    session = first.session
    first.close()
    second = context.wrap_socket(
        socket.create_connection(("127.0.0.1", secure.tls_port)), server_hostname="localhost", session=session
    )
    assert second.session_reused
    second.close()
    secure.expect_counted("tls_resumed", 1)


def test_large_bodies_and_many_requests_on_one_connection(secure: Gateway) -> None:
    with secure.tls_client() as client:
        for size in (1, 16_383, 16_384, 16_385, 100_000):
            client.request("POST", "/echo", body=b"z" * size)
            assert client.response().body == b"z" * size


# --- names ------------------------------------------------------------------------------------------------------------


def certificates(directory: Path, *names: str) -> list[dict[str, str]]:
    pairs = [make_certificate(directory, name, f"sni-{number}") for number, name in enumerate(names)]
    return [{"cert": str(cert), "key": str(key)} for cert, key in pairs]


def shown_name(gateway: Gateway, name: str) -> str:
    """The subject alternative name of the certificate that a client gets who asks for `name`."""
    plain = socket.create_connection(("127.0.0.1", gateway.tls_port))
    with insecure_context().wrap_socket(plain, server_hostname=name) as wrapped:
        der = wrapped.getpeercert(binary_form=True)
    assert der is not None
    done = subprocess.run(
        ["openssl", "x509", "-inform", "der", "-noout", "-subject", "-nameopt", "multiline"],
        input=der,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().split("=")[-1].strip()


def test_certificate_by_name(make_gateway: Maker, tmp_path: Path) -> None:
    pairs = certificates(tmp_path, "a.example", "b.example", "*.wild.example")
    gateway = make_gateway(tls={"certificates": pairs})
    assert shown_name(gateway, "a.example") == "a.example"
    assert shown_name(gateway, "b.example") == "b.example"
    assert shown_name(gateway, "x.wild.example") == "*.wild.example"
    assert shown_name(gateway, "other.example") == "a.example"
    with gateway.tls_client(server_hostname="b.example") as client:
        scope = tls_scope(client)
    assert scope["extensions"]["tls"]["server_cert"].strip() == Path(pairs[1]["cert"]).read_text().strip()


def test_unknown_name_refused(make_gateway: Maker, tmp_path: Path) -> None:
    pairs = certificates(tmp_path, "a.example")
    gateway = make_gateway(tls={"certificates": pairs, "reject_unknown_sni": True})
    assert shown_name(gateway, "a.example") == "a.example"
    with pytest.raises(ssl.SSLError):
        shown_name(gateway, "other.example")
    gateway.expect_counted("tls_unknown_names", 1)


# --- client certificates ----------------------------------------------------------------------------------------------


def client_context(cert: Path | None, key: Path | None) -> ssl.SSLContext:
    context = insecure_context()
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


def test_optional_client_certificate(make_gateway: Maker, tmp_path: Path) -> None:
    ca, cert, key = make_authority(tmp_path)
    gateway = make_gateway(tls={"client_ca": str(ca), "verify": "optional"})
    with gateway.tls_client(client_context(cert, key)) as client:
        tls = tls_scope(client)["extensions"]["tls"]
        assert tls["client_cert_chain"][0].strip() == pem_of(cert)
        assert tls["client_cert_name"] == r"CN=alice,O=Example\, Inc."
        assert tls_scope(client)["extensions"]["tls"] == tls  # by reference the second time
    with gateway.tls_client() as client:
        assert list(tls_scope(client)["extensions"]["tls"]["client_cert_chain"]) == []


def pem_of(path: Path) -> str:
    text = path.read_text()
    return text[text.index("-----BEGIN") :].strip()


def test_required_client_certificate(make_gateway: Maker, tmp_path: Path) -> None:
    ca, cert, key = make_authority(tmp_path)
    gateway = make_gateway(tls={"client_ca": str(ca), "verify": "required"})
    with gateway.tls_client(client_context(cert, key)) as client:
        assert client.get("/").status == 200
    stranger, stranger_key = make_certificate(tmp_path, "mallory", "mallory")
    for context in (client_context(None, None), client_context(stranger, stranger_key)):
        with pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
            with gateway.tls_client(context) as client:  # TLS 1.3: the refusal comes with the first read
                client.socket.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                if not client.socket.recv(100):
                    raise ConnectionResetError
    gateway.expect_counted("tls_handshake_failures", 2)
    assert gateway.metric("requests") == 1


# --- limits -----------------------------------------------------------------------------------------------------------


def test_handshake_timeout(make_gateway: Maker) -> None:
    gateway = make_gateway(tls=True, gateway={"handshake_timeout": "200ms"})
    with Client(("127.0.0.1", gateway.tls_port)) as client:
        client.send(b"\x16\x03\x01")
        assert client.expect_end() == b""
    gateway.expect_counted("tls_handshake_timeouts", 1)
    gateway.process.wait_log("handshake")


def test_max_handshakes(make_gateway: Maker) -> None:
    gateway = make_gateway(tls=True, gateway={"max_handshakes": 2})
    halves = [Client(("127.0.0.1", gateway.tls_port)) for _ in range(2)]
    gateway.wait_metric("tls_handshakes_open", 2)
    with Client(("127.0.0.1", gateway.tls_port)) as third:
        assert third.expect_end() == b""
    gateway.expect_counted("tls_handshakes_refused", 1)
    gateway.process.wait_log("max_handshakes")
    for half in halves:
        half.close()
    gateway.wait_metric("tls_handshakes_open", 0)
    with gateway.tls_client() as client:
        assert client.get("/").status == 200


def test_plain_http_to_the_tls_port(secure: Gateway) -> None:
    with Client(("127.0.0.1", secure.tls_port)) as client:
        client.request("GET", "/")
        received = client.expect_end()
        assert received == b"" or received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ", b"\x15\x03"))
    secure.expect_counted("tls_plain_http", 1)


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x40\x00" + b"\xff" * 100, b"\x80" * 400, b"SSH-2.0-x\r\n"])
def test_garbage_in_the_handshake(secure: Gateway, garbage: bytes) -> None:
    with Client(("127.0.0.1", secure.tls_port)) as client:
        client.send(garbage)
        client.shut()
        client.expect_end()
    secure.expect_counted("tls_handshake_failures", 1)


def test_closed_without_close_notify_inside_a_body(secure: Gateway) -> None:
    """Truncation is no end of a request."""
    client = secure.tls_client()
    client.request("POST", "/digest", {"content-length": "100"})
    client.send(b"half")
    secure.wait_metric("slots_taken", 1)
    raw = socket.socket(fileno=client.socket.detach())  # type: ignore[union-attr]
    raw.close()
    secure.wait_note("disconnect")


def test_redirect_to_https(make_gateway: Maker) -> None:
    port = free_port()
    gateway = make_gateway(listeners=[{"bind": f"127.0.0.1:{port}", "redirect_https": True}], tls=True)
    with Client(("127.0.0.1", port)) as client:
        response = client.get("/a%20b?x=1", {"host": "example.com:80"})
        assert response.status == 308
        assert response.header("location") == f"https://example.com:{gateway.tls_port}/a%20b?x=1"
