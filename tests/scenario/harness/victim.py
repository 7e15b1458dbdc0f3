# SPDX-License-Identifier: MIT
"""An ordinary HTTP/3 client beside an attack, and what the attack may cost."""

import os
import threading
import time
from pathlib import Path

from .gateway import VARIANT, Gateway
from .http3 import Http3
from .process import rss, wait_for

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Victim:
    """`with Victim(gateway, grow=8): attack()`: meanwhile requests on a connection that lasts, and on new ones, must
    all be answered; afterwards the gateway may have grown by so many MiB, must be idle again and still serve."""

    def __init__(self, gateway: Gateway, *, grow: float = 16.0, new_connections: bool = True, pause: float = 0.01):
        self.gateway, self.grow, self.pause = gateway, grow, pause
        self.new_connections = new_connections
        self.answered = 0
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            with Http3(self.gateway.quic_address) as lasting:
                while not self._stop.is_set():
                    assert lasting.get().body == b"hello\n"
                    if self.new_connections:
                        with Http3(self.gateway.quic_address) as new:
                            assert new.get().body == b"hello\n"
                    self.answered += 1
                    self._stop.wait(self.pause)
        except BaseException as failure:  # shown at the end
            self.failure = failure

    def more(self, count: int = 3, seconds: float = 30.0) -> None:
        """Waits until it was served so many times more."""
        goal = self.answered + count
        wait_for(lambda: self.answered >= goal or self.failure, f"the victim to be served {count} times", seconds)
        assert self.failure is None, self.failure

    def __enter__(self) -> "Victim":
        with Http3(self.gateway.quic_address) as first:
            assert first.get().body == b"hello\n"
        self.before = rss(self.gateway.server_pid)
        self._thread.start()
        self.more(2)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.more(2)
        self._stop.set()
        self._thread.join()
        if kind is not None:
            return
        assert self.failure is None, self.failure
        grown = rss(self.gateway.server_pid) - self.before
        if VARIANT == "release":
            assert grown <= self.grow * MIB, f"the gateway grew by {grown / MIB:.1f} MiB"
        self.idle()

    def idle(self) -> None:
        """The gateway has nothing to do any more."""

        def quiet() -> bool:
            before = cpu_seconds(self.gateway.server_pid)
            time.sleep(0.3)
            return cpu_seconds(self.gateway.server_pid) - before <= 0.05

        wait_for(quiet, "the gateway to be idle", 15)
