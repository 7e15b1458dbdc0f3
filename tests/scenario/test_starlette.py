# SPDX-License-Identifier: MIT
"""A Starlette application behind the gateway: the common cases, Starlette's own features, and uvicorn beside it."""

import email.utils
import inspect
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from framework_cases import CommonCases, curl, told
from harness.sites import PREFIX, Asked, Site, differences, multipart, running
from starlette.responses import FileResponse

DATA = bytes(range(256)) * 1000
# Whether this version lets the gateway send the file (http.response.pathsend).
KNOWS_PATHSEND = "pathsend" in inspect.getsource(FileResponse)


def make_files(directory: Path) -> Path:
    static = directory / "static"
    static.mkdir(parents=True)
    (directory / "data.bin").write_bytes(DATA)
    (directory / "secret.txt").write_text("never served")
    (static / "index.html").write_text("<h1>index</h1>")
    (static / "page.html").write_text("<h1>page</h1>")
    (static / "style.css").write_text("body { color: red }\n" * 100)
    (static / "404.html").write_text("<h1>nowhere</h1>")
    return directory


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("starlette"), "starlette_app:app")
    with running(made, {"APP_FILES": str(files)}) as site:
        yield site
    assert made.gateway.notes()[0] == "lifespan up" and "lifespan down" in made.gateway.notes()


class TestCommon(CommonCases):
    pass


# --- forms and uploads ------------------------------------------------------------------------------------------------


def test_urlencoded_form(web: httpx.Client) -> None:
    answer = told(web.post("/form", data={"name": "Jürgen & Söhne", "many": ["1", "2"], "empty": ""}))
    assert answer == [["name", "Jürgen & Söhne"], ["many", "1"], ["many", "2"], ["empty", ""]]


@pytest.mark.parametrize(("size", "rolled"), [(0, False), (10, False), (2 << 20, True)])
def test_upload(web: httpx.Client, size: int, rolled: bool) -> None:
    body = (DATA * 10)[:size]
    [[name, file]] = told(web.post("/form", files={"file": ("dätä.bin", body, "application/x-data")}))
    assert name == "file" and file["name"] == "dätä.bin" and file["type"] == "application/x-data"
    assert (file["bytes"], file["rolled"]) == (size, rolled)


def test_several_uploads_and_fields(web: httpx.Client) -> None:
    files = [("files", (f"{number}.txt", b"x" * number)) for number in range(10)]
    answer = told(web.post("/form", data={"title": "ten"}, files=files))
    assert answer[0] == ["title", "ten"]
    assert [file["bytes"] for _, file in answer[1:]] == list(range(10))


def test_too_many_files_are_refused_by_the_app(site: Site) -> None:
    files = [("files", (f"{number}.txt", b"x")) for number in range(21)]
    answer = site.clients["http"].post("/form", files=files)
    assert answer.status_code == 400 and "Too many files" in answer.text


def test_broken_multipart(site: Site) -> None:
    answer = site.clients["http"].post("/form", content=b"--b", headers={"content-type": "multipart/form-data"})
    assert (answer.status_code, answer.text) == (400, "Missing boundary in multipart.")


def test_curl_upload(site: Site, files: Path) -> None:
    [[_, file], pair] = json.loads(curl("-F", f"f=@{files}/data.bin", "-F", "note=hi", f"{site.gateway.url}/form"))
    assert file["bytes"] == len(DATA) and pair == ["note", "hi"]


# --- request bodies ---------------------------------------------------------------------------------------------------


def test_streamed_request_arrives_as_it_is_sent(site: Site) -> None:
    with site.gateway.client() as client:
        client.request("POST", "/stream", {"transfer-encoding": "chunked"})
        for size in (3, 7, 11):
            client.send(b"%x\r\n%s\r\n" % (size, b"x" * size))
            site.gateway.wait_note(f"^stream piece {size}$")
        client.send(b"0\r\n\r\n")
        answer = json.loads(client.response().body)
    assert (answer["bytes"], answer["pieces"]) == (21, 3)


def test_streamed_request_that_ends_early_is_client_disconnect(site: Site) -> None:
    with site.gateway.client() as client:
        client.request("POST", "/stream", {"content-length": "1000"})
        client.send(b"y" * 123)
        site.gateway.wait_note("^stream piece 123$")
    site.gateway.wait_note("^stream ClientDisconnect$")


def test_json(web: httpx.Client) -> None:
    value = {"text": "größe", "list": [1, 2.5, None, True], "deep": {"a": {"b": []}}}
    assert told(web.post("/json", json=value)) == {"got": value}
    answer = web.post("/json", content=b"{not json")
    assert (answer.status_code, answer.text) == (400, "this is no JSON")


def test_cancelled_receive_loses_nothing(site: Site) -> None:
    with site.gateway.client() as client:
        client.request("POST", "/cancelled-receive", {"content-length": "20"})
        site.gateway.wait_note("^gave up$")
        client.send(b"z" * 10)
        client.send(b"z" * 10)
        answer = json.loads(client.response().body)
    assert answer["bytes"] == 20 and answer["given_up"] >= 1


@pytest.mark.parametrize("body", [b"", b"x" * 300_000])
def test_is_disconnected_says_no_while_the_client_waits(web: httpx.Client, body: bytes) -> None:
    answer = told(web.get("/still-there") if not body else web.post("/still-there", content=iter([body, body])))
    assert answer["gone"] == [False] * 5 and answer["bytes"] == 2 * len(body)


def test_is_disconnected_says_yes(site: Site) -> None:
    before = len(site.worker_log)
    with site.gateway.client() as client:
        client.request("GET", "/until-gone")
    site.gateway.wait_note("^until-gone saw it$")
    assert "Traceback" not in site.worker_log[before:]


# --- URLs -------------------------------------------------------------------------------------------------------------


def test_url_for(web: httpx.Client) -> None:
    base = str(web.base_url).rstrip("/")
    answer = told(web.get("/url?x=%20"))
    assert answer == {
        "url": f"{base}/url?x=%20",
        "base": f"{base}/",
        "for": f"{base}/item/a b",
        "static": f"{base}/static/page.html",
    }


def test_url_for_with_host_and_root_path(site: Site) -> None:
    answer = told(site.clients["https"].get(f"{PREFIX}/url", headers={"host": "shop.test"}))
    assert answer["url"] == f"https://shop.test{PREFIX}/url"
    assert answer["base"] == f"https://shop.test{PREFIX}/"
    assert answer["for"] == f"https://shop.test{PREFIX}/item/a b"


def test_url_behind_a_proxy(site: Site) -> None:
    fields = {"x-forwarded-proto": "https", "host": "front.test"}
    assert told(site.clients["http"].get("/url", headers=fields))["base"] == "https://front.test/"


def test_convertors(site: Site) -> None:
    uuid = "0b7d6fe3-7b7e-4d92-9d4c-6a2fdb7f1f8e"
    answer = told(site.clients["http"].get(f"/convert/42/1.5/{uuid}/any/way/ü"))
    assert answer == {"a": "42", "b": "1.5", "c": uuid, "d": "any/way/ü"}
    assert site.clients["http"].get(f"/convert/x/1.5/{uuid}/any").status_code == 404


def test_query_params(web: httpx.Client) -> None:
    answer = told(web.get("/query?a=1&a=2&b=&c=%C3%BC+%26"))
    assert answer == [["a", "1"], ["a", "2"], ["b", ""], ["c", "ü &"]]


def test_trailing_slash_is_redirected(web: httpx.Client) -> None:
    answer = web.get("/slash?x=1")
    base = str(web.base_url).rstrip("/")
    assert answer.status_code == 307 and answer.headers["location"] == f"{base}/slash/?x=1"
    assert web.get("/slash", follow_redirects=True).text == "hello"


def test_mounted_by_host(site: Site) -> None:
    answer = site.clients["http"].get("/slash/", headers={"host": "sub.test"})
    assert answer.text == "hello"


@pytest.mark.parametrize(("status", "then"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_redirects(site: Site, status: int, then: str) -> None:
    target = f"/redirect?to=/common/echo/größe&status={status}"
    client = site.clients["http"]
    assert client.get(target).headers["location"] == "/common/echo/gr%C3%B6%C3%9Fe"
    if then == "GET":
        assert told(client.get(target, follow_redirects=True))["path"] == "/common/echo/größe"


def test_404_and_405(site: Site) -> None:
    assert site.clients["http"].get("/nowhere").status_code == 404
    answer = site.clients["http"].post("/page")
    assert answer.status_code == 405 and set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_endpoint_class(site: Site) -> None:
    client = site.clients["http"]
    assert client.get("/endpoint").text == "got"
    assert client.delete("/endpoint").status_code == 204
    assert client.put("/endpoint").status_code == 405


# --- responses --------------------------------------------------------------------------------------------------------


def test_cookies(site: Site) -> None:
    with site.new_client() as client:
        answer = client.get("/cookies", headers={"cookie": 'a=1; b="two"; c='})
        assert told(answer) == {"a": "1", "b": "two", "c": ""}
        plain, full, strict, old = answer.headers.get_list("set-cookie")
    assert plain == "plain=1; Path=/; SameSite=lax"
    assert full.startswith('full="x y"; Domain=example.test; HttpOnly; Max-Age=60; Path=/a; SameSite=lax; Secure')
    assert strict.endswith("SameSite=strict") and "Max-Age=0" in old


def test_html_in_utf8(web: httpx.Client) -> None:
    answer = web.get("/page")
    assert answer.headers["content-type"] == "text/html; charset=utf-8" and answer.text == "<p>größe</p>"


def test_file(web: httpx.Client, site: Site) -> None:
    sent = site.gateway.metric("files_sent")
    answer = web.get("/file")
    site.gateway.wait_metric("files_sent", sent + KNOWS_PATHSEND)
    assert answer.content == DATA and answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''d%C3%A4t%C3%A4.bin"
    assert web.head("/file").headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-9", 0, 10), ("1000-", 1000, len(DATA)), ("-5", len(DATA) - 5, len(DATA)), ("5-900000", 5, len(DATA))],
)
def test_range(site: Site, asked: str, start: int, stop: int) -> None:
    answer = site.clients["http"].get("/file", headers={"range": f"bytes={asked}"})
    assert answer.status_code == 206 and answer.content == DATA[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"


def test_several_ranges(site: Site) -> None:
    """Starlette 0.46 announces less than it sends here; it is cut or replaced, never passed on as whole."""
    try:
        answer = site.clients["https"].get("/file", headers={"range": "bytes=0-9,100-109"})
    except httpx.RemoteProtocolError:
        site.wait_worker_log("longer than its content-length")
        return
    if answer.status_code == 500:
        site.wait_worker_log("longer than its content-length")
        return
    assert answer.status_code == 206 and answer.content.count(b"Content-Range: bytes") == 2
    assert DATA[:10] in answer.content and len(answer.content) == int(answer.headers["content-length"])


def test_range_that_cannot_be(site: Site) -> None:
    answer = site.clients["http"].get("/file", headers={"range": "bytes=9000000-"})
    assert answer.status_code == 416 and answer.headers["content-range"] == f"*/{len(DATA)}"


def test_if_range(site: Site) -> None:
    client = site.clients["http"]
    etag = client.head("/file").headers["etag"]
    assert client.get("/file", headers={"range": "bytes=0-3", "if-range": etag}).status_code == 206
    assert client.get("/file", headers={"range": "bytes=0-3", "if-range": '"other"'}).status_code == 200


def test_static_files(web: httpx.Client) -> None:
    assert web.get("/static/").text == "<h1>index</h1>"
    answer = web.get("/static/style.css")
    assert answer.headers["content-type"].startswith("text/css") and len(answer.content) == 2000
    missing = web.get("/static/missing")
    assert (missing.status_code, missing.text) == (404, "<h1>nowhere</h1>")
    assert web.post("/static/style.css").status_code == 405


def test_static_files_conditional(web: httpx.Client) -> None:
    first = web.get("/static/style.css")
    assert email.utils.parsedate_to_datetime(first.headers["last-modified"])
    for fields in (
        {"if-none-match": first.headers["etag"]},
        {"if-modified-since": first.headers["last-modified"]},
    ):
        again = web.get("/static/style.css", headers=fields)
        assert (again.status_code, again.content) == (304, b"")
    assert web.get("/static/style.css", headers={"if-none-match": '"x"'}).status_code == 200


@pytest.mark.parametrize("path", ["../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "x/../../secret.txt"])
def test_static_files_stay_below_their_directory(site: Site, path: str) -> None:
    answer = site.gateway.get(f"/static/{path}")
    assert answer.status in (400, 404) and b"never served" not in answer.body


def test_sse(site: Site, web: httpx.Client) -> None:
    gate = f"sse-{id(web)}"
    with web.stream("GET", f"/sse?gate={gate}") as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = answer.iter_raw()
        for count in range(3):
            assert next(events) == b"id: %d\ndata: event %d\n\n" % (count, count)
            site.open_gate(f"{gate}-{count + 1}")
        assert list(events) == []


def test_stream_of_a_generator_in_a_thread(site: Site) -> None:
    with site.clients["http"].stream("GET", "/common/lines-in-thread?count=4&gate=threaded") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"line 0\n"
        site.open_gate("threaded")
        assert b"".join(parts) == b"line 1\nline 2\nline 3\n"


# --- background -------------------------------------------------------------------------------------------------------


def test_background_task_runs_after_the_response(site: Site) -> None:
    """On one connection: the response, while the task waits; other requests; then the task ends."""
    with site.gateway.client() as client:
        client.request("POST", "/background?name=task-a")
        assert client.response().status == 202
        site.gateway.wait_note("^task-a begun$")
        assert client.get("/common/hello").body == b"hello"
        client.request("POST", "/background?name=task-b")
        assert client.response().status == 202
        assert "task-a over" not in site.gateway.notes()
        site.open_gate("task-b")
        site.gateway.wait_note("^task-b over$")
        site.open_gate("task-a")
        site.gateway.wait_note("^task-a over$")


def test_background_task_outlives_its_client(site: Site) -> None:
    with site.gateway.client() as client:
        client.request("POST", "/background?name=left")
        assert client.response().status == 202
    site.gateway.wait_note("^left begun$")
    site.open_gate("left")
    site.gateway.wait_note("^left over$")


def test_background_tasks_after_a_stream(site: Site) -> None:
    assert site.clients["http"].get("/background-twice").text == "line 0\nline 1\n"
    site.gateway.wait_note("^second task$")
    notes = site.gateway.notes()
    assert notes.index("first task") < notes.index("second task")


def test_background_task_that_raises(site: Site) -> None:
    with site.gateway.client() as client:
        assert client.get("/background-crash").body == b"accepted"
        assert client.get("/common/hello").status == 200
    site.wait_worker_log("the task's own mistake")


# --- exceptions -------------------------------------------------------------------------------------------------------


def test_http_exception(web: httpx.Client) -> None:
    answer = web.get("/refuse")
    assert (answer.status_code, answer.text, answer.headers["x-reason"]) == (418, "short and stout", "tea")


def test_exception_handler(web: httpx.Client) -> None:
    answer = web.get("/own-error")
    assert (answer.status_code, answer.json()) == (409, {"error": "mine"})


def test_500_is_plain_text(site: Site) -> None:
    answer = site.clients["http"].get("/common/crash")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert "mistake" not in answer.text


def test_timeout_in_the_app(site: Site) -> None:
    answer = site.clients["http"].get("/timeout")
    assert (answer.status_code, answer.text) == (504, "too slow")


def test_threads(site: Site) -> None:
    assert site.clients["http"].get("/in-thread").text == "499500"
    assert site.clients["http"].get("/sync").text == "sync endpoint"


def test_lifespan_state(site: Site) -> None:
    first, second = told(site.clients["http"].get("/state")), told(site.clients["https"].get("/state"))
    assert first["fresh"] and second["fresh"] and first["name"] == "from lifespan"
    assert second["shared"] == first["shared"] + 1


# --- middleware -------------------------------------------------------------------------------------------------------


def test_pure_asgi_middleware(web: httpx.Client) -> None:
    for path in ("/common/hello", "/common/lines?count=2", "/common/status/204", "/nowhere"):
        assert web.get(path).headers["x-stamp"] == "1"


def test_base_http_middleware(web: httpx.Client) -> None:
    answer = web.get("/around/hello")
    assert (answer.text, answer.headers["x-around"]) == ("hello", "0")
    assert web.get("/around/lines?count=5").text.count("line") == 5
    assert web.get("/around/hello", headers={"x-stop": "1"}).status_code == 403


def test_base_http_middleware_that_reads_the_body(web: httpx.Client) -> None:
    answer = web.post("/around/echo", content=DATA, headers={"x-read-first": "1"})
    assert answer.json()["bytes"] == len(DATA) and answer.headers["x-around"] == str(len(DATA))


def test_base_http_middleware_catches(site: Site) -> None:
    answer = site.clients["http"].get("/around/own-error")
    assert (answer.status_code, answer.text) == (502, "caught")


def test_client_leaves_below_base_http_middleware(site: Site) -> None:
    """The middleware leaves the inner generator to the garbage collector; the request itself ends at once."""
    with site.gateway.client() as client:
        client.request("GET", "/around/pieces?name=around")
        assert client.head().status == 200
    site.wait_idle()


def test_gzip(web: httpx.Client) -> None:
    answer = web.get("/gzip/big?pieces=4", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip" and len(answer.content) == 65536
    assert int(answer.headers["content-length"]) < 20_000 and answer.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in web.get("/gzip/hello").headers
    assert "content-encoding" not in web.get("/gzip/big?pieces=4", headers={"accept-encoding": "identity"}).headers


def test_gzip_of_a_stream(web: httpx.Client) -> None:
    answer = web.get("/gzip/lines?count=300", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip" and answer.text.count("line") == 300


def test_cors(web: httpx.Client) -> None:
    origin = {"origin": "https://front.test"}
    answer = web.get("/cors/hello", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://front.test"
    assert answer.headers["access-control-expose-headers"] == "x-seen"
    assert "access-control-allow-origin" not in web.get("/cors/hello", headers={"origin": "https://bad.test"}).headers


def test_cors_preflight(web: httpx.Client) -> None:
    fields = {"origin": "https://front.test", "access-control-request-method": "PUT"}
    answer = web.options("/cors/hello", headers={**fields, "access-control-request-headers": "x-token"})
    assert answer.status_code == 200 and answer.headers["access-control-allow-methods"] == "GET, PUT"
    assert web.options("/cors/hello", headers={**fields, "origin": "https://bad.test"}).status_code == 400


def test_trusted_host(site: Site) -> None:
    client = site.clients["http"]
    for host, status in (("good.test", 200), ("a.fine.test:8080", 200), ("bad.test", 400)):
        assert client.get("/trusted/hello", headers={"host": host}).status_code == status


def test_https_redirect(site: Site) -> None:
    answer = site.clients["http"].get("/https-only/hello", headers={"host": "shop.test"})
    assert answer.status_code == 307 and answer.headers["location"] == "https://shop.test/https-only/hello"
    assert site.clients["https"].get("/https-only/hello").text == "hello"


def test_session(site: Site) -> None:
    with site.new_client(site.gateway.tls_url) as client:
        assert [client.get("/session/").json()["count"] for _ in range(3)] == [1, 2, 3]
        client.cookies.set("session", "forged")
        with site.new_client() as other:
            other.cookies.set("session", "forged")
            assert other.get("/session/").json()["count"] == 1
        assert "session=null" in client.get("/session/out").headers.get("set-cookie", "session=null")


def test_authentication(site: Site) -> None:
    client = site.clients["http"]
    assert client.get("/user/secret").status_code == 403
    answer = client.get("/user/secret", headers={"authorization": "Name Ada"})
    assert answer.json() == {"user": "Ada", "scopes": ["authenticated"]}
    assert client.get("/user/", headers={"authorization": "Basic x"}).status_code == 400


def test_threads_of_clients(site: Site) -> None:
    """Twelve clients with connections of their own, twenty requests each, over TLS."""
    wrong: list[Any] = []

    def use(name: int) -> None:
        with site.new_client(site.gateway.tls_url) as client:
            for number in range(20):
                answer = client.post(f"/common/echo?n={name}-{number}", content=b"b" * number * 100).json()
                if (answer["query"], answer["bytes"]) != (f"n={name}-{number}", number * 100):
                    wrong.append(answer)

    threads = [threading.Thread(target=use, args=(name,)) for name in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- beside uvicorn ---------------------------------------------------------------------------------------------------

FORM = ("content-type", "application/x-www-form-urlencoded")
UPLOAD, UPLOAD_BODY = multipart([("a", "", b"text"), ("f", "name.txt", b"data" * 100)])
COMPARED = [
    *(Asked(method, "/common/hello") for method in ("GET", "HEAD", "POST", "OPTIONS")),
    *(Asked("GET", f"/common/status/{status}") for status in (200, 201, 204, 304, 404, 418, 500)),
    *(
        Asked("GET", f"/convert/1/2.5/0b7d6fe3-7b7e-4d92-9d4c-6a2fdb7f1f8e/{rest}")
        for rest in ("a/b", "%C3%BC", "x%2Fy")
    ),
    Asked("GET", "/query?a=1&a=2&b=%20+%2B&c"),
    Asked("GET", "/query?"),
    Asked("POST", "/form", [FORM], b"a=1&b=%C3%BC&a=2"),
    Asked("POST", "/form", [UPLOAD], UPLOAD_BODY),
    Asked("POST", "/form", [("content-type", "multipart/form-data; boundary=b")], b"nonsense"),
    Asked("POST", "/form", [("content-type", "multipart/form-data")], b"nonsense"),
    Asked("POST", "/json", [], b'{"a": [1, 2]}'),
    Asked("POST", "/json", [], b"{"),
    Asked("GET", "/cookies", [("cookie", "a=1; b=2")]),
    Asked("GET", "/redirect?to=/a%20b&status=302"),
    Asked("GET", "/slash"),
    Asked("GET", "/url?x=1"),
    Asked("GET", "/page"),
    Asked("GET", "/file"),
    Asked("HEAD", "/file"),
    Asked("GET", "/file", [("range", "bytes=10-19")]),
    Asked("GET", "/file", [("range", "bytes=9999999-")]),
    Asked("GET", "/static/"),
    Asked("GET", "/static/style.css"),
    Asked("GET", "/static/%2e%2e/secret.txt"),
    Asked("GET", "/static/missing"),
    Asked("GET", "/common/lines?count=3"),
    Asked("HEAD", "/common/lines?count=3"),
    Asked("GET", "/common/big?pieces=3"),
    Asked("GET", "/common/header?bytes=3000"),
    Asked("GET", "/common/crash"),
    Asked("GET", "/refuse"),
    Asked("GET", "/own-error"),
    Asked("GET", "/nowhere"),
    Asked("PUT", "/page"),
    Asked("GET", "/gzip/big?pieces=1", [("accept-encoding", "gzip")]),
    Asked("GET", "/cors/hello", [("origin", "https://front.test")]),
    Asked("OPTIONS", "/cors/x", [("origin", "https://front.test"), ("access-control-request-method", "PUT")]),
    Asked("GET", "/trusted/hello"),
    Asked("GET", "/https-only/hello"),
    Asked("GET", "/around/hello"),
    Asked("GET", "/background-twice"),
    Asked("DELETE", "/endpoint"),
]


def test_same_answers_as_uvicorn(site: Site, files: Path, tmp_path: Path) -> None:
    found = differences(site, tmp_path, {"APP_FILES": str(files)}, COMPARED)
    assert not found, "\n".join(found)


def test_worker_said_nothing_unexpected(site: Site) -> None:
    """Only the exceptions that the cases cause are in the log."""
    assert site.unexpected_errors("MultipartParseError", "mine$", "already started") == []
