# SPDX-License-Identifier: MIT
"""The worker of gatewayd: runs a Python web application behind the gateway's Unix socket."""

__version__ = "0.1.0"
