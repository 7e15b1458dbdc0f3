# SPDX-License-Identifier: MIT
# This host lacks libraries or tools: every goal but the local ones is done by a make inside the tree of docker/devroot, which is made
# first when it is missing. The goals go over in one call.

local_goals := help setup clean distclean install uninstall forward host-python
# A virtual environment belongs to the host's Python: its workers run here, the gateway inside the tree.
ifneq ($(VENV),)
local_goals += run
endif
goals := $(or $(MAKECMDGOALS),$(.DEFAULT_GOAL))
forwarded := $(filter-out $(local_goals),$(goals)) $(if $(filter install,$(goals)),all)

.PHONY: forward $(forwarded)
ifneq ($(strip $(forwarded)),)
$(forwarded): forward
	@:
endif
forward: $(if $(filter check,$(forwarded)),host-python)
	@+docker/devroot $(MAKE) --no-print-directory $(forwarded)

# The worker supports Python 3.11 and newer: its tests run on the host's interpreter too when that is another one than the tree's.
.PHONY: host-python
host-python:
	@docker/devroot --make
	@tests/host_python $(BUILD)

ifneq ($(VENV),)
.PHONY: run
run:
	@[ -x '$(VENV)/bin/python' ] || \
		{ echo 'VENV=$(VENV) has no bin/python: make it with python3 -m venv $(VENV), or name another' >&2; exit 1; }
	@+docker/devroot $(MAKE) --no-print-directory all
	@TREE='$(abspath docker/devroot)' GATEWAYD='$(abspath $(BUILD))/gatewayd' '$(VENV)/bin/python' conf/examples/demo/run
endif
