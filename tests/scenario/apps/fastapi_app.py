# SPDX-License-Identifier: MIT
"""A FastAPI application: the common paths, and what FastAPI itself brings."""

import asyncio
import contextlib
import contextvars
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    UploadFile,
)
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.responses import StreamingResponse as Streaming
from fastapi.security import HTTPBasic, HTTPBasicCredentials, OAuth2PasswordBearer
from fastapi.staticfiles import StaticFiles
from parts import (
    PIECE,
    attend_in_thread,
    digest,
    facts,
    lines,
    lines_in_thread,
    meeting,
    open_gate,
    pass_gate,
    pass_gate_in_thread,
    pieces,
)
from pydantic import BaseModel, Field
from scenario import note
from sse_starlette.sse import EventSourceResponse
from starlette.middleware.sessions import SessionMiddleware

FILES = Path(os.environ["APP_FILES"])


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    note("lifespan up")
    yield {"name": "from lifespan", "shared": []}
    note("lifespan down")


app = FastAPI(lifespan=lifespan, title="Scenario")

# --- common -----------------------------------------------------------------------------------------------------------

common = APIRouter(prefix="/common")


@common.get("/hello", response_class=PlainTextResponse)
@common.head("/hello", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


@common.api_route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@common.api_route("/echo/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def echo(request: Request) -> dict[str, Any]:
    return facts(request.scope, await request.body())


@common.get("/status/{code}")
async def status(code: int) -> Response:
    return Response(status_code=code)


@common.get("/header")
async def header(response: Response, length: Annotated[int, Query(alias="bytes")]) -> str:
    response.headers["x-big"] = "h" * length
    return "ok"


@common.get("/big")
def big(pieces: int) -> Response:
    return Response(PIECE * pieces)


@common.get("/lines")
@common.head("/lines")
async def send_lines(count: int, gate: str = "") -> Streaming:
    return Streaming(lines(count, gate))


@common.get("/lines-in-thread")
def send_lines_in_thread(count: int, gate: str = "") -> Streaming:
    return Streaming(lines_in_thread(count, gate))


@common.get("/pieces")
async def send_pieces(name: str, count: int = 0) -> Streaming:
    return Streaming(pieces(count, name))


@common.get("/idle")
async def idle() -> Streaming:
    async def nothing() -> AsyncIterator[bytes]:
        try:
            yield b": open\n\n"
            await asyncio.Event().wait()
        finally:
            note("idle ended")

    return Streaming(nothing(), media_type="text/event-stream")


@common.get("/crash")
async def crash() -> None:
    raise ValueError("the app's own mistake")


@common.get("/crash-late")
async def crash_late() -> Streaming:
    async def half() -> AsyncIterator[bytes]:
        yield b"half" * 50000  # more than a window: some of it is with the client when the mistake happens
        raise ValueError("too late")

    return Streaming(half())


@common.get("/mismatch")
async def mismatch(length: str, size: Annotated[int, Query(alias="bytes")], pieces: int = 0) -> Response:
    headers = {"content-length": length}

    async def cut() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield b"x" * 10

    return Streaming(cut(), headers=headers) if pieces else Response(b"x" * size, headers=headers)


@common.get("/meet/{name}/{size}")
async def meet(name: str, size: int) -> str:
    await meeting.attend(name, size)
    return "met"


@common.get("/meet-in-threads/{name}/{size}")
def meet_in_threads(name: str, size: int) -> str:
    attend_in_thread(name, size)
    return "met"


@common.get("/gate/{name}", status_code=204)
async def gate(name: str) -> None:
    open_gate(name)


app.include_router(common)

# --- parameters and bodies --------------------------------------------------------------------------------------------


class Item(BaseModel):
    name: str = Field(min_length=1)
    price: float = Field(gt=0)
    tags: list[str] = []


@app.get("/items/{item_id}")
async def read_item(item_id: int, q: str | None = None, limit: Annotated[int, Query(le=100)] = 10) -> dict[str, Any]:
    return {"item_id": item_id, "q": q, "limit": limit}


@app.post("/items", status_code=201, response_model=Item)
async def create_item(item: Item, response: Response) -> dict[str, Any]:
    response.headers["location"] = f"/items/{item.name}"
    return {**item.model_dump(), "secret": "not in the model"}


@app.post("/bad-response", response_model=Item)
async def bad_response() -> dict[str, Any]:
    return {"name": ""}


@app.get("/tags")
async def read_tags(tag: Annotated[list[str], Query()], flag: bool = False) -> dict[str, Any]:
    return {"tags": tag, "flag": flag}


@app.get("/told")
async def read_told(
    user_agent: Annotated[str, Header()],
    x_token: Annotated[list[str], Header()],
    visit: Annotated[str | None, Cookie()] = None,
) -> dict[str, Any]:
    return {"user_agent": user_agent, "x_token": x_token, "visit": visit}


@app.get("/path/{rest:path}")
async def read_path(rest: str) -> dict[str, str]:
    return {"rest": rest}


@app.post("/form")
async def read_form(name: Annotated[str, Form()], many: Annotated[list[int], Form()]) -> dict[str, Any]:
    return {"name": name, "many": many}


@app.post("/upload")
async def upload(file: UploadFile, comment: Annotated[str, Form()] = "") -> dict[str, Any]:
    rolled = getattr(file.file, "_rolled", False)
    told = {"name": file.filename, "type": file.content_type, "size": file.size, "rolled": rolled, "comment": comment}
    return {**told, **digest(await file.read())}


@app.post("/uploads")
def uploads(files: list[UploadFile]) -> list[dict[str, Any]]:
    return [{"name": file.filename, **digest(file.file.read())} for file in files]


@app.post("/upload-bytes")
async def upload_bytes(file: Annotated[bytes, File()]) -> dict[str, Any]:
    return digest(file)


@app.put("/raw")
async def raw(body: Annotated[bytes, Body(media_type="application/octet-stream")]) -> dict[str, Any]:
    return digest(body)


@app.post("/stream")
async def read_stream(request: Request) -> dict[str, Any]:
    body, count = b"", 0
    async for piece in request.stream():
        body += piece
        count += bool(piece)
        note(f"stream piece {len(piece)}")
    return {**digest(body), "pieces": count}


@app.get("/until-gone")
async def until_gone(request: Request) -> str:
    while not await request.is_disconnected():  # noqa: ASYNC110 (what FastAPI documents)
        await asyncio.sleep(0.005)
    note("until-gone saw it")
    return "nobody reads this"


@app.get("/url")
async def url(request: Request) -> dict[str, str]:
    return {
        "url": str(request.url),
        "base": str(request.base_url),
        "for": str(request.url_for("read_item", item_id=5)),
        "static": str(request.url_for("static", path="/page.html")),
    }


@app.get("/slash/")
async def slash() -> str:
    return "slash"


@app.get("/state")
async def state(request: Request) -> dict[str, Any]:
    fresh = not hasattr(request.state, "mine")
    request.state.mine = True
    request.state.shared.append(1)
    return {"fresh": fresh, "shared": len(request.state.shared), "name": request.state.name}


@app.get("/timeout")
async def timeout() -> str:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        raise HTTPException(504, "too slow") from None
    raise AssertionError


# --- dependencies -----------------------------------------------------------------------------------------------------

context: contextvars.ContextVar[str] = contextvars.ContextVar("context", default="unset")


async def resource(name: str = "resource") -> AsyncIterator[str]:
    note(f"{name} opened")
    token = context.set(name)
    try:
        yield name
    except ValueError:
        note(f"{name} saw ValueError")
        raise
    finally:
        context.reset(token)
        note(f"{name} closed")


def thread_resource(name: str = "resource") -> Any:
    note(f"{name} opened in thread")
    yield name
    note(f"{name} closed in thread")


Resource = Annotated[str, Depends(resource)]


@app.get("/depends")
async def depends(got: Resource, other: Annotated[str, Depends(thread_resource)]) -> dict[str, str]:
    note(f"{got} used")
    return {"got": got, "other": other, "context": context.get()}


@app.get("/depends-crash")
async def depends_crash(got: Resource) -> None:
    raise ValueError("the app's own mistake")


@app.get("/depends-refuse")
async def depends_refuse(got: Resource) -> None:
    raise HTTPException(409, f"no {got}")


@app.get("/depends-background")
async def depends_background(got: Resource, tasks: BackgroundTasks) -> str:
    tasks.add_task(note, f"{got} in background")
    return "ok"


basic = HTTPBasic()
bearer = OAuth2PasswordBearer(tokenUrl="token")


@app.get("/basic")
async def read_basic(who: Annotated[HTTPBasicCredentials, Depends(basic)]) -> str:
    return who.username


@app.get("/bearer")
async def read_bearer(token: Annotated[str, Depends(bearer)]) -> str:
    return token


# --- responses --------------------------------------------------------------------------------------------------------


@app.get("/cookies")
async def cookies(response: Response) -> dict[str, bool]:
    response.set_cookie("plain", "1")
    response.set_cookie("full", "v", max_age=60, path="/a", secure=True, httponly=True, samesite="none")
    response.delete_cookie("old")
    return {"ok": True}


@app.get("/redirect")
@app.post("/redirect")
async def redirect(to: str, status: int = 307) -> RedirectResponse:
    return RedirectResponse(to, status)


@app.get("/page", response_class=HTMLResponse)
async def page() -> str:
    return "<p>größe</p>"


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse(FILES / "data.bin", media_type="application/x-data")


@app.get("/no-content", status_code=204)
async def no_content() -> None:
    return None


@app.get("/sse")
async def sse(gate: str) -> EventSourceResponse:
    async def events() -> AsyncIterator[dict[str, Any]]:
        for count in range(3):
            if count:
                await pass_gate(f"{gate}-{count}")
            yield {"id": str(count), "event": "count", "data": f"event {count}"}

    return EventSourceResponse(events())


@app.get("/sse-endless")
async def sse_endless() -> EventSourceResponse:
    async def events() -> AsyncIterator[dict[str, Any]]:
        try:
            yield {"data": "first"}
            await asyncio.Event().wait()
        finally:
            note("sse-endless ended")

    return EventSourceResponse(events())


@app.post("/background", status_code=202)
async def background(name: str, tasks: BackgroundTasks) -> str:
    async def work() -> None:
        note(f"{name} begun")
        await pass_gate(name)
        note(f"{name} over")

    tasks.add_task(work)
    return "accepted"


@app.post("/background-in-thread", status_code=202)
def background_in_thread(name: str, tasks: BackgroundTasks) -> str:
    def work() -> None:
        note(f"{name} begun")
        pass_gate_in_thread(name)
        note(f"{name} over")

    tasks.add_task(work)
    return "accepted"


@app.get("/background-crash")
async def background_crash(tasks: BackgroundTasks) -> str:
    def work() -> None:
        raise RuntimeError("the task's own mistake")

    tasks.add_task(work)
    return "accepted"


# --- exceptions -------------------------------------------------------------------------------------------------------


class OwnError(Exception):
    pass


@app.exception_handler(OwnError)
async def own_error_answer(request: Request, error: OwnError) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 409)


@app.exception_handler(RequestValidationError)
async def validation_answer(request: Request, error: RequestValidationError) -> JSONResponse:
    return JSONResponse({"wrong": [".".join(str(part) for part in one["loc"]) for one in error.errors()]}, 422)


@app.get("/own-error")
async def own_error() -> None:
    raise OwnError("mine")


@app.get("/refuse")
async def refuse() -> None:
    raise HTTPException(418, {"why": "tea"}, headers={"x-reason": "tea"})


# --- mounted apps with middleware -------------------------------------------------------------------------------------


def mounted(path: str, middleware: Any = None, **options: Any) -> FastAPI:
    made = FastAPI(title=path)
    if middleware is not None:
        made.add_middleware(middleware, **options)
    made.get("/hello")(hello)
    made.get("/lines")(send_lines)
    made.get("/big")(big)
    made.get("/pieces")(send_pieces)
    app.mount(path, made)
    return made


app.mount("/static", StaticFiles(directory=FILES / "static", html=True), name="static")
sub = mounted("/sub")
mounted("/gzip", GZipMiddleware, minimum_size=500)
mounted("/cors", CORSMiddleware, allow_origins=["https://front.test"], allow_methods=["PUT"], allow_headers=["x-token"])
mounted("/trusted", TrustedHostMiddleware, allowed_hosts=["good.test"])
stamped = mounted("/stamped")
session_app = mounted("/session", SessionMiddleware, secret_key="s")


@sub.get("/url")
async def sub_url(request: Request) -> dict[str, str]:
    return {"url": str(request.url), "for": str(request.url_for("sub_url")), "root": request.scope["root_path"]}


@session_app.get("/count")
async def count(request: Request) -> dict[str, Any]:
    request.session["count"] = request.session.get("count", 0) + 1
    return dict(request.session)


@stamped.middleware("http")
async def stamp(request: Request, call_next: Any) -> Response:
    body = await request.body() if request.headers.get("x-read-first") else b""
    response: Response = await call_next(request)
    response.headers["x-stamp"] = f"{request.method} {len(body)}"
    return response


@stamped.post("/echo")
async def stamped_echo(request: Request) -> dict[str, Any]:
    return facts(request.scope, await request.body())
