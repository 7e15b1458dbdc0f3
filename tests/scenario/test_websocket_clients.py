# SPDX-License-Identifier: MIT
"""WebSockets from a real client's library to a real application and back, over each carrier."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest
import websockets.exceptions
from harness.bridge import Bridge
from harness.gateway import Gateway
from harness.websocket import CARRIERS
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Message, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

Maker = Callable[..., Gateway]


@pytest.fixture(scope="module", params=CARRIERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("clients"))
    gateway.carrier = request.param
    try:
        gateway.start()
        gateway.start_workers(1, "sockets:app")
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def dial(gateway: Gateway, path: str, **options: object) -> ClientConnection:
    if gateway.carrier == "h2":
        options["sock"] = Bridge(gateway).socket
    return connect(f"ws://127.0.0.1:{gateway.port}{path}", open_timeout=20, max_size=None, **options)  # type: ignore[arg-type]


OFFERS = {
    "none": None,
    "plain": ClientPerMessageDeflateFactory(),
    "small window": ClientPerMessageDeflateFactory(client_max_window_bits=9, server_max_window_bits=9),
    "no takeover": ClientPerMessageDeflateFactory(
        client_max_window_bits=True, client_no_context_takeover=True, server_no_context_takeover=True
    ),
    "window is not told": ClientPerMessageDeflateFactory(client_max_window_bits=None),
}


@pytest.mark.parametrize("offer", OFFERS)
def test_echo(site: Gateway, offer: str) -> None:
    factory = OFFERS[offer]
    extensions = [factory] if factory is not None else None
    with dial(site, "/echo", extensions=extensions, compression=None) as client:
        assert bool(client.protocol.extensions) == (factory is not None)
        noise = os.urandom(70_000)
        texts = ["", "a", "ä" * 100, "the same words again and again " * 5000, "€uro" * 40_000]
        for message in [*texts, b"", b"\x00", noise, noise, bytes(1_000_000), *texts]:
            client.send(message)
            assert client.recv(20) == message
    assert client.close_code == 1000


def test_fragments(site: Gateway) -> None:
    with dial(site, "/echo") as client:
        client.send(["one ", "", "two ", "three " * 10_000])
        assert client.recv(20) == "one two " + "three " * 10_000
        client.send([bytes(1000)] * 100)
        assert client.recv(20) == bytes(100_000)


def talk(site: Gateway, clients: int, turns: int) -> None:
    """So many clients at once, with messages there and back."""

    async def one(number: int) -> None:
        uri = f"ws://127.0.0.1:{site.port}/echo"
        made = {"sock": Bridge(site).socket} if site.carrier == "h2" else {}
        async with websockets.connect(uri, open_timeout=30, **made) as client:
            for turn in range(turns):
                text = f"{number} {turn} " * (turn * 50 + 1)
                await client.send(text)
                assert await client.recv() == text

    async def everyone() -> None:
        await asyncio.gather(*(one(number) for number in range(clients)))

    asyncio.run(everyone())
    site.wait_gauge("websockets", 0)


def test_many_at_once(site: Gateway) -> None:
    talk(site, 100, 20)


def test_several_loops_and_workers(make_site: Maker) -> None:
    talk(make_site(workers=2, app_target="sockets:app", gateway={"threads": 3}), 60, 10)


def test_subprotocol_and_scope(site: Gateway) -> None:
    with dial(site, "/echo", subprotocols=["v2.chat", "v1.chat"]) as client:
        assert client.subprotocol == "v2.chat"
    with dial(site, "/scope?x=1", subprotocols=["a", "b"]) as client:
        told = json.loads(client.recv(20))
        assert told == {
            "type": "websocket",
            "scheme": "ws",
            "http_version": {"h1": "1.1", "h2": "2"}[site.carrier],
            "path": "/scope",
            "subprotocols": ["a", "b"],
        }
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            client.recv(20)
        assert (client.close_code, client.close_reason) == (4001, "told")


def test_the_app_refuses(site: Gateway) -> None:
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        dial(site, "/deny")
    assert refused.value.response.status_code == 403
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        dial(site, "/denial")
    response = refused.value.response
    assert (response.status_code, response.headers["x-tea"], response.body) == (418, "pot", b"short and stout")


@pytest.mark.parametrize(("path", "code"), [("/crash", 1011), ("/return", 1000)])
def test_the_app_ends(site: Gateway, path: str, code: int) -> None:
    with dial(site, path) as client:
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            client.recv(20)
        assert client.close_code == code


def test_a_slow_client(site: Gateway) -> None:
    with dial(site, "/flood", max_queue=1) as client:
        for number in range(64):
            assert client.recv(20) == bytes([number]) * 65536
        with pytest.raises(websockets.exceptions.ConnectionClosedOK):
            client.recv(20)


def test_a_slow_app(site: Gateway) -> None:
    with dial(site, "/slow", compression=None) as client:
        for _ in range(64):
            client.send(bytes(65536))
        client.send("how many?")
        assert client.recv(30) == str(64 * 65536)


def test_the_longest_message(make_site: Maker) -> None:
    gateway = make_site(app_target="sockets:app", websocket={"max_message": "1MiB"})
    for compression in ("deflate", None):
        with dial(gateway, "/echo", compression=compression) as client:
            client.send(bytes(1 << 20))
            assert client.recv(20) == bytes(1 << 20)
            client.send(bytes((1 << 20) + 1))
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                client.recv(20)
            assert client.close_code == 1009
    gateway.expect_counted("limit_ws_max_message", 2)


def test_the_worker_stops(make_site: Maker) -> None:
    gateway = make_site(app_target="sockets:app")
    with dial(gateway, "/echo") as client:
        client.send("x")
        assert client.recv(20) == "x"
        worker = gateway.workers[0]
        worker.send_signal(signal.SIGTERM)
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            client.recv(20)
        assert client.close_code == 1012
        worker.wait()


class Sans:
    """A client of wsproto over a socket."""

    def __init__(self, gateway: Gateway, path: str):
        if gateway.carrier == "h2":
            self.socket = Bridge(gateway).socket
        else:
            self.socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.send(Request(host="localhost", target=path, extensions=[PerMessageDeflate()]))

    def send(self, event: Event) -> None:
        self.socket.sendall(self.protocol.send(event))

    def events(self) -> Iterator[Event]:
        while True:
            yield from self.protocol.events()
            data = self.socket.recv(65536)
            self.protocol.receive_data(data or None)

    def message(self, kind: type[Message]) -> str | bytes:
        parts = []
        for event in self.events():
            assert isinstance(event, kind), event
            parts.append(event.data)
            if event.message_finished:
                return "".join(parts) if kind is TextMessage else b"".join(parts)
        raise AssertionError("no message")


def test_wsproto(site: Gateway) -> None:
    client = Sans(site, "/echo")
    accepted = next(client.events())
    assert isinstance(accepted, AcceptConnection) and accepted.extensions
    for text in ("hello", "again " * 20_000, "x" * 100):
        client.send(TextMessage(data=text))
        assert client.message(TextMessage) == text
    client.send(BytesMessage(data=b"a" * 1000, message_finished=False))
    client.send(BytesMessage(data=b"b" * 1000))
    assert client.message(BytesMessage) == b"a" * 1000 + b"b" * 1000
    client.send(CloseConnection(code=1000, reason="done"))
    closed = next(client.events())
    assert isinstance(closed, CloseConnection) and closed.code == 1000
    client.socket.close()
