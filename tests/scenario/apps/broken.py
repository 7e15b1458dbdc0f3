# SPDX-License-Identifier: MIT
"""An app that cannot be imported."""

raise RuntimeError("the database password is missing")
