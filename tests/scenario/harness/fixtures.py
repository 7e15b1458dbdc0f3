# SPDX-License-Identifier: MIT
"""Fixtures of scenarios and fault tests: `make_gateway(...)` gives a started gateway, which has to end clean."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .gateway import GATEWAYD, Gateway
from .websocket import CARRIERS


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    setattr(item, f"report_{call.when}", outcome.get_result())  # type: ignore[attr-defined]


@pytest.fixture
def make_gateway(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Gateway]]:
    """make_gateway(workers=1, app="scenario:app", worker_options=[...], **sections): started, its workers ready."""
    made: list[Gateway] = []

    def make(
        *,
        workers: int = 1,
        app_target: str = "scenario:app",
        worker_options: list[str] | None = None,
        worker_environment: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
        own_binary: bool = False,
        **sections: Any,
    ) -> Gateway:
        directory = tmp_path / f"gateway-{len(made)}"
        directory.mkdir()
        gateway = Gateway(directory, **sections)
        gateway.environment.update(environment or {})
        if own_binary:  # that a test may replace
            shutil.copy(GATEWAYD, directory / "gatewayd")
            gateway.process.command[0] = str(directory / "gatewayd")
        made.append(gateway)
        gateway.start()
        if workers:
            gateway.start_workers(workers, app_target, worker_options, worker_environment)
        return gateway

    yield make
    failed = getattr(request.node, "report_call", None) is not None and request.node.report_call.failed
    for gateway in made:
        if failed:
            print(f"--- {gateway.directory}\n{gateway.process.tail(80)}")
            for worker in gateway.workers:
                print(f"--- {worker.name}\n{worker.tail(30)}")
            gateway.kill()
        else:
            gateway.finish()


@pytest.fixture(params=CARRIERS)
def make_site(request: pytest.FixtureRequest, make_gateway: Callable[..., Gateway]) -> Callable[..., Gateway]:
    """make_gateway for tests of WebSockets: once for each carrier."""

    def make(**options: Any) -> Gateway:
        gateway = make_gateway(**options)
        gateway.carrier = request.param
        return gateway

    return make


@pytest.fixture
def gateway(make_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway with one worker of the scenario app and default settings."""
    return make_gateway()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway with one worker for all tests of a file that leave it as they found it."""
    gateway = Gateway(tmp_path_factory.mktemp("shared"))
    try:
        gateway.start()
        gateway.start_workers(1)
        yield gateway
        gateway.finish()
    finally:
        gateway.kill()
