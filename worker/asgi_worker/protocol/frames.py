# SPDX-License-Identifier: MIT
"""The frame header: packing, and checking one against the table of the protocol.

Job: the 16 bytes in front of every payload. What a frame means on a stream is session.py's
business; the numbers and the rules per type come from constants.py.
"""

from __future__ import annotations

from struct import Struct

from .constants import (
    ERROR_FRAME_SIZE,
    ERROR_NAMES,
    ERROR_PROTOCOL,
    FLAG_DONE,
    FLAG_END_STREAM,
    FLAG_EXPECT,
    FLAG_INFORMATIONAL,
    FLAG_MORE,
    FRAME_RULES,
    IGNORABLE_TYPE,
    FrameRule,
)

HEADER = Struct("<IBBHII")  # length, type, flags, code, stream, aux
pack_header = HEADER.pack
unpack_header_from = HEADER.unpack_from
FILE_PAYLOAD = Struct("<QQ")  # offset, count


class ProtocolError(Exception):
    """The peer broke a rule: the link closes with CHANNEL_ERROR(code) and this text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{ERROR_NAMES.get(code, code)}: {message}")
        self.code = code
        self.message = message


def frame(
    kind: int, payload: bytes = b"", *, flags: int = 0, code: int = 0, stream: int = 0, aux: int = 0
) -> bytes:
    """Return one whole frame."""
    return pack_header(len(payload), kind, flags, code, stream, aux) + payload


def _check_code(rule: FrameRule, code: int, codes: frozenset[int]) -> bool:
    if rule.code_kind == "zero":
        return code == 0
    if rule.code_kind == "error":
        return code in codes
    if rule.code_kind == "status":
        return 100 <= code <= 999
    return 1000 <= code <= 4999


def _bad_aux(meaning: str, aux: int, length: int) -> bool:
    if meaning == "zero":
        return aux != 0
    if meaning in ("increment", "conn-id"):
        return aux == 0
    return meaning == "head" and aux > length


def check_header(
    length: int,
    kind: int,
    flags: int,
    code: int,
    stream: int,
    aux: int,
    *,
    from_gateway: bool = True,
) -> FrameRule | None:
    """Check a header against the table; None means an unknown frame that is skipped.

    Raises ProtocolError (SPEC R7 to R18, R15 to R18 as far as the gateway's frames go). Whether
    the length is within the link's max_frame was checked before.
    """
    rule = FRAME_RULES.get(kind)
    if rule is None:
        if kind >= IGNORABLE_TYPE:
            return None
        raise ProtocolError(ERROR_PROTOCOL, f"frame type {kind} is unknown")
    if not (rule.from_gateway if from_gateway else rule.from_worker):
        if kind >= IGNORABLE_TYPE:  # R9: like an unknown one
            return None
        raise ProtocolError(ERROR_PROTOCOL, f"{rule.name} is not sent in this direction")
    legal = rule.gateway_flags if from_gateway else rule.worker_flags
    if flags & ~legal or flags & rule.need_flags != rule.need_flags:
        raise ProtocolError(ERROR_PROTOCOL, f"{rule.name} with flags {flags:#04x}")
    if (stream != 0) != rule.on_stream:
        raise ProtocolError(ERROR_PROTOCOL, f"{rule.name} on stream {stream}")
    if length < rule.min_length or length > rule.max_length:
        breach = ERROR_PROTOCOL if length < rule.min_length else ERROR_FRAME_SIZE
        raise ProtocolError(breach, f"{rule.name} with a payload of {length} bytes")
    if not _check_code(rule, code, rule.gateway_codes if from_gateway else rule.worker_codes):
        raise ProtocolError(ERROR_PROTOCOL, f"{rule.name} with code {code}")
    if _bad_aux(rule.aux, aux, length):
        raise ProtocolError(ERROR_PROTOCOL, f"{rule.name} with aux {aux}")
    _check_combination(rule, length, flags, code, aux)
    return rule


def _check_combination(rule: FrameRule, length: int, flags: int, code: int, aux: int) -> None:
    """R15 to R18: what one column of the table cannot say."""
    name = rule.name
    ended = flags & FLAG_END_STREAM
    bad = False
    if name == "RESPONSE":
        informational = flags & FLAG_INFORMATIONAL
        bad = (informational != 0) != (code < 200) or (flags & FLAG_DONE != 0 and not ended)
        bad = bad or (informational != 0 and (aux != 0 or ended != 0))
    elif name == "REQUEST":
        bad = flags & FLAG_EXPECT != 0 and (aux != 0 or ended != 0)
    elif name == "DATA":
        bad = not ended and (length == 0 or flags & FLAG_DONE != 0)
    elif name == "WS_MSG":
        bad = length == 0 and flags & FLAG_MORE != 0
    if bad:
        raise ProtocolError(
            ERROR_PROTOCOL, f"{name} with length {length}, flags {flags:#04x}, aux {aux}"
        )
