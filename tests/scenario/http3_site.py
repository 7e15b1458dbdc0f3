# SPDX-License-Identifier: MIT
"""A framework's app over HTTP/3, for suites that were written for any version: https is HTTP/3 here, and so is every
raw client of the gateway. LEFT_OUT names the cases that are about HTTP/1.1 itself or plain http, and why."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from harness.gateway import Gateway
from harness.http3_clients import H3Client, Transport
from harness.sites import REPEATABLE, Site

LEFT_OUT = {
    "test_absolute_form": "HTTP/1.1: the target's forms",
    "test_tls_extension": "plain http",
    "test_what_a_trusted_proxy_says": "plain http",
    "test_curl_with_100_continue": "curl with HTTP/1.1's framings",
    "test_streamed_to_http_1_0": "HTTP/1.0",
    "test_streamed_response": "transfer-encoding",
    "test_chunked_body": "transfer-encoding",
    "test_requests_at_the_same_time": "httpx's own connections",
    "test_slow_reader_holds_the_app_back": "chunks read one by one; test_http3.py has it",
    "test_get": "it names the version; see test_version",
    "test_client_leaves_sse": "it counts the framing of chunks; without it twenty bytes take fifteen seconds",
    "test_client_leaves_an_endless_response": "TCP's ends; test_http3.py has those of HTTP/3",
    "test_client_and_server": "httpx's own port",
    "test_half_closed_client_gets_its_answer": "TCP's ends",
    "test_half_closed_client_gets_a_late_answer": "TCP's ends",
    "test_same_answers_as_uvicorn": "uvicorn speaks HTTP/1.1",
    "test_https_redirect": "plain http",
    "test_csrf": "plain http: over TLS Django asks for the origin too",
    "test_csrf_over_tls_asks_for_the_origin": "plain http beside https",
    "test_threads_of_clients": "httpx's own connections",
    "test_curl_upload": "curl with HTTP/1.1",
    "test_the_gateway_stops": "its client acknowledges nothing meanwhile; test_http3_end_of_life.py has it",
    "test_worker_said_nothing_unexpected": "it sums up a whole run of its own suite",
    "test_large_and_many_headers": "above limits.header_block as HTTP/3 counts it (RFC 9114 4.2.2)",
}


class H3Gateway(Gateway):
    def client(self, **options: Any) -> Any:
        return H3Client(self.quic_address, **options)


class H3Site(Site):
    def __init__(self, directory: Path, target: str, options: list[str] | None = None, **sections: Any):
        super().__init__(directory, target, options, quic=True, **sections)
        self.gateway.__class__ = H3Gateway

    def start(self, environment: dict[str, str] | None = None) -> "H3Site":
        self.gateway.start()
        self.gateway.start_workers(1, self.target, self.options, {**REPEATABLE, **(environment or {})})
        both = self.new_client()
        self.clients = {"http": both, "https": both}
        return self

    def new_client(self, url: str | None = None, **options: Any) -> httpx.Client:
        transport = Transport(self.gateway.quic_address)
        return httpx.Client(base_url=self.gateway.tls_url, transport=transport, trust_env=False, timeout=20, **options)


def cases_of(module: Any) -> dict[str, Any]:
    """The test functions of a suite that make sense over HTTP/3."""
    return {name: value for name, value in vars(module).items() if name.startswith("test_") and name not in LEFT_OUT}


def carried_cases(module: Any) -> dict[str, Any]:
    """The test functions of a WebSocket suite, without those that belong to one carrier."""

    def of_one(value: Any) -> bool:
        return any(mark.name == "parametrize" and mark.args[0] == "site" for mark in getattr(value, "pytestmark", []))

    return {name: value for name, value in cases_of(module).items() if not of_one(value)}


def common_cases(cases: type) -> type:
    """A class of test methods without those that are left out."""
    left_out = {name: None for name in LEFT_OUT if hasattr(cases, name)}
    return type("TestCommonOverHttp3", (cases,), left_out)


@pytest.fixture
def web(site: Site) -> httpx.Client:
    """In place of conftest's, which runs a case twice."""
    return site.clients["https"]
