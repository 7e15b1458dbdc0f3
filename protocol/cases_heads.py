# SPDX-License-Identifier: MIT
# ruff: noqa: E501   one case, one line
"""The cases of vectors/heads-*.txt: what a reader makes of msgpack payloads.

It knows the rules R35 to R52 of SPEC.md; the maps are in cases_maps.py. It knows no order of frames.
"""

from __future__ import annotations

from typing import Any

from generate_vectors import Case, Str, fields, hex_runs, pack, quote

Lines = list[str]
HOST = (b"host", b"example.com")


def ok(name: str, rule: str, head: str, data: bytes, seen: Lines, canonical: bool = True) -> Case:
    keys = [f"head: {head}", *(["canonical: yes"] if canonical else [])]
    lines = ["ok: " + head, *(f"field: {line}" for line in seen)]
    return Case(name, rule, keys, hex_runs(data), lines)


def bad(name: str, rule: str, head: str, data: bytes) -> Case:
    results = {"stats": "dropped:", "log": "dropped:"}
    results |= {"hello": "error: PROTOCOL", "hello_ack": "error: PROTOCOL", "conn": "error: PROTOCOL"}
    result = results.get(head, "error: HEADER_INVALID")
    return Case(name, rule, [f"head: {head}"], hex_runs(data), [result])


# --- REQUEST ---------------------------------------------------------------------------------------


def request(**changes: Any) -> list[Any]:
    """The 13 elements of a plain GET, some of them changed."""
    head: dict[str, Any] = {
        "kind": 0,
        "method": "GET",
        "http_version": "1.1",
        "scheme": "http",
        "path": "/",
        "raw_path": None,
        "query": b"",
        "root_path": "",
        "client": b"127.0.0.1\x005000",
        "server": b"127.0.0.1\x008080",
        "fields": fields(HOST),
        "tls": None,
        "extensions": None,
    }
    assert not changes.keys() - head.keys()
    return list((head | changes).values())


def request_seen(**changes: str | Lines) -> Lines:
    """The canonical text of request(), some lines changed; a list stands for several lines."""
    seen: dict[str, str | Lines] = {
        "kind": "0",
        "method": '"GET"',
        "http_version": '"1.1"',
        "scheme": '"http"',
        "path": '"/"',
        "raw_path": "nil",
        "query": '""',
        "root_path": '""',
        "client": '"127.0.0.1" 5000',
        "server": '"127.0.0.1" 8080',
        "header": ['"host" "example.com"'],
        "tls": "nil",
        "extension": [],
    }
    assert not changes.keys() - seen.keys()
    lines: Lines = []
    for key, value in (seen | changes).items():
        lines += [f"{key}={item}" for item in ([value] if isinstance(value, str) else value)]
    return lines


MANY = [(b"x-%d" % n, b"v" * n) for n in range(40)]
LONG_PATH = "/" + "p" * 300
GOOD_REQUESTS = [
    ok("request-plain", "R42", "request", pack(request()), request_seen()),
    ok(
        "request-full",
        "R42 R43 R44",
        "request",
        pack(
            request(
                method="POST",
                http_version="2",
                scheme="https",
                path="/caf\u00e9/a b",
                raw_path=b"/caf%C3%A9/a%20b",
                query=b"q=1&r=%00",
                root_path="/shop",
                client=b"2001:db8::1\x0065535",
                server=b"example.com\x00443",
                fields=fields(
                    HOST,
                    (b"cookie", b"a=1; b=2"),
                    (b"accept", b"*/*"),
                    (b"accept", b"text/html"),
                    (b"x-empty", b""),
                ),
                tls=[0x0304, 0x1301, 7],
                extensions={"trailers": True, "early_hints": True, "priority": [3, False], "early_data": True},
            )
        ),
        request_seen(
            method='"POST"',
            http_version='"2"',
            scheme='"https"',
            path='"/caf\\xc3\\xa9/a b"',
            raw_path='"/caf%C3%A9/a%20b"',
            query='"q=1&r=%00"',
            root_path='"/shop"',
            client='"2001:db8::1" 65535',
            server='"example.com" 443',
            header=[
                '"host" "example.com"',
                '"cookie" "a=1; b=2"',
                '"accept" "*/*"',
                '"accept" "text/html"',
                '"x-empty" ""',
            ],
            tls="772 4865 7",
            extension=["trailers true", "early_hints true", "priority 3 false", "early_data true"],
        ),
    ),  # fmt: skip
    ok(
        "request-websocket",
        "R46 R84",
        "request",
        pack(request(kind=1, scheme="wss", fields=fields(HOST, (b"sec-websocket-protocol", b"chat, superchat")))),
        request_seen(
            kind="1", scheme='"wss"', header=['"host" "example.com"', '"sec-websocket-protocol" "chat, superchat"']
        ),
    ),  # fmt: skip
    ok(
        "request-no-fields",
        "R39",
        "request",
        pack(request(http_version="1.0", fields=b"")),
        request_seen(http_version='"1.0"', header=[]),
    ),  # fmt: skip
    ok(
        "request-empty-value",
        "R39",
        "request",
        pack(request(fields=fields((b"a", b"")))),
        request_seen(header=['"a" ""']),
    ),  # fmt: skip
    ok(
        "request-many-fields",
        "R39",
        "request",
        pack(request(fields=fields(*MANY))),
        request_seen(header=[f"{quote(n)} {quote(v)}" for n, v in MANY]),
    ),  # fmt: skip
    ok(
        "request-long-field",
        "R39",
        "request",
        pack(request(fields=fields(HOST, (b"cookie", b"c" * 20000)))),
        request_seen(header=['"host" "example.com"', f'"cookie" {quote(b"c" * 20000)}']),
    ),  # fmt: skip
    ok(
        "request-obs-text",
        "R40",
        "request",
        pack(request(fields=fields((b"x", b"\xe9\tz")))),
        request_seen(header=['"x" "\\xe9\\x09z"']),
    ),  # fmt: skip
    ok("request-long-path", "R42", "request", pack(request(path=LONG_PATH)), request_seen(path=quote(LONG_PATH))),
    ok("request-no-client", "R43", "request", pack(request(client=None)), request_seen(client="nil")),
    ok(
        "request-unix-server",
        "R43",
        "request",
        pack(request(server=b"/run/g.sock\0")),
        request_seen(server='"/run/g.sock" -'),
    ),
    ok(
        "request-undecodable-path",
        "R42",
        "request",
        pack(request(path="/\ufffd", raw_path=b"/%ff")),
        request_seen(path='"/\\xef\\xbf\\xbd"', raw_path='"/%ff"'),
    ),
    ok(
        "request-unknown-extension",
        "R37",
        "request",
        pack(request(extensions={"later": [1, [2]], "trailers": True})),
        request_seen(extension=["trailers true"]),
        canonical=False,
    ),  # fmt: skip
    ok("request-empty-extensions", "R37", "request", pack(request(extensions={})), request_seen(), canonical=False),
    ok(
        "request-wide-integers",
        "R35",
        "request",
        b"\xdc\x00\x0d\xcf" + bytes(8) + pack(request(method=Str("GET")))[2:],
        request_seen(),
        canonical=False,
    ),
    ok(
        "request-array32",
        "R35 R36",
        "request",
        b"\xdd\x00\x00\x00\x0d" + pack(request())[1:],
        request_seen(),
        canonical=False,
    ),
    ok(
        "request-bin32",
        "R35",
        "request",
        pack(request()).replace(pack(fields(HOST)), b"\xc6\x00\x00\x00\x10" + fields(HOST)),
        request_seen(),
        canonical=False,
    ),  # fmt: skip
    ok(
        "request-tls-no-conn",
        "R101",
        "request",
        pack(request(scheme="https", tls=[771, 49199, 0])),
        request_seen(scheme='"https"', tls="771 49199 0"),
    ),  # fmt: skip
]


def changed(name: str, rule: str, **changes: Any) -> Case:
    return bad(f"request-{name}", rule, "request", pack(request(**changes)))


def raw(name: str, rule: str, data: bytes) -> Case:
    return bad(f"request-{name}", rule, "request", data)


PLAIN = pack(request())
BAD_REQUESTS = [
    raw("12-elements", "R42", pack(request()[:12])),
    raw("14-elements", "R42", pack([*request(), None])),
    raw("map", "R42", pack({"kind": 0})),
    raw("nil", "R42", pack(None)),
    raw("trailing-byte", "R36", PLAIN + b"\xc0"),
    raw("cut", "R36", PLAIN[:-1]),
    raw("cut-in-text", "R36", PLAIN[:4]),
    changed("kind-2", "R46", kind=2),
    changed("kind-text", "R42", kind="0"),
    changed("kind-negative", "R37 R42", kind=-1),
    changed("kind-bool", "R42", kind=False),
    changed("method-bin", "R37 R42", method=b"GET"),
    changed("method-empty", "R42", method=""),
    changed("path-bin", "R42", path=b"/"),
    changed("path-nil", "R42", path=None),
    raw("path-not-utf8", "R37", PLAIN.replace(b"\xa1/", b"\xa1\xff", 1)),
    changed("raw-path-text", "R42", raw_path="/"),
    changed("query-text", "R37 R42", query=""),
    changed("query-nil", "R42", query=None),
    changed("root-path-bin", "R42", root_path=b""),
    changed("client-text", "R42", client="h\x001"),
    changed("client-without-nul", "R43", client=b"127.0.0.1"),
    changed("client-two-nuls", "R43", client=b"127.0.0.1\x005000\x00"),
    changed("client-port-name", "R43", client=b"127.0.0.1\x00http"),
    changed("client-port-sign", "R43", client=b"127.0.0.1\x00+1"),
    changed("client-port-65536", "R43", client=b"127.0.0.1\x0065536"),
    changed("server-nil", "R42", server=None),
    changed("server-without-nul", "R43", server=b"example.com"),
    changed("fields-text", "R39 R42", fields="host\0example.com"),
    changed("fields-nil", "R42", fields=None),
    changed("fields-odd", "R39", fields=b"host"),
    changed("fields-odd-3", "R39", fields=b"host\0example.com\0accept"),
    changed("fields-nul-at-end", "R39", fields=b"host\0example.com\0"),
    changed("tls-2-elements", "R42", tls=[772, 4865]),
    changed("tls-4-elements", "R42", tls=[772, 4865, 0, 0]),
    changed("tls-negative", "R37 R42", tls=[772, 4865, -1]),
    changed("tls-text", "R42", tls=["TLSv1.3", 4865, 0]),
    changed("tls-bool", "R42", tls=[772, 4865, True]),
    changed("tls-map", "R42", tls={}),
    changed("extensions-array", "R42", extensions=[]),
    changed("extensions-wrong-type", "R37", extensions={"trailers": 1}),
    changed("extensions-priority-8", "R37", extensions={"priority": [8, False]}),
    changed("extensions-priority-short", "R37", extensions={"priority": [1]}),
    raw("extensions-duplicate-key", "R37", PLAIN[:-1] + b"\x82" + (pack("trailers") + b"\xc3") * 2),
    raw("extensions-int-key", "R37", PLAIN[:-1] + b"\x81\x01\xc3"),
    raw("extensions-bin-key", "R37", PLAIN[:-1] + b"\x81" + pack(b"trailers") + b"\xc3"),
    changed("depth-5", "R36", extensions={"later": [[[1]]]}),
    raw("depth-bomb", "R36", PLAIN[:-1] + b"\x91" * 50000 + b"\xc0"),
    raw("float", "R35", PLAIN[:-1] + b"\x81" + pack("later") + b"\xcb" + bytes(8)),
    raw("ext", "R35", PLAIN[:-1] + b"\x81" + pack("later") + b"\xd4\x01\x00"),
    raw("c1", "R35", PLAIN[:-1] + b"\xc1"),
    raw("array-bomb", "R36", b"\xdd\x01\x00\x00\x00"),
    raw("array-bomb-4g", "R36", b"\xdd\xff\xff\xff\xff"),
    raw("map-bomb", "R36", PLAIN[:-1] + b"\xdf\x01\x00\x00\x00"),
    raw("bin-bomb", "R36", b"\x9d\xc6\xff\xff\xff\xff"),
    raw("str-bomb", "R36", b"\x9d\x00\xdb\x7f\xff\xff\xff"),
]


# --- RESPONSE, TRAILERS, WS_ACCEPT -----------------------------------------------------------------


def good_responses() -> list[Case]:
    block = fields((b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"))
    seen = ['header="content-type" "text/plain"', 'header="set-cookie" "a=1"', 'header="set-cookie" "b=2"']
    long = fields((b"x", b"y" * 300))
    return [
        ok("response-no-fields", "R39 R49", "response", pack([b""]), []),
        ok("response-fields", "R49", "response", pack([block]), seen),
        ok("response-upper-case", "R40", "response", pack([fields((b"Content-Type", b"A"))]), ['header="content-type" "A"'], False),
        ok("response-long", "R39", "response", pack([long]), [f'header="x" {quote(b"y" * 300)}']),
        ok("response-tab", "R40", "response", pack([fields((b"a", b"b\tc"))]), ['header="a" "b\\x09c"']),
        ok("response-obs-text", "R40", "response", pack([fields((b"a", b"\x80\xff"))]), ['header="a" "\\x80\\xff"']),
        ok("response-token-chars", "R40", "response", pack([fields((b"!#$%&'*+-.^_`|~09az", b""))]), ["header=\"!#$%&'*+-.^_`|~09az\" \"\""]),
        ok("response-array16", "R35", "response", b"\xdc\x00\x01\xc4\x00", [], False),
        ok("trailers-fields", "R49", "trailers", pack([fields((b"checksum", b"9"))]), ['header="checksum" "9"']),
        ok("accept-plain", "R84", "ws_accept", pack([None, b""]), ["subprotocol=nil"]),
        ok("accept-subprotocol", "R84", "ws_accept", pack(["chat", fields((b"x-a", b"1"))]), ['subprotocol="chat"', 'header="x-a" "1"']),
    ]  # fmt: skip


def bad_responses() -> list[Case]:
    cases: list[Case] = []
    for head, wrap in (("response", lambda b: [b]), ("trailers", lambda b: [b]), ("ws_accept", lambda b: [None, b])):

        def block(name: str, rule: str, data: bytes, head: str = head, wrap: Any = wrap) -> None:
            cases.append(bad(f"{head}-{name}", rule, head, pack(wrap(data))))

        block("odd", "R39", b"name")
        block("odd-3", "R39", b"a\0b\0c")
        block("cr-lf", "R40", b"a\0b\r\nset-cookie: x=1")
        block("lf", "R40", b"a\0b\nc")
        block("empty-name", "R40", b"\0value")
        block("pseudo-header", "R40", b":status\x00200")
    for name, data in (
        ("space", b"a b\0c"),
        ("colon", b"a:\0c"),
        ("high-byte", b"\xe9\0c"),
        ("control", b"a\x01\0c"),
        ("cr", b"a\r\0c"),
    ):
        cases.append(bad(f"response-name-{name}", "R40", "response", pack([data])))
    for byte in (*range(1, 9), *range(10, 32), 127):
        cases.append(bad(f"response-value-{byte:02x}", "R40", "response", pack([b"a\0b" + bytes([byte]) + b"c"])))
    for name, rule, data in (
        ("nil", "R49", pack(None)),
        ("bin", "R49", pack(b"")),
        ("empty-array", "R49", pack([])),
        ("2-elements", "R49", pack([b"", b""])),
        ("text", "R37 R49", pack(["a\0b"])),
        ("map", "R49", pack({"headers": b""})),
        ("trailing-byte", "R36", pack([b""]) + b"\x00"),
        ("cut", "R36", b"\x91\xc4"),
        ("cut-bin", "R36", b"\x91\xc4\x05abc"),
        ("array-bomb", "R36", b"\xdd\x01\x00\x00\x00"),
        ("array-bomb-inside", "R36", b"\x91\xdd\xff\xff\xff\xff"),
        ("map-bomb", "R36", b"\x91\xdf\x7f\xff\xff\xff"),
        ("map-bomb-half", "R36", b"\x91\xde\x00\x02\xa1a\x01"),
        ("bin-bomb", "R36", b"\x91\xc6\xff\xff\xff\xff"),
        ("depth-bomb", "R36", b"\x91" * 60000 + b"\xc0"),
        ("ext-bomb", "R35", b"\x91\xc9\xff\xff\xff\xff\x01"),
        ("float", "R35", b"\x91\xca\x00\x00\x00\x00"),
        ("c1", "R35", b"\x91\xc1"),
    ):
        cases.append(bad(f"response-{name}", rule, "response", data))
    for name, rule, value in (
        ("1-element", "R84", [None]),
        ("3-elements", "R84", [None, b"", None]),
        ("subprotocol-bin", "R84", [b"chat", b""]),
        ("swapped", "R84", [b"", None]),
    ):
        cases.append(bad(f"accept-{name}", rule, "ws_accept", pack(value)))
    return cases


def good() -> list[Case]:
    return [*GOOD_REQUESTS, *good_responses()]


def bad_cases() -> list[Case]:
    return [*BAD_REQUESTS, *bad_responses()]
