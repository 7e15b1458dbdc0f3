# SPDX-License-Identifier: MIT
"""What Session.receive_data() returns.

RequestReceived, DataReceived and MessageReceived are tuples: they are made once per request,
body frame or message, and a frozen dataclass costs several times as much to make. The others
are rare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .codec import HelloAck, RequestHead

if TYPE_CHECKING:
    from .stream import Stream


class RequestReceived(NamedTuple):
    """A stream was opened; `body` holds the first bytes, `end` says that there are no more."""

    stream: Stream
    head: RequestHead
    body: bytes
    end: bool


class DataReceived(NamedTuple):
    """Bytes of a request body."""

    stream: Stream
    data: bytes
    end: bool


class MessageReceived(NamedTuple):
    """A complete WebSocket message; `cost` is the credit that it holds until it is taken."""

    stream: Stream
    data: str | bytes
    cost: int


class CreditReceived(NamedTuple):
    """The gateway granted credit to a stream."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class HeadInvalid:
    """The head of a request could not be decoded; the stream was refused (reset) already."""

    stream_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The gateway ended the stream, or with BODY_ABORTED its request body."""

    stream: Stream
    code: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """What happened to the client: CLIENT_EOF or CLIENT_GONE."""

    stream: Stream
    code: int


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The gateway ended a WebSocket: what the client's close frame said, or its own reason."""

    stream: Stream
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class FileDone:
    """The last byte of a FILE has left, or the gateway did not take it (SPEC R110)."""

    stream: Stream
    refused: bool


@dataclass(frozen=True, slots=True)
class AckReceived:
    """The handshake is over."""

    ack: HelloAck


@dataclass(frozen=True, slots=True)
class GoawayReceived:
    """The gateway opens no stream above `last_id`."""

    code: int
    last_id: int
    text: str


@dataclass(frozen=True, slots=True)
class ChannelErrorReceived:
    """The gateway closes the link."""

    code: int
    text: str


Event = (
    RequestReceived
    | DataReceived
    | MessageReceived
    | CreditReceived
    | HeadInvalid
    | StreamReset
    | Disconnected
    | CloseReceived
    | FileDone
    | AckReceived
    | GoawayReceived
    | ChannelErrorReceived
)
