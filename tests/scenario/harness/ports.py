# SPDX-License-Identifier: MIT
"""Ports for gateways under test."""

import random
import socket


def _free(host: str, kinds: tuple[socket.SocketKind, ...]) -> int:
    """It lies below the kernel's ephemeral ports, which clients take at random between this call and the start of the
    gateway; two test processes side by side meet once in many thousand times."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.SystemRandom().randrange(10240, 32768)
        try:
            for kind in kinds:
                with socket.socket(family, kind) as probe:
                    probe.bind((host, port))
            return port
        except OSError:
            continue


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free now."""
    return _free(host, (socket.SOCK_STREAM,))


def free_port_of_both(host: str = "127.0.0.1") -> int:
    """A port that is free for TCP and UDP."""
    return _free(host, (socket.SOCK_STREAM, socket.SOCK_DGRAM))
