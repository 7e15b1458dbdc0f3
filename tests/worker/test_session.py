# SPDX-License-Identifier: MIT
"""protocol/session.py: what the gateway may send, and what it costs it when it may not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from asgi_worker.protocol.codec import RequestDecoder
from asgi_worker.protocol.constants import (
    ERROR_BODY_ABORTED,
    ERROR_CLIENT_EOF,
    ERROR_CLIENT_GONE,
    ERROR_DEADLINE,
    ERROR_DRAINING,
    ERROR_FLOW_CONTROL,
    ERROR_FRAME_SIZE,
    ERROR_HEADER_INVALID,
    ERROR_PROTOCOL,
    ERROR_REFUSED,
    FLAG_DONE,
    FLAG_END_STREAM,
    FLAG_EXPECT,
    FRAME_CHANNEL_ERROR,
    FRAME_CONN,
    FRAME_CONN_END,
    FRAME_DATA,
    FRAME_DISCONNECT,
    FRAME_DONE,
    FRAME_FILE_DONE,
    FRAME_GOAWAY,
    FRAME_HELLO,
    FRAME_HELLO_ACK,
    FRAME_LOG,
    FRAME_PING,
    FRAME_PONG,
    FRAME_READY,
    FRAME_REFUSED,
    FRAME_REQUEST,
    FRAME_RESET,
    FRAME_RESPONSE,
    FRAME_RULES,
    FRAME_STATS,
    FRAME_TRAILERS,
    FRAME_WINDOW,
    FRAME_WS_MSG,
    MAX_STREAM_ID,
    MAX_WINDOW,
)
from asgi_worker.protocol.events import (
    AckReceived,
    ChannelErrorReceived,
    CreditReceived,
    DataReceived,
    Disconnected,
    GoawayReceived,
    HeadInvalid,
    RequestReceived,
    StreamReset,
)
from asgi_worker.protocol.frames import HEADER, ProtocolError, check_header, frame
from asgi_worker.protocol.msgpack import packb
from asgi_worker.protocol.session import Session
from peer import hello_ack, request_head

HEAD = request_head()
CONN = packb({"client_cert_chain": [], "client_cert_name": None, "client_cert_error": None})


def request(stream: int = 1, flags: int = FLAG_END_STREAM, **more: Any) -> bytes:
    return frame(FRAME_REQUEST, more.pop("payload", HEAD), flags=flags, stream=stream, **more)


def fresh(**ack: Any) -> Session:
    """A session after its handshake and READY."""
    session = Session(RequestDecoder())
    session.send_hello({"features": ["files"]})
    (event,) = session.receive_data(hello_ack(**ack))
    assert isinstance(event, AckReceived)
    session.send_ready()
    session.data_to_send()
    return session


def sent(session: Session) -> list[tuple[int, int, int, int, int, bytes]]:
    """Return what would be written: (type, flags, code, stream, aux, payload)."""
    data = b"".join(session.data_to_send())
    result = []
    while data:
        length, kind, flags, code, stream, aux = HEADER.unpack_from(data)
        check_header(length, kind, flags, code, stream, aux, from_gateway=False)
        result.append((kind, flags, code, stream, aux, data[16 : 16 + length]))
        data = data[16 + length :]
    return result


def breach(session: Session, data: bytes) -> int:
    with pytest.raises(ProtocolError) as info:
        session.receive_data(data)
    return info.value.code


def opened(session: Session, stream: int = 1, **more: Any) -> Any:
    (event,) = session.receive_data(request(stream, **more))
    assert isinstance(event, RequestReceived)
    return event.stream


# Headers


def test_every_byte_split_gives_the_same_events() -> None:
    data = (
        request(1) + request(2, flags=0) + frame(FRAME_DATA, b"abc", stream=2)
        + frame(FRAME_PING, aux=5) + frame(200, b"???", flags=255, code=9, stream=4, aux=1)
        + frame(FRAME_DATA, b"", flags=FLAG_END_STREAM, stream=2)
        + frame(FRAME_DISCONNECT, code=ERROR_CLIENT_EOF, stream=2)
    )  # fmt: skip
    whole = [type(e) for e in fresh().receive_data(data)]
    assert len(whole) == 5
    for size in (1, 2, 3, 15, 16, 17, 100):
        session = fresh()
        kinds = []
        for i in range(0, len(data), size):
            kinds += [type(e) for e in session.receive_data(data[i : i + size])]
        assert kinds == whole


@pytest.mark.parametrize("kind", sorted(FRAME_RULES))
def test_frames_that_only_a_worker_sends(kind: int) -> None:
    rule = FRAME_RULES[kind]
    if rule.from_gateway:
        return
    session = fresh()
    opened(session)
    data = frame(kind, b"x" * max(rule.min_length, 0), stream=int(rule.on_stream))
    if kind in (FRAME_STATS, FRAME_LOG):  # dropped, like an unknown one
        assert session.receive_data(data) == []
    else:
        assert breach(session, data) == ERROR_PROTOCOL


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0), ERROR_PROTOCOL),
        (frame(99), ERROR_PROTOCOL),
        (frame(127), ERROR_PROTOCOL),
        (HEADER.pack(70000, FRAME_DATA, 0, 0, 1, 0), ERROR_FRAME_SIZE),
        (HEADER.pack(70000, 250, 0, 0, 1, 0), ERROR_FRAME_SIZE),
        (HEADER.pack(2000, FRAME_GOAWAY, 0, ERROR_DRAINING, 0, 0), ERROR_FRAME_SIZE),
        (HEADER.pack(1, FRAME_PING, 0, 0, 0, 0), ERROR_FRAME_SIZE),
        (frame(FRAME_PING, flags=1), ERROR_PROTOCOL),
        (frame(FRAME_PING, code=1), ERROR_PROTOCOL),
        (frame(FRAME_PING, stream=1), ERROR_PROTOCOL),
        (frame(FRAME_REQUEST, HEAD, stream=0), ERROR_PROTOCOL),
        (request(2, flags=64), ERROR_PROTOCOL),
        (request(2, flags=FLAG_DONE), ERROR_PROTOCOL),
        (request(2, code=200), ERROR_PROTOCOL),
        (request(2, aux=len(HEAD) + 1), ERROR_PROTOCOL),
        (request(2, flags=FLAG_EXPECT | FLAG_END_STREAM), ERROR_PROTOCOL),
        (request(2, flags=FLAG_EXPECT, payload=HEAD + b"x", aux=len(HEAD)), ERROR_PROTOCOL),
        (request(2, payload=b""), ERROR_PROTOCOL),
        (request(2, payload=HEAD + b"x" * 16385, aux=len(HEAD)), ERROR_PROTOCOL),
        (request(MAX_STREAM_ID + 1), ERROR_PROTOCOL),
        (request(1), ERROR_PROTOCOL),
        (frame(FRAME_WINDOW, stream=1, aux=0), ERROR_PROTOCOL),
        (frame(FRAME_WINDOW, stream=1, aux=MAX_WINDOW), ERROR_FLOW_CONTROL),
        (frame(FRAME_WINDOW, stream=9, aux=1), ERROR_PROTOCOL),
        (frame(FRAME_DATA, b"x", stream=9), ERROR_PROTOCOL),
        (frame(FRAME_DATA, b"x", stream=1), ERROR_PROTOCOL),  # request 1 has ended
        (frame(FRAME_RESET, stream=9, code=ERROR_DEADLINE), ERROR_PROTOCOL),
        (frame(FRAME_RESET, stream=1, code=99), ERROR_PROTOCOL),
        (frame(FRAME_RESET, stream=1, code=0), ERROR_PROTOCOL),
        (frame(FRAME_RESET, stream=1, code=ERROR_DEADLINE, flags=FLAG_DONE), ERROR_PROTOCOL),
        (frame(FRAME_DISCONNECT, stream=1, code=ERROR_DEADLINE), ERROR_PROTOCOL),
        (frame(FRAME_FILE_DONE, stream=1), ERROR_PROTOCOL),
        (frame(FRAME_WS_MSG, b"x", stream=1), ERROR_PROTOCOL),
        (frame(FRAME_CONN, CONN, aux=0), ERROR_PROTOCOL),
        (frame(FRAME_CONN, b"\xc0", aux=1), ERROR_PROTOCOL),
        (frame(FRAME_CONN, CONN, aux=1) * 2, ERROR_PROTOCOL),
        (frame(FRAME_CONN_END, aux=5), ERROR_PROTOCOL),
        (hello_ack(), ERROR_PROTOCOL),
        (frame(FRAME_GOAWAY, code=ERROR_DEADLINE), ERROR_PROTOCOL),
        (
            frame(FRAME_GOAWAY, code=ERROR_DRAINING, aux=5)
            + frame(FRAME_GOAWAY, code=ERROR_DRAINING, aux=6),
            ERROR_PROTOCOL,
        ),
        (frame(FRAME_GOAWAY, code=ERROR_DRAINING, aux=5) + request(6), ERROR_PROTOCOL),
    ],
)
def test_breaches_close_the_link(data: bytes, code: int) -> None:
    session = fresh()
    opened(session)
    assert breach(session, data) == code


def test_a_condemned_header_is_not_waited_for() -> None:
    for header in (
        HEADER.pack(60000, 99, 0, 0, 1, 0),
        HEADER.pack(60000, FRAME_RESPONSE, 0, 200, 1, 0),
        HEADER.pack(60000, FRAME_DATA, 0, 0, 9, 0),  # an id that was never opened
        HEADER.pack(60000, FRAME_DATA, 0, 0, 1, 0),  # after END_STREAM
        HEADER.pack(60000, FRAME_REQUEST, 0, 0, 1, 0),  # an id that was used
    ):
        session = fresh()
        opened(session)
        assert breach(session, header) == ERROR_PROTOCOL
    session = fresh()
    opened(session, flags=0)
    session.receive_data(frame(FRAME_DATA, b"x" * 10000, stream=1))
    assert breach(session, HEADER.pack(60000, FRAME_DATA, 0, 0, 1, 0)) == ERROR_FLOW_CONTROL


# Handshake


@pytest.mark.parametrize(
    "data",
    [
        frame(FRAME_PING), request(1), frame(200), frame(FRAME_GOAWAY, code=ERROR_DRAINING),
        hello_ack(proto=2), hello_ack(features=["telephone"]), hello_ack(window=40000),
        frame(FRAME_HELLO_ACK, b"\xc0"), frame(FRAME_HELLO_ACK, b"\xdd\x01\0\0\0"),
    ],
)  # fmt: skip
def test_anything_but_a_good_hello_ack(data: bytes) -> None:
    session = Session(RequestDecoder())
    session.send_hello({"features": ["files"]})
    assert breach(session, data) == ERROR_PROTOCOL


def test_request_before_ready() -> None:
    session = Session(RequestDecoder())
    session.send_hello({"features": []})
    session.receive_data(hello_ack())
    assert breach(session, request(1)) == ERROR_PROTOCOL


def test_channel_error_instead_of_hello_ack() -> None:
    session = Session(RequestDecoder())
    session.send_hello({"features": []})
    text = "versions 2 to 3 here, 1 there"
    data = frame(FRAME_CHANNEL_ERROR, text.encode(), code=12) + frame(99)
    assert session.receive_data(data) == [ChannelErrorReceived(12, text)]


def test_hello_and_ready() -> None:
    session = Session(RequestDecoder())
    session.send_hello({"features": []})
    assert [f[0] for f in sent(session)] == [FRAME_HELLO]
    session.receive_data(hello_ack() + frame(FRAME_PING, aux=3))
    session.send_ready()
    assert [f[0] for f in sent(session)] == [FRAME_PONG, FRAME_READY]


# Streams


def test_gaps_between_ids_are_closed_ids() -> None:
    session = fresh()
    opened(session, 5)
    assert session.receive_data(frame(FRAME_WINDOW, stream=3, aux=1)) == []
    assert session.dropped_frames == 1


def test_malformed_head_costs_one_stream() -> None:
    session = fresh()
    (event,) = session.receive_data(request(1, payload=b"\xdd\x01\0\0\0"))
    assert isinstance(event, HeadInvalid)
    assert sent(session) == [(FRAME_RESET, FLAG_DONE, ERROR_HEADER_INVALID, 1, 0, b"")]
    opened(session, 2)


def test_a_connection_id_that_is_not_open_is_refused() -> None:
    session = fresh()
    assert session.receive_data(request(1, payload=request_head(tls=[771, 1, 9]))) == []
    assert sent(session) == [(FRAME_REFUSED, 0, ERROR_REFUSED, 1, 0, b"")]
    session.receive_data(frame(FRAME_CONN, CONN, aux=9))
    (event,) = session.receive_data(request(2, payload=request_head(tls=[771, 1, 9])))
    assert isinstance(event, RequestReceived)


@pytest.mark.parametrize("kind", [1, 7])
def test_kinds_that_are_not_offered_cost_one_stream(kind: int) -> None:
    session = fresh()
    (event,) = session.receive_data(request(1, flags=0, payload=request_head(kind=kind)))
    assert isinstance(event, HeadInvalid)
    assert sent(session) == [(FRAME_RESET, FLAG_DONE, ERROR_HEADER_INVALID, 1, 0, b"")]


def test_body_frames_and_their_credit() -> None:
    session = fresh()
    stream = opened(session, flags=0, payload=HEAD + b"abc", aux=len(HEAD))
    assert stream.recv_left == 65536 - 19
    (event,) = session.receive_data(frame(FRAME_DATA, b"de", stream=1))
    assert event == DataReceived(stream, b"de", False)
    assert stream.recv_left == 65536 - 19 - 18
    assert not session.consumed(stream, 19)
    room = stream.recv_left - 16
    session.receive_data(frame(FRAME_DATA, b"x" * room, stream=1))
    assert stream.recv_left == 0
    assert breach(session, frame(FRAME_DATA, b"y", stream=1)) == ERROR_FLOW_CONTROL


def test_body_of_no_bytes_behind_the_head_costs_nothing() -> None:
    session = fresh()
    stream = opened(session, flags=0, aux=len(HEAD))
    assert stream.recv_left == 65536


def test_window_at_half_or_when_the_peer_is_at_zero() -> None:
    session = fresh()
    stream = opened(session, flags=0)
    session.receive_data(frame(FRAME_DATA, b"x" * 20000, stream=1))
    assert not session.consumed(stream, 20016)
    session.receive_data(frame(FRAME_DATA, b"x" * 20000, stream=1))
    assert session.consumed(stream, 20016)
    assert sent(session) == [(FRAME_WINDOW, 0, 0, 1, 40032, b"")]
    assert stream.recv_left == 65536
    session.receive_data(frame(FRAME_DATA, b"x" * 100, stream=1))
    session.receive_data(frame(FRAME_DATA, b"x" * (65536 - 116 - 32), stream=1))
    assert stream.recv_left == 16
    assert session.consumed(stream, 116)  # little, but the gateway cannot send a byte
    assert stream.recv_left == 132


def test_expect_starts_at_zero() -> None:
    session = fresh()
    stream = opened(session, flags=FLAG_EXPECT)
    assert (stream.expect, stream.recv_left) == (True, 0)
    assert session.open_window(stream)
    assert sent(session) == [(FRAME_WINDOW, 0, 0, 1, 65536, b"")]
    session = fresh()
    opened(session, flags=FLAG_EXPECT)
    assert breach(session, frame(FRAME_DATA, b"x", stream=1)) == ERROR_FLOW_CONTROL


def test_disconnects() -> None:
    session = fresh()
    stream = opened(session)
    eof = frame(FRAME_DISCONNECT, stream=1, code=ERROR_CLIENT_EOF)
    gone = frame(FRAME_DISCONNECT, stream=1, code=ERROR_CLIENT_GONE)
    assert session.receive_data(eof + eof) == [Disconnected(stream, ERROR_CLIENT_EOF)]
    assert session.receive_data(gone + gone + eof) == [Disconnected(stream, ERROR_CLIENT_GONE)]
    assert session.dropped_frames == 3
    session = fresh()
    opened(session, flags=0)
    assert breach(session, eof) == ERROR_PROTOCOL  # half-closed inside the body


def test_resets() -> None:
    session = fresh()
    stream = opened(session, flags=0)
    aborted = frame(FRAME_RESET, stream=1, code=ERROR_BODY_ABORTED)
    assert session.receive_data(aborted + aborted) == [StreamReset(stream, ERROR_BODY_ABORTED)]
    assert not stream.gone
    deadline = frame(FRAME_RESET, stream=1, code=ERROR_DEADLINE)
    assert session.receive_data(deadline + deadline) == [StreamReset(stream, ERROR_DEADLINE)]
    assert stream.gone
    session.send_reset(stream, 9, done=False)
    assert sent(session) == []
    session.send_reset(stream, 9, done=True)
    assert sent(session) == [(FRAME_DONE, 0, 0, 1, 0, b"")]


def test_after_done_everything_is_dropped() -> None:
    session = fresh()
    stream = opened(session, flags=0)
    session.send_response(stream, 200, b"\x91\xc4\0", b"", FLAG_END_STREAM | FLAG_DONE)
    assert not session.streams
    late = (
        frame(FRAME_DATA, b"x", stream=1) + frame(FRAME_WINDOW, stream=1, aux=5)
        + frame(FRAME_RESET, stream=1, code=ERROR_DEADLINE)
        + frame(FRAME_DISCONNECT, stream=1, code=ERROR_CLIENT_GONE)
    )  # fmt: skip
    assert session.receive_data(late) == []
    assert session.dropped_frames == 4


def test_credit_received() -> None:
    session = fresh()
    stream = opened(session)
    session.send_response(stream, 200, b"\x91\xc4\0", b"x" * 100, 0)
    assert stream.send_credit == 65536 - 116
    assert session.receive_data(frame(FRAME_WINDOW, stream=1, aux=116)) == [CreditReceived(stream)]
    assert stream.send_credit == 65536
    session.send_data(stream, b"", FLAG_END_STREAM)
    assert session.receive_data(frame(FRAME_WINDOW, stream=1, aux=116)) == []  # R74


# Channel


def test_one_pong_for_the_latest_ping() -> None:
    session = fresh()
    session.receive_data(frame(FRAME_PING, aux=1) + frame(FRAME_PING, aux=2))
    assert sent(session) == [(FRAME_PONG, 0, 0, 0, 2, b"")]
    assert not session.wants_write
    assert session.receive_data(frame(FRAME_PONG, aux=1)) == []


def test_goaway_from_the_gateway() -> None:
    session = fresh()
    stream = opened(session, 4)
    (event,) = session.receive_data(frame(FRAME_GOAWAY, b"bye", code=ERROR_DRAINING, aux=4))
    assert event == GoawayReceived(ERROR_DRAINING, 4, "bye")
    assert session.going_away
    assert session.streams[4] is stream


def test_goaway_from_the_worker_drops_what_is_above() -> None:
    session = fresh()
    opened(session, 4, flags=0)
    session.send_goaway("stop")
    session.send_goaway("stop again")
    assert sent(session) == [(FRAME_GOAWAY, 0, ERROR_DRAINING, 0, 4, b"stop")]
    assert session.receive_data(request(5, flags=0) + frame(FRAME_DATA, b"x", stream=5)) == []
    (event,) = session.receive_data(frame(FRAME_DATA, b"x", stream=4))
    assert isinstance(event, DataReceived)


def test_limit_stops_between_requests_and_goes_on() -> None:
    session = fresh()
    data = b"".join(request(i) for i in range(1, 11)) + frame(FRAME_PING, aux=1)
    first = session.receive_data(data, 4)
    assert [e.stream.id for e in first] == [1, 2, 3, 4]  # type: ignore[union-attr]
    assert session.backlog
    second = session.receive_data(b"", 4)
    assert [e.stream.id for e in second] == [5, 6, 7, 8]  # type: ignore[union-attr]
    third = session.receive_data(request(11), 4)
    assert [e.stream.id for e in third] == [9, 10, 11]  # type: ignore[union-attr]
    assert not session.backlog


def test_control_overtakes_data_and_streams_take_turns() -> None:
    session = fresh()
    one, two, three = (opened(session, i) for i in (1, 2, 3))
    for stream in (one, two):
        session.send_response(stream, 200, b"\x91\xc4\0", b"", 0)
    sent(session)
    for stream in (one, two):
        session.send_data(stream, b"a" * 16384, 0)
        session.send_data(stream, b"b" * 16384, 0)
    session.send_trailers(one, b"\x91\xc4\0", FLAG_DONE)  # must stay behind its own DATA
    session.send_response(three, 204, b"\x91\xc4\0", b"", FLAG_END_STREAM | FLAG_DONE)
    order = [(f[0], f[3]) for f in sent(session)]
    assert order == [
        (FRAME_RESPONSE, 3), (FRAME_DATA, 1), (FRAME_DATA, 2), (FRAME_DATA, 1), (FRAME_DATA, 2),
        (FRAME_TRAILERS, 1),
    ]  # fmt: skip


def test_queued_data_of_a_stream_that_is_gone_is_not_sent() -> None:
    session = fresh()
    stream = opened(session)
    session.send_response(stream, 200, b"\x91\xc4\0", b"", 0)
    sent(session)
    session.send_data(stream, b"a" * 16384, 0)
    session.receive_data(frame(FRAME_DISCONNECT, stream=1, code=ERROR_CLIENT_GONE))
    assert session.out_bytes == 0
    assert sent(session) == []


def test_texts_are_cut_where_the_rule_says() -> None:
    session = fresh()
    session.send_channel_error(15, "first line\n" + "ü" * 40000 + "last line")
    ((_, _, _, _, _, payload),) = sent(session)
    assert len(payload) <= 32768
    assert payload.decode().endswith("last line")
    session.send_goaway("ä" * 2000)
    ((_, _, _, _, _, payload),) = sent(session)
    assert len(payload) <= 1024
    assert set(payload.decode()) == {"ä"}


def test_random_frames_raise_nothing_but_protocol_errors() -> None:
    generator = random.Random(3)
    kinds = [*FRAME_RULES, 0, 77, 200]
    for _ in range(3000):
        session = fresh()
        try:
            for _ in range(20):
                kind = generator.choice(kinds)
                payload = generator.choice([b"", HEAD, b"x" * 10, CONN, b"\xc0"])
                data = frame(
                    kind, payload, flags=generator.choice([0, 0, 1, 32, 16, 255]),
                    code=generator.choice([0, 0, 17, 20, 21, 8, 200]),
                    stream=generator.choice([0, 1, 2, 3]),
                    aux=generator.choice([0, 0, 1, len(HEAD), 70000]),
                )  # fmt: skip
                for event in session.receive_data(data):
                    if isinstance(event, RequestReceived) and generator.random() < 0.5:
                        session.send_response(
                            event.stream, 200, b"\x91\xc4\0", b"x", FLAG_END_STREAM | FLAG_DONE
                        )
        except ProtocolError:
            pass
        sent(session)
