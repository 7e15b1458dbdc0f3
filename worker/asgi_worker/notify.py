# SPDX-License-Identifier: MIT
"""What a service manager is told: the protocol of sd_notify(3), without its library; a ready file.

Job: take NOTIFY_SOCKET and WATCHDOG_USEC out of the environment, so that no process started later
speaks in this one's name, and send READY=1, RELOADING=1, STOPPING=1, STATUS= and WATCHDOG=1. A
service manager that cannot be reached is no reason to stop: errors are ignored. Where there is
none, in a container, a file says the same: it exists while the app is served (--ready-file).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress


class Notifier:
    """The way to the service manager; without one every call does nothing."""

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = watchdog if address else None  # seconds between signs of life
        self._status = ""
        self.ready_file: str | None = None
        self._serving = False

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Read the environment, and remove from it what is meant for this process only."""
        address = environ.pop("NOTIFY_SOCKET", "")
        usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return cls()
        asked = usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid()))
        # Half the time that the manager waits, as sd_watchdog_enabled(3) advises.
        return cls(address, int(usec) / 2e6 if asked else None)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(errors="replace"), self._address)

    def ready(self) -> None:
        """Say that the service serves; also the end of a reload."""
        self._send("READY=1")

    def serving(self, now: bool) -> None:
        """Keep the ready file: there while somebody serves."""
        if self.ready_file is None or now == self._serving:
            return
        self._serving = now
        with suppress(OSError):
            if now:
                os.close(os.open(self.ready_file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            else:
                os.unlink(self.ready_file)

    def reloading(self) -> None:
        """Say that a reload begins; ready() says that it is over."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the service stops."""
        self.serving(False)
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in one line how it is, when that has changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Say that this process turns."""
        self._send("WATCHDOG=1")
