# SPDX-License-Identifier: MIT
"""protocol/vectors/ against asgi_worker.protocol: frames by their headers, heads and maps by their content."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from asgi_worker.protocol import codec, constants, frames, msgpack
from notation import ERRORS, TYPE_NAMES, Block, blocks, flag_names, hex_lines, quote, show

FRAME_BLOCKS = blocks("vectors/frames-*.txt")
HEAD_BLOCKS = blocks("vectors/heads-*.txt")
NAMES = {number: name for name, number in ERRORS.items()}


def named(found: Iterable[Block]) -> list[Any]:
    return [pytest.param(block, id=block.name) for block in found]


def results(block: Block, *keys: str) -> list[str]:
    return [f"{key}: {rest}".rstrip() for key, rest in block.lines if key in keys]


# --- frames ---------------------------------------------------------------------------------------


class Reader:
    """Reads frames as the session does: a header is judged before its payload is waited for."""

    def __init__(self, from_gateway: bool, max_frame: int) -> None:
        self.from_gateway = from_gateway
        self.max_frame = max_frame
        self.buffer = b""
        self.seen: list[str] = []
        self.failed = False

    def feed(self, data: bytes) -> None:
        self.buffer += data
        while not self.failed and len(self.buffer) >= constants.HEADER_SIZE:
            try:
                if not self.one_frame():
                    return
            except frames.ProtocolError as problem:
                self.seen.append(f"error: {NAMES[problem.code]}")
                self.failed = True

    def one_frame(self) -> bool:
        length, kind, flags, code, stream, aux = frames.unpack_header_from(self.buffer, 0)
        if length > self.max_frame:
            raise frames.ProtocolError(constants.ERROR_FRAME_SIZE, "too long")
        rule = frames.check_header(length, kind, flags, code, stream, aux, from_gateway=self.from_gateway)
        end = constants.HEADER_SIZE + length
        if len(self.buffer) < end:
            return False
        payload = self.buffer[constants.HEADER_SIZE : end]
        self.buffer = self.buffer[end:]
        if rule is None:
            self.seen.append(f"ignored: {kind}")
        else:
            self.seen.append(
                f"ok: {TYPE_NAMES[kind]} stream={stream} flags={flag_names(flags)} code={code} aux={aux} "
                f"payload={show(payload)}"
            )
        return True

    def end(self) -> list[str]:
        if self.buffer and not self.failed:
            self.seen.append(f"partial: {len(self.buffer)}")
        return self.seen


@pytest.mark.parametrize("block", named(FRAME_BLOCKS))
def test_frames(block: Block) -> None:
    data = hex_lines(block)
    expected = results(block, "ok", "ignored", "partial", "error")
    # One byte at a time is slow for the largest inputs; there, the pieces are larger and odd.
    for size in (len(data) or 1, 1 if len(data) < 5000 else 997):
        reader = Reader(block.get("from") == "gateway", int(block.get("max_frame", "65536")))
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
        assert reader.end() == expected, block.where


# --- heads and maps -------------------------------------------------------------------------------


def request_lines(data: bytes) -> list[str]:
    decoder = codec.RequestDecoder()
    head = decoder.decode(data)
    # The second time the caches are warm and the fast path is taken: it must give the same.
    assert decoder.decode(data) == head
    kind, method, version, scheme, path, raw_path, query, root_path, client, server, headers, tls, extensions = head
    lines = [f"kind={kind}", f"method={quote(method)}", f"http_version={quote(version)}", f"scheme={quote(scheme)}"]
    # raw_path nil and raw_path equal to path are the same to an application.
    lines += [f"path={quote(path)}", f"raw_path={'nil' if raw_path == path.encode() else quote(raw_path)}"]
    lines += [f"query={quote(query)}", f"root_path={quote(root_path)}"]
    lines += [f"client={address(client)}", f"server={address(server)}"]
    lines += [f"header={quote(name)} {quote(value)}" for name, value in headers]
    lines.append(f"tls={'nil' if tls is None else ' '.join(map(str, tls))}")
    for key in constants.MAP_EXTENSIONS:
        if extensions is not None and key in extensions:
            value = extensions[key]
            words = value if isinstance(value, list) else [value]
            lines.append(f"extension={key} {' '.join(plain(word) for word in words)}")
    return lines


def address(value: tuple[str, int | None] | None) -> str:
    if value is None:
        return "nil"
    host, port = value
    return f"{quote(host.encode('utf-8', 'surrogateescape'))} {'-' if port is None else port}"


def plain(value: Any) -> str:
    """The canonical text of a value in a map."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return " ".join(quote(item) for item in value)
    return quote(value)


def map_lines(keys: Any) -> Callable[[bytes], list[str]]:
    def lines(data: bytes) -> list[str]:
        value = codec.decode_map(data, keys)
        return [f"{key}={plain(value[key])}" for key in keys if key in value]

    return lines


def ack_lines(data: bytes) -> list[str]:
    codec.decode_hello_ack(data)  # judges what a table cannot say
    return map_lines(constants.MAP_HELLO_ACK)(data)


# What a worker decodes. The other heads it writes itself: test_written below.
DECODERS: dict[str, Callable[[bytes], list[str]]] = {
    "request": request_lines,
    "hello_ack": ack_lines,
    "conn": map_lines(constants.MAP_CONN),
}


@pytest.mark.parametrize("block", named(b for b in HEAD_BLOCKS if b.get("head") in DECODERS))
def test_read(block: Block) -> None:
    decode = DECODERS[block.get("head")]
    expected = results(block, "field")
    if block.all("error"):
        with pytest.raises(codec.HeadError):
            decode(hex_lines(block))
    else:
        assert [f"field: {line}" for line in decode(hex_lines(block))] == expected, block.where


@pytest.mark.parametrize("block", named(b for b in HEAD_BLOCKS if b.get("canonical") == "yes"))
def test_written(block: Block) -> None:
    """What was decoded and is written again is the same bytes."""
    data = hex_lines(block)
    assert msgpack.packb(msgpack.unpackb(data)) == data


@pytest.mark.parametrize(
    "block", named(b for b in HEAD_BLOCKS if b.get("head") in ("response", "trailers") and b.all("ok"))
)
def test_fields_written(block: Block) -> None:
    """The field arrays that applications cause: checked, lowered, encoded."""
    (part,) = msgpack.unpackb(hex_lines(block))
    pairs = codec.decode_fields(part) if block.get("canonical") else split(part)
    checked = codec.check_headers(pairs)
    assert [f"field: header={quote(n)} {quote(v)}" for n, v in checked] == results(block, "field")
    if block.get("canonical") == "yes":
        assert codec.encode_field_array(checked) == hex_lines(block)


@pytest.mark.parametrize(
    "block", named(b for b in HEAD_BLOCKS if b.get("head") == "response" and "R40" in b.get("rule"))
)
def test_fields_from_an_application(block: Block) -> None:
    """What must not reach the gateway does not get past the worker either (R40)."""
    (part,) = msgpack.unpackb(hex_lines(block))
    pairs = split(part)
    if block.all("ok"):
        codec.check_headers(pairs)
    else:
        with pytest.raises(ValueError):
            codec.check_headers(pairs)


def split(part: bytes) -> list[tuple[bytes, bytes]]:
    pieces = part.split(b"\0") if part else []
    return list(zip(pieces[::2], pieces[1::2], strict=True))


@pytest.mark.parametrize("block", named(b for b in HEAD_BLOCKS if b.get("rule") in ("R35", "R36") and b.all("error")))
def test_msgpack_is_bounded(block: Block) -> None:
    """The reader of msgpack itself refuses what R35 and R36 forbid, whatever head it stands in."""
    with pytest.raises(msgpack.MsgpackError):
        msgpack.unpackb(hex_lines(block))


def test_there_are_vectors() -> None:
    assert len(FRAME_BLOCKS) > 600
    assert len(HEAD_BLOCKS) > 250
