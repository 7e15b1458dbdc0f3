# SPDX-License-Identifier: MIT
"""A UDP proxy that is a bad network, by seed: it loses, reorders, duplicates, corrupts and delays, and it is a NAT that
gives a client another port or another address in mid-connection.

What happens to the n-th datagram of a direction depends on the seed alone, never on time. It runs in a thread.
"""

import contextlib
import heapq
import itertools
import random
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .quic import Address, Indirect

UP, DOWN = "up", "down"  # to the gateway, to the client
# What becomes of a datagram: (seconds to wait, bytes), any number of times.
Fate = list[tuple[float, bytes]]
Rule = Callable[[str, int, bytes], Fate | None]


@dataclass
class Network:
    """Shares of datagrams, 0 to 1, and seconds. `burst`: how many in a row are lost at most."""

    loss: float = 0.0
    burst: int | None = None
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    late: float = 0.01  # how much later a reordered one is
    rate: float = 0.0  # bytes per second of each direction; 0: as they come
    queue: float = 0.2  # seconds that a rate's queue holds, then datagrams are lost


@dataclass
class Counted:
    datagrams: int = 0
    bytes: int = 0
    lost: int = 0
    corrupted: int = 0
    duplicated: int = 0
    reordered: int = 0


@dataclass
class Side:
    chance: random.Random
    count: Counted = field(default_factory=Counted)
    lost_in_row: int = 0
    busy_until: float = 0.0


class Client:
    """What the proxy knows of one client: where it is, and the socket that stands for it at the gateway."""

    def __init__(self, address: Address, host: str):
        self.address = address
        self.socket = Client.bound(host)
        self.old: list[socket.socket] = []

    @staticmethod
    def bound(host: str) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made.bind((host, 0))
        made.setblocking(False)
        return made


class UdpProxy:
    """`with UdpProxy(address, seed=1, network=Network(loss=0.05)) as proxy: ... proxy.address`."""

    def __init__(
        self,
        target: Address,
        *,
        seed: int = 1,
        network: Network | None = None,
        up: Network | None = None,
        down: Network | None = None,
        rule: Rule | None = None,
        rebind_every: float = 0.0,
        host: str = "127.0.0.1",
    ):
        self.target, self.host, self.rule = target, host, rule
        self.network = {UP: up or network or Network(), DOWN: down or network or Network()}
        self.sides = {UP: Side(random.Random(f"{seed} up")), DOWN: Side(random.Random(f"{seed} down"))}
        self.dark = False  # a black hole in both directions
        self.rebinds = 0
        self.error: BaseException | None = None
        self.listener = Client.bound(host)
        self._clients: dict[Address, Client] = {}
        self._queue: list[tuple[float, int, socket.socket, bytes, Address]] = []
        self._order = itertools.count()
        self._rebind_to: str | None = None
        self._rebind_every, self._next_rebind = rebind_every, time.monotonic() + rebind_every
        self._stop = threading.Event()
        self._wake = socket.socketpair()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def address(self) -> Address:
        """For clients. A client's goodbye goes past the proxy: a lost one would keep its connection for long."""
        host, port = self.listener.getsockname()[:2]
        return Indirect((str(host), int(port)), self.target)

    @property
    def port(self) -> int:
        return self.address[1]

    @property
    def up(self) -> Counted:
        return self.sides[UP].count

    @property
    def down(self) -> Counted:
        return self.sides[DOWN].count

    def __enter__(self) -> "UdpProxy":
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._wake[1].send(b"x")
        self._thread.join()
        for client in self._clients.values():
            for one in (client.socket, *client.old):
                one.close()
        for one in (self.listener, *self._wake):
            one.close()
        if kind is None and self.error is not None:
            raise self.error

    def rebind(self, host: str | None = None) -> None:
        """Every client is seen at another port from now on, or at another address too."""
        with self._lock:
            self._rebind_to = host or self.host
            before = self.rebinds
        self._wake[1].send(b"x")
        while self.rebinds == before and self._thread.is_alive():
            time.sleep(0.001)

    def seen_at(self) -> list[Address]:
        """Where the gateway sees the clients."""
        names = [client.socket.getsockname() for client in self._clients.values()]
        return [(str(name[0]), int(name[1])) for name in names]

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._turn()
        except BaseException as error:  # shown by __exit__
            self.error = error

    def _turn(self) -> None:
        now = time.monotonic()
        self._send_due(now)
        self._rebind_now(now)
        wait = 0.2
        if self._queue:
            wait = min(wait, max(self._queue[0][0] - now, 0))
        if self._rebind_every:
            wait = min(wait, max(self._next_rebind - now, 0))
        owners = {client.socket.fileno(): client for client in self._clients.values()}
        poll = select.poll()
        for descriptor in (self.listener.fileno(), self._wake[0].fileno(), *owners):
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(wait * 1000):
            if descriptor == self._wake[0].fileno():
                self._wake[0].recv(64)
            elif descriptor == self.listener.fileno():
                self._from_clients()
            else:
                self._from_gateway(owners[descriptor])

    def _from_clients(self) -> None:
        for _ in range(64):
            try:
                data, address = self.listener.recvfrom(65536)
            except BlockingIOError:
                return
            client = self._clients.get(address[:2])
            if client is None:
                client = self._clients[address[:2]] = Client(address, self.host)
            self._pass(UP, data, client.socket, self.target)

    def _from_gateway(self, client: Client) -> None:
        for _ in range(64):
            try:
                data, _ = client.socket.recvfrom(65536)
            except (BlockingIOError, ConnectionRefusedError):
                return
            self._pass(DOWN, data, self.listener, client.address)

    def _pass(self, direction: str, data: bytes, through: socket.socket, to: Address) -> None:
        side = self.sides[direction]
        number = side.count.datagrams
        side.count.datagrams += 1
        side.count.bytes += len(data)
        now = time.monotonic()
        fate = self.rule(direction, number, data) if self.rule else None
        if fate is None:
            fate = self._fate(side, self.network[direction], data)
        if self.dark:
            fate = []
        for later, what in fate:
            at = self._rate(side, self.network[direction], now + later, len(what))
            if at is None:
                side.count.lost += 1
            elif at <= now and not self._queue:
                self._send(through, what, to)
            else:
                heapq.heappush(self._queue, (at, next(self._order), through, what, to))

    @staticmethod
    def _fate(side: Side, network: Network, data: bytes) -> Fate:
        """Every datagram draws the same numbers, whatever becomes of it."""
        draw = [side.chance.random() for _ in range(6)]
        count = side.count
        if draw[0] < network.loss and (network.burst is None or side.lost_in_row < network.burst):
            side.lost_in_row += 1
            count.lost += 1
            return []
        side.lost_in_row = 0
        later = network.delay + network.jitter * draw[5]
        if draw[1] < network.corrupt:
            count.corrupted += 1
            at = int(draw[4] * len(data))
            data = data[:at] + bytes([data[at] ^ (1 << int(draw[5] * 8))]) + data[at + 1 :]
        if draw[2] < network.reorder:
            count.reordered += 1
            later += network.late
        fate = [(later, data)]
        if draw[3] < network.duplicate:
            count.duplicated += 1
            fate.append((later + network.late * draw[4], data))
        return fate

    @staticmethod
    def _rate(side: Side, network: Network, at: float, size: int) -> float | None:
        if not network.rate:
            return at
        begin = max(at, side.busy_until)
        if begin - at > network.queue:
            return None
        side.busy_until = begin + size / network.rate
        return side.busy_until

    def _send_due(self, now: float) -> None:
        while self._queue and self._queue[0][0] <= now:
            _, _, through, what, to = heapq.heappop(self._queue)
            self._send(through, what, to)

    @staticmethod
    def _send(through: socket.socket, what: bytes, to: Address) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            if through.fileno() >= 0:
                through.sendto(what, to)

    def _rebind_now(self, now: float) -> None:
        with self._lock:
            host, self._rebind_to = self._rebind_to, None
        if host is None and self._rebind_every and now >= self._next_rebind:
            host = self.host
            self._next_rebind += self._rebind_every
        if host is None:
            return
        for client in self._clients.values():
            client.old.append(client.socket)
            client.socket = Client.bound(host)
            if len(client.old) > 4:
                client.old.pop(0).close()
        self.rebinds += 1


def swap_first(direction: str) -> Rule:
    """The first two datagrams of a direction change places."""
    held: list[bytes] = []

    def rule(seen: str, number: int, data: bytes) -> Fate | None:
        if seen != direction or number > 1:
            return None
        if number == 0:
            held.append(data)
            return []
        return [(0.0, data), (0.02, held[0])]

    return rule
