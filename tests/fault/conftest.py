# SPDX-License-Identifier: MIT
"""Fault tests use the harness of the scenarios. Mark `check`: in `make check` too; mark `soak`: in `make soak` only."""

import sys
from pathlib import Path

import pytest

SCENARIO = Path(__file__).resolve().parents[1] / "scenario"
sys.path.insert(0, str(SCENARIO.parents[1] / "worker"))
sys.path.insert(0, str(SCENARIO))

from harness.fixtures import gateway, make_gateway, pytest_runtest_makereport  # noqa: E402

__all__ = ["gateway", "make_gateway", "pytest_runtest_makereport"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("fault")
