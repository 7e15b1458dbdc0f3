# SPDX-License-Identifier: MIT
"""The settings of one worker process and the text forms they are written in.

Job: hold `Settings`, parse durations, sizes and counts as people write them, read an env file
and compute the run directory. It knows neither the command line (cli.py) nor any socket.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from enum import Enum

_DURATION_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE_UNITS = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_NUMBER_AND_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\Z")
_ENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)\Z")


# What max_concurrency is when nobody says: requests of an ASGI worker, threads of a WSGI one.
ASGI_CONCURRENCY = 1000
WSGI_THREADS = 40
# What a stop may take beyond the timeouts that the settings name: cancelled tasks, threads.
STOP_SLACK = 10.0


class ConfigError(Exception):
    """A setting is wrong; the text says what it is and what would be right. Exit code 2."""


class Interface(Enum):
    """Which calling convention the application follows."""

    AUTO = "auto"
    ASGI3 = "asgi3"
    ASGI2 = "asgi2"
    WSGI = "wsgi"


class LifespanMode(Enum):
    """asgi lifespan: tried and given up quietly, required, or never called."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class LoopKind(Enum):
    """Which event loop runs the worker; auto takes uvloop when it can be imported."""

    AUTO = "auto"
    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"


class CancelPolicy(Enum):
    """When the task of a request whose client is gone is cancelled (after the grace)."""

    STARTED = "started"
    ALWAYS = "always"
    NEVER = "never"


def run_directory(environ: dict[str, str] | os._Environ[str] | None = None) -> str:
    """Return the run directory: /run/gatewayd for root, else under XDG_RUNTIME_DIR.

    Without XDG_RUNTIME_DIR the place where systemd would have put it, /run/user/UID: never a
    directory that anybody may create, because the socket's owner is trusted with requests.
    """
    env = os.environ if environ is None else environ
    if os.geteuid() == 0:
        return "/run/gatewayd"
    base = env.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/"):
        return os.path.join(base, "gatewayd")
    return f"/run/user/{os.geteuid()}/gatewayd"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a worker can be told; cli.OPTIONS explains each."""

    app: str
    workers: int = 1
    connect: str = field(default_factory=lambda: "unix:" + run_directory() + "/main.sock")
    generation: str = ""
    interface: Interface = Interface.AUTO
    factory: bool = False
    app_dir: str = "."
    env_file: str | None = None
    lifespan: LifespanMode = LifespanMode.AUTO
    root_path: str = ""
    loop: LoopKind = LoopKind.AUTO
    max_concurrency: int | None = None  # ASGI_CONCURRENCY or WSGI_THREADS
    max_requests: int | None = None
    max_requests_jitter: int = 0
    max_age: float | None = None
    max_age_jitter: float = 0.0
    max_rss: int | None = None
    max_rss_jitter: int = 0
    hang_timeout: float | None = 60.0
    reload: bool = False
    reload_dir: tuple[str, ...] = ()  # app_dir
    startup_timeout: float = 60.0
    graceful_timeout: float = 30.0
    shutdown_timeout: float = 30.0
    disconnect_grace: float = 3.0
    cancel_on_disconnect: CancelPolicy = CancelPolicy.STARTED
    log_level: str = "info"
    log_config: str | None = None
    pid_file: str | None = None
    ready_file: str | None = None

    @property
    def socket_path(self) -> str:
        """The path behind `unix:`; connect was checked when the settings were made."""
        return self.connect.removeprefix("unix:")

    @property
    def longest_stop(self) -> float:
        """How many seconds an orderly stop can take; who needs longer is stuck."""
        timeouts = self.graceful_timeout + self.disconnect_grace + self.shutdown_timeout
        return timeouts + STOP_SLACK


def _number_and_unit(text: str) -> tuple[str, str]:
    match = _NUMBER_AND_UNIT.match(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a number")
    return match.group(1), match.group(2).lower()


def parse_duration(text: str) -> float:
    """Parse `30`, `1.5`, `250ms`, `30s`, `5m` or `1h` into seconds."""
    number, unit = _number_and_unit(text)
    if unit not in _DURATION_UNITS:
        raise ConfigError(f"{text!r} has an unknown unit; write seconds, or 250ms, 30s, 5m, 1h")
    return float(number) * _DURATION_UNITS[unit]


def parse_size(text: str) -> int:
    """Parse `65536`, `64KiB`, `16MiB` or `1GiB` into bytes."""
    number, unit = _number_and_unit(text)
    if unit not in _SIZE_UNITS:
        raise ConfigError(f"{text!r} has an unknown unit; write bytes, or 64KiB, 512MiB, 2GiB")
    return int(float(number) * _SIZE_UNITS[unit])


def parse_count(text: str) -> int:
    """Parse a plain non-negative integer."""
    if not text.strip().isdecimal():
        raise ConfigError(f"{text!r} is not a whole number")
    return int(text)


def parse_bool(text: str) -> bool:
    """Parse the words that people put into environment variables for yes and no."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ConfigError(f"{text!r} is neither yes nor no; write 1 or 0")


def parse_directories(text: str) -> tuple[str, ...]:
    """Parse directories with colons between them; each must exist."""
    paths = tuple(path for path in text.split(os.pathsep) if path)
    for path in paths:
        if not os.path.isdir(path):
            raise ConfigError(f"{path} is not a directory")
    return paths


def parse_connect(text: str) -> str:
    """Check `unix:PATH`; the path must be absolute so that it means one socket everywhere."""
    if not text.startswith("unix:"):
        raise ConfigError(
            f"{text!r} is not an address of a gateway; write unix:/run/gatewayd/main.sock"
        )
    path = text.removeprefix("unix:")
    if not path:
        raise ConfigError("unix: needs a path behind it, unix:/run/gatewayd/main.sock say")
    path = os.path.abspath(path)
    if len(os.fsencode(path)) > 107:
        raise ConfigError(f"{path} is longer than the 107 bytes that a socket's path may have")
    return "unix:" + path


def parse_env_file(text: str, name: str) -> dict[str, str]:
    """Parse KEY=VALUE lines: # comments, optional `export`, optional quotes around the value."""
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _ENV_LINE.match(stripped)
        if match is None:
            raise ConfigError(f"{name}:{number}: expected KEY=VALUE, found {stripped!r}")
        key, value = match.group(1), match.group(2).strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        else:
            value = value.split(" #", 1)[0].rstrip()
        values[key] = value
    return values


def load_env_file(path: str) -> dict[str, str]:
    """Read an env file; raises ConfigError with the reason when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_env_file(file.read(), path)
    except OSError as exc:
        raise ConfigError(f"--env-file {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"--env-file {path}: the file is not UTF-8") from exc
