#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write vectors/*.txt and transcripts/payloads.txt from the cases in cases_*.py.

    python3 protocol/generate_vectors.py            write the files
    python3 protocol/generate_vectors.py --check    write nothing; exit 1 when a file is not current

It has its own small encoders, so that what it writes does not depend on the code under test. The
expectations are written by hand in the cases, not computed. Standard library only, Python 3.11 or newer.
"""

from __future__ import annotations

import argparse
import re
import struct
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROTOCOL = Path(__file__).resolve().parent
WRAP = 96


def load_table() -> dict[str, Any]:
    with (PROTOCOL / "frames.toml").open("rb") as file:
        return tomllib.load(file)


TABLE = load_table()
TYPES = {name: row["number"] for name, row in TABLE["frames"].items()}
FLAGS = {name: row["bit"] for name, row in TABLE["flags"].items()}
ERRORS = {name: row["number"] for name, row in TABLE["errors"].items()}


# --- encoders --------------------------------------------------------------------------------------


class Str(str):
    """Marks text that pack() writes with a 32-bit length, to show that every width is legal."""


def pack(value: Any) -> bytes:
    """One value in its shortest msgpack form (Str excepted)."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return pack_int(value)
    if isinstance(value, Str):
        return b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
    if isinstance(value, str):
        return sized(value.encode(), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + value.encode()
    if isinstance(value, bytes):
        return sized(value, None, -1, (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, list):
        return sized(value, 0x90, 15, (None, 0xDC, 0xDD)) + b"".join(pack(v) for v in value)
    if isinstance(value, dict):
        pairs = b"".join(pack(k) + pack(v) for k, v in value.items())
        return sized(value, 0x80, 15, (None, 0xDE, 0xDF)) + pairs
    raise TypeError(type(value))


def pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b", value) if value < 0 else bytes([value])
    if value > 0:
        for tag, form, top in ((0xCC, "B", 8), (0xCD, "H", 16), (0xCE, "I", 32), (0xCF, "Q", 64)):
            if value < 1 << top:
                return bytes([tag]) + struct.pack(">" + form, value)
    return b"\xd3" + struct.pack(">q", value)


def sized(value: Any, fix: int | None, most: int, tags: tuple[int | None, int, int]) -> bytes:
    count = len(value)
    if fix is not None and count <= most:
        return bytes([fix | count])
    if tags[0] is not None and count < 1 << 8:
        return bytes([tags[0], count])
    if count < 1 << 16:
        return bytes([tags[1]]) + struct.pack(">H", count)
    return bytes([tags[2]]) + struct.pack(">I", count)


def fields(*pairs: tuple[bytes, bytes]) -> bytes:
    """A field block."""
    return b"\0".join(part for pair in pairs for part in pair)


def flag_bits(flags: str | int) -> int:
    if isinstance(flags, int):
        return flags
    return sum(FLAGS[name] for name in flags.split("|") if name)


def header(kind: str | int, length: int, flags: str | int, code: int, stream: int, aux: int) -> bytes:
    number = TYPES[kind] if isinstance(kind, str) else kind
    return struct.pack("<IBBHII", length, number, flag_bits(flags), code, stream, aux)


# --- cases -----------------------------------------------------------------------------------------


@dataclass
class Frame:
    """One frame of a case: how it goes over the wire, and (as text) what a receiver must see."""

    kind: str | int
    payload: bytes = b""
    flags: str | int = 0
    code: int | str = 0
    stream: int = 0
    aux: int = 0
    length: int | None = None  # what the header says, if not the truth

    def number(self) -> int:
        return ERRORS[self.code] if isinstance(self.code, str) else self.code

    def wire(self) -> list[str]:
        length = len(self.payload) if self.length is None else self.length
        head = header(self.kind, length, self.flags, self.number(), self.stream, self.aux)
        return [head.hex(), *hex_runs(self.payload)]

    def seen(self) -> str:
        flags = self.flags if isinstance(self.flags, str) and self.flags else "-"
        return (
            f"{self.kind} stream={self.stream} flags={flags} code={self.number()} aux={self.aux} "
            f"payload={show_payload(self.payload)}"
        )


@dataclass
class Case:
    """One block of a vector file; `result` holds its expectation lines."""

    name: str
    rule: str
    keys: list[str]
    hex: list[str]
    result: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = [f"name: {self.name}", f"rule: {self.rule}", *self.keys]
        lines += hex_lines(self.hex)
        return "\n".join([*lines, *self.result])


def hex_runs(data: bytes) -> list[str]:
    """Hex, long runs of one byte as XX*N."""
    parts: list[str] = []
    at = 0
    for match in re.finditer(rb"(.)\1{31,}", data, re.DOTALL):
        if match.start() > at:
            parts.append(data[at : match.start()].hex())
        parts.append(f"{match.group(1).hex()}*{len(match.group(0))}")
        at = match.end()
    if at < len(data):
        parts.append(data[at:].hex())
    return parts


def show_payload(data: bytes) -> str:
    """The canonical form in an expectation: "-", hex, or XX*N when it is one byte over 64 times."""
    if not data:
        return "-"
    if len(data) > 64 and data == data[:1] * len(data):
        return f"{data[:1].hex()}*{len(data)}"
    return data.hex()


def hex_lines(parts: list[str]) -> list[str]:
    lines: list[str] = []
    for part in parts:
        pieces = [part] if "*" in part else [part[i : i + WRAP] for i in range(0, len(part), WRAP)]
        lines += [f"hex: {piece}" for piece in pieces]
    return lines or ["hex:"]


def quote(data: bytes | str) -> str:
    """The canonical form of text and bytes: printable ASCII in quotes, the rest as \\xNN."""
    raw = data.encode() if isinstance(data, str) else data
    body = "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'"\\' else f"\\x{b:02x}" for b in raw)
    return f'"{body}"'


ABOUT = (
    "# SPDX-License-Identifier: MIT\n"
    "# GENERATED by protocol/generate_vectors.py. Do not edit; the format is explained in README.md.\n\n"
)


def outputs() -> dict[Path, str]:
    import cases_frames
    import cases_heads
    import cases_maps

    files = {
        "vectors/frames-good.txt": cases_frames.good(),
        "vectors/frames-bad.txt": cases_frames.bad(),
        "vectors/frames-table.txt": cases_frames.from_table(),
        "vectors/heads-good.txt": [*cases_heads.good(), *cases_maps.good()],
        "vectors/heads-bad.txt": [*cases_heads.bad_cases(), *cases_maps.bad_cases()],
    }
    texts: dict[Path, str] = {}
    names: set[str] = set()
    for path, cases in files.items():
        for case in cases:
            if case.name in names:
                raise SystemExit(f"generate_vectors.py: two vectors are named {case.name}")
            names.add(case.name)
        texts[PROTOCOL / path] = ABOUT + "\n\n".join(case.text() for case in cases) + "\n"
    lets = [f"let: {name} = {' '.join(hex_runs(data))}" for name, data in cases_maps.payloads()]
    texts[PROTOCOL / "transcripts/payloads.txt"] = ABOUT + "\n".join(lets) + "\n"
    return texts


def main() -> int:
    parser = argparse.ArgumentParser(description="write the test vectors of the protocol")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when not current")
    options = parser.parse_args()
    status = 0
    for path, text in outputs().items():
        if path.exists() and path.read_text("utf-8") == text:
            continue
        if options.check:
            name = path.relative_to(PROTOCOL.parent)
            print(f"{name} is not current: run protocol/generate_vectors.py", file=sys.stderr)
            status = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return status


if __name__ == "__main__":
    # The cases import this file by its name; they must get this module, not a second copy.
    sys.modules["generate_vectors"] = sys.modules["__main__"]
    sys.exit(main())
