# SPDX-License-Identifier: MIT
"""RFC 6455 and RFC 7692 case by case, in the order of the usual conformance suites: framing, pings, reserved bits,
opcodes, fragmentation, UTF-8, close, limits, compression. The server echoes messages; test_websocket_conformance.py
runs each case over every carrier.

A case sends its frames and expects frames back in this order: (opcode, payload), whole messages. Then the server closes
with `code`, or (None) the client closes with 1000 and has that answered.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from harness.websocket import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, close_payload, frame

Back = list[tuple[int, bytes]]


@dataclass(frozen=True)
class Case:
    name: str
    sent: list[bytes]
    back: Back
    code: int | None = None
    chop: int = 0  # sends so many bytes at a time
    loose: bool = (
        False  # what comes before the close is not looked at: it depends on what was there when the fault was seen
    )


CASES: list[Case] = []


def case(
    name: str, sent: Iterable[bytes], back: Back, code: int | None = None, *, chop: int = 0, loose: bool = False
) -> None:
    CASES.append(Case(name, list(sent), back, code, chop, loose))


def plain(opcode: int, payload: bytes) -> bytes:
    """A large frame with a mask of zeros, which costs Python nothing."""
    return frame(opcode, payload, mask=bytes(4) if len(payload) > 65536 else b"\x37\xfa\x21\x3d")


def fragments(opcode: int, payload: bytes, size: int) -> list[bytes]:
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    last = len(pieces) - 1
    return [
        frame(0, piece, (opcode if n == 0 else CONTINUATION) | (FIN if n == last else 0), mask=b"\1\2\3\4")
        for n, piece in enumerate(pieces)
    ]


# --- 1: framing -------------------------------------------------------------------------------------------------------

for kind, name, filler in ((TEXT, "text", b"*"), (BINARY, "binary", b"\xfe")):
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536):
        case(f"1 {name} of {size}", [plain(kind, filler * size)], [(kind, filler * size)])
    case(f"1 {name} of 65536 in pieces of 997", [plain(kind, filler * 65536)], [(kind, filler * 65536)], chop=997)
    case(f"1 {name} of 300 byte by byte", [plain(kind, filler * 300)], [(kind, filler * 300)], chop=1)

# --- 2: pings ---------------------------------------------------------------------------------------------------------

for size in (0, 1, 5, 125):
    case(f"2 ping of {size}", [frame(PING, b"\xfe" * size)], [(PONG, b"\xfe" * size)])
case("2 ping of 125 byte by byte", [frame(PING, b"\xfe" * 125)], [(PONG, b"\xfe" * 125)], chop=1)
case("2 ping of 126", [frame(PING, b"\xfe" * 126)], [], 1002)
case("2 pong that nobody asked for", [frame(PONG)], [])
case("2 pong with payload, then a ping", [frame(PONG, b"unasked"), frame(PING, b"p")], [(PONG, b"p")])
case("2 ten pings, each answered", [frame(PING, b"%d" % n) for n in range(10)], [], loose=True)

# --- 3: reserved bits -------------------------------------------------------------------------------------------------

for bits in range(1, 8):
    first = FIN | bits << 4 | TEXT
    case(f"3 reserved bits {bits:03b}", [frame(TEXT, b"a"), frame(TEXT, b"b", first)], [], 1002, loose=True)
    case(f"3 reserved bits {bits:03b} of a ping", [frame(PING, b"b", FIN | bits << 4 | PING)], [], 1002)
    case(f"3 reserved bits {bits:03b} of a close", [frame(CLOSE, b"", FIN | bits << 4 | CLOSE)], [], 1002)

# --- 4: opcodes -------------------------------------------------------------------------------------------------------

for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    case(f"4 opcode {opcode}", [frame(opcode)], [], 1002)
    case(f"4 opcode {opcode} with payload", [frame(opcode, b"reserved")], [], 1002)
    case(f"4 opcode {opcode} behind a text", [frame(TEXT, b"a"), frame(opcode), frame(PING)], [], 1002, loose=True)

# --- 5: fragmentation -------------------------------------------------------------------------------------------------

AB = [frame(0, b"a", TEXT), frame(0, b"b", FIN)]
case("5 ping in two frames", [frame(0, b"a", PING), frame(0, b"b", FIN)], [], 1002)
case("5 pong in two frames", [frame(0, b"a", PONG), frame(0, b"b", FIN)], [], 1002)
case("5 text in two frames", AB, [(TEXT, b"ab")])
case("5 text in two frames, byte by byte", AB, [(TEXT, b"ab")], chop=1)
case("5 ping between fragments", [AB[0], frame(PING, b"p"), AB[1]], [(PONG, b"p"), (TEXT, b"ab")])
case("5 ping between fragments, byte by byte", [AB[0], frame(PING, b"p"), AB[1]], [(PONG, b"p"), (TEXT, b"ab")], chop=1)
case("5 pong between fragments", [AB[0], frame(PONG, b"p"), AB[1]], [(TEXT, b"ab")])
for fin in (FIN, 0):
    case(f"5 continuation of nothing, FIN {fin >> 7}", [frame(0, b"x", fin), *AB], [], 1002)
    case(f"5 continuation behind a message, FIN {fin >> 7}", [*AB, frame(0, b"x", fin)], [], 1002, loose=True)
    case(f"5 continuation of nothing in pieces, FIN {fin >> 7}", [frame(0, b"x", fin)], [], 1002, chop=1)
case("5 a text within a text", [AB[0], frame(TEXT, b"x")], [], 1002)
case("5 a binary within a text", [AB[0], frame(BINARY, b"x", BINARY)], [], 1002)
case("5 five fragments with pings", [x for part in fragments(TEXT, b"12345", 1) for x in (part, frame(PING, b"p"))], [],
     loose=True)  # fmt: skip
case("5 empty fragments", [frame(0, b"", TEXT), frame(0, b"", 0), frame(0, b"", FIN)], [(TEXT, b"")])
case("5 empty first and last fragment", [frame(0, b"", TEXT), frame(0, b"m", 0), frame(0, b"", FIN)], [(TEXT, b"m")])
case("5 two messages in fragments", AB + AB, [(TEXT, b"ab"), (TEXT, b"ab")])

# --- 6: UTF-8 ---------------------------------------------------------------------------------------------------------

VALID = [
    "Hello-µ@ßöäüàá-UTF-8!!".encode(), "κόσμε".encode(), b"\x00", b"\x7f", b"\xc2\x80", b"\xdf\xbf", b"\xe0\xa0\x80",
    b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xef\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf",
    b"\xf0\x9f\xbf\xbe", b"\xef\xb7\x90", b"\xf3\xaf\xbf\xbf", "\U0001f600".encode() * 50,
]  # fmt: skip
INVALID = [
    b"\x80", b"\xbf", b"\x80\xbf\x80", bytes(range(0x80, 0xC0)), b"\xc0 ", b"\xe0 ", b"\xf0 ", b"\xf8 ", b"\xfc ",
    b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80", b"\xdf", b"\xef\xbf",
    b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff", b"\xc0\xaf",
    b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf", b"\xc1\xbf",
    b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80",
    b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbe\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80", b"\xf4\x90\x80\x80", b"\xf7\xbf\xbf\xbf", b"\xf8\x88\x80\x80\x80", b"\xce\xba\xe1",
    "κόσμε".encode() + b"\xed\xa0\x80edited",
]  # fmt: skip
for text in VALID:
    case(f"6 valid {text[:8].hex()}", [frame(TEXT, text)], [(TEXT, text)])
    case(f"6 valid {text[:8].hex()}, a byte a frame", fragments(TEXT, text, 1), [(TEXT, text)])
for text in INVALID:
    case(f"6 invalid {text[:12].hex()}", [frame(TEXT, text)], [], 1007)
    case(f"6 invalid {text[:12].hex()}, a byte a frame", fragments(TEXT, text, 1), [], 1007)
case("6 a fault is seen before the message ends", [frame(0, b"\xce\xba\xf4\x90", TEXT)], [], 1007)
case("6 a fault is seen within the frame", [frame(TEXT, b"ab\xff" + b"c" * 200)[:-100]], [], 1007)
case("6 a character cut by the message's end", [frame(0, b"\xce", TEXT), frame(0, b"", FIN)], [], 1007)
case("6 binary need not be UTF-8", [frame(BINARY, b"\xff\xfe")], [(BINARY, b"\xff\xfe")])

# --- 7: close ---------------------------------------------------------------------------------------------------------

case("7 close", [frame(CLOSE, close_payload(1000))], [], 1000)
case("7 close twice", [frame(CLOSE, close_payload(1000))] * 2, [], 1000)
case("7 ping behind close", [frame(CLOSE, close_payload(1000)), frame(PING)], [], 1000)
case("7 text behind close", [frame(CLOSE, close_payload(1000)), frame(TEXT, b"x")], [], 1000)
case("7 close within a message", [AB[0], frame(CLOSE, close_payload(1000)), AB[1]], [], 1000)
case("7 text, then close", [frame(TEXT, b"x"), frame(CLOSE, close_payload(1000))], [], 1000, loose=True)
case("7 close without a code", [frame(CLOSE)], [], 1005)
case("7 close of one byte", [frame(CLOSE, b"\x03")], [], 1002)
case("7 close in two frames", [frame(0, close_payload(1000), CLOSE), frame(0, b"", FIN)], [], 1002)
for reason in ("Hello World!", "x" * 123, "ü" * 61):
    case(f"7 reason of {len(reason)}", [frame(CLOSE, close_payload(1000, reason))], [], 1000)
case("7 reason of 124", [frame(CLOSE, close_payload(1000, "x" * 124))], [], 1002)
case("7 reason that is not UTF-8", [frame(CLOSE, close_payload(1000) + b"\xed\xa0\x80")], [], 1007)
for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
    case(f"7 code {code}", [frame(CLOSE, close_payload(code))], [], code)
for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
    case(f"7 reserved code {code}", [frame(CLOSE, close_payload(code))], [], 1002)

# --- masks (RFC 6455 5.1) ---------------------------------------------------------------------------------------------

case("5.1 not masked", [b"\x81\x01x"], [], 1002)
case("5.1 a ping that is not masked", [b"\x89\x00"], [], 1002)
case("5.2 a length that is longer than needed", [b"\x82\xfe\x00\x01\0\0\0\0x"], [], 1002, loose=True)
case("5.2 a length with its first bit", [b"\x82\xff" + b"\xff" * 8 + bytes(4)], [], 1002, loose=True)

# --- 9: limits (messages of a megabyte at most in this site) ----------------------------------------------------------

NOISE = os.urandom(4096) * 256
for size in (1 << 18, 1 << 20):
    case(f"9 binary of {size}", [plain(BINARY, NOISE[:size])], [(BINARY, NOISE[:size])])
    case(f"9 binary of {size} in frames of 4096", fragments(BINARY, bytes(size), 4096), [(BINARY, bytes(size))])
    case(f"9 text of {size} in pieces of 2048", [plain(TEXT, b"*" * size)], [(TEXT, b"*" * size)], chop=2048)
case("9 one byte more than the limit", [plain(BINARY, bytes((1 << 20) + 1))], [], 1009)
case("9 more than the limit in fragments", fragments(BINARY, bytes((1 << 20) + 1), 65536), [], 1009)
case("9 more frames than the limit", fragments(BINARY, bytes(1025), 1), [], 1008)
case("9 as many frames as the limit", fragments(BINARY, bytes(1024), 1), [(BINARY, bytes(1024))])
case("9 a length of 2^62", [b"\x82\xff\x40" + bytes(7) + bytes(4) + b"x"], [], 1009)
case(
    "9 thousand small messages", [frame(TEXT, b"%d" % n) for n in range(1000)], [(TEXT, b"%d" % n) for n in range(1000)]
)

# --- 12, 13: compression ----------------------------------------------------------------------------------------------

# Offers, and messages of each kind and size; the client compresses as was agreed.
OFFERS = {
    "nothing": "permessage-deflate",
    "client_no_context_takeover": "permessage-deflate; client_no_context_takeover",
    "server_no_context_takeover": "permessage-deflate; server_no_context_takeover",
    "both without takeover": "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "small windows": "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9",
    "the server's window": "permessage-deflate; server_max_window_bits=10",
    "the client's window": "permessage-deflate; client_max_window_bits",
    "a second choice": "permessage-deflate; server_max_window_bits=16, permessage-deflate",
}
MESSAGES = {
    "words": (TEXT, b"the same words again and again; "),
    "JSON": (TEXT, b'{"id": 12345, "name": "J\xc3\xbcrgen", "tags": ["a", "b"]}, '),
    "zeros": (BINARY, b"\0"),
    "noise": (BINARY, NOISE[:4096]),
    "bytes": (BINARY, bytes(range(256))),
}
SIZES = (0, 1, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)


def message(kind: str, size: int) -> tuple[int, bytes]:
    opcode, unit = MESSAGES[kind]
    text = (unit * (size // len(unit) + 1))[:size]
    while opcode == TEXT and text and text[-1] & 0x80:
        text = text[:-1]
    return opcode, text


# With compression on: what breaks its rules.
BAD_COMPRESSED = {
    "a control frame that is compressed": (frame(PING, b"x", FIN | RSV1 | PING), 1002),
    "a continuation that is compressed": (frame(0, b"x", RSV1 | TEXT) + frame(0, b"x", FIN | RSV1), 1002),
    "no deflate data": (frame(TEXT, b"\xff" * 20, FIN | RSV1 | TEXT), 1007),
}
