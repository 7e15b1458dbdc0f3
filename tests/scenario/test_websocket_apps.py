# SPDX-License-Identifier: MIT
"""WebSockets from a client library over each carrier to applications in a real worker, plain ASGI and Starlette."""

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from harness.bridge import Bridge
from harness.gateway import Gateway, insecure_context
from harness.process import wait_for
from harness.websocket import CARRIERS, TEXT, frame, ws_client
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

OPTIONS = ["--disconnect-grace", "0.2"]
Maker = Callable[..., Gateway]


@pytest.fixture(scope="module", params=CARRIERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("websocket-apps"), tls=True)
    gateway.carrier = request.param
    try:
        gateway.start().start_workers(1, "websocket_app:app", OPTIONS)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def opened(gateway: Gateway, target: str, **options: Any) -> ClientConnection:
    url = gateway.url.replace("http", "ws", 1)
    if gateway.carrier == "h2":
        options["sock"] = Bridge(gateway).socket
    return connect(url + target, proxy=None, max_size=None, open_timeout=20, close_timeout=20, **options)


def noted(gateway: Gateway, line: str) -> None:
    wait_for(lambda: line in gateway.notes(), f"the note {line!r}, there are {gateway.notes()}")


def end_of(client: ClientConnection) -> tuple[int, str]:
    """Reads until the close frame."""
    with pytest.raises(ConnectionClosed) as info:
        while True:
            client.recv(timeout=20)
    assert info.value.rcvd is not None
    return info.value.rcvd.code, info.value.rcvd.reason


# --- plain ASGI -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("data", ["", b"", "text €\U0001f600", b"\0\xff", "x" * 70_000, b"y" * 1_000_000])
def test_echo(site: Gateway, data: str | bytes, compression: Any) -> None:
    with opened(site, "/echo", compression=compression) as client:
        assert client.response is not None and client.response.headers["x-app"] == "echo"
        for _ in range(3):
            client.send(data)
            assert client.recv(timeout=20) == data


def test_fragments_and_pings_between_them(site: Gateway) -> None:
    with opened(site, "/echo") as client:
        client.send(["frag", "ments ", "of ", "€"])
        assert client.recv(timeout=20) == "fragments of €"
        assert client.ping(b"there?").wait(20)
        client.send([b"a" * 60_000] * 20)
        assert client.recv(timeout=20) == b"a" * 1_200_000


def test_subprotocol_is_the_one_that_the_app_chose(site: Gateway) -> None:
    with opened(site, "/echo", subprotocols=["v1", "v2"]) as client:
        assert client.subprotocol == "v2"


def test_scope(site: Gateway) -> None:
    with opened(site, "/scope?a=b", subprotocols=["v1", "v2"]) as client:
        scope = json.loads(client.recv(timeout=20))
    assert (scope["type"], scope["scheme"]) == ("websocket", "ws")
    assert scope["http_version"] == {"h1": "1.1", "h2": "2"}[site.carrier]
    assert (scope["path"], scope["query_string"], scope["subprotocols"]) == ("/scope", "a=b", ["v1", "v2"])
    assert scope["extensions"] == {"websocket.http.response": {}} and "method" not in scope
    names = [name for name, _ in scope["headers"]]
    assert names[0] == "host" and not {"upgrade", "connection"} & set(names)


def test_scope_over_tls(site: Gateway) -> None:
    url = site.tls_url.replace("https", "wss", 1)
    with connect(url + "/scope", ssl=insecure_context(), proxy=None) as client:
        scope = json.loads(client.recv(timeout=20))
    assert scope["scheme"] == "wss" and scope["extensions"]["tls"]["tls_version"] == 0x0304


@pytest.mark.parametrize("size", [1 << 20, 16 << 20])
def test_large_messages_in(site: Gateway, size: int) -> None:
    data = bytes(range(256)) * (size // 256)
    with opened(site, "/digest", compression=None) as client:
        client.send(data)
        assert client.recv(timeout=60) == f"{size} {hashlib.sha256(data).hexdigest()}"


def test_a_message_above_the_limit_closes_with_1009(site: Gateway) -> None:
    with opened(site, "/echo", compression=None) as client:
        with pytest.raises(ConnectionClosed) as info:
            client.send(b"x" * (17 << 20))
            client.recv(timeout=20)
        assert info.value.rcvd is not None and info.value.rcvd.code == 1009
    wait_for(lambda: any(note.startswith("echo 1009") for note in site.notes()), "the app to be told 1009")


def test_a_client_that_does_not_read_stops_the_app(site: Gateway) -> None:
    with opened(site, "/flood?100x1000000", max_queue=1, compression=None) as client:
        messages = [client.recv(timeout=20)]
        echo = opened(site, "/echo")  # two round trips: the app had its chance to go on
        for _ in range(2):
            echo.send("?")
            assert echo.recv(timeout=20) == "?"
        echo.close()
        # sockets, buffers and windows hold some messages of 1 MB, never a hundred of them
        assert "flood 60" not in site.notes()
        messages += list(client)
        assert [(len(m), m[0]) for m in messages] == [(1_000_000, n) for n in range(100)]


def test_early_messages_are_held_until_accept(site: Gateway) -> None:
    with ws_client(site) as client:
        client.handshake("/late")
        client.client.send(frame(TEXT, b"one") + frame(TEXT, b"two"))
        client.accepted()
        assert [client.expect(TEXT).payload for _ in range(2)] == [b"one", b"two"]
        client.expect_close(1000)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4321, "so it is €"), (1012, "")])
def test_the_app_closes(site: Gateway, code: int, reason: str) -> None:
    with opened(site, f"/close?{code}-{quote(reason)}") as client:
        assert client.recv(timeout=20) == "before it"
        assert end_of(client) == (code, reason)
    noted(site, f"close {code} {reason}".rstrip())


def test_return_without_close_is_1000(site: Gateway) -> None:
    with opened(site, "/leave") as client:
        assert client.recv(timeout=20) == "bye"
        with pytest.raises(ConnectionClosedOK) as info:
            client.recv(timeout=20)
        assert info.value.rcvd is not None and info.value.rcvd.code == 1000


def test_an_exception_is_1011_and_what_was_sent_before_it_comes(site: Gateway) -> None:
    with opened(site, "/fail") as client:
        assert client.recv(timeout=20) == "before it"
        with pytest.raises(ConnectionClosedError) as info:
            client.recv(timeout=20)
        assert info.value.rcvd is not None and info.value.rcvd.code == 1011


@pytest.mark.parametrize(("path", "status"), [("/fail-early", 500), ("/refuse", 403), ("/starlette/nowhere", 403)])
def test_refusals(site: Gateway, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as info:
        opened(site, path)
    assert info.value.response.status_code == status
    if path == "/refuse":
        noted(site, "refuse 1006")


def test_denial(site: Gateway) -> None:
    with pytest.raises(InvalidStatus) as info:
        opened(site, "/deny")
    response = info.value.response
    assert (response.status_code, response.body) == (401, b"who are you?")
    assert response.headers["www-authenticate"] == "Basic"
    assert response.headers.get("content-length") == {"h1": "12", "h2": None}[site.carrier]  # END_STREAM says it
    noted(site, "deny 1006")


def test_denial_in_parts(site: Gateway) -> None:
    with pytest.raises(InvalidStatus) as info:
        opened(site, "/deny-in-parts")
    response = info.value.response
    assert (response.status_code, response.body) == (503, b"x" * 200_000)


def test_what_send_refuses(site: Gateway) -> None:
    with opened(site, "/wrong") as client:
        told = "ValueError ValueError RuntimeError taken RuntimeError ValueError ValueError ValueError"
        assert client.recv(timeout=20) == told


def test_the_client_closes(site: Gateway) -> None:
    with opened(site, "/echo") as client:
        client.close(4001, "had enough")
    noted(site, "echo 4001 had enough")


def test_the_client_goes_without_a_word(site: Gateway) -> None:
    client = opened(site, "/listen")
    client.send("one")
    client.socket.shutdown(2)
    noted(site, "heard one")
    noted(site, "listen 1005")


def test_an_app_that_does_not_listen_is_cancelled_after_the_grace(site: Gateway) -> None:
    client = opened(site, "/sleep")
    noted(site, "asleep")
    client.socket.shutdown(2)
    noted(site, "cancelled")


def test_many_at_once(site: Gateway) -> None:
    clients = [opened(site, "/echo") for _ in range(50)]
    try:
        for round_ in range(3):
            for number, client in enumerate(clients):
                client.send(f"{number} {round_}")
            assert [c.recv(timeout=20) for c in clients] == [f"{n} {round_}" for n in range(50)]
    finally:
        for client in clients:
            client.close()
    site.wait_gauge("websockets", 0)


# --- Starlette --------------------------------------------------------------------------------------------------------


def test_starlette_routes_params_and_json(site: Gateway) -> None:
    with opened(site, "/starlette/talk/kitchen?name=J%C3%BCrgen", subprotocols=["chat"]) as client:
        assert client.subprotocol == "chat"
        for text in ("hello", "again"):
            client.send(text)
            assert json.loads(client.recv(timeout=20)) == {"room": "kitchen", "name": "Jürgen", "text": text}
    noted(site, "talk is over")


def test_starlette_tells_code_and_reason(site: Gateway) -> None:
    with opened(site, "/starlette/told") as client:
        client.close(4002, "enough")
    noted(site, "told 4002 enough")


def test_starlette_send_to_a_client_that_goes(site: Gateway) -> None:
    client = opened(site, "/starlette/push")
    client.recv(timeout=20)
    client.socket.shutdown(2)
    noted(site, "push 1006")
    assert "exception in the application: WebSocket /starlette/push" not in site.workers[0].output


def test_starlette_endpoint_class(site: Gateway) -> None:
    with opened(site, "/starlette/counter") as client:
        client.send(b"12345")
        assert client.recv(timeout=20) == "5"
        client.close(1000)
    noted(site, "counter 1000")


def test_starlette_denials(site: Gateway) -> None:
    with pytest.raises(InvalidStatus) as info:
        opened(site, "/starlette/denied")
    response = info.value.response
    assert (response.status_code, response.body, response.headers["x-why"]) == (418, b"no entry", "because")
    with pytest.raises(InvalidStatus) as info:
        opened(site, "/starlette/raises-http")
    assert (info.value.response.status_code, info.value.response.body) == (402, b"pay first")


def test_starlette_exception_with_a_code(site: Gateway) -> None:
    with opened(site, "/starlette/raises-close") as client:
        assert end_of(client) == (4321, "policy")


def test_pages_beside_it(site: Gateway) -> None:
    assert site.get("/starlette/page").body == b"a page"


# --- going away -------------------------------------------------------------------------------------------------------


def test_a_worker_that_stops_closes_with_1012(make_site: Maker) -> None:
    gateway = make_site(app_target="websocket_app:app")
    with opened(gateway, "/listen") as client:
        noted(gateway, "listening")
        gateway.workers[0].send_signal(signal.SIGTERM)
        assert end_of(client)[0] == 1012
    gateway.workers[0].wait()
    notes = gateway.notes()
    end = next(note for note in notes if note.startswith("listen 1012"))
    assert notes.index(end) < notes.index("lifespan down")


def test_a_worker_that_stops_may_keep_them_until_its_own_deadline(make_site: Maker) -> None:
    """ws_on_drain lets them live; at --graceful-timeout the worker closes them, and cancels who does not listen."""
    gateway = make_site(
        app={"ws_on_drain": "1h"},
        app_target="websocket_app:app",
        worker_options=["--graceful-timeout", "0.3", "--disconnect-grace", "0.3"],
    )
    with opened(gateway, "/listen") as listener, opened(gateway, "/sleep") as sleeper:
        noted(gateway, "listening")
        noted(gateway, "asleep")
        gateway.workers[0].send_signal(signal.SIGTERM)
        assert end_of(listener)[0] == 1012
        assert end_of(sleeper)[0] == 1012
    gateway.workers[0].wait()
    assert {"listen 1012", "cancelled"} <= set(gateway.notes())
    assert gateway.notes()[-1] == "lifespan down"


def test_a_second_signal_ends_them_at_once(make_site: Maker) -> None:
    gateway = make_site(app={"ws_on_drain": "1h"}, app_target="websocket_app:app")
    with opened(gateway, "/sleep") as client:
        noted(gateway, "asleep")
        worker = gateway.workers[0]
        worker.send_signal(signal.SIGTERM)
        wait_for(lambda: "requests in flight finish" in worker.output, "the first signal to be taken")
        worker.send_signal(signal.SIGTERM)
        assert end_of(client)[0] == 1012
    worker.wait()


def test_a_gateway_that_stops_closes_with_1001(make_gateway: Maker) -> None:
    """Over HTTP/1.1: python-h2 reads nothing behind a GOAWAY. Over HTTP/2 in test_websocket_ends.py."""
    gateway = make_gateway(app_target="websocket_app:app")
    with opened(gateway, "/listen") as client:
        noted(gateway, "listening")
        stopper = threading.Thread(target=gateway.process.send_signal, args=(signal.SIGTERM,))
        stopper.start()
        assert end_of(client)[0] == 1001
        stopper.join()
    wait_for(lambda: any(n.startswith("listen 1001") for n in gateway.notes()), "the app to be told 1001")
    assert gateway.process.wait() == 0


def test_a_worker_that_dies_closes_with_1011(make_site: Maker) -> None:
    gateway = make_site(app_target="websocket_app:app")
    with opened(gateway, "/listen") as client:
        noted(gateway, "listening")
        gateway.workers[0].kill()
        assert end_of(client)[0] == 1011
