# SPDX-License-Identifier: MIT
"""Makes the worker's package importable from the checkout, whatever is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "worker"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
