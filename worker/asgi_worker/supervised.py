# SPDX-License-Identifier: MIT
"""The worker's side of the channel to its supervisor: one inherited socket, lines of text.

Job: tell the supervisor `ready`, `alive`, `recycle WHY` and `failed WHY`, and hear `stop` and `now`
from it. The end of the channel means that the supervisor is gone, however it went: the worker stops
then, and ends by force when it cannot stop, so that no orphan stays. Hearing is a thread's work,
because a blocked event loop or a long import must not hide the end. It knows no application.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress

from .config import ConfigError

# The environment variable that makes a command a supervised worker; its value is the descriptor.
MARKER = "ASGI_WORKER_SUPERVISOR_FD"

READY, ALIVE, RECYCLE, FAILED = "ready", "alive", "recycle", "failed"
STOP, NOW = "stop", "now"
MAX_LINE = 2000


class Channel:
    """The channel of one worker; the sending half may be used from the event loop's thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> Channel | None:
        """Take the channel that the environment names, if any; raises ConfigError.

        The variable is removed: what the application starts is nobody's supervised worker.
        """
        text = environ.pop(MARKER, None)
        if text is None:
            return None
        try:
            descriptor = int(text)
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                raise ValueError
            sock = socket.socket(fileno=descriptor)
            sock.set_inheritable(False)
        except (ValueError, OSError):
            raise ConfigError(
                f"{MARKER}={text} is no channel to a supervisor; only --workers sets this "
                "variable, remove it from the environment"
            ) from None
        return cls(sock)

    def ready(self) -> None:
        """Say that this worker serves."""
        self._say(READY)

    def alive(self) -> None:
        """Say that the event loop turns; lost when the supervisor does not listen for minutes."""
        with suppress(OSError):
            self._sock.send(f"{ALIVE}\n".encode(), socket.MSG_DONTWAIT)

    def recycle(self, reason: str) -> None:
        """Ask for a replacement; the worker serves on until it is told to stop."""
        self._say(RECYCLE, reason)

    def failed(self, reason: str) -> None:
        """Say in one sentence why this worker ends."""
        self._say(FAILED, reason)

    def _say(self, word: str, text: str = "") -> None:
        line = " ".join([word, *text.split()])[:MAX_LINE]
        with suppress(OSError):  # a supervisor that is gone is noticed by the listener
            self._sock.sendall(f"{line}\n".encode(errors="replace"))

    def listen(self, on_stop: Callable[[str, bool], None], on_now: Callable[[], None]) -> None:
        """Call back, in a thread of its own, for `now` and for `stop`.

        on_stop gets why, and whether it is the end of the channel.
        """
        thread = threading.Thread(
            target=self._listen, args=(on_stop, on_now), name="supervisor", daemon=True
        )
        thread.start()

    def _listen(self, on_stop: Callable[[str, bool], None], on_now: Callable[[], None]) -> None:
        rest = b""
        while True:
            try:
                data = self._sock.recv(256)
            except OSError:
                data = b""
            if not data:
                on_stop("the supervisor is gone", True)
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line == STOP.encode():
                    on_stop("the supervisor stops this worker", False)
                elif line == NOW.encode():
                    on_now()


def end_by_force(seconds: float, code: int) -> None:
    """End this process after so many seconds, whatever its other threads do then."""

    def wait() -> None:
        time.sleep(seconds)
        os._exit(code)

    threading.Thread(target=wait, name="end by force", daemon=True).start()
