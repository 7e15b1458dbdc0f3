# SPDX-License-Identifier: MIT
"""Every case of websocket_cases.py through the real gateway to a worker that echoes, over each carrier."""

import re
import zlib
from collections.abc import Iterator

import pytest
from harness.gateway import Gateway
from harness.http1 import Closed
from harness.websocket import CARRIERS, CLOSE, CONTINUATION, FIN, PONG, RSV1, WsClient, close_payload, frame, ws_client
from websocket_cases import BAD_COMPRESSED, CASES, MESSAGES, OFFERS, SIZES, Case, message


@pytest.fixture(scope="module", params=CARRIERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("conformance"), log={"level": "info"}, websocket={"max_message": "1MiB"})
    gateway.carrier = request.param
    try:
        gateway.start()
        gateway.start_workers(1, "sockets:app")
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()


def start(site: Gateway, offer: str | None = None) -> tuple[WsClient, str]:
    """An echoing WebSocket, and what was agreed of extensions."""
    client = ws_client(site)
    client.handshake("/echo", sec_websocket_extensions=offer)
    return client, client.accepted().header("sec-websocket-extensions") or ""


def whole(client: WsClient) -> tuple[int, bytes, bool]:
    """A whole message or control frame; whether it is compressed."""
    first = client.frame()
    payload, last = first.payload, first
    while not last.first & FIN:
        last = client.frame()
        assert last.opcode == CONTINUATION and not last.first & RSV1, last
        payload += last.payload
    return first.opcode, payload, bool(first.first & RSV1)


def end(client: WsClient) -> None:
    client.close(1000)
    got = client.frame()
    while got.opcode != CLOSE:
        got = client.frame()
    assert got.code == 1000
    client.expect_end()


def send(client: WsClient, case: Case) -> None:
    data = b"".join(case.sent)
    for at in range(0, len(data), case.chop or len(data)):
        try:
            client.client.send(data[at : at + (case.chop or len(data))])
        except (BrokenPipeError, ConnectionResetError):
            return  # the fault was seen


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(site: Gateway, case: Case) -> None:
    client, _ = start(site)
    with client:
        send(client, case)
        for expected in case.back:
            assert whole(client)[:2] == expected
        if case.code is None:
            end(client)
            return
        got = client.frame()
        while case.loose and got.opcode != CLOSE:
            got = client.frame()
        assert (got.opcode, got.code) == (CLOSE, case.code)
        try:
            assert client.client.rest() == b""
        except Closed as closed:  # bytes of ours that nobody reads any more make a reset of the connection
            assert closed.data == b""


class Deflate:
    """A client's side of what was agreed (RFC 7692 7)."""

    def __init__(self, agreed: str):
        assert agreed.startswith("permessage-deflate"), agreed
        bits = {side: int(n) for side, n in re.findall(r"(client|server)_max_window_bits=(\d+)", agreed)}
        self.out_bits, self.in_bits = bits.get("client", 15), bits.get("server", 15)
        self.fresh_out, self.fresh_in = (f"{side}_no_context_takeover" in agreed for side in ("client", "server"))
        self.out, self.into = self.deflater(), zlib.decompressobj(-self.in_bits)

    def deflater(self) -> "zlib._Compress":
        return zlib.compressobj(6, zlib.DEFLATED, -self.out_bits)

    def put(self, opcode: int, payload: bytes) -> bytes:
        if self.fresh_out:
            self.out = self.deflater()
        data = self.out.compress(payload) + self.out.flush(zlib.Z_SYNC_FLUSH)
        return frame(opcode, data[:-4], FIN | RSV1 | opcode, mask=bytes(4) if len(data) > 9999 else b"\1\2\3\4")

    def take(self, payload: bytes) -> bytes:
        if self.fresh_in:
            self.into = zlib.decompressobj(-self.in_bits)
        return self.into.decompress(payload + b"\0\0\xff\xff")


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("offer", OFFERS)
def test_compression(site: Gateway, offer: str, kind: str) -> None:
    """Each size three times, so that a later message refers to an earlier one where that was agreed."""
    client, agreed = start(site, OFFERS[offer])
    with client:
        deflate = Deflate(agreed)
        for size in SIZES:
            opcode, payload = message(kind, size)
            for _ in range(3):
                client.client.send(deflate.put(opcode, payload))
                got, data, compressed = whole(client)
                assert (got, deflate.take(data) if compressed else data) == (opcode, payload)
        client.send(opcode, b"not compressed")
        assert whole(client)[:2] == (opcode, b"not compressed")
        end(client)


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-bzip2",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    ],
)
def test_offers_that_are_declined(site: Gateway, offer: str) -> None:
    client, agreed = start(site, offer)
    with client:
        assert agreed == ""
        end(client)


@pytest.mark.parametrize("name", BAD_COMPRESSED)
def test_bad_compression(site: Gateway, name: str) -> None:
    sent, code = BAD_COMPRESSED[name]
    client, _ = start(site, "permessage-deflate")
    with client:
        client.client.send(sent)
        client.expect_close(code)


def test_a_bomb_is_bounded_by_the_message_limit(site: Gateway) -> None:
    """A thousandfold, and still 1009: what comes out is counted."""
    client, agreed = start(site, "permessage-deflate")
    with client:
        deflate = Deflate(agreed)
        client.client.send(deflate.put(2, bytes(64 << 20)))
        client.expect_close(1009)
    site.wait_metric_at_least("limit_ws_max_message", 1)


def test_compressed_fragments(site: Gateway) -> None:
    """RFC 7692 6.1: the first frame of a message alone has RSV1."""
    client, agreed = start(site, "permessage-deflate")
    with client:
        deflate = Deflate(agreed)
        data = deflate.out.compress(b"fragmented " * 1000) + deflate.out.flush(zlib.Z_SYNC_FLUSH)
        data = data[:-4]
        client.client.send(frame(0, data[:5], RSV1 | 1) + frame(9, b"p") + frame(0, data[5:], 0) + frame(0, b"", FIN))
        assert whole(client)[:2] == (PONG, b"p")
        _, payload, _ = whole(client)
        assert deflate.take(payload) == b"fragmented " * 1000
        client.client.send(frame(CLOSE, close_payload(1000)))
        client.expect_close(1000)
        client.expect_end()
