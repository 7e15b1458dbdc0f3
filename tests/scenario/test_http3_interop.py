# SPDX-License-Identifier: MIT
"""The cases of the QUIC interoperability runner, with aioquic as the client and a user-space network that is as bad as
the case wants it."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from harness.gateway import Gateway
from harness.http3 import Http3, request
from harness.ports import free_port_of_both
from harness.process import wait_for
from harness.quic import CHACHA20, ONE_RTT, V1, V2, pump_all
from harness.quic_raw import Raw, hello_initial, initial, join
from harness.tls import Authority
from harness.udp_proxy import DOWN, UP, Network, UdpProxy, swap_first

Maker = Callable[..., Gateway]
MIB = 1 << 20
HELLO = b"hello\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("interop"),
        quic=True,
        log={"level": "info"},
        limits={"header_timeout": "60s"},  # a first request may be lost as often as a handshake
        http3={"handshake_timeout": "60s", "idle_timeout": "30s"},
    )
    gateway.listeners.append({"bind": f"[::1]:{free_port_of_both('::1')}", "tls": True, "protocols": ["h3"]})
    try:
        gateway.start()
        gateway.start_workers(1)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def sha256_of(size: int) -> str:
    """Of what /download sends."""
    return hashlib.sha256((bytes(range(256)) * (size // 256 + 1))[:size]).hexdigest()


def download(client: Http3, count: int, size: int = MIB, timeout: float = 120) -> None:
    """So many downloads at once, each with the right hash."""
    streams = [client.open(request(f"/download?bytes={size}")) for _ in range(count)]
    for stream in streams:
        client.answers[stream].keep = False
    client.pump(lambda: all(client.answers[stream].over for stream in streams), "the downloads", timeout)
    wanted = sha256_of(size)
    for stream in streams:
        answer = client.answers[stream]
        assert answer.ended and answer.sha256.hexdigest() == wanted, f"{stream}: {answer}"


def upload(client: Http3, size: int, timeout: float = 120) -> None:
    body = bytes(range(256)) * (size // 256)
    stream = client.open(request("/digest", "POST"), end=False)
    client.data(stream, body, True)
    answer = client.answer(stream, timeout)
    assert hashlib.sha256(body).hexdigest().encode() in answer.body, f"{answer}"


# --- handshakes -------------------------------------------------------------------------------------------------------


def test_handshake(server: Gateway) -> None:
    with Http3(server.quic_address) as client:
        assert client.completed is not None and client.completed.alpn_protocol == "h3"
        assert client.get().body == HELLO
        client.confirm()
        assert client.quic._version == V1


def test_version_2(server: Gateway) -> None:
    with Http3(server.quic_address, versions=(V2,)) as client:
        assert client.get().body == HELLO
        assert client.quic._version == V2
        download(client, 1)


def test_version_2_is_not_forced(server: Gateway) -> None:
    """A connection stays in the version that its client began with, whatever else that speaks (RFC 9368 2.3)."""
    for first in (V1, V2):
        with Http3(server.quic_address, versions=(V2, V1), first_version=first) as client:
            assert client.get().body == HELLO
            assert client.quic._version == first


def test_version_negotiation(server: Gateway) -> None:
    with Http3(server.quic_address, versions=(0x1A2A3A4A, V1), first_version=0x1A2A3A4A) as client:
        assert client.get().body == HELLO
        offered = client.versions_offered
    assert offered is not None and V1 in offered and V2 in offered
    assert any(version & 0x0F0F0F0F == 0x0A0A0A0A for version in offered), "one that means nothing is offered too"


def test_chacha20(server: Gateway) -> None:
    with Http3(server.quic_address, ciphers=[CHACHA20]) as client:
        download(client, 3)
        assert client.quic._cryptos[ONE_RTT].send.cipher_suite == CHACHA20


def test_ipv6(server: Gateway) -> None:
    port = int(str(server.listeners[-1]["bind"]).rsplit(":", 1)[1])
    with Http3(("::1", port), local="::1") as client:
        download(client, 3)


def test_retry(make_gateway: Maker) -> None:
    """With the threshold at 0 every address is validated first; the token of an earlier visit saves that."""
    gateway = make_gateway(quic=True, http3={"retry_threshold": 0})
    with Http3(gateway.quic_address) as client:
        assert client.quic._retry_count == 1
        assert client.get().body == HELLO
        client.pump(lambda: client.tokens, "NEW_TOKEN")
    with Http3(gateway.quic_address, token=client.tokens[-1]) as again:
        assert again.quic._retry_count == 0
        assert again.get().body == HELLO


def test_resumption(server: Gateway) -> None:
    with Http3(server.quic_address) as client:
        client.pump(lambda: client.tickets, "a session ticket")
        assert client.completed is not None and not client.completed.session_resumed
    with Http3(server.quic_address, ticket=client.tickets[0]) as again:
        assert again.completed is not None and again.completed.session_resumed
        assert not again.completed.early_data_accepted, "early data is off unless it is switched on"
        assert again.get().body == HELLO


def test_a_large_client_hello(server: Gateway) -> None:
    """A post-quantum ClientHello does not fit into one packet."""
    with UdpProxy(server.quic_address) as proxy:
        curl = ["curl", "-sk", "--http3-only", "--max-time", "20", "--curves", "X25519MLKEM768:X25519"]
        done = subprocess.run([*curl, f"https://127.0.0.1:{proxy.port}/"], capture_output=True, check=False, timeout=30)
        assert (done.returncode, done.stdout) == (0, HELLO), done.stderr
        assert proxy.up.datagrams >= 3


def test_a_reordered_client_hello(server: Gateway) -> None:
    """Its second packet comes first: the library beneath asks for a Retry then."""
    with (
        UdpProxy(server.quic_address, rule=swap_first(UP)) as proxy,
        Http3(proxy.address, large_hello=True) as client,
    ):
        assert client.get().body == HELLO
        download(client, 1)


def test_a_large_client_hello_with_retry(make_gateway: Maker) -> None:
    gateway = make_gateway(quic=True, http3={"retry_threshold": 0})
    for rule in (None, swap_first(UP)):
        with UdpProxy(gateway.quic_address, rule=rule) as proxy, Http3(proxy.address, large_hello=True) as client:
            assert client.quic._retry_count == 1
            assert client.get().body == HELLO


def handshakes(server: Gateway, network: Network, count: int, first_seed: int) -> None:
    """So many clients at once, each with a bad network of its own."""
    with ExitStack() as stack:
        proxies = [
            stack.enter_context(UdpProxy(server.quic_address, seed=first_seed + i, network=network))
            for i in range(count)
        ]
        clients = [stack.enter_context(Http3(proxy.address, establish=False)) for proxy in proxies]
        streams = [client.open() for client in clients]
        pump_all(
            clients,
            lambda: all(client.answers[stream].over for client, stream in zip(clients, streams, strict=True)),
            "every client to be served",
            60,
        )
        assert all(client.answers[stream].body == HELLO for client, stream in zip(clients, streams, strict=True))
        lost = sum(proxy.up.lost + proxy.down.lost + proxy.up.corrupted + proxy.down.corrupted for proxy in proxies)
        assert lost >= count, f"only {lost} packets were hurt"
        for client in clients:
            client.close()
            client.socket.close()


def test_handshake_loss(server: Gateway) -> None:
    handshakes(server, Network(loss=0.3, burst=3), 20, 100)


def test_handshake_corruption(server: Gateway) -> None:
    handshakes(server, Network(corrupt=0.3), 20, 200)


# --- amplification ----------------------------------------------------------------------------------------------------


def large_certificate(make_gateway: Maker, tmp_path: Any) -> Gateway:
    names = ",".join(["DNS:localhost", *(f"DNS:host-{i}.a-rather-long-name.example" for i in range(150))])
    cert, key = Authority(tmp_path).issue("large", "/CN=localhost", names)
    tls = {"certificates": [{"cert": str(cert), "key": str(key)}]}
    return make_gateway(quic=True, tls=tls, http3={"handshake_timeout": "4s"})


def test_amplification_limit(make_gateway: Maker, tmp_path: Any) -> None:
    """A certificate of some packets; a client silent after its Initial gets three times its bytes, never more."""
    gateway = large_certificate(make_gateway, tmp_path)
    with Raw(gateway.quic_address) as raw:
        sent = hello_initial()
        raw.send(sent)
        seen = raw.collect(2.5)
        assert 2 * len(sent) < seen.bytes <= 3 * len(sent), seen.bytes
        raw.send(initial(join(0x06, 0, 4, b"\x01\0\0\0"), size=200))  # too small to be an Initial: nothing comes
    with Raw(gateway.quic_address) as raw:
        raw.send(hello_initial(size=0)[:600])
        assert raw.collect(1.0).bytes == 0
    with Http3(gateway.quic_address) as client:
        assert client.get().body == HELLO


# --- transfers --------------------------------------------------------------------------------------------------------


def test_transfer(server: Gateway) -> None:
    with Http3(server.quic_address) as client:
        download(client, 10)
        upload(client, 4 * MIB)


def test_multiplexing(server: Gateway) -> None:
    """A thousand requests on one connection, a hundred at a time at most."""
    with Http3(server.quic_address) as client:
        streams = [client.open(request(f"/scope/{i}")) for i in range(1000)]
        client.pump(lambda: all(client.answers[stream].over for stream in streams), "a thousand answers", 60)
        for i, stream in enumerate(streams):
            answer = client.answers[stream]
            assert answer.status == 200 and f'"path": "/scope/{i}"'.encode() in answer.body


def test_long_rtt(server: Gateway) -> None:
    with (
        UdpProxy(server.quic_address, network=Network(delay=0.3)) as proxy,
        Http3(proxy.address, initial_rtt=1.0) as client,
    ):
        assert client.get().body == HELLO
        download(client, 1, 100_000)


def test_key_update(server: Gateway) -> None:
    with Http3(server.quic_address) as client:
        for phase in (1, 0, 1):
            download(client, 1)
            client.update_key()
            assert client.get().body == HELLO
            assert client.key_phase == phase
        download(client, 2)


@pytest.mark.parametrize(("mark", "column"), [(2, 0), (1, 1), (3, 2)])
def test_ecn(server: Gateway, mark: int, column: int) -> None:
    """What we mark is counted in its acknowledgements; its own packets are marked ECT(0)."""
    with Http3(server.quic_address, ecn=mark) as client:
        download(client, 1)
        client.pump(lambda: client.ecn_reported[column] > 0, "a count of our marks")
        assert [count > 0 for count in client.ecn_reported] == [i == column for i in range(3)]
        assert client.ecn["ect0"] > 0 and client.ecn["ce"] == 0, client.ecn


def test_ecn_bleached(server: Gateway) -> None:
    """A path that takes the marks away stops them, not the transfer."""
    with UdpProxy(server.quic_address) as proxy, Http3(proxy.address) as client:
        download(client, 3)
        assert set(client.ecn) == {"none"}


def test_blackhole(server: Gateway) -> None:
    """Nothing goes through for a second in mid-transfer."""
    with UdpProxy(server.quic_address, network=Network(rate=2 * MIB)) as proxy, Http3(proxy.address) as client:
        stream = client.open(request(f"/download?bytes={4 * MIB}"))
        answer = client.answers[stream]
        client.pump(lambda: answer.received > MIB, "the first MiB")
        proxy.dark = True
        client.pump_for(1.0)
        assert not answer.over
        proxy.dark = False
        client.answer(stream, 60)
        assert answer.sha256.hexdigest() == sha256_of(4 * MIB)


BAD = {
    "loss 5": Network(loss=0.05),
    "loss 20": Network(loss=0.20),
    "corruption": Network(corrupt=0.02),
    "reorder": Network(reorder=0.25, late=0.003, duplicate=0.05),
    "all": Network(loss=0.02, corrupt=0.02, reorder=0.1, duplicate=0.05, delay=0.005, jitter=0.002),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_network(server: Gateway, name: str) -> None:
    with UdpProxy(server.quic_address, seed=7, network=BAD[name]) as proxy, Http3(proxy.address) as client:
        download(client, 2, MIB // 2)
        upload(client, 256 * 1024)
        down = proxy.down
        assert down.lost + down.corrupted + down.reordered > 5, down


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", BAD)
def test_twenty_mebibytes_on_a_bad_network(server: Gateway, name: str, seed: int) -> None:
    with UdpProxy(server.quic_address, seed=seed, network=BAD[name]) as proxy, Http3(proxy.address) as client:
        download(client, 20, timeout=300)
        upload(client, MIB, 300)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_hundred_handshakes_at_30_percent(server: Gateway, seed: int) -> None:
    handshakes(server, Network(loss=0.3), 20, 1000 * (seed + 1))


# --- moving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [None, "127.0.0.9"], ids=["port", "address"])
def test_rebinding(server: Gateway, host: str | None) -> None:
    """A NAT gives the client another port (or address) in mid-download: the new path is validated, the rest comes."""
    before = server.metric("quic_migrations")
    with (
        UdpProxy(server.quic_address, network=Network(rate=4 * MIB)) as proxy,
        Http3(proxy.address, nudge=0.2) as client,
    ):
        stream = client.open(request(f"/download?bytes={3 * MIB}"))
        answer = client.answers[stream]
        for part in (1, 2):
            client.pump(lambda part=part: answer.received > part * MIB, f"part {part}")
            proxy.rebind(host)
            client.pump(lambda part=part: client.frames[0x1A] >= part, "PATH_CHALLENGE")
        client.answer(stream, 60)
        assert answer.sha256.hexdigest() == sha256_of(3 * MIB)
    wait_for(lambda: server.metric("quic_migrations") >= before + 2, "the migrations to be counted")


def test_a_path_that_is_not_validated_gets_little(server: Gateway) -> None:
    """After a rebinding at most three times what came from the new address goes there before it has answered."""
    down: list[int] = []
    up: list[int] = []

    def watch(direction: str, _number: int, data: bytes) -> Any:
        if proxy.rebinds == 0:
            return None
        if direction == DOWN:
            down.append(len(data))
            return []  # PATH_CHALLENGE never arrives
        up.append(len(data))
        return None

    with (
        UdpProxy(server.quic_address, rule=watch, network=Network(rate=8 * MIB)) as proxy,
        Http3(proxy.address) as client,
    ):
        stream = client.open(request(f"/download?bytes={8 * MIB}"))
        client.pump(lambda: client.answers[stream].received > MIB, "the first MiB")
        proxy.rebind("127.0.0.8")
        client.pump_for(1.0)
        assert up and sum(down) <= 3 * sum(up), (sum(down), sum(up))


def test_connection_migration(server: Gateway) -> None:
    """The client moves on purpose, with another connection id, four times."""
    with Http3(server.quic_address) as client:
        seen = {client.local}
        for number in range(4):
            client.migrate(f"127.0.0.{10 + number}")
            download(client, 1)
            seen.add(client.local)
        assert len(seen) == 5
        client.pump(lambda: client.frames[0x1A] >= 4, "a PATH_CHALLENGE for each path")
        scope = client.get("/scope").body
        assert f'"client": ["127.0.0.13", {client.local[1]}]'.encode() in scope, scope


def test_the_address_of_a_request_is_a_validated_one(server: Gateway) -> None:
    """An address that has not answered a PATH_CHALLENGE is not told to apps (nor used for logs and access rules)."""
    with Http3(server.quic_address) as client:
        client.confirm()
        real = client.local[1]
        client.quic._QuicConnection__frame_handlers[0x1A] = (lambda *_: _[2].pull_bytes(8), {ONE_RTT})
        client.rebind("127.0.0.7")
        stream = client.open(request("/scope"))
        client.pump_for(0.5)
        body = bytes(client.answers[stream].body)
        assert body == b"" or f'"client": ["127.0.0.1", {real}]'.encode() in body, body
