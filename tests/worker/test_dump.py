# SPDX-License-Identifier: MIT
"""python -m asgi_worker.protocol.dump: readable, and never lost in bad bytes."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from asgi_worker.protocol.constants import (
    ERROR_CLIENT_GONE,
    FLAG_DONE,
    FLAG_END_STREAM,
    FRAME_CHANNEL_ERROR,
    FRAME_DATA,
    FRAME_DISCONNECT,
    FRAME_FILE,
    FRAME_LOG,
    FRAME_PING,
    FRAME_REQUEST,
    FRAME_RESPONSE,
    FRAME_RULES,
    FRAME_STATS,
    FRAME_TRAILERS,
)
from asgi_worker.protocol.dump import dump, main
from asgi_worker.protocol.frames import frame
from asgi_worker.protocol.msgpack import packb
from peer import hello_ack, request_head

STREAM = b"".join(
    [
        hello_ack(),
        frame(FRAME_PING, aux=7),
        frame(
            FRAME_REQUEST, request_head(path="/a", query=b"q") + b"BODY", stream=5,
            aux=len(request_head(path="/a", query=b"q")),
        ),
        frame(FRAME_DISCONNECT, stream=5, code=ERROR_CLIENT_GONE),
        frame(
            FRAME_RESPONSE, packb([b"content-type\0text/html"]), code=404, stream=5,
            flags=FLAG_END_STREAM | FLAG_DONE,
        ),
        frame(FRAME_DATA, b"x" * 500, stream=5),
        frame(FRAME_TRAILERS, packb([b"a\0b"]), stream=5, flags=FLAG_END_STREAM),
        frame(FRAME_FILE, (3).to_bytes(8, "little") + (9).to_bytes(8, "little"), stream=5),
        frame(FRAME_STATS, packb({"rss": 1, "in_flight": 2, "tasks": 3})),
        frame(FRAME_CHANNEL_ERROR, b"line one\nline two", code=15),
    ]
)  # fmt: skip


def test_readable() -> None:
    text = "\n".join(dump(STREAM))
    for piece in (
        "HELLO_ACK", "window = 65536", "PING", "nonce 7", "REQUEST", "stream 5", "path = '/a'",
        "host: localhost:8080", "body b'BODY'", "CLIENT_GONE", "RESPONSE", "END_STREAM+DONE",
        "code 404", "content-type: text/html", "... (500 bytes)", "a: b", "offset 3, count 9",
        "in_flight = 2", "STARTUP_FAILED", "| line two",
    ):  # fmt: skip
        assert piece in text, piece
    assert "!!" not in text


def test_bad_bytes_are_shown_and_said_so() -> None:
    assert "before the frame does" in "\n".join(dump(STREAM[:-3]))
    assert "less than a header" in "\n".join(dump(b"abc"))
    assert "malformed" in "\n".join(dump(frame(FRAME_REQUEST, b"\xdd\x01\0\0\0", stream=1)))
    assert "with flags" in "\n".join(dump(frame(FRAME_PING, flags=1)))
    assert "type 77" in "\n".join(dump(frame(77)))
    assert "cannot be told apart" in "\n".join(dump(b"\xff" * 16))


def test_any_bytes_are_survived() -> None:
    generator = random.Random(5)
    for _ in range(2000):
        list(dump(generator.randbytes(generator.randrange(100))))
        kind = generator.choice([*FRAME_RULES])
        payload = generator.randbytes(generator.randrange(30))
        list(
            dump(frame(kind, payload, aux=generator.choice([0, 5]), flags=generator.choice([0, 1])))
        )


def test_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "stream"
    file.write_bytes(STREAM)
    assert main([str(file)]) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(STREAM)))
    assert main(["-"]) == 0
    assert capsys.readouterr().out == first
    assert main([]) == 2
    assert main([str(tmp_path / "missing")]) == 1


def test_what_a_terminal_would_obey_is_escaped() -> None:
    nasty = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"
    head = packb([b"x\0" + nasty.encode("latin-1", "ignore")])
    frames = [
        frame(FRAME_CHANNEL_ERROR, f"first\n{nasty}".encode(), code=2),
        frame(FRAME_RESPONSE, head, stream=1, code=200),
        frame(FRAME_LOG, packb({"level": "info", "message": nasty, nasty: 1})),
    ]
    for line in dump(b"".join(frames)):
        assert line.isprintable(), repr(line)
