# SPDX-License-Identifier: MIT
"""The part of MessagePack that the frame protocol uses, and nothing else.

Job: encode and decode nil, booleans, integers, str, bin, arrays and maps with str keys.
The decoder treats its input as hostile: a declared count is compared with the bytes that are
left before anything is allocated, nesting is bounded, the value must end exactly where the
bytes end, and a map may not name a key twice. It knows no frame and no head.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from .constants import MAX_PACK_DEPTH

_U16 = Struct(">H")
_U32 = Struct(">I")
_U64 = Struct(">Q")
_I8 = Struct(">b")
_I16 = Struct(">h")
_I32 = Struct(">i")
_I64 = Struct(">q")

_INTEGERS = {
    0xCC: Struct(">B"),
    0xCD: _U16,
    0xCE: _U32,
    0xCF: _U64,
    0xD0: _I8,
    0xD1: _I16,
    0xD2: _I32,
    0xD3: _I64,
}
_BIN_LENGTHS = {0xC4: Struct(">B"), 0xC5: _U16, 0xC6: _U32}
_STR_LENGTHS = {0xD9: Struct(">B"), 0xDA: _U16, 0xDB: _U32}
_ARRAY_COUNTS = {0xDC: _U16, 0xDD: _U32}
_MAP_COUNTS = {0xDE: _U16, 0xDF: _U32}


class MsgpackError(ValueError):
    """The bytes are not one well-formed, bounded value of the subset."""


def pack_bin_header(length: int) -> bytes:
    """Return the bytes that announce a bin of `length` bytes."""
    if length < 0x100:
        return b"\xc4" + length.to_bytes(1, "big")
    if length < 0x10000:
        return b"\xc5" + length.to_bytes(2, "big")
    return b"\xc6" + length.to_bytes(4, "big")


def _pack_count(out: bytearray, count: int, fix: int, fix_max: int, wide: int) -> None:
    if count <= fix_max:
        out.append(fix | count)
    elif count < 0x10000:
        out.append(wide)
        out += _U16.pack(count)
    else:
        out.append(wide + 1)
        out += _U32.pack(count)


def _pack_str(out: bytearray, text: str) -> None:
    data = text.encode("utf-8")
    length = len(data)
    if length < 32:
        out.append(0xA0 | length)
    elif length < 0x100:
        out.append(0xD9)
        out.append(length)
    else:
        _pack_count(out, length, 0, -1, 0xDA)
    out += data


def _pack_int(out: bytearray, value: int) -> None:
    if 0 <= value < 0x80 or -32 <= value < 0:
        out.append(value & 0xFF)
        return
    if value >= 0:
        kinds = ((0xCC, 0xFF), (0xCD, 0xFFFF), (0xCE, 0xFFFFFFFF), (0xCF, 0xFFFFFFFFFFFFFFFF))
        for tag, top in kinds:
            if value <= top:
                out.append(tag)
                out += _INTEGERS[tag].pack(value)
                return
    else:
        for tag, bits in ((0xD0, 7), (0xD1, 15), (0xD2, 31), (0xD3, 63)):
            if value >= -(1 << bits):
                out.append(tag)
                out += _INTEGERS[tag].pack(value)
                return
    raise MsgpackError("the integer does not fit into 64 bits")


def _pack(out: bytearray, value: object, depth: int) -> None:
    if value is None:
        out.append(0xC0)
    elif value is True:
        out.append(0xC3)
    elif value is False:
        out.append(0xC2)
    elif isinstance(value, int):
        _pack_int(out, value)
    elif isinstance(value, str):
        _pack_str(out, value)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        out += pack_bin_header(len(value))
        out += value
    elif isinstance(value, (list, tuple)):
        _check_depth(depth)
        _pack_count(out, len(value), 0x90, 15, 0xDC)
        for item in value:
            _pack(out, item, depth + 1)
    elif isinstance(value, dict):
        _check_depth(depth)
        _pack_count(out, len(value), 0x80, 15, 0xDE)
        for key, item in value.items():
            if not isinstance(key, str):
                raise MsgpackError("a map key must be a str")
            _pack_str(out, key)
            _pack(out, item, depth + 1)
    else:
        raise MsgpackError(f"a {type(value).__name__} has no place in a head")


def _check_depth(depth: int) -> None:
    if depth >= MAX_PACK_DEPTH:
        raise MsgpackError(f"nested deeper than {MAX_PACK_DEPTH}")


def packb(value: object) -> bytes:
    """Encode one value in its shortest form; raises MsgpackError on what the subset lacks."""
    out = bytearray()
    _pack(out, value, 0)
    return bytes(out)


class _Reader:
    """One pass over `data`; every read is checked against the bytes that are left."""

    __slots__ = ("data", "pos", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pos = 0
        self.size = len(data)

    def take(self, count: int) -> bytes:
        end = self.pos + count
        if end > self.size:
            raise MsgpackError("a declared length runs past the end")
        piece = self.data[self.pos : end]
        self.pos = end
        return piece

    def number(self, form: Struct) -> int:
        (value,) = form.unpack(self.take(form.size))
        return int(value)

    def text(self, length: int) -> str:
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as exc:
            raise MsgpackError("a str is not UTF-8") from exc

    def value(self, depth: int) -> Any:
        tag = self.take(1)[0]
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 0x100
        if tag < 0x90:
            return self.mapping(tag & 0x0F, depth)
        if tag < 0xA0:
            return self.array(tag & 0x0F, depth)
        if tag < 0xC0:
            return self.text(tag & 0x1F)
        if tag == 0xC0:
            return None
        if tag in (0xC2, 0xC3):
            return tag == 0xC3
        return self.sized(tag, depth)

    def sized(self, tag: int, depth: int) -> Any:
        if tag in _INTEGERS:
            return self.number(_INTEGERS[tag])
        if tag in _STR_LENGTHS:
            return self.text(self.number(_STR_LENGTHS[tag]))
        if tag in _BIN_LENGTHS:
            return self.take(self.number(_BIN_LENGTHS[tag]))
        if tag in _ARRAY_COUNTS:
            return self.array(self.number(_ARRAY_COUNTS[tag]), depth)
        if tag in _MAP_COUNTS:
            return self.mapping(self.number(_MAP_COUNTS[tag]), depth)
        raise MsgpackError(f"type byte 0x{tag:02x} is not in the subset")

    def array(self, count: int, depth: int) -> list[Any]:
        _check_depth(depth)
        # Each item needs one byte at least, so this bounds the loop and the list.
        if count > self.size - self.pos:
            raise MsgpackError("an array declares more items than bytes are left")
        return [self.value(depth + 1) for _ in range(count)]

    def mapping(self, count: int, depth: int) -> dict[str, Any]:
        _check_depth(depth)
        if 2 * count > self.size - self.pos:
            raise MsgpackError("a map declares more entries than bytes are left")
        result: dict[str, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise MsgpackError("a map key is not a str")
            if key in result:
                raise MsgpackError(f"a map names the key {key!r} twice")
            result[key] = self.value(depth + 1)
        return result


def unpackb(data: bytes) -> Any:
    """Decode exactly one value that fills `data`; raises MsgpackError otherwise."""
    reader = _Reader(data)
    value = reader.value(0)
    if reader.pos != reader.size:
        raise MsgpackError(f"{reader.size - reader.pos} bytes follow the value")
    return value
