# SPDX-License-Identifier: MIT
"""gatewayd's command line and configuration as the person meets them: what is said, where, and the exit code."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from harness.gateway import GATEWAYD, make_certificate
from harness.ports import free_port
from harness.process import Process

LISTEN = '[[listen]]\nbind = "127.0.0.1:0"\n'
APP = '[apps.main]\nsocket = "main.sock"\n'
GOOD = LISTEN + APP + '[admin]\nsocket = "admin.sock"\n'
TLS = LISTEN + "tls = true\n[tls]\n"
PLACE = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): (?P<text>.+)$", re.MULTILINE)


def run(
    *arguments: str, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, **(environment or {})}
    return subprocess.run(
        [GATEWAYD, *arguments], capture_output=True, text=True, timeout=30, cwd=cwd, env=told, check=False
    )


def check(directory: Path, text: str | bytes) -> subprocess.CompletedProcess[str]:
    file = directory / "gateway.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return run("-t", "-c", str(file))


# --- mistakes: the configuration, the line that is named, and words of what is said -----------------------------------

MISTAKES: dict[str, tuple[str | bytes, int, str]] = {
    "not toml": ("[[listen]\n" + GOOD, 1, ""),
    "quote forgotten": (LISTEN + '[apps.main]\nsocket = "main.sock\n', 4, ""),
    "key twice": ('[gateway]\nthreads = 1\nthreads = 2\n' + GOOD, 3, "threads"),
    "unknown section": ("[server]\nport = 1\n" + GOOD, 1, 'no section "server"'),
    "unknown key": ("[gateway]\nthred = 2\n" + GOOD, 2, 'did you mean "threads"'),
    "key of another section": ("[gateway]\nbody_size = 5\n" + GOOD, 2, "limits"),
    "key with a dash": ("[limits]\nbody-size = 5\n" + GOOD, 2, 'did you mean "body_size"'),
    "no listener": (APP, 1, "[[listen]]"),
    "no app": (LISTEN, 1, "[apps.main]"),
    "listener with one bracket": ('[listen]\nbind = "127.0.0.1:0"\n' + APP, 1, "double brackets"),
    "port missing": (LISTEN.replace(":0", "") + APP, 2, "bind"),
    "port too large": (LISTEN.replace(":0", ":70000") + APP, 2, "bind"),
    "port of letters": (LISTEN.replace(":0", ":http") + APP, 2, "bind"),
    "bind as a url": (LISTEN.replace("127.0.0.1:0", "http://127.0.0.1:80") + APP, 2, "bind"),
    "bind as a number": ("[[listen]]\nbind = 8080\n" + APP, 2, "bind"),
    "ipv6 without brackets": (LISTEN.replace("127.0.0.1:0", "::1:80") + APP, 2, "bind"),
    "two listeners on one address": ('[[listen]]\nbind = "127.0.0.1:80"\n' * 2 + APP, 4, "same address as listen[0]"),
    "address beside the wildcard": (
        '[[listen]]\nbind = "127.0.0.1:80"\n[[listen]]\nbind = "*:80"\n' + APP, 4, "same address as listen[0]"),
    "duration without unit": ("[limits]\nkeep_alive = 60\n" + GOOD, 2, '"60s"'),
    "duration with another unit": ('[limits]\nkeep_alive = "1min"\n' + GOOD, 2, "duration"),
    "duration too long": ('[limits]\nheader_timeout = "2h"\n' + GOOD, 2, '"1h"'),
    "zero for unlimited": ("[limits]\nkeep_alive_requests = 0\n" + GOOD, 2, '"off"'),
    "off where it is not allowed": ('[limits]\nheader_timeout = "off"\n' + GOOD, 2, "header_timeout"),
    "size with another unit": ('[limits]\nbody_size = "10MB"\n' + GOOD, 2, '"64KiB"'),
    "negative size": ("[limits]\nbody_size = -1\n" + GOOD, 2, "body_size"),
    "boolean as text": ('[[listen]]\nbind = "127.0.0.1:0"\nredirect_https = "yes"\n' + APP, 3, "true or false"),
    "log level": ('[log]\nlevel = "verbose"\n' + GOOD, 2, "debug"),
    "access format": ("[log]\naccess_format = '%(h)s %(zz)s'\n" + GOOD, 2, "at character 7"),
    "access format not closed": ("[log]\naccess_format = '%(h'\n" + GOOD, 2, "access_format"),
    "network": ('[proxy_headers]\ntrusted = ["10.0.0.0/33"]\n' + GOOD, 2, "10.0.0.0/33"),
    "network of a name": ('[proxy_headers]\ntrusted = ["proxy.local"]\n' + GOOD, 2, "proxy.local"),
    "network as text": ('[proxy_headers]\ntrusted = "10.0.0.1"\n' + GOOD, 2, "array"),
    "proxy header": ('[proxy_headers]\nuse = ["port"]\n' + GOOD, 2, "prefix"),
    "proxy protocol": (LISTEN + "proxy_protocol = true\n" + APP, 3, "proxy_protocol"),
    "tls without certificate": (LISTEN + "tls = true\n" + APP, 3, "certificates"),
    "certificate that is not there": (
        TLS + 'certificates = [{ cert = "no.pem", key = "no.key" }]\n' + APP, 5, "no.pem"),
    "certificate without key": (TLS + 'certificates = [{ cert = "cert.pem" }]\n' + APP, 5, "key"),
    "certificate that is none": (
        TLS + 'certificates = [{ cert = "gateway.toml", key = "cert-key.pem" }]\n' + APP, 5, ""),
    "key of another certificate": (
        TLS + 'certificates = [{ cert = "cert.pem", key = "other-key.pem" }]\n' + APP, 5, "key"),
    "key that everybody reads": (
        TLS + 'certificates = [{ cert = "cert.pem", key = "open-key.pem" }]\n' + APP, 5, "open-key"),
    "tls version": (TLS + 'min_version = "1.1"\n' + APP, 5, "1.2"),
    "verify without authority": (
        TLS + 'certificates = [{ cert = "cert.pem", key = "cert-key.pem" }]\nverify = "required"\n'
        + APP, 6, "client_ca"),
    "ciphers": (
        TLS + 'certificates = [{ cert = "cert.pem", key = "cert-key.pem" }]\nciphers = "NONSENSE"\n'
        + APP, 5, "NONSENSE"),
    "environment variable": (LISTEN + '[apps.main]\nsocket = "${NO_SUCH_VARIABLE}/x"\n', 4, "NO_SUCH_VARIABLE"),
    "environment variable not closed": (LISTEN + '[apps.main]\nsocket = "${HOME/x"\n', 4, "${"),
    "socket path too long": (LISTEN + f'[apps.main]\nsocket = "/{"a" * 120}"\n', 4, "socket"),
    "two apps on one socket": (
        LISTEN + APP + APP.replace("main]", "other]") + '[[route]]\napp = "main"\n', 6, "same address as apps.main"),
    "route to no app": (GOOD + '[[route]]\npath = "/"\napp = "shop"\n', 9, "shop"),
    "route path": (GOOD + '[[route]]\npath = "api"\napp = "main"\n', 8, "path"),
    "window smaller than frame": ('[ipc]\nwindow = "32KiB"\n' + GOOD, 2, "max_frame"),
    "heads larger than frame": ('[limits]\nheader_block = "128KiB"\n' + GOOD, 2, "max_frame"),
    "frame smaller than the protocol's": ('[ipc]\nmax_frame = "16KiB"\n' + GOOD, 2, '"32KiB"'),
    "connections over descriptors": ("[gateway]\nmax_connections = 9000000\n" + GOOD, 2, "descriptors"),
    "mode": ('[admin]\nmode = "rw"\n' + LISTEN + APP, 2, "mode"),
    "not utf-8": (b'[log]\naccess_format = "\xff"\n' + GOOD.encode(), 2, "utf-8"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pems")
    make_certificate(directory)
    make_certificate(directory, stem="other")
    (directory / "open-key.pem").write_bytes((directory / "cert-key.pem").read_bytes())
    (directory / "open-key.pem").chmod(0o644)
    return directory


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(pems: Path, tmp_path: Path, name: str) -> None:
    text, line, words = MISTAKES[name]
    for pem in pems.iterdir():
        (tmp_path / pem.name).symlink_to(pem)
    result = check(tmp_path, text)
    assert result.returncode == 2, result
    assert result.stdout == ""
    found = PLACE.search(result.stderr)
    assert found, result.stderr
    assert found["file"] == str(tmp_path / "gateway.toml")
    assert int(found["line"]) == line, result.stderr
    assert words in result.stderr, result.stderr
    assert len(found["text"]) > 20, "too short to help"


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    result = check(tmp_path, "[gateway]\nthreads = 900\n[limits]\nkeep_alive = 5\nbody_sise = 1\n" + GOOD)
    assert [int(match["line"]) for match in PLACE.finditer(result.stderr)] == [2, 4, 5]


# --- files ------------------------------------------------------------------------------------------------------------


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    assert check(tmp_path, GOOD.replace("\n", "\r\n")).returncode == 0
    assert check(tmp_path, b"\xef\xbb\xbf" + GOOD.encode()).returncode == 0


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "binary", "unreadable"])
def test_file_that_is_no_configuration(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "gateway.toml"
    if kind == "directory":
        file.mkdir()
    elif kind in ("empty", "binary"):
        file.write_bytes(b"" if kind == "empty" else bytes(range(256)))
    elif kind == "unreadable":
        file.symlink_to(file)
    result = run("-t", "-c", str(file))
    assert result.returncode == 2 and str(file) in result.stderr, result


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    directory, elsewhere = tmp_path / "conf", tmp_path / "elsewhere"
    directory.mkdir()
    elsewhere.mkdir()
    make_certificate(directory)
    (directory / "gateway.toml").write_text(
        GOOD + '[[listen]]\nbind = "127.0.0.1:0"\ntls = true\n'
        '[tls]\ncertificates = [{ cert = "cert.pem", key = "cert-key.pem" }]\n'
    )
    assert run("-t", "-c", "../conf/gateway.toml", cwd=elsewhere).returncode == 0
    printed = run("--print-config", "-c", "../conf/gateway.toml", cwd=elsewhere).stdout
    for name in ("main.sock", "cert.pem", "cert-key.pem", "admin.sock"):
        assert re.search(rf'"[^"]*conf/{name}"', printed), printed
    assert run("-t", cwd=directory).returncode == 0  # ./gateway.toml without -c


def test_environment_variables(tmp_path: Path) -> None:
    text = '[[listen]]\nbind = "127.0.0.1:${PORT}"\n[apps.main]\nsocket = "${DIR}/x-${NAME}.sock"\n'
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    told = {"PORT": "8123", "DIR": str(tmp_path), "NAME": 'a"b\\c'}
    printed = run("--print-config", "-c", str(file), environment=told)
    assert printed.returncode == 0, printed.stderr
    assert '"127.0.0.1:8123"' in printed.stdout and 'x-a\\"b\\\\c.sock' in printed.stdout
    assert run("-t", "-c", str(file), environment={**told, "PORT": "x"}).returncode == 2


# --- the command line -------------------------------------------------------------------------------------------------


def without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_printed_configuration_is_a_configuration(tmp_path: Path) -> None:
    """What is printed says the same when it is read again."""
    text = GOOD + '[log]\naccess_format = \'%(h)s "%(r)s" \\ %(s)s\'\n[http]\nheaders = { x-a = "b\\"c" }\n'
    (tmp_path / "gateway.toml").write_text(text)
    for style in ("--print-config", "--print-config=annotated"):
        first = run(style, "-c", str(tmp_path / "gateway.toml"))
        assert first.returncode == 0, first.stderr
        (tmp_path / "again.toml").write_text(first.stdout)
        second = run(style, "-c", str(tmp_path / "again.toml"))
        assert second.returncode == 0, second.stderr
        assert without_comments(second.stdout) == without_comments(first.stdout)


def test_options_are_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(GOOD + "[gateway]\nthreads = 3\n")
    arguments = ["-o", "gateway.threads=2", "-o", "limits.keep_alive=5s", "-o", "listen[0].bind=127.0.0.1:8099"]
    printed = run("--print-config", "-c", str(file), *arguments, "-o", "gateway.threads=4").stdout
    assert "threads = 4" in printed and '"5s"' in printed and '"127.0.0.1:8099"' in printed


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("gateway.threads=many", "gateway.threads"),
        ("gateway.thredas=1", "thredas"),
        ("nonsense=1", "nonsense"),
        ("gateway.threads=", "gateway.threads"),
        ("limits.keep_alive=60", "60s"),
        ("listen[7].bind=*:80", "listen"),
        ("=", "="),
        ("threads=1", "threads"),
    ],
)
def test_wrong_options(tmp_path: Path, option: str, words: str) -> None:
    (tmp_path / "gateway.toml").write_text(GOOD)
    result = run("-t", "-c", str(tmp_path / "gateway.toml"), "-o", option)
    assert result.returncode == 2 and words in result.stderr, result


@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["-x"], ["-c"], ["-o"], ["extra"], ["-o", "x"], ["--print-config=loud"], ["--check-config=1"]],
)
def test_usage_errors(arguments: list[str], tmp_path: Path) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and result.stdout == "", result


def test_version_and_help() -> None:
    version = run("--version")
    assert version.returncode == 0 and version.stderr == ""
    assert re.match(r"gatewayd \d+\.\d+\.\d+\n", version.stdout) and "HTTP/1.1" in version.stdout
    told = run("--help")
    assert told.returncode == 0 and told.stderr == ""
    for word in ("-c", "-o", "-t", "--check-config", "--print-config", "--version", "SIGHUP", "SIGUSR1", "Exit codes"):
        assert word in told.stdout


def test_check_touches_nothing(tmp_path: Path) -> None:
    """No socket, no directory, no log: a check beside a running gateway does not disturb it."""
    text = LISTEN + '[apps.main]\nsocket = "run/main.sock"\n[admin]\nsocket = "run/admin.sock"\n'
    text += '[log]\naccess = "access.log"\nerror = "error.log"\n[gateway]\npid_file = "run/pid"\n'
    assert check(tmp_path, text).returncode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["gateway.toml"]


# --- starting ---------------------------------------------------------------------------------------------------------


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (tmp_path / "gateway.toml").write_text(GOOD.replace(":0", f":{port}"))
        result = run("-c", str(tmp_path / "gateway.toml"))
    assert result.returncode == 1, result
    assert f"{tmp_path}/gateway.toml:2:8: 127.0.0.1:{port}: address already in use" in result.stderr, result.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["gateway.toml"]


@pytest.mark.parametrize("key", ["access", "error"])
def test_log_in_a_missing_directory(tmp_path: Path, key: str) -> None:
    (tmp_path / "gateway.toml").write_text(GOOD + f'[log]\n{key} = "missing/x.log"\n')
    result = run("-c", str(tmp_path / "gateway.toml"))
    assert result.returncode in (1, 2) and "missing/x.log" in result.stderr, result


def test_run_directory(tmp_path: Path) -> None:
    """/run/gatewayd for root, else $XDG_RUNTIME_DIR/gatewayd; made with rights for us and our group only."""
    (tmp_path / "gateway.toml").write_text(LISTEN + "[apps.main]\n")
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path / "xdg")}
    printed = run("--print-config", "-c", str(tmp_path / "gateway.toml"), environment=runtime).stdout
    expected = "/run/gatewayd" if os.getuid() == 0 else str(tmp_path / "xdg/gatewayd")
    assert f'"{expected}/main.sock"' in printed and f'"{expected}/admin.sock"' in printed
    text = f'[[listen]]\nbind = "127.0.0.1:{free_port()}"\n[apps.main]\nsocket = "run/main.sock"\n'
    (tmp_path / "gateway.toml").write_text(text + '[admin]\nsocket = "run/admin.sock"\n')
    process = Process("gatewayd", [GATEWAYD, "-c", str(tmp_path / "gateway.toml")], tmp_path / "log")
    process.start()
    try:
        process.wait_log("serving: ")
        assert (tmp_path / "run").stat().st_mode & 0o777 == 0o750
        assert (tmp_path / "run/main.sock").stat().st_mode & 0o777 == 0o660
        assert (tmp_path / "run/admin.sock").stat().st_mode & 0o777 == 0o600
        assert process.stop() == 0
    finally:
        process.kill_all()
    assert list((tmp_path / "run").iterdir()) == []
