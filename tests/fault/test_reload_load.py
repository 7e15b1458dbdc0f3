# SPDX-License-Identifier: MIT
"""Rows 18 and 19, promise R2: configuration and certificates are taken over again and again under mixed load."""

import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Callable

import pytest
from harness.gateway import ROOT, VARIANT, Gateway, insecure_context, make_certificate
from harness.mixed import MixedLoad
from harness.ports import free_port
from harness.process import rss, wait_for

MIB = 1 << 20
RATE = 300 if VARIANT == "release" else 100
REQUESTS = 18_000
RELOADS = 50
GATEWAYCTL = os.environ.get("GATEWAYCTL", str(ROOT / "build" / "gatewayctl"))

Maker = Callable[..., Gateway]


def ctl(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), "reload"]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def shown_certificate(gateway: Gateway) -> bytes:
    with gateway.tls_client(insecure_context()) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        found = client.socket.getpeercert(binary_form=True)
    assert found is not None
    return found


def expected_certificate(gateway: Gateway) -> bytes:
    return ssl.PEM_cert_to_DER_cert(gateway.cert.read_text())


def settled(gateway: Gateway) -> int:
    wait_for(lambda: set(gateway.live_gauges()) <= {"workers", "ipc_links"}, f"quiet, not {gateway.live_gauges()}", 60)
    return len(gateway.server_descriptors())


class Reloads:
    """One reload after the other, of another kind each time; every fourth is wrong and has to change nothing."""

    def __init__(self, gateway: Gateway):
        self.gateway, self.extra = gateway, free_port()
        self.taken = self.refused = 0

    def take_over(self, number: int) -> None:
        self.gateway.write_config()
        if number % 2:
            done = ctl(self.gateway)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.gateway.process.tail()}"
        else:
            before = self.gateway.process.output.count(" is in effect")
            self.gateway.process.send_signal(signal.SIGHUP)
            wait_for(lambda: self.gateway.process.output.count(" is in effect") > before, "the reload by signal")
        self.taken += 1

    def be_refused(self) -> None:
        done = ctl(self.gateway)
        assert done.returncode == 1, f"{done.stdout}{done.stderr}"
        self.refused += 1

    def certificate(self, number: int) -> None:
        make_certificate(self.gateway.directory)
        self.take_over(number)
        wait_for(lambda: shown_certificate(self.gateway) == expected_certificate(self.gateway), "the new certificate")

    def configuration(self, number: int) -> None:
        self.gateway.sections["limits"] = {"body_size": f"{100 + number}MiB"}
        base = [listener for listener in self.gateway.listeners if str(self.extra) not in str(listener["bind"])]
        more = [{"bind": f"127.0.0.1:{self.extra}"}] if number % 8 == 1 else []
        self.gateway.listeners = base + more
        self.take_over(number)

    def broken_file(self) -> None:
        self.gateway.config.write_text("broken = [")
        self.be_refused()
        self.gateway.write_config()

    def wrong_key(self) -> None:
        before = shown_certificate(self.gateway)
        kept = self.gateway.directory / "kept.pem"
        shutil.copy(self.gateway.key, kept)
        _, key = make_certificate(self.gateway.directory, stem="other")
        shutil.copy(key, self.gateway.key)
        self.be_refused()
        assert shown_certificate(self.gateway) == before
        shutil.copy(kept, self.gateway.key)

    def one(self, number: int) -> None:
        kind = number % 4
        if kind == 0:
            self.certificate(number)
        elif kind in (1, 2):
            self.configuration(number)
        else:
            (self.broken_file if number % 8 == 3 else self.wrong_key)()


def reload_under_load(make_gateway: Maker, reloads: int, requests: int) -> None:
    http3 = True
    gateway = make_gateway(
        workers=2,
        app_target="mixed:app",
        tls=True,
        quic=http3,
        gateway={"threads": 2},
        log={"level": "info", "access": ""},
    )
    server, workers = gateway.server_pid, [worker.pid for worker in gateway.workers]
    faults = Reloads(gateway)
    with MixedLoad(gateway, RATE, http3=http3) as warm:
        for number in range(8):
            faults.one(number)
        warm.more(2 * RATE)
    gateway.listeners = [listener for listener in gateway.listeners if str(faults.extra) not in str(listener["bind"])]
    faults.take_over(1)
    descriptors = settled(gateway)
    before = rss(server)
    with MixedLoad(gateway, RATE, http3=http3) as load:
        for number in range(reloads):
            faults.one(number)
            load.more(requests // reloads // 2)
        load.reach(requests, 600)
    gateway.listeners = [listener for listener in gateway.listeners if str(faults.extra) not in str(listener["bind"])]
    faults.take_over(1)
    print(f"{faults.taken} reloads, {faults.refused} refused{', HTTP/3 too' if http3 else ''}: {load}")
    assert faults.refused >= reloads // 4
    assert gateway.server_pid == server
    assert sorted(worker["pid"] for worker in gateway.admin("workers")) == sorted(workers)
    assert gateway.metric("workers_lost") == 0
    # links of workers were kept, so no WebSocket had a reason to be closed
    assert load.streams["websocket closed politely"] == 0
    # Whoever asks holds one for a moment himself.
    wait_for(lambda: settled(gateway) == descriptors, f"{descriptors} descriptors, not {gateway.server_descriptors()}")
    if VARIANT == "release":
        grown = rss(server) - before
        assert grown <= 8 * MIB, f"{grown / MIB:.1f} MiB more than before"


def test_fifty_reloads(make_gateway: Maker) -> None:
    reload_under_load(make_gateway, RELOADS, REQUESTS)


@pytest.mark.check
def test_eight_reloads(make_gateway: Maker) -> None:
    reload_under_load(make_gateway, 8, 600)
