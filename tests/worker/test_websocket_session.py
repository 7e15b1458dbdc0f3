# SPDX-License-Identifier: MIT
"""The WebSocket frames of a session: what the gateway may send, and when (SPEC section 11)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from asgi_worker.protocol.codec import RequestDecoder, encode_accept
from asgi_worker.protocol.constants import (
    DATA_OVERHEAD,
    ERROR_BODY_ABORTED,
    ERROR_CLIENT_EOF,
    ERROR_CLIENT_GONE,
    ERROR_FLOW_CONTROL,
    ERROR_FRAME_SIZE,
    ERROR_PROTOCOL,
    FLAG_END_STREAM,
    FLAG_EXPECT,
    FLAG_MORE,
    FLAG_TEXT,
    FRAME_DATA,
    FRAME_DISCONNECT,
    FRAME_FILE_DONE,
    FRAME_REQUEST,
    FRAME_RESET,
    FRAME_WS_CLOSE,
    FRAME_WS_MSG,
    HEADER_SIZE,
)
from asgi_worker.protocol.events import (
    CloseReceived,
    Event,
    HeadInvalid,
    MessageReceived,
    RequestReceived,
)
from asgi_worker.protocol.frames import ProtocolError, frame
from asgi_worker.protocol.session import Session
from asgi_worker.protocol.stream import WebSocketStream
from peer import WINDOW, hello_ack, request_head

HEAD = request_head(kind=1, scheme="ws")


def new_session(**changes: Any) -> Session:
    session = Session(RequestDecoder())
    session.send_hello({"features": ["websocket"]})
    session.receive_data(hello_ack(features=["websocket"], **changes))
    session.send_ready()
    session.data_to_send()
    return session


def request(stream: int = 1, kind: int = 1, flags: int = 0) -> bytes:
    head = HEAD if kind else request_head()
    return frame(FRAME_REQUEST, head, stream=stream, flags=flags)


def message(payload: bytes, flags: int = 0, stream: int = 1) -> bytes:
    return frame(FRAME_WS_MSG, payload, flags=flags, stream=stream)


def accepted(**changes: Any) -> tuple[Session, WebSocketStream]:
    session = new_session(**changes)
    (event,) = session.receive_data(request())
    assert isinstance(event, RequestReceived)
    assert isinstance(event.stream, WebSocketStream)
    session.send_accept(event.stream, encode_accept(None, ()))
    session.data_to_send()
    return session, event.stream


def breach(session: Session, data: bytes) -> int:
    with pytest.raises(ProtocolError) as info:
        session.receive_data(data)
    return info.value.code


def data_of(events: list[Event]) -> list[str | bytes]:
    return [event.data for event in events if isinstance(event, MessageReceived)]


@pytest.mark.parametrize("how", ["end", "expect", "body"])
def test_head_with_a_body_is_malformed(how: str) -> None:
    session = new_session()
    if how == "body":
        data = frame(FRAME_REQUEST, HEAD + b"x", stream=1, aux=len(HEAD))
    else:
        data = request(flags=FLAG_END_STREAM if how == "end" else FLAG_EXPECT)
    (event,) = session.receive_data(data)
    assert isinstance(event, HeadInvalid)
    assert session.streams == {}


@pytest.mark.parametrize(
    "data",
    [
        message(b"x"),
        frame(FRAME_WS_CLOSE, code=1000, stream=1),
    ],
)
@pytest.mark.parametrize("kind", [0, 1])
def test_frames_before_accept_and_on_http(data: bytes, kind: int) -> None:
    session = new_session()
    session.receive_data(request(kind=kind))
    assert breach(session, data) == ERROR_PROTOCOL


@pytest.mark.parametrize(
    "data",
    [
        frame(FRAME_DATA, b"x", stream=1),
        frame(FRAME_DATA, flags=FLAG_END_STREAM, stream=1),
        frame(FRAME_RESET, code=ERROR_BODY_ABORTED, stream=1),
        frame(FRAME_DISCONNECT, code=ERROR_CLIENT_EOF, stream=1),
        frame(FRAME_FILE_DONE, stream=1),
        message(b"", FLAG_MORE),
        message(b"x", FLAG_END_STREAM),
        frame(FRAME_WS_CLOSE, code=999, stream=1),
        frame(FRAME_WS_CLOSE, code=5000, stream=1),
        message(b"\xff", FLAG_TEXT),
        message(b"\xed\xa0\x80", FLAG_TEXT),  # a surrogate
        message(b"\xe2\x82", FLAG_TEXT),
        message(b"a", FLAG_TEXT | FLAG_MORE) + message(b"b"),
        message(b"a", FLAG_MORE) + message(b"b", FLAG_TEXT | FLAG_MORE),
        message(b"\xe2", FLAG_TEXT | FLAG_MORE) + message(b"\x82", FLAG_TEXT),
    ],
)
@pytest.mark.parametrize("gone", [False, True])
def test_frames_that_a_websocket_does_not_have(data: bytes, gone: bool) -> None:
    session, stream = accepted()
    session.receive_data(message(b"before"))
    if gone and data[4] in (FRAME_DATA, FRAME_RESET, FRAME_DISCONNECT):
        session.receive_data(frame(FRAME_DISCONNECT, code=ERROR_CLIENT_GONE, stream=1))
        assert stream.gone
    assert breach(session, data) == ERROR_PROTOCOL


def test_close_with_a_long_reason() -> None:
    session, _ = accepted()
    long = frame(FRAME_WS_CLOSE, b"x" * 124, code=1000, stream=1)
    assert breach(session, long) == ERROR_FRAME_SIZE


@pytest.mark.parametrize("parts", [[11], [6, 5], [10, 1]])
def test_ws_max_message_is_the_bound(parts: list[int]) -> None:
    session, _ = accepted(ws_max_message=10)
    assert data_of(session.receive_data(message(b"x" * 10) + message(b"y" * 10))) == [
        b"x" * 10,
        b"y" * 10,
    ]
    for part in parts[:-1]:
        assert session.receive_data(message(b"x" * part, FLAG_MORE)) == []
    # the header condemns it: the payload is not waited for
    assert breach(session, message(b"x" * parts[-1])[:HEADER_SIZE]) == ERROR_PROTOCOL


def test_credit_is_the_bound() -> None:
    session, stream = accepted()
    session.receive_data(message(b"x" * (WINDOW - 2 * DATA_OVERHEAD), FLAG_MORE))
    assert stream.recv_left == DATA_OVERHEAD
    assert breach(session, message(b"x")[:HEADER_SIZE]) == ERROR_FLOW_CONTROL


def test_empty_messages_cost_and_are_told() -> None:
    session, stream = accepted()
    events = session.receive_data(message(b"") + message(b"", FLAG_TEXT))
    assert data_of(events) == [b"", ""]
    assert stream.recv_left == WINDOW - 2 * DATA_OVERHEAD
    stream.recv_left = DATA_OVERHEAD - 1
    assert breach(session, message(b"")) == ERROR_FLOW_CONTROL


def test_what_follows_the_end_is_dropped_and_counted() -> None:
    session, stream = accepted()
    close = frame(FRAME_WS_CLOSE, b"bye", code=1001, stream=1)
    events = session.receive_data(message(b"x", FLAG_MORE) + close + message(b"y") + close)
    assert events == [CloseReceived(stream, 1001, "bye")]
    assert session.dropped_frames == 2
    session.send_done(stream)
    assert session.receive_data(message(b"z") + close) == []
    assert session.dropped_frames == 4


def test_messages_behind_our_close_are_dropped() -> None:
    session, stream = accepted()
    session.receive_data(message(b"x", FLAG_MORE))
    session.send_close(stream, 1000, b"", done=False)
    assert session.receive_data(message(b"y", FLAG_MORE) + message(b"z")) == []
    assert session.receive_data(message(b"text", FLAG_TEXT)) == []
    assert len(stream.part) == 1
    assert breach(session, message(b"x" * 65520)) == ERROR_FLOW_CONTROL


def test_the_end_drops_what_waits_to_be_written() -> None:
    session, stream = accepted()
    for _ in range(3):
        session.send_message(stream, b"x" * 16384, FLAG_MORE)
    session.receive_data(frame(FRAME_DISCONNECT, code=ERROR_CLIENT_GONE, stream=1))
    assert not session.wants_write
    assert session.out_bytes == 0


def test_close_does_not_overtake_messages() -> None:
    session, stream = accepted()
    session.send_message(stream, b"x" * 10000, 0)
    session.send_close(stream, 1000, b"bye", done=True)
    wire = b"".join(bytes(part) for part in session.data_to_send())
    assert [wire[4], wire[HEADER_SIZE + 10000 + 4]] == [FRAME_WS_MSG, FRAME_WS_CLOSE]
    assert session.streams == {}


def test_any_division_into_frames_and_reads_is_the_same_message() -> None:
    rng = random.Random(7)
    for _ in range(200):
        session, stream = accepted(ws_max_message=60000)
        wanted: list[str | bytes] = []
        wire = b""
        for _ in range(rng.randrange(1, 5)):
            text = rng.random() < 0.5
            body = "".join(rng.choices("a\u00e9\u20ac\U0001f600", k=rng.randrange(50)))
            data = body.encode()
            wanted.append(body if text else data)
            flags = FLAG_TEXT if text else 0
            while len(data) > 1 and rng.random() < 0.7:
                cut = rng.randrange(1, len(data))
                wire += message(data[:cut], flags | FLAG_MORE)
                data = data[cut:]
            wire += message(data, flags)
        got: list[str | bytes] = []
        cost = 0
        while wire:
            size = rng.randrange(1, 40)
            for event in session.receive_data(wire[:size]):
                assert isinstance(event, MessageReceived)
                got.append(event.data)
                cost += event.cost
            wire = wire[size:]
        assert got == wanted
        assert cost == WINDOW - stream.recv_left
        assert (stream.part, stream.part_cost, stream.text) == (b"", 0, None)
