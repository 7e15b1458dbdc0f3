# SPDX-License-Identifier: MIT
"""What service managers and kernels ask: sd_notify, watchdog, hung event loops, process 1."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_worker.config import Settings
from asgi_worker.notify import Notifier
from gateway import DEADLINE, Gateway
from test_supervisor import Site, running, wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Gateway() as gateway:
        made = Site(gateway, tmp_path)
        yield made
        assert made.process.poll() is not None, made.output()


class Manager:
    """The service manager's socket, and what was said to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(DEADLINE)
        self.heard: list[str] = []

    def until(self, word: str) -> list[str]:
        """Listen until this was said; returns everything from before."""
        seen: list[str] = []
        while word not in seen:
            seen += self.socket.recv(4096).decode().splitlines()
        self.heard += seen
        return seen


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.socket.close()


# sd_notify


def test_a_supervisor_tells_its_manager(site: Site, manager: Manager) -> None:
    site.environment = {"NOTIFY_SOCKET": str(manager.path)}
    site.start("--workers", "2")
    first = site.accept()
    manager.until("STATUS=1 of 2 workers ready")
    assert "READY=1" not in manager.heard
    second = site.accept()
    manager.until("READY=1")
    manager.until("STATUS=2 of 2 workers ready")
    site.signal(signal.SIGHUP)
    said = manager.until("STATUS=2 of 2 workers ready, reloading")
    assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in said)
    assert "RELOADING=1" in said
    for pid in (second, first):
        site.accept()
        site.gone(pid)
    manager.until("READY=1")
    site.change("broken")
    site.signal(signal.SIGHUP)
    failed = site.gateway.accept()
    failed.handshake()
    failed.until_end()
    assert "RELOADING=1" in manager.until("READY=1")  # given up is over too
    site.signal(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert site.end() == 0


def test_a_single_worker_tells_its_manager(site: Site, manager: Manager) -> None:
    site.environment = {
        "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "100000",
    }  # fmt: skip
    site.start()
    site.accept()
    manager.until("READY=1")
    manager.until("WATCHDOG=1")
    manager.until("WATCHDOG=1")
    site.signal(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert site.end() == 0


def test_a_supervisor_shows_its_manager_that_it_turns(site: Site, manager: Manager) -> None:
    site.environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "100000"}
    site.start("--workers", "2")
    for _ in range(3):
        manager.until("WATCHDOG=1")
    site.signal(signal.SIGTERM)
    assert site.end() == 0


def test_notifier() -> None:
    pid = str(os.getpid())
    environ = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": pid, "A": "b"}
    assert Notifier.take(environ).watchdog == 1.5
    assert environ == {"A": "b"}  # nobody else speaks in this name
    assert Notifier.take({"WATCHDOG_USEC": "3000000"}).watchdog is None
    environ = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}
    assert Notifier.take(environ).watchdog is None
    Notifier.take({"NOTIFY_SOCKET": "/nonexistent/n"}).ready()  # a manager that is gone is no end
    Notifier.take({"NOTIFY_SOCKET": "no path"}).ready()


def test_an_abstract_socket() -> None:
    name = f"gatewayd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(DEADLINE)
        Notifier.take({"NOTIFY_SOCKET": "@" + name}).stopping()
        assert sock.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_ready_file_is_there_while_somebody_serves(site: Site, workers: str) -> None:
    file = site.log.parent / "ready"
    site.start("--workers", workers, "--ready-file", str(file))
    for _ in range(int(workers)):
        assert not file.exists()
        site.accept()
    wait_for(file.exists, "the ready file")
    site.signal(signal.SIGTERM)
    assert site.end() == 0
    assert not file.exists()


# Hung event loops


def test_a_hung_worker_shows_its_stacks_and_is_replaced(site: Site) -> None:
    site.start("--workers", "2", "--hang-timeout", "1")
    hung, other = site.serving(2)
    site.links[hung].peer.request(path="/block")
    site.links[hung].flush()
    site.said(rf"worker {hung} has not turned its event loop for 1\.\d s \(--hang-timeout\)")
    site.said(r'versioned.py", line \d+ in app')
    site.said(rf"worker {hung} was killed by SIGABRT: its event loop stood still")
    new = site.accept()
    assert site.body(new) == "one"
    assert site.body(other) == "one"
    site.has_children({new, other})
    assert site.stop() == 0


def test_a_stopped_worker_is_killed(site: Site) -> None:
    site.start("--workers", "2", "--hang-timeout", "500ms")
    stopped, other = site.serving(2)
    os.kill(stopped, signal.SIGSTOP)
    site.said(rf"worker {stopped} was killed by SIGKILL")
    new = site.accept()
    site.has_children({new, other})
    assert site.stop() == 0


def test_workers_that_were_stopped_with_their_supervisor_are_not_hung(site: Site) -> None:
    site.start("--workers", "2", "--hang-timeout", "500ms")
    pids = site.serving(2)
    everybody = [site.process.pid, *pids]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4)  # longer than the limit, and than what counts as overslept
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    assert [site.body(pid) for pid in pids] == ["one", "one"]
    assert site.stop() == 0
    assert "has not turned" not in site.output()


# Jitter


def test_limits_are_not_reached_by_all_at_once() -> None:
    import asyncio
    import logging

    from asgi_worker.process import Worker

    async def limits() -> set[tuple[float | None, int | None]]:
        settings = Settings(
            app="a:b", max_age=10, max_age_jitter=5, max_rss=1000, max_rss_jitter=500
        )
        workers = [Worker(settings, logging.getLogger("x")) for _ in range(50)]
        return {(worker._max_age, worker._max_rss) for worker in workers}

    found = asyncio.run(limits())
    assert len(found) > 40
    assert all(age is not None and 10 <= age <= 15 for age, _ in found)
    assert all(rss is not None and 1000 <= rss <= 1500 for _, rss in found)


# Process 1


def test_process_1_reaps_strangers_and_obeys_signals(site: Site) -> None:
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("no PID namespace can be made here")
    site.prefix = unshare
    site.start()  # one worker: a supervisor all the same, because it is process 1
    link = site.gateway.accept()
    link.handshake()
    link.wait_ready()
    site.said("worker 2 is ready")
    (init,) = site.children()
    (worker,) = children(init)
    # A process that is left to process 1, and ends.
    code = "import os; os.fork() or os.fork() and os._exit(0)"
    subprocess.run(["nsenter", "-t", str(init), "-p", sys.executable, "-c", code], check=True)
    wait_for(lambda: children(init) == [worker], f"{children(init)} to be reaped")
    os.kill(init, signal.SIGTERM)
    link.until_end()
    assert site.end() == 0
    site.said("stopped")
    assert not running(worker)


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [int(word) for word in text.split()]
    return []
