# SPDX-License-Identifier: MIT
"""Credit arithmetic: what a frame costs, how much fits, when to grant.

Job: the few formulas of credit-based flow control as pure functions. The counters live in
session.Stream, because one object per request and direction would cost more than the formulas.
"""

from __future__ import annotations

from .constants import DATA_OVERHEAD

# A sender that holds less cannot send even one byte: it is "at zero".
ONE_BYTE = DATA_OVERHEAD + 1


def payload_room(credit: int, max_payload: int) -> int:
    """Return how many payload bytes one frame may carry now; 0 when not even one."""
    room = credit - DATA_OVERHEAD
    if room <= 0:
        return 0
    return room if room < max_payload else max_payload


def grant_due(window: int, peer_left: int, consumed: int) -> bool:
    """Tell whether WINDOW is to be sent: half a window was consumed, or the peer is at zero."""
    return consumed > 0 and (consumed * 2 >= window or peer_left < ONE_BYTE)
