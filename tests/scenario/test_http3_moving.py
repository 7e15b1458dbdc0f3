# SPDX-License-Identifier: MIT
"""Several loops, and clients that move: each packet reaches the loop of its connection, whatever socket it comes by."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from harness.gateway import Gateway
from harness.http3 import Http3, request
from harness.process import wait_for
from harness.quic import pump_all, udp_socket
from harness.udp_proxy import Network, UdpProxy

MIB = 1 << 20
PING, PATH_CHALLENGE, PATH_RESPONSE = b"\x01", 0x1A, 0x1B  # RFC 9000 19
Maker = Callable[..., Gateway]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("loops"), quic=True, log={"level": "info"}, gateway={"threads": 4, "drain_idle": "0s"}
    )
    try:
        gateway.start()
        gateway.start_workers(1)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def all_rebind(server: Gateway, count: int, size: int, every: float, rate: float) -> None:
    """So many connections, each behind a NAT of its own that forgets it again and again, each with a download."""
    with ExitStack() as stack:
        network = Network(rate=rate)
        proxies = [
            stack.enter_context(UdpProxy(server.quic_address, seed=i, network=network, rebind_every=every))
            for i in range(count)
        ]
        clients = [stack.enter_context(Http3(proxy.address, establish=False, nudge=0.2)) for proxy in proxies]
        streams = [client.open(request(f"/download?bytes={size}")) for client in clients]
        answers = [client.answers[stream] for client, stream in zip(clients, streams, strict=True)]
        for answer in answers:
            answer.keep = False
        pump_all(clients, lambda: all(answer.over for answer in answers), "all downloads", 240)
        assert all(answer.ended and answer.received == size for answer in answers)
        assert len({answer.sha256.hexdigest() for answer in answers}) == 1
        rebinds = [proxy.rebinds for proxy in proxies]
        assert min(rebinds) >= 2, f"a download was over before its NAT had rebound twice: {rebinds}"
        for client in clients:
            client.close()


def test_rebinding_at_four_loops(server: Gateway) -> None:
    before = server.metrics()
    all_rebind(server, 12, MIB, 0.3, 1 * MIB)
    after = server.metrics()
    assert after["quic_migrations"] > before["quic_migrations"]
    # Whether packets were misrouted depends on the kernel; that none was lost by it is what the downloads have shown.
    assert after["quic_misroutes"] >= before["quic_misroutes"]


@pytest.mark.long
def test_sixty_four_connections_that_rebind_each_second(server: Gateway) -> None:
    all_rebind(server, 64, 2 * MIB, 1.0, 0.5 * MIB)


def test_every_loop_serves(server: Gateway) -> None:
    """Connections spread over the loops, and each stays where it is when its address changes."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Http3(server.quic_address)) for _ in range(32)]
        for client in clients:
            assert client.get().status == 200
        for client in clients:
            client.rebind(f"127.0.1.{1 + clients.index(client)}")
            assert client.get().status == 200
            client.pump(lambda client=client: client.frames[0x1A] >= 1, "PATH_CHALLENGE")
        wait_for(lambda: server.metric("quic_conns") >= 32, "32 connections")

        def seen() -> list[str]:
            return [json.loads(bytes(client.get("/scope").body))["client"][0] for client in clients]

        wanted = [f"127.0.1.{1 + i}" for i in range(32)]
        wait_for(lambda: seen() == wanted, "every new address to be validated and told")


def test_a_request_that_outlives_its_address(server: Gateway) -> None:
    """The access log names the client of a request that was under way when its client moved."""
    with Http3(server.quic_address) as client:
        stream = client.open(request("/sleep?ms=300&id=moving"))
        server.wait_note("^start GET moving")
        for host in ("127.0.2.2", "127.0.2.3"):
            client.rebind(host)
            client.ping()
            client.ping()
        assert client.answer(stream).status == 200
    wait_for(lambda: any("/sleep?ms=300&id=moving" in line for line in server.access_log()), "the line")
    line = next(line for line in server.access_log() if "id=moving" in line)
    assert line.startswith("127.0."), line


def test_every_loop_drains(make_gateway: Maker) -> None:
    gateway = make_gateway(quic=True, gateway={"threads": 4, "drain_idle": "0s", "drain_timeout": "10s"})
    with ExitStack() as stack:
        clients = [stack.enter_context(Http3(gateway.quic_address)) for _ in range(16)]
        for client in clients:
            assert client.get().status == 200
        gateway.process.send_signal(15)
        for client in clients:
            closing = client.expect_closed()
            assert closing.application and closing.code == 0x100, closing
            assert client.goaways, "GOAWAY comes before the end"
    assert gateway.process.wait() == 0


def test_an_address_that_only_brings_the_proof_of_another(server: Gateway) -> None:
    """A client proves one address in a packet that seems to come from a third one, which nobody has proved."""
    with Http3(server.quic_address) as client, udp_socket("127.0.4.9") as stranger:
        assert client.get().status == 200
        client.ping()
        challenges: list[bytes] = []
        handlers: Any = client.quic._QuicConnection__frame_handlers  # type: ignore[attr-defined]
        plain, epochs = handlers[PATH_CHALLENGE]
        handlers[PATH_CHALLENGE] = (lambda context, kind, buf: challenges.append(buf.pull_bytes(8)), epochs)
        client.rebind("127.0.4.2")
        client.inject(PING + bytes(1100))  # else the challenge is short, and proves less (RFC 9000 8.2.1)
        client.pump(lambda: challenges, "a PATH_CHALLENGE to the new address")
        handlers[PATH_CHALLENGE] = (plain, epochs)
        stranger.sendto(client.seal(bytes([PATH_RESPONSE]) + challenges[0] + PING), client.address)
        stranger.setblocking(True)
        stranger.settimeout(10)
        stranger.recv(2048)  # the packet was read: what goes there asks for a proof
        client.inject(PING + bytes(1100))
        assert client.get("/?id=proved").status == 200
    wait_for(lambda: any("id=proved" in line for line in server.access_log()), "the line")
    line = next(line for line in server.access_log() if "id=proved" in line)
    assert line.startswith("127.0.4.2 "), line
