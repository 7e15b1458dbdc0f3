# SPDX-License-Identifier: MIT
"""`make soak`: mixed load for SOAK_SECONDS, a fault every five seconds, chosen by SOAK_SEED; it ends as it began."""

import contextlib
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable

import pytest
from harness.gateway import VARIANT, Gateway, Worker, make_certificate
from harness.http1 import Client
from harness.mixed import MixedLoad
from harness.process import children_of, rss, wait_for
from test_rolling_restart import ready, settled, start_workers

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
EVERY = 5.0
WORKERS = 3
RATE = 150 if VARIANT == "release" else 50
MIB = 1 << 20

Maker = Callable[..., Gateway]
pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]


class Faults:
    """What can go wrong. Each fault ends by itself or is ended before the next one."""

    def __init__(self, gateway: Gateway, supervisor: Worker, dice: random.Random):
        self.gateway, self.supervisor, self.dice = gateway, supervisor, dice
        self.reloads = 0

    def workers(self) -> list[int]:
        return children_of(self.supervisor.pid)

    def kill_a_worker(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.dice.choice(self.workers()), signal.SIGKILL)

    def stop_a_worker_for_a_while(self) -> None:
        victim = self.dice.choice(self.workers())
        os.kill(victim, signal.SIGSTOP)
        time.sleep(self.dice.uniform(0.1, 4))
        os.kill(victim, signal.SIGCONT)

    def roll_the_workers(self) -> None:
        self.supervisor.send_signal(signal.SIGHUP)
        self.reloads += 1
        wait_for(lambda: self.supervisor.output.count("the reload is complete") >= self.reloads, "a reload", 120)

    def one_worker_more_and_one_less(self) -> None:
        self.supervisor.send_signal(signal.SIGTTIN)
        wait_for(lambda: ready(self.gateway) > WORKERS, "one more worker", 60)
        self.supervisor.send_signal(signal.SIGTTOU)

    def reload_the_gateway(self) -> None:
        self.gateway.process.send_signal(signal.SIGHUP)

    def renew_the_certificate(self) -> None:
        make_certificate(self.gateway.directory)
        self.gateway.process.send_signal(signal.SIGHUP)

    def reopen_the_logs(self) -> None:
        access = self.gateway.directory / "access.log"
        with contextlib.suppress(FileNotFoundError):  # no line since the last time
            access.rename(access.with_suffix(".old"))
        self.gateway.process.send_signal(signal.SIGUSR1)

    def clients_that_reset(self) -> None:
        for _ in range(100):
            with self.gateway.client() as client:
                client.request("GET", self.dice.choice(["/", "/download?bytes=3000000", "/drip?count=50&delay=50"]))
                client.reset()

    def clients_that_go_in_the_middle_of_an_upload(self) -> None:
        for _ in range(20):
            client = self.gateway.tls_client()
            client.request("POST", "/digest", {"content-length": "1000000"})
            client.send(b"x" * self.dice.randrange(1, 200_000))
            client.close()

    def nonsense(self) -> None:
        for _ in range(30):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.gateway.port)) as sock:
                sock.settimeout(5)
                sock.sendall(self.dice.randbytes(self.dice.randrange(1, 3000)))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass

    def slow_readers(self) -> None:
        clients = []
        for _ in range(20):
            client = self.gateway.client(receive_buffer=4096)
            client.request("GET", "/download?bytes=5000000")
            clients.append(client)
        time.sleep(3)
        for client in clients:
            client.close()

    def an_app_that_crashes(self) -> None:
        for path in ("/crash", "/crash-late", "/nothing"):
            with contextlib.suppress(AssertionError, OSError), self.gateway.client() as client:
                client.get(path)

    def all(self) -> list[Callable[[], None]]:
        names = [name for name in vars(type(self)) if not name.startswith("_") and name not in ("all", "workers")]
        return [getattr(self, name) for name in names]


def excuse(kind: str, failure: str) -> bool:
    """What a killed worker may cost: streams that it had under way, WebSockets, uploads; never a GET of the rest."""
    return kind in ("download", "upload", "events", "websocket", "websocket that lasts")


def connections(gateway: Gateway) -> None:
    """A request on every listener, so that what is made at first use is made."""
    for client in (gateway.client(), gateway.tls_client()):
        with client:
            assert isinstance(client, Client) and client.get("/").status == 200


def test_soak(make_gateway: Maker) -> None:
    dice = random.Random(SEED)
    print(f"\nseed {SEED}, {SECONDS:.0f} s (SOAK_SEED={SEED} runs it again)", flush=True)
    http3 = True
    gateway = make_gateway(
        workers=0,
        tls=True,
        quic=http3,
        gateway={"threads": 2},
        log={"level": "info", "access": "access.log"},
        app={"queue_timeout": "20s"},
    )
    supervisor = start_workers(gateway, WORKERS, "--hang-timeout", "20")
    server = gateway.server_pid
    with MixedLoad(gateway, RATE, streams=False, http3=http3) as warm:
        warm.more(4 * RATE)
    connections(gateway)
    descriptors, before = settled(gateway), rss(server)
    faults, done = Faults(gateway, supervisor, dice), Counter[str]()
    end = time.monotonic() + SECONDS
    with MixedLoad(gateway, RATE, excuse=excuse, http3=http3) as load:
        while time.monotonic() < end:
            fault = dice.choice(faults.all())
            done[fault.__name__] += 1
            began = time.monotonic()
            fault()
            wait_for(lambda: ready(gateway) == WORKERS, f"the workers after {fault.__name__}", 60)
            assert not load.failures, f"{fault.__name__}: {load.failures[:5]}"
            print(f"{end - time.monotonic():6.0f} s left, {load.answered} requests: {fault.__name__}", flush=True)
            time.sleep(max(0.0, min(EVERY - (time.monotonic() - began), end - time.monotonic())))
    print(f"{load}\n{dict(done)}", flush=True)
    assert gateway.server_pid == server, "the server was started again"
    wait_for(lambda: len(faults.workers()) == WORKERS, "the workers")
    # Whoever asks holds one for a moment himself.
    wait_for(lambda: settled(gateway) == descriptors, f"{descriptors} descriptors, not {gateway.server_descriptors()}")
    grown = rss(server) - before
    print(f"resident: {before / MIB:.1f} MiB before, {grown / MIB:+.1f} MiB after", flush=True)
    if VARIANT == "release":
        assert grown <= 8 * MIB
