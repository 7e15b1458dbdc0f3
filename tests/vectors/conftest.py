# SPDX-License-Identifier: MIT
"""Lets the tests of this folder import the worker's package from the checkout, and their own helpers."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "worker"), str(HERE)]
