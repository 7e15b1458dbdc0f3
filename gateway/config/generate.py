#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes conf/gateway.toml and docs/CONFIGURATION.md from gateway/config/schema.def.

The table is C, and so is what describes it (gateway/config/describe.c): this builds and runs the program that holds
both, tests/unit/config/test_describe.c. With --check it only compares. `make generate` and `make lint` call it.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    environment = dict(os.environ)
    if "VERSION" not in environment:  # not called by make: let it set up what a build needs
        goal = ["lint"] if "--check" in sys.argv[1:] else ["generate"]
        print(f"call it by make {goal[0]}", file=sys.stderr)
        return 2
    build = environment.get("BUILD", "build")
    program = f"{build}/debug/tests/unit/config/test_describe"
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        environment.pop(name, None)
    make = ["make", "-s", "-f", "mk/variant.mk", "VARIANT=debug", f"BUILD={build}", program]
    built = subprocess.run(make, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        print(built.stdout + built.stderr, file=sys.stderr)
        return 1
    environment.pop("GATEWAYD_GENERATE", None)
    if "--check" not in sys.argv[1:]:
        environment["GATEWAYD_GENERATE"] = "1"
    done = subprocess.run([str(ROOT / program)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print("\n".join(line for line in done.stdout.splitlines() if line.startswith("#")), file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
