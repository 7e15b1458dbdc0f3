# SPDX-License-Identifier: MIT
"""TLS handshakes as clients meet them: versions, suites, groups, names, ALPN, resumption, client certificates."""

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness.gateway import Gateway
from harness.http1 import Client
from harness.tls import REQUEST, Authority, ask, context, openssl, seen


@dataclass
class Site:
    """A gateway with certificates for several names, of one authority."""

    gateway: Gateway
    authority: Authority
    certificates: dict[str, Path]


def entry(pair: tuple[Path, Path]) -> dict[str, str]:
    return {"cert": str(pair[0]), "key": str(pair[1])}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    names = {
        "default": ("localhost", "DNS:localhost", "ec"),
        "default-rsa": ("localhost", "DNS:localhost", "rsa"),
        "one": ("one.example", "DNS:one.example,DNS:www.one.example", "ec"),
        "wild": ("wild.example", "DNS:*.wild.example", "ec"),
        "exact": ("exact.wild.example", "DNS:exact.wild.example", "ec"),
    }
    pairs = {stem: authority.issue(stem, f"/CN={cn}", alt, algorithm=kind) for stem, (cn, alt, kind) in names.items()}
    settings = {"certificates": [entry(pair) for pair in pairs.values()]}
    gateway = Gateway(tmp_path_factory.mktemp("tls"), tls=settings, gateway={"threads": 2})
    try:
        gateway.start()
        gateway.start_workers(1, "recorder:app")
        yield Site(gateway, authority, {stem: pair[0] for stem, pair in pairs.items()})
        gateway.finish()
    finally:
        gateway.kill()


def shown_to(gateway: Gateway, name: str | None, made: ssl.SSLContext | None = None) -> bytes:
    """The certificate that a client asking for this name gets."""
    with gateway.tls_client(made or context(), server_hostname=name) as client:
        return bytes(client.socket.getpeercert(binary_form=True) or b"")  # type: ignore[attr-defined]


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def s_client(port: int, *arguments: str, stdin: bytes = b"") -> str:
    """What `openssl s_client` prints; it may fail."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=30, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


# --- versions, suites, groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "number"), [(ssl.TLSVersion.TLSv1_2, 0x0303), (ssl.TLSVersion.TLSv1_3, 0x0304)])
def test_versions(site: Site, version: ssl.TLSVersion, number: int) -> None:
    told = seen(site.gateway, context(version))
    assert told["scheme"] == "https" and told["tls"]["tls_version"] == number


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(site: Site, version: str) -> None:
    said = s_client(site.gateway.tls_port, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "protocol version" in said and "Cipher is (NONE)" in said


def test_min_version_and_ciphers_as_configured(make_gateway: Callable[..., Gateway]) -> None:
    strict = make_gateway(tls={"min_version": "1.3", "groups": "P-256"})
    assert "protocol version" in s_client(strict.tls_port, "-tls1_2")
    assert "Cipher is TLS_" in s_client(strict.tls_port, "-tls1_3", "-groups", "P-256")
    assert "Cipher is (NONE)" in s_client(strict.tls_port, "-groups", "X25519")
    one = make_gateway(tls={"ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"})
    assert "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in s_client(one.tls_port, "-tls1_2")
    assert "Cipher is (NONE)" in s_client(one.tls_port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")


SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
    "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
    "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
    "ECDHE-RSA-AES256-GCM-SHA384": 0xC030,
    "ECDHE-ECDSA-CHACHA20-POLY1305": 0xCCA9,
    "ECDHE-RSA-CHACHA20-POLY1305": 0xCCA8,
}


@pytest.mark.parametrize("suite", SUITES)
def test_suites_of_1_2(site: Site, suite: str) -> None:
    """The kind of key in the suite chooses among the certificates of a name."""
    with site.gateway.tls_client(context(ssl.TLSVersion.TLSv1_2, suite)) as client:
        told = ask(client)
        certificate = client.socket.getpeercert(binary_form=True)  # type: ignore[attr-defined]
    assert told["tls"]["cipher_suite"] == SUITES[suite]
    assert certificate == der(site.certificates["default-rsa" if "-RSA-" in suite else "default"])
    assert ssl.PEM_cert_to_DER_cert(told["tls"]["server_cert"]) == certificate


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_suites_of_1_3(site: Site, suite: str) -> None:
    assert f"Cipher is {suite}" in s_client(site.gateway.tls_port, "-tls1_3", "-ciphersuites", suite)


@pytest.mark.parametrize(
    "suite",
    ["AES128-GCM-SHA256", "AES256-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384",
     "DHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM", "AECDH-AES128-SHA", "NULL-SHA256", "ECDHE-ECDSA-NULL-SHA"],
)  # fmt: skip
def test_weak_suites_are_refused(site: Site, suite: str) -> None:
    said = s_client(site.gateway.tls_port, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    assert "Cipher is (NONE)" in said, said


@pytest.mark.parametrize("group", ["X25519MLKEM768", "X25519", "P-256", "P-384"])
def test_groups(site: Site, group: str) -> None:
    assert "Cipher is TLS_" in s_client(site.gateway.tls_port, "-groups", group)


@pytest.mark.parametrize("group", ["P-521", "X448", "ffdhe2048", "SecP256r1MLKEM768"])
def test_other_groups_are_refused(site: Site, group: str) -> None:
    assert "Cipher is (NONE)" in s_client(site.gateway.tls_port, "-groups", group)


def test_group_that_needs_a_second_hello(site: Site) -> None:
    """The client's first share is of a group that we do not have: HelloRetryRequest, which brings the name twice."""
    said = s_client(site.gateway.tls_port, "-groups", "P-521:P-384", "-servername", "one.example")
    assert "Cipher is TLS_" in said and "one.example" in said


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("localhost", "default"), ("one.example", "one"), ("www.one.example", "one"), ("ONE.Example", "one"),
        ("a.wild.example", "wild"), ("exact.wild.example", "exact"), ("x" * 63 + ".wild.example", "wild"),
        ("wild.example", "default"), ("a.b.wild.example", "default"), ("unknown.example", "default"), (None, "default"),
        ("127.0.0.1", "default"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate_of_a_name(site: Site, name: str | None, stem: str, version: ssl.TLSVersion) -> None:
    made = context(version, "ECDHE+ECDSA" if version == ssl.TLSVersion.TLSv1_2 else None)
    assert shown_to(site.gateway, name, made) == der(site.certificates[stem])


def test_app_sees_the_certificate_of_the_name(site: Site) -> None:
    told = seen(site.gateway, server_hostname="a.wild.example")
    assert ssl.PEM_cert_to_DER_cert(told["tls"]["server_cert"]) == der(site.certificates["wild"])
    assert told["tls"]["client_cert_chain"] == [] and told["tls"]["client_cert_name"] is None


def test_unknown_names_refused_when_told_so(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(app_target="recorder:app", tls={"reject_unknown_sni": True})
    assert seen(gateway, server_hostname="localhost")["tls"] is not None
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        gateway.tls_client(server_hostname="other.example")
    gateway.wait_metric("tls_unknown_names", 1)


# --- ALPN -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", [["http/1.1"], ["h3", "http/1.1"], ["http/1.0", "x", "http/1.1"]])
def test_alpn(site: Site, offered: list[str]) -> None:
    with site.gateway.tls_client(context(alpn=offered)) as client:
        assert client.socket.selected_alpn_protocol() == "http/1.1"  # type: ignore[attr-defined]
        assert ask(client)["version"] == "1.1"


@pytest.mark.parametrize("offered", [["h2"], ["http/1.1", "h2"]])
def test_alpn_prefers_http2(site: Site, offered: list[str]) -> None:
    with site.gateway.tls_client(context(alpn=offered)) as client:
        assert client.socket.selected_alpn_protocol() == "h2"  # type: ignore[attr-defined]


def test_no_alpn(site: Site) -> None:
    with site.gateway.tls_client(context()) as client:
        assert client.socket.selected_alpn_protocol() is None  # type: ignore[attr-defined]
        assert ask(client)["version"] == "1.1"


@pytest.mark.parametrize("offered", [["H2"], ["http/1.0"], ["HTTP/1.1"], ["h3", "acme-tls/1"]])
def test_alpn_without_overlap_is_an_alert(site: Site, offered: list[str]) -> None:
    with pytest.raises(ssl.SSLError, match="NO_APPLICATION_PROTOCOL"):
        site.gateway.tls_client(context(alpn=offered))


# --- resumption -------------------------------------------------------------------------------------------------------


def session_of(gateway: Gateway, made: ssl.SSLContext, **options: Any) -> ssl.SSLSession:
    with gateway.tls_client(made, **options) as client:
        ask(client)
        session = client.socket.session  # type: ignore[attr-defined]
        assert isinstance(session, ssl.SSLSession)
        return session


def resumed(gateway: Gateway, made: ssl.SSLContext, session: ssl.SSLSession) -> tuple[bool, Any]:
    """Whether a connection with this session was resumed, and what the app saw on it."""
    plain = socket.create_connection(("127.0.0.1", gateway.tls_port), 20)
    wrapped = made.wrap_socket(plain, server_hostname="localhost", session=session)
    client = Client.__new__(Client)
    client.socket, client.buffer = wrapped, b""
    with client:
        return bool(wrapped.session_reused), ask(client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption_across_connections_and_loops(site: Site, version: ssl.TLSVersion) -> None:
    made = context(version)
    session = session_of(site.gateway, made)
    before = site.gateway.metric("tls_resumed")
    for _ in range(30):  # whichever loop takes it
        again, told = resumed(site.gateway, made, session)
        assert again and told["tls"]["tls_version"] == version
        assert told["tls"]["server_cert"].startswith("-----BEGIN CERTIFICATE")
    assert site.gateway.metric("tls_resumed") >= before + 30


def test_session_of_another_server_is_a_full_handshake(site: Site, make_gateway: Callable[..., Gateway]) -> None:
    made = context()
    session = session_of(site.gateway, made)
    other = make_gateway(app_target="recorder:app", tls=True)
    again, told = resumed(other, made, session)
    assert not again and told["tls"] is not None


def test_no_tickets_no_resumption(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(app_target="recorder:app", tls={"tickets": 0})
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        made = context(version)
        with gateway.tls_client(made) as client:
            ask(client)
            session = client.socket.session  # type: ignore[attr-defined]
        if session is not None:  # without a ticket there is nothing that the server could open
            assert not session.has_ticket
            assert not resumed(gateway, made, session)[0]
    assert gateway.metric("tls_resumed") == 0


def test_no_early_data(site: Site, tmp_path: Path) -> None:
    session = tmp_path / "session"
    close = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    s_client(site.gateway.tls_port, "-tls1_3", "-ign_eof", "-sess_out", str(session), stdin=close)
    said = openssl("sess_id", "-in", str(session), "-text", "-noout").decode()
    assert "TLS session ticket" in said and "Max Early Data: 0" in said


# --- client certificates ----------------------------------------------------------------------------------------------

PAST = ("20200101000000Z", "20210101000000Z")


@dataclass
class Clients:
    gateways: dict[str, Gateway]
    certificates: dict[str, tuple[Path, Path]]


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    authority = Authority(tmp_path_factory.mktemp("clients"))
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "Stranger")
    certificates = {
        "good": authority.issue("good", "/C=DE/O=Ünïon, Ltd/CN=Client One"),
        "expired": authority.issue("expired", "/CN=old", days=PAST),
        "stranger": stranger.issue("stranger", "/CN=Client One"),
    }
    gateways = {}
    try:
        for verify in ("optional", "required"):
            settings = {"verify": verify, "client_ca": str(authority.cert)}
            gateways[verify] = Gateway(tmp_path_factory.mktemp(verify), tls=settings)
            gateways[verify].start()
            gateways[verify].start_workers(1, "recorder:app")
        yield Clients(gateways, certificates)
        for gateway in gateways.values():
            gateway.finish()
    finally:
        for gateway in gateways.values():
            gateway.kill()


def with_certificate(clients: Clients, stem: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    made = context(version)
    made.load_cert_chain(*clients.certificates[stem])
    return made


@pytest.mark.parametrize("verify", ["optional", "required"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificate_reaches_the_app(clients: Clients, verify: str, version: ssl.TLSVersion) -> None:
    gateway, made = clients.gateways[verify], with_certificate(clients, "good", version)
    with gateway.tls_client(made) as client:
        told = [ask(client)["tls"], ask(client)["tls"]]
        session = client.socket.session  # type: ignore[attr-defined]
    again, later = resumed(gateway, made, session)
    assert again
    expected = der(clients.certificates["good"][0])
    for tls in (*told, later["tls"]):
        assert [ssl.PEM_cert_to_DER_cert(pem) for pem in tls["client_cert_chain"]] == [expected]
        assert tls["client_cert_name"] == "CN=Client One,O=Ünïon\\, Ltd,C=DE"  # RFC 4514
        assert tls["client_cert_error"] is None


def test_optional_certificate_left_out(clients: Clients) -> None:
    tls = seen(clients.gateways["optional"])["tls"]
    assert tls["client_cert_chain"] == [] and tls["client_cert_name"] is None


def refused_client(gateway: Gateway, made: ssl.SSLContext) -> str:
    """TLS 1.3 tells a client of its bad certificate only when its request is on the way."""
    before = gateway.metric("requests")
    try:
        with gateway.tls_client(made) as client:
            client.send(REQUEST)
            data = client.socket.recv(1000)
            raise AssertionError(f"answered with {data!r}")
    except ssl.SSLError as error:  # the alert; a reset would have destroyed it
        assert gateway.metric("requests") == before
        return str(error).upper()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("verify", ["optional", "required"])
@pytest.mark.parametrize(("stem", "alert"), [("expired", "EXPIRED"), ("stranger", "CA")])
def test_bad_client_certificate(clients: Clients, verify: str, version: ssl.TLSVersion, stem: str, alert: str) -> None:
    gateway = clients.gateways[verify]
    failures = gateway.metric("tls_handshake_failures")
    assert alert in refused_client(gateway, with_certificate(clients, stem, version))
    gateway.wait_metric_at_least("tls_handshake_failures", failures + 1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_required_certificate_left_out(clients: Clients, version: ssl.TLSVersion) -> None:
    said = refused_client(clients.gateways["required"], context(version))
    assert "CERTIFICATE" in said or "HANDSHAKE" in said, said


def test_self_signed_client_certificate(clients: Clients) -> None:
    gateway = clients.gateways["required"]
    made = context()
    made.load_cert_chain(gateway.cert, gateway.key)
    assert "CA" in refused_client(gateway, made)
