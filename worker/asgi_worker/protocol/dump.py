# SPDX-License-Identifier: MIT
"""Print a captured stream of frames readably.

    python -m asgi_worker.protocol.dump FILE|-

The bytes of one direction of a link, as they were on the socket (strace, a socat log, a test's
recording). One line per frame, with decoded heads; what is malformed is shown and said so, and
the reader goes on as long as frames can be told apart.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from .codec import HeadError, decode_fields
from .constants import (
    ERROR_NAMES,
    FLAG_NAMES,
    FRAME_NAMES,
    FRAME_RULES,
    HEADER_SIZE,
    MAX_MAX_FRAME,
    FrameRule,
)
from .frames import ProtocolError, check_header, unpack_header_from
from .msgpack import MsgpackError, unpackb

SHOWN_BYTES = 64
_REQUEST_NAMES = (
    "kind", "method", "http_version", "scheme", "path", "raw_path", "query", "root_path",
    "client", "server", "fields", "tls", "extensions",
)  # fmt: skip


def _bytes(data: bytes) -> str:
    if len(data) <= SHOWN_BYTES:
        return repr(data)
    return f"{data[:SHOWN_BYTES]!r}... ({len(data)} bytes)"


def _text(text: str) -> str:
    """Return text that a terminal takes for nothing but text: what is not printable is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _fields(block: Any) -> Iterator[str]:
    if not isinstance(block, bytes):
        yield f"    the field block is no bin: {block!r}"
        return
    try:
        for name, value in decode_fields(block):
            yield f"    {_text(name.decode('latin-1'))}: {_text(value.decode('latin-1'))}"
    except HeadError as exc:
        yield f"    malformed field block ({exc}): {_bytes(block)}"


def _head(name: str, payload: bytes, aux: int) -> Iterator[str]:
    head = payload[:aux] if aux else payload
    try:
        value = unpackb(head)
    except MsgpackError as exc:
        yield f"    malformed head ({exc}): {_bytes(head)}"
        return
    if name == "REQUEST" and isinstance(value, list) and len(value) == len(_REQUEST_NAMES):
        for key, item in zip(_REQUEST_NAMES, value, strict=True):
            if key == "fields":
                yield from _fields(item)
            elif item not in (None, "", b""):
                yield f"    {key} = {item!r}"
    elif isinstance(value, list) and value:
        for item in value[:-1]:
            yield f"    {item!r}"
        yield from _fields(value[-1])
    else:
        yield f"    {value!r}"
    if aux:
        yield f"    body {_bytes(payload[aux:])}"


def _payload(rule: FrameRule, payload: bytes, aux: int) -> Iterator[str]:
    if rule.payload in ("head", "array"):
        yield from _head(rule.name, payload, aux)
    elif rule.payload == "map":
        try:
            value = unpackb(payload)
        except MsgpackError as exc:
            yield f"    malformed map ({exc}): {_bytes(payload)}"
            return
        for key, item in value.items() if isinstance(value, dict) else [("?", value)]:
            shown = _bytes(item) if isinstance(item, bytes) else repr(item)
            yield f"    {_text(str(key))} = {shown}"
    elif rule.payload == "text":
        for line in payload.decode("utf-8", "replace").split("\n"):
            yield f"    | {_text(line)}"
    elif rule.payload == "file" and len(payload) == 16:
        offset = int.from_bytes(payload[:8], "little")
        yield f"    offset {offset}, count {int.from_bytes(payload[8:], 'little')}"
    elif payload:
        yield f"    {_bytes(payload)}"


def _breach(fields: tuple[int, ...], rule: FrameRule | None) -> str:
    """Say what the table has against a header, judged for the side that may send the frame."""
    length, kind, flags, code, stream, aux = fields
    problems = []
    for from_gateway in (True, False):
        if rule is not None and not (rule.from_gateway if from_gateway else rule.from_worker):
            continue
        try:
            check_header(length, kind, flags, code, stream, aux, from_gateway=from_gateway)
        except ProtocolError as exc:
            problems.append(str(exc))
        else:
            return ""
    return problems[0] if problems else ""


def dump(data: bytes) -> Iterator[str]:
    """Yield the lines that describe a stream of frames."""
    pos = 0
    while pos + HEADER_SIZE <= len(data):
        fields = unpack_header_from(data, pos)
        length, kind, flags, code, stream, aux = fields
        rule = FRAME_RULES.get(kind)
        parts = [f"{pos:08x}", FRAME_NAMES.get(kind, f"type {kind}"), f"stream {stream}"]
        names = [name for bit, name in FLAG_NAMES.items() if flags & bit]
        if flags & ~sum(FLAG_NAMES):
            names.append(f"{flags & ~sum(FLAG_NAMES):#04x}")
        if names:
            parts.append("+".join(names))
        if code:
            is_error = rule is not None and rule.code_kind == "error"
            parts.append(ERROR_NAMES.get(code, str(code)) if is_error else f"code {code}")
        if aux:
            meaning = rule.aux if rule is not None and rule.aux != "zero" else "aux"
            parts.append(f"{meaning} {aux}")
        parts.append(f"{length} bytes")
        yield "  ".join(parts)
        breach = _breach(fields, rule)
        if breach:
            yield f"    !! {breach}"
        if length > MAX_MAX_FRAME:
            yield f"    !! no link allows {length} bytes; this is where frames cannot be told apart"
            return
        pos += HEADER_SIZE
        payload = data[pos : pos + length]
        if len(payload) < length:
            yield f"    !! the stream ends {length - len(payload)} bytes before the frame does"
            return
        if rule is not None:
            yield from _payload(rule, payload, aux)
        pos += length
    if pos < len(data):
        yield f"{pos:08x}  !! {len(data) - pos} bytes are left, less than a header"


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        sys.stderr.write("usage: python -m asgi_worker.protocol.dump FILE|-\n")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    try:
        if arguments[0] == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(arguments[0], "rb") as file:
                data = file.read()
    except OSError as exc:
        sys.stderr.write(f"{arguments[0]}: {exc.strerror}\n")
        return 1
    for line in dump(data):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
