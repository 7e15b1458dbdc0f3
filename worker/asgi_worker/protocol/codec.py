# SPDX-License-Identifier: MIT
"""Heads and maps: REQUEST and CONN in, RESPONSE, HELLO and STATS out.

Job: turn payloads into Python values and back, strictly. A REQUEST head is read positionally
(a generic decode would cost more than everything else a worker does for a request); whatever
is not in its common shape goes through the generic decoder, which is the one that judges.
The caches are bounded and cleared when full; they are shared by all links of a process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .constants import (
    KIND_HTTP,
    KIND_WEBSOCKET,
    MAP_CONN,
    MAP_EXTENSIONS,
    MAP_HELLO_ACK,
    MapKey,
)
from .msgpack import MsgpackError, pack_bin_header, packb, unpackb

Address = tuple[str, int | None]
Header = tuple[bytes, bytes]
# (version, cipher suite, connection id or 0)
Tls = tuple[int, int, int]
# kind, method, http_version, scheme, path, raw_path, query, root_path, client, server, headers,
# tls, extensions. A plain tuple: it is made and unpacked once per request.
RequestHead = tuple[
    int,
    str,
    str,
    str,
    str,
    bytes,
    bytes,
    str,
    Address | None,
    Address,
    list[Header],
    Tls | None,
    Mapping[str, Any] | None,
]

REQUEST_FIELDS = 13
MAX_ADDRESSES = 4096
MAX_STARTS = 256
MAX_TAILS = 1024
MAX_TAIL_BYTES = 2048
MAX_RESPONSE_HEADS = 1024
MAX_CACHED_HEAD_BYTES = 2048

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_DIGITS = re.compile(rb"[0-9]{1,18}\Z")
_PORT = re.compile(rb"(?:0|[1-9][0-9]{0,4})\Z")
# Bytes to delete from a block, so that only what must not stand there is left (SPEC R40).
_VALUE_BYTES = bytes(b for b in range(256) if b not in range(32) and b != 127) + b"\t"
_NOT_IN_ACCEPT = (b"connection", b"upgrade", b"content-length")
_NAME_BYTES = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"


class HeadError(ValueError):
    """A payload from the gateway does not have the shape that the protocol gives it."""


def decode_fields(block: bytes) -> list[Header]:
    """Split a NUL-joined block into (name, value) pairs; raises HeadError (SPEC R39, R40)."""
    if not block:
        return []
    parts = block.split(b"\0")
    if len(parts) & 1:
        raise HeadError("a field block has a name without a value")
    names = parts[::2]
    if len(block.translate(None, _VALUE_BYTES)) != len(parts) - 1:
        raise HeadError("a field value has a control byte in it")
    if b"" in names or b"".join(names).translate(None, _NAME_BYTES):
        raise HeadError("a field name is no token in lower case")
    return list(zip(names, parts[1::2], strict=True))


def encode_fields(fields: Iterable[Header]) -> bytes:
    """Join (name, value) pairs with NUL; the caller has checked that none contains one."""
    return b"\0".join([part for field in fields for part in field])


def _decode_address(data: bytes) -> Address:
    """Decode `host NUL port` (SPEC R43); a Unix socket of a server has no port."""
    host, separator, port = data.rpartition(b"\0")
    if not separator or b"\0" in host:
        raise HeadError("an address is not host NUL port")
    if not port:
        return host.decode("utf-8", "surrogateescape"), None
    if not _PORT.match(port) or int(port) > 65535:
        raise HeadError("the port of an address is no port")
    return host.decode("utf-8", "surrogateescape"), int(port)


_PLAIN_TYPES: dict[str, type] = {"uint": int, "text": str, "bin": bytes, "texts": list}


def _check_value(name: str, key: MapKey, value: Any) -> None:
    kind = key.type
    if kind.endswith("?"):
        if value is None:
            return
        kind = kind[:-1]
    if kind == "bool":
        good = isinstance(value, bool)
    elif kind == "priority":
        good = (
            isinstance(value, list)
            and len(value) == 2
            and type(value[0]) is int
            and 0 <= value[0] <= 7
            and isinstance(value[1], bool)
        )
    else:
        good = type(value) is _PLAIN_TYPES[kind]
        if good:
            size = value if kind == "uint" else len(value.encode() if kind == "text" else value)
            good = key.minimum <= size <= key.maximum
        if good and kind == "texts":
            good = all(isinstance(item, str) for item in value)
    if not good:
        raise HeadError(f"the value of {name!r} is not a {key.type} within its bounds")


def check_map(value: Any, keys: Mapping[str, MapKey]) -> dict[str, Any]:
    """Check a decoded map against its table; unknown keys are skipped. Raises HeadError."""
    if not isinstance(value, dict):
        raise HeadError("a map was expected")
    for name, key in keys.items():
        if name in value:
            _check_value(name, key, value[name])
        elif key.required:
            raise HeadError(f"the key {name!r} is missing")
    return value


def decode_map(payload: bytes, keys: Mapping[str, MapKey]) -> dict[str, Any]:
    """Decode a map payload and check it; raises HeadError."""
    try:
        return check_map(unpackb(payload), keys)
    except MsgpackError as exc:
        raise HeadError(str(exc)) from exc


@dataclass(frozen=True, slots=True)
class HelloAck:
    """What the gateway answers to HELLO; times in seconds."""

    proto: int
    features: frozenset[str]
    gateway: bytes
    channels: int
    token: bytes
    max_frame: int
    window: int
    ws_max_message: int
    ping_interval: float
    start_timeout: float
    server_cert: str | None


def decode_hello_ack(payload: bytes) -> HelloAck:
    """Decode HELLO_ACK; raises HeadError."""
    value = decode_map(payload, MAP_HELLO_ACK)
    if value["window"] < value["max_frame"]:
        raise HeadError("the window is smaller than max_frame")
    return HelloAck(
        proto=value["proto"],
        features=frozenset(value["features"]),
        gateway=value["gateway"],
        channels=value["channels"],
        token=value["token"],
        max_frame=value["max_frame"],
        window=value["window"],
        ws_max_message=value["ws_max_message"],
        ping_interval=value["ping_interval"] / 1000,
        start_timeout=value["start_timeout"] / 1000,
        server_cert=value["server_cert"],
    )


@dataclass(frozen=True, slots=True)
class Certificates:
    """What CONN says about a TLS connection; server_cert None means the one of HELLO_ACK."""

    client_cert_chain: tuple[str, ...]
    client_cert_name: str | None
    client_cert_error: str | None
    server_cert: str | None


def decode_conn(payload: bytes) -> Certificates:
    """Decode CONN; raises HeadError."""
    value = decode_map(payload, MAP_CONN)
    return Certificates(
        client_cert_chain=tuple(value["client_cert_chain"]),
        client_cert_name=value["client_cert_name"],
        client_cert_error=value["client_cert_error"],
        server_cert=value.get("server_cert"),
    )


# What follows root_path in a head; decoded once per connection as long as its bytes stay equal.
Tail = tuple[Address | None, Address, list[Header], Tls | None, Mapping[str, Any] | None]


class RequestDecoder:
    """Decodes REQUEST heads; one per process, shared by all sessions."""

    __slots__ = ("_addresses", "_starts", "_tails")

    def __init__(self) -> None:
        self._addresses: dict[bytes, Address] = {}
        self._starts: dict[bytes, tuple[int, str, str, str]] = {}
        self._tails: dict[bytes, Tail] = {}

    def decode(self, head: bytes) -> RequestHead:
        """Return the fields of a head; raises HeadError.

        The fast path knows heads whose first four fields were seen before byte for byte (those
        bytes have been judged, so a lookup replaces a decode) and reads the usual encodings of
        the next four; everything else is left to the generic decoder.
        """
        try:
            end = 3 + (head[2] & 31)
            end += 1 + (head[end] & 31)
            end += 1 + (head[end] & 31)
            start = self._starts.get(head[:end])
            if start is None:
                return self._decode_slowly(head)
            tag = head[end]
            if 0xA0 <= tag < 0xC0:
                begin = end + 1
                end = begin + tag - 0xA0
            elif tag == 0xD9:
                begin = end + 2
                end = begin + head[end + 1]
            else:
                return self._decode_slowly(head)
            raw_path = head[begin:end]
            path = raw_path.decode()
            if head[end] == 0xC0:
                end += 1
            elif head[end] == 0xC4:
                begin = end + 2
                end = begin + head[end + 1]
                raw_path = head[begin:end]
            if head[end] != 0xC4:
                return self._decode_slowly(head)
            begin = end + 2
            end = begin + head[end + 1]
            query = head[begin:end]
            tag = head[end]
            if tag == 0xA0:
                end += 1
                root_path = ""
            elif 0xA0 < tag < 0xC0:
                begin = end + 1
                end = begin + tag - 0xA0
                root_path = head[begin:end].decode()
            else:
                return self._decode_slowly(head)
            tail = self._tails.get(head[end:]) or self._read_tail(head, end)
        except (IndexError, UnicodeDecodeError):
            return self._decode_slowly(head)
        if tail is None:
            return self._decode_slowly(head)
        kind, method, version, scheme = start
        client, server, headers, tls, extensions = tail
        return (
            kind, method, version, scheme, path, raw_path, query, root_path,
            client, server, headers.copy(), tls, extensions,
        )  # fmt: skip

    def _read_tail(self, head: bytes, at: int) -> Tail | None:
        """Read client to extensions in their usual encodings; None leaves it to the generic one.

        IndexError means that a length ran past the end.
        """
        client: Address | None = None
        end = at + 1
        if head[at] == 0xC4:
            end = at + 2 + head[at + 1]
            client = self._client(head[at + 2 : end])
        elif head[at] != 0xC0:
            return None
        if head[end] != 0xC4:
            return None
        begin = end + 2
        end = begin + head[end + 1]
        server = self._address(head[begin:end])
        tag = head[end]
        if tag == 0xC4:
            begin = end + 2
            end = begin + head[end + 1]
        elif tag == 0xC5:
            begin = end + 3
            end = begin + (head[end + 1] << 8) + head[end + 2]
        else:
            return None
        headers = decode_fields(head[begin:end])
        rest = head[end:]
        tls: Tls | None = None
        extensions: Mapping[str, Any] | None = None
        if rest != b"\xc0\xc0":
            try:
                tls, extensions = _check_rest(unpackb(b"\x92" + rest))
            except MsgpackError as exc:
                raise HeadError(str(exc)) from exc
        tail = (client, server, headers, tls, extensions)
        if len(head) - at <= MAX_TAIL_BYTES:
            if len(self._tails) >= MAX_TAILS:
                self._tails.clear()
            self._tails[head[at:]] = tail
        return tail

    def _decode_slowly(self, head: bytes) -> RequestHead:
        try:
            value = unpackb(head)
        except MsgpackError as exc:
            raise HeadError(str(exc)) from exc
        if not isinstance(value, list) or len(value) != REQUEST_FIELDS:
            raise HeadError(f"a REQUEST head is an array of {REQUEST_FIELDS}")
        kind, method, version, scheme, path, raw_path, query, root_path = value[:8]
        if type(kind) is not int or kind not in (KIND_HTTP, KIND_WEBSOCKET):
            raise HeadError(f"kind {kind!r} is none that this version knows")
        for name, item in (("method", method), ("http_version", version), ("scheme", scheme)):
            if type(item) is not str or not item:
                raise HeadError(f"{name} is no text or empty")
        if type(path) is not str or type(root_path) is not str:
            raise HeadError("path or root_path is no text")
        if raw_path is not None and type(raw_path) is not bytes:
            raise HeadError("raw_path is neither bin nor nil")
        if type(query) is not bytes:
            raise HeadError("query is no bin")
        client, server, block = value[8:11]
        if type(block) is not bytes:
            raise HeadError("the field block is no bin")
        tls, extensions = _check_rest(value[11:])
        self._remember_start(head, (kind, method, version, scheme))
        return (
            kind, method, version, scheme,
            path, path.encode() if raw_path is None else raw_path, query, root_path,
            None if client is None else self._client(client), self._address(server),
            decode_fields(block), tls, extensions,
        )  # fmt: skip

    def _address(self, data: Any) -> Address:
        if type(data) is not bytes:
            raise HeadError("an address is no bin")
        address = self._addresses.get(data)
        if address is None:
            address = _decode_address(data)
            if len(self._addresses) >= MAX_ADDRESSES:
                self._addresses.clear()
            self._addresses[data] = address
        return address

    def _client(self, data: Any) -> Address:
        address = self._address(data)
        if address[1] is None:
            raise HeadError("the client's address has no port")
        return address

    def _remember_start(self, head: bytes, start: tuple[int, str, str, str]) -> None:
        """Keep the first bytes of a judged head if they have the shape that decode() reads."""
        first = b"\x9d" + b"".join(map(packb, start))
        if start[0] < 128 and max(map(len, start[1:])) < 32 and head.startswith(first):
            if len(self._starts) >= MAX_STARTS:
                self._starts.clear()
            self._starts[first] = start


def _check_rest(rest: list[Any]) -> tuple[Tls | None, Mapping[str, Any] | None]:
    """Check the last two fields of a head, tls and extensions."""
    if len(rest) != 2:
        raise HeadError("tls and extensions do not end the head")
    tls, extensions = rest
    if tls is not None:
        if type(tls) is not list or len(tls) != 3 or any(type(i) is not int or i < 0 for i in tls):
            raise HeadError("tls is neither nil nor three uint")
        if tls[0] > 0xFFFF or tls[1] > 0xFFFF:
            raise HeadError("the TLS version or cipher has more than 16 bits")
        tls = (tls[0], tls[1], tls[2])
    if extensions is not None:
        check_map(extensions, MAP_EXTENSIONS)
    return tls, extensions


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """An encoded and checked field block, with what framing needs to know about it."""

    payload: bytes
    content_length: int | None
    announces_trailers: bool


def _check_field(name: Any, value: Any) -> Header:
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        if not isinstance(name, (bytes, bytearray, memoryview)) or not isinstance(
            value, (bytes, bytearray, memoryview)
        ):
            raise TypeError(
                f"header names and values must be bytes, found {type(name).__name__} "
                f"and {type(value).__name__}"
            )
        name, value = bytes(name), bytes(value)
    if not _TOKEN.match(name):
        raise ValueError(f"{name!r} is not a header name")
    if _FORBIDDEN_IN_VALUE.search(value):
        raise ValueError(f"the value of header {name!r} has a control character in it")
    return name.lower(), value.strip(b" \t")


def check_headers(headers: Any) -> list[Header]:
    """Check an application's header fields and return them with lower-case names.

    Raises TypeError for wrong types, ValueError for what HTTP forbids (docs/ASGI.md 16, 19).
    """
    fields = []
    for item in headers:
        try:
            name, value = item
        except (TypeError, ValueError):
            raise ValueError(f"{item!r} is not a [name, value] pair") from None
        fields.append(_check_field(name, value))
    return fields


def content_length_of(fields: Iterable[Header]) -> int | None:
    """Return the declared length; raises ValueError when it is malformed or contradictory."""
    length: bytes | None = None
    for name, value in fields:
        if name != b"content-length":
            continue
        if not _DIGITS.match(value):
            raise ValueError(f"content-length {value!r} is not a length")
        if length is not None and int(length) != int(value):
            raise ValueError("there are two different content-length fields")
        length = value
    return None if length is None else int(length)


def encode_field_array(fields: Iterable[Header]) -> bytes:
    """Encode the payload of TRAILERS, or of a RESPONSE without body: array [fields]."""
    block = encode_fields(fields)
    return b"\x91" + pack_bin_header(len(block)) + block


def encode_accept(subprotocol: str | None, headers: Any) -> bytes:
    """Encode the payload of WS_ACCEPT: array [subprotocol or nil, fields] (SPEC R84).

    Raises TypeError or ValueError as check_headers() does, and for a field that belongs to the
    handshake, which is the gateway's.
    """
    if isinstance(headers, (str, bytes, bytearray)):
        raise TypeError("headers must be an iterable of [name, value] pairs")
    fields = [field for field in check_headers(headers) if field[0] != b"transfer-encoding"]
    for name, _ in fields:
        if name.startswith(b"sec-websocket-") or name in _NOT_IN_ACCEPT:
            raise ValueError(
                f"{name.decode()} is a header of the handshake, which the server sends"
            )
    block = encode_fields(fields)
    return b"\x92" + packb(subprotocol) + pack_bin_header(len(block)) + block


class ResponseEncoder:
    """Encodes RESPONSE heads; one per process."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[tuple[Any, ...], ResponseHead] = {}

    def encode(self, headers: Any) -> ResponseHead:
        """Check and encode an application's header fields; raises TypeError or ValueError."""
        if isinstance(headers, (str, bytes, bytearray)):
            raise TypeError("headers must be an iterable of [name, value] pairs")
        key = tuple(headers)
        try:
            head = self._heads.get(key)
        except TypeError:  # pairs that are lists are legal, only they cannot be a key
            return self._encode(key)
        if head is not None:
            return head
        head = self._encode(key)
        if len(head.payload) <= MAX_CACHED_HEAD_BYTES:
            if len(self._heads) >= MAX_RESPONSE_HEADS:
                self._heads.clear()
            self._heads[key] = head
        return head

    @staticmethod
    def _encode(headers: Any) -> ResponseHead:
        # transfer-encoding is the gateway's: whatever the application says of it is dropped.
        fields = [field for field in check_headers(headers) if field[0] != b"transfer-encoding"]
        return encode_response(fields)


def encode_response(fields: list[Header]) -> ResponseHead:
    """Encode checked fields."""
    length = content_length_of(fields)
    if length is not None:  # said once, even when the application says the same thing twice
        seen = False
        kept = []
        for field in fields:
            if field[0] != b"content-length" or not seen:
                kept.append(field)
            seen = seen or field[0] == b"content-length"
        fields = kept
    return ResponseHead(
        payload=encode_field_array(fields),
        content_length=length,
        announces_trailers=any(name == b"trailer" for name, _ in fields),
    )


def with_content_length(head: ResponseHead, length: int) -> ResponseHead:
    """Return an encoded head that names this length instead of what it named."""
    if head.content_length == length:
        return head
    fields = [f for f in decode_fields(unpackb(head.payload)[0]) if f[0] != b"content-length"]
    fields.append((b"content-length", b"%d" % length))
    return encode_response(fields)


def without_content_length(head: ResponseHead, headers: Any) -> ResponseHead:
    """Return the head for a status that may not name a length (1xx, 204)."""
    if head.content_length is None:
        return head
    dropped = (b"transfer-encoding", b"content-length")
    return encode_response([f for f in check_headers(headers) if f[0] not in dropped])
