# SPDX-License-Identifier: MIT
"""Sockets and the event loop: the only part of the worker that reads and writes."""
