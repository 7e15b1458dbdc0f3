# SPDX-License-Identifier: MIT
# gatewayd: `make help` is the index. This file chooses where the work is done (mk/host.mk) and for which variant; the rules that
# compile, link and run are in mk/variant.mk.
#
# Variables: BUILD=build (where output goes)  VARIANT=debug|release|asan|tsan|fuzz  CC= CXX= CFLAGS= LDFLAGS=  WERROR=yes|no  V=1 (show
# commands)  PREFIX=/usr/local  DESTDIR=  SYSCONFDIR=/etc  DEVROOT=auto|never|always

VERSION := 0.1.0
BUILD ?= build
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
export VERSION BUILD

SHELL := /bin/sh
.DEFAULT_GOAL := all
.NOTPARALLEL:
.SUFFIXES:
# Compiling uses all processors unless -j says otherwise.
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

include mk/host.mk

ifeq ($(WORK_HERE),no)
include mk/forward.mk
else
# Compiler warnings are errors where the compilers are known ones.
WERROR ?= $(if $(in_tree),yes,no)
export WERROR

variant = $(MAKE) --no-print-directory -f mk/variant.mk VARIANT=$(1)
release_or := $(or $(VARIANT),release)
debug_or := $(or $(VARIANT),debug)

.PHONY: all
all: ## build build/gatewayd and build/gatewayctl (release; VARIANT= for another)
	@+$(call variant,$(release_or)) programs

.PHONY: run
run: all ## start gatewayd with the demo app and two workers: https://localhost:8443 [APP=module:attribute DIR=path VENV=path]
	@GATEWAYD=$(abspath $(BUILD))/gatewayd conf/examples/demo/run

.PHONY: check
check: ## run every test; the last line is "N passed, N failed"
	@+tests/check $(BUILD)

.PHONY: unit
unit: ## C unit tests (debug variant; VARIANT=asan|tsan|release for another)
	@+$(call variant,$(debug_or)) unit

# unit-FOLDER: the C unit tests of gateway/FOLDER only, and only what they need is built
unit-%:
	@+$(call variant,$(debug_or)) unit-$*

.PHONY: vectors
vectors: ## the protocol's vectors and transcripts, C side and Python side
	@+$(call variant,$(debug_or)) vectors

.PHONY: worker-tests
worker-tests: ## the Python worker's unit tests
	@tests/run $(call pytest,worker,tests/worker)

.PHONY: scenarios
scenarios: ## real binaries, real clients (release variant) [K=expression for pytest -k]
	@+$(call variant,$(release_or)) scenarios

.PHONY: scenarios-long
scenarios-long: ## the scenarios that take minutes: large transfers, bad networks, many connections [K=expression]
	@+$(call variant,$(release_or)) scenarios-long

.PHONY: asan
asan: ## unit tests, vectors and scenarios under AddressSanitizer and UndefinedBehaviorSanitizer
	@+$(call variant,asan) unit vectors scenarios

.PHONY: tsan
tsan: ## unit tests and scenarios under ThreadSanitizer
	@+$(call variant,tsan) unit scenarios

.PHONY: fuzz
fuzz: ## every fuzz target for ten minutes [FUZZ_SECONDS=600 FUZZ=name]
	@+$(call variant,fuzz) fuzz FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600)

.PHONY: fuzz-smoke
fuzz-smoke: ## every fuzz target for a few seconds
	@+$(call variant,fuzz) fuzz FUZZ_SECONDS=$(or $(FUZZ_SECONDS),4)

.PHONY: faults
faults: ## the fault plan: kills, floods, full disks, lost packets; release, then asan [VARIANT= ROWS="7 20" K=expression]
	@+$(if $(VARIANT),$(call variant,$(VARIANT)) faults,$(call variant,release) faults && $(call variant,asan) faults)

.PHONY: soak
soak: ## mixed load and random faults for half an hour; it ends as it began [SOAK_SECONDS=1800 SOAK_SEED=n VARIANT=release]
	@+$(call variant,$(release_or)) soak

.PHONY: bench
bench: ## side by side with other servers; prints the table
	@+$(call variant,release) bench

.PHONY: lint
lint: ## layers, sizes, headers, banned calls, documents, generated files, clang-format, clang-tidy, ruff, mypy
	@+tests/run "tap:lint=tests/lint/run --build $(BUILD)" "tap:linters=python3 tests/lint/test_lint.py"

.PHONY: format
format: ## rewrite C and Python sources in the project's style
	@git ls-files -co --exclude-standard '*.c' '*.h' '*.cc' | xargs grep -L GENERATED | xargs clang-format -i
	@ruff format -q . && ruff check -q --fix .

.PHONY: generate
generate: ## rewrite generated files: protocol constants, SPEC tables, configuration reference
	@tests/lint/generators | while read -r command; do echo "$$command" && $$command || exit 1; done

pytest = "junit:$(1)=python3 -m pytest -q -p no:cacheprovider --junitxml={junit} $(2)"
endif

.PHONY: setup
setup: ## install what building and testing need: packages where the host's archive has them, else the development tree
	@mk/setup

.PHONY: install
install: $(if $(filter no,$(WORK_HERE)),forward,all) ## install programs, documents and, where there is none, a configuration [PREFIX= DESTDIR= SYSCONFDIR=]
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' SYSCONFDIR='$(SYSCONFDIR)' mk/install '$(BUILD)'

.PHONY: uninstall
uninstall: ## remove what install put there; the configuration stays [PREFIX= DESTDIR=]
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' SYSCONFDIR='$(SYSCONFDIR)' mk/install --remove

.PHONY: clean
clean: ## remove the build directory
	@rm -rf -- '$(BUILD)'

.PHONY: distclean
distclean: clean ## clean, and remove development trees of older package lists
	@docker/devroot --prune
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | awk -F '\t' '{ printf "  make %-15s %s\n", $$1, $$2 }'
	@echo "  make unit-FOLDER     the C unit tests of one folder of gateway/"
