# SPDX-License-Identifier: MIT
"""The progress pages: what has started, and that the process is alive (SPEC section 15).

Job: map the page of each link and let one thread count its heartbeat word up. The word that
says what has started is stored by asgi/http.py through `words`: one item store into a view of
unsigned ints is one aligned 32-bit store. struct.pack_into would zero the word first.
"""

from __future__ import annotations

import mmap
import os
import threading

from ..protocol.constants import PAGE_SIZE

HEARTBEAT_INTERVAL = 1.0


class ProgressPage:
    """One mapped page; lives as long as a task of its link may store into it."""

    def __init__(self, descriptor: int) -> None:
        """Map and close the descriptor; raises OSError or ValueError when it is no page."""
        try:
            if os.fstat(descriptor).st_size != PAGE_SIZE:
                raise ValueError(f"the progress page is not {PAGE_SIZE} bytes long")
            self._map = mmap.mmap(descriptor, PAGE_SIZE)
        finally:
            os.close(descriptor)
        self.words = memoryview(self._map).cast("I")

    def beat(self) -> None:
        """Count the heartbeat word up."""
        self.words[1] = (self.words[1] + 1) & 0xFFFFFFFF


class Heartbeat:
    """The thread that beats all pages once a second, whatever the event loop is doing."""

    def __init__(self) -> None:
        self._pages: set[ProgressPage] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, page: ProgressPage) -> None:
        """Beat this page from now on; starts the thread with the first one."""
        with self._lock:
            self._pages.add(page)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
            self._thread.start()

    def remove(self, page: ProgressPage) -> None:
        """Forget a page."""
        with self._lock:
            self._pages.discard(page)

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(HEARTBEAT_INTERVAL):
            with self._lock:
                pages = list(self._pages)
            for page in pages:
                page.beat()
