# SPDX-License-Identifier: MIT
"""Waiting for what the link will tell: a list of futures that only wake.

Job: the two functions that receive() and send() share. What is waited for stays with the waiter's
object, so that a cancelled wait loses nothing.
"""

from __future__ import annotations

import asyncio


async def wait(loop: asyncio.AbstractEventLoop, waiters: list[asyncio.Future[None]]) -> None:
    """Wait until wake(waiters).

    Each waiter has a future of its own, so that cancelling one task leaves the others alone.
    """
    future: asyncio.Future[None] = loop.create_future()
    waiters.append(future)
    try:
        await future
    finally:
        waiters.remove(future)


def wake(waiters: list[asyncio.Future[None]] | None) -> None:
    """Wake all that wait."""
    if waiters:
        for future in waiters:
            if not future.done():
                future.set_result(None)
