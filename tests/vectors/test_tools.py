# SPDX-License-Identifier: MIT
"""The tools for people: `python -m asgi_worker.protocol.dump`, and protocol/capture.py between two sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from asgi_worker.protocol.dump import dump
from notation import PROTOCOL, Block, blocks, hex_lines, parse_frame

FRAMES = blocks("vectors/frames-*.txt")


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in FRAMES])
def test_dump_shows_every_vector(block: Block) -> None:
    """It never fails, and it names what a legal frame is."""
    text = "\n".join(dump(hex_lines(block)))
    for line in block.all("ok"):
        assert line.split()[0] in text
    if not any(block.all(key) for key in ("error", "partial", "ignored")):
        assert "!!" not in text, text


def test_dump_marks_a_breach() -> None:
    lines = list(dump(parse_frame("WINDOW stream=1").wire()))
    assert any("!!" in line for line in lines)


def connect(path: Path) -> socket.socket:
    """Dial a socket that another process is about to make."""
    for _ in range(500):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(10)
        try:
            link.connect(str(path))
        except OSError:
            link.close()
            time.sleep(0.02)
        else:
            return link
    raise AssertionError(f"nobody listens on {path}")


def test_capture_passes_on_and_writes_down(tmp_path: Path) -> None:
    hello = parse_frame("HELLO payload=@hello").wire()
    ack = parse_frame("HELLO_ACK payload=@ack").wire()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "gateway"))
    listener.listen()
    listener.settimeout(10)
    command = [sys.executable, str(PROTOCOL / "capture.py"), "spy", "gateway", "out"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as capture:
        try:
            worker = connect(tmp_path / "spy")
            gateway, _ = listener.accept()
            gateway.settimeout(10)
            worker.sendall(hello)
            assert gateway.recv(65536) == hello
            descriptor = os.open(tmp_path, os.O_RDONLY)
            socket.send_fds(gateway, [ack], [descriptor])
            data, descriptors, _, _ = socket.recv_fds(worker, 65536, 2)
            assert data == ack
            assert os.path.samestat(os.fstat(descriptors[0]), os.stat(tmp_path))
            os.close(descriptors[0])
            os.close(descriptor)
            worker.close()
            assert gateway.recv(1) == b""
            gateway.close()
        finally:
            capture.terminate()
            capture.wait()
            listener.close()
    assert (tmp_path / "out-1-worker.bin").read_bytes() == hello
    assert (tmp_path / "out-1-gateway.bin").read_bytes() == ack
