# SPDX-License-Identifier: MIT
"""TLS clients that are broken or hostile, and how connections end."""

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
from harness.gateway import Gateway
from harness.http1 import Client
from harness.process import wait_for
from harness.tls import REQUEST, Connection, ask, context, seen


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("tls"), tls=True, gateway={"threads": 2})
    try:
        gateway.start()
        gateway.start_workers(1, "recorder:app")
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def half_open(gateway: Gateway, first: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", gateway.tls_port), 20)
    made.sendall(first)
    return made


def hello() -> bytes:
    """The ClientHello of this Python."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def expect_closed(connection: socket.socket) -> bytes:
    """What comes before the end, FIN or RST."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(65536):
            data += more
    connection.close()
    return data


# --- handshakes that do not end ---------------------------------------------------------------------------------------


def test_handshake_deadline(make_gateway: Callable[..., Gateway]) -> None:
    """A total: neither silence, nor half a hello, nor a byte now and then lasts longer."""
    gateway = make_gateway(app_target="recorder:app", tls=True, gateway={"handshake_timeout": "500ms"})
    silent, half, slow = half_open(gateway), half_open(gateway, hello()[:50]), half_open(gateway)
    slow.settimeout(0.05)
    sent, data = hello(), None
    while data is None:
        try:
            slow.send(sent[:1])
            sent = sent[1:]
            data = slow.recv(10)
        except TimeoutError:
            assert sent, "the whole hello was sent, a byte at a time"
        except (ConnectionResetError, BrokenPipeError):
            data = b""
    assert data == b"" and expect_closed(silent) == b"" and expect_closed(half) == b""
    slow.close()
    gateway.wait_metric("tls_handshake_timeouts", 3)
    assert seen(gateway)["tls"]


def test_flood_of_half_open_handshakes(make_gateway: Callable[..., Gateway]) -> None:
    limits = {"max_handshakes": 20, "handshake_timeout": "30s"}
    gateway = make_gateway(app_target="recorder:app", tls=True, gateway=limits)
    with gateway.tls_client() as victim, gateway.client() as plain:
        ask(victim)
        flood = [half_open(gateway, hello()[: number % 3 * 10]) for number in range(60)]
        gateway.wait_metric_at_least("tls_handshakes_refused", 40)
        assert ask(victim)["tls"] and ask(plain)["tls"] is None  # who is in is not hurt, and plain HTTP is not counted
        with pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
            gateway.tls_client()
        assert "max_handshakes" in gateway.process.output
        for connection in flood:
            connection.close()

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return seen(gateway)["tls"] is not None
            return False

        wait_for(answers, "a handshake after the flood")


def test_hello_byte_by_byte(recorder: Gateway) -> None:
    """Through memory, so that every byte of the client's handshake travels alone."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    connection = half_open(recorder)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def flush() -> None:
        for byte in outgoing.read():
            connection.sendall(bytes([byte]))

    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            flush()
            incoming.write(connection.recv(65536))
    client.write(REQUEST)
    flush()
    data = b""
    while b"raw_path" not in data:
        try:
            data += client.read(65536)
        except ssl.SSLWantReadError:
            incoming.write(connection.recv(65536))
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    connection.close()


# --- bytes that are no TLS --------------------------------------------------------------------------------------------

GARBAGE = {
    "zeros": bytes(4000),
    "ones": b"\xff" * 4000,
    "http2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "ssl 2 hello": bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0") + bytes(18),
    "record of 20000 bytes": b"\x16\x03\x01\x4e\x20" + bytes(20000),
    "empty records": b"\x16\x03\x01\x00\x00" * 1000,
    "alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "application data": b"\x17\x03\x03\x00\x10" + bytes(16),
    "hello of 16 MiB": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03\x03" + bytes(16377),
    "hello cut by FIN": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "random": bytes(range(255, -1, -1)) * 10,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_instead_of_a_hello(recorder: Gateway, name: str) -> None:
    before = recorder.metric("tls_handshake_failures")
    connection = half_open(recorder)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(GARBAGE[name])
        connection.shutdown(socket.SHUT_WR)
    assert len(expect_closed(connection)) < 300  # an alert, or the sentence for plain HTTP
    recorder.wait_metric_at_least("tls_handshake_failures", before + 1)
    assert seen(recorder)["tls"]


@pytest.mark.parametrize(
    "raw",
    [
        REQUEST,
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000,
        b"HEAD / HTTP/1.0\r\n\r\n",
    ],
)
def test_plain_http_to_the_tls_port(recorder: Gateway, raw: bytes) -> None:
    """The sentence arrives whole, also when much was sent that nobody reads."""
    with Client(("127.0.0.1", recorder.tls_port)) as client:
        client.send(raw)
        response = client.response()
        assert response.status == 400 and b"https://" in response.body and response.header("connection") == "close"
        assert client.rest() == b""


def test_garbage_inside_the_session(recorder: Gateway) -> None:
    """A record whose seal is broken: an alert, the end, and no request."""
    with recorder.tls_client() as client:
        ask(client)
        before = recorder.metric("requests")
        descriptor = os.dup(client.socket.fileno())
        os.write(descriptor, b"\x17\x03\x03\x00\x40" + bytes(64))
        os.close(descriptor)
        with pytest.raises(ssl.SSLError, match=r"BAD_RECORD_MAC|DECRYPT"):
            client.socket.recv(100)
        assert recorder.metric("requests") == before


# --- inside a session -------------------------------------------------------------------------------------------------


def test_renegotiation_is_refused(recorder: Gateway) -> None:
    with Connection(recorder.tls_port, tls_1_2=True) as client:
        assert client.send(REQUEST) and client.receive().startswith(b"HTTP/1.1 200")
        assert not client.renegotiate()
    assert seen(recorder)["tls"]


def test_key_updates_within_bounds(recorder: Gateway) -> None:
    with Connection(recorder.tls_port) as client:
        for _ in range(10):
            assert client.key_update()
            assert client.send(REQUEST) and client.receive().startswith(b"HTTP/1.1 200")


def test_flood_of_key_updates(recorder: Gateway) -> None:
    before = recorder.metric("tls_message_floods")
    with recorder.tls_client() as victim, Connection(recorder.tls_port) as client:
        for _ in range(20000):
            if not client.key_update():
                break
        assert not (client.send(REQUEST) and client.receive())
        assert ask(victim)["tls"]
    recorder.wait_metric_at_least("tls_message_floods", before + 1)


# --- ends -------------------------------------------------------------------------------------------------------------


def strict(gateway: Gateway) -> ssl.SSLSocket:
    """A connection on which an end without close_notify is an error."""
    plain = socket.create_connection(("127.0.0.1", gateway.tls_port), 20)
    return context().wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)


def all_of(client: ssl.SSLSocket) -> bytes:
    """Everything up to close_notify; SSLEOFError without one."""
    data = b""
    while more := client.recv(65536):
        data += more
    return data


def test_close_notify_ends_a_connection(recorder: Gateway) -> None:
    with strict(recorder) as client:
        client.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert all_of(client).endswith(b"}")


def test_idle_connections_end_with_close_notify(make_gateway: Callable[..., Gateway]) -> None:
    """RFC 8446 6.1, after the keep-alive limit, for a client that never asks, and when the gateway stops."""
    gateway = make_gateway(tls=True, limits={"keep_alive": "200ms", "header_timeout": "200ms"})
    with strict(gateway) as silent, strict(gateway) as client:
        client.sendall(REQUEST.replace(b"/a", b"/"))
        assert all_of(client).endswith(b"hello\n")
        assert all_of(silent) == b""
    stopping = make_gateway(tls=True)
    with strict(stopping) as client:
        client.sendall(REQUEST.replace(b"/a", b"/"))
        assert client.recv(65536).endswith(b"hello\n")
        stopping.process.send_signal(15)
        assert all_of(client) == b""
    assert stopping.process.wait() == 0


def test_clients_close_notify_is_a_half_close(recorder: Gateway) -> None:
    """The answer still comes after it (RFC 8446 6.1)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context(ssl.TLSVersion.TLSv1_3).wrap_bio(incoming, outgoing, server_hostname="localhost")
    connection = half_open(recorder)
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            connection.sendall(outgoing.read())
            incoming.write(connection.recv(65536))
    client.write(REQUEST)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.unwrap()  # sends close_notify
    connection.sendall(outgoing.read())
    assert len(expect_closed(connection)) > 500  # a ticket and the sealed answer


@pytest.mark.parametrize("target", [b"/crash-later", b"/die?when=body"])
def test_cut_response_has_no_clean_end(make_gateway: Callable[..., Gateway], target: bytes) -> None:
    """HTTP/1.0 without a length: only the missing close_notify tells that the body is not whole."""
    gateway = make_gateway(tls=True)
    for worker in gateway.workers:
        worker.may_end_with = {0, -9}
    with strict(gateway) as client:
        client.sendall(b"GET " + target + b" HTTP/1.0\r\n\r\n")
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            all_of(client)


def test_large_bodies_both_ways(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(tls=True)
    body = os.urandom(3_000_000)
    with gateway.tls_client() as client:
        client.request("POST", "/echo", body=body)
        assert client.response().body == body
        assert client.get("/download?bytes=5000000&chunked=1").body == (bytes(range(256)) * 19532)[:5_000_000]
