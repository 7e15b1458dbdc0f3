# SPDX-License-Identifier: MIT
"""What the apps of the framework suites share: gates that a test opens, meetings, and facts about a request.

Gates are threading.Events, so that coroutines and the threads of synchronous views can wait for the same one.
"""

import asyncio
import hashlib
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

from scenario import note

WAIT = 20.0  # only a broken run waits so long
gates: dict[str, threading.Event] = defaultdict(threading.Event)


def open_gate(name: str) -> None:
    gates[name].set()


async def pass_gate(name: str) -> None:
    """Waits until a test opens this gate."""
    if not await asyncio.to_thread(gates[name].wait, WAIT):
        raise TimeoutError(f"nobody opened gate {name}")


def pass_gate_in_thread(name: str) -> None:
    if not gates[name].wait(WAIT):
        raise TimeoutError(f"nobody opened gate {name}")


class Meeting:
    """Holds requests until as many as were announced are in the app at once."""

    def __init__(self) -> None:
        self.present: dict[str, int] = defaultdict(int)
        self.complete: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def attend(self, name: str, size: int) -> None:
        self.present[name] += 1
        if self.present[name] == size:
            self.complete[name].set()
        await asyncio.wait_for(self.complete[name].wait(), WAIT)


meeting = Meeting()
thread_meetings: dict[str, threading.Barrier] = {}
_meetings_lock = threading.Lock()


def attend_in_thread(name: str, size: int) -> None:
    with _meetings_lock:
        barrier = thread_meetings.setdefault(name, threading.Barrier(size))
    barrier.wait(WAIT)


def facts(scope: MutableMapping[str, Any], body: bytes) -> dict[str, Any]:
    """What an app can know of a request, as JSON can hold it."""
    tls = scope["extensions"].get("tls") if "extensions" in scope else None
    return {
        "method": scope["method"],
        "version": scope["http_version"],
        "scheme": scope["scheme"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "root_path": scope.get("app_root_path", scope["root_path"]),  # Starlette's mounts lengthen root_path
        "query": scope["query_string"].decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "client": scope.get("client"),
        "server": scope["server"],
        "tls": tls and {"version": tls["tls_version"], "cipher": tls["cipher_suite"], "cert": bool(tls["server_cert"])},
        **digest(body),
    }


def digest(body: bytes) -> dict[str, Any]:
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


async def lines(count: int, gate: str = "") -> AsyncIterator[bytes]:
    """`count` lines; with a gate the second and later ones wait for it."""
    for number in range(count):
        if number == 1 and gate:
            await pass_gate(gate)
        yield b"line %d\n" % number


def lines_in_thread(count: int, gate: str = "") -> Iterator[bytes]:
    for number in range(count):
        if number == 1 and gate:
            pass_gate_in_thread(gate)
        yield b"line %d\n" % number


PIECE = bytes(range(256)) * 64  # 16 KiB


async def pieces(count: int, name: str) -> AsyncIterator[bytes]:
    """`count` pieces of 16 KiB (0: without end); notes how many were taken and that it was closed."""
    taken = 0
    try:
        while not count or taken < count:
            yield PIECE
            taken += 1
            note(f"{name} taken {taken}")
    finally:
        note(f"{name} closed")
