# SPDX-License-Identifier: MIT
"""protocol/msgpack.py: round trips, and that hostile bytes cost nothing."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import pytest

from asgi_worker.protocol.msgpack import MsgpackError, pack_bin_header, packb, unpackb

VALUES: list[Any] = [
    None, True, False, 0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1,
    -1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63),
    "", "a", "ä" * 15, "x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 65535, "x" * 65536,
    b"", b"a", b"x" * 255, b"x" * 256, b"x" * 65536,
    [], [1, [2, [3, []]]], list(range(15)), list(range(16)), list(range(70000)),
    {}, {"a": 1, "b": {"c": [None, True]}}, {str(i): i for i in range(16)},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda v: repr(v)[:20])
def test_round_trip(value: Any) -> None:
    assert unpackb(packb(value)) == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\xcc\x01", 1), (b"\xcd\x00\x01", 1), (b"\xce\x00\x00\x00\x01", 1),
        (b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01", 1), (b"\xd0\xff", -1),
        (b"\xd3" + b"\xff" * 8, -1),
        (b"\xd9\x01a", "a"), (b"\xda\x00\x01a", "a"), (b"\xdb\x00\x00\x00\x01a", "a"),
        (b"\xc5\x00\x01a", b"a"), (b"\xc6\x00\x00\x00\x01a", b"a"),
        (b"\xdc\x00\x01\x05", [5]), (b"\xdd\x00\x00\x00\x01\x05", [5]),
        (b"\xde\x00\x01\xa1a\x05", {"a": 5}), (b"\xdf\x00\x00\x00\x01\xa1a\x05", {"a": 5}),
    ],
)  # fmt: skip
def test_every_width_is_read(data: bytes, value: Any) -> None:
    assert unpackb(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"\xca\0\0\0\0", b"\xcb" + b"\0" * 8, b"\xd4\x01\x00", b"\xc7\x01\x01\x00",
        b"\xdd\x01\x00\x00\x00", b"\xdf\x01\x00\x00\x00", b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc4\x05abc", b"\xa5abc", b"\xd9",
        b"\x91", b"\x81\xa1a", b"\x81\x01\x02", b"\x81\xc4\x01a\x02", b"\x82\xa1a\x01\xa1a\x02",
        b"\x00\x00", b"\xc0\xc0", b"\xa1\xff", b"\xa2\xed\xa0", b"\x91\x91\x91\x91\x90",
        b"\x81\xa1a\x81\xa1a\x81\xa1a\x81\xa1a\x80",
    ],
)  # fmt: skip
def test_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(MsgpackError):
        unpackb(data)


def test_four_levels_are_allowed_and_five_are_not() -> None:
    assert unpackb(b"\x91\x91\x91\x90") == [[[[]]]]
    with pytest.raises(MsgpackError):
        packb([[[[[]]]]])


def test_declared_counts_allocate_nothing() -> None:
    tracemalloc.start()
    for data in (b"\xdd\x01\x00\x00\x00", b"\xdd\x7f\xff\xff\xff" + b"\xc0" * 1000):
        with pytest.raises(MsgpackError):
            unpackb(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_every_prefix_and_every_flipped_byte_is_judged() -> None:
    whole = packb([0, "GET", {"a": [1, b"x" * 40]}, None, -5, "ü"])
    for size in range(len(whole)):
        with pytest.raises(MsgpackError):
            unpackb(whole[:size])
    for position in range(len(whole)):
        for value in (0, 0x7F, 0x80, 0xC1, 0xDD, 0xFF):
            data = whole[:position] + bytes([value]) + whole[position + 1 :]
            try:
                unpackb(data)
            except MsgpackError:
                pass


def test_random_bytes_raise_nothing_else() -> None:
    generator = random.Random(1)
    for _ in range(20000):
        data = generator.randbytes(generator.randrange(40))
        try:
            value = unpackb(data)
        except MsgpackError:
            continue
        assert unpackb(packb(value)) == value


@pytest.mark.parametrize("value", [1.5, object(), {1: 2}, 2**64, -(2**63) - 1, {"a": {2}}])
def test_what_the_subset_lacks_is_not_encoded(value: Any) -> None:
    with pytest.raises(MsgpackError):
        packb(value)


def test_bin_headers() -> None:
    for size in (0, 255, 256, 65535, 65536):
        assert unpackb(pack_bin_header(size) + b"x" * size) == b"x" * size
