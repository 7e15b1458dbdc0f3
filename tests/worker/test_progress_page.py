# SPDX-License-Identifier: MIT
"""The progress page (SPEC section 15): no reader ever sees a torn or empty word.

A kill in the middle of a batch of 64: the page of the dead process names exactly the last
request whose application code ran, checked id by id.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asgi_worker.io.page import Heartbeat, ProgressPage
from gateway import DEADLINE, Gateway, finish, new_page

STORES = 300_000


def read_word(descriptor: int, index: int) -> int:
    return int.from_bytes(os.pread(descriptor, 4, 4 * index), sys.byteorder)


def test_store_is_never_torn_under_a_reader_in_another_thread() -> None:
    descriptor = new_page()
    page = ProgressPage(os.dup(descriptor))
    seen: list[int] = []
    stop = threading.Event()
    page.words[0] = 1

    def reader() -> None:
        last = 0
        while not stop.is_set():
            value = read_word(descriptor, 0)
            if value < last:
                seen.append(value)
            last = value

    thread = threading.Thread(target=reader)
    thread.start()
    words = page.words
    for stream_id in range(1, STORES):
        words[0] = stream_id * 14293  # all four bytes change
    stop.set()
    thread.join(DEADLINE)
    os.close(descriptor)
    assert seen == []


READER = """
import os, sys
descriptor = int(sys.argv[1])
last = count = bad = 0
while True:
    value = int.from_bytes(os.pread(descriptor, 4, 0), sys.byteorder)
    count += 1
    bad += value < last
    last = value
    if value == 0xFFFFFFFF:
        break
print(count, bad)
"""


def test_store_is_never_torn_under_a_reader_in_another_process() -> None:
    descriptor = new_page()
    page = ProgressPage(os.dup(descriptor))
    words = page.words
    words[0] = 1
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(descriptor)],
        pass_fds=[descriptor],
        stdout=subprocess.PIPE,
    )
    for stream_id in range(1, STORES):
        words[0] = stream_id * 14293
    words[0] = 0xFFFFFFFF
    output, _ = reader.communicate(timeout=DEADLINE)
    os.close(descriptor)
    count, bad = map(int, output.split())
    assert count > 0
    assert bad == 0


def test_only_the_item_store_is_used() -> None:
    import ast

    import asgi_worker

    for path in Path(asgi_worker.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Attribute) and node.attr == "pack_into"), (
                f"{path}:{node.lineno}: pack_into zeroes the word before it stores"
            )


def test_heartbeat_counts_and_leaves_word_0_alone() -> None:
    descriptor = new_page()
    page = ProgressPage(os.dup(descriptor))
    page.words[0] = 77
    page.words[1] = 0xFFFFFFFF
    page.beat()
    assert (read_word(descriptor, 0), read_word(descriptor, 1)) == (77, 0)
    page.beat()
    assert read_word(descriptor, 1) == 1
    assert os.pread(descriptor, 4088, 8) == bytes(4088)
    os.close(descriptor)


def test_heartbeat_thread_starts_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from asgi_worker.io import page as page_module

    monkeypatch.setattr(page_module, "HEARTBEAT_INTERVAL", 0.001)
    descriptor = new_page()
    page = ProgressPage(os.dup(descriptor))
    heartbeat = Heartbeat()
    heartbeat.add(page)
    while read_word(descriptor, 1) < 5:
        pass
    heartbeat.remove(page)
    heartbeat.stop()
    value = read_word(descriptor, 1)
    assert read_word(descriptor, 1) == value
    os.close(descriptor)


@pytest.mark.parametrize("size", [0, 100, 8192])
def test_a_page_of_another_size_is_refused_and_closed(size: int) -> None:
    descriptor = os.memfd_create("wrong")
    os.ftruncate(descriptor, size)
    copy = os.dup(descriptor)
    with pytest.raises(ValueError, match="4096"):
        ProgressPage(copy)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)
    os.close(descriptor)


def test_the_words_are_native_and_in_place() -> None:
    descriptor = new_page()
    page = ProgressPage(os.dup(descriptor))
    page.words[0] = 0x01020304
    with mmap.mmap(descriptor, 4096) as raw:
        assert raw[:4] == (0x01020304).to_bytes(4, sys.byteorder)
    os.close(descriptor)


@pytest.mark.parametrize("victim", [1, 2, 17, 40, 64])
def test_kill_in_the_middle_of_a_batch_of_64(victim: int) -> None:
    """One write of 64 requests; the process kills itself inside one of them."""
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app")
        exchanges = [link.peer.request(path="/kill" if i == victim else "/") for i in range(1, 65)]
        link.until_end()
        code, _ = finish(worker)
        assert code == -9
        started = link.word(0)
        assert started == victim
        for exchange in exchanges:
            # what ran to its end before the kill may or may not have been written: it shared a
            # batch with the victim; what comes after the victim must have left no trace
            if exchange.id > started:
                assert exchange.frames == []
            if exchange.id == started:
                assert not exchange.done


def test_kill_between_batches_leaves_the_answered_ones() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app")
        for _ in range(64):
            assert link.request(path="/").body == b"hello"
        assert link.word(0) == 64
        exchange = link.peer.request(path="/kill")
        link.until_end()
        finish(worker)
        assert link.word(0) == exchange.id


def test_sigstop_and_kill_with_requests_in_the_buffer() -> None:
    """What lies unread in the dead worker's buffer was never started, and the page says so."""
    import signal

    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app")
        link.request(path="/")
        worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
        for _ in range(10):
            link.peer.request(path="/")
        link.flush()
        worker.kill()
        link.until_end()
        finish(worker)
        assert link.word(0) == 1
