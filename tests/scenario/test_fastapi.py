# SPDX-License-Identifier: MIT
"""A FastAPI application behind the gateway: the common cases, FastAPI's own features, and uvicorn beside it."""

import asyncio
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from framework_cases import CommonCases, curl, told
from harness.gateway import insecure_context
from harness.sites import PREFIX, Asked, Site, differences, multipart, running
from starlette.responses import FileResponse

DATA = bytes(range(256)) * 1000
# Whether this version lets the gateway send the file (http.response.pathsend).
KNOWS_PATHSEND = "pathsend" in inspect.getsource(FileResponse)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    (directory / "data.bin").write_bytes(DATA)
    (directory / "static").mkdir()
    (directory / "static" / "page.html").write_text("<h1>page</h1>")
    return directory


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("fastapi"), "fastapi_app:app")
    with running(made, {"APP_FILES": str(files)}) as site:
        yield site
    assert made.gateway.notes()[0] == "lifespan up" and "lifespan down" in made.gateway.notes()


class TestCommon(CommonCases):
    pass


# --- parameters and bodies --------------------------------------------------------------------------------------------


def test_path_and_query_parameters(web: httpx.Client) -> None:
    answer = told(web.get("/items/42?q=gr%C3%B6%C3%9Fe+%26&limit=5"))
    assert answer == {"item_id": 42, "q": "größe &", "limit": 5}
    assert told(web.get("/items/-1"))["limit"] == 10


@pytest.mark.parametrize(
    ("target", "wrong"), [("/items/x", "path.item_id"), ("/items/1?limit=101", "query.limit"), ("/tags", "query.tag")]
)
def test_wrong_parameters_are_422(site: Site, target: str, wrong: str) -> None:
    answer = site.clients["http"].get(target)
    assert (answer.status_code, answer.json()) == (422, {"wrong": [wrong]})


def test_query_lists_and_flags(web: httpx.Client) -> None:
    assert told(web.get("/tags?tag=a&tag=b%2Cc&flag=yes")) == {"tags": ["a", "b,c"], "flag": True}


def test_header_and_cookie_parameters(site: Site) -> None:
    fields = [("user-agent", "test"), ("x-token", "a"), ("x-token", "b"), ("cookie", "visit=3; other=4")]
    with site.new_client() as client:
        answer = told(client.get("/told", headers=fields))
    assert answer == {"user_agent": "test", "x_token": ["a", "b"], "visit": "3"}


def test_path_parameter_with_slashes(web: httpx.Client) -> None:
    assert told(web.get("/path/a/b%2Fc/%20ü"))["rest"] == "a/b/c/ ü"


def test_model(web: httpx.Client) -> None:
    answer = web.post("/items", json={"name": "Stuhl ü", "price": 9.5, "tags": ["a"]})
    assert answer.status_code == 201 and answer.json() == {"name": "Stuhl ü", "price": 9.5, "tags": ["a"]}


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b'{"name": "", "price": -1}', ["body.name", "body.price"]),
        (b'{"name": "x"}', ["body.price"]),
        (b"{broken", ["body.1"]),
        (b"", ["body"]),
    ],
)
def test_wrong_model(site: Site, body: bytes, wrong: list[str]) -> None:
    answer = site.clients["http"].post("/items", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()) == (422, {"wrong": wrong})


def test_chunked_json(web: httpx.Client) -> None:
    body = json.dumps({"name": "n", "price": 1, "tags": ["t" * 1000] * 100}).encode()
    parts = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    answer = web.post("/items", content=iter(parts), headers={"content-type": "application/json"})
    assert answer.status_code == 201 and answer.json()["tags"] == ["t" * 1000] * 100


def test_response_that_breaks_its_model_is_500(site: Site) -> None:
    assert site.clients["http"].post("/bad-response").status_code == 500
    site.wait_worker_log("ResponseValidationError")


def test_form(web: httpx.Client) -> None:
    answer = told(web.post("/form", data={"name": "a b&c=ü", "many": ["1", "2"]}))
    assert answer == {"name": "a b&c=ü", "many": [1, 2]}
    assert web.post("/form", data={"name": "x"}).status_code == 422


@pytest.mark.parametrize(("size", "rolled"), [(0, False), (1000, False), (3 << 20, True)])
def test_upload(web: httpx.Client, size: int, rolled: bool) -> None:
    body = (DATA * 20)[:size]
    answer = told(web.post("/upload", files={"file": ("größe.bin", body, "image/x")}, data={"comment": "ü"}))
    assert (answer["name"], answer["type"], answer["comment"]) == ("größe.bin", "image/x", "ü")
    assert (answer["size"], answer["bytes"], answer["rolled"]) == (size, size, rolled)


def test_several_uploads(web: httpx.Client) -> None:
    files = [("files", (f"{number}.bin", DATA[:number])) for number in range(12)]
    assert [file["bytes"] for file in told(web.post("/uploads", files=files))] == list(range(12))


def test_upload_as_bytes_and_without_a_file(web: httpx.Client) -> None:
    assert told(web.post("/upload-bytes", files={"file": b"abc"}))["bytes"] == 3
    assert web.post("/upload").status_code == 422


def test_curl_uploads(site: Site, files: Path) -> None:
    name = f"{files}/data.bin"
    answer = json.loads(curl("-k", "-F", f"file=@{name};type=a/b", f"{site.gateway.tls_url}/upload"))
    assert (answer["bytes"], answer["type"]) == (len(DATA), "a/b")
    type_field = ("-H", "content-type: application/octet-stream")
    assert json.loads(curl(*type_field, "-T", name, f"{site.gateway.url}/raw"))["bytes"] == len(DATA)


def test_streamed_request_arrives_as_it_is_sent(site: Site) -> None:
    with site.gateway.tls_client() as client:
        client.request("POST", "/stream", {"transfer-encoding": "chunked"})
        for size in (5, 9):
            client.send(b"%x\r\n%s\r\n" % (size, b"x" * size))
            site.gateway.wait_note(f"^stream piece {size}$")
        client.send(b"0\r\n\r\n")
        answer = json.loads(client.response().body)
    assert (answer["bytes"], answer["pieces"]) == (14, 2)


def test_upload_that_is_left_costs_nothing(site: Site) -> None:
    content_type, body = multipart([("file", "name", b"x" * 100_000)])
    with site.gateway.client() as client:
        client.request("POST", "/upload", [content_type, ("content-length", str(len(body)))])
        client.send(body[:50_000])
    site.wait_idle()
    assert told(site.clients["http"].post("/upload", files={"file": b"next"}))["bytes"] == 4


def test_is_disconnected(site: Site) -> None:
    with site.gateway.client() as client:
        client.request("GET", "/until-gone")
    site.gateway.wait_note("^until-gone saw it$")


# --- URLs -------------------------------------------------------------------------------------------------------------


def test_url_for(web: httpx.Client) -> None:
    base = str(web.base_url).rstrip("/")
    static = f"{base}/static/page.html"
    assert told(web.get("/url?a=%20")) == {
        "url": f"{base}/url?a=%20",
        "base": f"{base}/",
        "for": f"{base}/items/5",
        "static": static,
    }
    assert web.get(static).text == "<h1>page</h1>"


def test_url_for_below_a_root_path(site: Site) -> None:
    answer = told(site.clients["https"].get(f"{PREFIX}/url", headers={"host": "shop.test"}))
    assert answer["for"] == f"https://shop.test{PREFIX}/items/5"
    answer = told(site.clients["https"].get(f"{PREFIX}/sub/url", headers={"host": "shop.test"}))
    assert answer == {
        "url": f"https://shop.test{PREFIX}/sub/url",
        "for": f"https://shop.test{PREFIX}/sub/url",
        "root": f"{PREFIX}/sub",
    }


def test_openapi(site: Site) -> None:
    client = site.clients["https"]
    assert told(client.get(f"{PREFIX}/openapi.json"))["servers"] == [{"url": PREFIX}]  # kept for later requests
    assert "/items/{item_id}" in told(client.get("/openapi.json"))["paths"]
    assert told(client.get("/sub/openapi.json"))["servers"] == [{"url": "/sub"}]
    assert f"{PREFIX}/openapi.json" in client.get(f"{PREFIX}/docs").text


def test_trailing_slash_is_redirected(web: httpx.Client) -> None:
    answer = web.get("/slash")
    assert answer.status_code == 307 and answer.headers["location"] == f"{str(web.base_url).rstrip('/')}/slash/"
    assert web.get("/slash", follow_redirects=True).json() == "slash"


def test_redirect_keeps_method_and_body(web: httpx.Client) -> None:
    answer = web.post("/redirect?to=/common/echo", content=b"again", follow_redirects=True)
    assert (answer.json()["method"], answer.json()["bytes"]) == ("POST", 5)
    answer = web.post("/redirect?to=/common/echo&status=303", content=b"again", follow_redirects=True)
    assert (answer.json()["method"], answer.json()["bytes"]) == ("GET", 0)


def test_404_and_405(web: httpx.Client) -> None:
    assert (web.get("/nowhere").status_code, web.get("/nowhere").json()) == (404, {"detail": "Not Found"})
    answer = web.delete("/page")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert web.head("/page").status_code == 405  # FastAPI adds no HEAD


# --- responses --------------------------------------------------------------------------------------------------------


def test_cookies(site: Site) -> None:
    with site.new_client(site.gateway.tls_url) as client:
        plain, full, old = client.get("/cookies").headers.get_list("set-cookie")
    assert plain == "plain=1; Path=/; SameSite=lax"
    assert full == "full=v; HttpOnly; Max-Age=60; Path=/a; SameSite=none; Secure"
    assert old.startswith('old=""; expires=') and "Max-Age=0" in old


def test_html_and_no_content(web: httpx.Client) -> None:
    assert web.get("/page").text == "<p>größe</p>"
    answer = web.get("/no-content")
    assert answer.status_code == 204 and answer.content == b"" and "content-length" not in answer.headers


def test_file_and_range(web: httpx.Client, site: Site) -> None:
    sent = site.gateway.metric("files_sent")
    assert web.get("/file").content == DATA
    site.gateway.wait_metric("files_sent", sent + KNOWS_PATHSEND)
    answer = web.get("/file", headers={"range": "bytes=300-309"})
    assert (answer.status_code, answer.content) == (206, DATA[300:310])
    assert answer.headers["content-range"] == f"bytes 300-309/{len(DATA)}"


def test_static_file_conditional(web: httpx.Client) -> None:
    etag = web.get("/static/page.html").headers["etag"]
    answer = web.get("/static/page.html", headers={"if-none-match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_sse(site: Site, web: httpx.Client) -> None:
    gate = f"sse-{id(web)}"
    with web.stream("GET", f"/sse?gate={gate}") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = answer.iter_raw()
        for count in range(3):
            assert next(events) == b"id: %d\r\nevent: count\r\ndata: event %d\r\n\r\n" % (count, count)
            site.open_gate(f"{gate}-{count + 1}")
        assert list(events) == []


@pytest.mark.parametrize("tls", [False, True])
def test_client_leaves_sse(site: Site, tls: bool) -> None:
    """sse-starlette listens for http.disconnect: a client that has only closed is noticed at once."""
    before = site.gateway.notes().count("sse-endless ended")
    with site.gateway.tls_client() if tls else site.gateway.client() as client:
        client.request("GET", "/sse-endless")
        assert client.head().status == 200
        assert b"first" in client.exactly(20)
    site.gateway.wait_note("^sse-endless ended$")
    site.wait_idle()
    assert site.gateway.notes().count("sse-endless ended") == before + 1


def test_stream_of_a_generator_in_a_thread(site: Site) -> None:
    with site.clients["http"].stream("GET", "/common/lines-in-thread?count=3&gate=threaded") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"line 0\n"
        site.open_gate("threaded")
        assert b"".join(parts) == b"line 1\nline 2\n"


# --- background, dependencies, state ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["background", "background-in-thread"])
def test_background_task_runs_after_the_response(site: Site, path: str) -> None:
    with site.gateway.client() as client:
        client.request("POST", f"/{path}?name=task-{path}")
        answer = client.response()
        assert (answer.status, answer.body) == (202, b'"accepted"')
        site.gateway.wait_note(f"^task-{path} begun$")
        assert client.get("/common/hello").body == b"hello"
        assert f"task-{path} over" not in site.gateway.notes()
        site.open_gate(f"task-{path}")
        site.gateway.wait_note(f"^task-{path} over$")


def test_background_task_that_raises(site: Site) -> None:
    with site.gateway.client() as client:
        assert client.get("/background-crash").body == b'"accepted"'
        assert client.get("/common/hello").status == 200
    site.wait_worker_log("the task's own mistake")


def order(site: Site, name: str, last: str) -> list[str]:
    site.gateway.wait_note(f"^{last}$")
    return [note for note in site.gateway.notes() if note.startswith(f"{name} ")]


def test_dependencies_with_yield(site: Site) -> None:
    answer = told(site.clients["http"].get("/depends?name=dep"))
    assert answer == {"got": "dep", "other": "dep", "context": "dep"}
    assert order(site, "dep", "dep closed") == [
        "dep opened",
        "dep opened in thread",
        "dep used",
        "dep closed in thread",
        "dep closed",
    ]


def test_dependency_sees_the_exception(site: Site) -> None:
    assert site.clients["http"].get("/depends-crash?name=bad").status_code == 500
    assert order(site, "bad", "bad closed") == ["bad opened", "bad saw ValueError", "bad closed"]
    answer = site.clients["http"].get("/depends-refuse?name=refused")
    assert (answer.status_code, answer.json()) == (409, {"detail": "no refused"})
    assert order(site, "refused", "refused closed") == ["refused opened", "refused closed"]


def test_dependency_and_background_task(site: Site) -> None:
    assert site.clients["http"].get("/depends-background?name=both").status_code == 200
    site.gateway.wait_note("^both in background$")
    site.gateway.wait_note("^both closed$")


def test_context_does_not_leak(site: Site) -> None:
    for _ in range(3):
        assert told(site.clients["http"].get("/depends?name=own"))["context"] == "own"
    assert told(site.clients["http"].get("/depends?name=next"))["context"] == "next"


def test_lifespan_state(site: Site) -> None:
    first, second = told(site.clients["http"].get("/state")), told(site.clients["https"].get("/state"))
    assert first["fresh"] and second["fresh"] and first["name"] == "from lifespan"
    assert second["shared"] == first["shared"] + 1


def test_security(site: Site) -> None:
    client = site.clients["https"]
    answer = client.get("/basic")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Basic")
    assert client.get("/basic", auth=("ada", "p:ss")).json() == "ada"
    assert client.get("/bearer").headers["www-authenticate"] == "Bearer"
    assert client.get("/bearer", headers={"authorization": "Bearer abc"}).json() == "abc"


# --- exceptions -------------------------------------------------------------------------------------------------------


def test_http_exception(web: httpx.Client) -> None:
    answer = web.get("/refuse")
    assert (answer.status_code, answer.headers["x-reason"]) == (418, "tea")
    assert answer.json() == {"detail": {"why": "tea"}}


def test_exception_handler(web: httpx.Client) -> None:
    answer = web.get("/own-error")
    assert (answer.status_code, answer.json()) == (409, {"error": "mine"})


def test_timeout_in_the_app(site: Site) -> None:
    answer = site.clients["http"].get("/timeout")
    assert (answer.status_code, answer.json()) == (504, {"detail": "too slow"})


def test_crashes_beside_good_requests(site: Site) -> None:
    async def mixed() -> list[int]:
        options: dict[str, Any] = {"verify": insecure_context(), "trust_env": False, "timeout": 20}
        async with httpx.AsyncClient(base_url=site.gateway.tls_url, **options) as client:
            paths = ["/common/crash", "/common/hello", "/refuse", "/items/1"] * 10
            return [answer.status_code for answer in await asyncio.gather(*(client.get(path) for path in paths))]

    assert asyncio.run(mixed()) == [500, 200, 418, 200] * 10


def test_synchronous_endpoints_run_at_the_same_time(site: Site) -> None:
    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=site.gateway.url, trust_env=False, timeout=20) as client:
            answers = await asyncio.gather(*(client.get("/common/meet-in-threads/sync/10") for _ in range(10)))
        return [answer.status_code for answer in answers]

    assert asyncio.run(all_at_once()) == [200] * 10


# --- middleware -------------------------------------------------------------------------------------------------------


def test_http_middleware(web: httpx.Client) -> None:
    assert web.get("/stamped/hello").headers["x-stamp"] == "GET 0"
    assert web.get("/stamped/lines?count=50").text.count("line") == 50
    answer = web.post("/stamped/echo", content=DATA, headers={"x-read-first": "1"})
    assert answer.headers["x-stamp"] == f"POST {len(DATA)}" and answer.json()["bytes"] == len(DATA)


def test_client_leaves_below_http_middleware(site: Site) -> None:
    with site.gateway.client() as client:
        client.request("GET", "/stamped/pieces?name=stamped")
        assert client.head().status == 200
    site.wait_idle()


def test_gzip(web: httpx.Client) -> None:
    answer = web.get("/gzip/big?pieces=4", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip" and len(answer.content) == 65536
    answer = web.get("/gzip/lines?count=300", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip" and answer.text.count("line") == 300


def test_cors(web: httpx.Client) -> None:
    origin = {"origin": "https://front.test"}
    assert web.get("/cors/hello", headers=origin).headers["access-control-allow-origin"] == "https://front.test"
    fields = {**origin, "access-control-request-method": "PUT", "access-control-request-headers": "x-token"}
    answer = web.options("/cors/hello", headers=fields)
    assert answer.status_code == 200 and "x-token" in answer.headers["access-control-allow-headers"]


def test_trusted_host(site: Site) -> None:
    assert site.clients["http"].get("/trusted/hello", headers={"host": "good.test"}).status_code == 200
    assert site.clients["http"].get("/trusted/hello", headers={"host": "bad.test"}).status_code == 400


def test_session(site: Site) -> None:
    for url in (site.gateway.url, site.gateway.tls_url):
        with site.new_client(url) as client:
            assert [client.get("/session/count").json()["count"] for _ in range(3)] == [1, 2, 3]


# --- beside uvicorn ---------------------------------------------------------------------------------------------------

FORM = ("content-type", "application/x-www-form-urlencoded")
JSON = ("content-type", "application/json")
UPLOAD, UPLOAD_BODY = multipart([("file", "name.txt", b"data" * 100), ("comment", "", b"hi")])
COMPARED = [
    *(Asked(method, "/common/hello") for method in ("GET", "HEAD", "PUT", "OPTIONS")),
    *(Asked("GET", f"/common/status/{status}") for status in (200, 204, 304, 404, 500)),
    *(Asked("GET", target) for target in ("/items/1?q=%C3%BC+x", "/items/x", "/tags?tag=1&tag=2", "/path/a%2Fb/c")),
    Asked("POST", "/items", [JSON], b'{"name": "n", "price": 1}'),
    Asked("POST", "/items", [JSON], b"{"),
    Asked("POST", "/items", [JSON], b""),
    Asked("POST", "/form", [FORM], b"name=%C3%BC&many=1&many=2"),
    Asked("POST", "/upload", [UPLOAD], UPLOAD_BODY),
    Asked("POST", "/upload", [("content-type", "multipart/form-data")], UPLOAD_BODY),
    Asked("PUT", "/raw", [("content-type", "application/octet-stream")], b"raw"),
    Asked("GET", "/told", [("user-agent", "x"), ("x-token", "1"), ("x-token", "2"), ("cookie", "visit=1")]),
    Asked("GET", "/url?x=1"),
    Asked("GET", "/sub/url"),
    Asked("GET", "/sub/openapi.json"),
    Asked("GET", "/docs"),
    Asked("GET", "/slash"),
    Asked("GET", "/cookies"),
    Asked("GET", "/redirect?to=/x%20y"),
    Asked("GET", "/page"),
    Asked("HEAD", "/page"),
    Asked("GET", "/file"),
    Asked("GET", "/file", [("range", "bytes=1-3")]),
    Asked("GET", "/static/page.html"),
    Asked("GET", "/no-content"),
    Asked("GET", "/common/lines?count=3"),
    Asked("HEAD", "/common/lines?count=3"),
    Asked("GET", "/common/crash"),
    Asked("GET", "/depends"),
    Asked("GET", "/depends-refuse"),
    Asked("GET", "/basic"),
    Asked("GET", "/refuse"),
    Asked("GET", "/own-error"),
    Asked("GET", "/nowhere"),
    Asked("GET", "/depends-background"),
    Asked("GET", "/stamped/hello"),
    Asked("GET", "/gzip/lines?count=100", [("accept-encoding", "gzip")]),
    Asked("OPTIONS", "/cors/x", [("origin", "https://front.test"), ("access-control-request-method", "PUT")]),
    Asked("GET", "/trusted/hello"),
]


def test_same_answers_as_uvicorn(site: Site, files: Path, tmp_path: Path) -> None:
    found = differences(site, tmp_path, {"APP_FILES": str(files)}, COMPARED)
    assert not found, "\n".join(found)


def test_worker_said_nothing_unexpected(site: Site) -> None:
    assert site.unexpected_errors("ResponseValidationError") == []
