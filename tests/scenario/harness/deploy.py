# SPDX-License-Identifier: MIT
"""Generations of the app `deployed`, and gatewayctl."""

import json
import os
import subprocess
from typing import Any

from .gateway import ROOT, Gateway, Worker
from .process import wait_for

GATEWAYCTL = os.environ.get("GATEWAYCTL", str(ROOT / "build" / "gatewayctl"))


def ctl(gateway: Gateway, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def start_generation(
    gateway: Gateway, name: str, count: int = 1, fault: str = "", options: list[str] | None = None
) -> list[Worker]:
    """Workers of a generation, not waited for. What becomes of them is the test's to say: may_end_with."""
    environment = {"DEPLOY_NAME": name, "DEPLOY_FAULT": fault}
    workers = [
        gateway.new_worker("deployed:app", ["--generation", name, *(options or [])], environment) for _ in range(count)
    ]
    for worker in workers:
        worker.may_end_with = {0, 4, -15}  # the test's end may meet one that is ending
        worker.start()
    return workers


def generations(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """Rows of `gatewayctl generations`, by name."""
    rows: list[dict[str, Any]] = json.loads(ctl(gateway, "--json", "generations").stdout)
    return {row["generation"] or "": row for row in rows}


def wait_state(gateway: Gateway, name: str, state: str, seconds: float = 20.0) -> None:
    """Waits until the generation is in this state; "gone": no longer known."""

    def reached() -> bool:
        row = generations(gateway).get(name)
        return state == "gone" if row is None else row["state"] == state

    wait_for(reached, f"generation {name} to be {state}", seconds)


def serving(gateway: Gateway) -> str:
    """The name of the generation that answers a request now."""
    return str(gateway.get("/generation").body.decode().split()[0])
