# SPDX-License-Identifier: MIT
"""The units: what systemd says of them, how exposed they are, that what they name is installed."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.gateway import GATEWAYD, ROOT

UNITS = ("gatewayd.service", "asgi-worker@.service")
# Of 100; 20 is what systemd-analyze shows as 2.0.
EXPOSURE = {"gatewayd.service": 20, "asgi-worker@.service": 30}

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What make install puts below DESTDIR, with a prefix that is not the usual one."""
    top = tmp_path_factory.mktemp("installed")
    command = [str(ROOT / "mk" / "install"), str(Path(GATEWAYD).parent)]
    told = {"PREFIX": "/opt/gw", "DESTDIR": str(top), "SYSCONFDIR": "/etc"}
    subprocess.run(command, env={**os.environ, **told}, check=True, capture_output=True, cwd=ROOT)
    yield top


def test_units_are_installed_with_their_paths(installed: Path) -> None:
    for name in UNITS:
        text = (installed / "opt/gw/lib/systemd/system" / name).read_text()
        assert "/usr/local" not in text
        assert "/etc/gatewayd/" in text
    text = (installed / "opt/gw/lib/systemd/system/gatewayd.service").read_text()
    program = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)
    assert program and os.access(f"{installed}{program[1]}", os.X_OK)
    users = (installed / "opt/gw/lib/sysusers.d/gatewayd.conf").read_text()
    for unit in UNITS:
        text = (installed / "opt/gw/lib/systemd/system" / unit).read_text()
        for key in ("User", "Group", "SupplementaryGroups"):
            for name in re.findall(rf"^{key}=(\S+)", text, re.MULTILINE):
                assert re.search(rf"^[ug] {name} ", users, re.MULTILINE), f"{unit}: {key}={name}"


def test_systemd_has_nothing_to_say(installed: Path, tmp_path: Path) -> None:
    for name in UNITS:
        text = (installed / "opt/gw/lib/systemd/system" / name).read_text()
        # verify wants the programs to be there; the documents are not asked for in a root of their own
        text = text.replace("/opt/gw/bin", f"{installed}/opt/gw/bin").replace("Documentation=", "# ")
        (tmp_path / name.replace("@.", "@x.")).write_text(text)
        done = subprocess.run(
            [
                "systemd-analyze",
                "verify",
                "--recursive-errors=no",
                "--man=no",
                str(tmp_path / name.replace("@.", "@x.")),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in done.stderr.splitlines() if name.partition(".")[0].rstrip("@") in line]
        assert not lines, lines


@pytest.mark.parametrize("name", UNITS)
def test_exposure(name: str) -> None:
    unit = ROOT / "conf" / "systemd" / name
    command = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={EXPOSURE[name]}",
        "--no-pager",
        str(unit),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = re.search(r"Overall exposure level.*", done.stdout)
    print(summary and summary[0])
    assert summary, done.stderr
    assert done.returncode == 0, done.stdout


def test_users_can_be_made(installed: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is not installed")
    (tmp_path / "etc").mkdir()
    users = installed / "opt/gw/lib/sysusers.d/gatewayd.conf"
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(users)], check=True, capture_output=True)
    groups = (tmp_path / "etc/group").read_text()
    assert re.search(r"^gatewayd:.*:(asgi-worker,gateway|gateway,asgi-worker)$", groups, re.MULTILINE), groups
