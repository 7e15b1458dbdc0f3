# SPDX-License-Identifier: MIT
"""What an idle WebSocket costs the gateway, over each carrier, with and without compression: docs/ARCHITECTURE.md."""

import contextlib
import zlib
from collections.abc import Callable

import pytest
from harness.gateway import VARIANT, Gateway
from harness.http2 import Http2
from harness.process import rss
from harness.tunnel import Tunnel
from harness.websocket import FIN, RSV1, TEXT, WsClient, frame, ws_client

Maker = Callable[..., Gateway]
COUNT, ON_ONE = 600, 60  # tunnels of a connection
LIMITS = {"h1": 24, "h2": 12, "h2 with deflate": 56, "h1 with deflate": 68}  # KiB for each


def clients(stack: contextlib.ExitStack, gateway: Gateway, count: int) -> list[WsClient]:
    if gateway.carrier == "h1":
        return [stack.enter_context(ws_client(gateway)) for _ in range(count)]
    made = []
    for _ in range(count // ON_ONE):
        connection = stack.enter_context(Http2(("127.0.0.1", gateway.port)))
        made += [WsClient(Tunnel(gateway, on=connection)) for _ in range(ON_ONE)]
    return made


def use(client: WsClient, deflate: bool) -> None:
    """One message there and back."""
    client.handshake("/echo", sec_websocket_extensions="permessage-deflate" if deflate else None)
    client.accepted()
    if deflate:
        pressed = zlib.compressobj(wbits=-12)
        data = pressed.compress(b"hello " * 50) + pressed.flush(zlib.Z_SYNC_FLUSH)
        client.client.send(frame(TEXT, data[:-4], FIN | RSV1 | TEXT))
        assert client.frame().first & RSV1
    else:
        client.text("hello")
        assert client.expect(TEXT).payload == b"hello"


@pytest.mark.skipif(VARIANT != "release", reason="sanitizers change what memory an allocation takes")
@pytest.mark.parametrize("deflate", [False, True])
def test_idle_websocket(make_site: Maker, deflate: bool, record_property: Callable[..., None]) -> None:
    gateway = make_site(app_target="sockets:app", log={"level": "info"})
    name = gateway.carrier + (" with deflate" if deflate else "")
    with contextlib.ExitStack() as stack:
        for client in clients(stack, gateway, ON_ONE):
            use(client, deflate)
        before = rss(gateway.server_pid)
        for client in clients(stack, gateway, COUNT):
            use(client, deflate)
        each = (rss(gateway.server_pid) - before) / COUNT / 1024
    record_property(f"KiB per idle WebSocket, {name}", round(each, 1))
    print(f"{each:.1f} KiB for each idle WebSocket, {name}")
    assert each <= LIMITS[name]
