# SPDX-License-Identifier: MIT
"""Every case of http3_cases.py and http3_message_cases.py against the real gateway: each fault has its code, and the
gateway goes on: after each case another connection is served.

EXCEPTIONS names every case that ends with another code than the one that the RFC names, and why.
"""

from collections.abc import Iterator

import http3_cases
import http3_message_cases
import pytest
from harness.gateway import Gateway
from harness.http3 import FRAME_ERROR, FRAME_UNEXPECTED, HEADERS, Answer, Http3, block, frame, request
from harness.quic import EARLY, PROTOCOL_VIOLATION, Closing, Ended, join

# Name of the case: the codes that are taken in its place, and why.
EXCEPTIONS: dict[str, tuple[tuple[int, ...], str]] = {
    "16 RESET_STREAM of a send-only stream (19.4)": (
        (PROTOCOL_VIOLATION,),
        "the library's generic code, which RFC 9000 section 11 allows (and h3spec takes)",
    ),
    "MAX_PUSH_ID that shrinks (7.2.7)": ((FRAME_ERROR,), "the library's code; there is no push"),
    "CANCEL_PUSH of a push that never was (7.2.3)": ((FRAME_UNEXPECTED,), "the library's code; there is no push"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("http3"), quic=True, log={"level": "info"}, http3={"early_data": True})
    try:
        gateway.start()
        gateway.start_workers(1)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def served(server: Gateway) -> None:
    with Http3(server.quic_address) as other:
        assert other.get().body == b"hello\n"


def codes_of(case: http3_cases.Case | http3_message_cases.Case) -> tuple[int, ...]:
    return EXCEPTIONS.get(case.name, (case.codes, ""))[0]


@pytest.mark.parametrize("case", http3_cases.CASES, ids=[case.name for case in http3_cases.CASES])
def test_quic(server: Gateway, case: http3_cases.Case) -> None:
    options = dict(case.options)
    connect = options.pop("connect", True)
    with Http3(server.quic_address, connect=connect, establish=False, **options) as client:
        case.act(client)
        if not connect:
            client.connect()
        client.flush()
        closing = client.expect_closed()
        assert not closing.application and closing.code in codes_of(case), closing
        if case.early:
            assert not client.answers, "a request of a connection with a broken handshake was answered"
    served(server)


def test_crypto_in_early_data(server: Gateway) -> None:
    """Case 34 of h3spec's list (RFC 9001 8.3)."""
    with Http3(server.quic_address) as first:
        first.pump(lambda: first.tickets, "a session ticket")
    with Http3(server.quic_address, ticket=first.tickets[0], establish=False) as client:
        client.flush()
        assert client.quic._cryptos[EARLY].send.is_valid(), "the ticket does not allow early data"
        client.send_raw(client.seal(join(0x06, 0, 6, b"\x08\x00\x00\x02\x00\x00"), EARLY))
        closing = client.expect_closed()
    assert not closing.application and closing.code == PROTOCOL_VIOLATION, closing
    served(server)


def outcome(client: Http3, stream: int | None) -> Answer | Closing:
    """What became of the stream, or the connection's end."""
    if stream is None:
        return client.expect_closed()
    try:
        return client.answer(stream)
    except Ended as ended:
        return ended.closing


def judge(case: http3_message_cases.Case, client: Http3, result: Answer | Closing) -> None:
    codes = codes_of(case)
    if isinstance(result, Closing):
        assert case.kind in ("connection", "message", "status"), result
        assert result.by_peer and result.application and result.code in codes, result
        return
    if case.kind == "message":
        assert result.reset in codes, f"{result}"
    elif case.kind == "status":
        assert result.status in codes or result.reset in codes, f"{result}"
    elif case.kind == "fine":
        assert result.status == 200 and result.ended, f"{result}"
    else:  # an answer that was under way when the fault was seen
        closing = client.expect_closed()
        assert closing.application and closing.code in codes, closing
        return
    client.ping()


@pytest.mark.parametrize("case", http3_message_cases.CASES, ids=[case.name for case in http3_message_cases.CASES])
def test_http3(server: Gateway, case: http3_message_cases.Case) -> None:
    with Http3(server.quic_address, **case.options) as client:
        stream = case.act(client)
        judge(case, client, outcome(client, stream))
    served(server)


@pytest.mark.parametrize("name", ["x a", "", "x\x00a", "x(a"])
def test_fields_with_impossible_names(server: Gateway, name: str) -> None:
    """The library drops such a field where RFC 9114 10.3 calls the whole request malformed: no app ever sees it,
    in no form."""
    with Http3(server.quic_address) as client:
        stream = client.open_raw(frame(HEADERS, block([*request("/scope"), (name, "sought"), ("x-b", "kept")])))
        result = outcome(client, stream)
        if isinstance(result, Answer) and result.reset is None and result.status == 200:
            assert b"sought" not in result.body and b"kept" in result.body
    served(server)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\x00b", " a", "a "])
def test_fields_with_impossible_values(server: Gateway, value: str) -> None:
    with Http3(server.quic_address) as client:
        stream = client.open_raw(frame(HEADERS, block([*request("/scope"), ("x-a", value), ("x-b", "kept")])))
        result = outcome(client, stream)
        if isinstance(result, Answer) and result.reset is None and result.status == 200:
            assert b'"x-a"' not in result.body or value.strip() == "a", bytes(result.body)
    served(server)
