# SPDX-License-Identifier: MIT
"""Master and server: start, stop, death, signals, rights, what is left behind. Needs no admin socket."""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.gateway import APPS, GATEWAYD, ROOT
from harness.http1 import Client, Closed
from harness.ports import free_port
from harness.process import Failed, Process, children_of, wait_for


class Service:
    """gatewayd with a configuration that a test may add to, and at most one worker."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.port = free_port()
        self.app_socket = directory / "run" / "main.sock"
        self.pid_file = directory / "run" / "gatewayd.pid"
        self.config = directory / "gateway.toml"
        self.gateway = {"drain_idle": '"0s"', "drain_timeout": '"20s"', "threads": "2"}
        self.log = {"level": '"debug"', "access": f'"{directory}/access.log"'}
        self.listen = [f"127.0.0.1:{self.port}"]
        self.process = Process("gatewayd", [GATEWAYD, "-c", str(self.config)], directory / "gatewayd.log")
        self.process.environment["GATEWAYD_STRICT_EXIT"] = "1"
        self.worker: Process | None = None

    def write_config(self) -> None:
        gateway = {"pid_file": f'"{self.pid_file}"', **self.gateway}
        text = "[gateway]\n" + "".join(f"{key} = {value}\n" for key, value in gateway.items())
        text += "[admin]\nsocket = ''\nhttp = ''\n[log]\n"
        text += "".join(f"{key} = {value}\n" for key, value in self.log.items())
        text += "".join(f'[[listen]]\nbind = "{bind}"\n' for bind in self.listen)
        text += f'[apps.main]\nsocket = "{self.app_socket}"\n'
        self.config.write_text(text)

    def start(self) -> "Service":
        self.write_config()
        self.process.start()
        self.process.wait_log(r"master: serving: ")
        return self

    def start_worker(self) -> "Service":
        command = [os.environ.get("WORKER_PYTHON", sys.executable), "-m", "asgi_worker"]
        command += ["--connect", f"unix:{self.app_socket}", "--app-dir", str(APPS), "scenario:app"]
        path = os.pathsep.join([str(ROOT / "worker"), os.environ.get("PYTHONPATH", "")])
        environment = {"PYTHONPATH": path, "SCENARIO_LOG": str(self.directory / "scenario.log")}
        self.worker = Process("worker", command, self.directory / "worker.log", environment)
        self.worker.start()
        self.process.wait_log(r"worker \d+ ready")
        return self

    @property
    def server(self) -> int:
        children = children_of(self.process.pid)
        assert len(children) == 1
        return children[0]

    def client(self) -> Client:
        return Client(("127.0.0.1", self.port))

    def refuses(self) -> bool:
        try:
            self.client().close()
        except OSError:
            return True
        return False

    def seen(self) -> str:
        """What the app noted."""
        path = self.directory / "scenario.log"
        return path.read_text() if path.exists() else ""

    def lines(self, pattern: str) -> list[str]:
        return [line for line in self.process.output.splitlines() if re.search(pattern, line)]

    def kill(self) -> None:
        self.process.kill_all()
        if self.worker:
            self.worker.kill_all()


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[[], Service]]:
    made: list[Service] = []

    def make() -> Service:
        directory = tmp_path / f"service-{len(made)}"
        directory.mkdir()
        made.append(Service(directory))
        return made[-1]

    yield make
    for service in made:
        with contextlib.suppress(Failed):
            if service.process.child and service.process.alive:
                service.process.stop()
        service.kill()
        if service.process.child:
            service.process.assert_no_report()


@pytest.fixture
def service(make_service: Callable[[], Service]) -> Service:
    return make_service()


def gone(pid: int) -> bool:
    """Ended, reaped or not (whoever inherited it may be slow to reap)."""
    with contextlib.suppress(OSError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([GATEWAYD, *arguments], capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


# --- start and stop ------------------------------------------------------------------------------------------------


def test_starts_serves_and_leaves_nothing_behind(service: Service) -> None:
    service.listen.append(f"unix:{service.directory}/http.sock")
    service.start().start_worker()
    assert int(service.pid_file.read_text()) == service.process.pid
    assert stat.S_IMODE(service.app_socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(service.app_socket.parent.stat().st_mode) == 0o750
    with service.client() as client:
        assert client.get("/").body == b"hello\n"
    # one socket for two loops: clients are dealt out
    for _ in range(4):
        with Client(f"{service.directory}/http.sock") as client:
            assert client.get("/").body == b"hello\n"
    assert service.process.stop() == 0
    assert list(service.app_socket.parent.iterdir()) == []
    assert not (service.directory / "http.sock").exists()
    service.process.assert_no_report()


def test_drain_finishes_the_request_under_way(service: Service) -> None:
    service.start().start_worker()
    with service.client() as busy, service.client() as idle:
        idle.request("GET", "/")
        assert idle.response().status == 200
        busy.request("GET", "/drip?count=3&delay=300")
        assert busy.head().status == 200
        service.process.send_signal(signal.SIGTERM)
        wait_for(service.refuses, "no new connections")
        assert idle.expect_end() == b""
        assert service.process.alive
        assert busy.rest().endswith(b"0\r\n\r\n")
    assert service.process.wait() == 0


def test_second_signal_stops_at_once(service: Service) -> None:
    service.start().start_worker()
    with service.client() as client:
        client.request("GET", "/sleep?ms=600000")
        wait_for(lambda: "start GET" in service.seen(), "the request")
        service.process.send_signal(signal.SIGTERM)
        service.process.wait_log("server: stopping: no new connections")
        service.process.send_signal(signal.SIGINT)
        assert b"200" not in client.expect_end()
    assert service.process.wait() == 0


def test_drain_timeout_cuts_what_is_left(service: Service) -> None:
    service.gateway["drain_timeout"] = '"100ms"'
    service.start().start_worker()
    with service.client() as client:
        client.request("GET", "/sleep?ms=600000")
        wait_for(lambda: "start GET" in service.seen(), "the request")
        service.process.send_signal(signal.SIGTERM)
        client.expect_end()
    assert service.process.wait() == 0
    assert service.lines(r"1 connections did not end within gateway.drain_timeout")


def test_stops_without_worker_and_client(service: Service) -> None:
    service.start()
    assert service.process.stop(signal.SIGINT) == 0


def test_dies_with_its_master(service: Service) -> None:
    service.start()
    server = service.server
    service.process.send_signal(signal.SIGKILL)
    wait_for(lambda: gone(server), "the server's end")
    wait_for(lambda: service.lines("the master process is gone"), "its last words")


# --- death of the server -------------------------------------------------------------------------------------------


def test_killed_server_is_started_again(service: Service) -> None:
    service.start().start_worker()
    first = service.server
    os.kill(first, signal.SIGKILL)
    service.process.wait_log(r"the server was killed by SIGKILL")
    service.process.wait_log(r"serving again")
    assert service.server != first
    wait_for(lambda: len(service.lines(r"worker \d+ ready")) == 2, "the worker's return")
    with service.client() as client:
        assert client.get("/").body == b"hello\n"
    assert service.process.stop() == 0


def test_clients_wait_in_the_sockets_while_the_server_is_away(service: Service) -> None:
    service.start().start_worker()
    # the second death in a row is answered after a second: long enough to connect in between
    os.kill(service.server, signal.SIGKILL)
    service.process.wait_log("serving again")
    os.kill(service.server, signal.SIGKILL)
    wait_for(lambda: len(service.lines("was killed by SIGKILL")) == 2, "its second death")
    with service.client() as client:
        client.request("GET", "/")
        assert client.response().status in (200, 503)  # 503: the worker was slower to come back
    assert service.process.stop() == 0


def test_sigterm_to_the_server_alone_drains_it(service: Service) -> None:
    service.start().start_worker()
    with service.client() as client:
        client.request("GET", "/drip?count=2&delay=200")
        assert client.head().status == 200
        os.kill(service.server, signal.SIGTERM)
        assert client.rest().endswith(b"0\r\n\r\n")
    service.process.wait_log(r"the server ended with exit code 0")
    service.process.wait_log(r"serving again")
    assert service.process.stop() == 0


# --- refusals ------------------------------------------------------------------------------------------------------


def test_second_instance_is_refused_by_the_pid_file(service: Service, make_service: Callable[[], Service]) -> None:
    service.start()
    other = make_service()
    other.pid_file = service.pid_file
    other.write_config()
    result = run("-c", str(other.config))
    assert result.returncode == 1
    assert f"another gatewayd (pid {service.process.pid}) holds {service.pid_file}" in result.stderr
    assert int(service.pid_file.read_text()) == service.process.pid
    assert service.process.stop() == 0


@pytest.mark.parametrize("what", ["port", "app_socket"])
def test_second_instance_is_refused_by_its_sockets(
    service: Service, make_service: Callable[[], Service], what: str
) -> None:
    service.start()
    other = make_service()
    if what == "port":
        other.listen = service.listen
    else:
        other.app_socket = service.app_socket
    other.write_config()
    result = run("-c", str(other.config))
    assert result.returncode == 1
    line = "gateway.toml:[0-9]+:[0-9]+: .*" + ("already in use" if what == "port" else "another process listens")
    assert re.search(line, result.stderr), result.stderr
    # what the refused one had opened is gone, what the first one has is there
    assert not other.pid_file.exists()
    assert service.app_socket.exists()
    assert service.process.stop() == 0


def test_stale_socket_is_replaced(service: Service) -> None:
    service.app_socket.parent.mkdir()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(service.app_socket))
    stale.close()
    service.pid_file.write_text("1\n")
    service.start().start_worker()
    assert service.process.stop() == 0


def test_file_in_the_place_of_a_socket_is_left_alone(service: Service) -> None:
    service.app_socket.parent.mkdir()
    service.app_socket.write_text("precious")
    service.write_config()
    result = run("-c", str(service.config))
    assert result.returncode == 1
    assert "is not a socket" in result.stderr
    assert service.app_socket.read_text() == "precious"


def test_command_line(service: Service, tmp_path: Path) -> None:
    service.write_config()
    config = str(service.config)
    assert run("--help").returncode == 0
    assert "worker protocol 1" in run("--version").stdout
    assert run("-t", "-c", config).returncode == 0
    printed = run("--print-config", "-c", config)
    assert printed.returncode == 0
    assert "[gateway]" in printed.stdout
    for arguments in (
        ["--nonsense"],
        ["-c"],
        ["-o", "log.level"],
        ["-c", config, "extra"],
        ["-c", str(tmp_path / "missing.toml")],
        ["-c", config, "-o", "log.level=loud"],
        ["-c", config, "--print-config=short"],
    ):
        result = run(*arguments)
        assert result.returncode == 2, arguments
        assert result.stderr.strip(), arguments
    # without -c: ./gateway.toml
    assert run("-t", cwd=service.directory).returncode == 0


def test_key_of_another_certificate_is_refused_at_check(service: Service) -> None:
    from harness.gateway import make_certificate

    cert, _ = make_certificate(service.directory, stem="one")
    _, key = make_certificate(service.directory, stem="two")
    service.write_config()
    with service.config.open("a") as file:
        file.write(
            '[[listen]]\nbind = "127.0.0.1:0"\ntls = true\n'
            f'[tls]\ncertificates = [{{ cert = "{cert}", key = "{key}" }}]\n'
        )
    result = run("-t", "-c", str(service.config))
    assert result.returncode == 2
    assert re.search(r"gateway.toml:\d+:\d+: ", result.stderr), result.stderr


# --- signals and descriptors ---------------------------------------------------------------------------------------


def test_sigusr1_opens_the_logs_anew(service: Service) -> None:
    error_log = service.directory / "error.log"
    access_log = service.directory / "access.log"
    service.log["error"] = f'"{error_log}"'
    service.write_config()
    service.process.start()
    wait_for(lambda: error_log.exists() and "serving" in error_log.read_text(), "the start")
    with service.client() as client:
        client.get("/")
    wait_for(lambda: access_log.read_text().count("\n") == 1, "the first line")
    error_log.rename(error_log.with_suffix(".1"))
    access_log.rename(access_log.with_suffix(".1"))
    service.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: error_log.exists() and "logs opened anew" in error_log.read_text(), "the new error log")

    def written_to_the_new_one() -> bool:
        with service.client() as client:
            client.get("/")
        return access_log.exists() and access_log.read_text().count("\n") > 0

    wait_for(written_to_the_new_one, "a line in the new access log")
    assert service.process.stop() == 0
    assert "stopped" in error_log.read_text()


def test_sighup_takes_the_configuration_over(service: Service) -> None:
    service.start()
    service.process.send_signal(signal.SIGHUP)
    service.process.wait_log("configuration 2 is in effect")
    service.config.write_text(service.config.read_text() + "[log2]\n")
    service.process.send_signal(signal.SIGHUP)
    service.process.wait_log(r"config: .*gateway.toml:\d+:\d+: ")
    service.process.wait_log("nothing was changed")
    assert service.process.stop() == 0


def test_tells_the_service_manager(service: Service) -> None:
    path = service.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        service.process.environment["NOTIFY_SOCKET"] = str(path)
        service.start()
        assert manager.recv(1000).startswith(b"READY=1\n")
        service.process.send_signal(signal.SIGHUP)
        assert re.match(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(1000))
        assert manager.recv(1000).startswith(b"READY=1\n")
        assert service.process.stop() == 0
        assert manager.recv(1000).startswith(b"STOPPING=1\n")


def test_serves_an_inherited_socket(service: Service) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        number = listening.fileno()
        service.listen = [f"fd://{number}"]
        service.write_config()
        command = [GATEWAYD, "-c", str(service.config)]
        with service.process.log.open("ab") as log:
            service.process.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[number],
                start_new_session=True,
                env=service.process.environment,
            )
    service.process.wait_log("serving")
    service.start_worker()
    with Client(("127.0.0.1", port)) as client:
        assert client.get("/").body == b"hello\n"
    assert service.process.stop() == 0


def test_starts_with_closed_standard_descriptors(service: Service) -> None:
    error_log = service.directory / "error.log"
    service.log["error"] = f'"{error_log}"'
    service.write_config()
    command = ["sh", "-c", f"exec {GATEWAYD} -c {service.config} <&- >&- 2>&-"]
    service.process.command = command
    service.process.start()
    wait_for(lambda: error_log.exists() and "serving" in error_log.read_text(), "the start")
    for number in (0, 1, 2):
        assert os.readlink(f"/proc/{service.server}/fd/{number}") == "/dev/null"
    assert service.process.stop() == 0


# --- rights --------------------------------------------------------------------------------------------------------


def process_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_becomes_an_ordinary_user(service: Service) -> None:
    service.directory.chmod(0o755)
    for parent in service.directory.parents:
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)
    service.gateway["user"] = '"nobody"'
    service.start().start_worker()
    status = process_status(service.server)
    nobody = Path("/etc/passwd").read_text().split("nobody:x:")[1].split(":")[:2]
    assert status["Uid"].split() == [nobody[0]] * 4
    assert status["Gid"].split() == [nobody[1]] * 4
    assert status["NoNewPrivs"] == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert process_status(service.process.pid)["Uid"].split()[0] == "0"
    with service.client() as client:
        assert client.get("/").body == b"hello\n"
    assert service.app_socket.stat().st_uid == int(nobody[0])
    os.kill(service.server, signal.SIGKILL)
    service.process.wait_log("serving again")
    assert process_status(service.server)["Uid"].split() == [nobody[0]] * 4
    assert service.process.stop() == 0
    assert not service.app_socket.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_unknown_user_is_refused(service: Service) -> None:
    service.gateway["user"] = '"no-such-user"'
    service.write_config()
    result = run("-c", str(service.config))
    assert result.returncode == 2
    assert "no-such-user" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_as_pid_1_it_reaps_and_stops(service: Service) -> None:
    # A shell becomes gatewayd; the orphan that it had started is gatewayd's child then.
    script = f"(sleep 0.2 & ) ; exec {GATEWAYD} -c {service.config}"
    service.process.command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    service.start()
    init = children_of(service.process.pid)[0]
    assert process_status(init)["NSpid"].split()[-1] == "1"
    wait_for(lambda: len(children_of(init)) == 1, "the orphan's end")
    os.kill(init, signal.SIGTERM)
    assert service.process.wait() == 0


def test_a_cut_response_does_not_look_complete(service: Service) -> None:
    service.start().start_worker()
    with service.client() as client:
        client.request("GET", "/endless")
        assert client.head().header("transfer-encoding") == "chunked"
        service.process.send_signal(signal.SIGTERM)
        service.process.wait_log("server: stopping")
        service.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(Closed):
            assert not client.rest().endswith(b"0\r\n\r\n")
    assert service.process.wait() == 0


def test_overload_refuses_and_recovers(service: Service) -> None:
    """gateway.buffer_memory: bodies that nobody reads fill it; new requests get 503 until they are gone."""
    service.gateway["buffer_memory"] = '"16MiB"'
    service.start().start_worker()
    body = b"x" * 65536
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            client = stack.enter_context(service.client())
            client.request("POST", "/sleep?ms=600000", [("content-length", str(1 << 20))], body)
            if service.lines("gateway.buffer_memory are used: (refuse|close_idle|pause_accept)"):
                break
        service.process.wait_log("gateway.buffer_memory are used: ")
    service.process.wait_log("gateway.buffer_memory are used: none")
    with service.client() as client:
        assert client.get("/").status == 200
    assert service.process.stop() == 0
