# SPDX-License-Identifier: MIT
"""QUIC over several loops: packets find their connection's loop whatever address they come from, connections that
nobody has any more are reset, and bounds hold over all loops."""

import contextlib
import hashlib
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from harness.gateway import Gateway
from harness.http3 import Http3, request
from harness.process import children_of, wait_for
from harness.quic import Ended, pump_all

Maker = Callable[..., Gateway]
MIB = 1 << 20
CONNECTION_REFUSED = 2


def sha256_of(size: int) -> str:
    return hashlib.sha256((bytes(range(256)) * (size // 256 + 1))[:size]).hexdigest()


def started(make_gateway: Maker, **options: Any) -> Gateway:
    return make_gateway(quic=True, gateway={"threads": 4, **options}, proxy_headers={"trusted": []})


def answers(gateway: Gateway) -> bool:
    with contextlib.suppress(Exception):
        return bool(gateway.admin("status"))
    return False


@pytest.mark.parametrize("count", [12])
def test_rebinding_over_four_loops(make_gateway: Maker, count: int) -> None:
    """Every connection changes its port several times in mid-download: the kernel would spread the new ones over all
    loops."""
    gateway = started(make_gateway)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Http3(gateway.quic_address)) for _ in range(count)]
        pump_all(clients, lambda: all(client.quic._handshake_confirmed for client in clients), "the handshakes", 60)
        streams = [client.open(request(f"/download?bytes={MIB}")) for client in clients]
        answers = [client.answers[stream] for client, stream in zip(clients, streams, strict=True)]
        for answer in answers:
            answer.keep = False
        for part in range(1, 5):
            least = part * MIB // 5
            pump_all(clients, lambda least=least: all(one.received >= least for one in answers), f"part {part}", 120)
            for client in clients:
                client.rebind()
                client.quic.send_ping(
                    part
                )  # what was under way to the old port is lost, and with it every reason to send
        pump_all(clients, lambda: all(one.over for one in answers), "the ends", 120)
        assert {answer.sha256.hexdigest() for answer in answers} == {sha256_of(MIB)}
    metrics = gateway.metrics()
    assert metrics["quic_handshakes"] == count
    assert metrics["quic_migrations"] >= count
    assert metrics["quic_misroutes_lost"] == 0
    assert metrics["quic_stateless_resets"] == 0


def test_a_lost_connection_is_reset(make_gateway: Maker) -> None:
    """The server dies and another one takes its place, which tells the clients of the old one (RFC 9000 10.3)."""
    gateway = started(make_gateway)
    with Http3(gateway.quic_address) as client:
        assert client.get("/").status == 200
        old = gateway.server_pid
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: [pid for pid in children_of(gateway.process.pid) if pid != old], "another server")
        wait_for(lambda: answers(gateway), "it to answer")
        client.open(request("/"))
        client.pump(lambda: client.stateless_reset, "the stateless reset")
    with Http3(gateway.quic_address) as client:
        wait_for(lambda: gateway.metrics()["workers_ready"] >= 1, "the worker to be back")
        assert client.get("/").status == 200


def test_address_bound(make_gateway: Maker) -> None:
    """gateway.max_connections_per_ip counts QUIC's connections too, over all loops; one that ends makes room."""
    gateway = started(make_gateway, max_connections_per_ip=3)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Http3(gateway.quic_address)) for _ in range(3)]
        for client in clients:
            client.confirm()
        with pytest.raises(Ended) as ended:
            Http3(gateway.quic_address)
        assert (ended.value.closing.application, ended.value.closing.code) == (False, CONNECTION_REFUSED)
        assert gateway.metric("conns_refused_per_ip") >= 1
        clients[0].close()
        wait_for(lambda: gateway.metric("quic_conns") == 2, "room")
        with Http3(gateway.quic_address) as again:
            assert again.get("/").status == 200
