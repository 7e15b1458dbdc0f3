# SPDX-License-Identifier: MIT
"""What QUIC connections make gatewayd hold: idle ones, stalled streams, and what is left when they have gone."""

import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.gateway import VARIANT, Gateway
from harness.http3 import Http3, request
from harness.process import rss, wait_for

KIB, MIB = 1024, 1 << 20
Maker = Callable[..., Gateway]

pytestmark = [
    pytest.mark.skipif(VARIANT != "release", reason="sanitizers change what memory an allocation takes"),
]


@pytest.fixture(scope="module", autouse=True)
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def idle(gateway: Gateway, count: int) -> list[Http3]:
    """Connections that have been used, have all they need (tickets, tokens, spare ids), and wait."""
    made = []
    for _ in range(count):
        client = Http3(gateway.quic_address)
        assert client.get().status == 200
        client.confirm()
        client.ping()
        made.append(client)
    return made


def close_all(gateway: Gateway, clients: list[Http3]) -> None:
    for client in clients:
        client.close()
    gateway.wait_gauge("quic_conns", 0)


def test_idle_connection(make_gateway: Maker, record_property: Callable[..., None]) -> None:
    gateway = make_gateway(quic=True, log={"level": "info"}, http3={"idle_timeout": "120s"})
    close_all(gateway, idle(gateway, 50))
    before = rss(gateway.server_pid)
    count = 400
    clients = idle(gateway, count)
    each = (rss(gateway.server_pid) - before) / count
    record_property("KiB per idle QUIC connection", round(each / KIB, 2))
    print(f"{each / KIB:.2f} KiB for each idle QUIC connection")
    assert each <= 96 * KIB
    close_all(gateway, clients)
    again = idle(gateway, count)  # what was freed is used again
    assert rss(gateway.server_pid) - before <= 1.2 * each * count + 2 * MIB
    close_all(gateway, again)


def stalled(gateway: Gateway, connections: int, streams: int) -> list[Http3]:
    """Downloads that nobody reads."""
    made = []
    for _ in range(connections):
        client = Http3(gateway.quic_address, max_stream_data=16 * KIB, max_data=4 * MIB)
        opened = [client.open(request(f"/download?bytes={4 * MIB}")) for _ in range(streams)]
        client.hold(*opened, connection=True)
        full: Any = lambda client=client, opened=opened: all(client.answers[one].received >= 15 * KIB for one in opened)  # noqa: E731
        client.pump(full, "full windows")
        made.append(client)
    return made


def test_stalled_stream(make_gateway: Maker, record_property: Callable[..., None]) -> None:
    gateway = make_gateway(quic=True, log={"level": "info"})
    before = rss(gateway.server_pid)
    clients = stalled(gateway, 4, 100)
    wait_for(lambda: gateway.metric("buffered_bytes") > 0, "something to be held")
    each = (rss(gateway.server_pid) - before) / 400
    record_property("KiB per stalled stream", round(each / KIB, 2))
    print(f"{each / KIB:.2f} KiB for each stalled stream")
    assert each <= 160 * KIB
    for client in clients:
        client.close()
    gateway.wait_gauge("exchanges", 0)
    gateway.wait_metric("buffered_bytes", 0)
    again = stalled(gateway, 4, 100)
    assert rss(gateway.server_pid) - before <= 1.2 * each * 400 + 4 * MIB
    for client in again:
        client.close()


def test_many_connections_one_after_the_other(make_gateway: Maker) -> None:
    """What a connection took is given back."""
    gateway = make_gateway(quic=True, log={"level": "info"})
    close_all(gateway, idle(gateway, 100))
    before = rss(gateway.server_pid)
    for _ in range(5):
        close_all(gateway, idle(gateway, 100))
    assert rss(gateway.server_pid) - before <= 2 * MIB
