# SPDX-License-Identifier: MIT
# ruff: noqa: E501 (a table: one case, one line)
"""The 147 cases of h2spec 2.6, by part, section and number there, and which case of ours is the same: H2SPEC. What its generic part
asks for besides is at the beginning. test_http2_conformance.py runs each under its number.

h2spec was made for RFC 7540. What RFC 9113 says otherwise: a stream that depends on itself (http2/5.3.1) may be ignored (5.3.2); here it
is still an error. The invalid preface (http2/3.5/2) goes to HTTP/1.1 where a plain listener speaks both, which refuses the method and closes.
"""

import struct

from harness.http2 import (
    DATA,
    END_STREAM,
    GOAWAY,
    PRIORITY,
    RST_STREAM,
    WINDOW_UPDATE,
    block,
    frame,
    literal,
    request,
    string,
)
from http2_cases import ALL_H, POST, frames, headers
from http2_message_cases import ALL_CASES, STATIC

SLEEP = headers(block(request("/sleep?ms=200")))


def priority(name: str, dependency: int, weight: int) -> None:
    payload = struct.pack(">IB", dependency, weight)
    frames(f"6.3 PRIORITY {name}", "fine", send=frame(PRIORITY, 0, 3, payload) + headers())


priority("of weight 1", 0, 0)
priority("of weight 256", 0, 255)
priority("with a dependency", 1, 255)
priority("that is exclusive", 0x80000001, 255)
frames(
    "6.3 PRIORITY of a stream above the one that is opened",
    "fine",
    send=frame(PRIORITY, 0, 7, struct.pack(">IB", 0, 9)) + headers(),
)
frames(
    "5.1 half-closed: RST_STREAM",
    "fine",
    send=SLEEP + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)) + headers(stream=3),
    stream=3,
)
frames(
    "6.4 RST_STREAM",
    "fine",
    send=headers(POST, ALL_H) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)) + headers(stream=3),
    stream=3,
)
frames("6.8 GOAWAY", "last", send=headers() + frame(GOAWAY, 0, 0, bytes(8)))
frames(
    "6.9 WINDOW_UPDATE of the connection", "fine", send=frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 100)) + headers()
)
frames(
    "6.9 WINDOW_UPDATE of a stream",
    "fine",
    send=headers(POST, ALL_H) + frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)) + frame(DATA, END_STREAM, 1, b"x"),
)
frames(
    "7541 6.2.1 literal with indexing, Huffman, name from the table",
    "fine",
    send=headers(b"\x82\x86\x84\x41" + string("localhost", huffman=True)),
)
for first, how in (
    (0x40, "6.2.1 literal with indexing"),
    (0x00, "6.2.2 literal without indexing"),
    (0x10, "6.2.3 literal never indexed"),
):
    frames(f"7541 {how}, new name", "fine", send=headers(STATIC + literal("x-new", "name", first)))
    frames(
        f"7541 {how}, new name, Huffman", "fine", send=headers(STATIC + literal("x-new", "name", first, huffman=True))
    )
frames(
    "7541 6.2.2 literal without indexing, Huffman, name from the table",
    "fine",
    send=headers(b"\x82\x86\x84\x01" + string("localhost", huffman=True)),
)
frames("7541 6.2.3 literal never indexed, name from the table", "fine", send=headers(b"\x82\x86\x84\x11\x09localhost"))
frames(
    "7541 6.2.3 literal never indexed, Huffman, name from the table",
    "fine",
    send=headers(b"\x82\x86\x84\x11" + string("localhost", huffman=True)),
)
frames("7541 6.3 one size update", "fine", send=headers(b"\x3f\xe1\x1f" + STATIC))

PREFACE_CASE = "3.4 something else than a preface"  # has a test of its own

H2SPEC = {
    "generic/1/1": "3.4 preface and SETTINGS in one write with a request",
    "generic/2/1": "5.1 idle: PRIORITY",
    "generic/2/2": "5.1 half-closed: WINDOW_UPDATE",
    "generic/2/3": "5.1 half-closed: PRIORITY",
    "generic/2/4": "5.1 half-closed: RST_STREAM",
    "generic/2/5": "5.1 closed: PRIORITY",
    "generic/3.1/1": "6.1 DATA",
    "generic/3.1/2": "6.1 several DATA",
    "generic/3.1/3": "6.1 padded DATA",
    "generic/3.2/1": "3.4 preface and SETTINGS in one write with a request",
    "generic/3.2/2": "6.2 padded HEADERS",
    "generic/3.2/3": "6.2 HEADERS with a priority",
    "generic/3.3/1": "6.3 PRIORITY of weight 1",
    "generic/3.3/2": "6.3 PRIORITY of weight 256",
    "generic/3.3/3": "6.3 PRIORITY with a dependency",
    "generic/3.3/4": "6.3 PRIORITY that is exclusive",
    "generic/3.3/5": "6.3 PRIORITY of a stream above the one that is opened",
    "generic/3.4/1": "6.4 RST_STREAM",
    "generic/3.5/1": "6.5.3 SETTINGS are acknowledged",
    "generic/3.7/1": "6.7 PING is answered with its bytes",
    "generic/3.8/1": "6.8 GOAWAY",
    "generic/3.9/1": "6.9 WINDOW_UPDATE of the connection",
    "generic/3.9/2": "6.9 WINDOW_UPDATE of a stream",
    "generic/3.10/1": "4.3 field block with an empty CONTINUATION",
    "generic/3.10/2": "4.3 field block in three pieces",
    "generic/4/1": "3.4 preface and SETTINGS in one write with a request",
    "generic/4/2": "8 HEAD",
    "generic/4/3": "6.1 DATA",
    "generic/4/4": "8.1 trailers",
    "generic/5/1": "7541 6.1 indexed fields",
    "generic/5/2": "7541 6.2.1 literal with indexing, name from the table",
    "generic/5/3": "7541 6.2.1 literal with indexing, Huffman, name from the table",
    "generic/5/4": "7541 6.2.1 literal with indexing, new name",
    "generic/5/5": "7541 6.2.1 literal with indexing, new name, Huffman",
    "generic/5/6": "7541 6.2.2 literal without indexing, name from the table",
    "generic/5/7": "7541 6.2.2 literal without indexing, Huffman, name from the table",
    "generic/5/8": "7541 6.2.2 literal without indexing, new name",
    "generic/5/9": "7541 6.2.2 literal without indexing, new name, Huffman",
    "generic/5/10": "7541 6.2.3 literal never indexed, name from the table",
    "generic/5/11": "7541 6.2.3 literal never indexed, Huffman, name from the table",
    "generic/5/12": "7541 6.2.3 literal never indexed, new name",
    "generic/5/13": "7541 6.2.3 literal never indexed, new name, Huffman",
    "generic/5/14": "7541 6.3 one size update",
    "generic/5/15": "7541 6.3 size updates at the beginning",
    "http2/3.5/1": "3.4 preface byte by byte",
    "http2/3.5/2": PREFACE_CASE,
    "http2/4.1/1": "4.1 unknown type",
    "http2/4.1/2": "4.1 undefined flags of PING",
    "http2/4.1/3": "4.1 reserved bit of the stream id",
    "http2/4.2/1": "4.2 DATA of 16384 bytes",
    "http2/4.2/2": "4.2 DATA larger than SETTINGS_MAX_FRAME_SIZE",
    "http2/4.2/3": "4.2 HEADERS larger than SETTINGS_MAX_FRAME_SIZE",
    "http2/4.3/1": "4.3 field block that is no HPACK",
    "http2/4.3/2": "4.3 PRIORITY within a field block",
    "http2/4.3/3": "4.3 HEADERS of another stream within a field block",
    "http2/5.1/1": "5.1 idle: DATA",
    "http2/5.1/2": "5.1 idle: RST_STREAM",
    "http2/5.1/3": "5.1 idle: WINDOW_UPDATE",
    "http2/5.1/4": "5.1 idle: CONTINUATION",
    "http2/5.1/5": "5.1 half-closed: DATA",
    "http2/5.1/6": "5.1 half-closed: HEADERS",
    "http2/5.1/7": "5.1 half-closed: CONTINUATION",
    "http2/5.1/8": "5.1 closed by the client's RST_STREAM: DATA",
    "http2/5.1/9": "5.1 closed by the client's RST_STREAM: HEADERS",
    "http2/5.1/10": "5.1 closed by the client's RST_STREAM: CONTINUATION",
    "http2/5.1/11": "5.1 closed: DATA",
    "http2/5.1/12": "5.1 closed: HEADERS",
    "http2/5.1/13": "5.1 closed: CONTINUATION",
    "http2/5.1.1/1": "5.1.1 even stream id",
    "http2/5.1.1/2": "5.1.1 stream id smaller than an earlier one",
    "http2/5.1.2/1": "5.1.2 more streams than SETTINGS_MAX_CONCURRENT_STREAMS",
    "http2/5.3.1/1": "5.3.1 HEADERS that depend on themselves",
    "http2/5.3.1/2": "5.3.1 PRIORITY that depends on itself",
    "http2/5.4.1/1": "6.7 PING of another length",
    "http2/5.4.1/2": "6.7 PING of another length",
    "http2/5.5/1": "4.1 unknown type on a stream",
    "http2/5.5/2": "5.5 unknown frame within a field block",
    "http2/6.1/1": "6.1 DATA without a stream",
    "http2/6.1/2": "5.1 closed: DATA",
    "http2/6.1/3": "6.1 more padding than DATA",
    "http2/6.2/1": "4.3 PRIORITY within a field block",
    "http2/6.2/2": "4.3 HEADERS of another stream within a field block",
    "http2/6.2/3": "6.2 HEADERS without a stream",
    "http2/6.2/4": "6.2 more padding than HEADERS",
    "http2/6.3/1": "6.3 PRIORITY without a stream",
    "http2/6.3/2": "6.3 PRIORITY of another length",
    "http2/6.4/1": "6.4 RST_STREAM without a stream",
    "http2/6.4/2": "5.1 idle: RST_STREAM",
    "http2/6.4/3": "6.4 RST_STREAM of another length",
    "http2/6.5/1": "6.5 acknowledged SETTINGS with entries",
    "http2/6.5/2": "6.5 SETTINGS of a stream",
    "http2/6.5/3": "6.5 SETTINGS of another length",
    "http2/6.5.2/1": "6.5.2 ENABLE_PUSH 2",
    "http2/6.5.2/2": "6.5.2 INITIAL_WINDOW_SIZE above 2^31-1",
    "http2/6.5.2/3": "6.5.2 MAX_FRAME_SIZE below 16384",
    "http2/6.5.2/4": "6.5.2 MAX_FRAME_SIZE above 2^24-1",
    "http2/6.5.2/5": "6.5.2 unknown entry",
    "http2/6.5.3/1": "6.5.3 an entry twice: the last counts",
    "http2/6.5.3/2": "6.5.3 SETTINGS are acknowledged",
    "http2/6.7/1": "6.7 PING is answered with its bytes",
    "http2/6.7/2": "6.7 acknowledged PING that nobody sent",
    "http2/6.7/3": "6.7 PING of a stream",
    "http2/6.7/4": "6.7 PING of another length",
    "http2/6.8/1": "6.8 GOAWAY of a stream",
    "http2/6.9/1": "6.9 WINDOW_UPDATE of 0 on the connection",
    "http2/6.9/2": "6.9 WINDOW_UPDATE of 0 on a stream",
    "http2/6.9/3": "6.9 WINDOW_UPDATE of another length",
    "http2/6.9.1/1": "6.9.1 DATA within a window of one byte",
    "http2/6.9.1/2": "6.9.1 connection window above 2^31-1",
    "http2/6.9.1/3": "6.9.1 stream window above 2^31-1",
    "http2/6.9.2/1": "6.9.2 a window opened by SETTINGS",
    "http2/6.9.2/2": "6.9.2 a window made negative by SETTINGS",
    "http2/6.9.2/3": "6.5.2 INITIAL_WINDOW_SIZE above 2^31-1",
    "http2/6.10/1": "4.3 field block in three pieces",
    "http2/6.10/2": "6.10 CONTINUATION followed by DATA",
    "http2/6.10/3": "6.10 CONTINUATION without a stream",
    "http2/6.10/4": "6.10 CONTINUATION without HEADERS",
    "http2/6.10/5": "6.10 CONTINUATION behind one with END_HEADERS",
    "http2/6.10/6": "6.10 CONTINUATION behind DATA",
    "http2/7/1": "6.8 GOAWAY with an unknown code: what is under way is finished",
    "http2/7/2": "6.4 RST_STREAM with an unknown code",
    "http2/8.1/1": "8.1 HEADERS without END_STREAM behind DATA",
    "http2/8.1.2/1": "8 upper-case field name",
    "http2/8.1.2.1/1": "8 unknown pseudo-field",
    "http2/8.1.2.1/2": "8 pseudo-field of responses",
    "http2/8.1.2.1/3": "8.1 pseudo-field in trailers",
    "http2/8.1.2.1/4": "8 pseudo-field behind a field",
    "http2/8.1.2.2/1": "8 connection",
    "http2/8.1.2.2/2": "8 te that is not trailers",
    "http2/8.1.2.3/1": "8 empty :path",
    "http2/8.1.2.3/2": "8 no :method",
    "http2/8.1.2.3/3": "8 no :scheme",
    "http2/8.1.2.3/4": "8 no :path",
    "http2/8.1.2.3/5": "8 two :method",
    "http2/8.1.2.3/6": "8 two :scheme",
    "http2/8.1.2.3/7": "8 two :path",
    "http2/8.1.2.6/1": "8.1.1 body longer than content-length",
    "http2/8.1.2.6/2": "8.1.1 bodies longer than content-length in two frames",
    "http2/8.2/1": "6.6 PUSH_PROMISE from a client",
    "hpack/2.3.3/1": "7541 2.3.3 index beyond the table",
    "hpack/2.3.3/2": "7541 2.3.3 name beyond the table",
    "hpack/4.2/1": "7541 4.2 size update at the end",
    "hpack/5.2/1": "7541 5.2 Huffman padding of more than 7 bits",
    "hpack/5.2/2": "7541 5.2 Huffman padding of zeros",
    "hpack/5.2/3": "7541 5.2 Huffman with EOS",
    "hpack/6.1/1": "7541 6.1 index 0",
    "hpack/6.3/1": "7541 6.3 size update above our SETTINGS",
}  # fmt: skip

BY_NAME = {case.name: case for case in ALL_CASES}
