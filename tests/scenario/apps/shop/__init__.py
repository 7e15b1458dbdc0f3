# SPDX-License-Identifier: MIT
"""The part of the Django application that has a model."""
