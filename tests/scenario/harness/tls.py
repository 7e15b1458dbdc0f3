# SPDX-License-Identifier: MIT
"""TLS clients, and what Python's ssl module cannot do: key updates, renegotiation, certificates of an authority."""

import ctypes
import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

from .gateway import Gateway, insecure_context
from .http1 import Client

REQUEST = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"

SSL_KEY_UPDATE_REQUESTED = 1
SSL_CTRL_SET_MAX_PROTO_VERSION = 124
TLS1_2_VERSION = 0x0303


def context(
    version: ssl.TLSVersion | None = None, ciphers: str | None = None, alpn: list[str] | None = None
) -> ssl.SSLContext:
    made = insecure_context(alpn)
    if version is not None:
        made.minimum_version = version
        made.maximum_version = version
    if ciphers is not None:
        made.set_ciphers(ciphers)
    return made


def ask(client: Client) -> Any:
    """What the recorder app saw of a GET."""
    return json.loads(client.get("/a").body)


def seen(gateway: Gateway, made: ssl.SSLContext | None = None, **options: Any) -> Any:
    """The same on a connection of its own."""
    with gateway.tls_client(made, **options) as client:
        return ask(client)


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libssl.so.3")
    library.SSL_CTX_new.restype = ctypes.c_void_p
    library.SSL_CTX_new.argtypes = [ctypes.c_void_p]
    library.TLS_client_method.restype = ctypes.c_void_p
    library.SSL_new.restype = ctypes.c_void_p
    library.SSL_new.argtypes = [ctypes.c_void_p]
    library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    library.SSL_set_fd.argtypes = [ctypes.c_void_p, ctypes.c_int]
    for name in ("SSL_connect", "SSL_do_handshake", "SSL_renegotiate", "SSL_free", "SSL_CTX_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.SSL_write.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    library.SSL_read.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    return library


class Connection:
    """A blocking TLS connection made with libssl itself. Calls return False, and reads b"", when OpenSSL failed."""

    def __init__(self, port: int, tls_1_2: bool = False):
        self._lib = _library()
        self._context = self._lib.SSL_CTX_new(self._lib.TLS_client_method())
        if tls_1_2:
            self._lib.SSL_CTX_ctrl(self._context, SSL_CTRL_SET_MAX_PROTO_VERSION, TLS1_2_VERSION, None)
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(True)
        self._ssl = self._lib.SSL_new(self._context)
        self._lib.SSL_set_fd(self._ssl, self.socket.fileno())
        assert self._lib.SSL_connect(self._ssl) == 1

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._lib.SSL_free(self._ssl)
        self._lib.SSL_CTX_free(self._context)
        self.socket.close()

    def key_update(self) -> bool:
        """Sends one KeyUpdate that asks for another in return."""
        queued = self._lib.SSL_key_update(self._ssl, SSL_KEY_UPDATE_REQUESTED) == 1
        return bool(queued and self._lib.SSL_do_handshake(self._ssl) == 1)

    def renegotiate(self) -> bool:
        """Sends a ClientHello inside the session (TLS 1.2) and waits for what comes of it."""
        return bool(self._lib.SSL_renegotiate(self._ssl) == 1 and self._lib.SSL_do_handshake(self._ssl) == 1)

    def send(self, data: bytes) -> bool:
        return bool(self._lib.SSL_write(self._ssl, data, len(data)) == len(data))

    def receive(self) -> bytes:
        buffer = ctypes.create_string_buffer(16384)
        length = self._lib.SSL_read(self._ssl, buffer, len(buffer))
        return buffer.raw[:length] if length > 0 else b""


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    """Runs the openssl command; what it prints."""
    return subprocess.run(["openssl", *arguments], input=stdin, check=True, capture_output=True).stdout


class Authority:
    """Issues certificates in a directory."""

    def __init__(self, directory: Path, name: str = "Test Authority"):
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.cert, self.key = directory / "ca.pem", directory / "ca-key.pem"
        self._request("req", "-x509", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
                      "-days", "30", key=self.key, out=self.cert)  # fmt: skip

    @staticmethod
    def _request(*arguments: str, key: Path, out: Path, algorithm: str = "ec") -> None:
        kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if algorithm == "ec" else ["rsa:2048"]
        openssl(*arguments, "-newkey", *kind, "-nodes", "-keyout", str(key), "-out", str(out))
        key.chmod(0o600)

    def issue(
        self, stem: str, subject: str, names: str = "", *, days: tuple[str, str] | None = None, algorithm: str = "ec"
    ) -> tuple[Path, Path]:
        """A certificate for `subject` ("/CN=x") and subjectAltName `names`; valid 30 days or as `days` says."""
        cert, key, request = (self.directory / f"{stem}{end}" for end in (".pem", "-key.pem", ".csr"))
        extension = ["-addext", f"subjectAltName={names}"] if names else []
        self._request("req", "-utf8", "-subj", subject, *extension, key=key, out=request, algorithm=algorithm)
        valid = ["-not_before", days[0], "-not_after", days[1]] if days else ["-days", "30"]
        openssl("x509", "-req", "-in", str(request), "-CA", str(self.cert), "-CAkey", str(self.key), "-copy_extensions",
                "copyall", *valid, "-out", str(cert))  # fmt: skip
        return cert, key
