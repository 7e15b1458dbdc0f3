# SPDX-License-Identifier: MIT
"""The state of one stream that both halves of session.py share.

Job: hold the credit of both directions and what has ended; session.py changes it, the handler
(asgi/) reads it. `handler` belongs to whoever serves the stream and is not looked at here.
"""

from __future__ import annotations

from collections import deque
from typing import Any

Buffer = bytes | memoryview

# DATA is cut into slices of this size, and streams take turns slice by slice (SPEC R78). The
# body bytes in a RESPONSE, which counts as control, have the same bound.
SLICE = 16384


class Stream:
    """One request: its id, the credit of both directions, and who handles it."""

    __slots__ = (
        "disconnect",
        "expect",
        "file_pending",
        "gone",
        "handler",
        "id",
        "informational",
        "queue",
        "recv_ended",
        "recv_left",
        "recv_used",
        "send_credit",
        "send_ended",
    )

    def __init__(self, stream_id: int, send_credit: int, recv_left: int, recv_ended: bool) -> None:
        self.id = stream_id
        self.send_credit = send_credit
        self.recv_left = recv_left  # what the gateway may still send
        self.recv_used = 0  # what the application took and WINDOW has not given back
        self.recv_ended = recv_ended  # END_STREAM or BODY_ABORTED came in
        self.send_ended = False  # END_STREAM, RESET or REFUSED went out
        self.gone = False  # the gateway ended the stream: only RESET and DONE may go out
        self.expect = False  # the client waits for 100: no credit was granted yet
        self.disconnect = 0
        self.informational = 0  # 1xx heads that went out
        self.file_pending = False
        self.queue: deque[tuple[Buffer, Buffer]] | None = None  # DATA and what must follow it
        self.handler: Any = None
