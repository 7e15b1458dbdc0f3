# SPDX-License-Identifier: MIT
"""Requests in the background: what a fault must not hurt."""

import threading
import time
from typing import TYPE_CHECKING

from .http1 import Closed

if TYPE_CHECKING:
    from .gateway import Gateway


class Load:
    """`with Load(gateway, clients=4): ...`: GETs one by one on keep-alive connections; none may fail."""

    def __init__(self, gateway: "Gateway", clients: int = 4, target: str = "/", pause: float = 0.002):
        self.gateway, self.target, self.pause = gateway, target, pause
        self.answered = 0
        self.failures: list[str] = []
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def _run(self) -> None:
        client = self.gateway.client()
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                status = client.get(self.target).status
                failure = "" if status == 200 else f"status {status}"
            except (OSError, Closed) as error:
                failure = repr(error)
                client.close()
                client = self.gateway.client()
            with self._lock:
                self.answered += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                if failure:
                    self.failures.append(failure)
            self._stop.wait(self.pause)
        client.close()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def more(self, count: int, seconds: float = 20.0) -> None:
        """Waits until so many more were answered."""
        goal = self.answered + count
        deadline = time.monotonic() + seconds
        while self.answered < goal:
            assert time.monotonic() < deadline, f"{self.answered} of {goal} answered, failures {self.failures[:5]}"
            time.sleep(0.005)

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            assert not self.failures, f"{len(self.failures)} of {self.answered} failed: {self.failures[:5]}"
            assert self.answered > 0
