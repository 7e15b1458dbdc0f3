# SPDX-License-Identifier: MIT
"""protocol/ against whatever a gateway or an application could say, made up by hypothesis.

What is written is read again as it was; bytes are judged alike however they are cut; and
nothing that comes from outside raises anything but the protocol's own errors.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from typing import Any

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_worker.protocol.codec import (
    HeadError,
    RequestDecoder,
    ResponseEncoder,
    check_headers,
    decode_conn,
    decode_fields,
    decode_hello_ack,
    decode_map,
    encode_field_array,
    encode_fields,
)
from asgi_worker.protocol.constants import (
    ERROR_NAMES,
    FLAG_END_STREAM,
    FLAG_EXPECT,
    FRAME_CONN,
    FRAME_CONN_END,
    FRAME_DATA,
    FRAME_GOAWAY,
    FRAME_PING,
    FRAME_REQUEST,
    FRAME_RULES,
    FRAME_WINDOW,
    MAP_CONN,
    MAP_EXTENSIONS,
    MAP_HELLO_ACK,
    MAP_STATS,
)
from asgi_worker.protocol.events import AckReceived, RequestReceived
from asgi_worker.protocol.frames import HEADER, ProtocolError, check_header, frame
from asgi_worker.protocol.msgpack import MsgpackError, packb, unpackb
from asgi_worker.protocol.session import Session
from peer import hello_ack, parse_block, request_head

# The same examples in every run; with EXAMPLES=5000 in the environment new ones, and more of them.
EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
settings.register_profile(
    "gatewayd",
    max_examples=EXAMPLES or 150,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("gatewayd")

# Values of the subset

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts | st.binary(max_size=300)
)


def nested(depth: int) -> st.SearchStrategy[Any]:
    if depth == 0:
        return scalars
    inner = nested(depth - 1)
    return scalars | st.lists(inner, max_size=20) | st.dictionaries(texts, inner, max_size=18)


values = nested(4)


@given(values)
def test_values_come_back(value: Any) -> None:
    data = packb(value)
    assert unpackb(data) == value
    for rest in (b"\xc0", data):
        with pytest.raises(MsgpackError):
            unpackb(data + rest)
    with pytest.raises(MsgpackError):
        unpackb(data[:-1])


@given(values)
def test_another_reader_and_writer_agree(value: Any) -> None:
    other = pytest.importorskip("msgpack")
    data = packb(value)
    assert other.unpackb(data, strict_map_key=True) == value
    assert other.packb(value) == data
    assert unpackb(other.packb(value)) == value


@given(st.binary(max_size=64))
def test_any_bytes_as_msgpack(data: bytes) -> None:
    try:
        value = unpackb(data)
    except MsgpackError:
        return
    assert unpackb(packb(value)) == value


@st.composite
def spoilt(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were right before a few of them were changed, dropped or added."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        action = draw(st.sampled_from(["set", "drop", "add"]))
        if action == "add" or not data:
            data[at:at] = draw(st.binary(min_size=1, max_size=4))
        elif action == "drop":
            del data[at]
        else:
            data[at] = draw(st.integers(0, 255))
    return bytes(data)


@given(spoilt(values.map(packb)))
def test_spoilt_msgpack(data: bytes) -> None:
    try:
        value = unpackb(data)
    except MsgpackError:
        return
    assert unpackb(packb(value)) == value


# Field blocks

names = st.text("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=20)
field_names = names.map(str.encode)
field_values = st.lists(
    st.integers(0x20, 0xFF).filter(lambda b: b != 0x7F) | st.just(9), max_size=60
).map(bytes)
fields = st.lists(st.tuples(field_names, field_values), max_size=20)


@given(fields)
def test_fields_come_back(given_fields: list[tuple[bytes, bytes]]) -> None:
    block = encode_fields(given_fields)
    assert decode_fields(block) == given_fields
    assert unpackb(encode_field_array(given_fields)) == [block]


@given(st.binary(max_size=60) | spoilt(fields.map(encode_fields)))
def test_any_bytes_as_fields(block: bytes) -> None:
    try:
        found = decode_fields(block)
    except HeadError:
        return
    assert encode_fields(found) == block
    for name, value in found:
        assert name and not set(name) - set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
        assert not any((byte < 0x20 and byte != 9) or byte == 0x7F for byte in value)


# What applications say of their responses

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=8,
)
raw_headers = st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=5)
usual_headers = st.lists(
    st.tuples(
        st.sampled_from(
            [b"Content-Length", b"X-A", b"set-cookie", b"Transfer-Encoding", b"trailer"]
        ),
        st.integers(0, 12).map(lambda n: b"%d" % n) | field_values,
    ),
    max_size=6,
)


@given(raw_headers | usual_headers | anything | st.lists(st.tuples(anything, anything), max_size=3))
def test_any_response_headers(headers: Any) -> None:
    """Either the application is told, or what goes out is legal and says what it said."""
    encoder = ResponseEncoder()
    try:
        head = encoder.encode(headers)
    except (TypeError, ValueError):
        with pytest.raises((TypeError, ValueError)):  # never taken the second time
            encoder.encode(headers)
        return
    assert encoder.encode(headers).payload == head.payload
    (block,) = unpackb(head.payload)
    found = parse_block(block)
    assert found == decode_fields(block)  # by the rules of what the gateway would send, too
    lengths = [value for name, value in found if name == b"content-length"]
    assert lengths == ([] if head.content_length is None else lengths[:1])
    said = [f for f in check_headers(headers) if f[0] != b"transfer-encoding"]
    assert [f for f in found if f[0] != b"content-length"] == [
        f for f in said if f[0] != b"content-length"
    ]


# REQUEST heads

ports = st.integers(0, 65535).map(lambda n: b"%d" % n)
hosts = st.binary(max_size=20).filter(lambda host: b"\0" not in host)
addresses = st.tuples(hosts, ports).map(b"\0".join)
words = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ-", min_size=1, max_size=40)
extensions = st.fixed_dictionaries(
    {},
    optional={
        "trailers": st.booleans(),
        "early_hints": st.booleans(),
        "priority": st.tuples(st.integers(0, 7), st.booleans()).map(list),
        "early_data": st.booleans(),
        "unknown": nested(2),
    },
)
request_parts = st.fixed_dictionaries(
    {
        "method": words | st.sampled_from(["GET", "POST"]),
        "path": texts.map(lambda text: "/" + text),
        "version": st.sampled_from(["1.0", "1.1", "2", "3"]),
        "scheme": st.sampled_from(["http", "https"]),
        "raw_path": st.none() | st.binary(max_size=300),
        "query": st.binary(max_size=300),
        "root_path": texts,
        "client": st.none() | addresses,
        "server": addresses | hosts.map(lambda host: host + b"\0"),
        "fields": fields,
        "tls": st.none()
        | st.tuples(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 2**32 - 1)).map(
            list
        ),
        "extensions": st.none() | extensions,
    }
)
# One decoder for all examples: what it remembers of one head must not colour another.
shared_decoder = RequestDecoder()


def address(data: bytes | None) -> tuple[str, int | None] | None:
    if data is None:
        return None
    host, port = data.split(b"\0")
    return host.decode("utf-8", "surrogateescape"), int(port) if port else None


@given(request_parts)
def test_requests_come_back(parts: dict[str, Any]) -> None:
    data = request_head(**parts)
    raw_path = parts["raw_path"]
    expected = (
        0, parts["method"], parts["version"], parts["scheme"], parts["path"],
        parts["path"].encode() if raw_path is None else raw_path, parts["query"],
        parts["root_path"], address(parts["client"]), address(parts["server"]), parts["fields"],
        None if parts["tls"] is None else tuple(parts["tls"]), parts["extensions"],
    )  # fmt: skip
    for decoder in (RequestDecoder(), shared_decoder):
        for _ in range(3):
            assert decoder.decode(data) == expected


@given(spoilt(request_parts.map(lambda parts: request_head(**parts))) | st.binary(max_size=80))
def test_spoilt_requests_are_judged_alike(data: bytes) -> None:
    outcomes = []
    for decode in (RequestDecoder().decode, shared_decoder.decode, shared_decoder._decode_slowly):
        try:
            outcomes.append(decode(data))
        except HeadError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1] == outcomes[2]


# Maps

TABLES = {"stats": MAP_STATS, "ack": MAP_HELLO_ACK, "conn": MAP_CONN, "extensions": MAP_EXTENSIONS}


@st.composite
def map_payloads(draw: st.DrawFn) -> bytes:
    """Maps with the right keys and often the right values."""
    table = TABLES[draw(st.sampled_from(sorted(TABLES)))]
    result: dict[str, Any] = {}
    for name, key in table.items():
        kind = key.type.rstrip("?")
        right: st.SearchStrategy[Any] = nested(1)
        if kind == "uint":
            right = st.integers(key.minimum, key.maximum)
        elif kind == "bin":
            right = st.binary(min_size=key.minimum, max_size=min(key.maximum, 40))
        elif kind == "text":
            right = texts
        elif kind == "texts":
            right = st.lists(texts, max_size=3)
        if draw(st.integers(0, 9)) > 0:
            result[name] = draw(right if draw(st.integers(0, 9)) > 0 else nested(2))
    return packb(result)


@given(map_payloads() | spoilt(map_payloads()) | values.map(packb) | st.binary(max_size=80))
def test_any_map(payload: bytes) -> None:
    for decode in (
        decode_hello_ack,
        decode_conn,
        *(lambda data, keys=keys: decode_map(data, keys) for keys in TABLES.values()),
    ):
        try:
            decode(payload)
        except HeadError:
            continue


# A link


def plain(event: Any) -> Any:
    """An event without the identity of its stream, so that two links can be compared."""
    if isinstance(event, tuple):
        members: list[Any] = list(event)
    else:
        members = [getattr(event, item.name) for item in dataclasses.fields(event)]
    found = [member.id if hasattr(member, "recv_left") else member for member in members]
    return type(event).__name__, found


def fresh() -> Session:
    session = Session(RequestDecoder())
    session.send_hello({"features": []})
    (event,) = session.receive_data(hello_ack())
    assert isinstance(event, AckReceived)
    session.send_ready()
    session.data_to_send()
    return session


CONN = packb({"client_cert_chain": [], "client_cert_name": None, "client_cert_error": None})
HEADS = [
    request_head(),
    request_head("POST", "/ü", query=b"a=b"),
    request_head(tls=[0x304, 0x1301, 7]),
    request_head(fields=[(b"Bad", b"")]),
    b"\x91",
]


@st.composite
def right_frames(draw: st.DrawFn) -> bytes:
    """What a gateway would send, mostly: requests with rising ids, and frames of their streams."""
    result = b""
    last = 0
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(
            st.sampled_from(
                [FRAME_REQUEST, FRAME_REQUEST, FRAME_DATA, FRAME_DATA, FRAME_WINDOW, FRAME_PING,
                 FRAME_CONN, FRAME_CONN_END, FRAME_GOAWAY, *FRAME_RULES, 200]
            )
        )  # fmt: skip
        rule = FRAME_RULES.get(kind)
        stream = draw(st.integers(0, last)) if rule is None or rule.on_stream else 0
        payload = draw(st.binary(max_size=30))
        flags = draw(st.sampled_from([0, FLAG_END_STREAM]))
        code = aux = 0
        if rule is not None:
            flags &= rule.gateway_flags
            payload = b"" if rule.max_length == 0 else payload
            code = draw(st.sampled_from(sorted(rule.gateway_codes) or [0]))
            aux = draw(st.integers(1, 9)) if rule.aux not in ("zero", "head") else 0
        if kind == FRAME_REQUEST:
            stream = last = last + draw(st.integers(1, 3))
            head = draw(st.sampled_from(HEADS))
            body = draw(st.binary(max_size=40))
            aux = len(head) if body else 0
            payload = head + body
            if not body and not flags:
                flags = draw(st.sampled_from([0, FLAG_EXPECT]))
        elif kind == FRAME_CONN:
            payload, aux = CONN, draw(st.sampled_from([7, 8]))
        result += frame(kind, payload, flags=flags, code=code, stream=stream, aux=aux)
    return result


def run(data: bytes, cuts: list[int]) -> tuple[list[Any], int | None, list[Any]]:
    """Feed a fresh link in pieces; return events, the breach's code, and what it would write."""
    session = fresh()
    events: list[Any] = []
    breach = None
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for begin, end in itertools.pairwise(edges):
            events += [plain(event) for event in session.receive_data(data[begin:end])]
    except ProtocolError as error:
        assert error.code in ERROR_NAMES
        assert error.message
        breach = error.code
    written = []
    out = b"".join(session.data_to_send())
    while out:
        length, *header = HEADER.unpack_from(out)
        assert check_header(length, *header, from_gateway=False) is not None
        written.append((length, *header))
        out = out[HEADER.size + length :]
    return events, breach, written


cut_points = st.lists(st.integers(0, 2000), max_size=12)


@given(right_frames() | spoilt(right_frames()) | st.binary(max_size=100), cut_points)
def test_a_link_is_judged_alike_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    events, breach, written = run(data, cuts)
    bytewise = run(data, list(range(len(data))))
    assert bytewise[1:] == (breach, written)
    if breach is None:
        assert bytewise[0] == events
    else:  # what came in one piece with the breach is lost with the link
        assert bytewise[0][: len(events)] == events


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 200))
def test_a_limit_loses_nothing(limits: list[int], body: int) -> None:
    """receive_data() that stops after some requests goes on where it stopped."""
    data = b"".join(
        frame(FRAME_REQUEST, HEADS[0] + b"x" * body, stream=i, aux=len(HEADS[0]) if body else 0)
        + frame(FRAME_DATA, b"y", stream=i)
        for i in range(1, 9)
    )
    whole, _, _ = run(data, [])
    session = fresh()
    events = [plain(event) for event in session.receive_data(data, 0)]
    assert session.backlog
    for limit in [*limits, *[1] * 9]:
        got = session.receive_data(b"", limit)
        assert sum(isinstance(event, RequestReceived) for event in got) <= limit
        events += [plain(event) for event in got]
    assert not session.backlog
    assert events == whole
