# SPDX-License-Identifier: MIT
"""The cases of vectors/frames-*.txt: what a receiver makes of frames, judged by their headers alone.

It knows the rules R1 to R18 of SPEC.md. Order on a stream, ids, credit and the meaning of payloads are
not its business: those are in transcripts/ and cases_heads.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generate_vectors import ERRORS, FLAGS, TABLE, Case, Frame, header, hex_runs

SIDES = ("gateway", "worker")
FLAGS_ALL = (1, 2, 4, 8, 16, 32, 64, 128)
NO_FIELDS = b"\x91\xc4\x00"


def ok(name: str, rule: str, side: str, *frames: Frame) -> Case:
    parts = [part for frame in frames for part in frame.wire()]
    return Case(name, rule, [f"from: {side}"], parts, [f"ok: {f.seen()}" for f in frames])


def error(name: str, rule: str, side: str, code: str, *frames: Frame, more: str = "") -> Case:
    parts = [part for frame in frames for part in frame.wire()]
    if more:
        parts.append(more)
    seen = [f"ok: {f.seen()}" for f in frames[:-1]]
    return Case(name, rule, [f"from: {side}"], parts, [*seen, f"error: {code}"])


def ignored(name: str, rule: str, side: str, frame: Frame, kind: int) -> Case:
    after = Frame("PING", aux=7)
    result = [f"ignored: {kind}", f"ok: {after.seen()}"]
    return Case(name, rule, [f"from: {side}"], [*frame.wire(), *after.wire()], result)


def partial(name: str, rule: str, side: str, frames: list[Frame], rest: bytes) -> Case:
    parts = [part for frame in frames for part in frame.wire()] + hex_runs(rest)
    result = [*(f"ok: {f.seen()}" for f in frames), f"partial: {len(rest)}"]
    return Case(name, rule, [f"from: {side}"], parts, result)


def good() -> list[Case]:
    first = Frame("DATA", b"abc", stream=1)
    return [
        ok("ping", "R1 R6", "gateway", Frame("PING", aux=0x01020304)),
        ok("pong", "R6", "worker", Frame("PONG", aux=0xFFFFFFFF)),
        ok("ping-nonce-zero", "R13", "gateway", Frame("PING")),
        ok("little-endian", "R6", "worker", Frame("RESPONSE", NO_FIELDS, code=0x0201, stream=0x04030201)),
        ok("two-frames", "R1", "worker", first, Frame("DATA", b"de", "END_STREAM", stream=1)),
        partial("half-header", "R1 R2", "worker", [first], header("DATA", 3, 0, 0, 1, 0)[:15]),
        partial("half-payload", "R1 R2", "worker", [first], header("DATA", 3, 0, 0, 1, 0) + b"ab"),
        partial("header-only", "R2", "worker", [], header("DATA", 3, 0, 0, 1, 0)),
        ok("longest-frame", "R7", "worker", Frame("DATA", b"x" * 65536, stream=1)),
        ok("goaway", "R12 R13", "gateway", Frame("GOAWAY", b"reload", code="DRAINING", aux=9)),
        ok("goaway-empty-text", "R41", "worker", Frame("GOAWAY", code="DRAINING", aux=0)),
        ok("goaway-long-text", "R7", "gateway", Frame("GOAWAY", b"t" * 1024, code="RETIRED", aux=1)),
        ok("channel-error", "R41", "worker", Frame("CHANNEL_ERROR", b"no\xff", code="INTERNAL")),
        ok("channel-error-long", "R7", "worker", Frame("CHANNEL_ERROR", b"e" * 32768, code="STARTUP_FAILED")),
        ok("ready", "R32", "worker", Frame("READY")),
        ok("conn", "R101", "gateway", Frame("CONN", b"\x80", aux=1)),
        ok("conn-end", "R103", "gateway", Frame("CONN_END", aux=0xFFFFFFFF)),
        ok("request-no-body", "R14", "gateway", Frame("REQUEST", b"\x9d", "END_STREAM", stream=1)),
        ok("request-body", "R14 R45", "gateway", Frame("REQUEST", b"\x9dbody", "END_STREAM", stream=1, aux=1)),
        ok("request-body-empty", "R14", "gateway", Frame("REQUEST", b"\x9d", stream=1, aux=1)),
        ok("request-expect", "R17", "gateway", Frame("REQUEST", b"\x9d", "EXPECT", stream=1)),
        ok("response", "R14", "worker", Frame("RESPONSE", NO_FIELDS + b"hi", "END_STREAM|DONE", 200, 1, 3)),
        ok("response-status-999", "R12", "worker", Frame("RESPONSE", NO_FIELDS, code=999, stream=1)),
        ok("informational", "R16", "worker", Frame("RESPONSE", NO_FIELDS, "INFORMATIONAL", 103, 1)),
        ok("data-empty-end", "R18", "gateway", Frame("DATA", b"", "END_STREAM", stream=1)),
        ok("data-end-done", "R15", "worker", Frame("DATA", b"x", "END_STREAM|DONE", stream=1)),
        ok("trailers", "R11", "worker", Frame("TRAILERS", NO_FIELDS, "END_STREAM", stream=1)),
        ok("window", "R13", "worker", Frame("WINDOW", stream=1, aux=1)),
        ok("window-greatest", "R13", "worker", Frame("WINDOW", stream=1, aux=0xFFFFFFFF)),
        ok("reset-done", "R15", "worker", Frame("RESET", b"", "DONE", "APP_EXCEPTION", 1)),
        ok("reset-body", "R12", "gateway", Frame("RESET", code="BODY_ABORTED", stream=1)),
        ok("refused", "R48", "worker", Frame("REFUSED", code="OVERLOADED", stream=1)),
        ok("disconnect", "R12", "gateway", Frame("DISCONNECT", code="CLIENT_GONE", stream=1)),
        ok("done", "R56", "worker", Frame("DONE", stream=4294901760)),
        ok("file", "R98", "worker", Frame("FILE", bytes(8) + b"\xff" * 8, "END_STREAM", stream=1)),
        ok("file-done", "R99", "gateway", Frame("FILE_DONE", stream=1)),
        ok("file-done-refused", "R110", "gateway", Frame("FILE_DONE", code="OVERLOADED", stream=1)),
        ok("ws-accept", "R84", "worker", Frame("WS_ACCEPT", b"\x92\xc0\xc4\x00", stream=1)),
        ok("ws-empty-text", "R18", "worker", Frame("WS_MSG", b"", "TEXT", stream=1)),
        ok("ws-part", "R11", "gateway", Frame("WS_MSG", b"a", "MORE|TEXT", stream=1)),
        ok("ws-close", "R87", "worker", Frame("WS_CLOSE", b"bye", "DONE", 1000, 1)),
        ok("ws-close-reason-longest", "R7", "gateway", Frame("WS_CLOSE", b"r" * 123, code=4999, stream=1)),
        ok("stats", "R80", "worker", Frame("STATS", b"\x80")),
        ok("log", "R80", "worker", Frame("LOG", b"\x80")),
        ignored("unknown-ignorable", "R8", "worker", Frame(130, b"abc"), 130),
        ignored("unknown-ignorable-odd", "R8", "gateway", Frame(255, b"", 0xFF, 0xFFFF, 77, 1), 255),
        ignored("unknown-ignorable-longest", "R7 R8", "worker", Frame(200, b"z" * 65536), 200),
        ignored("stats-from-gateway", "R9", "gateway", Frame("STATS", b"\x80"), 128),
        ignored("log-from-gateway-odd", "R9", "gateway", Frame("LOG", b"", 255, 9, 3, 4), 129),
    ]


DATA = Frame("DATA", b"abc", stream=1)
TOO_LONG = 65537
BAD: list[Case] = [
    error("frame-too-long", "R3 R7", "worker", "FRAME_SIZE", Frame("DATA", stream=1, length=TOO_LONG)),
    error("frame-4-gib", "R3 R7", "worker", "FRAME_SIZE", DATA, Frame("DATA", stream=1, length=0xFFFFFFFF)),
    error("ignorable-too-long", "R7 R8", "worker", "FRAME_SIZE", Frame(200, length=TOO_LONG)),
    error("hello-too-long", "R7", "worker", "FRAME_SIZE", Frame("HELLO", length=16385)),
    error("goaway-text-too-long", "R7", "worker", "FRAME_SIZE", Frame("GOAWAY", code="DRAINING", length=1025)),
    error("ws-reason-too-long", "R7", "worker", "FRAME_SIZE", Frame("WS_CLOSE", code=1000, stream=1, length=124)),
    error("done-with-payload", "R7", "worker", "FRAME_SIZE", Frame("DONE", b"x", stream=1)),
    error("window-with-payload", "R7", "gateway", "FRAME_SIZE", Frame("WINDOW", b"x", stream=1, aux=1)),
    error("file-short", "R7 R98", "worker", "PROTOCOL", Frame("FILE", bytes(15), stream=1)),
    error("file-done-code", "R12 R110", "gateway", "PROTOCOL", Frame("FILE_DONE", code="REFUSED", stream=1)),
    error("file-done-payload", "R7", "gateway", "FRAME_SIZE", Frame("FILE_DONE", b"x", stream=1)),
    error("file-long", "R7 R98", "worker", "FRAME_SIZE", Frame("FILE", bytes(17), stream=1)),
    error("response-empty", "R7 R49", "worker", "PROTOCOL", Frame("RESPONSE", code=200, stream=1)),
    error("request-empty", "R7", "gateway", "PROTOCOL", Frame("REQUEST", stream=1)),
    error("trailers-empty", "R7", "worker", "PROTOCOL", Frame("TRAILERS", b"", "END_STREAM", stream=1)),
    error("hello-empty", "R7", "worker", "PROTOCOL", Frame("HELLO")),
    error("type-zero", "R8", "worker", "PROTOCOL", Frame(0)),
    error("type-10", "R8", "gateway", "PROTOCOL", Frame(10)),
    error("type-15", "R8", "worker", "PROTOCOL", Frame(15)),
    error("type-30", "R8", "gateway", "PROTOCOL", Frame(30, stream=1)),
    error("type-127", "R8", "worker", "PROTOCOL", DATA, Frame(127)),
    error("trailers-without-end", "R11", "worker", "PROTOCOL", Frame("TRAILERS", NO_FIELDS, stream=1)),
    error("response-status-99", "R12", "worker", "PROTOCOL", Frame("RESPONSE", NO_FIELDS, "INFORMATIONAL", 99, 1)),
    error("response-status-0", "R12", "worker", "PROTOCOL", Frame("RESPONSE", NO_FIELDS, code=0, stream=1)),
    error("response-status-1000", "R12", "worker", "PROTOCOL", Frame("RESPONSE", NO_FIELDS, code=1000, stream=1)),
    error("ws-close-999", "R12 R87", "worker", "PROTOCOL", Frame("WS_CLOSE", code=999, stream=1)),
    error("ws-close-5000", "R12 R87", "gateway", "PROTOCOL", Frame("WS_CLOSE", code=5000, stream=1)),
    error("ws-close-no-code", "R12", "worker", "PROTOCOL", Frame("WS_CLOSE", stream=1)),
    error("reset-no-code", "R12", "worker", "PROTOCOL", Frame("RESET", stream=1)),
    error("reset-code-24", "R12", "worker", "PROTOCOL", Frame("RESET", code=24, stream=1)),
    error("reset-code-65535", "R12", "gateway", "PROTOCOL", Frame("RESET", code=65535, stream=1)),
    error("window-zero", "R13", "worker", "PROTOCOL", Frame("WINDOW", stream=1)),
    error("conn-zero", "R13", "gateway", "PROTOCOL", Frame("CONN", b"\x80")),
    error("conn-end-zero", "R13", "gateway", "PROTOCOL", Frame("CONN_END")),
    error("response-aux-long", "R14", "worker", "PROTOCOL", Frame("RESPONSE", NO_FIELDS, code=200, stream=1, aux=4)),
    error("request-aux-long", "R14", "gateway", "PROTOCOL", Frame("REQUEST", b"\x9d", stream=1, aux=0xFFFFFFFF)),
    error("data-done-without-end", "R15", "worker", "PROTOCOL", Frame("DATA", b"x", "DONE", stream=1)),
    error("response-done-without-end", "R15", "worker", "PROTOCOL", Frame("RESPONSE", NO_FIELDS, "DONE", 200, 1)),
    error("informational-200", "R16", "worker", "PROTOCOL", Frame("RESPONSE", NO_FIELDS, "INFORMATIONAL", 200, 1)),
    error("final-103", "R16", "worker", "PROTOCOL", Frame("RESPONSE", NO_FIELDS, "", 103, 1)),
    error(
        "informational-end",
        "R16",
        "worker",
        "PROTOCOL",
        Frame("RESPONSE", NO_FIELDS, "INFORMATIONAL|END_STREAM", 103, 1),
    ),
    error(
        "informational-done",
        "R16",
        "worker",
        "PROTOCOL",
        Frame("RESPONSE", NO_FIELDS, "INFORMATIONAL|END_STREAM|DONE", 103, 1),
    ),
    error(
        "informational-body",
        "R16",
        "worker",
        "PROTOCOL",
        Frame("RESPONSE", NO_FIELDS + b"x", "INFORMATIONAL", 103, 1, 3),
    ),
    error("expect-end", "R17", "gateway", "PROTOCOL", Frame("REQUEST", b"\x9d", "EXPECT|END_STREAM", stream=1)),
    error("expect-body", "R17", "gateway", "PROTOCOL", Frame("REQUEST", b"\x9dx", "EXPECT", stream=1, aux=1)),
    error("data-empty", "R18", "worker", "PROTOCOL", Frame("DATA", stream=1)),
    error("data-empty-from-gateway", "R18", "gateway", "PROTOCOL", Frame("DATA", stream=1)),
    error("ws-empty-more", "R18", "gateway", "PROTOCOL", Frame("WS_MSG", b"", "MORE", stream=1)),
]


def bad() -> list[Case]:
    small = error("frame-over-32768", "R7", "worker", "FRAME_SIZE", Frame("DATA", stream=1, length=32769))
    small.keys.append("max_frame: 32768")
    large = ok("frame-of-100000", "R7", "worker", Frame("DATA", b"y" * 100000, stream=1))
    large.keys.append("max_frame: 1048576")
    return [*BAD, small, large]


def from_table() -> list[Case]:
    """Every column of the frame table, one fault at a time."""
    return [case for name, row in TABLE["frames"].items() for case in of_row(name, row)]


def legal(name: str, row: dict[str, Any], side: str) -> Frame:
    """A frame of this type that is right in every column."""
    codes = row[side].get("codes", [])
    kinds: dict[str, int | str] = {"zero": 0, "status": 200, "close": 1000}
    code = codes[0] if codes else kinds[row.get("code_kind", "zero")]
    aux = 1 if row.get("aux") in ("increment", "conn-id") else 0
    payload = b"\0" * max(row.get("min", 0), 1 if row["payload"] == "bytes" else 0)
    stream = 1 if row["stream"] == "id" else 0
    return Frame(name, payload, "|".join(row.get("need", [])), code, stream, aux)


def of_row(name: str, row: dict[str, Any]) -> Iterator[Case]:
    low = name.lower().replace("_", "-")
    for side in SIDES:
        other = SIDES[side == "gateway"]
        tag = f"table-{low}-{side}"
        if side not in row:
            if row["number"] < 128:
                frame = legal(name, row, other)
                yield error(f"{tag}-not-sent", "R9", side, "PROTOCOL", frame)
            continue
        yield ok(f"{tag}-legal", "R7 R9 R10 R11 R12 R13", side, legal(name, row, side))
        wrong = legal(name, row, side)
        wrong.stream = 0 if row["stream"] == "id" else 1
        yield error(f"{tag}-stream-{wrong.stream}", "R10", side, "PROTOCOL", wrong)
        yield from wrong_flags(tag, name, row, side)
        yield from wrong_codes(tag, name, row, side)
        if row.get("aux", "zero") == "zero":
            wrong = legal(name, row, side)
            wrong.aux = 1
            yield error(f"{tag}-aux-1", "R13", side, "PROTOCOL", wrong)


def wrong_flags(tag: str, name: str, row: dict[str, Any], side: str) -> Iterator[Case]:
    may = sum(FLAGS[flag] for flag in row[side].get("flags", []))
    must = sum(FLAGS[flag] for flag in row.get("need", []))
    for bit in FLAGS_ALL:
        if not bit & may:
            wrong = legal(name, row, side)
            wrong.flags = must | bit
            yield error(f"{tag}-flag-{bit}", "R11", side, "PROTOCOL", wrong)


def wrong_codes(tag: str, name: str, row: dict[str, Any], side: str) -> Iterator[Case]:
    kind = row.get("code_kind", "zero")
    codes = [1] if kind == "zero" else []
    if kind == "error":
        legal_codes = [ERRORS[code] for code in row[side]["codes"]]
        codes = [number for number in range(25) if number not in legal_codes]
    for code in codes:
        wrong = legal(name, row, side)
        wrong.code = code
        yield error(f"{tag}-code-{code}", "R12", side, "PROTOCOL", wrong)
