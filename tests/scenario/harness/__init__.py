# SPDX-License-Identifier: MIT
"""What every scenario is made of: a real gateway, real workers, raw sockets, and the proof that nothing was left behind."""
