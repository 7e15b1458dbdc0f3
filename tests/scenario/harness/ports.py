# SPDX-License-Identifier: MIT
"""Ports for gateways under test."""

import random
import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free now. The kernel does not hand the same ephemeral port out again soon, so that two test
    processes side by side do not meet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def free_port_of_both(host: str = "127.0.0.1") -> int:
    """A port that is free for TCP and UDP. It lies below the kernel's ephemeral ports, which the sockets of QUIC
    clients take at random between this call and the start of the gateway."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.SystemRandom().randrange(10240, 32768)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(family, kind) as probe:
                    probe.bind((host, port))
            return port
        except OSError:
            continue
