# SPDX-License-Identifier: MIT
"""The protocol package does no input or output: its imports say so."""

from __future__ import annotations

import ast
from pathlib import Path

import asgi_worker.protocol

FORBIDDEN = {
    "asyncio", "socket", "time", "logging", "os", "select", "selectors", "threading", "signal",
    "subprocess", "ssl", "mmap", "multiprocessing",
}  # fmt: skip
PACKAGE = Path(asgi_worker.protocol.__file__).parent
WORKER = PACKAGE.parent


def imported_modules(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                modules.add((node.module or "").split(".")[0])
            else:
                # protocol/ must not reach out of itself: only "from .x", never "from ..x"
                modules.add("." * node.level)
    return modules


def test_protocol_imports_no_io() -> None:
    files = sorted(PACKAGE.glob("*.py"))
    assert len(files) >= 9
    for path in files:
        modules = imported_modules(path)
        assert not modules & FORBIDDEN, f"{path.name} imports {modules & FORBIDDEN}"
        assert ".." not in modules, f"{path.name} reaches out of the package"


# A socket pair between supervisor and worker, the service manager's socket, and what asks whether
# a port is free: none of them carries a frame.
WITH_SOCKETS = {"supervisor.py", "supervised.py", "children.py", "notify.py", "dev.py"}


def test_only_io_and_the_supervisor_touch_sockets() -> None:
    for path in WORKER.rglob("*.py"):
        if path.parent.name == "io" and path.parent.parent == WORKER:
            continue
        if path.parent == WORKER and path.name in WITH_SOCKETS:
            continue
        assert "socket" not in imported_modules(path), path


def test_run_time_imports_are_the_standard_library() -> None:
    import sys

    for path in WORKER.rglob("*.py"):
        for module in imported_modules(path):
            if module.startswith(".") or module == "uvloop":
                continue
            assert module in sys.stdlib_module_names, f"{path} imports {module}"


def test_files_are_short_enough_to_read() -> None:
    for path in WORKER.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 600, f"{path} has {lines} lines"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 60, f"{path}: {node.name} has {length} lines"
