# SPDX-License-Identifier: MIT
"""A new binary while HTTP/3 connections live: the new server reads the UDP sockets, and what belongs to a connection
of an older one goes there."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from typing import Any

from harness.gateway import ROOT, VARIANT, Gateway
from harness.http3 import Answer, Http3, request
from harness.ports import free_port_of_both
from harness.process import children_of, wait_for

Maker = Callable[..., Gateway]
GATEWAYCTL = os.environ.get("GATEWAYCTL", str(ROOT / "build" / "gatewayctl"))
MIB = 1 << 20
SIZE = (50 if VARIANT == "release" else 8) * MIB
PATIENCE = 240.0
ACCEPTED = "clients are accepted"


def started(make_gateway: Maker, **sections: Any) -> Gateway:
    return make_gateway(
        quic=True, own_binary=True, gateway={"threads": 2, "drain_idle": "30s", "drain_timeout": "300s"}, **sections
    )


def upgrade(gateway: Gateway) -> tuple[int, int]:
    """The pids of the server before and of the new one, which serves."""
    accepted = gateway.process.output.count(ACCEPTED)
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), "upgrade", "--wait"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    match = re.search(r"upgraded: server (\d+) serves, server (\d+) finishes", done.stdout)
    assert done.returncode == 0 and match, f"{done}\n{gateway.process.tail()}"
    # the one that was asked answers before it lets go
    wait_for(lambda: gateway.process.output.count(ACCEPTED) > accepted, "the new server to accept")
    return int(match[2]), int(match[1])


def alone(gateway: Gateway) -> None:
    wait_for(lambda: len(children_of(gateway.process.pid)) == 1, "the servers before to end", 60)


def begin(client: Http3, size: int) -> Answer:
    """A download of which the first part is there."""
    stream = client.open(request(f"/download?bytes={size}"))
    answer = client.answers[stream]
    answer.keep = False
    client.pump(lambda: answer.received >= MIB, "the first part", PATIENCE)
    return answer


def assert_whole(answer: Answer, size: int) -> None:
    assert (answer.status, answer.ended, answer.reset, answer.received) == (200, True, None, size), answer
    expected, piece = hashlib.sha256(), bytes(range(256)) * 4096
    for _ in range(size // MIB):
        expected.update(piece)
    assert answer.sha256.hexdigest() == expected.hexdigest()


def assert_no_confusion(gateway: Gateway) -> None:
    """Nobody's packets were taken for those of a connection that is lost."""
    metrics = gateway.metrics()
    assert metrics["quic_stateless_resets"] == 0
    assert metrics["quic_drops_own_cid"] == 0
    assert metrics["quic_misroutes_lost"] == 0


def test_a_download_goes_on(make_gateway: Maker) -> None:
    gateway = started(make_gateway)
    with Http3(gateway.quic_address) as client:
        answer = begin(client, SIZE)
        old, new = upgrade(gateway)
        assert sorted(children_of(gateway.process.pid)) == sorted([old, new])
        with Http3(gateway.quic_address) as other:  # at once, although the old one lives
            assert other.get("/").status == 200
        assert gateway.metric("quic_handshakes") == 1, "the admin socket is the new one's, and so was the connection"
        before = gateway.metric("quic_handover_sent")
        client.pump(lambda: answer.over, "the rest", PATIENCE)
        assert_whole(answer, SIZE)
        assert gateway.metric("quic_handover_sent") > before
        assert client.goaways, "the draining server says that it goes"
        assert_no_confusion(gateway)
    alone(gateway)
    wait_for(lambda: gateway.metric("quic_conns") == 0, "no connection left")  # the rest when the gateway ends


def test_an_upload_goes_on(make_gateway: Maker) -> None:
    """This way every byte comes through the other server."""
    gateway = started(make_gateway)
    size = SIZE // 5
    body = os.urandom(size)
    with Http3(gateway.quic_address) as client:
        stream = client.open(request("/digest", "POST", ("content-length", str(size))), end=False)
        client.data(stream, body[:MIB])
        client.ping(PATIENCE)  # it is there
        upgrade(gateway)
        client.data(stream, body[MIB:], True)
        answer = client.answer(stream, PATIENCE)
        assert json.loads(bytes(answer.body)) == {"bytes": size, "sha256": hashlib.sha256(body).hexdigest()}
        assert gateway.metric("quic_handover_sent") >= (size - MIB) // 1500
        assert_no_confusion(gateway)
    alone(gateway)


def test_connections_of_several_servers(make_gateway: Maker) -> None:
    """Two upgrades in one download: the newest server knows where the oldest one is. Clients change their ports."""
    gateway = started(make_gateway)
    with contextlib.ExitStack() as stack:
        clients: list[Http3] = []
        answers: list[Answer] = []
        for _ in range(2):
            clients += [stack.enter_context(Http3(gateway.quic_address)) for _ in range(3)]
            answers += [begin(client, 4 * MIB) for client in clients[-3:]]
            upgrade(gateway)
        assert len(children_of(gateway.process.pid)) == 3
        for client in clients:
            client.rebind()
            client.quic.send_ping(1)
        for client, answer in zip(clients, answers, strict=True):  # a server that drains closes what is done
            client.pump(lambda answer=answer: answer.over, "the rest", PATIENCE)
            assert_whole(answer, 4 * MIB)
        assert_no_confusion(gateway)
    alone(gateway)


def test_two_addresses_with_one_port(make_gateway: Maker) -> None:
    """What comes from the other server is answered from the address that it was sent to."""
    port = free_port_of_both()
    one = {"tls": True, "protocols": ["h3", "http/1.1"]}
    gateway = started(make_gateway, listeners=[{"bind": f"127.0.0.{n}:{port}", **one} for n in (1, 2)])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Http3((host, port))) for host in ("127.0.0.1", "127.0.0.2") for _ in range(2)]
        answers = [begin(client, 4 * MIB) for client in clients]
        upgrade(gateway)
        for client, answer in zip(clients, answers, strict=True):  # a server that drains closes what is done
            client.pump(lambda answer=answer: answer.over, "the rest", PATIENCE)
            assert_whole(answer, 4 * MIB)
        assert_no_confusion(gateway)
    alone(gateway)


def test_a_retry_counts_for_the_new_server(make_gateway: Maker) -> None:
    """The old server asked a client to prove its address; the client comes back to the new one."""
    gateway = started(make_gateway, http3={"retry_threshold": 0})
    with Http3(gateway.quic_address) as stays, Http3(gateway.quic_address, establish=False) as client:
        answer = begin(stays, 4 * MIB)
        client.flush()
        wait_for(lambda: gateway.metric("quic_retries") == 2, "Retry")
        upgrade(gateway)
        client.establish()
        assert client.quic._retry_count == 1
        assert client.get("/").status == 200
        assert gateway.metric("quic_handshakes") == 1
        stays.pump(lambda: answer.over, "the rest", PATIENCE)
        assert_whole(answer, 4 * MIB)
    alone(gateway)
