# SPDX-License-Identifier: MIT
"""Cases that every framework's app must pass, whatever the framework: each app has the same paths below /common.

A suite inherits them: `class TestCommon(CommonCases): pass`. It gives the fixtures `site` (the Site of its module) and
takes `web` (an httpx client, once for http and once for https) from here by way of conftest.py.
"""

import asyncio
import contextlib
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness.gateway import insecure_context
from harness.http1 import Closed
from harness.process import Failed, wait_for
from harness.sites import PREFIX, Site

PIECE = bytes(range(256)) * 64


def curl(*arguments: str) -> str:
    done = subprocess.run(["curl", "-sS", "--max-time", "20", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, f"{answer.status_code} {answer.text[:500]}"
    return answer.json()


class CommonCases:
    # --- requests -----------------------------------------------------------------------------------------------------

    def test_get(self, site: Site, web: httpx.Client) -> None:
        answer = web.get("/common/hello")
        assert (answer.status_code, answer.text) == (200, "hello")
        assert answer.http_version == ("HTTP/2" if web is site.clients["h2"] else "HTTP/1.1")
        assert answer.headers["content-length"] == "5"
        assert answer.headers["content-type"].startswith("text/plain")

    def test_head_has_the_head_of_get(self, site: Site) -> None:
        with site.gateway.client() as client:
            client.request("HEAD", "/common/hello")
            assert client.response("HEAD").header("content-length") == "5"
            assert client.get("/common/hello").body == b"hello"

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "POST"])
    def test_methods(self, site: Site, method: str) -> None:
        answer = told(site.clients["http"].request(method, "/common/echo", content=b"body"))
        assert (answer["method"], answer["bytes"]) == (method, 4)

    def test_unicode_path(self, web: httpx.Client) -> None:
        answer = told(web.get("/common/echo/größe/日本/🙂"))
        assert answer["path"] == "/common/echo/größe/日本/🙂"
        assert answer["raw_path"] == "/common/echo/gr%C3%B6%C3%9Fe/%E6%97%A5%E6%9C%AC/%F0%9F%99%82"

    @pytest.mark.parametrize(
        ("raw", "path"),
        [("a%2Fb", "a/b"), ("100%25", "100%"), ("a%20b", "a b"), ("a+b", "a+b"), ("%41", "A"), ("a//b", "a//b")],
    )
    def test_percent_encoding(self, site: Site, raw: str, path: str) -> None:
        answer = json.loads(site.gateway.get(f"/common/echo/{raw}").body)
        assert (answer["path"], answer["raw_path"]) == (f"/common/echo/{path}", f"/common/echo/{raw}")

    def test_bytes_that_are_no_utf8_in_the_path(self, site: Site) -> None:
        with site.gateway.client() as client:
            assert client.get("/common/echo/%ff%fe").status in (200, 400, 404)
            assert client.get("/common/hello").status == 200

    def test_query_string(self, web: httpx.Client) -> None:
        query = "a=1&a=2&empty=&flag&plus=a+b&percent=%26%3D&name=%C3%A9"
        assert told(web.get(f"/common/echo?{query}"))["query"] == query

    def test_headers_arrive_in_order_and_repeated(self, site: Site) -> None:
        fields = [("X-One", "1"), ("Accept", "text/html"), ("X-Two", "a"), ("x-two", "b"), ("X-Latin", "caf\xe9")]
        with site.gateway.client() as client:
            client.request("GET", "/common/echo", fields)
            seen = json.loads(client.response().body)["headers"]
        assert [pair for pair in seen if pair[0] != "host"] == [[n.lower(), v] for n, v in fields]

    def test_large_and_many_headers(self, web: httpx.Client) -> None:
        fields = {f"x-{number}": "v" * 250 for number in range(60)} | {"x-big": "b" * 7000}
        assert dict(told(web.get("/common/echo", headers=fields))["headers"]).items() >= fields.items()

    def test_cookies_arrive_in_one_field(self, site: Site) -> None:
        with site.gateway.client() as client:
            client.request("GET", "/common/echo", [("cookie", "a=1"), ("cookie", "b=2")])
            headers = json.loads(client.response().body)["headers"]
        assert [value for name, value in headers if name == "cookie"] == ["a=1; b=2"]

    def test_client_and_server(self, web: httpx.Client) -> None:
        answer = told(web.get("/common/echo"))
        assert answer["client"][0] == "127.0.0.1" and isinstance(answer["client"][1], int)
        assert answer["server"] == ["127.0.0.1", web.base_url.port]
        assert answer["scheme"] == web.base_url.scheme

    def test_tls_extension(self, site: Site) -> None:
        tls = told(site.clients["https"].get("/common/echo"))["tls"]
        assert tls["version"] == 0x0304 and tls["cipher"] >> 8 == 0x13 and tls["cert"]
        assert told(site.clients["http"].get("/common/echo"))["tls"] is None

    def test_what_a_trusted_proxy_says(self, site: Site) -> None:
        fields = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
        answer = told(site.clients["http"].get("/common/echo", headers=fields))
        assert answer["client"][0] == "203.0.113.9" and answer["scheme"] == "https"

    def test_root_path(self, web: httpx.Client) -> None:
        answer = told(web.get(f"{PREFIX}/common/echo/x"))
        assert answer["root_path"] == PREFIX and answer["path"] == f"{PREFIX}/common/echo/x"

    def test_absolute_form(self, site: Site) -> None:
        with site.gateway.client() as client:
            client.request("GET", "http://example.test/common/echo?x=1", {"host": "example.test"})
            answer = json.loads(client.response().body)
        assert (answer["path"], answer["query"]) == ("/common/echo", "x=1")
        assert ["host", "example.test"] in answer["headers"]

    # --- request bodies -----------------------------------------------------------------------------------------------

    def test_body_of_five_mebibytes(self, web: httpx.Client) -> None:
        body = PIECE * 320
        answer = told(web.post("/common/echo", content=body))
        assert (answer["bytes"], answer["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())

    def test_chunked_body(self, web: httpx.Client) -> None:
        answer = told(web.post("/common/echo", content=iter([b"one", b"two" * 10_000, b"", b"end"])))
        assert answer["bytes"] == 30_006
        assert ["transfer-encoding", "chunked"] not in answer["headers"] or "content-length" not in dict(
            answer["headers"]
        )

    def test_body_byte_by_byte(self, site: Site) -> None:
        with site.gateway.client() as client:
            client.request("POST", "/common/echo", {"content-length": "5"})
            for byte in b"hello":
                client.send(bytes([byte]))
            assert json.loads(client.response().body)["bytes"] == 5

    def test_empty_bodies(self, site: Site) -> None:
        with site.gateway.client() as client:
            for fields in ({"content-length": "0"}, {}, {"transfer-encoding": "chunked"}):
                client.request("POST", "/common/echo", fields)
                if fields.get("transfer-encoding"):
                    client.send(b"0\r\n\r\n")
                assert json.loads(client.response().body)["bytes"] == 0

    def test_get_with_a_body(self, site: Site) -> None:
        assert told(site.clients["http"].request("GET", "/common/echo", content=b"odd"))["bytes"] == 3

    def test_curl_with_100_continue(self, site: Site, tmp_path: Path) -> None:
        body = tmp_path / "body"
        body.write_bytes(PIECE * 10)
        for options in (["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"], ["-0"]):
            url = f"{site.gateway.url}/common/echo"
            answer = json.loads(curl(*options, "-X", "POST", "--data-binary", f"@{body}", url))
            assert answer["bytes"] == len(PIECE) * 10

    # --- responses ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("status", [204, 304])
    def test_statuses_without_body(self, site: Site, status: int) -> None:
        with site.gateway.client() as client:
            answer = client.get(f"/common/status/{status}")
            assert answer.status == status and answer.header("transfer-encoding") is None
            assert client.get("/common/hello").body == b"hello"

    @pytest.mark.parametrize("status", [200, 201, 202, 400, 404, 418, 500, 503])
    def test_statuses_with_empty_body(self, site: Site, status: int) -> None:
        answer = site.clients["http"].get(f"/common/status/{status}")
        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (status, b"", "0")

    def test_large_response_header(self, web: httpx.Client) -> None:
        assert web.get("/common/header?bytes=4000").headers["x-big"] == "h" * 4000

    def test_large_response(self, web: httpx.Client) -> None:
        answer = web.get("/common/big?pieces=320")
        assert answer.content == PIECE * 320 and answer.headers["content-length"] == str(len(PIECE) * 320)

    def test_streamed_response(self, web: httpx.Client) -> None:
        answer = web.get("/common/lines?count=100")
        assert answer.text == "".join(f"line {number}\n" for number in range(100))
        # HTTP/1.1 tells the length where the whole body is there before its head goes out.
        framed = answer.http_version == "HTTP/2" or answer.headers.get("transfer-encoding") == "chunked"
        length = None if framed else str(len(answer.content))
        assert answer.headers.get("content-length") == length

    def test_a_streamed_piece_is_not_held_back(self, site: Site, web: httpx.Client) -> None:
        gate = f"lines-{id(web)}"
        with web.stream("GET", f"/common/lines?count=3&gate={gate}") as answer:
            parts = answer.iter_raw()
            assert next(parts) == b"line 0\n"
            site.open_gate(gate)
            assert b"".join(parts) == b"line 1\nline 2\n"

    def test_streamed_to_http_1_0(self, site: Site) -> None:
        assert curl("-0", f"{site.gateway.url}/common/lines?count=3") == "line 0\nline 1\nline 2\n"

    def test_head_of_a_streamed_response(self, site: Site) -> None:
        with site.gateway.client() as client:
            client.request("HEAD", "/common/lines?count=3")
            assert client.response("HEAD").status == 200
            assert client.get("/common/hello").body == b"hello"

    # --- exceptions ---------------------------------------------------------------------------------------------------

    def test_crash_is_500_and_the_connection_goes_on(self, site: Site) -> None:
        with site.gateway.client() as client:
            assert client.get("/common/crash").status == 500
            assert client.get("/common/hello").status == 200
        site.wait_worker_log("the app's own mistake")

    def test_crash_after_the_start_cuts_the_response(self, site: Site) -> None:
        with site.gateway.client() as client:
            client.request("GET", "/common/crash-late")
            with pytest.raises(Closed):
                client.response()
        site.wait_worker_log("too late")
        with pytest.raises(httpx.RemoteProtocolError):
            site.clients["https"].get("/common/crash-late")

    @pytest.mark.parametrize("pieces", [0, 3])
    def test_shorter_than_its_content_length(self, site: Site, pieces: int) -> None:
        with site.gateway.client() as client:
            client.request("GET", f"/common/mismatch?length=100&bytes=50&pieces={pieces}")
            try:
                answer = client.response()
            except Closed as closed:
                assert closed.data.partition(b"\r\n\r\n")[2] in (b"", b"x" * len(closed.data.partition(b"\r\n\r\n")[2]))
            else:
                assert answer.status == 500
        site.wait_worker_log("shorter than its content-length")

    def test_longer_than_its_content_length(self, site: Site) -> None:
        with site.gateway.client() as client:
            client.request("GET", "/common/mismatch?length=10&bytes=50")
            try:
                answer = client.response()
            except Closed as closed:
                assert len(closed.data.partition(b"\r\n\r\n")[2]) <= 10
            else:
                assert answer.status == 500
        site.wait_worker_log("longer than its content-length")

    # --- connections --------------------------------------------------------------------------------------------------

    def test_a_hundred_requests_on_one_connection(self, site: Site) -> None:
        with site.gateway.client() as client:
            for number in range(100):
                assert json.loads(client.get(f"/common/echo?n={number}").body)["query"] == f"n={number}"

    def test_pipelined_requests_are_answered_in_order(self, site: Site) -> None:
        with site.gateway.client() as client:
            for number in range(8):
                client.request("POST", f"/common/echo?n={number}", body=b"x" * number)
            for number in range(8):
                answer = json.loads(client.response().body)
                assert (answer["query"], answer["bytes"]) == (f"n={number}", number)

    def test_half_closed_client_gets_its_answer(self, site: Site) -> None:
        with site.gateway.client() as client:
            client.request("GET", "/common/hello")
            client.shut()
            assert client.response().body == b"hello"

    def test_requests_at_the_same_time(self, site: Site) -> None:
        async def all_at_once() -> list[int]:
            options: dict[str, Any] = {"verify": insecure_context(), "trust_env": False, "timeout": 20}
            limits = httpx.Limits(max_connections=50)
            async with httpx.AsyncClient(base_url=site.gateway.tls_url, limits=limits, **options) as client:
                answers = await asyncio.gather(*(client.get("/common/meet/all/30") for _ in range(30)))
            return [answer.status_code for answer in answers]

        assert asyncio.run(all_at_once()) == [200] * 30

    # --- clients that leave -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("way", ["close", "reset", "tls"])
    def test_client_leaves_an_endless_response(self, site: Site, way: str) -> None:
        gateway = site.gateway
        with gateway.tls_client() if way == "tls" else gateway.client() as client:
            client.request("GET", f"/common/pieces?name=endless-{way}")
            assert client.head().status == 200
            client.exactly(40_000)
            if way == "reset":
                client.reset()
        gateway.wait_note(f"^endless-{way} closed")

    def test_client_leaves_while_nothing_is_sent(self, site: Site) -> None:
        """An idle stream (SSE) ends too: the worker cancels it after the grace."""
        with site.gateway.client() as client:
            client.request("GET", "/common/idle")
            assert client.head().status == 200
        site.gateway.wait_note("^idle ended")

    def test_client_leaves_within_its_upload(self, site: Site) -> None:
        before = len(site.worker_log)
        with site.gateway.client() as client:
            client.request("POST", "/common/echo", {"content-length": "1000000"})
            client.send(PIECE)
            client.reset()
        assert site.gateway.get("/common/hello").status == 200
        assert "Traceback" not in site.worker_log[before:]

    def test_slow_reader_holds_the_app_back(self, site: Site) -> None:
        """What is taken from the app stays bounded while nobody reads; then everything arrives whole."""
        count = 2048  # 32 MiB
        with site.gateway.client(receive_buffer=16384) as client:
            client.request("GET", f"/common/pieces?name=slow&count={count}")
            assert client.head().status == 200

            def taken() -> int:
                return sum(1 for note in site.gateway.notes() if note.startswith("slow taken"))

            seen = wait_still(taken)
            assert 0 < seen < count // 2, seen
            sha = hashlib.sha256()
            size = 0
            while line := client._until(b"\r\n"):
                chunk = client.exactly(int(line, 16) + 2)[:-2]
                if not chunk:
                    break
                sha.update(chunk)
                size += len(chunk)
        assert size == count * len(PIECE) and sha.hexdigest() == hashlib.sha256(PIECE * count).hexdigest()


def wait_still(count: Callable[[], int]) -> int:
    """The value of `count` once it does not change any more (absence has no event)."""
    while True:
        seen = count()
        with contextlib.suppress(Failed):
            wait_for(lambda seen=seen: count() != seen, "a change", 0.4)
            continue
        return seen
