# SPDX-License-Identifier: MIT
# The work for one variant, in $(BUILD)/$(VARIANT). Called by the Makefile.

OUT := $(BUILD)/$(VARIANT)
SHELL := /bin/sh
.SUFFIXES:
.DELETE_ON_ERROR:
ifeq ($(V),1)
show =
else
show = @printf '  %-4s %s\n' '$(1)' '$(2)';
endif

include mk/build.mk

# What a sanitizer finds ends the process: no report is overlooked.
export ASAN_OPTIONS := abort_on_error=1:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1$(if $(ASAN_OPTIONS),:$(ASAN_OPTIONS))
export UBSAN_OPTIONS := print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS := halt_on_error=1:second_deadlock_stack=1:suppressions=$(abspath tests/tsan.supp)
export GATEWAYD_VARIANT := $(VARIANT)
export GATEWAYD := $(abspath $(OUT))/gatewayd
export GATEWAYCTL := $(abspath $(OUT))/gatewayctl

logs := $(BUILD)/check/$(VARIANT)
run_tests = tests/run --logs $(logs)
tap_parts = $(foreach p,$(1),"tap:$(patsubst $(OUT)/tests/%,%,$(p))=$(p)")
pytest = "junit:$(1)=python3 -m pytest -q -p no:cacheprovider -n $(PYTEST_JOBS) --timeout 300 --junitxml={junit} $(2) $(if $(K),-k '$(K)')"
# More than the cores: most scenarios wait for something most of their time.
PYTEST_JOBS ?= 4

.PHONY: programs unit vectors scenarios scenarios-long faults soak bench fuzz fuzz-programs everything
programs: $(programs)
ifeq ($(VARIANT),release)
	@for program in $(notdir $(programs)); do cmp -s $(OUT)/$$program $(BUILD)/$$program || install $(OUT)/$$program $(BUILD)/$$program; done
endif
	@test -n "$(programs)" || echo "there is no gateway/main.c yet: only archives are built"
programs: $(call archives,$(folders))

everything: programs $(call test_program,$(test_sources)) $(vector_programs)

unit: $(call test_program,$(test_sources))
	@$(run_tests) --jobs 2 $(call tap_parts,$^)

unit-%: FORCE
	@test -n "$(wildcard tests/unit/$*/test_*.c)" || { echo "tests/unit/$* has no test_*.c" >&2; exit 2; }
	@+$(MAKE) $(if $(filter 1,$(V)),,--silent) --no-print-directory -f mk/variant.mk $(call programs_of,$*)
	@$(run_tests) $(call tap_parts,$(call programs_of,$*))
FORCE:

vectors: $(vector_programs)
	@$(run_tests) $(call tap_parts,$(vector_programs)) $(if $(wildcard tests/vectors/test_*.py),$(call pytest,vectors,tests/vectors))

scenarios: programs
	@$(run_tests) $(call pytest,scenarios-$(VARIANT),-m 'not long and (not fault or check)' tests/scenario tests/fault)

# One at a time: some of these need the machine for themselves.
scenarios-long: PYTEST_JOBS = 0
scenarios-long: programs
	@$(run_tests) --timeout 7200 $(call pytest,scenarios-long-$(VARIANT),-m long --timeout 1200 tests/scenario)

# The fault plan; ROWS="7 20" for some of its rows. The table of the rows is the end of the part's log.
faults: PYTEST_JOBS = 2 # they measure under load
faults: programs
	@$(run_tests) --timeout 7200 "junit:faults-$(VARIANT)=tests/fault/run --junitxml {junit} $(ROWS) -- -n $(PYTEST_JOBS) --timeout 900 \
		$(if $(K),-k '$(K)')"; code=$$?; grep -E '^ ?[0-9]+  ' $(logs)/faults-$(VARIANT).log; exit $$code

soak: programs
	@python3 -m pytest -q -s -p no:cacheprovider -m soak tests/fault

bench: programs $(OUT)/h3load
	@H3LOAD=$(abspath $(OUT))/h3load tests/bench/run

fuzz: $(fuzz_programs)
	@$(run_tests) --timeout 86400 "tap:fuzz=tests/run_fuzz --seconds $(FUZZ_SECONDS) --corpus $(BUILD)/corpus --crashes $(BUILD)/crashes \
		$(filter %$(FUZZ),$(fuzz_programs))"

fuzz-programs: $(fuzz_programs)
