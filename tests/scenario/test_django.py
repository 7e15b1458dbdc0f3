# SPDX-License-Identifier: MIT
"""A Django application behind the gateway: the common cases, Django's own features, and uvicorn beside it."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from framework_cases import CommonCases, curl, told
from harness.sites import PREFIX, Asked, Site, differences, multipart, running

DATA = bytes(range(256)) * 1000


def make_files(directory: Path) -> Path:
    (directory / "static").mkdir(parents=True)
    (directory / "data.bin").write_bytes(DATA)
    (directory / "secret.txt").write_text("never served")
    (directory / "static" / "style.css").write_text("body { color: red }\n" * 5)
    return directory


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[Site]:
    with running(Site(tmp_path_factory.mktemp("django"), "django_app:app"), {"APP_FILES": str(files)}) as site:
        yield site


class TestCommon(CommonCases):
    pass


# --- views and requests -----------------------------------------------------------------------------------------------


def test_synchronous_and_asynchronous_views(web: httpx.Client) -> None:
    assert told(web.get("/where")) == {"main": False}
    assert told(web.get("/where-async")) == {"main": True}


def test_middleware_of_both_kinds(web: httpx.Client) -> None:
    for path in ("/common/hello", "/common/lines?count=3", "/nowhere"):
        answer = web.get(path)
        assert answer.headers["x-sync-stamp"] == "GET" and answer.headers["x-async-stamp"] == "GET"
        assert answer.headers["x-frame-options"] == "DENY" and answer.headers["x-content-type-options"] == "nosniff"


def test_absolute_urls(web: httpx.Client) -> None:
    base = str(web.base_url).rstrip("/")
    answer = told(web.get("/url?x=%20"))
    assert answer["absolute"] == f"{base}/url?x=%20" and answer["made"] == f"{base}/url"
    assert answer["secure"] == (web.base_url.scheme == "https") and answer["script"] == ""
    assert answer["reverse"] == "/article/%C3%BC%20x"


def test_script_name(site: Site) -> None:
    answer = told(site.clients["https"].get(f"{PREFIX}/url", headers={"host": "shop.test"}))
    assert answer == {
        "absolute": f"https://shop.test{PREFIX}/url",
        "reverse": f"{PREFIX}/article/%C3%BC%20x",
        "made": f"https://shop.test{PREFIX}/url",
        "secure": True,
        "host": "shop.test",
        "script": PREFIX,
        "path": f"{PREFIX}/url",
        "path_info": "/url",
    }
    assert site.clients["http"].get(f"{PREFIX}/moved").headers["location"] == f"{PREFIX}/article/%C3%BC%20x"


def test_meta(web: httpx.Client) -> None:
    answer = told(web.get("/meta?a=1", headers={"x-own-field": "ü".encode(), "content-type": "text/odd"}))
    assert answer["REQUEST_METHOD"] == "GET" and answer["QUERY_STRING"] == "a=1"
    assert answer["REMOTE_ADDR"] == "127.0.0.1" and answer["SERVER_PORT"] == str(web.base_url.port)
    assert answer["HTTP_X_OWN_FIELD"] == "Ã¼" and answer["CONTENT_TYPE"] == "text/odd"
    assert answer["HTTP_HOST"] == f"127.0.0.1:{web.base_url.port}"


def test_query_dict(web: httpx.Client) -> None:
    assert told(web.get("/query?a=1&a=2&b=&c=%C3%BC+%26")) == {"a": ["1", "2"], "b": [""], "c": ["ü &"]}


def test_allowed_hosts(site: Site) -> None:
    assert site.clients["http"].get("/url", headers={"host": "a.shop.test"}).status_code == 200
    assert site.clients["http"].get("/url", headers={"host": "evil.example"}).status_code == 400


def test_form(web: httpx.Client) -> None:
    assert told(web.post("/form", data={"name": "größe", "count": "3"})) == {"name": "größe", "count": 3}
    answer = web.post("/form", data={"name": "x" * 11, "count": "0"})
    assert answer.status_code == 400 and set(answer.json()) == {"name", "count"}


def test_post_lists(web: httpx.Client) -> None:
    answer = told(web.post("/post-lists", data={"a": ["1", "2"], "b": "ü &="}))
    assert answer == {"a": ["1", "2"], "b": ["ü &="]}


def test_too_many_fields_and_too_large_a_form(site: Site) -> None:
    client = site.clients["http"]
    assert client.post("/post-lists", data={f"f{number}": "1" for number in range(101)}).status_code == 400
    assert client.post("/post-lists", data={"big": "x" * (9 << 20)}).status_code == 400


@pytest.mark.parametrize(("size", "kind"), [(10, "InMemoryUploadedFile"), (3 << 20, "TemporaryUploadedFile")])
def test_upload(web: httpx.Client, files: Path, size: int, kind: str) -> None:
    body = (DATA * 20)[:size]
    answer = told(web.post("/upload", files={"file": ("größe.bin", body, "image/x")}, data={"note": "ü"}))
    [[name, filename, content_type, handler, length, stored]] = answer["files"]
    assert (name, filename, content_type, handler) == ("file", "größe.bin", "image/x", kind)
    assert (length, stored["bytes"]) == (size, size) and answer["fields"] == {"note": ["ü"]}
    assert any(path.stat().st_size == size for path in (files / "media").rglob("gr*"))


def test_several_uploads(web: httpx.Client) -> None:
    sent = [("files", (f"{number}.bin", b"x" * number)) for number in range(1, 11)]
    answer = told(web.post("/upload", files=sent))
    assert [file[4] for file in answer["files"]] == list(range(1, 11))


def test_curl_upload(site: Site, files: Path) -> None:
    options = ("-k", "-F", f"f=@{files}/data.bin", "-F", "a=b", "-H", "Expect: 100-continue")
    answer = json.loads(curl(*options, f"{site.gateway.tls_url}/upload"))
    assert answer["files"][0][5]["bytes"] == len(DATA) and answer["fields"] == {"a": ["b"]}


def test_upload_that_is_left_costs_nothing(site: Site) -> None:
    content_type, body = multipart([("file", "name", b"x" * 100_000)])
    before = len(site.worker_log)
    with site.gateway.client() as client:
        client.request("POST", "/upload", [content_type, ("content-length", str(len(body)))])
        client.send(body[:50_000])
    site.wait_idle()
    assert "Traceback" not in site.worker_log[before:]


def test_body_read_by_an_asynchronous_view(web: httpx.Client) -> None:
    assert told(web.post("/read-async", content=iter([DATA, DATA])))["bytes"] == 2 * len(DATA)


def test_class_based_view(web: httpx.Client) -> None:
    assert web.get("/methods").text == "got"
    answer = web.options("/methods")
    assert answer.headers["allow"] == "GET, PUT, HEAD, OPTIONS" or "PUT" in answer.headers["allow"]
    assert web.delete("/methods").status_code in (403, 405)
    assert web.head("/methods").headers["content-length"] == "3"


def test_require_post(site: Site) -> None:
    answer = site.clients["http"].get("/only-post")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# --- responses --------------------------------------------------------------------------------------------------------


def test_cookies(site: Site) -> None:
    with site.new_client() as client:
        answer = client.get("/cookies", headers={"cookie": 'a=1; b="two"'})
        assert told(answer) == {"a": "1", "b": "two"}
        plain, full, strict, old = answer.headers.get_list("set-cookie")
    assert plain == "plain=1; Path=/" and "SameSite=Strict" in strict and "Max-Age=0" in old
    assert 'full="x y"; Domain=shop.test;' in full and "HttpOnly" in full and "Secure" in full


def test_signed_cookie(site: Site) -> None:
    with site.new_client(site.gateway.tls_url) as client:
        assert client.get("/signed").text == "none"
        assert client.get("/signed").text == "mine"


def test_template(web: httpx.Client) -> None:
    assert web.get("/page").text == "<p>größe &amp; &lt;so&gt;</p>"


def test_language(site: Site) -> None:
    answer = site.clients["http"].get("/language", headers={"accept-language": "de"})
    assert (answer.text, answer.headers["content-language"]) == ("Ja", "de")
    assert site.clients["http"].get("/language").text == "Yes"


def test_file(web: httpx.Client) -> None:
    answer = web.get("/file", headers={"accept-encoding": "identity"})
    assert answer.content == DATA and answer.headers["content-length"] == str(len(DATA))
    assert "filename*=utf-8''d%C3%A4t%C3%A4.bin" in answer.headers["content-disposition"]


def test_stream_of_a_synchronous_iterator(web: httpx.Client) -> None:
    assert web.get("/common/lines-in-thread?count=50").text.count("line") == 50


def test_sse(site: Site, web: httpx.Client) -> None:
    gate = f"sse-{id(web)}"
    with web.stream("GET", f"/sse?gate={gate}", headers={"accept-encoding": "identity"}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        events = answer.iter_raw()
        for count in range(3):
            assert next(events) == b"data: event %d\n\n" % count
            site.open_gate(f"{gate}-{count + 1}")
        assert list(events) == []


def test_gzip(web: httpx.Client) -> None:
    answer = web.get("/gzip/big?pieces=4", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip" and len(answer.content) == 65536
    assert int(answer.headers["content-length"]) < 20_000
    answer = web.get("/gzip/lines?count=100", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip" and answer.text.count("line") == 100


def test_conditional_get(web: httpx.Client, site: Site) -> None:
    made = site.gateway.notes().count("conditional made")
    answer = web.get("/conditional")
    assert (answer.text, answer.headers["etag"]) == ("made", '"fixed"')
    answer = web.get("/conditional", headers={"if-none-match": '"fixed"'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert web.get("/conditional", headers={"if-match": '"other"'}).status_code == 412
    assert site.gateway.notes().count("conditional made") == made + 1


def test_conditional_get_middleware(web: httpx.Client) -> None:
    etag = web.get("/page").headers["etag"]
    answer = web.get("/page", headers={"if-none-match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_redirects(web: httpx.Client) -> None:
    answer = web.get("/moved")
    assert (answer.status_code, answer.headers["location"]) == (302, "/article/%C3%BC%20x")
    assert web.get("/moved?permanent=1").status_code == 301
    answer = web.get("/slash?x=1")
    assert (answer.status_code, answer.headers["location"]) == (301, "/slash/?x=1")


@pytest.mark.parametrize(
    ("path", "status"), [("/nowhere", 404), ("/refuse/404", 404), ("/refuse/403", 403), ("/refuse/400", 400)]
)
def test_error_pages_without_debug(web: httpx.Client, path: str, status: int) -> None:
    answer = web.get(path)
    assert answer.status_code == status and "<h1>" in answer.text and "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/common/crash", "/common/async-crash"])
def test_500_without_debug(web: httpx.Client, path: str) -> None:
    answer = web.get(path)
    assert answer.status_code == 500 and "Server Error (500)" in answer.text and "mistake" not in answer.text


def test_static_files(web: httpx.Client) -> None:
    answer = web.get("/static/style.css")
    assert answer.headers["content-type"] == "text/css" and answer.text.count("red") == 5
    again = web.get("/static/style.css", headers={"if-modified-since": answer.headers["last-modified"]})
    assert (again.status_code, again.content) == (304, b"")
    assert web.get("/static/missing.css").status_code == 404
    assert "max-width" in web.get("/static/admin/css/base.css").text


@pytest.mark.parametrize("path", ["../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt"])
def test_static_files_stay_below_their_directory(site: Site, path: str) -> None:
    answer = site.gateway.get(f"/static/{path}")
    assert answer.status >= 400 and b"never served" not in answer.body


# --- database, sessions, users ----------------------------------------------------------------------------------------


def test_orm(web: httpx.Client) -> None:
    target = f"/article/ü {id(web)}"
    assert web.get(target).status_code == 404
    assert web.put(target, content=b"12345").status_code == 201
    assert told(web.get(target)) == {"name": target.removeprefix("/article/"), "stock": 5}
    assert web.put(target, content=b"1").status_code == 200
    assert told(web.get(target))["stock"] == 1
    assert web.delete(target).status_code == 204 and web.get(target).status_code == 404


def test_asynchronous_orm(site: Site) -> None:
    assert "lamp" in told(site.clients["https"].get("/articles?make=lamp"))
    assert "lamp\n" in site.clients["http"].get("/rows").text


def test_transaction_is_rolled_back(site: Site) -> None:
    client = site.clients["http"]
    assert client.post("/two-articles", data={"name": ["one", "two"]}).status_code == 201
    assert client.post("/two-articles", data={"name": ["three", "one"]}).status_code == 409
    names = told(client.get("/articles"))
    assert "two" in names and "three" not in names


def test_writers_at_the_same_time(site: Site) -> None:
    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=site.gateway.url, trust_env=False, timeout=20) as client:
            answers = await asyncio.gather(*(client.get(f"/articles?make=many-{number}") for number in range(15)))
        return [answer.status_code for answer in answers]

    assert asyncio.run(all_at_once()) == [200] * 15
    names = told(site.clients["http"].get("/articles"))
    assert sum(name.startswith("many-") for name in names) == 15


def test_synchronous_views_run_at_the_same_time(site: Site) -> None:
    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=site.gateway.url, trust_env=False, timeout=20) as client:
            answers = await asyncio.gather(*(client.get("/common/meet-in-threads/sync/5") for _ in range(5)))
        return [answer.status_code for answer in answers]

    assert asyncio.run(all_at_once()) == [200] * 5


def test_session(site: Site) -> None:
    for url in (site.gateway.url, site.gateway.tls_url):
        with site.new_client(url) as client:
            assert [told(client.get("/session"))["count"] for _ in range(3)] == [1, 2, 3]
            client.get("/session/flush")
            assert "sessionid" not in client.cookies
            assert told(client.get("/session"))["count"] == 1


def test_csrf(site: Site) -> None:
    with site.new_client() as client:
        token = client.get("/protected").text
        assert "csrftoken" in client.cookies
        assert client.post("/protected").status_code == 403
        assert client.post("/protected", data={"csrfmiddlewaretoken": token}).text == "taken"
        assert client.post("/protected", headers={"x-csrftoken": token}).text == "taken"
        assert client.post("/protected", headers={"x-csrftoken": "wrong" * 8}).status_code == 403


def test_csrf_over_tls_asks_for_the_origin(site: Site) -> None:
    """Django compares Origin and Referer with what the scope says of scheme and host."""
    base = site.gateway.tls_url
    with site.new_client(base) as client:
        fields = {"x-csrftoken": client.get("/protected").text}
        assert client.post("/protected", headers=fields).status_code == 403
        assert client.post("/protected", headers={**fields, "referer": f"{base}/protected"}).text == "taken"
        assert client.post("/protected", headers={**fields, "origin": base}).text == "taken"
        assert client.post("/protected", headers={**fields, "origin": "https://evil.test"}).status_code == 403


def test_messages(site: Site) -> None:
    with site.new_client(follow_redirects=True) as client:
        assert told(client.get("/say")) == [["success", "größe gespeichert"], ["error", "second"]]
        assert told(client.get("/heard")) == []


def test_log_in_and_out(site: Site) -> None:
    with site.new_client(site.gateway.tls_url) as client:
        answer = client.get("/secret")
        assert (answer.status_code, answer.headers["location"]) == (302, "/login?next=/secret")
        assert client.post("/login", data={"name": "ada", "password": "wrong"}).status_code == 401
        assert client.post("/login", data={"name": "ada", "password": "secret"}).text == "in"
        assert client.get("/secret").text == "ada" and client.get("/page").text.endswith("ada")
        client.get("/logout")
        assert client.get("/secret").status_code == 302


def test_admin(site: Site) -> None:
    with site.new_client(site.gateway.tls_url, follow_redirects=True) as client:
        form = client.get("/admin/")
        assert form.url.path == "/admin/login/"
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
        assert token
        data = {"username": "ada", "password": "secret", "csrfmiddlewaretoken": token.group(1), "next": "/admin/"}
        answer = client.post("/admin/login/", data=data, headers={"referer": str(form.url)})
        assert answer.status_code == 200 and "Site administration" in answer.text
        assert "ada" in client.get("/admin/auth/user/").text


# --- ends -------------------------------------------------------------------------------------------------------------


def test_request_finished_comes_for_every_response(site: Site) -> None:
    site.wait_idle()
    before = site.gateway.notes().count("request finished")
    for path in ("/common/hello", "/common/lines?count=2", "/nowhere", "/common/crash"):
        site.clients["http"].get(path)
    site.wait_idle()
    assert site.gateway.notes().count("request finished") == before + 4


def test_view_of_a_client_that_left_runs_to_its_end(site: Site) -> None:
    before = len(site.worker_log)
    with site.gateway.client() as client:
        client.request("GET", "/slow?gate=left")
        site.gateway.wait_note("^slow begun left$")
        client.reset()
    site.open_gate("left")
    site.gateway.wait_note("^slow over left$")
    site.wait_idle()
    assert "Traceback" not in site.worker_log[before:]


def test_half_closed_client_gets_a_late_answer(site: Site) -> None:
    with site.gateway.client() as client:
        client.request("GET", "/slow?gate=half")
        client.shut()
        site.gateway.wait_note("^slow begun half$")
        site.open_gate("half")
        assert client.response().body == b"slow"


# --- beside uvicorn ---------------------------------------------------------------------------------------------------

FORM = ("content-type", "application/x-www-form-urlencoded")
UPLOAD, UPLOAD_BODY = multipart([("file", "name.txt", b"data" * 100), ("note", "", b"hi")])
COMPARED = [
    *(Asked(method, "/common/hello") for method in ("GET", "HEAD", "OPTIONS")),
    *(Asked("GET", f"/common/status/{status}") for status in (200, 204, 304, 404, 500)),
    Asked("GET", "/url?x=%20"),
    Asked("GET", "/query?a=1&a=2&b=%C3%BC"),
    Asked("GET", "/article/%C3%BC"),
    Asked("GET", "/article/a%2Fb"),
    Asked("POST", "/form", [FORM], b"name=x&count=2"),
    Asked("POST", "/form", [FORM], b"name=x"),
    Asked("POST", "/upload", [UPLOAD], UPLOAD_BODY),
    Asked("POST", "/upload", [("content-type", "multipart/form-data")], UPLOAD_BODY),
    Asked("POST", "/protected", [FORM], b"a=1"),
    Asked("GET", "/methods"),
    Asked("HEAD", "/methods"),
    Asked("OPTIONS", "/methods"),
    Asked("GET", "/only-post"),
    Asked("GET", "/cookies", [("cookie", "a=1; b=2")]),
    Asked("GET", "/page"),
    Asked("GET", "/language", [("accept-language", "de")]),
    Asked("GET", "/file"),
    Asked("HEAD", "/file"),
    Asked("GET", "/conditional"),
    Asked("GET", "/conditional", [("if-none-match", '"fixed"')]),
    Asked("GET", "/moved"),
    Asked("GET", "/slash"),
    Asked("GET", "/nowhere"),
    *(Asked("GET", f"/refuse/{status}") for status in (400, 403, 404)),
    Asked("GET", "/common/crash"),
    Asked("GET", "/common/async-crash"),
    Asked("GET", "/common/lines?count=3"),
    Asked("GET", "/common/lines-in-thread?count=3"),
    Asked("GET", "/static/missing"),
    Asked("GET", "/static/admin/css/base.css"),
    Asked("GET", "/static/%2e%2e/secret.txt"),
    Asked("GET", "/secret"),
    Asked("GET", "/admin/"),
]


def test_same_answers_as_uvicorn(site: Site, tmp_path: Path) -> None:
    beside = make_files(tmp_path / "beside")  # a database of its own
    found = differences(site, tmp_path, {"APP_FILES": str(beside)}, COMPARED)
    assert not found, "\n".join(found)


def test_worker_said_nothing_unexpected(site: Site) -> None:
    causes = ("SuspiciousOperation", "SuspiciousFileOperation", "DisallowedHost", "Max number of fields", "too large")
    assert site.unexpected_errors(*causes) == []
