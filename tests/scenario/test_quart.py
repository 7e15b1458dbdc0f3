# SPDX-License-Identifier: MIT
"""A Quart application behind the gateway: the common cases, Quart's own features, and uvicorn beside it."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("quart")

from framework_cases import CommonCases, told
from harness.sites import PREFIX, Asked, Site, differences, multipart, running

DATA = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    (directory / "data.bin").write_bytes(DATA)
    (directory / "static").mkdir()
    (directory / "static" / "style.css").write_text("body { color: red }\n")
    return directory


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("quart"), "quart_app:app")
    with running(made, {"APP_FILES": str(files)}) as site:
        yield site
    assert made.gateway.notes()[0] == "lifespan up" and "lifespan down" in made.gateway.notes()


class TestCommon(CommonCases):
    def test_half_closed_client_gets_its_answer(self, site: Site) -> None:
        """Quart itself gives up at http.disconnect; the connection ends in order, with its answer or with a 500."""
        with site.gateway.client() as client:
            client.request("GET", "/common/hello")
            client.shut()
            assert client.response().status in (200, 500)
        site.wait_idle()


def test_form_and_upload(web: httpx.Client) -> None:
    for size in (10, 3 << 20):
        body = (DATA * 20)[:size]
        answer = told(web.post("/form", data={"a": ["1", "ü"]}, files={"file": ("größe.bin", body)}))
        assert answer["fields"] == {"a": ["1", "ü"]}
        assert answer["files"]["file"][0] == "größe.bin" and answer["files"]["file"][1]["bytes"] == size


def test_body_over_the_limit_of_the_app(site: Site) -> None:
    assert site.clients["http"].post("/form", data={"a": "x" * (9 << 20)}).status_code == 413


def test_json(web: httpx.Client) -> None:
    assert told(web.post("/json", json={"a": ["ü", None]})) == {"a": ["ü", None]}
    assert web.post("/json", content=b"{", headers={"content-type": "application/json"}).status_code == 400


def test_streamed_request_arrives_as_it_is_sent(site: Site) -> None:
    with site.gateway.client() as client:
        client.request("POST", "/stream", {"transfer-encoding": "chunked"})
        for size in (3, 7):
            client.send(b"%x\r\n%s\r\n" % (size, b"x" * size))
            site.gateway.wait_note(f"^stream piece {size}$")
        client.send(b"0\r\n\r\n")
        assert json.loads(client.response().body)["bytes"] == 10


def test_urls(site: Site, web: httpx.Client) -> None:
    base = str(web.base_url).rstrip("/")
    assert told(web.get("/url")) == {"url": f"{base}/url", "for": f"{base}/url?x=%C3%BC", "root": ""}
    answer = told(web.get(f"{PREFIX}/url", headers={"host": "shop.test"}))
    assert answer["for"] == f"{web.base_url.scheme}://shop.test{PREFIX}/url?x=%C3%BC" and answer["root"] == PREFIX


def test_cookies_session_and_flash(site: Site) -> None:
    with site.new_client(site.gateway.tls_url, follow_redirects=True) as client:
        assert len(client.get("/cookies").headers.get_list("set-cookie")) == 2
        assert told(client.get("/cookies")) == {"one": "1", "two": "2"}
        assert [told(client.get("/session"))["count"] for _ in range(3)] == [1, 2, 3]
        assert told(client.get("/flash")) == ["größe gespeichert"]
        assert told(client.get("/heard")) == []


def test_templates_and_hooks(web: httpx.Client) -> None:
    answer = web.get("/page")
    assert answer.text == "<p>größe &amp; &lt;so&gt;</p>" and answer.headers["x-stamp"] == "GET"
    assert web.get("/sync").text == "from a thread"


def test_file_and_range(web: httpx.Client) -> None:
    answer = web.get("/file")
    assert answer.content == DATA
    part = web.get("/file", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, DATA[10:20])
    again = web.get("/file", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "red" in web.get("/static/style.css").text


def test_errors(web: httpx.Client) -> None:
    assert web.get("/teapot").status_code == 418
    assert (web.get("/nowhere").status_code, web.get("/nowhere").json()) == (404, {"error": "nowhere"})
    assert web.delete("/page").status_code == 405
    assert web.get("/slash").status_code == 308 and web.get("/slash", follow_redirects=True).text == "slash"


def test_background_task_runs_after_the_response(site: Site) -> None:
    with site.gateway.client() as client:
        client.request("POST", "/background?name=task")
        assert client.response().status == 202
        site.gateway.wait_note("^task begun$")
        assert client.get("/common/hello").body == b"hello"
        site.open_gate("task")
        site.gateway.wait_note("^task over$")


FORM = ("content-type", "application/x-www-form-urlencoded")
UPLOAD, UPLOAD_BODY = multipart([("file", "name.txt", b"data" * 100), ("note", "", b"hi")])
COMPARED = [
    *(Asked(method, "/common/hello") for method in ("GET", "HEAD", "OPTIONS", "PUT")),
    *(Asked("GET", f"/common/status/{status}") for status in (200, 204, 304, 404, 500)),
    Asked("POST", "/form", [FORM], b"a=1&a=%C3%BC"),
    Asked("POST", "/form", [UPLOAD], UPLOAD_BODY),
    Asked("POST", "/json", [("content-type", "application/json")], b"{"),
    Asked("GET", "/url?x=%20"),
    Asked("GET", "/cookies", [("cookie", "a=1; b=2")]),
    Asked("GET", "/page"),
    Asked("GET", "/file"),
    Asked("HEAD", "/file"),
    Asked("GET", "/file", [("range", "bytes=1-3")]),
    Asked("GET", "/static/style.css"),
    Asked("GET", "/teapot"),
    Asked("GET", "/nowhere"),
    Asked("GET", "/slash"),
    Asked("GET", "/common/lines?count=3"),
    Asked("GET", "/common/crash"),
]


def test_same_answers_as_uvicorn(site: Site, files: Path, tmp_path: Path) -> None:
    found = differences(site, tmp_path, {"APP_FILES": str(files)}, COMPARED)
    assert not found, "\n".join(found)


def test_worker_said_nothing_unexpected(site: Site) -> None:
    assert site.unexpected_errors() == []
