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


class FileFrame(bytes):
    """A FILE frame, which must leave together with its descriptor and in a write of its own.

    `descriptor` is the io layer's; nothing here looks into it.
    """

    stream: Stream
    descriptor: Any


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
        self.queue: deque[tuple[Buffer, Buffer]] | None = None  # content and what must follow it
        self.handler: Any = None


class WebSocketStream(Stream):
    """A stream of kind 1, with the message that is not yet complete.

    `recv_ended` is true from the start: a request of this kind has no body, and DATA on it is
    what DATA after the end of a request is (SPEC R83).
    """

    __slots__ = ("accepted", "part", "part_cost", "text", "waiting")

    def __init__(self, stream_id: int, window: int) -> None:
        super().__init__(stream_id, window, window, True)
        self.accepted = False  # WS_ACCEPT went out
        self.waiting = False  # the application waits for the message that comes in now
        self.text: bool | None = None  # of the unfinished message; None: there is none
        self.part = bytearray()  # what came of it
        self.part_cost = 0  # of its frames, as far as they do not count as consumed yet
