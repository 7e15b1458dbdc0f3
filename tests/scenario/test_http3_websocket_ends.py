# SPDX-License-Identifier: MIT
"""The cases of test_websocket_ends.py over HTTP/3 (RFC 9220)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import test_websocket_ends as suite
from harness.gateway import Gateway
from http3_site import carried_cases

globals().update(carried_cases(suite))
worker = suite.worker


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("websocket3"),
        quic=True,
        websocket={"max_message": "64KiB", "max_fragments": 8},
        limits={"first_byte": "400ms"},
    )
    gateway.carrier = "h3"
    try:
        yield gateway.start()
        gateway.finish()
    finally:
        gateway.kill()


@pytest.fixture
def make_site(make_gateway: Callable[..., Gateway]) -> Callable[..., Gateway]:
    def make(**options: Any) -> Gateway:
        gateway = make_gateway(quic=True, **options)
        gateway.carrier = "h3"
        return gateway

    return make
