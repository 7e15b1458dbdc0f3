# SPDX-License-Identifier: MIT
"""Adapters between streams of the frame protocol and applications."""
