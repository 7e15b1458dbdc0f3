# SPDX-License-Identifier: MIT
"""Finding the application and telling which convention it follows."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest

from asgi_worker.config import Interface, Settings
from asgi_worker.importer import AppLoadError, detect_interface, load_app


async def asgi3(scope: Any, receive: Any, send: Any) -> None: ...


def sync_asgi3(scope: Any, receive: Any, send: Any) -> Any: ...


class Asgi3:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Wrapped:
    def __call__(self, scope: Any, receive: Any, send: Any, *, extra: int = 1) -> Any: ...


class Asgi2:
    def __init__(self, scope: Any) -> None: ...


def asgi2(scope: Any) -> Any: ...


def wsgi(environ: Any, start_response: Any) -> Any: ...


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (asgi3, Interface.ASGI3), (sync_asgi3, Interface.ASGI3), (Asgi3(), Interface.ASGI3),
        (Wrapped(), Interface.ASGI3), (functools.partial(asgi3, 1), Interface.ASGI3),
        (lambda *args: None, Interface.ASGI3), (Asgi2, Interface.ASGI2), (asgi2, Interface.ASGI2),
        (wsgi, Interface.WSGI), (Wsgi(), Interface.WSGI), (Wsgi().__call__, Interface.WSGI),
        (functools.partial(wsgi), Interface.WSGI), (print, Interface.ASGI3),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)  # fmt: skip
def test_detection(app: Any, expected: Interface) -> None:
    assert detect_interface(app) is expected


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def load(directory: Path, app: str, **more: Any) -> Any:
    return load_app(Settings(app=app, app_dir=str(directory), **more))


def write(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.py").write_text(text)


def test_nested_attributes_and_packages(directory: Path) -> None:
    (directory / "pkg_nested").mkdir()
    (directory / "pkg_nested" / "__init__.py").write_text("")
    write(directory / "pkg_nested", "sub", "class Holder:\n    async def app(s, r, t): ...\n")
    app, interface = load(directory, "pkg_nested.sub:Holder.app")
    assert app.__name__ == "app"
    assert interface is Interface.ASGI3


def test_the_given_interface_wins(directory: Path) -> None:
    write(directory, "given_interface", "def app(a, b): ...\n")
    assert load(directory, "given_interface:app")[1] is Interface.WSGI
    assert load(directory, "given_interface:app", interface=Interface.ASGI3)[1] is Interface.ASGI3


def test_missing_module_and_missing_import_inside_are_told_apart(directory: Path) -> None:
    with pytest.raises(AppLoadError) as info:
        load(directory, "not_there_at_all:app")
    assert "there is no module" in str(info.value)
    assert str(directory) in str(info.value)
    assert info.value.detail == ""
    write(directory, "imports_missing", "import not_there_at_all\n")
    with pytest.raises(AppLoadError) as info:
        load(directory, "imports_missing:app")
    assert "ModuleNotFoundError" in info.value.detail
    assert "imports_missing.py" in info.value.detail


@pytest.mark.parametrize(
    ("text", "factory", "words"),
    [
        ("raise SystemExit(4)", False, "exit(4)"),
        ("1/0", False, "failed"),
        ("def app(:", False, "failed"),
        ("def app(): 1/0", True, "factory"),
        ("def app(): raise SystemExit(5)", True, "exit(5)"),
        ("app = 5", True, "no --factory"),
        ("app = 5", False, "int"),
        ("def app(): pass", False, "--factory"),
        ("class app:\n    def __init__(self, *, debug=False): ...", False, "--factory"),
        ("def app(): return 5", True, "int"),
    ],
)
def test_what_can_go_wrong(directory: Path, text: str, factory: bool, words: str) -> None:
    name = f"wrong_{abs(hash((text, factory)))}"
    write(directory, name, text + "\n")
    with pytest.raises(AppLoadError) as info:
        load(directory, f"{name}:app", factory=factory)
    assert words in str(info.value)


def test_app_dir_must_exist(directory: Path) -> None:
    with pytest.raises(AppLoadError, match="not a directory"):
        load(directory / "missing", "a:b")
