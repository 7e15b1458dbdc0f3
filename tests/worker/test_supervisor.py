# SPDX-License-Identifier: MIT
"""A real supervisor (--workers N) with real workers against a gateway in Python."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from asgi_worker.children import BACKOFF_FIRST, BACKOFF_LAST, Slot, describe
from asgi_worker.cli import main
from asgi_worker.protocol.constants import ERROR_RETIRED, ERROR_UNKNOWN_APP, FRAME_GOAWAY
from gateway import APPS_DIR, DEADLINE, WORKER_DIR, Gateway, GatewayLink


def wait_for(condition: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < limit, f"waited for {what}"
        time.sleep(0.005)


QUICK = "import asgi_worker.children as s; s.BACKOFF_FIRST = 0.01"


def running(pid: int) -> bool:
    """Tell whether a process (of ours or not) still runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Site:
    """A gateway, a supervisor and the links of its workers by process id."""

    def __init__(self, gateway: Gateway, directory: Path) -> None:
        self.gateway = gateway
        self.log = directory / "log"
        self.code = directory / "code"
        self.pid_file = directory / "pid"
        self.links: dict[int, GatewayLink] = {}
        self.environment: dict[str, str] = {}
        self.prefix: list[str] = []  # a command in front of it
        self.process: subprocess.Popen[bytes]

    def start(self, *options: str, code: str = "one", tuned: str = "", target: bool = True) -> None:
        """Start a supervisor; `tuned` is Python that changes numbers before it begins."""
        self.change(code)
        how = ["-m", "asgi_worker"]
        if tuned:
            how = ["-c", f"{tuned}; import sys; from asgi_worker.cli import main; sys.exit(main())"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ASGI_WORKER_")}
        environment.update(PYTHONPATH=str(WORKER_DIR), APP_CODE=str(self.code))
        environment.update(self.environment)
        command = [
            *self.prefix, sys.executable, *how, "--connect", f"unix:{self.gateway.path}",
            "--app-dir", str(APPS_DIR), "--loop", "asyncio", "--pid-file", str(self.pid_file),
            *options, *(["versioned:app"] if target else []),
        ]  # fmt: skip
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        self.gateway.workers.append(self.process)

    def change(self, code: str) -> None:
        """Deploy another version of the application."""
        self.code.write_text(code, encoding="ascii")

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def said(self, pattern: str) -> re.Match[str]:
        """Wait until a line of all that was said matches."""
        wait_for(lambda: re.search(pattern, self.output()), f"{pattern!r} in\n{self.output()}")
        match = re.search(pattern, self.output())
        assert match is not None
        return match

    def accept(self) -> int:
        """Bring the next worker that dials to READY; returns its process id."""
        link = self.gateway.accept()
        pid = int(link.handshake()["pid"])
        self.links[pid] = link
        link.wait_ready()
        return pid

    def serving(self, count: int) -> list[int]:
        """Accept so many workers, and wait until the supervisor knows that they are ready."""
        pids = [self.accept() for _ in range(count)]
        for pid in pids:
            self.said(rf"worker {pid} is ready")
        return pids

    def body(self, pid: int) -> str:
        return self.links[pid].request(path="/").body.decode()

    def gone(self, pid: int) -> None:
        """See a worker close its link and end."""
        link = self.links.pop(pid)
        link.until_end()
        wait_for(lambda: not running(pid), f"the end of {pid}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        return self.process.wait(DEADLINE)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.end()

    def has_children(self, pids: set[int]) -> None:
        """Wait until the supervisor has these processes and has reaped all others."""
        wait_for(lambda: self.children() == pids, f"children {pids}, not {self.children()}")

    def children(self) -> set[int]:
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return {int(word) for word in text.split()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Gateway() as gateway:
        made = Site(gateway, tmp_path)
        yield made
        assert made.process.poll() is not None, made.output()
        for line in re.findall(r"\b(?:worker|in place of worker) (\d+)", made.output()):
            assert not running(int(line)), f"worker {line} was left behind\n{made.output()}"


# Start and stop


def test_workers_serve_and_stop_in_order(site: Site) -> None:
    site.start("--workers", "3")
    pids = site.serving(3)
    site.has_children(set(pids))
    assert site.pid_file.read_text(encoding="ascii") == f"{site.process.pid}\n"
    exchanges = [site.links[pid].peer.request(path="/slow") for pid in pids]
    for pid in pids:
        site.links[pid].ping()
    site.signal(signal.SIGTERM)
    for pid, exchange in zip(pids, exchanges, strict=True):
        site.links[pid].until(lambda exchange=exchange: exchange.done)
        assert exchange.body == b"one"
        site.gone(pid)
    assert site.end() == 0
    assert not site.pid_file.exists()
    assert "ERROR" not in site.output()


def test_a_signal_to_all_processes_is_still_an_orderly_stop(site: Site) -> None:
    """Service managers and terminals do that: the worker is told twice, and takes its time."""
    site.start("--workers", "2")
    pids = site.serving(2)
    exchange = site.links[pids[0]].peer.request(path="/slow")
    site.links[pids[0]].ping()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pids[0], number)
    site.signal(signal.SIGTERM)
    site.links[pids[0]].until(lambda: exchange.done)
    assert exchange.body == b"one"
    assert site.end() == 0


def test_second_signal_is_now(site: Site) -> None:
    site.start("--workers", "2", "--graceful-timeout", "1h")
    pids = site.serving(2)
    site.links[pids[0]].peer.request(path="/sleep")
    site.links[pids[0]].ping()
    site.signal(signal.SIGINT)
    site.gone(pids[1])
    assert running(pids[0])
    site.signal(signal.SIGINT)
    assert site.end() == 0
    site.said("SIGINT again: stopping now")


def test_a_worker_that_cannot_stop_is_killed_at_the_third_signal(site: Site) -> None:
    site.start("--workers", "2")
    pids = site.serving(2)
    site.links[pids[0]].peer.request(path="/block")
    site.links[pids[0]].flush()
    wait_for((site.code.parent / "code.blocked").exists, "the blocked event loop")
    site.signal(signal.SIGTERM)
    site.gone(pids[1])
    site.signal(signal.SIGTERM)
    site.said("SIGTERM again")
    site.signal(signal.SIGTERM)
    assert site.end() == 1
    site.said(rf"worker {pids[0]} does not stop: killed")
    site.said(rf"worker {pids[0]} was killed by SIGKILL")


def test_one_worker_is_a_plain_process(site: Site) -> None:
    site.start("--workers", "1")
    assert site.accept() == site.process.pid
    site.has_children(set())
    assert site.stop() == 0
    assert not site.pid_file.exists()


# Crashes


def test_a_crashed_worker_is_replaced_with_growing_pauses(site: Site) -> None:
    site.start("--workers", "2")
    first, second = site.serving(2)
    for count in range(1, 4):
        os.kill(second, signal.SIGKILL)
        second = site.serving(1)[0]
        pauses = [float(text) for text in re.findall(r"starts in ([\d.]+) s", site.output())]
        assert len(pauses) == count
        assert site.body(first) == "one"
        assert site.body(second) == "one"
    assert pauses[2] > pauses[0]  # 0.05 to 0.1, then 0.2 to 0.4
    assert "was killed by SIGKILL" in site.output()
    assert site.stop() == 0


def test_pauses_grow_to_their_bound() -> None:
    slot = Slot()
    pauses = [slot.next_pause() for _ in range(40)]
    assert BACKOFF_FIRST / 2 <= pauses[0] <= BACKOFF_FIRST
    assert all(later > earlier / 2 for earlier, later in pairwise(pauses))
    assert BACKOFF_LAST / 2 <= min(pauses[10:]) <= max(pauses) <= BACKOFF_LAST


def test_how_processes_end_in_words() -> None:
    assert describe(3) == "ended with exit code 3"
    assert describe(-9) == "was killed by SIGKILL"
    assert describe(-63) == "was killed by signal 63"


def test_an_application_that_cannot_start_ends_it_with_3(site: Site) -> None:
    site.gateway.shut()
    site.start("--workers", "2", code="broken")
    assert site.end() == 3
    assert "RuntimeError: broken on purpose" in site.output()
    assert "Traceback" in site.output()
    assert "giving up" in site.output()
    assert not site.pid_file.exists()


def test_a_process_that_dies_while_it_starts_is_tried_five_times(site: Site) -> None:
    site.gateway.shut()
    site.start("--workers", "2", code="exit", tuned=QUICK)
    assert site.end() == 3
    site.said(r"\(5 failed in a row\)")


@pytest.mark.skipif(find_spec("uvloop") is not None, reason="it is about uvloop being missing")
def test_wrong_settings_that_only_a_worker_sees_are_exit_2(site: Site) -> None:
    site.gateway.shut()
    site.start("--workers", "2", "--loop", "uvloop")
    assert site.end() == 2
    site.said("--loop uvloop: uvloop is not installed")


def test_a_crash_loop_after_a_good_start_ends_it_with_3(site: Site) -> None:
    site.start("--workers", "2", tuned=QUICK)
    pids = site.serving(2)
    site.gateway.shut()  # failing workers need not wait for an answer
    site.change("broken")
    os.kill(pids[0], signal.SIGKILL)
    # while one serves it is tried again, more than five times if need be
    site.said(r"(?s)(ended with exit code 3.*){2}")
    assert site.body(pids[1]) == "one"
    os.kill(pids[1], signal.SIGKILL)
    assert site.end() == 3


def test_a_worker_that_never_becomes_ready_is_killed(site: Site) -> None:
    """The worker's own --startup-timeout cannot end a call that Python cannot interrupt."""
    site.gateway.shut()
    site.start(
        "--workers", "2", "--startup-timeout", "0.1", code="hang",
        tuned="import signal, asgi_worker.supervisor as s; s.START_SLACK = 4.0; "
        "s.FAILED_STARTS = 2; "
        "signal.setitimer = lambda *_: None",
    )  # fmt: skip
    site.said("does not become ready: killed")
    site.said(r"versioned.py\", line \d+ in <module>")  # where it stands
    site.said("was killed by SIGABRT: it did not become ready in time")
    assert site.end() == 3


# Retired generations


def test_retired_workers_are_not_replaced(site: Site) -> None:
    site.start("--workers", "2")
    pids = site.serving(2)
    site.links[pids[0]].goaway(ERROR_RETIRED, text="another generation serves")
    site.gone(pids[0])
    site.said(rf"worker {pids[0]} was told that its generation is retired")
    assert site.body(pids[1]) == "one"
    site.has_children({pids[1]})
    site.links[pids[1]].goaway(ERROR_RETIRED)
    site.gone(pids[1])
    assert site.end() == 4


def test_refused_as_retired_from_the_start(site: Site) -> None:
    site.start("--workers", "2")
    for _ in range(2):
        site.gateway.accept().refuse(ERROR_RETIRED, "this generation was replaced")
    assert site.end() == 4


def test_an_unknown_app_is_given_up_with_1(site: Site) -> None:
    site.start("--workers", "2", tuned=QUICK)
    while site.process.poll() is None:
        if site.gateway.pending(0.05):
            site.gateway.accept().refuse(ERROR_UNKNOWN_APP, "no such app")
    assert site.end() == 1
    site.said("no such app")


# Reload


def test_rolling_reload_newest_first_with_new_code(site: Site) -> None:
    site.start("--workers", "2")
    old = site.serving(2)
    old.sort(key=lambda pid: site.output().index(f"worker {pid} starts"))
    site.change("two")
    exchange = site.links[old[1]].peer.request(path="/slow")
    site.links[old[1]].ping()
    site.signal(signal.SIGHUP)
    new = [site.accept()]
    site.links[old[1]].until(lambda: exchange.done)
    assert exchange.body == b"one"
    site.gone(old[1])  # the newest
    assert site.body(old[0]) == "one"
    new.append(site.accept())
    site.gone(old[0])
    site.said("the reload is complete")
    assert [site.body(pid) for pid in new] == ["two", "two"]
    site.has_children(set(new))
    assert site.stop() == 0


def test_the_old_one_stays_until_the_new_one_is_ready(site: Site) -> None:
    site.start("--workers", "2")
    old = site.serving(2)
    site.signal(signal.SIGHUP)
    link = site.gateway.accept()  # the replacement, held in its handshake
    link.hello()
    for pid in old:
        assert site.body(pid) == "one"
        assert not site.links[pid].has(FRAME_GOAWAY)
    assert len(site.children()) == 3
    site.signal(signal.SIGTERM)
    link.close()
    assert site.end() == 0


def test_a_reload_with_broken_code_keeps_what_serves_and_says_why(site: Site) -> None:
    site.start("--workers", "2")
    old = site.serving(2)
    site.change("broken")
    site.signal(signal.SIGHUP)
    failed = site.gateway.accept()
    failed.handshake()
    failed.until_end()
    site.said(r"before it was ready \(importing 'versioned' failed\): worker \d+ stays")
    site.said("the reload is given up")
    assert [site.body(pid) for pid in old] == ["one", "one"]
    site.has_children(set(old))
    site.change("two")  # mended
    site.signal(signal.SIGHUP)
    new = [site.accept(), site.accept()]
    for pid in old:
        site.gone(pid)
    assert [site.body(pid) for pid in new] == ["two", "two"]
    assert site.stop() == 0


def test_a_newer_reload_outlives_the_failure_of_an_older_one(site: Site) -> None:
    site.start("--workers", "2")
    old = site.serving(2)
    site.change("broken")
    site.signal(signal.SIGHUP)
    failed = site.gateway.accept()  # has not imported anything yet
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.output().count("SIGHUP: replacing all workers") == 2, "both signals")
    failed.handshake()
    failed.until_end()
    site.said("the reload is given up")
    link = site.gateway.accept()
    site.change("two")
    new = [int(link.handshake()["pid"])]
    site.links[new[0]] = link
    link.wait_ready()
    new.append(site.accept())
    for pid in old:
        site.gone(pid)
    site.said("the reload is complete")
    assert [site.body(pid) for pid in new] == ["two", "two"]
    assert site.stop() == 0


def test_a_reload_reads_the_env_file_again(site: Site, tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("FROM_FILE=old\n", encoding="ascii")
    site.start("--workers", "2", "--env-file", str(env_file))
    old = site.serving(2)
    assert site.body(old[0]) == "one old"
    env_file.write_text("FROM_FILE=new\n", encoding="ascii")
    site.signal(signal.SIGHUP)
    new = [site.accept(), site.accept()]
    for pid in old:
        site.gone(pid)
    assert site.body(new[0]) == "one new"
    assert site.stop() == 0


def test_hangup_of_a_worker_is_no_reload(site: Site) -> None:
    site.start("--workers", "2")
    pids = site.serving(2)
    os.kill(pids[0], signal.SIGHUP)
    site.said(rf"\[{pids[0]}\]: SIGHUP: ignored")
    assert site.body(pids[0]) == "one"
    assert site.stop() == 0


# Scaling


def test_more_and_fewer_workers(site: Site) -> None:
    site.start("--workers", "2")
    pids = site.serving(2)
    site.signal(signal.SIGTTIN)
    third = site.serving(1)[0]
    site.signal(signal.SIGTTOU)
    site.gone(third)  # the newest goes
    site.signal(signal.SIGTTOU)
    wait_for(lambda: len(site.children()) == 1, "one worker")
    (left,) = site.children()
    assert left in pids
    site.signal(signal.SIGTTOU)
    site.said("one worker stays")
    assert site.body(left) == "one"
    assert site.stop() == 0


# Recycling


def test_a_recycled_worker_serves_until_its_replacement_is_ready(site: Site) -> None:
    site.start("--workers", "2", "--max-requests", "2")
    first, second = site.serving(2)
    assert [site.body(first) for _ in range(2)] == ["one", "one"]
    link = site.gateway.accept()  # the replacement, not ready yet
    assert [site.body(first) for _ in range(3)] == ["one"] * 3
    pid = int(link.handshake()["pid"])
    site.links[pid] = link
    link.wait_ready()
    site.gone(first)
    site.said(rf"worker {pid} starts in place of worker {first}: 2 requests were served")
    site.has_children({second, pid})
    assert site.stop() == 0


def test_a_failed_recycling_is_tried_again(site: Site) -> None:
    site.start("--workers", "2", "--max-requests", "1", tuned=QUICK)
    first, _ = site.serving(2)
    site.change("broken")
    site.body(first)
    for _ in range(2):
        failed = site.gateway.accept()
        failed.handshake()
        failed.until_end()
    assert site.body(first) == "one"
    site.said(rf"worker {first} stays")
    site.change("two")
    new = site.accept()
    while site.body(new) != "two":  # one more may have read the old text
        new = site.accept()
    site.gone(first)
    assert site.stop() == 0


# The end of the supervisor


def test_no_orphans_when_the_supervisor_is_killed(site: Site) -> None:
    site.start("--workers", "2")
    pids = site.serving(2)
    exchange = site.links[pids[0]].peer.request(path="/slow")
    site.links[pids[0]].ping()
    site.signal(signal.SIGKILL)
    site.links[pids[0]].until(lambda: exchange.done)
    assert exchange.body == b"one"  # the stop is an orderly one even now
    for pid in pids:
        site.gone(pid)
    site.said("the supervisor is gone")


# What it knows


def test_it_knows_neither_applications_nor_the_gateway() -> None:
    allowed = {"", "children", "config", "logs", "notify", "pidfile", "supervised", "watch"}
    for name in ("supervisor", "children", "supervised", "pidfile", "notify", "watch"):
        tree = ast.parse((WORKER_DIR / "asgi_worker" / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert (node.module or "") in allowed, node.module
            elif isinstance(node, ast.Import):
                assert all(alias.name not in ("asyncio", "ctypes") for alias in node.names)


def test_a_stray_marker_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("x", "99999"):
        monkeypatch.setenv("ASGI_WORKER_SUPERVISOR_FD", text)
        assert main(["a:b"]) == 2
        assert "no channel to a supervisor" in capsys.readouterr().err
