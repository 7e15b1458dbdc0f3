# SPDX-License-Identifier: MIT
"""The suite of test_fastapi.py over HTTP/3: the common cases and FastAPI's own features."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import test_fastapi as suite
from framework_cases import CommonCases, told
from harness.sites import Site, running
from http3_site import H3Site, cases_of, common_cases, web

globals().update(cases_of(suite))
files = suite.files
TestCommon = common_cases(CommonCases)
__all__ = ["web"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[Site]:
    with running(H3Site(tmp_path_factory.mktemp("fastapi3"), "fastapi_app:app"), {"APP_FILES": str(files)}) as site:
        yield site


def test_version(site: Site) -> None:
    answer = site.clients["https"].get("/common/echo")
    assert answer.http_version == "HTTP/3" and told(answer)["version"] == "3"
