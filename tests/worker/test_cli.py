# SPDX-License-Identifier: MIT
"""Command line, environment, settings: precedence, refusals with a sentence, exit code 2."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asgi_worker.cli import OPTIONS, UsageError, main, resolve
from asgi_worker.config import (
    CancelPolicy,
    ConfigError,
    Interface,
    LifespanMode,
    LoopKind,
    Settings,
    parse_bool,
    parse_duration,
    parse_env_file,
    parse_size,
    run_directory,
)
from asgi_worker.logs import configure
from gateway import WORKER_DIR


def settings(*argv: str, **environ: str) -> Settings:
    return resolve([*argv], dict(environ))


def test_defaults() -> None:
    value = settings("main:app")
    assert value.app == "main:app"
    assert value.connect == f"unix:{run_directory()}/main.sock"
    assert value.max_concurrency is None
    assert (value.startup_timeout, value.graceful_timeout, value.disconnect_grace) == (60, 30, 3)
    assert value.lifespan is LifespanMode.AUTO
    assert value.cancel_on_disconnect is CancelPolicy.STARTED


def test_all_options_from_the_command_line() -> None:
    value = settings(
        "--connect", "unix:/tmp/x.sock", "--generation", "g1", "--interface", "asgi2", "--factory",
        "--app-dir", "/srv", "--lifespan", "on", "--root-path", "/api/", "--loop", "asyncio",
        "--max-concurrency", "5", "--max-requests", "1000", "--max-requests-jitter", "10",
        "--max-age", "1h", "--max-rss", "512MiB", "--startup-timeout", "1.5",
        "--graceful-timeout", "2m", "--shutdown-timeout", "3", "--disconnect-grace", "250ms",
        "--cancel-on-disconnect", "always", "--log-level", "DEBUG", "--log-config", "l.json",
        "--pid-file", "/tmp/p", "--ready-file", "/tmp/r", "--max-age-jitter", "5m",
        "--max-rss-jitter", "1MiB",
        "--hang-timeout", "30", "--reload", "--reload-dir", "/usr", "--reload-dir", "/tmp",
        "pkg.mod:obj.attr",
    )  # fmt: skip
    assert value == Settings(
        app="pkg.mod:obj.attr", connect="unix:/tmp/x.sock", generation="g1",
        interface=Interface.ASGI2, factory=True, app_dir="/srv", lifespan=LifespanMode.ON,
        root_path="/api", loop=LoopKind.ASYNCIO, max_concurrency=5, max_requests=1000,
        max_requests_jitter=10, max_age=3600, max_rss=512 << 20, startup_timeout=1.5,
        graceful_timeout=120, shutdown_timeout=3, disconnect_grace=0.25,
        cancel_on_disconnect=CancelPolicy.ALWAYS, log_level="debug", log_config="l.json",
        pid_file="/tmp/p", ready_file="/tmp/r", max_age_jitter=300, max_rss_jitter=1 << 20,
        hang_timeout=30, reload=True, reload_dir=("/usr", "/tmp"),
    )  # fmt: skip
    assert value.socket_path == "/tmp/x.sock"


TEXTS = {
    "connect": "unix:/tmp/e.sock", "workers": "5", "generation": "e",
    "interface": "wsgi", "factory": "yes",
    "app-dir": "/e", "lifespan": "off", "root-path": "/e", "loop": "uvloop",
    "max-concurrency": "3", "max-requests": "4", "max-requests-jitter": "2", "max-age": "9",
    "max-rss": "1GiB", "startup-timeout": "7", "graceful-timeout": "8", "shutdown-timeout": "6",
    "disconnect-grace": "0", "cancel-on-disconnect": "never", "log-level": "error",
    "log-config": "e.json", "pid-file": "/e/p", "ready-file": "/e/r", "max-age-jitter": "1",
    "max-rss-jitter": "5",
    "hang-timeout": "off", "reload": "1", "reload-dir": "/usr:/tmp",
}  # fmt: skip


def test_every_option_is_an_environment_variable_and_the_command_line_wins() -> None:
    names = {option.name for option in OPTIONS} - {"env-file"}
    assert names == set(TEXTS)
    environ = {"ASGI_WORKER_" + k.replace("-", "_").upper(): v for k, v in TEXTS.items()}
    environ["ASGI_WORKER_APP"] = "env:app"
    arguments = []
    for name, text in TEXTS.items():
        arguments += [f"--{name}"] if name in ("factory", "reload") else [f"--{name}", text]
    assert resolve([], dict(environ)) == resolve([*arguments, "env:app"], {})
    assert resolve(["--generation", "cli", "cli:app"], dict(environ)).generation == "cli"
    assert resolve(["--generation", "cli", "cli:app"], dict(environ)).app == "cli:app"


def test_env_file_fills_only_what_is_unset(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text('ASGI_WORKER_GENERATION=file\nOTHER=file # comment\n\nQ="a # b"\n')
    environ = {"OTHER": "process"}
    assert resolve(["--env-file", str(file), "a:b"], environ).generation == "file"
    assert environ["OTHER"] == "process"
    assert environ["Q"] == "a # b"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "module:attribute"),
        (["main"], "module:attribute"),
        ([":app"], "module:attribute"),
        (["main:"], "module:attribute"),
        (["a:b", "c:d"], "one application"),
        (["--nonsense", "a:b"], "--nonsense"),
        (["--gener", "x", "a:b"], "--gener"),  # no abbreviations: they would break later
        (["--workers", "0", "a:b"], "between 1 and 1024"),
        (["--reload", "--reload-dir", "/nonexistent", "a:b"], "/nonexistent is not a directory"),
        (["--reload-dir", "/tmp", "a:b"], "without --reload"),
        (["--max-age-jitter", "5", "a:b"], "without --max-age"),
        (["--max-rss-jitter", "5", "a:b"], "without --max-rss"),
        (["--hang-timeout", "0", "a:b"], "--hang-timeout"),
        (["--connect", "/tmp/x", "a:b"], "unix:"),
        (["--connect", "unix:", "a:b"], "path"),
        (["--connect", "unix:/" + "x" * 108, "a:b"], "107"),
        (["--max-concurrency", "0", "a:b"], "--max-concurrency"),
        (["--max-concurrency", "70000", "a:b"], "65535"),
        (["--max-requests", "0", "a:b"], "less than 1"),
        (["--max-requests", "-1", "a:b"], "--max-requests"),
        (["--max-requests-jitter", "5", "a:b"], "without --max-requests"),
        (["--max-age", "0", "a:b"], "--max-age"),
        (["--max-rss", "5 parsecs", "a:b"], "512MiB"),
        (["--startup-timeout", "soon", "a:b"], "not a number"),
        (["--startup-timeout", "0", "a:b"], "--startup-timeout"),
        (["--graceful-timeout", "5y", "a:b"], "30s"),
        (["--interface", "cgi", "a:b"], "asgi3"),
        (["--log-level", "loud", "a:b"], "debug"),
        (["--root-path", "api", "a:b"], "begin with /"),
        (["--generation", "x" * 129, "a:b"], "128"),
        (["--env-file", "/nonexistent", "a:b"], "/nonexistent"),
    ],
)
def test_refusals(argv: list[str], words: str) -> None:
    with pytest.raises(UsageError) as info:
        resolve(argv, {})
    assert words in str(info.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MAX_AGE", "x"),
        ("WORKERS", "two"),
        ("RELOAD", "maybe"),
        ("FACTORY", "maybe"),
        ("LOOP", "trio"),
    ],
)
def test_refusals_name_the_variable(variable: str, text: str) -> None:
    with pytest.raises(UsageError) as info:
        resolve(["a:b"], {f"ASGI_WORKER_{variable}": text})
    assert variable.lower() in str(info.value).lower()


def test_one_worker_is_the_default_and_no_reload_what_there_is() -> None:
    value = settings("a:b", ASGI_WORKER_RELOAD="0")
    assert (value.workers, value.reload, value.hang_timeout) == (1, False, 60)
    assert settings("--reload", "a:b").hang_timeout is None
    assert settings("--reload", "--hang-timeout", "5", "a:b").hang_timeout == 5
    assert settings("--workers", "4", "a:b", ASGI_WORKER_WORKERS="2").workers == 4
    assert settings("a:b", ASGI_WORKER_WORKERS="2").workers == 2


def test_off_is_a_word_and_not_zero() -> None:
    value = settings("--max-requests", "off", "--max-age", "off", "--max-rss", "OFF", "a:b")
    assert (value.max_requests, value.max_age, value.max_rss) == (None, None, None)


def test_exit_code_2_and_the_sentence_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--max-age", "x", "a:b"]) == 2
    assert "--max-age: 'x' is not a number" in capsys.readouterr().err


def test_version_names_the_protocols() -> None:
    environment = {**os.environ, "PYTHONPATH": str(WORKER_DIR)}
    result = subprocess.run(
        [sys.executable, "-m", "asgi_worker", "--version"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "gateway protocol version 1" in result.stdout
    assert "ASGI 3.0" in result.stdout
    result = subprocess.run(
        [sys.executable, "-m", "asgi_worker", "--help"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for option in OPTIONS:
        assert f"--{option.name}" in result.stdout


@pytest.mark.parametrize(
    ("text", "value"), [("30", 30.0), ("1.5", 1.5), ("250ms", 0.25), ("5m", 300.0), ("1 h", 3600.0)]
)
def test_durations(text: str, value: float) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("65536", 65536), ("64KiB", 65536), ("1.5 MiB", 3 << 19), ("2gib", 2 << 30)]
)
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


def test_booleans() -> None:
    assert [parse_bool(t) for t in ("1", "Yes", "on", "TRUE")] == [True] * 4
    assert [parse_bool(t) for t in ("0", "No", "off", "false", "")] == [False] * 5


def test_env_file_errors_name_the_line() -> None:
    with pytest.raises(ConfigError, match="f:2"):
        parse_env_file("A=1\nnonsense\n", "f")


def test_run_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert run_directory({"XDG_RUNTIME_DIR": "/x"}) == "/run/gatewayd"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_directory({"XDG_RUNTIME_DIR": "/run/user/1000"}) == "/run/user/1000/gatewayd"
    assert run_directory({}) == "/run/user/1000/gatewayd"
    assert run_directory({"XDG_RUNTIME_DIR": "relative"}) == "/run/user/1000/gatewayd"


def test_log_config(tmp_path: Path) -> None:
    good = tmp_path / "log.json"
    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "loggers": {"asgi_worker": {"level": "ERROR"}},
    }
    good.write_text(json.dumps(config))
    logger = configure("info", str(good))
    assert logger.level == logging.ERROR
    logger.setLevel(logging.NOTSET)
    for text in ("[1]", "{", '{"version": 99}'):
        good.write_text(text)
        with pytest.raises(ConfigError, match=r"log\.json"):
            configure("info", str(good))
    with pytest.raises(ConfigError, match="No such file"):
        configure("info", str(tmp_path / "missing.ini"))


def test_missing_uvloop_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from asgi_worker import process

    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(ConfigError, match="not installed"):
        process._loop_factory(LoopKind.UVLOOP)
    assert process._loop_factory(LoopKind.AUTO) is None
    assert process._loop_factory(LoopKind.ASYNCIO) is None
