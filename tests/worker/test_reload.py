# SPDX-License-Identifier: MIT
"""--reload with real workers, what the watcher sees, and code that is never served stale."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_worker.importer import cache_only_settled_code
from asgi_worker.watch import Watcher
from gateway import Gateway
from test_supervisor import Site, wait_for

APP = """\
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": TEXT})

from part import TEXT
"""


class Project(Site):
    """A project folder with an application in two files."""

    def __init__(self, gateway: Gateway, directory: Path) -> None:
        super().__init__(gateway, directory)
        self.folder = directory / "project"
        self.folder.mkdir()
        (self.folder / "main.py").write_text(APP)
        self.write("b'one'")

    def write(self, value: str) -> None:
        (self.folder / "part.py").write_text(f"TEXT = {value}\n")

    def watched(self, *options: str) -> None:
        self.start("--reload", "--app-dir", str(self.folder), *options, "main:app", target=False)
        self.said("watching the Python files in")

    def next(self, old: list[int]) -> list[int]:
        """Accept one new worker for each old one, and see those go."""
        new = [self.accept() for _ in old]
        for pid in old:
            self.gone(pid)
        return new


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Gateway() as gateway:
        made = Project(gateway, tmp_path)
        yield made
        assert made.process.poll() is not None, made.output()


def test_a_saved_file_replaces_all_workers(project: Project) -> None:
    project.watched("--workers", "2")
    old = project.serving(2)
    project.write("b'two'")  # within the second of the first one, and as long
    new = project.next(old)
    assert [project.body(pid) for pid in new] == ["two", "two"]
    project.said(r"part\.py changed: replacing all workers")
    project.said("the reload is complete")
    assert project.stop() == 0


def test_one_worker_is_reloaded_too_and_gaplessly(project: Project) -> None:
    project.watched()
    (old,) = project.serving(1)
    project.write("b'two'")
    link = project.gateway.accept()  # the replacement, not ready yet
    assert project.body(old) == "one"
    pid = int(link.handshake()["pid"])
    project.links[pid] = link
    link.wait_ready()
    project.gone(old)
    assert project.body(pid) == "two"
    assert project.stop() == 0


def test_a_mistake_keeps_the_old_ones_serving_until_it_is_mended(project: Project) -> None:
    project.watched("--workers", "2")
    old = project.serving(2)
    project.write("(")
    failed = project.gateway.accept()
    failed.handshake()
    failed.until_end()
    project.said("SyntaxError")
    project.said("the reload is given up, what served goes on serving; save a file again")
    assert [project.body(pid) for pid in old] == ["one", "one"]
    project.write("b'two'")
    new = project.next(old)
    assert [project.body(pid) for pid in new] == ["two", "two"]
    assert project.stop() == 0


def test_a_mistake_at_the_start_waits_for_its_mending(project: Project) -> None:
    project.write("nonsense")
    project.watched("--workers", "2")
    for _ in range(2):
        failed = project.gateway.accept()
        failed.handshake()
        failed.until_end()
    project.said("NameError: name 'nonsense' is not defined")
    wait_for(lambda: project.output().count("waiting for the next change of a file") == 2, "both")
    assert project.children() == set()
    project.write("b'mended'")
    assert [project.body(pid) for pid in project.serving(2)] == ["mended", "mended"]
    assert project.stop() == 0


def test_a_newer_change_overtakes_a_replacement_that_still_starts(project: Project) -> None:
    project.watched()
    (old,) = project.serving(1)
    project.write("b'two'")
    held = project.gateway.accept()  # it has read "two", and is held in its handshake
    held.hello()
    project.write("b'three'")
    (new,) = project.next([old])
    assert project.body(new) == "three"
    held.close()
    assert project.stop() == 0


def test_another_directory_and_the_env_file_are_watched(project: Project, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    env_file = tmp_path / "env"
    env_file.write_text("A=1\n")
    project.watched("--reload-dir", str(library), "--env-file", str(env_file))
    old = project.serving(1)
    env_file.write_text("A=2\n")
    old = project.next(old)
    (library / "new.py").write_text("")
    project.next(old)
    project.said(r"new\.py changed")
    assert project.stop() == 0


# The watcher


def test_what_is_watched(tmp_path: Path) -> None:
    for name in ("a.py", "pkg/b.py", "pkg/deep/c.py", "__pycache__/d.py", ".git/e.py", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "venv" / "lib").mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    watcher = Watcher([str(tmp_path)])
    assert watcher.changes() == []
    for name in ("__pycache__/d.py", ".git/e.py", "venv/lib/f.py", "notes.txt"):
        (tmp_path / name).write_text("changed")
    assert [watcher.changes() for _ in range(3)] == [[]] * 3
    (tmp_path / "pkg" / "deep" / "c.py").write_text("changed")
    (tmp_path / "a.py").unlink()
    (tmp_path / "pkg" / "new.py").write_text("")
    assert watcher.changes() == []  # it may go on
    names = ["a.py", "pkg/deep/c.py", "pkg/new.py"]
    assert watcher.changes() == [str(tmp_path / name) for name in names]
    assert [watcher.changes() for _ in range(2)] == [[], []]


def test_a_change_that_goes_on_is_reported_at_its_end(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("")
    watcher = Watcher([str(tmp_path)])
    for size in range(1, 5):
        file.write_text("x" * size)
        assert watcher.changes() == []
    assert watcher.changes() == [str(file)]


def test_a_change_that_is_taken_back_is_none(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("same")
    stamp = file.stat()
    watcher = Watcher([str(tmp_path)])
    file.write_text("other")
    assert watcher.changes() == []
    file.write_text("same")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert [watcher.changes() for _ in range(3)] == [[]] * 3


# Cached code


def test_new_sources_are_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    cache_only_settled_code()
    for name, age in (("fresh_source", 0), ("settled_source", 100)):
        path = tmp_path / f"{name}.py"
        path.write_text("X = 1\n")
        os.utime(path, (time.time() - age, time.time() - age))
        __import__(name)
        del sys.modules[name]
    cached = [path.name.split(".")[0] for path in (tmp_path / "__pycache__").iterdir()]
    assert cached == ["settled_source"]
