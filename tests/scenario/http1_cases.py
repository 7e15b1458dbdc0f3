# SPDX-License-Identifier: MIT
# ruff: noqa: E501 (a table: one case, one line)
"""HTTP/1.1 requests byte by byte, and what must become of each: the table of test_http1_conformance.py.

`bad` cases are refused: the status, then the end of the connection, and no app sees a complete request. `good` cases are
answered by the app, which must have seen exactly what is said here, and the connection goes on. RFC 9112, RFC 9110.
"""

from dataclasses import dataclass, field

HOST = b"Host: x\r\n"
END = b"\r\n"


@dataclass(frozen=True)
class Case:
    name: str
    raw: bytes
    status: tuple[int, ...] = (200,)
    begins: bool = False  # refused for its body: the app may have begun, and must not have seen the end of the body
    closes: bool = False  # answered, and the last answer of its connection
    saw: dict[str, object] = field(default_factory=dict)  # what the app saw, by key of its record
    has: tuple[tuple[str, str], ...] = ()  # fields that the app saw
    lacks: tuple[str, ...] = ()  # fields that it must not see


def bad(name: str, raw: bytes, *status: int, begins: bool = False) -> Case:
    return Case(name, raw, status or (400,), begins)


def good(
    name: str,
    raw: bytes,
    *,
    closes: bool = False,
    has: tuple[tuple[str, str], ...] = (),
    lacks: tuple[str, ...] = (),
    **saw: object,
) -> Case:
    return Case(name, raw, (200,), closes=closes, saw=saw, has=has, lacks=lacks)


def line(request_line: bytes) -> bytes:
    """A request with this first line."""
    return request_line + b"\r\n" + HOST + END


def get(fields: bytes, target: bytes = b"/a") -> bytes:
    """A GET with these field lines."""
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST + fields + END


def hosted(host_lines: bytes, version: bytes = b"1.1") -> bytes:
    """A GET with these lines in the place of Host."""
    return b"GET /a HTTP/" + version + b"\r\n" + host_lines + END


def post(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /a HTTP/" + version + b"\r\n" + HOST + fields + END + body


def chunks(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


TARGET_REFUSED = b'"<>\\^`{|}#'
NAME_REFUSED = b'()<>@,;\\"/[]?={} \t\x00\x01\x7f\x80\xff'
VALUE_REFUSED = b"\x00\x01\x08\x0b\x0c\x0e\x1f\x7f"

REQUEST_LINE = [
    bad("method-missing", line(b" / HTTP/1.1")),
    bad("method-lower-case", line(b"get / HTTP/1.1"), 400, 501),
    bad("method-unknown", line(b"FOO / HTTP/1.1"), 501),
    bad("method-nul", line(b"G\x00T / HTTP/1.1")),
    bad("method-not-token", line(b"G@T / HTTP/1.1")),
    bad("method-quoted", line(b'"GET" / HTTP/1.1')),
    bad("method-with-colon", line(b"GET: / HTTP/1.1")),
    bad("method-long", line(b"A" * 40 + b" / HTTP/1.1"), 400, 501),
    bad("method-endless", b"A" * 20000, 400, 501),
    bad("method-high-bytes", line(b"G\xc9T / HTTP/1.1")),
    bad("connect", b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 405, 501),
    bad("connect-with-path", line(b"CONNECT / HTTP/1.1"), 400, 405, 501),
    bad("connect-with-body", b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\nContent-Length: 3\r\n\r\nabc", 405, 501),
    bad("trace", line(b"TRACE / HTTP/1.1"), 405, 501),
    bad("pri-as-method", line(b"PRI / HTTP/1.1"), 400, 501),
    bad("rtsp-method", line(b"DESCRIBE / HTTP/1.1"), 501),
    bad("icecast-method", line(b"SOURCE / HTTP/1.1"), 501),
    bad("http-0.9", b"GET /\r\n"),
    bad("http-0.9-with-fields", b"GET /\r\nHost: x\r\n\r\n"),
    bad("version-0.9", line(b"GET / HTTP/0.9"), 400, 505),
    bad("version-1.2", line(b"GET / HTTP/1.2"), 400, 505),
    bad("version-2.0", line(b"GET / HTTP/2.0"), 400, 505),
    bad("version-3.0", line(b"GET / HTTP/3.0"), 400, 505),
    bad("version-1.10", line(b"GET / HTTP/1.10")),
    bad("version-01.1", line(b"GET / HTTP/01.1")),
    bad("version-1", line(b"GET / HTTP/1")),
    bad("version-1.", line(b"GET / HTTP/1.")),
    bad("version-11", line(b"GET / HTTP/11")),
    bad("version-comma", line(b"GET / HTTP/1,1")),
    bad("version-lower-case", line(b"GET / http/1.1")),
    bad("version-suffix", line(b"GET / HTTP/1.1x")),
    bad("version-spaced", line(b"GET / HTTP /1.1")),
    bad("version-rtsp", line(b"GET / RTSP/1.0")),
    bad("version-https", line(b"GET / HTTPS/1.1")),
    bad("version-nul", line(b"GET / HTTP/1.1\x00")),
    bad("version-missing", line(b"GET / ")),
    bad("target-missing", line(b"GET HTTP/1.1")),
    bad("target-missing-two-spaces", line(b"GET  HTTP/1.1")),
    bad("two-spaces-before-target", line(b"GET  / HTTP/1.1")),
    bad("two-spaces-before-version", line(b"GET /  HTTP/1.1")),
    bad("space-in-target", line(b"GET /a b HTTP/1.1")),
    bad("space-after-version", line(b"GET / HTTP/1.1 ")),
    bad("tab-after-version", line(b"GET / HTTP/1.1\t")),
    bad("space-before-line", line(b" GET / HTTP/1.1")),
    bad("tab-before-line", line(b"\tGET / HTTP/1.1")),
    bad("tabs-for-spaces", line(b"GET\t/\tHTTP/1.1")),
    bad("vertical-tab-for-space", line(b"GET\x0b/ HTTP/1.1")),
    bad("line-ends-with-lf", b"GET / HTTP/1.1\n" + HOST + END),
    bad("line-ends-with-cr", b"GET / HTTP/1.1\r" + HOST + END),
    bad("line-ends-with-cr-cr-lf", b"GET / HTTP/1.1\r\r\n" + HOST + END),
    bad("line-split-by-crlf", b"GET /\r\n HTTP/1.1\r\n" + HOST + END),
    bad("three-empty-lines-first", b"\r\n\r\n\r\n" + get(b"")),
    bad("lf-first", b"\n" + get(b"")),
    bad("cr-first", b"\r" + get(b"")),
    bad("crlf-flood", b"\r\n" * 4000),
    bad("space-and-empty-line-first", b" \r\n" + get(b"")),
    bad("nul-first", b"\x00" + get(b"")),
    bad("byte-order-mark-first", b"\xef\xbb\xbf" + get(b"")),
    bad("tls-client-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))),
    bad("ssh-banner", b"SSH-2.0-OpenSSH_9.6\r\n", 400, 501),
    bad("smtp", b"EHLO example.com\r\n", 400, 501),
    bad("proxy-v1-not-expected", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(b""), 400, 501),
    bad("proxy-v2-not-expected", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + get(b"")),
    bad("redis", b"*1\r\n$4\r\nPING\r\n", 400, 501),
    bad("json-line", b'{"a":1}\r\n'),
    bad("nuls", bytes(300)),
    bad("high-bytes", b"\xff" * 300),
    good("one-empty-line-first", b"\r\n" + get(b"")),
    good("two-empty-lines-first", b"\r\n\r\n" + get(b"")),
    *[good(f"method-{m.lower()}", line(m.encode() + b" /m HTTP/1.1"), method=m)
      for m in ("GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "QUERY")],
]  # fmt: skip

TARGET = [
    *[bad(f"target-{byte:02x}", line(b"GET /a" + bytes([byte]) + b"b HTTP/1.1")) for byte in TARGET_REFUSED],
    *[
        bad(f"target-{byte:02x}", line(b"GET /a" + bytes([byte]) + b"b HTTP/1.1"))
        for byte in (0, 1, 9, 11, 127, 128, 255)
    ],
    bad("target-utf-8", line("GET /ä HTTP/1.1".encode())),
    bad("target-escaped-nul", line(b"GET /a%00b HTTP/1.1")),
    bad("target-fragment-in-query", line(b"GET /a?b#c HTTP/1.1")),
    bad("target-fragment-in-absolute", line(b"GET http://x/a#b HTTP/1.1")),
    bad("target-relative", line(b"GET a HTTP/1.1")),
    bad("target-authority", line(b"GET x:80 HTTP/1.1")),
    bad("target-star-for-get", line(b"GET * HTTP/1.1")),
    bad("target-star-path", line(b"OPTIONS *a HTTP/1.1")),
    bad("target-query-only", line(b"GET ?a HTTP/1.1")),
    bad("target-backslash-first", line(b"GET \\a HTTP/1.1")),
    bad("target-userinfo", line(b"GET http://u:p@x/ HTTP/1.1")),
    bad("target-empty-userinfo", line(b"GET http://@x/ HTTP/1.1")),
    bad("target-empty-authority", line(b"GET http:///a HTTP/1.1")),
    bad("target-one-slash", line(b"GET http:/a HTTP/1.1")),
    bad("target-no-slash", line(b"GET http:x HTTP/1.1")),
    bad("target-ftp", line(b"GET ftp://x/a HTTP/1.1")),
    bad("target-https-on-plain", line(b"GET https://x/a HTTP/1.1")),
    bad("target-bad-port", line(b"GET http://x:99999/a HTTP/1.1")),
    bad("target-port-letters", line(b"GET http://x:8a/a HTTP/1.1")),
    bad("target-differs-from-host", line(b"GET http://y/a HTTP/1.1")),
    bad("target-differs-in-port", line(b"GET http://x:81/a HTTP/1.1")),
    bad("target-too-long", line(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), 414),
    bad("target-endless", b"GET /" + b"a" * 70000, 414),
    bad("target-query-too-long", line(b"GET /?" + b"a" * 8192 + b" HTTP/1.1"), 414),
    good("target-longest", line(b"GET /" + b"a" * 8191 + b" HTTP/1.1"), raw_path="/" + "a" * 8191),
    good("target-absolute", line(b"GET http://x/a?b HTTP/1.1"), raw_path="/a", query="b", has=(("host", "x"),)),
    good("target-absolute-no-path", line(b"GET http://x HTTP/1.1"), raw_path="/", path="/"),
    good("target-absolute-query", line(b"GET http://x?q HTTP/1.1"), raw_path="/", query="q"),
    good("target-absolute-capitals", line(b"GET HTTP://X/a HTTP/1.1"), raw_path="/a"),
    good("target-absolute-default-port", line(b"GET http://x:80/a HTTP/1.1"), raw_path="/a"),
    good("target-star", line(b"OPTIONS * HTTP/1.1"), method="OPTIONS", raw_path="*"),
    good("target-two-slashes", line(b"GET //a//b HTTP/1.1"), raw_path="//a//b", path="//a//b"),
    good("target-dots", line(b"GET /a/../b/./c HTTP/1.1"), raw_path="/a/../b/./c", path="/a/../b/./c"),
    good("target-escapes", line(b"GET /a%2fb%2E%41 HTTP/1.1"), raw_path="/a%2fb%2E%41", path="/a/b.A"),
    good("target-bad-escapes", line(b"GET /%zz%4%% HTTP/1.1"), raw_path="/%zz%4%%", path="/%zz%4%%"),
    good("target-escaped-crlf", line(b"GET /a%0d%0ab HTTP/1.1"), path="/a\r\nb"),
    good("target-bad-utf-8", line(b"GET /%ff HTTP/1.1"), path="/�", raw_path="/%ff"),
    good("target-two-questions", line(b"GET /a?b?c HTTP/1.1"), raw_path="/a", query="b?c"),
    good("target-empty-query", line(b"GET /a? HTTP/1.1"), raw_path="/a", query=""),
    good("target-semicolon", line(b"GET /a;b=c?d;e HTTP/1.1"), raw_path="/a;b=c", query="d;e"),
    good("target-sub-delims", line(b"GET /!$&'()*+,;=:@-._~ HTTP/1.1"), raw_path="/!$&'()*+,;=:@-._~"),
]

HOSTS = [
    bad("host-missing", hosted(b"")),
    bad("host-twice", hosted(b"Host: x\r\nHost: x\r\n")),
    bad("host-twice-different", hosted(b"Host: x\r\nhOST: y\r\n")),
    bad("host-twice-on-1.0", hosted(b"Host: x\r\nHost: y\r\n", b"1.0")),
    bad("host-missing-absolute", b"GET http://x/ HTTP/1.1\r\n\r\n"),
    *[bad(f"host-{number}", hosted(b"Host: " + host + b"\r\n")) for number, host in enumerate((
        b"", b"x/y", b"x y", b"u@x", b"x:y", b"x:1:2", b"x:99999", b"x:-1", b"x:+80", b"x: 80", b"::1", b"[::1",
        b"[::1]x", b"[::g]", b"[]", b"x#y", b"x?y", b"x\\y", b"http://x", b"x\x00", b"x\xe4", b":80", b'"x"', b"<x>", b"x%00",
        b"x\ty", b"x:80:", b"[::1]:x", b"x|y", b"x^y", b"x`y", b"{x}"))],
    good("host-port", hosted(b"Host: x:8080\r\n"), has=(("host", "x:8080"),)),
    good("host-empty-port", hosted(b"Host: x:\r\n")),
    good("host-ipv6", hosted(b"Host: [::1]:80\r\n"), has=(("host", "[::1]:80"),)),
    good("host-ipv4", hosted(b"Host: 127.0.0.1\r\n")),
    good("host-underscore", hosted(b"Host: a_b.c\r\n"), has=(("host", "a_b.c"),)),
    good("host-comma", hosted(b"Host: x,y\r\n"), has=(("host", "x,y"),)),  # a sub-delim: RFC 3986 3.2.2
    good("host-spaces-around", hosted(b"Host:  x \t\r\n"), has=(("host", "x"),)),
    good("host-no-space", hosted(b"Host:x\r\n"), has=(("host", "x"),)),
    good("host-capitals", hosted(b"HOST: X.Example\r\n"), has=(("host", "X.Example"),)),
    good("host-last", hosted(b"X-A: 1\r\nHost: x\r\n"), headers=[["host", "x"], ["x-a", "1"]]),
    good("no-host-on-1.0", hosted(b"", b"1.0"), closes=True, version="1.0", headers=[]),
]  # fmt: skip

FIELDS = [
    *[bad(f"name-{byte:02x}", get(b"X" + bytes([byte]) + b"Y: 1\r\n")) for byte in NAME_REFUSED],
    *[bad(f"value-{byte:02x}", get(b"X: a" + bytes([byte]) + b"b\r\n")) for byte in VALUE_REFUSED],
    bad("name-empty", get(b": 1\r\n")),
    bad("name-trailing-space", get(b"X : 1\r\n")),
    bad("name-trailing-tab", get(b"X\t: 1\r\n")),
    bad("name-leading-space", b"GET /a HTTP/1.1\r\n X: 1\r\n" + HOST + END),
    bad("name-leading-tab", b"GET /a HTTP/1.1\r\n\tX: 1\r\n" + HOST + END),
    bad("no-colon", get(b"X\r\n")),
    bad("fold-space", get(b"X: a\r\n b\r\n")),
    bad("fold-tab", get(b"X: a\r\n\tb\r\n")),
    bad("fold-only", get(b"X: a\r\n \r\n")),
    bad("fold-empty-value", get(b"X:\r\n b\r\n")),
    bad("field-ends-with-lf", get(b"X: a\nY: b\r\n")),
    bad("field-ends-with-cr", get(b"X: a\rY: b\r\n")),
    bad("field-ends-with-cr-cr-lf", get(b"X: a\r\r\n")),
    bad("head-ends-with-lf", b"GET /a HTTP/1.1\r\n" + HOST + b"\n"),
    bad("head-ends-with-lf-lf", b"GET /a HTTP/1.1\r\nHost: x\n\n"),
    bad("head-ends-with-cr-cr", b"GET /a HTTP/1.1\r\n" + HOST + b"\r\r\n"),
    bad("fields-101", get(b"".join(b"X-%d: 1\r\n" % i for i in range(100))), 431),
    bad("field-too-long", get(b"X: " + b"a" * 33000 + b"\r\n"), 431),
    bad("name-too-long", get(b"X" * 33000 + b": a\r\n"), 431),
    bad("block-too-long", get(b"".join(b"X-%d: %s\r\n" % (i, b"a" * 990) for i in range(35))), 431),
    bad("field-endless", b"GET /a HTTP/1.1\r\nX: " + b"a" * 70000, 431),
    good("fields-100", get(b"".join(b"X-%d: 1\r\n" % i for i in range(99))), has=(("x-98", "1"),)),
    good("field-long", get(b"X: " + b"a" * 30000 + b"\r\n"), has=(("x", "a" * 30000),)),
    good("value-empty", get(b"X:\r\nY: \r\n"), has=(("x", ""), ("y", ""))),
    good("value-tab", get(b"X: a\tb\r\n"), has=(("x", "a\tb"),)),
    good("value-trimmed", get(b"X: \t a b \t \r\n"), has=(("x", "a b"),)),
    good("value-latin-1", get(b"X: \x80\xe4\xff\r\n"), has=(("x", "\x80\xe4\xff"),)),
    good("value-colons", get(b"X: a:b: c\r\n"), has=(("x", "a:b: c"),)),
    good("name-tokens", get(b"!#$%&'*+-.^_`|~9a: 1\r\n"), has=(("!#$%&'*+-.^_`|~9a", "1"),)),
    good("name-capitals", get(b"X-CaPs: V\r\n"), has=(("x-caps", "V"),)),
    good("field-repeated", get(b"X: 1\r\nx: 2\r\n"), headers=[["host", "x"], ["x", "1"], ["x", "2"]]),
    good("underscore-is-no-length", get(b"Content_Length: 5\r\n"), body="", has=(("content_length", "5"),)),
    good("connection-names-host", get(b"Connection: host, x-a\r\nX-A: 1\r\n"), has=(("host", "x"),)),
    good("connection-fields-dropped", get(b"Keep-Alive: 5\r\nTE: gzip\r\nProxy-Connection: a\r\nUpgrade: a\r\n"),
         lacks=("keep-alive", "te", "proxy-connection", "upgrade", "connection")),
    good("h2c-upgrade-ignored", get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
         lacks=("upgrade",)),
    good("unknown-upgrade-ignored", get(b"Connection: upgrade\r\nUpgrade: foo/2\r\n")),
    good("close", get(b"Connection: close\r\n"), closes=True),
    good("close-capitals", get(b"CONNECTION: CLOSE\r\n"), closes=True),
    good("close-in-list", get(b"Connection: foo ,close, bar\r\n"), closes=True),
    good("close-in-second-field", get(b"Connection: foo\r\nConnection: close\r\n"), closes=True),
    good("close-and-keep-alive", get(b"Connection: keep-alive, close\r\n"), closes=True),
    good("not-close", get(b"Connection: closed\r\n")),
    good("keep-alive-on-1.0", hosted(HOST + b"Connection: Keep-Alive\r\n", b"1.0"), version="1.0"),
]  # fmt: skip

COOKIES = [
    bad("cookie-nul", get(b"Cookie: a=\x00\r\n")),
    bad("cookie-control", get(b"Cookie: a=\x01\r\n")),
    bad("cookie-newline", get(b"Cookie: a=1\nX: 2\r\n")),
    bad("cookies-101", get(b"Cookie: a=1\r\n" * 101), 431),
    bad("cookie-too-long", get(b"Cookie: a=" + b"b" * 33000 + b"\r\n"), 431),
    good("cookies-100", get(b"Cookie: a=1\r\n" * 100)),
    good("cookies-and-fields-apart", get(b"Cookie: a=1\r\n" * 100 + b"".join(b"X-%d: 1\r\n" % i for i in range(99)))),
    good("cookie-empty", get(b"Cookie:\r\n"), has=(("cookie", ""),)),
    good("cookie-many-pairs", get(b"Cookie: a=1; b=2;c=3\r\n"), has=(("cookie", "a=1; b=2;c=3"),)),
    good("cookie-no-value", get(b"Cookie: a\r\n"), has=(("cookie", "a"),)),
    good("cookie-equals", get(b"Cookie: a=b=c; =d\r\n"), has=(("cookie", "a=b=c; =d"),)),
    good("cookie-latin-1", get(b"Cookie: a=\xe4\r\n"), has=(("cookie", "a=\xe4"),)),
    good("cookie-quoted", get(b'Cookie: a="b c"\r\n'), has=(("cookie", 'a="b c"'),)),
]

NOT_A_LENGTH = (
    b"", b"+3", b"-3", b"0x3", b"3a", b"a3", b"3.0", b"1e1", b"3 3", b"3, 3", b"3,", b",3", b"3;", b'"3"', b"3\x0b", b"\x0b3",
    b"\xc2\xb3", b"\xd9\xa3", b"9223372036854775808", b"18446744073709551616", b"18446744073709551619", b"1" * 30, b"3\x00", b"_3", b"1_0",
)  # fmt: skip
NOT_CHUNKED = (
    b"", b"gzip", b"identity", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked, identity", b"identity, chunked",
    b"xchunked", b"chunkedx", b"chunk", b"chunked;a=b", b"chunked; a", b'"chunked"', b"'chunked'", b"chunked,", b",chunked",
    b", chunked", b"chun ked", b"\x0bchunked", b"chunked\x0b", b"chunked\x0c", b"\xa0chunked", b"chunked\xa0", b"chunked\x00", b"(chunked)",
    b"chunked\xe2\x84\xaa", b"c\xc4\xa7unked", b"=chunked",
)  # fmt: skip
CHUNK = b"3\r\nabc\r\n0\r\n\r\n"
FRAMING = [
    *[bad(f"not-a-length-{i}", post(b"Content-Length: " + value + b"\r\n", b"abc")) for i, value in enumerate(NOT_A_LENGTH)],
    *[bad(f"not-chunked-{i}", post(b"Transfer-Encoding: " + value + b"\r\n", CHUNK), 400, 501)
      for i, value in enumerate(NOT_CHUNKED)],
    *[bad(f"not-chunked-{i}-with-length", post(b"Transfer-Encoding: " + value + b"\r\nContent-Length: 13\r\n", CHUNK), 400, 501)
      for i, value in enumerate(NOT_CHUNKED)],
    bad("length-then-encoding", post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", CHUNK)),
    bad("encoding-then-length", post(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", CHUNK)),
    bad("length-none-and-encoding", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", CHUNK)),
    bad("encoding-between-fields", post(b"X: 1\r\nTransfer-Encoding:\r\nContent-Length: 3\r\n", b"abc")),
    bad("length-twice-same", post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc")),
    bad("length-twice-different", post(b"Content-Length: 3\r\nContent-Length: 5\r\n", b"abcde")),
    bad("length-twice-zero-first", post(b"Content-Length: 0\r\ncontent-length: 3\r\n", b"abc")),
    bad("length-space-before-colon", post(b"Content-Length : 3\r\n", b"abc")),
    bad("length-folded", post(b"Content-Length:\r\n 3\r\n", b"abc")),
    bad("length-nul-in-name", post(b"Content-Length\x00: 3\r\n", b"abc")),
    bad("length-cr-in-value", post(b"Content-Length: 3\r3\r\n", b"abc")),
    bad("encoding-twice", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNK)),
    bad("encoding-twice-identity", post(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", CHUNK), 400, 501),
    bad("encoding-twice-empty", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", CHUNK)),
    bad("encoding-space-before-colon", post(b"Transfer-Encoding : chunked\r\n", CHUNK)),
    bad("encoding-tab-before-colon", post(b"Transfer-Encoding\t: chunked\r\n", CHUNK)),
    bad("encoding-folded", post(b"Transfer-Encoding:\r\n chunked\r\n", CHUNK)),
    bad("encoding-folded-twice", post(b"Transfer-Encoding: identity\r\n ,chunked\r\n", CHUNK)),
    bad("encoding-after-bare-lf", post(b"X: 1\nTransfer-Encoding: chunked\r\n", CHUNK)),
    bad("encoding-after-bare-cr", post(b"X: 1\rTransfer-Encoding: chunked\r\n", CHUNK)),
    bad("encoding-leading-space", post(b" Transfer-Encoding: chunked\r\n", CHUNK)),
    bad("encoding-nul-in-name", post(b"Transfer-Encoding\x00: chunked\r\n", CHUNK)),
    bad("encoding-on-1.0", post(b"Transfer-Encoding: chunked\r\n", CHUNK, b"1.0")),
    bad("encoding-on-1.0-keep-alive", post(b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", CHUNK, b"1.0")),
    bad("encoding-and-length-on-1.0", post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", CHUNK, b"1.0")),
    bad("encoding-on-get", get(b"Transfer-Encoding: chunked, x\r\n") + CHUNK, 400, 501),
    bad("expect-other", post(b"Expect: miracles\r\nContent-Length: 3\r\n", b"abc"), 417),
    bad("expect-two-words", post(b"Expect: y 100-continue\r\nContent-Length: 3\r\n", b"abc"), 417),
    bad("expect-list", post(b"Expect: 100-continue, x\r\nContent-Length: 3\r\n", b"abc"), 417),
    bad("expect-empty", post(b"Expect:\r\nContent-Length: 3\r\n", b"abc"), 400, 417),
    bad("expect-other-on-get", get(b"Expect: 200-ok\r\n"), 417),
    bad("expect-with-both-lengths", post(b"Expect: 100-continue\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", CHUNK)),
    good("length", post(b"Content-Length: 3\r\n", b"abc"), body="abc", has=(("content-length", "3"),)),
    good("length-0", post(b"Content-Length: 0\r\n"), body=""),
    good("length-leading-zeros", post(b"Content-Length: 0003\r\n", b"abc"), body="abc"),
    good("length-blanks-around", post(b"Content-Length:  3  \r\n", b"abc"), body="abc"),
    good("length-on-1.0", post(b"Connection: keep-alive\r\nContent-Length: 3\r\n", b"abc", b"1.0"), body="abc"),
    good("no-length", post(b""), body=""),
    good("body-is-a-request", post(b"Content-Length: 18\r\n", b"GET / HTTP/1.1\r\n\r\n"), body="GET / HTTP/1.1\r\n\r\n"),
    good("body-of-get", get(b"Content-Length: 3\r\n") + b"abc", body="abc"),
    good("body-of-delete", b"DELETE /a HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", body="abc", method="DELETE"),
    good("body-of-options", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", body="abc"),
    good("chunked-get", get(b"Transfer-Encoding: chunked\r\n") + CHUNK, body="abc"),
    good("chunked-capitals", post(b"TRANSFER-ENCODING: CHUNKED\r\n", CHUNK), body="abc", lacks=("transfer-encoding",)),
    good("chunked-blanks", post(b"Transfer-Encoding:\t chunked \r\n", CHUNK), body="abc"),
    good("underscore-is-no-encoding", post(b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n", b"abc"), body="abc"),
    good("encoding-in-another-name", post(b"X-Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"abc"), body="abc"),
    good("connection-names-length", post(b"Connection: content-length\r\nContent-Length: 3\r\n", b"abc"), body="abc"),
    good("expect-with-body", post(b"Expect: 100-Continue\r\nContent-Length: 3\r\n", b"abc"), body="abc", lacks=("expect",)),
    good("expect-without-body", get(b"Expect: 100-continue\r\n"), body=""),
    good("expect-on-1.0", post(b"Expect: x\r\nConnection: keep-alive\r\nContent-Length: 1\r\n", b"a", b"1.0"), body="a"),
    good("unread-body", b"POST /unread HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"),
    good("unread-body-is-a-request", b"POST /unread HTTP/1.1\r\n" + HOST + b"Content-Length: 37\r\n\r\n"
         b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n\r\n"),
    good("unread-chunks", b"POST /unread HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK),
]  # fmt: skip

NOT_A_SIZE = (
    b"", b"g", b"-3", b"+3", b"0x3", b" 3", b"\t3", b"3 3", b"3_", b"3.0", b"3\x00", b"3\x0b", b"\xef\xbc\x93", b"3,", b'"3"',
    b"10000000000000000", b"10000000000000003", b"ffffffffffffffffff", b"3\r", b"3;\r", b"3;a=\x00", b"3;a\rb", b"3;a\nb",
    b"3\n;a", b"3;a=b\n", b"3;a=\"b\n\"", b"\n3", b"\r\n3", b"3;" + b"a" * 5000, b"0" * 5000 + b"3", b"3;\x01", b"3;a=\x7f",
)  # fmt: skip
CHUNKED = [
    *[bad(f"chunk-size-{i}", chunks(size + b"\r\nabc\r\n0\r\n\r\n"), begins=True) for i, size in enumerate(NOT_A_SIZE)],
    bad("chunk-size-ends-with-lf", chunks(b"3\nabc\r\n0\r\n\r\n"), begins=True),
    bad("chunk-size-ends-with-cr", chunks(b"3\rabc\r\n0\r\n\r\n"), begins=True),
    bad("chunk-data-ends-with-lf", chunks(b"3\r\nabc\n0\r\n\r\n"), begins=True),
    bad("chunk-data-ends-with-cr", chunks(b"3\r\nabc\r0\r\n\r\n"), begins=True),
    bad("chunk-data-without-end", chunks(b"3\r\nabc0\r\n\r\n"), begins=True),
    bad("chunk-data-too-long", chunks(b"3\r\nabcd\r\n0\r\n\r\n"), begins=True),
    bad("chunk-data-too-short", chunks(b"3\r\nab\r\n0\r\n\r\n"), begins=True),
    bad("chunk-data-ends-with-two-bytes", chunks(b"3\r\nabcXX0\r\n\r\n"), begins=True),
    bad("last-chunk-ends-with-lf", chunks(b"3\r\nabc\r\n0\n\r\n"), begins=True),
    bad("last-chunk-lf-after", chunks(b"3\r\nabc\r\n0\r\n\n"), begins=True),
    bad("last-chunk-cr-after", chunks(b"3\r\nabc\r\n0\r\n\rX"), begins=True),
    bad("trailer-bad-name", chunks(b"0\r\nX Y: 1\r\n\r\n"), begins=True),
    bad("trailer-space-before-colon", chunks(b"0\r\nX : 1\r\n\r\n"), begins=True),
    bad("trailer-nul", chunks(b"0\r\nX: \x00\r\n\r\n"), begins=True),
    bad("trailer-lf", chunks(b"0\r\nX: 1\n\r\n"), begins=True),
    bad("trailer-folded", chunks(b"0\r\nX: 1\r\n 2\r\n\r\n"), begins=True),
    bad("trailer-empty-name", chunks(b"0\r\n: 1\r\n\r\n"), begins=True),
    bad("trailer-length", chunks(b"0\r\nContent-Length: 5\r\n\r\n"), begins=True),
    bad("trailer-encoding", chunks(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), begins=True),
    bad("trailers-33", chunks(b"0\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(33)) + b"\r\n"), 431, begins=True),
    bad("trailers-too-long", chunks(b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n"), 431, begins=True),
    bad("one-byte-chunks", chunks((b"1;" + b"e" * 100 + b"\r\na\r\n") * 1200), begins=True),
    good("chunks", chunks(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), body="abc"),
    good("chunks-none", chunks(b"0\r\n\r\n"), body=""),
    good("chunk-capital-hex", chunks(b"A\r\n0123456789\r\n0\r\n\r\n"), body="0123456789"),
    good("chunk-leading-zeros", chunks(b"0003\r\nabc\r\n000\r\n\r\n"), body="abc"),
    good("chunk-extension", chunks(b"3;a\r\nabc\r\n0;b=c\r\n\r\n"), body="abc"),
    good("chunk-extension-quoted", chunks(b'3;a="b c;d"\r\nabc\r\n0\r\n\r\n'), body="abc"),
    good("chunk-data-looks-like-end", chunks(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), body="0\r\n\r\n"),
    good("trailer-dropped", chunks(b"0\r\nX-T: 1\r\n\r\n"), body="", lacks=("x-t",)),
    good("trailer-never-merged", chunks(b"0\r\nHost: evil\r\nAuthorization: x\r\nCookie: a\r\n\r\n"),
         has=(("host", "x"),), lacks=("authorization", "cookie")),
    good("trailers-32", chunks(b"0\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(32)) + b"\r\n"), lacks=("x-0",)),
    good("many-chunks", chunks(b"4\r\nabcd\r\n" * 2000 + b"0\r\n\r\n"), body="abcd" * 2000),
]  # fmt: skip

CASES = [*REQUEST_LINE, *TARGET, *HOSTS, *FIELDS, *COOKIES, *FRAMING, *CHUNKED]
