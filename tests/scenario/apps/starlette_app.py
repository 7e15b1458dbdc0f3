# SPDX-License-Identifier: MIT
"""A Starlette application: the common paths, and what Starlette itself brings."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from parts import PIECE, digest, facts, lines, lines_in_thread, meeting, open_gate, pass_gate, pieces
from scenario import note
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser, requires
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.concurrency import run_in_threadpool
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FILES = Path(os.environ["APP_FILES"])
ANY = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def number(request: Request, name: str, default: int = 0) -> int:
    return int(request.query_params.get(name, default))


# --- common -----------------------------------------------------------------------------------------------------------


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def echo(request: Request) -> Response:
    return JSONResponse(facts(request.scope, await request.body()))


async def status(request: Request) -> Response:
    return Response(status_code=request.path_params["code"])


async def header(request: Request) -> Response:
    return PlainTextResponse("ok", headers={"x-big": "h" * number(request, "bytes")})


async def big(request: Request) -> Response:
    return Response(PIECE * number(request, "pieces"))


async def send_lines(request: Request) -> Response:
    return StreamingResponse(lines(number(request, "count"), request.query_params.get("gate", "")))


async def send_lines_in_thread(request: Request) -> Response:
    return StreamingResponse(lines_in_thread(number(request, "count"), request.query_params.get("gate", "")))


async def send_pieces(request: Request) -> Response:
    return StreamingResponse(pieces(number(request, "count"), request.query_params["name"]))


async def idle(request: Request) -> Response:
    async def nothing() -> AsyncIterator[bytes]:
        try:
            yield b": open\n\n"
            await asyncio.Event().wait()
        finally:
            note("idle ended")

    return StreamingResponse(nothing(), media_type="text/event-stream")


async def crash(request: Request) -> Response:
    raise ValueError("the app's own mistake")


async def crash_late(request: Request) -> Response:
    async def half() -> AsyncIterator[bytes]:
        yield b"half" * 50000  # more than a window: some of it is with the client when the mistake happens
        raise ValueError("too late")

    return StreamingResponse(half())


async def mismatch(request: Request) -> Response:
    headers = {"content-length": request.query_params["length"]}
    body = b"x" * number(request, "bytes")

    async def cut() -> AsyncIterator[bytes]:
        for _ in range(number(request, "pieces")):
            yield body[:10]

    return StreamingResponse(cut(), headers=headers) if number(request, "pieces") else Response(body, headers=headers)


async def meet(request: Request) -> Response:
    await meeting.attend(request.path_params["name"], request.path_params["size"])
    return PlainTextResponse("met")


async def gate(request: Request) -> Response:
    open_gate(request.path_params["name"])
    return Response(status_code=204)


common = [
    Route("/hello", hello),
    Route("/echo", echo, methods=ANY),
    Route("/echo/{rest:path}", echo, methods=ANY),
    Route("/status/{code:int}", status),
    Route("/header", header),
    Route("/big", big),
    Route("/lines", send_lines),
    Route("/lines-in-thread", send_lines_in_thread),
    Route("/pieces", send_pieces),
    Route("/idle", idle),
    Route("/crash", crash),
    Route("/crash-late", crash_late),
    Route("/mismatch", mismatch),
    Route("/meet/{name}/{size:int}", meet),
    Route("/gate/{name}", gate),
]


# --- requests ---------------------------------------------------------------------------------------------------------


async def form(request: Request) -> Response:
    async with request.form(max_files=20, max_fields=50) as data:
        fields: list[list[Any]] = []
        for name, value in data.multi_items():
            if isinstance(value, str):
                fields.append([name, value])
            else:
                rolled = getattr(value.file, "_rolled", False)
                facts_of_file = {"name": value.filename, "type": value.content_type, "rolled": rolled}
                fields.append([name, {**facts_of_file, **digest(await value.read())}])
    return JSONResponse(fields)


async def read_stream(request: Request) -> Response:
    body, count = b"", 0
    try:
        async for piece in request.stream():
            body += piece
            count += bool(piece)
            note(f"stream piece {len(piece)}")
    except ClientDisconnect:
        note("stream ClientDisconnect")
        raise
    return JSONResponse({**digest(body), "pieces": count})


async def read_json(request: Request) -> Response:
    try:
        return JSONResponse({"got": await request.json()})
    except ValueError:
        raise HTTPException(400, "this is no JSON") from None


async def until_gone(request: Request) -> Response:
    while not await request.is_disconnected():  # noqa: ASYNC110 (what Starlette documents)
        await asyncio.sleep(0.005)
    note("until-gone saw it")
    return PlainTextResponse("nobody reads this")


async def still_there(request: Request) -> Response:
    """is_disconnected() says no to a client that waits, however often it is asked."""
    body = await request.body()
    return JSONResponse({"gone": [await request.is_disconnected() for _ in range(5)], **digest(body)})


async def url(request: Request) -> Response:
    return JSONResponse(
        {
            "url": str(request.url),
            "base": str(request.base_url),
            "for": str(request.url_for("item", name="a b")),
            "static": str(request.url_for("static", path="/page.html")),
        }
    )


async def item(request: Request) -> Response:
    return JSONResponse({"name": request.path_params["name"]})


async def convert(request: Request) -> Response:
    return JSONResponse({name: str(value) for name, value in request.path_params.items()})


async def query(request: Request) -> Response:
    return JSONResponse(request.query_params.multi_items())


async def state(request: Request) -> Response:
    """What the lifespan yielded is shared; what a request adds is its own."""
    fresh = not hasattr(request.state, "mine")
    request.state.mine = True
    request.state.shared.append(1)
    return JSONResponse({"fresh": fresh, "shared": len(request.state.shared), "name": request.state.name})


async def timeout(request: Request) -> Response:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        return PlainTextResponse("too slow", 504)
    raise AssertionError


async def in_thread(request: Request) -> Response:
    return PlainTextResponse(str(await run_in_threadpool(sum, range(1000))))


async def cancelled_receive(request: Request) -> Response:
    """A receive() that is given up loses nothing."""
    given_up = 0
    body = b""
    more = True
    waiting: asyncio.Task[Message] | None = None
    while more:
        waiting = asyncio.ensure_future(request.receive())
        done, _ = await asyncio.wait([waiting], timeout=0.01)
        if not done:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            given_up += 1
            note("gave up")
            continue
        message = waiting.result()
        body += message["body"]
        more = message["more_body"]
    return JSONResponse({"given_up": given_up, **digest(body)})


# --- responses --------------------------------------------------------------------------------------------------------


async def cookies(request: Request) -> Response:
    response = JSONResponse(request.cookies)
    response.set_cookie("plain", "1")
    response.set_cookie("full", "x y", max_age=60, path="/a", domain="example.test", secure=True, httponly=True)
    response.set_cookie("strict", "2", samesite="strict")
    response.delete_cookie("old")
    return response


async def redirect(request: Request) -> Response:
    return RedirectResponse(request.query_params["to"], number(request, "status", 307))


async def page(request: Request) -> Response:
    return HTMLResponse("<p>größe</p>")


async def file(request: Request) -> Response:
    return FileResponse(FILES / "data.bin", filename="dätä.bin")


async def sse(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        for count in range(3):
            if count:
                await pass_gate(f"{request.query_params['gate']}-{count}")
            yield f"id: {count}\ndata: event {count}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def background(request: Request) -> Response:
    name = request.query_params["name"]

    async def work() -> None:
        note(f"{name} begun")
        await pass_gate(name)
        note(f"{name} over")

    return PlainTextResponse("accepted", 202, background=BackgroundTask(work))


async def background_twice(request: Request) -> Response:
    tasks = BackgroundTasks()
    tasks.add_task(note, "first task")
    tasks.add_task(note, "second task")
    return StreamingResponse(lines(2), background=tasks)


async def background_crash(request: Request) -> Response:
    def work() -> None:
        raise RuntimeError("the task's own mistake")

    return PlainTextResponse("accepted", background=BackgroundTask(work))


async def refuse(request: Request) -> Response:
    raise HTTPException(418, "short and stout", headers={"x-reason": "tea"})


class OwnError(Exception):
    pass


async def own_error(request: Request) -> Response:
    raise OwnError("mine")


async def own_error_answer(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 409)


class Endpoint(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return PlainTextResponse("got")

    async def delete(self, request: Request) -> Response:
        return Response(status_code=204)


async def user(request: Request) -> Response:
    return JSONResponse({"user": request.user.display_name, "scopes": request.auth.scopes})


async def session(request: Request) -> Response:
    request.session["count"] = request.session.get("count", 0) + 1
    return JSONResponse(dict(request.session))


async def log_out(request: Request) -> Response:
    request.session.clear()
    return PlainTextResponse("bye")


# --- middleware -------------------------------------------------------------------------------------------------------


class Stamp:
    """Pure ASGI: a field on every response, the number of messages in a trailing note."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", b"1")]
            await send(message)

        await self.app(scope, receive, stamped)


class Around(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        if request.headers.get("x-stop"):
            return PlainTextResponse("stopped", 403)
        body = await request.body() if request.headers.get("x-read-first") else b""
        try:
            response: Response = await call_next(request)
        except OwnError:
            return PlainTextResponse("caught", 502)
        response.headers["x-around"] = str(len(body))
        return response


class Basic(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> tuple[AuthCredentials, SimpleUser] | None:
        if "authorization" not in conn.headers:
            return None
        kind, _, name = conn.headers["authorization"].partition(" ")
        if kind != "Name":
            raise AuthenticationError("say a name")
        return AuthCredentials(["authenticated"]), SimpleUser(name)


def not_in_lifespan(request: Request) -> Response:
    return PlainTextResponse("sync endpoint")


def with_middleware(*middleware: Middleware, routes: list[Any] | None = None) -> Starlette:
    paths = routes or [
        Route("/hello", hello),
        Route("/echo", echo, methods=ANY),
        Route("/big", big),
        Route("/lines", send_lines),
        Route("/pieces", send_pieces),
        Route("/own-error", own_error),
    ]
    return Starlette(routes=paths, middleware=list(middleware))


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    note("lifespan up")
    yield {"name": "from lifespan", "shared": []}
    note("lifespan down")


session_routes: list[Any] = [Route("/", session), Route("/out", log_out)]
user_routes: list[Any] = [Route("/", user), Route("/secret", requires("authenticated")(user))]
cors = Middleware(
    CORSMiddleware,
    allow_origins=["https://front.test"],
    allow_methods=["GET", "PUT"],
    allow_headers=["x-token"],
    allow_credentials=True,
    expose_headers=["x-seen"],
)

app = Starlette(
    lifespan=lifespan,
    middleware=[Middleware(Stamp)],
    exception_handlers={OwnError: own_error_answer},
    routes=[
        Mount("/common", routes=common),
        Route("/form", form, methods=["POST"]),
        Route("/stream", read_stream, methods=["POST"]),
        Route("/json", read_json, methods=["POST"]),
        Route("/until-gone", until_gone),
        Route("/still-there", still_there, methods=["GET", "POST"]),
        Route("/url", url),
        Route("/item/{name}", item, name="item"),
        Route("/convert/{a:int}/{b:float}/{c:uuid}/{d:path}", convert),
        Route("/query", query),
        Route("/state", state),
        Route("/timeout", timeout),
        Route("/in-thread", in_thread),
        Route("/sync", not_in_lifespan),
        Route("/cancelled-receive", cancelled_receive, methods=["POST"]),
        Route("/cookies", cookies),
        Route("/redirect", redirect),
        Route("/page", page),
        Route("/file", file),
        Route("/sse", sse),
        Route("/background", background, methods=["POST"]),
        Route("/background-twice", background_twice),
        Route("/background-crash", background_crash),
        Route("/refuse", refuse),
        Route("/own-error", own_error),
        Route("/endpoint", Endpoint),
        Route("/slash/", hello),
        Mount("/static", StaticFiles(directory=FILES / "static", html=True), name="static"),
        Mount("/around", with_middleware(Middleware(Around))),
        Mount("/gzip", with_middleware(Middleware(GZipMiddleware, minimum_size=500))),
        Mount("/cors", with_middleware(cors)),
        Mount(
            "/trusted", with_middleware(Middleware(TrustedHostMiddleware, allowed_hosts=["good.test", "*.fine.test"]))
        ),
        Mount("/https-only", with_middleware(Middleware(HTTPSRedirectMiddleware))),
        Mount(
            "/session",
            with_middleware(Middleware(SessionMiddleware, secret_key="s", max_age=60), routes=session_routes),
        ),
        Mount("/user", with_middleware(Middleware(AuthenticationMiddleware, backend=Basic()), routes=user_routes)),
        Host("sub.test", Router([Route("/{rest:path}", item, name="sub")])),
    ],
)
