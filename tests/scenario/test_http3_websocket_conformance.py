# SPDX-License-Identifier: MIT
"""The cases of test_websocket_conformance.py over HTTP/3 (RFC 9220)."""

from collections.abc import Iterator

import pytest
import test_websocket_conformance as suite
from harness.gateway import Gateway
from http3_site import carried_cases

globals().update(carried_cases(suite))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("websocket3"), quic=True, log={"level": "info"}, websocket={"max_message": "1MiB"}
    )
    gateway.carrier = "h3"
    try:
        gateway.start()
        gateway.start_workers(1, "sockets:app")
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()
