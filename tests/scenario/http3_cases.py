# SPDX-License-Identifier: MIT
"""What a QUIC client must not do, and the code that ends its connection (RFC 9000, RFC 9001): a table.

The 34 cases of h3spec's transport list are marked with their number (34 is in test_http3_conformance.py); the others
are ours. The code is the one that the RFC names for the fault, although its section 11 would let a generic one pass.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aioquic.buffer import Buffer
from aioquic.tls import ExtensionType
from harness.http3 import Http3
from harness.quic import (
    CONNECTION_ID_LIMIT_ERROR,
    CRYPTO_ERROR,
    FINAL_SIZE_ERROR,
    FLOW_CONTROL_ERROR,
    FRAME_ENCODING_ERROR,
    HANDSHAKE,
    PROTOCOL_VIOLATION,
    STREAM_LIMIT_ERROR,
    STREAM_STATE_ERROR,
    TRANSPORT_PARAMETER_ERROR,
    join,
)

UNEXPECTED_MESSAGE, MISSING_EXTENSION, NO_APPLICATION_PROTOCOL = (
    CRYPTO_ERROR + 10,
    CRYPTO_ERROR + 109,
    CRYPTO_ERROR + 120,
)
KEY_UPDATE, END_OF_EARLY_DATA = b"\x18\x00\x00\x01\x01", b"\x05\x00\x00\x00"
PING, HANDSHAKE_DONE = join(0x01), join(0x1E)
TOO_MANY = (1 << 60) + 1

Act = Callable[[Http3], None]


@dataclass
class Case:
    name: str
    codes: tuple[int, ...]
    act: Act
    options: dict[str, Any] = field(default_factory=dict)
    early: bool = False  # the fault is part of the handshake


CASES: list[Case] = []


def frames(name: str, *codes: int, send: bytes, **options: Any) -> None:
    """Frames in a 1-RTT packet once the handshake is confirmed."""

    def act(client: Http3) -> None:
        client.confirm()
        client.inject(send, **options)

    CASES.append(Case(name, codes, act))


def case(name: str, *codes: int, early: bool = False, **options: Any) -> Callable[[Act], Act]:
    def add(act: Act) -> Act:
        CASES.append(Case(name, codes, act, options, early))
        return act

    return add


def nothing(_: Http3) -> None:
    """The handshake itself is the fault."""


# --- transport parameters ---------------------------------------------------------------------------------------------


def pairs(data: bytes) -> list[tuple[int, bytes]]:
    buf, found = Buffer(data=data), []
    while not buf.eof():
        key = buf.pull_uint_var()
        found.append((key, buf.pull_bytes(buf.pull_uint_var())))
    return found


def parameters(name: str, *codes: int, without: int = -1, **added: bytes) -> None:
    """The client's transport parameters without one, or with others (p07=b"...")."""

    def change(data: bytes) -> bytes:
        more = {int(key[1:], 16): value for key, value in added.items()}
        kept = [(key, value) for key, value in pairs(data) if key != without and key not in more]
        return b"".join(join(key, len(value), value) for key, value in [*kept, *more.items()])

    CASES.append(Case(name, codes, nothing, {"parameters": change}, early=True))


# RFC 9000 18.2: IPv4 and its port, IPv6 and its port, connection id, stateless reset token
PREFERRED = b"\x7f\0\0\1\x01\xbb" + bytes(18) + b"\x08" + bytes(range(8)) + bytes(range(16))
parameters("3 initial_source_connection_id is missing (7.3)", TRANSPORT_PARAMETER_ERROR, without=0x0F)
parameters("4 original_destination_connection_id (18.2)", TRANSPORT_PARAMETER_ERROR, p00=b"DUMMY")
parameters("5 preferred_address (18.2)", TRANSPORT_PARAMETER_ERROR, p0d=PREFERRED)
parameters("6 retry_source_connection_id (18.2)", TRANSPORT_PARAMETER_ERROR, p10=b"DUMMY")
parameters("7 stateless_reset_token (18.2)", TRANSPORT_PARAMETER_ERROR, p02=bytes(16))
parameters("8 max_udp_payload_size below 1200 (18.2)", TRANSPORT_PARAMETER_ERROR, p03=join(1090))
parameters("9 ack_delay_exponent above 20 (18.2)", TRANSPORT_PARAMETER_ERROR, p0a=join(30))
parameters("10 max_ack_delay of 2^14 and more (18.2)", TRANSPORT_PARAMETER_ERROR, p0b=join(1 << 15))
parameters("active_connection_id_limit below 2 (18.2)", TRANSPORT_PARAMETER_ERROR, p0e=join(1))
parameters("initial_max_streams_bidi above 2^60 (4.6)", TRANSPORT_PARAMETER_ERROR, p08=join(TOO_MANY))
parameters("initial_source_connection_id of another (7.3)", TRANSPORT_PARAMETER_ERROR, p0f=b"another")
parameters("a parameter of another length than its value (7.4)", TRANSPORT_PARAMETER_ERROR, p04=b"\x01\x02\x03")

# --- TLS --------------------------------------------------------------------------------------------------------------


def crypto(name: str, *codes: int, before: bytes = b"", behind: bytes = b"") -> None:
    """TLS messages around the client's Finished."""

    def act(client: Http3) -> None:
        quic: Any = client.quic
        push = quic._push_crypto_data
        done: list[bool] = []

        def pushed() -> None:
            finished = quic._crypto_buffers[HANDSHAKE].tell() > 0 and not done
            if finished:
                done.append(True)
                quic._crypto_streams[HANDSHAKE].sender.write(before)
            push()
            if finished:
                quic._crypto_streams[HANDSHAKE].sender.write(behind)

        quic._push_crypto_data = pushed

    CASES.append(Case(name, codes, act, {"connect": False}, early=True))


def extensions(name: str, *codes: int, change: Callable[[list[Any]], list[Any]]) -> None:
    def prepare(quic: Any) -> None:
        quic.tls.handshake_extensions = change(quic.tls.handshake_extensions)

    CASES.append(Case(name, codes, nothing, {"prepare": prepare}, early=True))


crypto("28 KeyUpdate in the Handshake packets (RFC 9001 6)", UNEXPECTED_MESSAGE, behind=KEY_UPDATE)
frames(
    "29 KeyUpdate in 1-RTT packets (RFC 9001 6)", UNEXPECTED_MESSAGE, send=join(0x06, 0, len(KEY_UPDATE), KEY_UPDATE)
)
CASES.append(Case("30 no common ALPN (RFC 9001 8.1)", (NO_APPLICATION_PROTOCOL,), nothing, {"alpn": ("dummy",)}, True))
extensions("31 no transport parameters (RFC 9001 8.2)", MISSING_EXTENSION, change=lambda _: [])
extensions(
    "32 transport parameters under their draft's number (RFC 9001 8.2)",
    MISSING_EXTENSION,
    change=lambda given: [(0xFFA5, value) for key, value in given if key == ExtensionType.QUIC_TRANSPORT_PARAMETERS],
)
crypto("33 EndOfEarlyData (RFC 9001 8.3)", UNEXPECTED_MESSAGE, before=END_OF_EARLY_DATA)

# --- packets ----------------------------------------------------------------------------------------------------------


def in_handshake(name: str, *codes: int, send: bytes, **options: Any) -> None:
    """A Handshake packet as soon as there are keys for it, before our Finished."""

    def act(client: Http3) -> None:
        done: list[bool] = []

        def early() -> None:
            if not done and client.quic._cryptos and client.quic._cryptos[HANDSHAKE].send.is_valid():
                done.append(True)
                client.send_raw(client.seal(send, HANDSHAKE, **options))

        client.before_flush = early

    CASES.append(Case(name, codes, act, {"connect": False}, early=True))


frames("12 a packet without frames (12.4)", PROTOCOL_VIOLATION, send=b"", number_size=4)
in_handshake("13 reserved bits of a Handshake packet (17.2)", PROTOCOL_VIOLATION, send=PING + bytes(8), reserved=3)
in_handshake("14 PATH_CHALLENGE in a Handshake packet (17.2.4)", PROTOCOL_VIOLATION, send=b"\x1a01234567")
in_handshake("STREAM in a Handshake packet (17.2.4)", PROTOCOL_VIOLATION, send=join(0x0A, 0, 4, b"data"))
frames("15 reserved bits of a short header (17.3.1)", PROTOCOL_VIOLATION, send=PING + bytes(8), reserved=3)

# --- frames -----------------------------------------------------------------------------------------------------------

frames("11 unknown frame type (12.4)", FRAME_ENCODING_ERROR, send=join(0x20) + bytes(8))
frames("18 NEW_TOKEN (19.7)", PROTOCOL_VIOLATION, send=join(0x07, 5, b"DUMMY"))
frames("27 HANDSHAKE_DONE (19.20)", PROTOCOL_VIOLATION, send=HANDSHAKE_DONE + bytes(8))
frames("ACK of a packet that was never sent (13.1)", PROTOCOL_VIOLATION, send=join(0x02, 1_000_000, 0, 0, 0))
frames("ACK whose range goes below 0 (19.3.1)", FRAME_ENCODING_ERROR, send=join(0x02, 3, 0, 0, 9))
frames("a frame that is cut short (12.4)", FRAME_ENCODING_ERROR, send=join(0x0E, 0, 0, 100, b"x"))
frames("CRYPTO far beyond what is kept (7.5)", 0x0D, FRAME_ENCODING_ERROR, send=join(0x06, 1 << 20, 4, b"data"))

STREAM_0 = join(0x0F, 0, 100_000_000, 7, b"GET /\r\n")
frames("1 STREAM with a large offset (4.1)", FLOW_CONTROL_ERROR, send=STREAM_0)
frames("2 a stream id above the limit (4.6)", STREAM_LIMIT_ERROR, send=join(0x0F, 1_000_000_000, 0, 7, b"GET /\r\n"))
frames("16 RESET_STREAM of a send-only stream (19.4)", STREAM_STATE_ERROR, send=join(0x04, 3, 0, 0))
frames("17 STOP_SENDING of a stream that is not there (19.5)", STREAM_STATE_ERROR, send=join(0x05, 101, 0))
frames("19 STREAM of a gateway's stream that is not there (19.8)", STREAM_STATE_ERROR, send=join(0x0A, 1, 0) + bytes(4))
frames("20 STREAM of a send-only stream (19.8)", STREAM_STATE_ERROR, send=join(0x0A, 3, 0) + bytes(4))
frames("21 MAX_STREAM_DATA of a stream that is not there (19.10)", STREAM_STATE_ERROR, send=join(0x11, 101, 1_000_000))
frames("22 MAX_STREAM_DATA of a receive-only stream (19.10)", STREAM_STATE_ERROR, send=join(0x11, 2, 1_000_000))
frames("STOP_SENDING of a receive-only stream (19.5)", STREAM_STATE_ERROR, send=join(0x05, 2, 0))
frames("STREAM_DATA_BLOCKED of a send-only stream (19.13)", STREAM_STATE_ERROR, send=join(0x15, 3, 0))
frames("23 MAX_STREAMS above 2^60 (19.11)", FRAME_ENCODING_ERROR, send=join(0x12, TOO_MANY))
frames("24 STREAMS_BLOCKED above 2^60 (19.14)", FRAME_ENCODING_ERROR, STREAM_LIMIT_ERROR, send=join(0x16, TOO_MANY))
frames(
    "STREAM beyond the end of its stream (4.5)",
    FINAL_SIZE_ERROR,
    send=join(0x0F, 0, 10, 1, b"x") + join(0x0E, 0, 20, 1, b"y"),
)
frames("two ends of one stream (4.5)", FINAL_SIZE_ERROR, send=join(0x0F, 0, 10, 1, b"x") + join(0x04, 0, 0, 20))

TOKEN = bytes(range(16))
frames(
    "25 NEW_CONNECTION_ID that retires itself (19.15)",
    FRAME_ENCODING_ERROR,
    PROTOCOL_VIOLATION,
    send=join(0x18, 20, 30, b"\x08", b"another1", TOKEN),
)
frames(
    "26 NEW_CONNECTION_ID without an id (19.15)", FRAME_ENCODING_ERROR, send=join(0x18, 20, 0, b"\0", TOKEN) + bytes(8)
)
frames("NEW_CONNECTION_ID of 21 bytes (19.15)", FRAME_ENCODING_ERROR, send=join(0x18, 20, 0, b"\x15", bytes(21), TOKEN))
frames("RETIRE_CONNECTION_ID of one never given (19.16)", PROTOCOL_VIOLATION, send=join(0x19, 4000) + bytes(8))


@case("more connection ids than the gateway takes (5.1.1)", CONNECTION_ID_LIMIT_ERROR)
def _(client: Http3) -> None:
    client.confirm()
    for number in range(8, 40):
        client.inject(join(0x18, number, 0, b"\x08", number.to_bytes(8, "big"), number.to_bytes(16, "big")))


frames(
    "one connection id given twice, not the same (19.15)",
    PROTOCOL_VIOLATION,
    send=join(0x18, 1, 0, b"\x08", b"8" * 8, TOKEN),
)
