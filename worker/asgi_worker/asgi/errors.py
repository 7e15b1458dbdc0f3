# SPDX-License-Identifier: MIT
"""What send() raises, and how an escaping exception is judged.

TypeError: a message or a value of the wrong type. ValueError: a malformed value or an unknown
message type. RuntimeError: a message out of sequence. ClientDisconnected (an OSError, ASGI
spec 2.4): the peer is gone. Uvicorn raises RuntimeError for several malformed values.
"""

from __future__ import annotations


class ClientDisconnected(OSError):
    """send() after the client has gone; an application may let it escape."""

    def __init__(self) -> None:
        super().__init__("the client has disconnected")


class WebSocketClosed(ClientDisconnected):
    """send() after the application itself has closed the WebSocket."""

    def __init__(self) -> None:
        OSError.__init__(self, "the WebSocket was closed by the application")


def is_disconnect(exc: BaseException) -> bool:
    """Tell whether `exc` only says that the client is gone.

    True for ClientDisconnected itself, for a group of nothing else, and for an exception
    raised while one was handled (Starlette turns it into an exception of its own).
    """
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        if isinstance(current, ClientDisconnected):
            return True
        if isinstance(current, BaseExceptionGroup):
            return all(is_disconnect(inner) for inner in current.exceptions)
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return False
