# SPDX-License-Identifier: MIT
"""Every case of http1_cases.py against the real gateway: in one write, byte by byte, and with a request behind it that
must never be taken for something else. What is refused reaches no app; what is answered leaves the connection in step.
"""

import json
from collections.abc import Callable, Iterator

import pytest
from harness.gateway import Gateway
from harness.http1 import Client
from http1_cases import CASES, Case, chunks, get, post

BY_BYTE_MAX = 1500  # longer cases are cut into pieces of 97 bytes instead


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("recorder"), log={"level": "info"})
    try:
        gateway.start()
        gateway.start_workers(1, "recorder:app")
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


class Watch:
    """What the app notes from here on; the end is marked by a request of its own connection."""

    count = 0

    def __init__(self, gateway: Gateway):
        self.gateway = gateway
        self.start = len(gateway.notes())

    def notes(self) -> list[str]:
        Watch.count += 1
        mark = f"/mark-{Watch.count}"
        assert self.gateway.get(mark).status == 200
        notes = self.gateway.notes()[self.start :]
        assert f"complete GET {mark}" in notes, notes
        return [note for note in notes if not note.endswith(mark)]


def send_all(client: Client, data: bytes, piece: int) -> None:
    """Sends what the gateway takes: it may have refused before the end."""
    try:
        for start in range(0, len(data), piece):
            client.send(data[start : start + piece])
    except (BrokenPipeError, ConnectionResetError):
        pass


def expect_refused(gateway: Gateway, case: Case, piece: int) -> None:
    watch = Watch(gateway)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with gateway.client() as client:
        send_all(client, case.raw + smuggled, piece)
        response = client.head()
        assert response.status in case.status, f"{response.status} {response.headers}"
        client.body(response, "HEAD" if case.raw.startswith(b"HEAD") else "GET")
        assert response.header("connection") == "close"
        assert response.header("content-type") == "text/plain; charset=utf-8"
        assert len(response.all("date")) == 1
        assert client.expect_end() == b"", "something came after the refusal"
    notes = watch.notes()
    assert not any("smuggled" in note for note in notes), notes
    assert not any(note.startswith("complete") for note in notes), notes
    assert case.begins or not notes, notes


def expect_answered(gateway: Gateway, case: Case, piece: int) -> None:
    watch = Watch(gateway)
    with gateway.client() as client:
        send_all(client, case.raw + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n", piece)
        response = client.response()
        assert response.status == 200, response
        seen = json.loads(response.body)
        if case.closes:
            assert response.header("connection") == "close"
            assert client.expect_end() == b""
        else:
            assert json.loads(client.response().body)["raw_path"] == "/next"
            assert json.loads(client.get("/last").body)["raw_path"] == "/last"
    for key, value in case.saw.items():
        assert seen[key] == value, f"{key} is {seen[key]!r}"
    for name, value in case.has:
        assert [name, value] in seen["headers"], seen["headers"]
    assert not {name for name, _ in seen["headers"]} & set(case.lacks), seen["headers"]
    complete = [note for note in watch.notes() if note.startswith("complete")]
    expected = [f"complete {seen['method']} {seen['raw_path']}"]
    expected += [] if case.closes else ["complete GET /next", "complete GET /last"]
    assert complete == expected


def run(gateway: Gateway, case: Case, piece: int) -> None:
    (expect_answered if case.status == (200,) else expect_refused)(gateway, case, piece)


def test_the_table() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 150, sorted({name for name in names if names.count(name) > 1})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_in_one_write(recorder: Gateway, case: Case) -> None:
    run(recorder, case, 1 << 20)


# An app that does not read may answer before the last chunk has come; then the connection is closed, and rightly.
IN_PIECES = [case for case in CASES if case.name != "unread-chunks"]


@pytest.mark.parametrize("case", IN_PIECES, ids=lambda case: case.name)
def test_in_pieces(recorder: Gateway, case: Case) -> None:
    run(recorder, case, 1 if len(case.raw) <= BY_BYTE_MAX else 97)


# --- sequences: where a connection gets out of step -------------------------------------------------------------------


def answers(client: Client, count: int) -> list[str]:
    return [json.loads(client.response().body)["raw_path"] for _ in range(count)]


def test_pipelined_requests_of_every_framing(recorder: Gateway) -> None:
    with recorder.client() as client:
        client.send(
            get(b"", b"/1")
            + post(b"Content-Length: 34\r\n", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r")
            + chunks(b"5\r\nGET /\r\n0\r\n\r\n")
            + b"HEAD /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            + b"\r\n"
            + get(b"Content-Length: 0\r\n", b"/5")
            + b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\nGET /x HTTP/1.1\r\n\r\n\r"
            + get(b"Connection: close\r\n", b"/7")
            + get(b"", b"/smuggled")
        )
        assert answers(client, 3) == ["/1", "/a", "/a"]
        head = client.head()
        assert head.status == 200 and int(head.header("content-length") or 0) > 100
        assert answers(client, 3) == ["/5", "/unread", "/7"]
        assert client.expect_end() == b""


def test_what_follows_a_refusal_is_not_looked_at(recorder: Gateway) -> None:
    watch = Watch(recorder)
    with recorder.client() as client:
        client.send(get(b"", b"/first") + get(b"X : 1\r\n", b"/bad") + get(b"", b"/smuggled") * 20)
        assert answers(client, 1) == ["/first"]
        assert client.response().status == 400
        assert client.expect_end() == b""
    assert watch.notes() == ["begun GET /first", "complete GET /first"]


def test_refusal_waits_for_the_answer_before_it(recorder: Gateway) -> None:
    """A bad request behind one whose body is still unread: the first gets its own answer."""
    with recorder.client() as client:
        client.send(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + b"\x00\x00")
        assert answers(client, 1) == ["/unread"]
        assert client.response().status == 400
        assert client.expect_end() == b""


@pytest.mark.parametrize(
    "refused", [b"HEAD /a HTTP/1.1\r\nHost: x/y\r\n\r\n", b"HEAD /a HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n"]
)
def test_refused_head_has_no_body(recorder: Gateway, refused: bytes) -> None:
    with recorder.client() as client:
        client.send(refused)
        head = client.head()
        assert head.status == 400 and head.header("connection") == "close"
        assert client.expect_end() == b""


@pytest.mark.parametrize(
    "unfinished",
    [
        b"GET /half HTTP/1.1",
        get(b"", b"/half")[:-2],
        get(b"", b"/half")[:-1],
        post(b"Content-Length: 4\r\n", b"abc"),
        chunks(b"3\r\nabc\r\n"),
        chunks(b"3\r\nabc\r\n0\r\n"),
        chunks(b"3\r\nab"),
    ],
)
@pytest.mark.parametrize("half", [True, False])
def test_unfinished_requests_are_never_complete(recorder: Gateway, unfinished: bytes, half: bool) -> None:
    watch = Watch(recorder)
    with recorder.client() as client:
        client.send(unfinished)
        if half:
            client.shut()
            rest = client.expect_end()
            assert rest == b"" or rest.startswith(b"HTTP/1.1 400 "), rest
        else:
            client.reset()
    assert not [note for note in watch.notes() if note.startswith("complete")]


def test_half_closed_after_the_request(recorder: Gateway) -> None:
    with recorder.client() as client:
        client.send(get(b"", b"/1") + post(b"Content-Length: 2\r\n", b"ab"))
        client.shut()
        assert answers(client, 2) == ["/1", "/a"]
        assert client.expect_end() == b""


@pytest.mark.parametrize("framing", [b"Content-Length: 200000\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_answer_before_a_large_body_closes(recorder: Gateway, framing: bytes) -> None:
    """More than limits.early_response_drain is unread: the connection ends, and the rest is no request."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n" * 6000
    watch = Watch(recorder)
    with recorder.client() as client:
        client.send(b"POST /unread HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n")
        chunk = b"%x\r\n" % len(body) if b"chunked" in framing else b""
        response = client.head()
        client.body(response)
        send_all(client, chunk + body, 8192)
        assert client.expect_end() == b""
    assert not any("smuggled" in note for note in watch.notes())


def test_bad_chunk_after_the_answer(recorder: Gateway) -> None:
    """The app answered without reading the body, whose framing then breaks."""
    watch = Watch(recorder)
    with recorder.client() as client:
        client.send(b"POST /unread HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert answers(client, 1) == ["/unread"]
        send_all(client, b"zz\r\n" + get(b"", b"/smuggled"), 1)
        client.expect_end()
    assert not any("smuggled" in note for note in watch.notes())


def test_refused_expectation_with_its_body_behind(recorder: Gateway) -> None:
    """417 while the body is on its way: it is never taken for a request."""
    watch = Watch(recorder)
    with recorder.client() as client:
        client.send(post(b"Expect: x\r\nContent-Length: 34\r\n", get(b"", b"/smuggled")))
        assert client.response().status == 417
        assert client.expect_end() == b""
    assert watch.notes() == []


def test_answer_before_100(recorder: Gateway) -> None:
    """The client sends its body although the answer came without 100: then it is body, or the connection has ended."""
    watch = Watch(recorder)
    with recorder.client() as client:
        body = get(b"", b"/smuggled")
        head = b"POST /unread HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        client.send(head)
        response = client.head()
        client.body(response)
        assert response.status == 200
        send_all(client, body + get(b"", b"/next"), 7)
        if response.header("connection") == "close":
            assert client.expect_end() == b""
        else:
            assert answers(client, 1) == ["/next"]
    assert not any("smuggled" in note for note in watch.notes())


def test_connect_is_no_tunnel(recorder: Gateway) -> None:
    with recorder.client() as client:
        client.send(b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n" + get(b"", b"/smuggled"))
        response = client.response()
        assert response.status in (405, 501)
        assert response.status != 405 or response.header("allow") is not None  # RFC 9110 15.5.6
        assert client.expect_end() == b""


def test_errors_of_the_gateway_keep_the_framing(make_gateway: Callable[..., Gateway]) -> None:
    """503 without any worker: the request's body is read or the connection ends; it is never parsed as a request."""
    gateway = make_gateway(workers=0, app={"queue_timeout": "100ms"})
    body = get(b"", b"/smuggled")
    with gateway.client() as client:
        client.send(post(b"Content-Length: %d\r\n" % len(body), body))
        response = client.response()
        assert response.status == 503 and response.header("retry-after") is not None
        if response.header("connection") != "close":
            client.send(get(b"", b"/2"))
            assert client.response().status == 503
        else:
            assert client.expect_end() == b""
    assert sum("/smuggled" in entry for entry in gateway.access_log()) == 0


LIMITS = [
    ({"target": 64}, b"GET /" + b"a" * 63 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ({"target": 64}, b"GET /" + b"a" * 64 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    ({"header_fields": 3}, get(b"A: 1\r\nB: 2\r\nCookie: c\r\n"), 200),
    ({"header_fields": 3}, get(b"A: 1\r\nB: 2\r\nC: 3\r\n"), 431),
    ({"cookie_crumbs": 1}, get(b"Cookie: a\r\n"), 200),
    ({"cookie_crumbs": 1}, get(b"Cookie: a\r\nCookie: b\r\n"), 431),
    ({"header_block": 256}, get(b"X: " + b"a" * (256 - 9 - 5 - 2) + b"\r\n"), 200),
    ({"header_block": 256}, get(b"X: " + b"a" * (256 - 9 - 5 - 1) + b"\r\n"), 431),
    ({"body_size": 3}, post(b"Content-Length: 3\r\n", b"abc"), 200),
    ({"body_size": 3}, post(b"Content-Length: 4\r\n", b"abcd"), 413),
    ({"body_size": 3}, chunks(b"3\r\nabc\r\n0\r\n\r\n"), 200),
    ({"body_size": 3}, chunks(b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"), 413),
    ({"body_size": 0}, get(b""), 200),
    ({"trailer_fields": 1}, chunks(b"0\r\nA: 1\r\n\r\n"), 200),
    ({"trailer_fields": 1}, chunks(b"0\r\nA: 1\r\nB: 2\r\n\r\n"), 431),
    ({"trailer_block": 10}, chunks(b"0\r\nA: 12345\r\n\r\n"), 200),
    ({"trailer_block": 10}, chunks(b"0\r\nA: 123456\r\n\r\n"), 431),
]


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gateway]]:
    """One gateway for each set of limits."""
    made: dict[str, Gateway] = {}
    try:
        for limits, _, _ in LIMITS:
            if str(limits) not in made:
                made[str(limits)] = Gateway(tmp_path_factory.mktemp("limited"), limits=limits)
                made[str(limits)].start()
                made[str(limits)].start_workers(1, "recorder:app")
        yield made
        for gateway in made.values():
            gateway.finish()
    finally:
        for gateway in made.values():
            gateway.kill()


def test_limits_are_exact(limited: dict[str, Gateway]) -> None:
    wrong = []
    for limits, raw, status in LIMITS:
        with limited[str(limits)].client() as client:
            client.send(raw)
            got = client.response()
            if got.status != status:
                wrong.append((limits, raw, status, got.status))
    assert not wrong
