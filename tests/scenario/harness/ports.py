# SPDX-License-Identifier: MIT
"""Ports for gateways under test."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free now. The kernel does not hand the same ephemeral port out again soon, so that two test
    processes side by side do not meet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
