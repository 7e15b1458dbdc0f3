# SPDX-License-Identifier: MIT
# ruff: noqa: E501 (a table: one case, one line)
"""The rest of the table of http2_cases.py: messages (RFC 9113 section 8) and header compression (RFC 7541). ALL_CASES has both."""

import struct

from harness.http2 import (
    COMPRESSION_ERROR,
    DATA,
    END_STREAM,
    PRIORITY_UPDATE,
    PROTOCOL_ERROR,
    block,
    frame,
    literal,
    request,
)
from http2_cases import ALL_H, BAD_REQUEST, CASES, LAST, POST, frames, headers

# --- 8: messages -----------------------------------------------------------------------------------------------------


def message(name: str, *fields: tuple[str, str], kind: str = "strict", codes: tuple[int, ...] | None = None) -> None:
    if codes is None:
        codes = () if kind == "fine" else (PROTOCOL_ERROR, BAD_REQUEST)
    frames(f"8 {name}", kind, *codes, send=headers(block(list(fields))))


METHOD, SCHEME, AUTHORITY, PATH = request()
message("HEAD", (":method", "HEAD"), SCHEME, AUTHORITY, PATH, kind="fine")
message("OPTIONS *", (":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*"), kind="fine", codes=(404,))
message("no :authority but Host", METHOD, SCHEME, PATH, ("host", "localhost"), kind="fine")
message(":authority and the same Host", METHOD, SCHEME, AUTHORITY, PATH, ("host", "LOCALHOST:80"), kind="fine")
message("te: trailers", METHOD, SCHEME, AUTHORITY, PATH, ("te", "trailers"), kind="fine")
message("upper-case field name", METHOD, SCHEME, AUTHORITY, PATH, ("X-A", "b"))
message("field name with a space", METHOD, SCHEME, AUTHORITY, PATH, ("x a", "b"))
message("empty field name", METHOD, SCHEME, AUTHORITY, PATH, ("", "b"))
message("field name with a colon", METHOD, SCHEME, AUTHORITY, PATH, ("x:y", "b"))
message("field value with CR LF", METHOD, SCHEME, AUTHORITY, PATH, ("x-a", "b\r\nx-b: c"))
message("field value with NUL", METHOD, SCHEME, AUTHORITY, PATH, ("x-a", "b\0c"))
message("field value that begins with a space", METHOD, SCHEME, AUTHORITY, PATH, ("x-a", " b"))
message("unknown pseudo-field", METHOD, SCHEME, AUTHORITY, PATH, (":x", "y"))
message("pseudo-field of responses", METHOD, SCHEME, AUTHORITY, PATH, (":status", "200"))
message(":protocol with END_STREAM", (":method", "CONNECT"), SCHEME, AUTHORITY, PATH, (":protocol", "websocket"))
message("pseudo-field behind a field", METHOD, SCHEME, AUTHORITY, ("x-a", "b"), PATH)
message("connection", METHOD, SCHEME, AUTHORITY, PATH, ("connection", "keep-alive"))
message("keep-alive", METHOD, SCHEME, AUTHORITY, PATH, ("keep-alive", "timeout=5"))
message("proxy-connection", METHOD, SCHEME, AUTHORITY, PATH, ("proxy-connection", "keep-alive"))
message("transfer-encoding", METHOD, SCHEME, AUTHORITY, PATH, ("transfer-encoding", "chunked"))
message("upgrade", METHOD, SCHEME, AUTHORITY, PATH, ("upgrade", "websocket"))
message("te that is not trailers", METHOD, SCHEME, AUTHORITY, PATH, ("te", "trailers, deflate"))
message("empty :path", METHOD, SCHEME, AUTHORITY, (":path", ""))
message("no :method", SCHEME, AUTHORITY, PATH)
message("no :scheme", METHOD, AUTHORITY, PATH)
message("no :path", METHOD, SCHEME, AUTHORITY)
message("no host at all", METHOD, SCHEME, PATH)
message("two :method", METHOD, METHOD, SCHEME, AUTHORITY, PATH)
message("two :scheme", METHOD, SCHEME, SCHEME, AUTHORITY, PATH)
message("two :path", METHOD, SCHEME, AUTHORITY, PATH, PATH)
message("two :authority", METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH)
message(":authority and another Host", METHOD, SCHEME, AUTHORITY, PATH, ("host", "other"))
message("two Host", METHOD, SCHEME, PATH, ("host", "localhost"), ("host", "localhost"))
message(":authority with user information", METHOD, SCHEME, (":authority", "a@localhost"), PATH)
message(":authority with a path", METHOD, SCHEME, (":authority", "localhost/x"), PATH)
message(":path without a slash", METHOD, SCHEME, AUTHORITY, (":path", "x"))
message(":path that is a URL", METHOD, SCHEME, AUTHORITY, (":path", "http://localhost/"))
message(":path with a space", METHOD, SCHEME, AUTHORITY, (":path", "/a b"))
message(":path with a fragment", METHOD, SCHEME, AUTHORITY, (":path", "/a#b"))
message(":path with an escaped NUL", METHOD, SCHEME, AUTHORITY, (":path", "/a%00b"))
message(":path * of GET", METHOD, SCHEME, AUTHORITY, (":path", "*"))
message(":method with a space", (":method", "GET /"), SCHEME, AUTHORITY, PATH)
message(":scheme that is not http", METHOD, (":scheme", "gopher"), AUTHORITY, PATH)
message(
    "two content-length", (":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "0"), ("content-length", "0")
)
message("content-length that is no number", (":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "+0"))
message("content-length without a body", (":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "1"))
message("CONNECT", (":method", "CONNECT"), (":authority", "localhost:80"), codes=(PROTOCOL_ERROR, 501))
message("TRACE", (":method", "TRACE"), SCHEME, AUTHORITY, PATH, codes=(PROTOCOL_ERROR, 501))
message("unknown expectation", METHOD, SCHEME, AUTHORITY, PATH, ("expect", "more"), codes=(417,))

SIZED = block(request("/echo", "POST", ("content-length", "1")))
frames("8.1 trailers", "fine", send=headers(POST, ALL_H) + frame(DATA, 0, 1, b"x") + headers(block([("x-sum", "1")])))
frames(
    "8.1 HEADERS without END_STREAM behind DATA",
    "strict",
    PROTOCOL_ERROR,
    send=headers(POST, ALL_H) + frame(DATA, 0, 1, b"x") + headers(block([("x-sum", "1")]), ALL_H),
)
frames(
    "8.1 pseudo-field in trailers",
    "strict",
    PROTOCOL_ERROR,
    send=headers(POST, ALL_H) + frame(DATA, 0, 1, b"x") + headers(block([(":method", "GET")])),
)
frames(
    "8.1.1 body shorter than content-length",
    "strict",
    PROTOCOL_ERROR,
    send=headers(SIZED, ALL_H) + frame(DATA, END_STREAM, 1, b""),
)
frames(
    "8.1.1 body longer than content-length",
    "strict",
    PROTOCOL_ERROR,
    send=headers(SIZED, ALL_H) + frame(DATA, END_STREAM, 1, b"test"),
)
frames(
    "8.1.1 bodies longer than content-length in two frames",
    "strict",
    PROTOCOL_ERROR,
    send=headers(SIZED, ALL_H) + frame(DATA, 0, 1, b"x") + frame(DATA, END_STREAM, 1, b"y"),
)
frames("8.1.1 content-length that is right", "fine", send=headers(SIZED, ALL_H) + frame(DATA, END_STREAM, 1, b"x"))
frames("8.2.3 cookie in crumbs", "fine", send=headers(block(request("/", "GET", ("cookie", "a=b"), ("cookie", "c=d")))))

# --- RFC 9218 --------------------------------------------------------------------------------------------------------

frames(
    "9218 PRIORITY_UPDATE of an idle stream",
    "fine",
    send=frame(PRIORITY_UPDATE, 0, 0, struct.pack(">I", 1) + b"u=0, i") + headers(),
)
frames(
    "9218 PRIORITY_UPDATE of an open stream",
    "fine",
    send=headers(POST, ALL_H)
    + frame(PRIORITY_UPDATE, 0, 0, struct.pack(">I", 1) + b"u=7")
    + frame(DATA, END_STREAM, 1, b"x"),
)
frames(
    "9218 PRIORITY_UPDATE on a stream",
    "connection",
    PROTOCOL_ERROR,
    send=frame(PRIORITY_UPDATE, 0, 1, struct.pack(">I", 1) + b"u=7"),
)
frames("9218 priority that cannot be read", "fine", send=headers(block(request("/", "GET", ("priority", "u=99, =")))))

# --- RFC 7541 --------------------------------------------------------------------------------------------------------

STATIC = b"\x82\x86\x84" + literal(":authority", "localhost")  # :method GET, :scheme http, :path /
frames("7541 6.1 indexed fields", "fine", send=headers(STATIC))
frames("7541 6.2.1 literal with indexing, name from the table", "fine", send=headers(b"\x82\x86\x84\x41\x09localhost"))
frames(
    "7541 6.2.1 literal with indexing, new name, used again",
    "fine",
    send=headers(STATIC + literal("x-a", "b", 0x40)) + headers(STATIC + b"\xbe", LAST, 3),
    stream=3,
)
frames(
    "7541 6.2.2 literal without indexing, name from the table", "fine", send=headers(b"\x82\x86\x84\x01\x09localhost")
)
frames("7541 6.2.3 literal never indexed", "fine", send=headers(STATIC + literal("x-a", "b", 0x10)))
frames("7541 5.2 Huffman", "fine", send=headers(STATIC + b"\x00\x83" + b"\xf2\xb2\x3f" + b"\x01b"))
frames("7541 6.3 size updates at the beginning", "fine", send=headers(b"\x20\x3f\xe1\x1f" + STATIC))
frames("7541 2.3.3 index beyond the table", "connection", COMPRESSION_ERROR, send=headers(STATIC + b"\xc6"))
frames("7541 2.3.3 name beyond the table", "connection", COMPRESSION_ERROR, send=headers(STATIC + b"\x7f\x07\x01x"))
frames("7541 4.2 size update at the end", "connection", COMPRESSION_ERROR, send=headers(STATIC + b"\x20"))
frames(
    "7541 5.1 integer too long",
    "connection",
    COMPRESSION_ERROR,
    send=headers(STATIC + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x0f"),
)
frames(
    "7541 5.2 Huffman padding of more than 7 bits",
    "connection",
    COMPRESSION_ERROR,
    send=headers(STATIC + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
)
frames(
    "7541 5.2 Huffman padding of zeros",
    "connection",
    COMPRESSION_ERROR,
    send=headers(STATIC + b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
)
frames(
    "7541 5.2 Huffman with EOS",
    "connection",
    COMPRESSION_ERROR,
    send=headers(STATIC + b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"),
)
frames("7541 6.1 index 0", "connection", COMPRESSION_ERROR, send=headers(STATIC + b"\x80"))
frames(
    "7541 6.3 size update above our SETTINGS", "connection", COMPRESSION_ERROR, send=headers(b"\x3f\xe2\x1f" + STATIC)
)

ALL_CASES = CASES
