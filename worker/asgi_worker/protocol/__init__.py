# SPDX-License-Identifier: MIT
"""The frame protocol without input and output; protocol/SPEC.md is its text."""
