# SPDX-License-Identifier: MIT
"""What every scenario is made of: a real gateway, real workers, raw sockets, nothing left behind."""

import pytest

pytest.register_assert_rewrite("framework_cases")
