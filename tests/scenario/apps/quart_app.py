# SPDX-License-Identifier: MIT
"""A Quart application: the common paths, and what Quart itself brings."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from parts import PIECE, digest, facts, lines, meeting, open_gate, pass_gate, pieces
from quart import (
    Blueprint,
    Quart,
    Response,
    abort,
    flash,
    g,
    get_flashed_messages,
    jsonify,
    make_response,
    redirect,
    render_template_string,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from scenario import note

FILES = Path(os.environ["APP_FILES"])

app = Quart(__name__, static_folder=str(FILES / "static"))
app.secret_key = "a secret of no value"
app.config["MAX_CONTENT_LENGTH"] = 8 << 20
common = Blueprint("common", __name__, url_prefix="/common")
ANY = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@common.route("/hello")
async def hello() -> Response:
    return Response("hello", content_type="text/plain")


@common.route("/echo", methods=ANY)
@common.route("/echo/<path:rest>", methods=ANY)
async def echo(rest: str = "") -> Response:
    return jsonify(facts(request.scope, await request.get_data(cache=False)))


@common.route("/status/<int:code>")
async def status(code: int) -> tuple[str, int]:
    return "", code


@common.route("/header")
async def header() -> tuple[str, dict[str, str]]:
    return "ok", {"X-Big": "h" * int(request.args["bytes"])}


@common.route("/big")
async def big() -> bytes:
    return PIECE * int(request.args["pieces"])


@common.route("/lines")
async def send_lines() -> Response:
    return Response(lines(int(request.args["count"]), request.args.get("gate", "")))


@common.route("/pieces")
async def send_pieces() -> Response:
    response = Response(pieces(int(request.args.get("count", 0)), request.args["name"]))
    response.timeout = None
    return response


@common.route("/idle")
async def idle() -> Response:
    async def nothing() -> AsyncIterator[bytes]:
        try:
            yield b": open\n\n"
            await asyncio.Event().wait()
        finally:
            note("idle ended")

    response = Response(nothing(), content_type="text/event-stream")
    response.timeout = None
    return response


@common.route("/crash")
async def crash() -> None:
    raise ValueError("the app's own mistake")


@common.route("/crash-late")
async def crash_late() -> Response:
    async def half() -> AsyncIterator[bytes]:
        yield b"half" * 50000  # more than a window: some of it is with the client when the mistake happens
        raise ValueError("too late")

    return Response(half())


@common.route("/mismatch")
async def mismatch() -> Response:
    async def cut() -> AsyncIterator[bytes]:
        for _ in range(int(request.args.get("pieces", 0)) or 1):
            yield b"x" * (10 if request.args.get("pieces", "0") != "0" else int(request.args["bytes"]))

    return Response(stream_with_context(cut)(), headers={"Content-Length": request.args["length"]})


@common.route("/meet/<name>/<int:size>")
async def meet(name: str, size: int) -> str:
    await meeting.attend(name, size)
    return "met"


@common.route("/gate/<name>")
async def gate(name: str) -> tuple[str, int]:
    open_gate(name)
    return "", 204


app.register_blueprint(common)


@app.before_serving
async def start() -> None:
    note("lifespan up")


@app.after_serving
async def stop() -> None:
    note("lifespan down")


@app.before_request
async def before() -> None:
    g.stamp = request.method


@app.after_request
async def after(response: Response) -> Response:
    response.headers["X-Stamp"] = g.stamp
    return response


@app.route("/form", methods=["POST"])
async def form() -> Response:
    files = await request.files
    found = {name: [file.filename, digest(file.read())] for name, file in files.items()}
    return jsonify({"fields": dict((await request.form).lists()), "files": found})


@app.route("/json", methods=["POST"])
async def read_json() -> Response:
    return jsonify(await request.get_json())


@app.route("/stream", methods=["POST"])
async def read_stream() -> dict[str, Any]:
    body = b""
    async for piece in request.body:
        body += piece
        note(f"stream piece {len(piece)}")
    return digest(body)


@app.route("/url")
async def url() -> dict[str, str]:
    return {"url": request.url, "for": url_for("url", x="ü", _external=True), "root": request.root_path}


@app.route("/cookies")
async def cookies() -> Response:
    response = await make_response(jsonify(dict(request.cookies)))
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", secure=True, httponly=True, samesite="Lax")
    return response


@app.route("/session")
async def count() -> dict[str, int]:
    session["count"] = session.get("count", 0) + 1
    return {"count": session["count"]}


@app.route("/flash")
async def say() -> Any:
    await flash("größe gespeichert")
    return redirect(url_for("heard"))


@app.route("/heard")
async def heard() -> Response:
    return jsonify(get_flashed_messages())


@app.route("/page")
async def page() -> str:
    return await render_template_string("<p>{{ text }}</p>", text="größe & <so>")


@app.route("/file")
async def file() -> Response:
    return await send_file(FILES / "data.bin", conditional=True)


@app.route("/teapot")
async def teapot() -> None:
    abort(418)


@app.errorhandler(404)
async def not_found(error: Exception) -> tuple[dict[str, str], int]:
    return {"error": "nowhere"}, 404


@app.route("/slash/")
async def slash() -> str:
    return "slash"


@app.route("/background", methods=["POST"])
async def background() -> tuple[str, int]:
    name = request.args["name"]

    async def work() -> None:
        note(f"{name} begun")
        await pass_gate(name)
        note(f"{name} over")

    app.add_background_task(work)
    return "accepted", 202


@app.route("/sync")
def sync() -> str:
    return "from a thread"
