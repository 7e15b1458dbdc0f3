# SPDX-License-Identifier: MIT
"""protocol/codec.py: the fast decoder judges as the slow one does; heads are encoded strictly."""

from __future__ import annotations

import random
from typing import Any

import pytest

from asgi_worker.protocol import codec
from asgi_worker.protocol.codec import (
    HeadError,
    RequestDecoder,
    ResponseEncoder,
    decode_conn,
    decode_fields,
    decode_hello_ack,
    decode_map,
)
from asgi_worker.protocol.constants import MAP_STATS
from asgi_worker.protocol.frames import HEADER
from asgi_worker.protocol.msgpack import packb, unpackb
from peer import hello_ack, request_head

HEADS: list[dict[str, Any]] = [
    {},
    {"path": "/a/b", "query": b"x=1&y=2"},
    {"path": "/ü", "raw_path": b"/%C3%BC"},
    {"path": "/" + "x" * 40},
    {"path": "/" + "x" * 300},
    {"path": "/p", "raw_path": b"/" + b"r" * 300},
    {"query": b"q" * 300},
    {"root_path": "/root"},
    {"root_path": "/" + "r" * 40},
    {"client": None},
    {"server": b"/run/x\x00"},
    {"fields": []},
    {"fields": [(b"host", b"x"), (b"big", b"y" * 300)]},
    {"fields": [(b"host", b"x"), (b"big", b"y" * 70000)]},
    {"fields": [(b"host", b""), (b"empty", b"")]},
    {"tls": [0x0304, 0x1301, 0]},
    {"tls": [0x0304, 0x1301, 4000000000]},
    {"extensions": {"trailers": True, "priority": [3, False], "unknown": [1, {"a": 2}]}},
    {"method": "PROPFIND", "version": "3", "scheme": "https"},
    {"method": "M" * 31},
    {"method": "M" * 40},
    {"kind": 1, "scheme": "ws"},
]


def slowly(head: bytes) -> Any:
    return RequestDecoder()._decode_slowly(head)


@pytest.mark.parametrize("fields", HEADS, ids=lambda f: ",".join(f) or "plain")
def test_fast_and_slow_agree(fields: dict[str, Any]) -> None:
    head = request_head(**fields)
    expected = slowly(head)
    decoder = RequestDecoder()
    for _ in range(3):  # first slow, then with the start known, then with the tail known
        assert decoder.decode(head) == expected
    # a different path before the same tail, a different tail behind the same start
    decoder.decode(request_head(**{**fields, "path": "/other"}))
    assert decoder.decode(head) == expected


def test_every_mutation_is_judged_alike() -> None:
    """The fast path must take nothing that the slow one refuses, nor read it otherwise."""
    generator = random.Random(7)
    warm = RequestDecoder()
    heads = [request_head(**fields) for fields in HEADS if len(request_head(**fields)) < 500]
    for head in heads:
        warm.decode(head)
        warm.decode(head)
    taken = 0
    for _ in range(30000):
        head = bytearray(generator.choice(heads))
        for _ in range(generator.randrange(1, 3)):
            action = generator.randrange(3)
            position = generator.randrange(len(head))
            if action == 0:
                head[position] = generator.choice((0, 1, 10, 0x61, 0x7F, 0xA0, 0xC0, 0xC4, 0xFF))
            elif action == 1:
                del head[position]
            else:
                head.insert(position, generator.randrange(256))
            if not head:
                break
        data = bytes(head)
        try:
            expected: Any = slowly(data)
        except HeadError:
            expected = None
        try:
            got: Any = warm.decode(data)
        except HeadError:
            got = None
        assert got == expected, data
        taken += got is not None
    assert taken > 100


@pytest.mark.parametrize(
    "change",
    [
        {"fields": [(b"Host", b"x")]}, {"fields": [(b"", b"x")]}, {"fields": [(b"a b", b"x")]},
        {"fields": [(b"a", b"x\n")]}, {"fields": [(b"a", b"\x7f")]}, {"fields": [(b":a", b"x")]},
        {"client": b"nohost"}, {"client": b"a\0b\x001"}, {"client": b"a\x0099999"},
        {"client": b"a\x0001"}, {"client": b"a\x00"}, {"client": b"a\x00x"}, {"server": b""},
        {"tls": [1, 2]}, {"tls": [1, 2, "3"]}, {"tls": [70000, 1, 0]}, {"tls": [1, 70000, 0]},
        {"tls": [1, 2, -3]}, {"tls": [True, 2, 3]}, {"extensions": {"trailers": 1}},
        {"extensions": {"priority": [9, True]}}, {"extensions": {"priority": [1, 1]}},
        {"extensions": [1]}, {"method": ""}, {"kind": -1},
    ],
)  # fmt: skip
def test_bad_heads(change: dict[str, Any]) -> None:
    decoder = RequestDecoder()
    decoder.decode(request_head())
    head = request_head(**change)
    for _ in range(2):
        with pytest.raises(HeadError):
            decoder.decode(head)
        with pytest.raises(HeadError):
            slowly(head)


@pytest.mark.parametrize("position", range(13))
def test_each_element_has_its_type(position: int) -> None:
    value = unpackb(request_head())
    value[position] = -1.0 if position == 12 else [["x"]]
    with pytest.raises((HeadError, ValueError)):
        RequestDecoder().decode(packb(value))


def test_wrong_number_of_elements() -> None:
    value = unpackb(request_head())
    for bad in (value[:12], [*value, None], {"a": 1}, 5):
        with pytest.raises(HeadError):
            RequestDecoder().decode(packb(bad))


@pytest.mark.parametrize("block", [b"a", b"a\0b\0c", b"\0", b"a\0\0", b"\0a"])
def test_odd_blocks(block: bytes) -> None:
    with pytest.raises(HeadError):
        decode_fields(block)


def test_fields() -> None:
    assert decode_fields(b"") == []
    assert decode_fields(b"a\0") == [(b"a", b"")]
    assert decode_fields(b"a\0b\0c\0\xff\t") == [(b"a", b"b"), (b"c", b"\xff\t")]


def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_ADDRESSES", 10)
    monkeypatch.setattr(codec, "MAX_TAILS", 10)
    monkeypatch.setattr(codec, "MAX_STARTS", 10)
    monkeypatch.setattr(codec, "MAX_RESPONSE_HEADS", 10)
    decoder = RequestDecoder()
    for i in range(100):
        head = request_head(method=f"M{i}", client=b"10.0.0.1\0%d" % i)
        assert decoder.decode(head)[8] == ("10.0.0.1", i)
        assert decoder.decode(head)[8] == ("10.0.0.1", i)
        assert len(decoder._addresses) <= 10
        assert len(decoder._tails) <= 10
        assert len(decoder._starts) <= 10
    encoder = ResponseEncoder()
    for i in range(100):
        encoder.encode([(b"a", b"%d" % i)])
        assert len(encoder._heads) <= 10


def test_large_tails_are_not_kept() -> None:
    decoder = RequestDecoder()
    head = request_head(fields=[(b"host", b"x"), (b"cookie", b"c" * 5000)])
    decoder.decode(head)
    decoder.decode(head)
    assert not decoder._tails


def test_response_head_cache_does_not_confuse_types() -> None:
    encoder = ResponseEncoder()
    assert encoder.encode([(b"a", b"b")]) is encoder.encode([(b"a", b"b")])
    with pytest.raises(TypeError):
        encoder.encode([("a", "b")])


def test_hello_ack_bounds() -> None:
    def payload(**changes: Any) -> bytes:
        return hello_ack(**changes)[HEADER.size :]

    assert decode_hello_ack(payload()).window == 65536
    assert decode_hello_ack(payload(ping_interval=1500, surprise=[1])).ping_interval == 1.5
    for bad in (
        {"window": 32768},  # below max_frame
        {"max_frame": 1000}, {"max_frame": 1 << 21}, {"channels": 0}, {"token": b"short"},
        {"gateway": "G" * 16}, {"features": "files"}, {"features": [1]}, {"server_cert": b"x"},
        {"proto": "1"}, {"proto": True}, {"start_timeout": -1},
    ):  # fmt: skip
        with pytest.raises(HeadError):
            decode_hello_ack(payload(**bad))


def test_missing_key_and_duplicate_key() -> None:
    with pytest.raises(HeadError):
        decode_map(packb({"rss": 1, "tasks": 2}), MAP_STATS)
    with pytest.raises(HeadError):
        decode_map(b"\x82\xa3rss\x01\xa3rss\x02", MAP_STATS)


def test_conn() -> None:
    conn = {"client_cert_chain": [], "client_cert_name": None, "client_cert_error": "expired"}
    assert decode_conn(packb(conn)).client_cert_error == "expired"
    with pytest.raises(HeadError):
        decode_conn(packb({**conn, "client_cert_chain": ["x"] * 17}))
