# SPDX-License-Identifier: MIT
"""The command line: `python -m asgi_worker [OPTIONS] module:attribute`.

Job: turn arguments, ASGI_WORKER_* variables and defaults (in this order of precedence) into
`Settings`, and say in one sentence what is wrong with them. It starts nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from . import __version__
from .config import (
    CancelPolicy,
    ConfigError,
    Interface,
    LifespanMode,
    LoopKind,
    Settings,
    load_env_file,
    parse_bool,
    parse_connect,
    parse_count,
    parse_directories,
    parse_duration,
    parse_size,
    run_directory,
)
from .notify import Notifier
from .protocol.constants import PROTOCOL_VERSION
from .supervised import Channel

ENV_PREFIX = "ASGI_WORKER_"
LOG_LEVELS = ("critical", "error", "warning", "info", "debug")


@dataclass(frozen=True, slots=True)
class Option:
    """One option: where its value comes from and how its text becomes a value."""

    name: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    flag: bool = False
    many: bool = False  # may be said again; the variable has colons between the values

    @property
    def field(self) -> str:
        """The name of the Settings field and, in capitals, of the environment variable."""
        return self.name.replace("-", "_")


def _choice(enum: Any) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return enum(text.strip().lower())
        except ValueError:
            words = ", ".join(member.value for member in enum)
            raise ConfigError(f"{text!r} is not one of {words}") from None

    return parse


def _at_least(low: float, parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def checked(text: str) -> Any:
        value = parse(text)
        if value < low:
            raise ConfigError(f"{text!r} is less than {low:g}")
        return value

    return checked


def _between(low: int, high: int, parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def checked(text: str) -> Any:
        value = parse(text)
        if not low <= value <= high:
            raise ConfigError(f"{text!r} is not between {low} and {high}")
        return value

    return checked


def _generation(text: str) -> str:
    if len(text.encode()) > 128:
        raise ConfigError("the name is longer than 128 bytes")
    return text


def _or_off(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def maybe(text: str) -> Any:
        return None if text.strip().lower() == "off" else parse(text)

    return maybe


def _log_level(text: str) -> str:
    level = text.strip().lower()
    if level not in LOG_LEVELS:
        raise ConfigError(f"{text!r} is not one of {', '.join(LOG_LEVELS)}")
    return level


def _root_path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ConfigError(f"{text!r} must begin with / (or be empty)")
    return text.rstrip("/")


_SECONDS = _at_least(0.001, parse_duration)

OPTIONS = (
    Option("connect", parse_connect, "unix:PATH", "the gateway's socket for this application"),
    Option(
        "workers",
        _between(1, 1024, parse_count),
        "N",
        "worker processes; several run under a supervisor (default 1)",
    ),
    Option("generation", _generation, "STR", "name of the deployed version, a git sha say"),
    Option("interface", _choice(Interface), "KIND", "auto, asgi3, asgi2 or wsgi (default auto)"),
    Option("factory", parse_bool, "", "the attribute is a function that returns the app", True),
    Option("app-dir", str, "DIR", "directory to import from (default: the current one)"),
    Option("env-file", str, "FILE", "KEY=VALUE lines for variables that are not set yet"),
    Option("lifespan", _choice(LifespanMode), "MODE", "auto, on or off (default auto)"),
    Option("root-path", _root_path, "STR", "ASGI root_path when the gateway's route sets none"),
    Option("loop", _choice(LoopKind), "KIND", "auto, asyncio or uvloop (default auto)"),
    Option(
        "max-concurrency",
        _between(1, 65535, parse_count),
        "N",
        "requests in flight; also the threads of a WSGI app (default 1000; WSGI 40)",
    ),
    Option(
        "max-requests",
        _or_off(_at_least(1, parse_count)),
        "N|off",
        "drain and exit 0 after N requests; under a supervisor: be replaced (default off)",
    ),
    Option("max-requests-jitter", parse_count, "N", "up to N more, chosen at start (default 0)"),
    Option("max-age", _or_off(_SECONDS), "S|off", "drain and exit 0 after S seconds"),
    Option("max-age-jitter", parse_duration, "S", "up to S more, chosen at start (default 0)"),
    Option(
        "max-rss",
        _or_off(_at_least(1, parse_size)),
        "BYTES|off",
        "drain and exit 0 above this resident size, 512MiB say",
    ),
    Option("max-rss-jitter", parse_size, "BYTES", "up to BYTES more (default 0)"),
    Option(
        "hang-timeout",
        _or_off(_SECONDS),
        "S|off",
        "a supervisor ends a worker whose event loop stands still so long, its stacks on stderr "
        "(default 60; off with --reload)",
    ),
    Option(
        "reload",
        parse_bool,
        "",
        "for development: replace the workers whenever a Python file changes",
        flag=True,
    ),
    Option(
        "reload-dir",
        parse_directories,
        "DIR",
        "a directory to watch, may be repeated (default: that of --app-dir)",
        many=True,
    ),
    Option("startup-timeout", _SECONDS, "S", "import and lifespan.startup together (default 60)"),
    Option("graceful-timeout", _SECONDS, "S", "what a stop waits for requests (default 30)"),
    Option("shutdown-timeout", _SECONDS, "S", "what a stop waits for lifespan (default 30)"),
    Option("disconnect-grace", parse_duration, "S", "from client gone to cancel (default 3)"),
    Option(
        "cancel-on-disconnect",
        _choice(CancelPolicy),
        "WHEN",
        "started: only once the response has started (default); always; never",
    ),
    Option("log-level", _log_level, "LEVEL", "critical, error, warning, info or debug"),
    Option("log-config", str, "FILE", "a logging configuration, .json (dictConfig) or .ini"),
    Option("pid-file", str, "FILE", "where to write the process id"),
    Option("ready-file", str, "FILE", "a file that exists while the application is served"),
)


class UsageError(Exception):
    """The command line is wrong; exit code 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def version_text() -> str:
    """Name the program, its version and the protocol versions that it speaks."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    return (
        f"asgi_worker {__version__} (gateway protocol version {PROTOCOL_VERSION}; "
        f"ASGI 3.0, spec 2.5; lifespan 2.0; Python {python})"
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; every option's text is kept as it stands and parsed by resolve()."""
    parser = _Parser(
        prog="asgi_worker",
        usage="python -m asgi_worker [OPTIONS] module:attribute\n"
        "       python -m asgi_worker dev [OPTIONS] module:attribute",
        description="Run an ASGI (or WSGI) application behind gatewayd.",
        epilog="Every option is also read from ASGI_WORKER_<OPTION>; the command line wins. "
        "Exit codes: 0 clean stop, 1 run-time failure, 2 usage, 3 the application could not be "
        "imported or started, 4 its generation is retired. 'dev' starts a gateway and a reloading "
        "worker together; 'dev --help' tells more. "
        f"The run directory is {run_directory()} here.",
        allow_abbrev=False,
    )
    parser.add_argument("app", nargs="*", metavar="module:attribute", help="the application")
    parser.add_argument("--version", action="version", version=version_text())
    for option in OPTIONS:
        if option.flag:
            parser.add_argument(
                f"--{option.name}",
                dest=option.field,
                action="store_const",
                const="1",
                help=option.help,
            )
        else:
            parser.add_argument(
                f"--{option.name}",
                dest=option.field,
                metavar=option.metavar,
                action="append" if option.many else "store",
                help=option.help,
            )
    return parser


def _app_name(positional: Sequence[str], environ: Mapping[str, str]) -> str:
    if len(positional) > 1:
        raise UsageError(f"one application is expected, found {' '.join(positional)}")
    app = positional[0] if positional else environ.get(ENV_PREFIX + "APP", "")
    if not app:
        raise UsageError("name the application as module:attribute, main:app say")
    module, colon, attribute = app.partition(":")
    if not module or not colon or not attribute:
        raise UsageError(f"{app!r} is not module:attribute, main:app say")
    return app


def resolve(argv: Sequence[str], environ: dict[str, str] | os._Environ[str]) -> Settings:
    """Return the settings; reads the env file into `environ`. Raises UsageError."""
    arguments = build_parser().parse_args(argv)
    env_file = arguments.env_file or environ.get(ENV_PREFIX + "ENV_FILE")
    try:
        if env_file:
            for key, value in load_env_file(env_file).items():
                environ.setdefault(key, value)
    except ConfigError as exc:
        raise UsageError(str(exc)) from exc
    values: dict[str, Any] = {"app": _app_name(arguments.app, environ)}
    for option in OPTIONS:
        text = getattr(arguments, option.field)
        source = f"--{option.name}"
        if isinstance(text, list):
            text = os.pathsep.join(text)
        if text is None:
            source = ENV_PREFIX + option.field.upper()
            text = environ.get(source)
        if text is None:
            continue
        try:
            values[option.field] = option.parse(text)
        except ConfigError as exc:
            raise UsageError(f"{source}: {exc}") from exc
    for name in ("requests", "age", "rss"):
        if values.get(f"max_{name}_jitter") and not values.get(f"max_{name}"):
            raise UsageError(f"--max-{name}-jitter means nothing without --max-{name}")
    if values.get("reload_dir") and not values.get("reload"):
        raise UsageError("--reload-dir means nothing without --reload")
    if values.get("reload"):
        values.setdefault("hang_timeout", None)  # who steps through code stops the event loop
    return Settings(**values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    if argv is None and sys.argv[1:2] == ["dev"]:
        from .dev import main as develop

        return develop(sys.argv[2:])
    notifier = Notifier.take(os.environ)
    # What workers get: without what an env file added, because they read it again themselves.
    environ = dict(os.environ)
    try:
        channel = Channel.inherited(os.environ)
        settings = resolve(sys.argv[1:] if argv is None else argv, os.environ)
    except (UsageError, ConfigError) as exc:
        sys.stderr.write(
            f"asgi_worker: {exc}\nTry 'python -m asgi_worker --help' for the options.\n"
        )
        return 2
    notifier.ready_file = settings.ready_file
    # Imported late: --help and usage errors need no event loop, and a supervisor never does.
    # Process 1 of a container has to reap what others leave: that is a supervisor's work.
    if channel is None and (settings.workers > 1 or settings.reload or os.getpid() == 1):
        from .supervisor import supervise

        if argv is None:
            command = [sys.executable, *sys.orig_argv[1:]]
        else:
            command = [sys.executable, "-m", "asgi_worker", *argv]
        return supervise(settings, command, environ, notifier)
    from .process import run

    return run(settings, channel, notifier)
