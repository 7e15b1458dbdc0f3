# SPDX-License-Identifier: MIT
"""A supervisor with real workers under load: rolling reload, kill -9, crash loop, recycling, no orphans."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from harness.gateway import Gateway, Worker
from harness.load import Load
from harness.process import children_of, wait_for

Maker = Callable[..., Gateway]


def start(gateway: Gateway, *options: str, count: int = 2) -> Worker:
    """A supervisor whose workers the gateway holds ready."""
    supervisor = gateway.new_worker(options=["--workers", str(count), *options])
    supervisor.start()
    wait_for(lambda: len(ready_pids(gateway, supervisor)) == count, f"{count} ready workers\n{supervisor.tail()}")
    return supervisor


def ready_pids(gateway: Gateway, supervisor: Worker) -> set[int]:
    """The children that both the gateway and the supervisor have seen ready."""
    said, known = gateway.process.output, supervisor.output
    return {
        pid
        for pid in children_of(supervisor.pid)
        if f"worker {pid} ready" in said and f"worker {pid} is ready" in known
    }


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_rolling_reload_under_load(make_gateway: Maker) -> None:
    """Every worker is replaced, three times over, and no request fails."""
    gateway = make_gateway(workers=0, gateway={"threads": 2})
    supervisor = start(gateway)
    with Load(gateway, clients=4) as load:
        for count in range(1, 4):
            load.more(50)
            old = ready_pids(gateway, supervisor)
            supervisor.send_signal(signal.SIGHUP)
            wait_for(lambda count=count: supervisor.output.count("the reload is complete") == count, "the reload")
            wait_for(lambda old=old: not any(map(running, old)), "the end of the old workers")
            load.more(50)
            assert len(ready_pids(gateway, supervisor)) == 2
    assert "WARNING" not in supervisor.output and "ERROR" not in supervisor.output


def test_a_request_of_an_old_worker_outlives_the_reload(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0)
    supervisor = start(gateway)
    old = ready_pids(gateway, supervisor)
    with gateway.client() as client:
        client.request("GET", "/sleep?ms=1500&id=slow")
        gateway.wait_note("start GET slow")
        supervisor.send_signal(signal.SIGHUP)
        assert client.response().body == b"slept\n"
    supervisor.wait_log("the reload is complete")
    wait_for(lambda: not any(map(running, old)), "the end of the old workers")
    assert [note for note in gateway.notes() if note == "start GET slow"] == ["start GET slow"]


def test_workers_killed_under_load(make_gateway: Maker) -> None:
    """GETs of a killed worker are served by another; each one is replaced."""
    gateway = make_gateway(workers=0, app={"queue_timeout": "20s"})
    supervisor = start(gateway)
    with Load(gateway, clients=4) as load:
        for count in range(1, 4):
            load.more(50)
            victim = min(ready_pids(gateway, supervisor))
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda count=count: supervisor.output.count("was killed by SIGKILL") == count, "the news of it")
            wait_for(lambda: len(ready_pids(gateway, supervisor)) == 2, "the next worker")
        load.more(50)


def test_recycling_under_load(make_gateway: Maker) -> None:
    """--max-requests replaces workers all the time, and nobody notices."""
    gateway = make_gateway(workers=0)
    supervisor = start(gateway, "--max-requests", "150", "--max-requests-jitter", "50")
    with Load(gateway, clients=4) as load:
        load.more(1000, seconds=60)
        wait_for(lambda: supervisor.output.count("may go") >= 3, "three replacements", 60)
    assert "ERROR" not in supervisor.output


def test_broken_code_and_the_mended_one(make_gateway: Maker, tmp_path: Path) -> None:
    """A deploy that cannot be imported changes nothing but the log; the next one is taken."""
    gateway = make_gateway(workers=0)
    (tmp_path / "site.d").mkdir()
    module = tmp_path / "site.d" / "shipped.py"
    module.write_text("from scenario import app\n")
    worker = gateway.new_worker(
        "shipped:app", ["--workers", "2"], {"PYTHONPATH": f"{tmp_path / 'site.d'}{os.pathsep}{worker_path()}"}
    )
    worker.start()
    wait_for(lambda: len(ready_pids(gateway, worker)) == 2, "two workers")
    with Load(gateway) as load:
        module.write_text("raise RuntimeError('half a deploy')\n")
        worker.send_signal(signal.SIGHUP)
        worker.wait_log("the reload is given up")
        assert "RuntimeError: half a deploy" in worker.output
        load.more(50)
        module.write_text("from scenario import app\nprint('mended', flush=True)\n")
        worker.send_signal(signal.SIGHUP)
        worker.wait_log("the reload is complete")
        assert len(re.findall(r"(?m)^mended$", worker.output)) == 2
        load.more(50)


def worker_path() -> str:
    return str(Path(__file__).resolve().parents[2] / "worker")


def test_crash_loop_is_exit_3(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0)
    supervisor = gateway.new_worker("no_such_module:app", ["--workers", "2"])
    supervisor.may_end_with = {3}
    supervisor.start()
    assert supervisor.wait() == 3
    assert re.search(r"no module 'no_such_module'|No module named 'no_such_module'", supervisor.output)
    assert "giving up" in supervisor.output


def test_no_orphans_and_the_next_supervisor_serves(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"queue_timeout": "20s"})
    supervisor = start(gateway)
    pids = ready_pids(gateway, supervisor)
    with gateway.client() as client:
        client.request("GET", "/sleep?ms=500&id=last")
        gateway.wait_note("start GET last")
        supervisor.kill()
        assert client.response().body == b"slept\n"
    wait_for(lambda: not any(map(running, pids)), "the end of the orphans")
    start(gateway)
    assert gateway.get("/").status == 200
