# SPDX-License-Identifier: MIT
"""From a decoded REQUEST head to the scope that an application gets (docs/ASGI.md 1 to 7).

Job: build one real, mutable dict per request; share what may be shared. Field names arrive
lower-cased, cookies joined and `host` first: the gateway did that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..protocol.codec import Certificates, Header, RequestHead, Tls

ASGI_VERSIONS = {"version": "3.0", "spec_version": "2.5"}

_EMPTY: dict[str, Any] = {}


def with_root(root_path: str, path: str, raw_path: bytes) -> tuple[str, bytes]:
    """Return path and raw path with the root path in front, unless they begin with it (rule 4)."""
    if path != root_path and not path.startswith(root_path + "/"):
        path = root_path + path
    raw_root = root_path.encode()
    if raw_path != raw_root and not raw_path.startswith(raw_root + b"/"):
        raw_path = raw_root + raw_path
    return path, raw_path


def tls_extension(
    tls: Tls, conns: Mapping[int, Certificates], server_cert: str | None
) -> dict[str, Any]:
    """Build the `tls` extension; the caller keeps it per connection."""
    version, cipher, conn_id = tls
    certificates = conns.get(conn_id)
    if certificates is None:
        certificates = Certificates((), None, None, None)
    return {
        "server_cert": certificates.server_cert or server_cert,
        "client_cert_chain": certificates.client_cert_chain,
        "client_cert_name": certificates.client_cert_name,
        "client_cert_error": certificates.client_cert_error,
        "tls_version": version,
        "cipher_suite": cipher,
    }


def request_extensions(
    offered: Mapping[str, Any] | None, of_link: Mapping[str, Any]
) -> dict[str, Any]:
    """Name the response extensions that work for this request on this link."""
    extensions = dict(of_link)
    if offered:
        if offered.get("trailers"):
            extensions["http.response.trailers"] = _EMPTY
        if offered.get("early_hints"):
            extensions["http.response.early_hint"] = _EMPTY
            extensions["http.response.informational"] = _EMPTY
        priority = offered.get("priority")
        if priority:
            extensions["http.response.priority"] = {
                "urgency": priority[0],
                "incremental": priority[1],
            }
    return extensions


def subprotocols_of(headers: list[Header]) -> list[str]:
    """Return what a client offers, in its order, from one field or several."""
    offered = [value for name, value in headers if name == b"sec-websocket-protocol"]
    names = [name.strip(" \t") for value in offered for name in value.decode("latin-1").split(",")]
    return [name for name in names if name]


def websocket_scope(head: RequestHead, state: dict[str, Any], default_root: str) -> dict[str, Any]:
    """Build the scope of a WebSocket; `state` is copied."""
    extensions: dict[str, Any] = {"websocket.http.response": _EMPTY}
    scope = http_scope(head, state, default_root, extensions)
    scope["type"] = "websocket"
    del scope["method"]
    scope["subprotocols"] = subprotocols_of(scope["headers"])
    return scope


def http_scope(
    head: RequestHead, state: dict[str, Any], default_root: str, extensions: dict[str, Any]
) -> dict[str, Any]:
    """Build the scope of an HTTP request; `extensions` is taken, `state` is copied."""
    (
        _kind, method, version, scheme, path, raw_path, query, root_path,
        client, server, headers, _tls, _offered,
    ) = head  # fmt: skip
    root_path = root_path or default_root
    if root_path:
        path, raw_path = with_root(root_path, path, raw_path)
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": ASGI_VERSIONS,
        "http_version": version,
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": root_path,
        "headers": headers,
        "server": server,
        "state": state.copy(),
        "extensions": extensions,
    }
    if client is not None:  # a client on a Unix socket has no address: no key, rather than None
        scope["client"] = client
    return scope
