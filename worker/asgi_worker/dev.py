# SPDX-License-Identifier: MIT
"""`python -m asgi_worker dev module:attribute`: a gateway and a reloading worker in one command.

Job: find gatewayd, write a configuration for it into a directory that lives as long as the
command, start both, print the addresses when the application is ready, and end both at one
Ctrl-C. Should this process be killed, the kernel tells both to stop. It serves nothing itself.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.machinery import PathFinder
from typing import NoReturn

from .cli import ENV_PREFIX, UsageError, resolve
from .config import ConfigError, Settings, parse_bool

EXIT_OK, EXIT_FAILURE, EXIT_USAGE = range(3)

HTTP_PORT = 8080
# What both get after the first Ctrl-C before they are killed; the worker has 2 s for requests.
STOP_SECONDS = 12.0
POLL = 0.1
PR_SET_PDEATHSIG = 1

# What is different from the worker's own defaults.
DEFAULTS = {
    ENV_PREFIX + "RELOAD": "1",
    ENV_PREFIX + "GRACEFUL_TIMEOUT": "2",
    ENV_PREFIX + "SHUTDOWN_TIMEOUT": "5",
}

CONFIG = """\
[gateway]
threads = 1
drain_idle = "0s"
drain_timeout = "2s"

[admin]
socket = {admin}

[log]
level = {level}
access = {access}

[apps.main]
socket = {app}
"""
LISTEN = "\n[[listen]]\nbind = {bind}\ntls = {tls}\nprotocols = {protocols}\n"
# HTTP/3 is spoken over UDP on the same port.
PROTOCOLS = {"http": '["h2", "http/1.1"]', "https": '["h3", "h2", "http/1.1"]'}
TLS = "\n[tls]\ncertificates = [{{ cert = {cert}, key = {key} }}]\n"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


class DevError(Exception):
    """What stands in the way, in a sentence; exit code 1."""


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def build_parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """Build the parser of the options that only `dev` has; environ gives defaults."""
    parser = _Parser(
        prog="asgi_worker dev",
        usage="python -m asgi_worker dev [OPTIONS] module:attribute",
        description="Run an application for development: gatewayd with a configuration made on "
        "the spot, beside workers that are replaced whenever a Python file changes. Ctrl-C stops "
        "both. All options of 'python -m asgi_worker' but --connect may be given too.",
        allow_abbrev=False,
    )

    def option(name: str, metavar: str, text: str, default: object = None, **more: object) -> None:
        variable = ENV_PREFIX + name.replace("-", "_").upper()
        parser.add_argument(
            f"--{name}",
            metavar=metavar,
            default=environ.get(variable, default),
            help=text,
            **more,  # type: ignore[arg-type]
        )

    option("host", "ADDRESS", "where to listen (default: 127.0.0.1 and [::1])", "")
    option(
        "port", "N", f"for http; 0: a free one (default {HTTP_PORT})", str(HTTP_PORT), type=_port
    )
    option(
        "https-port",
        "N",
        "listen for https too, with HTTP/3; 0: a free one (default: no)",
        type=_port,
    )
    option("cert", "FILE", "certificate for https (default: a self-signed one, made with openssl)")
    option("key", "FILE", "key of the certificate")
    option("gatewayd", "FILE", "the program (default: $GATEWAYD, the PATH, a build beside it)")
    parser.add_argument(
        "--no-access-log",
        action="store_true",
        default=parse_bool(environ.get(ENV_PREFIX + "NO_ACCESS_LOG", "")),
        help="no line for each request",
    )
    return parser


# What has to be there


def find_gatewayd(named: str | None, environ: Mapping[str, str]) -> list[str]:
    """Return the command that starts gatewayd; raises DevError."""
    named = named or environ.get("GATEWAYD")
    checkout = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if named:
        candidates = [named]
    else:
        places = ("build/gatewayd", "build/release/gatewayd", "build/debug/gatewayd")
        candidates = [os.path.join(checkout, place) for place in places]
        on_path = shutil.which("gatewayd", path=environ.get("PATH"))
        prefixes = (sys.prefix, "/usr/local", "/usr")
        installed = [os.path.join(p, d, "gatewayd") for p in prefixes for d in ("bin", "sbin")]
        candidates = [*filter(None, [on_path]), *candidates, *installed]
    there = [path for path in candidates if os.access(path, os.X_OK) and os.path.isfile(path)]
    problem = ""
    tree = os.path.join(checkout, "docker", "devroot")
    for path in there:
        # Where it was built in the development tree, its libraries are there.
        for command in ([path], [tree, os.path.abspath(path)]):
            problem = _starts(command) if os.path.exists(command[0]) else problem
            if not problem:
                return command
    if there:
        raise DevError(f"{there[0]} does not start: {problem}")
    where = named if named else "on the PATH or in " + os.path.join(checkout, "build")
    raise DevError(
        f"there is no gatewayd {where}: build it with make, install it with make install, or say "
        "--gatewayd FILE (or GATEWAYD=FILE)"
    )


def _starts(command: Sequence[str]) -> str:
    """Return why a program does not even say its version; empty: it does."""
    try:
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1] if done.returncode else ""


def check_module(settings: Settings) -> None:
    """Refuse a module that does not exist; mistakes in one that does are mended while it runs."""
    if not os.path.isdir(settings.app_dir):
        raise UsageError(f"--app-dir {os.path.abspath(settings.app_dir)} is not a directory")
    top = settings.app.partition(":")[0].split(".")[0]
    directory = os.path.abspath(settings.app_dir)
    if top not in sys.modules and PathFinder.find_spec(top, [directory, *sys.path]) is None:
        raise UsageError(
            f"there is no module {top!r} in {directory} or on the Python path; check the name, or "
            "say --app-dir DIR"
        )


def families() -> list[str]:
    """Return the loopback addresses that this machine has."""
    found = ["127.0.0.1"]
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        found.append("[::1]")
    return found


def take_port(hosts: Sequence[str], port: int, option: str, *, udp: bool = False) -> int:
    """Check that a port is free on all hosts, and choose one for 0; raises DevError."""
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM) if udp else (socket.SOCK_STREAM,)
    for _ in range(20):
        chosen = port
        for host, kind in ((host, kind) for host in hosts for kind in kinds):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, kind) as probe:
                if kind == socket.SOCK_STREAM:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host.strip("[]"), chosen))
                    chosen = chosen or probe.getsockname()[1]
                except OSError as exc:
                    reason = exc.strerror
                    break
        else:
            return chosen
        if port:
            break
    raise DevError(
        f"cannot listen on {host}:{chosen}: {reason}; stop its owner, or choose another with "
        f"{option} N"
    )


def make_certificate(directory: str, hosts: Sequence[str]) -> tuple[str, str]:
    """Write a self-signed certificate for localhost and the hosts; raises DevError."""
    cert, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    addresses = sorted({"127.0.0.1", "::1", *(host.strip("[]") for host in hosts)} - {"0.0.0.0"})
    names = "subjectAltName=DNS:localhost," + ",".join(f"IP:{address}" for address in addresses)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext", names]
    try:
        done = subprocess.run(
            [*command, "-keyout", key, "-out", cert], capture_output=True, text=True, check=False
        )
    except OSError as exc:
        raise DevError(f"openssl cannot be run ({exc.strerror}): give --cert and --key") from exc
    if done.returncode:
        raise DevError(f"openssl made no certificate: {done.stderr.strip()}; give --cert and --key")
    os.chmod(key, 0o600)
    return cert, key


def _toml(text: str) -> str:
    return json.dumps(text.replace("${", "$${"))


# The two processes


def _die_with(parent: int) -> Callable[[], None]:
    """Return what a child does before it becomes its program: tie its life to this process."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return lambda: None

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the tie
            os._exit(EXIT_FAILURE)

    return tie


def start(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own: Ctrl-C reaches it through this process, in order."""
    return subprocess.Popen(
        command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with(os.getpid()),
    )


class Dev:
    """Both processes, from their start to their end."""

    def __init__(self, options: argparse.Namespace, settings: Settings, rest: list[str]) -> None:
        self._options = options
        self._settings = settings
        self._rest = rest
        self._interrupts = 0
        self._hosts = [options.host] if options.host else families()
        self._directory = ""
        self._urls: list[str] = []

    def run(self, environ: Mapping[str, str]) -> int:
        """Start both, watch them until one ends or somebody says stop; returns the exit code."""
        gatewayd = find_gatewayd(self._options.gatewayd, environ)
        self._directory = tempfile.mkdtemp(prefix="gatewayd-dev-", dir="/tmp")
        children: dict[str, subprocess.Popen[bytes]] = {}
        try:
            config = self._write_config()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._interrupt)
            worker = [sys.executable, "-m", "asgi_worker", *self._rest, "--connect", self._connect]
            environ = {**DEFAULTS, **environ}
            try:
                children["gatewayd"] = start([*gatewayd, "-c", config], environ)
                children["the worker"] = start(worker, environ)
            except OSError as exc:
                raise DevError(f"{exc.filename} cannot be started: {exc.strerror}") from exc
            return self._watch(children)
        finally:
            self._end(children)
            shutil.rmtree(self._directory, ignore_errors=True)

    def _interrupt(self, _number: int, _frame: object) -> None:
        self._interrupts += 1

    @property
    def _connect(self) -> str:
        return f"unix:{self._directory}/main.sock"

    def _write_config(self) -> str:
        options, directory = self._options, self._directory
        text = CONFIG.format(
            admin=_toml(f"{directory}/admin.sock"),
            app=_toml(f"{directory}/main.sock"),
            level=_toml("debug" if self._settings.log_level == "debug" else "warning"),
            access=_toml("" if options.no_access_log else "-"),
        )
        listeners = [("http", take_port(self._hosts, options.port, "--port"))]
        if options.https_port is not None:
            port = take_port(self._hosts, options.https_port, "--https-port", udp=True)
            listeners.append(("https", port))
            cert, key = options.cert, options.key
            if not cert:
                cert, key = make_certificate(directory, self._hosts)
            text += TLS.format(cert=_toml(os.path.abspath(cert)), key=_toml(os.path.abspath(key)))
        for scheme, port in listeners:
            tls = "true" if scheme == "https" else "false"
            for host in self._hosts:
                bind = _toml(f"{host}:{port}")
                text += LISTEN.format(bind=bind, tls=tls, protocols=PROTOCOLS[scheme])
            name = self._options.host if self._options.host not in ("", "0.0.0.0", "[::]") else ""
            self._urls.append(f"{scheme}://{name or 'localhost'}:{port}/")
        path = os.path.join(directory, "gateway.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _watch(self, children: Mapping[str, subprocess.Popen[bytes]]) -> int:
        shown = False
        while not self._interrupts:
            for name, child in children.items():
                code = child.poll()
                if code is not None:
                    _say(f"{name} ended with exit code {code}; what it said is above")
                    return code if code > 0 else EXIT_FAILURE
            if not shown and self._ready():
                shown = True
                self._show()
            time.sleep(POLL)
        _say("stopping (Ctrl-C again: at once)")
        return EXIT_OK

    def _ready(self) -> bool:
        """Ask the gateway whether the application has a ready worker."""
        with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(5)
            admin.connect(f"{self._directory}/admin.sock")
            admin.sendall(b"apps --json\n")
            answer = b""
            while data := admin.recv(65536):
                answer += data
            return any(app["ready"] for app in json.loads(answer.partition(b"\n")[2]))
        return False

    def _show(self) -> None:
        notes = {"https": "    (self-signed: curl -k, or accept it in the browser)"}
        if self._options.cert:
            notes = {}
        lines = [f"  {url}{notes.get(url.partition(':')[0], '')}" for url in self._urls]
        text = f"\n{self._settings.app} is ready:\n\n" + "\n".join(lines)
        print(f"{text}\n\nA saved Python file reloads it; Ctrl-C stops everything.\n", flush=True)

    def _end(self, children: Mapping[str, subprocess.Popen[bytes]]) -> None:
        """Stop both; another Ctrl-C makes it now, a third one kills."""
        deadline = time.monotonic() + STOP_SECONDS
        told = 0
        while any(child.poll() is None for child in children.values()):
            hurry = max(1, min(self._interrupts, 2))
            kill = self._interrupts > 2 or time.monotonic() > deadline
            for child in children.values():
                if child.poll() is not None:
                    continue
                with suppress(ProcessLookupError):
                    for _ in range(told, hurry):
                        child.send_signal(signal.SIGTERM)
                    if kill:
                        os.killpg(child.pid, signal.SIGKILL)
            told = max(told, hurry)
            time.sleep(POLL / 4)


def _say(text: str) -> None:
    sys.stderr.write(f"asgi_worker dev: {text}\n")
    sys.stderr.flush()


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    try:
        options, rest = build_parser(os.environ).parse_known_args(argv)
        settings = resolve(rest, {**DEFAULTS, **os.environ})
        if any(word == "--connect" or word.startswith("--connect=") for word in rest):
            raise UsageError("--connect is not for dev, which makes a gateway of its own")
        if bool(options.cert) != bool(options.key):
            raise UsageError("--cert and --key go together")
        if options.cert and options.https_port is None:
            raise UsageError("--cert means nothing without --https-port N")
        check_module(settings)
    except (UsageError, ConfigError) as exc:
        _say(f"{exc}\nTry 'python -m asgi_worker dev --help' for the options.")
        return EXIT_USAGE
    try:
        return Dev(options, settings, rest).run(os.environ)
    except DevError as exc:
        _say(str(exc))
        return EXIT_FAILURE
