# SPDX-License-Identifier: MIT
"""Fixtures of the scenarios; those for any gateway are in harness/fixtures.py."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "worker"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.fixtures import gateway, make_gateway, make_site, pytest_runtest_makereport, shared

__all__ = ["gateway", "make_gateway", "make_site", "pytest_runtest_makereport", "shared"]


@pytest.fixture(params=["http", "https", "h2"])
def web(request: pytest.FixtureRequest) -> Any:
    """An httpx client of the module's framework site (its fixture `site`): over http, https and HTTP/2."""
    return request.getfixturevalue("site").clients[request.param]
