# SPDX-License-Identifier: MIT
# Where the work is done: on this host when it has every library (and tool) that docker/packages asks for, else inside the tree of
# docker/devroot. Sets WORK_HERE=yes|no. Override with DEVROOT=never (always here) or DEVROOT=always (always in the tree).

DEVROOT ?= auto

in_tree := $(wildcard /etc/gatewayd-devroot)
pkg_config_floors := $(shell sed -n 's/.*pkg-config: *\([a-z0-9_+.-]*\) *>= *\([0-9.]*\).*/"\1 >= \2"/p' docker/packages)
header_floors := $(shell sed -n 's/.*header: *\([a-z0-9_/.-]*\).*/\1/p' docker/packages)

# What `make check` and its parts need beyond libraries.
check_tools := clang clang-tidy clang-format mypy ruff shellcheck curl openssl
check_modules := pytest,xdist,hypothesis,httpx,h2,websockets,msgpack,fastapi,django,psutil,cryptography
check_goals := check unit unit-% scenarios asan tsan fuzz fuzz-smoke faults soak bench lint vectors worker-tests

have_libraries = $(shell pkg-config --exists $(pkg_config_floors) 2>/dev/null && \
	ls $(addprefix /usr/include/,$(header_floors)) >/dev/null 2>&1 && command -v cc c++ >/dev/null && echo yes)
have_tools = $(shell command -v $(check_tools) >/dev/null 2>&1 && python3 -c 'import $(check_modules)' 2>/dev/null && echo yes)

ifneq ($(in_tree),)
WORK_HERE := yes
else ifeq ($(DEVROOT),never)
WORK_HERE := yes
else ifeq ($(DEVROOT),always)
WORK_HERE := no
else ifneq ($(have_libraries),yes)
WORK_HERE := no
else ifneq ($(filter $(check_goals) run,$(MAKECMDGOALS)),)
WORK_HERE := $(if $(filter yes,$(have_tools)),yes,no)
else
WORK_HERE := yes
endif
