# SPDX-License-Identifier: MIT
"""Readers for protocol/vectors/*.txt and protocol/transcripts/*.txt; their README.md files say the formats.

They turn text into blocks, frames and bytes, and bytes into canonical text. They know nothing of the code under
test, and take names and numbers from protocol/frames.toml, not from it.
"""

from __future__ import annotations

import struct
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

PROTOCOL = Path(__file__).resolve().parents[2] / "protocol"


def _table() -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    with (PROTOCOL / "frames.toml").open("rb") as file:
        data = tomllib.load(file)
    return (
        {name: row["number"] for name, row in data["frames"].items()},
        {name: row["bit"] for name, row in data["flags"].items()},
        {name: row["number"] for name, row in data["errors"].items()},
    )


TYPES, FLAGS, ERRORS = _table()
TYPE_NAMES = {number: name for name, number in TYPES.items()}


@dataclass
class Block:
    """One test: where it stands, and its lines as (key, rest)."""

    name: str
    where: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def get(self, key: str, default: str = "") -> str:
        """The value of the first line with this key."""
        return next((rest for k, rest in self.lines if k == key), default)

    def all(self, key: str) -> list[str]:
        return [rest for k, rest in self.lines if k == key]


def blocks(pattern: str) -> list[Block]:
    """All blocks of the files that match, in order."""
    found: list[Block] = []
    for path in sorted(PROTOCOL.glob(pattern)):
        if path.suffix != ".txt" or path.name == "payloads.txt":
            continue
        current: Block | None = None
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if not line.strip():
                current = None
                continue
            if line.startswith("#"):
                continue
            key, rest = split_line(line)
            if current is None:
                assert key == "name", f"{path.name}:{number}: a block begins with 'name:'"
                current = Block(rest, f"{path.name}:{number}")
                found.append(current)
            current.lines.append((key, rest))
    return found


def split_line(line: str) -> tuple[str, str]:
    if line[:3] in ("-> ", "<- "):
        return line[:2], line[3:].strip()
    key, separator, rest = line.partition(":")
    assert separator, f"no colon in {line!r}"
    return key.strip(), rest.strip()


def payloads() -> dict[str, bytes]:
    """What @NAME stands for."""
    lets: dict[str, bytes] = {}
    for line in (PROTOCOL / "transcripts/payloads.txt").read_text("utf-8").splitlines():
        if line.startswith("let: "):
            name, _, value = line[5:].partition(" = ")
            lets[name] = b"".join(hex_part(part) for part in value.split())
    return lets


def hex_part(part: str) -> bytes:
    """Hex, XX*N, @NAME or - (nothing)."""
    if part in ("", "-"):
        return b""
    if part[0] == "@":
        return LETS[part[1:]]
    if "*" in part:
        byte, _, count = part.partition("*")
        return bytes.fromhex(byte) * int(count)
    return bytes.fromhex(part)


LETS: dict[str, bytes] = {}
LETS.update(payloads())


def hex_lines(block: Block) -> bytes:
    return b"".join(hex_part(part) for part in block.all("hex"))


def show(data: bytes) -> str:
    """The canonical text of a payload."""
    if not data:
        return "-"
    if len(data) > 64 and data == data[:1] * len(data):
        return f"{data[:1].hex()}*{len(data)}"
    return data.hex()


def quote(value: bytes | str) -> str:
    """The canonical text of text and bytes."""
    raw = value.encode() if isinstance(value, str) else value
    body = "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'"\\' else f"\\x{b:02x}" for b in raw)
    return f'"{body}"'


def flag_names(flags: int) -> str:
    return "|".join(name for name, bit in FLAGS.items() if flags & bit) or "-"


def keys_of(text: str) -> dict[str, str]:
    """key=value pairs, separated by blanks."""
    return {key: value for key, _, value in (word.partition("=") for word in text.split())}


@dataclass(frozen=True)
class Frame:
    """A frame as it is written in transcripts."""

    kind: int
    flags: int = 0
    code: int = 0
    stream: int = 0
    aux: int = 0
    payload: bytes = b""
    any_aux: bool = False
    any_payload: bool = False

    def wire(self) -> bytes:
        head = struct.pack("<IBBHII", len(self.payload), self.kind, self.flags, self.code, self.stream, self.aux)
        return head + self.payload

    def matches(self, other: Frame) -> bool:
        """Whether a frame that was written is this expected one."""
        mine = (self.kind, self.flags, self.code, self.stream)
        if mine != (other.kind, other.flags, other.code, other.stream):
            return False
        return (self.any_aux or self.aux == other.aux) and (self.any_payload or self.payload == other.payload)

    def __str__(self) -> str:
        name = TYPE_NAMES.get(self.kind, str(self.kind))
        aux = "*" if self.any_aux else self.aux
        payload = "*" if self.any_payload else show(self.payload)
        return (
            f"{name} stream={self.stream} flags={flag_names(self.flags)} code={self.code} aux={aux} payload={payload}"
        )


def number(text: str, names: dict[str, int]) -> int:
    return names[text] if text in names else int(text)


def flags_of(text: str) -> int:
    if text in ("", "-"):
        return 0
    return int(text) if text.isdigit() else sum(FLAGS[name] for name in text.split("|"))


def parse_frame(text: str, repeat: int = 0) -> Frame:
    """TYPE key=value ...; `repeat` is what aux=+1 stands for."""
    kind, _, rest = text.strip().partition(" ")
    keys = keys_of(rest)
    parts = [] if keys.get("payload") == "*" else [hex_part(part) for part in keys.get("payload", "").split("+")]
    aux = keys.get("aux", "0")
    if aux == "auto":
        value = len(parts[0])
    elif aux == "+1":
        value = repeat
    else:
        value = 0 if aux == "*" else int(aux)
    return Frame(
        number(kind, TYPES),
        flags_of(keys.get("flags", "")),
        number(keys.get("code", "0"), ERRORS),
        int(keys.get("stream", "0")),
        value,
        b"".join(parts),
        aux == "*",
        keys.get("payload") == "*",
    )


def split_frames(data: bytes) -> list[Frame]:
    """What a side wrote; it must be whole frames."""
    frames: list[Frame] = []
    at = 0
    while at < len(data):
        length, kind, flags, code, stream, aux = struct.unpack_from("<IBBHII", data, at)
        payload = data[at + 16 : at + 16 + length]
        assert len(payload) == length, "the side under test wrote a part of a frame"
        frames.append(Frame(kind, flags, code, stream, aux, payload))
        at += 16 + length
    return frames


@dataclass
class Input:
    """What one -> line gives: bytes in one piece, in single bytes, or the end of the link."""

    data: bytes = b""
    bytewise: bool = False
    close: bool = False
    descriptor: str = ""  # "fd", "pipe", "nofd" or nothing


def parse_input(text: str) -> Input:
    """The rest of a -> line."""
    if text == "close":
        return Input(close=True)
    word, _, rest = text.partition(" ")
    if word == "raw":
        return Input(b"".join(hex_part(part) for part in rest.split()))
    if word == "bytes":
        return Input(parse_frame(rest).wire(), bytewise=True)
    if word in ("fd", "pipe", "nofd"):
        bytewise = rest.startswith("bytes ")
        return Input(parse_frame(rest.removeprefix("bytes ")).wire(), bytewise, descriptor=word)
    if word.endswith("*"):
        return Input(b"".join(parse_frame(rest, n + 1).wire() for n in range(int(word[:-1]))))
    return Input(b"".join(parse_frame(part).wire() for part in text.split(" | ")))
