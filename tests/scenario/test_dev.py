# SPDX-License-Identifier: MIT
"""`python -m asgi_worker dev`: a gateway and a reloading worker in one command, from wrong input to kill -9."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.gateway import GATEWAYD, ROOT
from harness.ports import free_port
from harness.process import Process, children_of, wait_for

APP = """\
async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": TEXT})


from part import TEXT
"""

Start = Callable[..., Process]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.py").write_text(APP)
    (folder / "part.py").write_text("TEXT = b'one'\n")
    return folder


def environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT / "worker"), "GATEWAYD": GATEWAYD}


@pytest.fixture
def dev(project: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start(*options: str, target: str = "main:app", **told: str) -> Process:
        command = [sys.executable, "-m", "asgi_worker", "dev", "--app-dir", str(project), *options, target]
        process = Process("dev", command, tmp_path / f"dev-{len(started)}.log", environment() | told)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        if process.alive:
            process.stop(signal.SIGINT)
        process.assert_no_report()


def family(process: Process) -> list[int]:
    """All processes below it."""
    found, waiting = [], [process.pid]
    while waiting:
        below = children_of(waiting.pop())
        found += below
        waiting += below
    return found


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def body(url: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with urllib.request.urlopen(url, timeout=30, context=context) as answer:
        text = answer.read().decode()
        assert isinstance(text, str)
        return text


def address(process: Process, scheme: str = "http") -> str:
    return process.wait_log(rf"(?m)^  ({scheme}://\S+)", 60)[1]


def test_from_the_start_to_one_interrupt(dev: Start, project: Path) -> None:
    process = dev("--port", "0", "--https-port", "0")
    url, https = address(process), address(process, "https")
    assert url.startswith("http://localhost:")
    assert [body(url), body(https)] == ["one", "one"]
    process.wait_log(r'"GET / HTTP/1\.1" 200')
    if "HTTP3" in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=False).stdout:
        command = ["curl", "-sk", "--http3-only", "--max-time", "30", https]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "one"
    (project / "part.py").write_text("TEXT = b'two'\n")
    wait_for(lambda: body(url) == "two", "the new code")
    # gatewayd's master and server, a supervisor and its worker, once the old one has gone
    wait_for(lambda: len(family(process)) == 4, f"four processes, not {family(process)}")
    pids = family(process)
    assert process.stop(signal.SIGINT) == 0
    assert not any(map(running, pids))
    with pytest.raises(urllib.error.URLError):
        body(url)


def test_a_mistake_while_it_runs_is_shown_and_mended(dev: Start, project: Path) -> None:
    process = dev("--port", "0", "--workers", "2")
    url = address(process)
    (project / "part.py").write_text("TEXT = (\n")
    process.wait_log("SyntaxError")
    process.wait_log("what served goes on serving")
    assert body(url) == "one"
    (project / "part.py").write_text("TEXT = b'mended'\n")
    wait_for(lambda: body(url) == "mended", "the mended code")


def test_an_app_that_cannot_be_imported_yet(dev: Start, project: Path) -> None:
    (project / "part.py").write_text("import no_such_thing\n")
    process = dev("--port", "0")
    process.wait_log("No module named 'no_such_thing'")
    process.wait_log("waiting for the next change of a file")
    assert "is ready" not in process.output
    (project / "part.py").write_text("TEXT = b'at last'\n")
    assert body(address(process)) == "at last"


def test_kill_9_leaves_nobody(dev: Start) -> None:
    process = dev("--port", "0")
    address(process)
    pids = family(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(map(running, pids)), "the end of all it had started")


def test_a_gateway_that_ends_ends_all(dev: Start) -> None:
    process = dev("--port", "0")
    address(process)
    pids = family(process)
    gateway = next(pid for pid in children_of(process.pid) if "gatewayd" in Path(f"/proc/{pid}/comm").read_text())
    os.kill(gateway, signal.SIGKILL)
    assert process.wait() == 1
    assert "gatewayd ended with exit code -9" in process.output
    wait_for(lambda: not any(map(running, pids)), "the end of all it had started")


@pytest.mark.parametrize(
    ("options", "target", "code", "words"),
    [
        ([], "mian:app", 2, "there is no module 'mian' in "),
        ([], "main", 2, "'main' is not module:attribute"),
        (["--app-dir", "/nonexistent"], "main:app", 2, "--app-dir /nonexistent is not a directory"),
        (["--port", "http"], "main:app", 2, "'http' is not a port"),
        (["--nonsense"], "main:app", 2, "--nonsense"),
        (["--connect", "unix:/tmp/x"], "main:app", 2, "--connect is not for dev"),
        (["--cert", "x"], "main:app", 2, "--cert and --key go together"),
        (["--workers", "0"], "main:app", 2, "between 1 and 1024"),
        (["--gatewayd", "/nonexistent"], "main:app", 1, "there is no gatewayd /nonexistent: build it with make"),
        (["--gatewayd", "/bin/false"], "main:app", 1, "/bin/false does not start"),
        (["--host", "192.0.2.1"], "main:app", 1, "cannot listen on 192.0.2.1:8080: Cannot assign"),
        (["--port", "0", "--https-port", "0", "--cert", "/no/c", "--key", "/no/k"], "main:app", 2, "/no/c"),
    ],
)
def test_wrong_input(dev: Start, options: list[str], target: str, code: int, words: str) -> None:
    process = dev(*options, target=target)
    assert process.wait() == code, process.output
    assert words in process.output
    assert "Traceback" not in process.output


def test_a_port_in_use(dev: Start) -> None:
    first = dev("--port", "0")
    port = re.search(r":(\d+)/", address(first))
    assert port
    second = dev("--port", port[1])
    assert second.wait() == 1
    assert f"127.0.0.1:{port[1]}: Address already in use; stop its owner" in second.output
    assert "--port N" in second.output


def test_it_finds_the_gateway(project: Path, tmp_path: Path) -> None:
    """On the PATH, when nobody names one; and the options have variables."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gatewayd").symlink_to(GATEWAYD)
    told = environment() | {"ASGI_WORKER_PORT": str(free_port()), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    del told["GATEWAYD"]
    package = tmp_path / "elsewhere"  # far from any build
    shutil.copytree(ROOT / "worker" / "asgi_worker", package / "asgi_worker")
    told["PYTHONPATH"] = str(package)
    process = Process("dev", [sys.executable, "-m", "asgi_worker", "dev", "main:app"], tmp_path / "dev.log", told)
    process.command = ["env", "-u", "GATEWAYD", "-C", str(project), *process.command]
    process.start()
    try:
        url = address(process)
        assert url == f"http://localhost:{told['ASGI_WORKER_PORT']}/"
        assert body(url) == "one"
        assert process.stop(signal.SIGTERM) == 0
    finally:
        process.kill_all()


def test_help() -> None:
    command = [sys.executable, "-m", "asgi_worker", "dev", "--help"]
    done = subprocess.run(
        command, env={**os.environ, **environment()}, capture_output=True, text=True, check=True, timeout=60
    )
    for option in ("--port", "--https-port", "--host", "--gatewayd", "--no-access-log"):
        assert option in done.stdout
