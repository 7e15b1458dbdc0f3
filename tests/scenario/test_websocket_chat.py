# SPDX-License-Identifier: MIT
"""A chat room with Starlette and one with Django Channels, over each carrier: clients of a library, and a browser."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.bridge import Bridge
from harness.gateway import Gateway
from harness.websocket import CARRIERS
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

SPOKEN = {"h1": "1.1", "h2": "2"}
PROTOCOLS = {"h1": ["http/1.1"], "h2": ["h2", "http/1.1"]}


def chat(tmp_path: Path, carrier: str, app: str) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, tls=True, log={"level": "info"})
    gateway.carrier = carrier
    gateway.listeners[1]["protocols"] = PROTOCOLS[carrier]
    try:
        gateway.start().start_workers(1, app)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture(params=CARRIERS)
def starlette_chat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gateway]:
    yield from chat(tmp_path, request.param, "chat_app:app")


@pytest.fixture(params=CARRIERS)
def channels_chat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gateway]:
    yield from chat(tmp_path, request.param, "channels_app:app")


def join(gateway: Gateway, name: str, *subprotocols: str) -> ClientConnection:
    made: socket.socket | None = Bridge(gateway).socket if gateway.carrier == "h2" else None
    url = f"ws://127.0.0.1:{gateway.port}/chat/room?name={name}"
    options = {"sock": made, "subprotocols": subprotocols or None, "proxy": None, "open_timeout": 20}
    return connect(url, **options)  # type: ignore[arg-type]


def test_starlette(starlette_chat: Gateway) -> None:
    with join(starlette_chat, "ada") as ada, join(starlette_chat, "bob") as bob:
        for name in ("ada", "bob"):
            starlette_chat.wait_note(rf"joined {name} over {SPOKEN[starlette_chat.carrier]}$")
        for client, name in ((ada, "ada"), (bob, "bob")):
            client.send("hello € all")
            assert [c.recv(timeout=20) for c in (ada, bob)] == [f"{name}: hello € all"] * 2
        bob.close(4001, "enough")
        starlette_chat.wait_note("left bob 4001 enough")
    starlette_chat.wait_note("left ada 1000")


def test_channels(channels_chat: Gateway) -> None:
    with join(channels_chat, "ada", "chat") as ada, join(channels_chat, "bob") as bob:
        assert (ada.subprotocol, bob.subprotocol) == ("chat", None)
        for name in ("ada", "bob"):
            channels_chat.wait_note(rf"joined {name} over {SPOKEN[channels_chat.carrier]}$")
        bob.send(json.dumps({"text": "hello"}))
        for client in (ada, bob):
            assert json.loads(client.recv(timeout=20)) == {"name": "bob", "text": "hello"}
        with pytest.raises(InvalidStatus) as refused:
            join(channels_chat, "stranger")
        assert refused.value.response.status_code == 403
    for name in ("ada", "bob"):
        channels_chat.wait_note(f"left {name} 1000")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_browser(starlette_chat: Gateway, tmp_path: Path) -> None:
    """The page's script opens a WebSocket: on the page's own HTTP/2 connection where that is offered."""
    spoken = SPOKEN[starlette_chat.carrier]
    switches = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--remote-debugging-port=0",
    ]
    switches += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    switches += [f"--user-data-dir={tmp_path}/profile", "--ignore-certificate-errors"]
    browser = subprocess.Popen(
        ["chromium", *switches, f"https://localhost:{starlette_chat.tls_port}/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        starlette_chat.wait_note(rf"joined browser over {spoken}$", 60)
        starlette_chat.wait_note("left browser 4000 seen browser: hello € from the browser$", 30)
        starlette_chat.wait_note(rf"closed 4000 true over {spoken}$", 30)
    finally:
        browser.terminate()
        browser.wait(30)
    told = {"h1": '"GET /chat/room?name=browser HTTP/1.1" 101 ', "h2": '"GET /chat/room?name=browser HTTP/2" 200 '}
    starlette_chat.wait_metric("exchanges", 0)
    lines = starlette_chat.access_log()
    assert [line for line in lines if told[starlette_chat.carrier] in line], lines
