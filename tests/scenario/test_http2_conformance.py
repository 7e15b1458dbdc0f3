# SPDX-License-Identifier: MIT
"""Every case of http2_cases.py against the real gateway, plain with prior knowledge. What is an error reaches its code,
and the gateway goes on: after each case another connection is served.

test_h2spec has the cases of h2spec under their numbers, over plain connections and over TLS.
"""

from collections.abc import Iterator

import pytest
from harness.gateway import Gateway, insecure_context
from harness.http2 import PROTOCOL_ERROR, Answer, Ended, Http2
from http2_cases import Case
from http2_h2spec_cases import ALL_CASES, BY_NAME, H2SPEC, PREFACE_CASE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("http2"), tls=True, log={"level": "info"}, http2={"glitches": 100000})
    gateway.listeners[0]["protocols"] = ["h2", "http/1.1"]
    try:
        gateway.start()
        gateway.start_workers(1)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def outcome(client: Http2, stream: int) -> Answer | Ended:
    """What became of the stream, or the connection's end."""
    try:
        return client.answer(stream)
    except Ended as ended:
        return ended


def fine(case: Case, client: Http2, stream: int) -> None:
    answer = client.answer(stream)
    assert answer.ended and answer.reset is None and answer.status in (case.codes or (200,)), answer


def ended_with(result: Answer | Ended, codes: tuple[int, ...]) -> None:
    assert isinstance(result, Ended), result
    assert result.code is None or result.code in codes, result


def judge(case: Case, client: Http2, stream: int) -> None:
    if case.kind == "fine":
        fine(case, client, stream)
        client.ping()
    elif case.kind == "last":
        fine(case, client, stream)
        assert client.end() in (None, 0)
    elif case.kind == "connection":
        if stream in client.answers:
            assert client.end() in (None, *case.codes)
        else:
            result = outcome(client, stream)
            while isinstance(result, Answer):  # an answer that was under way
                result = Ended(client.end())
            ended_with(result, case.codes)
    else:
        result = outcome(client, stream)
        if isinstance(result, Ended):
            assert case.kind in ("stream", "either"), result
            ended_with(result, case.codes)
        elif case.kind == "either" and result.status == 200:
            client.ping()
        else:
            assert result.reset in case.codes or result.status in case.codes, result
            client.ping()


@pytest.mark.parametrize("case", ALL_CASES, ids=[case.name for case in ALL_CASES])
def test_case(server: Gateway, case: Case) -> None:
    with Http2(("127.0.0.1", server.port), handshake=case.handshake) as client:
        judge(case, client, case.act(client))
    with Http2(("127.0.0.1", server.port)) as other:
        assert other.get().body == b"hello\n"


def test_h2spec_is_complete() -> None:
    parts = [name.split("/")[0] for name in H2SPEC]
    assert {part: parts.count(part) for part in parts} == {"generic": 44, "http2": 95, "hpack": 8}
    assert set(H2SPEC.values()) - set(BY_NAME) == {PREFACE_CASE}
    assert not [name for name in H2SPEC.values() if name != PREFACE_CASE and BY_NAME[name].kind == "either"]


@pytest.mark.parametrize("number", [number for number, name in H2SPEC.items() if name != PREFACE_CASE])
def test_h2spec(server: Gateway, number: str) -> None:
    case = BY_NAME[H2SPEC[number]]
    with Http2(("127.0.0.1", server.tls_port), insecure_context(["h2"]), handshake=case.handshake) as client:
        judge(case, client, case.act(client))


def test_h2spec_invalid_preface(server: Gateway) -> None:
    """http2/3.5/2. Where HTTP/1.1 is spoken as well it is the one to refuse it."""
    bad = b"INVALID CONNECTION PREFACE\r\n\r\n"
    with Http2(("127.0.0.1", server.tls_port), insecure_context(["h2"]), handshake=False) as client:
        client.raw(bad)
        assert client.end() in (None, PROTOCOL_ERROR)
    with server.client() as plain:
        plain.send(bad)
        assert plain.response().status == 501
        assert plain.rest() == b""
