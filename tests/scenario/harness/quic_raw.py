# SPDX-License-Identifier: MIT
"""QUIC packets without a connection: what attackers send, and what a gateway may answer."""

import os
import select
import struct
import time
from dataclasses import dataclass

from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, encode_long_header_first_byte, pull_quic_header

from .quic import INITIAL, V1, Address, Quic, join, udp_socket


def client_hello(source: bytes, name: str = "localhost") -> bytes:
    """The TLS message of a client whose connection id is `source`."""
    made = Quic(("127.0.0.1", 9), connect=False, name=name, id_length=len(source))
    made.socket.close()
    quic = made.quic
    quic._host_cids[0].cid = quic.host_cid = quic._local_initial_source_connection_id = source
    quic.connect(("127.0.0.1", 9), time.monotonic())
    return bytes(quic._crypto_streams[INITIAL].sender._buffer)


def initial(
    payload: bytes,
    *,
    destination: bytes | None = None,
    source: bytes = b"source-1",
    token: bytes = b"",
    version: int = V1,
    number: int = 0,
    size: int = 1200,
) -> bytes:
    """An Initial packet with these frames, padded so that the datagram has `size` bytes."""
    destination = os.urandom(8) if destination is None else destination
    crypto = CryptoPair()
    crypto.setup_initial(cid=destination, is_client=True, version=version)
    header = bytes([encode_long_header_first_byte(version, QuicPacketType.INITIAL, 1)])
    header += struct.pack(">IB", version, len(destination)) + destination + bytes([len(source)]) + source
    header += join(len(token), token)
    payload += bytes(max(size - len(header) - 2 - 2 - len(payload) - 16, 0))
    header += struct.pack(">HH", 0x4000 | (2 + len(payload) + 16), number)
    return bytes(crypto.encrypt_packet(header, payload, number))


def hello_initial(source: bytes = b"source-1", **options: object) -> bytes:
    """The Initial of an ordinary client."""
    hello = client_hello(source)
    return initial(join(0x06, 0, len(hello), hello), source=source, **options)  # type: ignore[arg-type]


def unknown_version(version: int = 0x1A2A3A4A, size: int = 1200, destination: bytes = b"12345678") -> bytes:
    """A long header of a version that nobody speaks."""
    head = bytes([0xC0]) + struct.pack(">IB", version, len(destination)) + destination + b"\x08abcdefgh"
    return head + bytes(size - len(head))


def short_header(destination: bytes, size: int) -> bytes:
    """A short header packet that nobody can read."""
    return bytes([0x40 | os.urandom(1)[0] & 0x3F]) + destination + os.urandom(size - 1 - len(destination))


@dataclass
class Seen:
    """What came back."""

    datagrams: list[bytes]

    @property
    def bytes(self) -> int:
        return sum(len(one) for one in self.datagrams)

    def types(self) -> list[QuicPacketType]:
        """The type of each datagram's first packet."""
        return [pull_quic_header(Buffer(data=one), host_cid_length=8).packet_type for one in self.datagrams]


class Raw:
    """A UDP socket that sends what it is told and understands nothing."""

    def __init__(self, address: Address, local: str = "127.0.0.1"):
        self.address = address
        self.socket = udp_socket(local)

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *datagrams: bytes) -> None:
        for one in datagrams:
            while True:
                try:
                    self.socket.sendto(one, self.address)
                    break
                except BlockingIOError:
                    select.select([], [self.socket], [], 1)

    def flood(self, datagrams: list[bytes], pause_every: int = 64) -> None:
        """Sends faster than a client would, but not faster than the kernel's socket buffer lets in."""
        for at in range(0, len(datagrams), pause_every):
            self.send(*datagrams[at : at + pause_every])
            time.sleep(0.001)
            self.drain()

    def drain(self) -> Seen:
        found = []
        while True:
            try:
                found.append(self.socket.recv(65536))
            except BlockingIOError:
                return Seen(found)

    def collect(self, seconds: float, enough: int = 1 << 30) -> Seen:
        """What comes within a time, at most until so many datagrams are there."""
        found: list[bytes] = []
        end = time.monotonic() + seconds
        while len(found) < enough and (left := end - time.monotonic()) > 0:
            if select.select([self.socket], [], [], left)[0]:
                try:
                    found.append(self.socket.recv(65536))
                except (TimeoutError, BlockingIOError, ConnectionError):
                    continue
        return Seen(found)
