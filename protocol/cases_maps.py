# SPDX-License-Identifier: MIT
# ruff: noqa: E501   one case, one line
"""The maps in vectors/heads-*.txt (HELLO, HELLO_ACK, CONN, STATS, LOG), and transcripts/payloads.txt.

It knows the map tables of SPEC.md and the rules R26, R35 to R38; it knows no order of frames.
"""

from __future__ import annotations

from typing import Any

from cases_heads import HOST, Lines, bad, ok, request
from generate_vectors import Case, fields, header, pack, quote

HELLO: dict[str, Any] = {
    "proto_min": 1,
    "proto_max": 1,
    "features": ["websocket", "files"],
    "app": "",
    "instance": bytes(range(16)),
    "generation": "v1",
    "pid": 4242,
    "python": "CPython 3.13.5",
    "worker_version": "asgi_worker 1.0",
    "max_concurrency": 1000,
    "channel_index": 0,
    "token": b"",
}
HELLO_SEEN = {
    "proto_min": "1",
    "proto_max": "1",
    "features": '"websocket" "files"',
    "app": '""',
    "instance": quote(bytes(range(16))),
    "generation": '"v1"',
    "pid": "4242",
    "python": '"CPython 3.13.5"',
    "worker_version": '"asgi_worker 1.0"',
    "max_concurrency": "1000",
    "channel_index": "0",
    "token": '""',
}
TOKEN = b"TOKENtokenTOKENt"
ACK: dict[str, Any] = {
    "proto": 1,
    "features": ["websocket", "files"],
    "gateway": b"GATEWAYgatewayGA",
    "channels": 1,
    "token": TOKEN,
    "max_frame": 65536,
    "window": 65536,
    "ws_max_message": 16777216,
    "ping_interval": 1000,
    "start_timeout": 60000,
    "server_cert": None,
}
ACK_SEEN = {
    "proto": "1",
    "features": '"websocket" "files"',
    "gateway": '"GATEWAYgatewayGA"',
    "channels": "1",
    "token": '"TOKENtokenTOKENt"',
    "max_frame": "65536",
    "window": "65536",
    "ws_max_message": "16777216",
    "ping_interval": "1000",
    "start_timeout": "60000",
    "server_cert": "nil",
}
CONN: dict[str, Any] = {
    "client_cert_chain": ["-----BEGIN-A", "-----BEGIN-B"],
    "client_cert_name": "CN=leaf,O=Example",
    "client_cert_error": None,
}
CONN_SEEN = {
    "client_cert_chain": '"-----BEGIN-A" "-----BEGIN-B"',
    "client_cert_name": '"CN=leaf,O=Example"',
    "client_cert_error": "nil",
}
STATS = {"rss": 1 << 33, "in_flight": 3, "tasks": 5}
STATS_SEEN = {"rss": "8589934592", "in_flight": "3", "tasks": "5"}
LOG = {"level": "warning", "message": "slow\nquery"}
LOG_SEEN = {"level": '"warning"', "message": '"slow\\x0aquery"'}


def seen(lines: dict[str, str]) -> Lines:
    return [f"{key}={value}" if value else f"{key}=" for key, value in lines.items()]


def good() -> list[Case]:
    second = {"channel_index": 3, "token": TOKEN}
    second_seen = {"channel_index": "3", "token": '"TOKENtokenTOKENt"'}
    backwards = dict(reversed(HELLO.items()))
    cert = {"server_cert": "PEM"}
    return [
        ok("hello", "R26 R28", "hello", pack(HELLO), seen(HELLO_SEEN)),
        ok("hello-second-channel", "R29", "hello", pack(HELLO | second), seen(HELLO_SEEN | second_seen)),
        ok("hello-target", "R26", "hello", pack(HELLO | {"target": "shop:app"}), seen(HELLO_SEEN | {"target": '"shop:app"'})),
        ok("hello-other-order", "R37", "hello", pack(backwards), seen(HELLO_SEEN), False),
        ok("hello-unknown-key", "R37", "hello", pack({"later": {"a": [1]}} | HELLO), seen(HELLO_SEEN), False),
        ok("hello-unknown-feature", "R28", "hello", pack(HELLO | {"features": ["files", "x"]}), seen(HELLO_SEEN | {"features": '"files" "x"'}), False),
        ok("hello-no-features", "R28", "hello", pack(HELLO | {"features": []}), seen(HELLO_SEEN | {"features": ""})),
        ok("hello-version-range", "R27", "hello", pack(HELLO | {"proto_max": 65535}), seen(HELLO_SEEN | {"proto_max": "65535"})),
        ok("hello-max-bounds", "R37", "hello", pack(HELLO | {"generation": "g" * 128, "max_concurrency": 65535, "pid": 4294967295}),
           seen(HELLO_SEEN | {"generation": quote(b"g" * 128), "max_concurrency": "65535", "pid": "4294967295"})),
        ok("ack", "R26", "hello_ack", pack(ACK), seen(ACK_SEEN)),
        ok("ack-certificate", "R26", "hello_ack", pack(ACK | cert), seen(ACK_SEEN | {"server_cert": '"PEM"'})),
        ok("ack-unknown-key", "R37", "hello_ack", pack(ACK | {"later": 1}), seen(ACK_SEEN), False),
        ok("conn-chain", "R101", "conn", pack(CONN), seen(CONN_SEEN)),
        ok("conn-server-cert", "R101", "conn", pack(CONN | cert), seen(CONN_SEEN | {"server_cert": '"PEM"'})),
        ok("stats-map", "R80", "stats", pack(STATS), seen(STATS_SEEN)),
        ok("stats-unknown-key", "R37 R80", "stats", pack(STATS | {"threads": 9}), seen(STATS_SEEN), False),
        ok("log-map", "R80", "log", pack(LOG), seen(LOG_SEEN)),
        ok("log-logger", "R80", "log", pack(LOG | {"logger": "app.db"}), seen(LOG_SEEN | {"logger": '"app.db"'})),
    ]  # fmt: skip


BAD_HELLOS: list[tuple[str, dict[str, Any]]] = [
    ("proto-min-0", {"proto_min": 0}),
    ("proto-range-empty", {"proto_min": 2, "proto_max": 1}),
    ("proto-max-65536", {"proto_max": 65536}),
    ("proto-text", {"proto_min": "1"}),
    ("proto-bool", {"proto_min": True}),
    ("features-bin", {"features": [b"files"]}),
    ("features-65", {"features": ["f"] * 65}),
    ("instance-15", {"instance": bytes(15)}),
    ("instance-17", {"instance": bytes(17)}),
    ("instance-text", {"instance": "x" * 16}),
    ("token-17", {"token": bytes(17)}),
    ("generation-129", {"generation": "g" * 129}),
    ("app-65", {"app": "a" * 65}),
    ("concurrency-0", {"max_concurrency": 0}),
    ("concurrency-65536", {"max_concurrency": 65536}),
    ("index-1024", {"channel_index": 1024}),
    ("index-negative", {"channel_index": -1}),
    ("pid-33-bits", {"pid": 1 << 32}),
    ("target-bin", {"target": b"x"}),
]


BAD_ACKS: list[tuple[str, dict[str, Any]]] = [
    ("window-under-frame", {"max_frame": 65537}),
    ("frame-32767", {"max_frame": 32767}),
    ("frame-over-1-mib", {"max_frame": 1048577, "window": 1048577}),
    ("channels-0", {"channels": 0}),
    ("channels-1025", {"channels": 1025}),
    ("token-empty", {"token": b""}),
    ("cert-bin", {"server_cert": b"PEM"}),
    ("ping-0", {"ping_interval": 0}),
]


BAD_CONNS: list[tuple[str, dict[str, Any]]] = [
    ("chain-nil", {"client_cert_chain": None}),
    ("chain-bin", {"client_cert_chain": [b"DER"]}),
    ("chain-17", {"client_cert_chain": ["c"] * 17}),
    ("name-bin", {"client_cert_name": b"CN=x"}),
]


def bad_cases() -> list[Case]:
    cases = [bad(f"{n}-{what}", "R37 R38", n, data) for n in ("hello", "hello_ack", "conn", "stats", "log") for what, data in (
        ("empty-map", b"\x80"), ("array", b"\x90"), ("nil", b"\xc0"), ("map-bomb", b"\xdf\x01\x00\x00\x00"), ("array-bomb", b"\xdd\x01\x00\x00\x00"),
    )]  # fmt: skip
    for key in HELLO:
        without = {k: v for k, v in HELLO.items() if k != key}
        cases.append(bad(f"hello-without-{key}", "R26 R37", "hello", pack(without)))
        cases.append(bad(f"hello-{key}-nil", "R26 R37", "hello", pack(HELLO | {key: None})))
    for key in ACK:
        without = {k: v for k, v in ACK.items() if k != key}
        cases.append(bad(f"ack-without-{key}", "R26 R37", "hello_ack", pack(without)))
    for name, changes in BAD_HELLOS:
        cases.append(bad(f"hello-{name}", "R26 R37", "hello", pack(HELLO | changes)))
    double = pack(HELLO)
    cases += [
        bad("hello-duplicate-key", "R37", "hello", b"\x8d" + double[1:] + pack("pid") + pack(1)),
        bad(
            "hello-duplicate-unknown", "R37", "hello", b"\x8e" + double[1:] + pack("z") + b"\x01" + pack("z") + b"\x02"
        ),
        bad("hello-int-key", "R37", "hello", b"\x8d" + double[1:] + b"\x01\x01"),
        bad("hello-not-utf8", "R37", "hello", double.replace(b"\xa2v1", b"\xa2\xc3\x28")),
        bad("hello-surrogate", "R37", "hello", double.replace(b"\xa2v1", b"\xa3\xed\xa0\x80")),
        bad("hello-overlong", "R37", "hello", double.replace(b"\xa2v1", b"\xa2\xc0\xaf")),
        bad("hello-trailing-byte", "R36", "hello", double + b"\xc0"),
        bad("hello-cut", "R36", "hello", double[:-1]),
        bad("hello-deep", "R36", "hello", b"\x8d" + double[1:] + pack("z") + pack([[[[1]]]])),
        bad("hello-float", "R35", "hello", b"\x8d" + double[1:] + pack("z") + b"\xcb" + bytes(8)),
    ]
    for name, changes in BAD_ACKS:
        cases.append(bad(f"ack-{name}", "R26 R37", "hello_ack", pack(ACK | changes)))
    for name, changes in BAD_CONNS:
        cases.append(bad(f"conn-{name}", "R37 R38", "conn", pack(CONN | changes)))
    cases.append(bad("stats-rss-text", "R38 R80", "stats", pack(STATS | {"rss": "1"})))
    cases.append(bad("stats-negative", "R38 R80", "stats", pack(STATS | {"tasks": -1})))
    cases.append(bad("log-level-empty", "R38 R80", "log", pack(LOG | {"level": ""})))
    cases.append(bad("log-message-8193", "R38 R80", "log", pack(LOG | {"message": "m" * 8193})))
    return cases


def payloads() -> list[tuple[str, bytes]]:
    """What transcripts name with @: heads and maps that are too long to read in hex."""
    second = {"channel_index": 1, "token": TOKEN}
    return [
        ("hello", pack(HELLO)),
        ("hello-frame", header("HELLO", len(pack(HELLO)), 0, 0, 0, 0) + pack(HELLO)),
        ("hello-v2-3", pack(HELLO | {"proto_min": 2, "proto_max": 3})),
        ("hello-v1-9", pack(HELLO | {"proto_max": 9})),
        ("hello-ch1", pack(HELLO | second)),
        ("hello-ch1-bad-token", pack(HELLO | second | {"token": bytes(16)})),
        ("hello-ch1000", pack(HELLO | second | {"channel_index": 1000})),
        ("hello-ch0-unknown-token", pack(HELLO | {"token": bytes(16)})),
        ("hello-no-features", pack(HELLO | {"features": []})),
        ("hello-other-app", pack(HELLO | {"app": "elsewhere"})),
        ("ack", pack(ACK)),
        ("ack-v2", pack(ACK | {"proto": 2})),
        ("ack-2-channels", pack(ACK | {"features": [], "channels": 2})),
        ("ack-websocket", pack(ACK | {"features": ["websocket"]})),
        ("ack-files", pack(ACK | {"features": ["files"]})),
        ("ack-no-features", pack(ACK | {"features": []})),
        ("ack-strange-feature", pack(ACK | {"features": ["teleport"]})),
        ("ack-ws-small", pack(ACK | {"features": ["websocket"], "ws_max_message": 10})),
        ("get", pack(request())),
        ("post", pack(request(method="POST"))),
        ("ws", pack(request(kind=1, scheme="ws", fields=fields(HOST, (b"sec-websocket-protocol", b"chat"))))),
        ("get-conn-7", pack(request(scheme="https", tls=[772, 4865, 7]))),
        ("get-odd", pack(request(fields=b"host"))),
        ("get-kind-2", pack(request(kind=2))),
        ("head", pack([b""])),
        ("head-len-5", pack([fields((b"content-length", b"5"))])),
        ("head-crlf", pack([b"a\0b\r\nc"])),
        ("head-bomb", b"\xdd\x01\x00\x00\x00"),
        ("head-link", pack([fields((b"link", b"</a.css>; rel=preload"))])),
        ("trailers", pack([fields((b"checksum", b"9"))])),
        ("accept", pack([None, b""])),
        ("accept-chat", pack(["chat", b""])),
        ("accept-other", pack(["other", b""])),
        ("accept-upgrade", pack([None, fields((b"upgrade", b"websocket"))])),
        ("conn", pack(CONN)),
        ("conn-server-only", pack(CONN | {"client_cert_chain": [], "client_cert_name": None, "server_cert": "PEM"})),
        ("stats", pack(STATS)),
        ("log", pack(LOG)),
    ]  # fmt: skip
