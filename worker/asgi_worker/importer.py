# SPDX-License-Identifier: MIT
"""Find the application: import `module:attribute`, call a factory, detect the convention.

Job: return a callable and the interface it follows, or raise AppLoadError with one sentence
for people and, where application code is to blame, its traceback. It knows no event loop.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from .config import Interface, Settings


class AppLoadError(Exception):
    """The application could not be loaded; `detail` holds the traceback, or is empty."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


# A source so new may be written again with the same time stamp (whole seconds) and size.
SETTLED = 2.0


_write_cache: Callable[..., None] = importlib.machinery.SourceFileLoader.set_data


def cache_only_settled_code() -> None:
    """Keep the interpreter from caching the code of sources that have just been written.

    A cached file counts as current when the source's size and its time in whole seconds are the
    same: a source that is written twice in a second would be loaded in its first form for ever.
    """

    def set_data(self: Any, path: str, data: Any, *, _mode: int = 0o666) -> None:
        try:
            age = time.time() - os.stat(importlib.util.source_from_cache(path)).st_mtime
        except (OSError, ValueError, NotImplementedError):
            age = SETTLED
        if age >= SETTLED:
            _write_cache(self, path, data, _mode=_mode)

    loader: Any = importlib.machinery.SourceFileLoader
    loader.set_data = set_data


def _import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        # Only the module that was asked for: what it imports itself deserves its traceback.
        if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
            raise AppLoadError(
                f"there is no module {name!r} in {sys.path[0]} or on the Python path; "
                "check the name, or say --app-dir DIR"
            ) from None
        raise AppLoadError(f"importing {name!r} failed", traceback.format_exc()) from exc
    except SystemExit as exc:
        raise AppLoadError(f"importing {name!r} called exit({exc.code!r})") from exc
    except Exception as exc:
        raise AppLoadError(f"importing {name!r} failed", traceback.format_exc()) from exc


def _find_attribute(module: Any, module_name: str, path: str) -> Any:
    value = module
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise AppLoadError(
                f"module {module_name!r} has no attribute {path!r}; "
                "the command names it as module:attribute"
            ) from None
    return value


def _required_arguments(app: Callable[..., Any]) -> int | None:
    """Count positional parameters without default; None when nobody can tell."""
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return None
    count = 0
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return None
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            count += parameter.default is parameter.empty
    return count


def _takes_nothing(app: Callable[..., Any]) -> bool:
    """Whether a call with any positional argument would fail, as every interface makes one."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)


def detect_interface(app: Callable[..., Any]) -> Interface:
    """Tell ASGI 3 (scope, receive, send), WSGI (environ, start_response), ASGI 2 (scope)."""
    call = None if inspect.isclass(app) else getattr(type(app), "__call__", None)
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call):
        return Interface.ASGI3
    by_count = {1: Interface.ASGI2, 2: Interface.WSGI, 3: Interface.ASGI3}
    count = _required_arguments(app)
    return by_count.get(-1 if count is None else count, Interface.ASGI3)


def load_app(settings: Settings) -> tuple[Callable[..., Any], Interface]:
    """Import and return the application with its interface (never AUTO)."""
    cache_only_settled_code()
    directory = os.path.abspath(settings.app_dir)
    if not os.path.isdir(directory):
        raise AppLoadError(f"--app-dir {directory} is not a directory")
    if directory not in sys.path[:1]:
        sys.path.insert(0, directory)
    module_name, _, attribute = settings.app.partition(":")
    app = _find_attribute(_import_module(module_name), module_name, attribute)
    if settings.factory:
        if not callable(app):
            raise AppLoadError(f"{settings.app} is not a function, so it is no --factory")
        try:
            app = app()
        except SystemExit as exc:
            raise AppLoadError(f"the factory {settings.app} called exit({exc.code!r})") from exc
        except Exception as exc:
            raise AppLoadError(
                f"the factory {settings.app} failed", traceback.format_exc()
            ) from exc
    if not callable(app):
        raise AppLoadError(
            f"{settings.app} is a {type(app).__name__}, which cannot be called as an application"
        )
    if not settings.factory and _takes_nothing(app):
        raise AppLoadError(
            f"{settings.app} takes no arguments, so it is no application; "
            "if it is a function that returns one, say --factory"
        )
    if settings.interface is Interface.AUTO:
        return app, detect_interface(app)
    return app, settings.interface
