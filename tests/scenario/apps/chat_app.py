# SPDX-License-Identifier: MIT
"""A chat room with Starlette, and its page, whose script talks and says what it heard."""

from scenario import note
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PAGE = """<!doctype html><title>chat</title><script>
const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/chat/room?name=browser`);
socket.onopen = () => socket.send("hello € from the browser");
socket.onmessage = event => { if (event.data.startsWith("browser:")) socket.close(4000, "seen " + event.data); };
socket.onclose = event => fetch(`/closed?code=${event.code}&clean=${event.wasClean}`);
</script>"""
members: set[WebSocket] = set()


async def room(socket: WebSocket) -> None:
    await socket.accept()
    members.add(socket)
    name = socket.query_params["name"]
    note(f"joined {name} over {socket.scope['http_version']}")
    try:
        while True:
            text = await socket.receive_text()
            for member in list(members):
                await member.send_text(f"{name}: {text}")
    except WebSocketDisconnect as gone:
        note(f"left {name} {gone.code} {gone.reason}".rstrip())
    finally:
        members.discard(socket)


async def page(request: Request) -> Response:
    return HTMLResponse(PAGE)


async def closed(request: Request) -> Response:
    note(f"closed {request.query_params['code']} {request.query_params['clean']} over {request.scope['http_version']}")
    return Response(status_code=204)


app = Starlette(routes=[Route("/", page), Route("/closed", closed), WebSocketRoute("/chat/{room}", room)])
