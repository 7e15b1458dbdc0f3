# SPDX-License-Identifier: MIT
"""What QUIC and HTTP/3 attackers send: memory stays bounded, a victim beside them is served, each flood has its end."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import pytest
from harness.gateway import VARIANT, Gateway
from harness.http3 import (
    DATA,
    EXCESSIVE_LOAD,
    HEADERS,
    Http3,
    block,
    frame,
    integer,
    literal,
    request,
)
from harness.quic import ONE_RTT, PROTOCOL_VIOLATION, Ended, join, pump_all
from harness.quic_raw import Raw, client_hello, initial, short_header, unknown_version
from harness.scripted_worker import ScriptedWorker, c
from harness.victim import MIB, Victim

Maker = Callable[..., Gateway]
SCALE = 1 if VARIANT == "release" else 4  # a sanitizer's gateway gets less of everything


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway(
        tmp_path_factory.mktemp("floods"),
        quic=True,
        log={"level": "info"},
        limits={"header_timeout": "1s", "write_stall": "2s"},
        http3={
            "handshake_timeout": "3s",
            "resets": 200,
            "resets_per_second": 10,
            "glitches": 300,
            "glitches_per_second": 10,
        },
    )
    try:
        made.start()
        made.start_workers(1)
        yield made
        made.finish()
    finally:
        made.kill()


def until_closed(client: Http3, act: Callable[[], None], rounds: int) -> int | None:
    """Repeats `act` until the gateway ends the connection; the code, None if it never does."""
    try:
        for _ in range(rounds):
            act()
            client.pump_for(0)
            if client.closing is not None and client.closing.by_peer:
                return client.closing.code
        client.ping()
    except Ended as ended:
        return ended.closing.code
    return None


# --- datagrams --------------------------------------------------------------------------------------------------------


def test_initial_flood(gateway: Gateway) -> None:
    """Half-open connections stay below the threshold: from then on addresses are validated first."""
    hello = client_hello(b"source-1")
    payload = join(0x06, 0, len(hello), hello)
    flood = [initial(payload, source=b"source-1") for _ in range(3000 // SCALE)]
    with Victim(gateway, grow=32) as victim, Raw(gateway.quic_address) as raw:
        raw.flood(flood)
        victim.more()
        assert gateway.metric("quic_retries") > 0
    gateway.wait_gauge("quic_handshakes_open", 0)


def test_bad_tokens(gateway: Gateway) -> None:
    """Tokens of nobody, of the wrong length, of another address."""
    sent = replied = 0
    with Victim(gateway) as victim, Raw(gateway.quic_address) as raw:
        for size in (1, 16, 33, 100, 600, 900):
            for first in (b"\x36", b"\xb6", os.urandom(1)):
                flood = [initial(join(0x01), token=first + os.urandom(size - 1)) for _ in range(60 // SCALE)]
                raw.flood(flood)
                sent += sum(map(len, flood))
                replied += raw.collect(0.02).bytes
        replied += raw.collect(0.5).bytes
        assert replied <= 3 * sent, (replied, sent)
        victim.more()


def test_a_token_of_another_address(make_gateway: Maker) -> None:
    """A Retry token counts at the address that it was sent to."""
    gateway = make_gateway(quic=True, http3={"retry_threshold": 0, "handshake_timeout": "2s"})
    client = Http3(gateway.quic_address, establish=False)
    client.pump(lambda: client.quic._retry_count == 1, "Retry")
    client.before_flush = lambda: client.rebind("127.0.0.6") if client.local[0] == "127.0.0.1" else None
    client.pump_for(1.0)
    closing = client.closing
    assert client.completed is None or (closing is not None and closing.by_peer), "the token was taken elsewhere"
    client.socket.close()


@pytest.mark.parametrize("kind", ["empty", "garbage", "short", "long"])
def test_datagrams_of_no_use(gateway: Gateway, kind: str) -> None:
    """They cost what reading them costs; answers to them are few and smaller than what they answer."""
    count = 20_000 // SCALE
    makers: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "garbage": lambda: os.urandom(30),
        "short": lambda: short_header(os.urandom(18), 60),
        "long": lambda: b"\xc0\0\0\0\1" + os.urandom(40),
    }
    flood = [makers[kind]() for _ in range(count)]
    with Victim(gateway) as victim, Raw(gateway.quic_address) as raw:
        began = time.monotonic()
        replies: list[bytes] = []
        for at in range(0, count, 64):
            raw.send(*flood[at : at + 64])
            replies += raw.drain().datagrams
        replies += raw.collect(0.3).datagrams
        seconds = time.monotonic() - began
        assert len(replies) <= 110 + 11 * seconds, f"{len(replies)} answers"
        assert all(len(one) < 60 for one in replies)
        victim.more()


def test_stateless_reset(gateway: Gateway) -> None:
    """A client of a gateway that knows nothing of it (any more) is told so."""
    with Http3(gateway.quic_address) as client:
        assert client.get().body == b"hello\n"
        client.confirm()
        with Raw(gateway.quic_address) as raw:
            for size in (22, 43, 60, 1200):
                raw.send(short_header(os.urandom(len(client.quic._peer_cid.cid)), size))
                for reply in raw.collect(0.3).datagrams:
                    assert 21 <= len(reply) < size and reply[0] & 0xC0 == 0x40
            ids = [client.quic._peer_cid, *client.quic._peer_cid_available]
            tokens = {one.stateless_reset_token for one in ids}
            raw.drain()
            for one in ids:  # of a connection that lives: its tokens are no one's to have
                raw.send(short_header(one.cid, 60))
            assert not tokens & {reply[-16:] for reply in raw.collect(0.3).datagrams}
        assert client.get().body == b"hello\n"


def test_version_negotiation_is_no_amplifier(gateway: Gateway) -> None:
    with Raw(gateway.quic_address) as raw:
        raw.send(unknown_version(size=1199))
        assert raw.collect(0.3).bytes == 0
        raw.send(unknown_version())
        reply = raw.collect(5, 1).datagrams[0]
        assert reply[0] & 0x80 and reply[1:5] == bytes(4) and len(reply) < 100
        assert b"12345678" in reply and b"abcdefgh" in reply
        raw.send(b"\x80\0\0\0\0" + bytes(1195))  # a Version Negotiation packet is not answered
        assert raw.collect(0.3).bytes == 0


# --- frames -----------------------------------------------------------------------------------------------------------


def test_path_challenges(gateway: Gateway) -> None:
    """Each may be answered; they cannot pile up."""
    with Victim(gateway) as victim, Http3(gateway.quic_address) as client:
        client.confirm()
        before = client.received_bytes
        sent = 0
        for _ in range(300 // SCALE):
            datagram = client.seal(b"".join(b"\x1a" + os.urandom(8) for _ in range(120)))
            client.send_raw(datagram)
            sent += len(datagram)
        victim.more()
        client.pump_for(0.2)
        assert client.received_bytes - before <= 3 * sent
        victim.more()


def test_connection_ids_that_are_retired_at_once(gateway: Gateway) -> None:
    """NEW_CONNECTION_ID that retires all before it, again and again, and no acknowledgement of what that makes the
    gateway say."""
    with Victim(gateway) as victim, Http3(gateway.quic_address) as client:
        client.confirm()
        client.sleeping = True
        for number in range(8, 8 + 6000 // SCALE):
            token = number.to_bytes(16, "big")
            client.send_raw(client.seal(join(0x18, number, number, b"\x08", number.to_bytes(8, "big"), token)))
            if number % 64 == 0:
                time.sleep(0.001)
        victim.more()
        assert gateway.status()["live"], "the gateway answers"
        client.sleeping = False
        client.pump_for(0.5)


def test_retired_connection_ids(gateway: Gateway) -> None:
    """RETIRE_CONNECTION_ID for all that comes: each is replaced, none is kept."""
    with Victim(gateway) as victim, Http3(gateway.quic_address) as client:
        assert client.get().body == b"hello\n"
        for _ in range(200 // SCALE):
            client.pump(lambda: client.quic._peer_cid_available, "a spare connection id")
            client.quic.change_connection_id()
            client.flush()
        assert client.get().body == b"hello\n"
        victim.more()


def test_acknowledgements_only(gateway: Gateway) -> None:
    with Victim(gateway) as victim, Http3(gateway.quic_address) as client:
        client.confirm()
        largest = client.quic._spaces[ONE_RTT].largest_received_packet
        for at in range(10_000 // SCALE):
            client.send_raw(client.seal(join(0x02, largest, 0, 0, 0)))
            if at % 64 == 0:
                time.sleep(0.001)
        assert client.get().body == b"hello\n"
        victim.more()


def test_optimistic_acknowledgements(gateway: Gateway) -> None:
    """Acknowledgements of what has not been received make nothing faster for long: of what was never sent they end the
    connection."""
    with (
        Victim(gateway) as victim,
        Http3(gateway.quic_address, max_data=256 * MIB, max_stream_data=256 * MIB) as client,
    ):
        client.confirm()
        client.open(request("/endless"))
        client.pump_for(0.05)
        space = client.quic._spaces[ONE_RTT]
        largest = space.largest_received_packet
        client.sleeping = True
        for ahead in range(0, 100_000, 50):
            client.send_raw(client.seal(join(0x02, largest + ahead, 0, 0, min(ahead + 10, largest))))
        client.sleeping = False
        closing = client.expect_closed()
        assert closing.code == PROTOCOL_VIOLATION and not closing.application, closing
        victim.more()
    gateway.wait_note("send raised OSError")


def test_pings(gateway: Gateway) -> None:
    with Victim(gateway) as victim, Http3(gateway.quic_address) as client:
        client.confirm()
        for at in range(5000 // SCALE):
            client.send_raw(client.seal(bytes([1]) * 1000))
            if at % 64 == 0:
                time.sleep(0.001)
        victim.more()


def test_crypto_out_of_order(gateway: Gateway) -> None:
    """CRYPTO with holes: what is kept for it is bounded."""
    with Victim(gateway) as victim:
        for _ in range(20 // SCALE):
            with Http3(gateway.quic_address) as client:
                client.confirm()
                for at in range(100):
                    client.send_raw(client.seal(join(0x06, 1 + at * 1100, 1000, bytes(1000))))
                client.pump_for(0)
        victim.more()


# --- streams ----------------------------------------------------------------------------------------------------------


def room(client: Http3) -> int:
    """How many requests may be opened now, once there is at least one."""
    left = lambda: client.quic._remote_max_streams_bidi - client.quic.get_next_available_stream_id() // 4  # noqa: E731
    client.pump(left, "a request to be granted")
    return int(left())


def reset_flood(client: Http3) -> None:
    for _ in range(room(client)):
        client.cancel(client.open(request("/sleep?ms=50&id=r")))
    client.pump_for(0)


def test_reset_flood(gateway: Gateway) -> None:
    with Victim(gateway, grow=24) as victim, Http3(gateway.quic_address) as client:
        assert until_closed(client, lambda: reset_flood(client), 200) == EXCESSIVE_LOAD
        victim.more()
    gateway.expect_counted("h3_reset_floods")


def test_stop_sending_flood(gateway: Gateway) -> None:
    """The same with STOP_SENDING alone: responses that nobody wants."""

    def act() -> None:
        for _ in range(room(client)):
            client.stop(client.open(request("/download?bytes=100000")))
        client.pump_for(0)

    with Victim(gateway, grow=24) as victim, Http3(gateway.quic_address) as client:
        assert until_closed(client, act, 200) == EXCESSIVE_LOAD
        victim.more()
    gateway.expect_counted("h3_reset_floods")


def test_a_reset_stream_counts_until_its_worker_is_done(make_gateway: Maker) -> None:
    gateway = make_gateway(quic=True, workers=0, http3={"max_concurrent_streams": 20})
    with ScriptedWorker(gateway.app_socket) as worker, Http3(gateway.quic_address) as client:
        client.ready()
        first = [client.open(request(f"/{i}")) for i in range(20)]
        seen = [worker.request() for _ in first]
        for stream in first:
            client.cancel(stream)
        client.ping()
        client.ping()
        late = client.open(request("/late"))
        client.pump_for(0.2)
        assert client.quic._streams[late].is_blocked, "a new stream was granted for one that its worker still works at"
        for one in seen[:5]:
            worker.done(one.stream)
        client.pump(lambda: not client.quic._streams[late].is_blocked, "a new stream to be granted")
        while (got := worker.next()) is not None and got.kind == c.FRAME_DISCONNECT:
            pass
        assert got is not None and got.kind == c.FRAME_REQUEST, str(got)
        worker.respond(got.stream)
        assert client.answer(late).status == 200
        for one in seen[5:]:
            worker.done(one.stream)
        worker.leave()


@pytest.mark.parametrize("kind", [0x21, DATA])
def test_frames_of_no_use(gateway: Gateway, kind: int) -> None:
    """Legal and of no use: unknown frames, DATA of nothing."""
    before = gateway.metric("h3_glitch_floods")
    with Victim(gateway) as victim, Http3(gateway.quic_address) as client:
        stream = client.open(request("/echo", "POST"), end=False)
        client.raw(stream, frame(kind) * 500_000)
        closing = client.expect_closed()
        assert closing.application and closing.code == EXCESSIVE_LOAD, closing
        victim.more()
    assert gateway.metric("h3_glitch_floods") > before


def test_streams_of_no_use(gateway: Gateway) -> None:
    """Unidirectional streams of a type that means nothing, full of it."""
    before = gateway.metric("h3_glitch_floods")

    def act() -> None:
        opened = client.quic.get_next_available_stream_id(is_unidirectional=True) // 4
        for _ in range(client.quic._remote_max_streams_uni - opened):
            client.uni(0x21, bytes(1000), True)
        client.flush()
        client.pump_for(0.001)

    with Victim(gateway) as victim, Http3(gateway.quic_address, critical=False) as client:
        assert until_closed(client, act, 5000) == EXCESSIVE_LOAD
        victim.more()
    assert gateway.metric("h3_glitch_floods") > before


def test_heads_that_never_end(gateway: Gateway) -> None:
    """A hundred streams on each of some connections with half a head: they end at the deadline."""
    with Victim(gateway) as victim:
        clients = [Http3(gateway.quic_address) for _ in range(5)]
        half = frame(HEADERS, block(request()))[:-5]
        for client in clients:
            for _ in range(100):
                client.open_raw(half, end=False)
        for client in clients:
            client.pump(
                lambda client=client: all(answer.over or answer.stopped for answer in client.answers.values()),
                "every stream to be ended",
            )
            client.close()
        victim.more()


# --- QPACK ------------------------------------------------------------------------------------------------------------


def with_table(client: Http3, entry: bytes) -> None:
    """Inserts one entry by hand (RFC 9204 4.3)."""
    client.ready()
    client.own_encoder = False
    client.raw(client.encoder_stream, integer(4096, 5, 0x20) + entry)
    client.ping()


INSERTION = integer(3, 5, 0x40) + b"x-a" + integer(3900, 7, 0) + b"a" * 3900


def test_small_bombs(gateway: Gateway) -> None:
    """One byte for each use of a large entry, many small fields, many crumbs: counted before they are kept."""
    bombs = {
        "limit_header_block": b"\x02\x00" + block(request())[2:] + b"\x80" * 20,
        "limit_header_fields": block(request()) + b"\xdd" * 150,
        "limit_cookie_crumbs": block(request()) + literal("cookie", "a=b") * 150,
    }
    before = {metric: gateway.metric(metric) for metric in bombs}
    with Victim(gateway, grow=8) as victim, Http3(gateway.quic_address) as client:
        with_table(client, INSERTION)
        for bomb in bombs.values():
            for _ in range(20):
                assert client.answer(client.open_raw(frame(HEADERS, bomb))).status == 431
        victim.more()
    for metric in bombs:
        assert gateway.metric(metric) == before[metric] + 20


@pytest.mark.parametrize("kind", ["table", "static", "crumbs"])
def test_bomb(gateway: Gateway, kind: str) -> None:
    """CVE-2026-49975 by QPACK: decoding itself is what costs, so the fields behind the limits count."""
    bombs = {
        "table": b"\x02\x00" + block(request())[2:] + b"\x80" * 16_000,
        "static": block(request()) + b"\xdd" * 16_000,
        "crumbs": block(request()) + literal("cookie", "a=b") * 3000,
    }
    before = gateway.metric("h3_glitch_floods")
    with Victim(gateway, grow=8) as victim, Http3(gateway.quic_address) as client:
        with_table(client, INSERTION)
        client.open_raw(frame(HEADERS, bombs[kind]))
        closing = client.expect_closed()
        assert closing.application and closing.code == EXCESSIVE_LOAD, closing
        victim.more()
    assert gateway.metric("h3_glitch_floods") == before + 1


def test_more_blocked_streams_than_allowed(gateway: Gateway) -> None:
    with Victim(gateway) as victim, Http3(gateway.quic_address) as client:
        client.ready()
        client.own_encoder = False
        blocked = frame(HEADERS, b"\x02\x00" + block(request())[2:] + b"\x80")
        for _ in range(17):
            client.open_raw(blocked)
        closing = client.expect_closed()
        assert closing.application and closing.code == 0x200, closing
        victim.more()


def test_instructions_of_any_length(gateway: Gateway) -> None:
    """A name of a gigabyte is announced on the encoder stream."""
    with Victim(gateway, grow=8) as victim, Http3(gateway.quic_address) as client:
        client.ready()
        client.own_encoder = False
        client.raw(client.encoder_stream, integer(4096, 5, 0x20) + integer(1 << 30, 5, 0x40))

        def act() -> None:
            client.raw(client.encoder_stream, bytes(60_000))
            client.flush()
            client.pump_for(0)

        code = until_closed(client, act, 100)
        assert code in (0x201, 0x102, EXCESSIVE_LOAD), code  # 0x102: the library's code for what is too long for it
        victim.more()


def test_a_frame_of_any_length(gateway: Gateway) -> None:
    """HEADERS of a gigabyte: refused long before that."""
    with Victim(gateway, grow=8) as victim, Http3(gateway.quic_address) as client:
        stream = client.open_raw(join(HEADERS, 1 << 30, block(request())), end=False)
        filler = literal("x-a", "b" * 60_000)

        def act() -> None:
            if not client.answers[stream].over and client.answers[stream].stopped is None:
                client.raw(stream, filler)
            client.flush()
            client.pump_for(0)

        code = until_closed(client, act, 60)
        answer = client.answers[stream]
        if code is None:
            with contextlib.suppress(Ended):
                client.pump(lambda: answer.over or answer.stopped is not None, "an end of the stream")
                assert answer.status == 431 or answer.reset is not None, f"{answer}"
        victim.more()


# --- slow things ------------------------------------------------------------------------------------------------------


def test_slow_readers(gateway: Gateway) -> None:
    """Many responses that nobody reads: what is kept for each is bounded, and write_stall ends them."""
    with Victim(gateway, grow=40) as victim:
        clients = []
        for _ in range(20 // SCALE):
            client = Http3(gateway.quic_address, max_stream_data=16 * 1024, max_data=64 * 1024)
            streams = [client.open(request(f"/download?bytes={4 * MIB}")) for _ in range(10)]
            client.hold(*streams, connection=True)
            clients.append((client, streams))
            for other, _ in clients:
                other.pump_for(0)  # one that does not even acknowledge has a bad network, which is not held against it
        victim.more()
        pump_all(
            [client for client, _ in clients],
            lambda: all(client.answers[stream].over for client, streams in clients for stream in streams),
            "the stalled responses to be ended",
            45,
        )
        for client, streams in clients:
            assert all(client.answers[stream].reset is not None for stream in streams)
            client.close()
        victim.more()


@pytest.mark.long
def test_initial_flood_from_many_addresses(gateway: Gateway) -> None:
    """A minute's worth: 40,000 Initials from 200 addresses."""
    hello = client_hello(b"source-1")
    payload = join(0x06, 0, len(hello), hello)
    with Victim(gateway, grow=32) as victim:
        for host in range(1, 201):
            with Raw(gateway.quic_address, f"127.0.3.{host}") as raw:
                raw.flood([initial(payload, source=b"source-1") for _ in range(200 // SCALE)])
        victim.more()
