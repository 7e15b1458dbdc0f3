# SPDX-License-Identifier: MIT
"""A QUIC connection of a client (aioquic, an independent implementation) that a test drives step by step.

Nothing happens behind the test's back: packets are read, acknowledged and sent only within pump() and the methods that
call it. Whatever the library would never send goes through inject(): any frames, sealed with the connection's own keys.
"""

import os
import select
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aioquic.buffer import Buffer, encode_uint_var
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionState, QuicReceiveContext
from aioquic.quic.packet import QuicPacketType, QuicProtocolVersion, encode_long_header_first_byte
from aioquic.tls import CipherSuite, Epoch, SessionTicket

from .process import Failed

V1, V2 = int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2)
INITIAL, EARLY, HANDSHAKE, ONE_RTT = Epoch.INITIAL, Epoch.ZERO_RTT, Epoch.HANDSHAKE, Epoch.ONE_RTT
PACKET_TYPES = {
    INITIAL: QuicPacketType.INITIAL,
    EARLY: QuicPacketType.ZERO_RTT,
    HANDSHAKE: QuicPacketType.HANDSHAKE,
    ONE_RTT: QuicPacketType.ONE_RTT,
}
CHACHA20, AES_128, AES_256 = (
    CipherSuite.CHACHA20_POLY1305_SHA256,
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
)
# RFC 9000 20.1
NO_ERROR, INTERNAL_ERROR, CONNECTION_REFUSED, FLOW_CONTROL_ERROR, STREAM_LIMIT_ERROR, STREAM_STATE_ERROR = range(6)
FINAL_SIZE_ERROR, FRAME_ENCODING_ERROR, TRANSPORT_PARAMETER_ERROR, CONNECTION_ID_LIMIT_ERROR = range(6, 10)
PROTOCOL_VIOLATION, INVALID_TOKEN, APPLICATION_ERROR, CRYPTO_BUFFER_EXCEEDED, KEY_UPDATE_ERROR = range(10, 15)
CRYPTO_ERROR = 0x100  # plus the TLS alert

varint = encode_uint_var
Address = tuple[str, int]


class Indirect(tuple[str, int]):
    """The address of something in front of the gateway, and the gateway's own."""

    direct: Address

    def __new__(cls, address: Address, direct: Address) -> "Indirect":
        made = super().__new__(cls, address)
        made.direct = direct
        return made


ECN_NAMES = {0: "none", 1: "ect1", 2: "ect0", 3: "ce"}


@dataclass(frozen=True)
class Closing:
    """How a connection was closed; `application`: by an HTTP/3 code, else by a QUIC one."""

    code: int
    application: bool
    reason: str
    by_peer: bool


class Ended(AssertionError):
    """The connection has ended while the test waited for something else."""

    def __init__(self, closing: Closing):
        super().__init__(f"the connection ended: {closing}")
        self.closing = closing


def join(*parts: int | bytes) -> bytes:
    """Numbers become variable-length integers, bytes stay (RFC 9000 16)."""
    return b"".join(varint(part) if isinstance(part, int) else part for part in parts)


def udp_socket(host: str, receive_buffer: int = 4 << 20) -> socket.socket:
    """A UDP socket on a port of its own that tells the ECN marks of what it receives."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host, 0))
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if ":" in host:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    return made


@dataclass
class Options:
    """What a client may be told; the defaults are those of an ordinary one."""

    alpn: Sequence[str] = ("h3",)
    name: str | None = "localhost"
    versions: Sequence[int] = (V1, V2)
    first_version: int | None = None  # of the first Initial, when it is not versions[0]
    ciphers: Sequence[CipherSuite] | None = None
    ticket: SessionTicket | None = None
    token: bytes = b""
    idle: float = 60.0
    max_data: int = 1 << 20
    max_stream_data: int = 1 << 20
    local: str = "127.0.0.1"
    ecn: int = 0  # the mark of what is sent: 2 ECT(0), 1 ECT(1), 3 CE
    id_length: int = 8
    certificate: tuple[str, str] | None = None  # of the client: PEM files of certificate and key
    datagram_size: int = 1200
    large_hello: bool = False  # a ClientHello of two Initial packets, as with a post-quantum key share
    initial_rtt: float = 0.1
    timeout: float = 20.0
    # After so long without a packet a PING goes out. Behind a NAT that forgets it, a client that only reads would wait
    # for ever: what the gateway sends goes to where it was seen last.
    nudge: float = 0.0
    # Hooks: the transport parameters as they go out; the TLS context before its ClientHello is made.
    parameters: Callable[[bytes], bytes] | None = None
    prepare: Callable[[QuicConnection], None] | None = None


class Quic:
    """One connection. `connect=False` sends nothing before the test calls connect()."""

    def __init__(self, address: Address, options: Options | None = None, *, connect: bool = True, **changed: Any):
        self.options = options or Options()
        for name, value in changed.items():
            assert hasattr(self.options, name), name
            setattr(self.options, name, value)
        self.address = address
        self.timeout = self.options.timeout
        self.tickets: list[SessionTicket] = []
        self.tokens: list[bytes] = []
        self.frames: Counter[int] = Counter()  # types of the frames that came
        self.ecn: Counter[str] = Counter()  # marks of the datagrams that came
        self.ecn_reported = (0, 0, 0)  # the counts of the last ACK frame with ECN: ECT(0), ECT(1), CE
        self.received = self.sent = 0  # datagrams
        self.received_bytes = self.sent_bytes = 0
        self.versions_offered: list[int] | None = None  # by a Version Negotiation packet
        self.completed: events.HandshakeCompleted | None = None
        self.pings: set[int] = set()
        self.before_flush: Callable[[], None] | None = None
        self.sleeping = False  # True: what comes is left in the socket
        self.stateless_reset = False
        self._ping = 0
        self._heard = time.monotonic()
        self.quic = QuicConnection(
            configuration=self._configuration(),
            session_ticket_handler=self.tickets.append,
            token_handler=self.tokens.append,
        )
        self._wrap()
        self.socket = self._new_socket(self.options.local)
        if connect:
            self.connect()

    def __enter__(self) -> "Quic":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _configuration(self) -> QuicConfiguration:
        options = self.options
        made = QuicConfiguration(
            alpn_protocols=list(options.alpn),
            is_client=True,
            server_name=options.name,
            verify_mode=ssl.CERT_NONE,
            supported_versions=list(options.versions),
            original_version=options.first_version,
            cipher_suites=list(options.ciphers) if options.ciphers else None,
            session_ticket=options.ticket,
            token=options.token,
            idle_timeout=options.idle,
            max_data=options.max_data,
            max_stream_data=options.max_stream_data,
            connection_id_length=options.id_length,
            max_datagram_size=options.datagram_size,
            initial_rtt=options.initial_rtt,
            quantum_readiness_test=options.large_hello,
        )
        if options.certificate:
            made.load_cert_chain(*options.certificate)
        return made

    def _wrap(self) -> None:
        """Looks into what comes, and lets the hooks change what goes."""
        quic: Any = self.quic
        handlers = quic._QuicConnection__frame_handlers
        for kind, (handler, epochs) in list(handlers.items()):
            handlers[kind] = (self._counting(handler), epochs)
        plain = quic._serialize_transport_parameters
        if self.options.parameters:
            change = self.options.parameters
            quic._serialize_transport_parameters = lambda: change(plain())
        negotiate = quic._receive_version_negotiation_packet

        def note_versions(header: Any, now: float) -> None:
            self.versions_offered = list(header.supported_versions)
            negotiate(header=header, now=now)

        quic._receive_version_negotiation_packet = note_versions
        if self.options.prepare:
            initialize, prepare = quic._initialize, self.options.prepare

            def prepared(peer_cid: bytes) -> None:
                initialize(peer_cid)
                prepare(quic)

            quic._initialize = prepared

    def _counting(self, handler: Any) -> Any:
        def handle(context: QuicReceiveContext, kind: int, buf: Buffer) -> None:
            self.frames[kind] += 1
            start = buf.tell()
            handler(context, kind, buf)
            if kind == 0x03 and context.epoch == ONE_RTT:
                self._note_ecn(buf, start)

        return handle

    def _note_ecn(self, buf: Buffer, start: int) -> None:
        end = buf.tell()
        buf.seek(start)
        for _ in range(2):
            buf.pull_uint_var()
        for _ in range(2 * buf.pull_uint_var() + 1):
            buf.pull_uint_var()
        self.ecn_reported = (buf.pull_uint_var(), buf.pull_uint_var(), buf.pull_uint_var())
        buf.seek(end)

    # --- the socket ---------------------------------------------------------------------------------------------------

    def _new_socket(self, host: str) -> socket.socket:
        made = udp_socket(host)
        if self.options.ecn:
            level, option = (
                (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if ":" in host else (socket.IPPROTO_IP, socket.IP_TOS)
            )
            made.setsockopt(level, option, self.options.ecn)
        return made

    @property
    def local(self) -> Address:
        host, port = self.socket.getsockname()[:2]
        return str(host), int(port)

    def rebind(self, host: str | None = None) -> None:
        """Goes on from another port (and address): what a NAT does, without a word to the QUIC layer."""
        old, self.socket = self.socket, self._new_socket(host or self.local[0])
        old.close()

    def migrate(self, host: str | None = None) -> None:
        """The same on purpose, with another connection id (RFC 9000 9)."""
        self.pump(lambda: self.quic._peer_cid_available, "a spare connection id")
        self.quic.change_connection_id()
        self.rebind(host)

    def send_raw(self, datagram: bytes) -> None:
        try:
            self.socket.sendto(datagram, self.address)
        except BlockingIOError:
            pass  # as good as lost
        self.sent += 1
        self.sent_bytes += len(datagram)

    def _receive(self, most: int = 64) -> bool:
        """Reads what has come; whether anything had."""
        for count in range(most):
            try:
                data, ancillary, _, _ = self.socket.recvmsg(65536, 64)
            except BlockingIOError:
                return count > 0
            for level, kind, value in ancillary:
                if (level, kind) in ((socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)):
                    self.ecn[ECN_NAMES[value[0] & 3]] += 1
            self.received += 1
            self._heard = time.monotonic()
            self.received_bytes += len(data)
            self._note_reset(data)
            self.quic.receive_datagram(data, self.address, time.monotonic())
            self._events()
        return True

    def _note_reset(self, data: bytes) -> None:
        """The library does not look for stateless resets (RFC 9000 10.3.1)."""
        ids = [self.quic._peer_cid, *self.quic._peer_cid_available]
        if len(data) >= 21 and any(one.stateless_reset_token == data[-16:] for one in ids if one.stateless_reset_token):
            self.stateless_reset = True

    # --- life ---------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Makes the ClientHello; the next pump or flush sends it."""
        self.quic.connect(self.address, time.monotonic())

    def establish(self) -> "Quic":
        """Until the handshake is complete."""
        self.pump(lambda: self.completed, "the handshake")
        return self

    def confirm(self) -> "Quic":
        """Until the gateway has confirmed the handshake."""
        self.pump(lambda: self.quic._handshake_confirmed, "the handshake to be confirmed")
        return self

    @property
    def closing(self) -> Closing | None:
        """How the connection was closed, None while it lives."""
        event = self.quic._close_event
        if event is None:
            return None
        by_peer = self.quic._state is QuicConnectionState.DRAINING
        return Closing(event.error_code, event.frame_type is None, event.reason_phrase, by_peer)

    def flush(self) -> None:
        """Sends what there is to send."""
        if self.before_flush:
            self.before_flush()
        if self.quic._network_paths:
            for datagram, _ in self.quic.datagrams_to_send(time.monotonic()):
                self.send_raw(datagram)

    def pump(self, until: Callable[[], object], what: str, timeout: float | None = None) -> Any:
        """Reads and sends until `until` is true, and gives its value. An end of the connection before that is Ended."""
        return pump_all([self], until, what, self.timeout if timeout is None else timeout)

    def turn(self) -> float:
        """Sends, and gives the time of the next timer."""
        nudge = self.options.nudge
        if nudge and time.monotonic() >= self._heard + nudge:
            self._heard = time.monotonic()
            self.quic.send_ping(-1)
        self.flush()
        timer = self.quic.get_timer()
        wait = self._heard + nudge if nudge else float("inf")
        return wait if timer is None else min(timer, wait)

    def on_time(self) -> None:
        timer = self.quic.get_timer()
        if timer is not None and timer <= time.monotonic():
            self.quic.handle_timer(time.monotonic())
            self._events()

    def pump_for(self, seconds: float) -> None:
        """Goes on for a while, whatever happens. No verdict may depend on how long."""
        end = time.monotonic() + seconds
        try:
            self.pump(lambda: time.monotonic() >= end, "nothing", seconds + 1)
        except Ended:
            pass

    def expect_closed(self, timeout: float | None = None) -> Closing:
        """Until the gateway has closed the connection."""
        try:
            self.pump(lambda: False, "the end of the connection", timeout)
        except Ended as ended:
            assert ended.closing.by_peer, f"our side found a fault: {ended.closing}"
            return ended.closing
        raise AssertionError("not reached")

    def close(self, code: int = 0x100, reason: str = "") -> None:
        """Says goodbye (unless the connection has ended) and closes the socket."""
        if self.socket.fileno() < 0:
            return
        if self.closing is None and self.quic._network_paths:
            if isinstance(self.address, Indirect):
                self.address = self.address.direct
            self.quic.close(code, reason_phrase=reason)
            self.flush()
        self.socket.close()

    def abandon(self) -> None:
        """Leaves without a word."""
        self.socket.close()

    def _events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                self.completed = event
            elif isinstance(event, events.PingAcknowledged):
                self.pings.add(event.uid)
            self.on_event(event)

    def on_event(self, event: events.QuicEvent) -> None:
        """For the protocol above."""

    # --- doing things -------------------------------------------------------------------------------------------------

    def ping(self, timeout: float | None = None) -> None:
        """A round trip: everything sent before has been received (unless it was lost)."""
        self._ping += 1
        uid = self._ping
        self.quic.send_ping(uid)
        self.pump(lambda: uid in self.pings, "the answer to a PING", timeout)

    def update_key(self) -> None:
        """Our next packet begins a new key phase (RFC 9001 6)."""
        self.confirm()
        self.quic.request_key_update()

    @property
    def key_phase(self) -> int:
        """Of what the gateway sends."""
        return int(self.quic._cryptos[ONE_RTT].recv.key_phase)

    def seal(
        self,
        payload: bytes,
        epoch: Epoch = ONE_RTT,
        *,
        reserved: int = 0,
        number: int | None = None,
        number_size: int = 2,
        destination: bytes | None = None,
        token: bytes = b"",
    ) -> bytes:
        """A packet with these frames, protected with the keys of the epoch. `reserved`: the reserved bits."""
        quic = self.quic
        crypto = quic._cryptos[epoch]
        if number is None:
            number = quic._packet_number
            quic._packet_number += 1
        destination = quic._peer_cid.cid if destination is None else destination
        last = struct.pack(">I", number & 0xFFFFFFFF)[4 - number_size :]
        if epoch is ONE_RTT:
            first = 0x40 | reserved << 3 | crypto.key_phase << 2 | (number_size - 1)
            header = bytes([first]) + destination + last
        else:
            first = encode_long_header_first_byte(quic._version, PACKET_TYPES[epoch], number_size - 1) | reserved << 2
            header = struct.pack(">BIB", first, quic._version, len(destination)) + destination
            header += bytes([len(quic.host_cid)]) + quic.host_cid
            if epoch is INITIAL:
                header += join(len(token), token)
            header += struct.pack(">H", 0x4000 | (len(payload) + number_size + 16)) + last
        return bytes(crypto.encrypt_packet(header, payload, number))

    def inject(self, payload: bytes, epoch: Epoch = ONE_RTT, **options: Any) -> None:
        """Sends these frames in a packet of their own, behind everything that waits to be sent."""
        self.flush()
        self.send_raw(self.seal(payload, epoch, **options))


def pump_all(clients: Sequence[Quic], until: Callable[[], object], what: str, timeout: float = 20.0) -> Any:
    """pump() of several connections at once."""
    deadline = time.monotonic() + timeout
    while True:
        poll = select.poll()
        awake: dict[int, Quic] = {}
        at = deadline
        value = until()
        if value:
            for client in clients:
                if client.socket.fileno() >= 0:
                    client.flush()
            return value
        for client in clients:
            if client.socket.fileno() < 0:
                continue
            if client.closing is not None and client.closing.by_peer:
                raise Ended(client.closing)
            at = min(at, client.turn())
            if client.closing is not None:
                raise Ended(client.closing)
            if not client.sleeping:
                awake[client.socket.fileno()] = client
                poll.register(client.socket, select.POLLIN)
        now = time.monotonic()
        if now >= deadline:
            raise Failed(f"waited {timeout} s for {what}")
        for descriptor, _ in poll.poll(max(at - now, 0) * 1000):
            awake[descriptor]._receive()
        for client in clients:
            if client.socket.fileno() >= 0:
                client.on_time()


def random_id(length: int = 8) -> bytes:
    return os.urandom(length)
