# SPDX-License-Identifier: MIT
# Compiler, flags and libraries of each variant. Flags that not every compiler knows are probed once per compiler; what was accepted
# is kept in $(OUT)/probed-*.mk.

c_standard := -std=c17
cxx_standard := -std=c++17
defines := -D_GNU_SOURCE -DGATEWAYD_VERSION='"$(VERSION)"'

# -Wno-string-conversion: clang's, against REQUIRE(!"what happened").
warnings_common := -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wvla -Wformat=2 -Wimplicit-fallthrough \
	-Wno-string-conversion -Wundef -Wpointer-arith -Wwrite-strings -Werror=format-security
warnings_c := $(warnings_common) -Wmissing-prototypes -Wstrict-prototypes -Wold-style-definition \
	-Werror=implicit -Werror=incompatible-pointer-types -Werror=int-conversion
ifeq ($(WERROR),yes)
werror := -Werror
endif

# OpenSSF "Compiler Options Hardening Guide for C and C++".
hardening_compile := -Wtrampolines -Wbidi-chars=any -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong \
	-fstack-clash-protection -fcf-protection=full -mbranch-protection=standard -ftrivial-auto-var-init=zero \
	-fno-delete-null-pointer-checks -fno-strict-overflow -fno-strict-aliasing -fstrict-flex-arrays=3 -fzero-init-padding-bits=all -fPIE
hardening_link := -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,nodlopen -Wl,--as-needed -Wl,--no-copy-dt-needed-entries

# Every sanitizer variant sees the same code as the debug one: the checks that GATEWAYD_DEBUG adds stay on.
ifeq ($(VARIANT),debug)
variant_compile := -Og -g3 -DGATEWAYD_DEBUG=1 -fno-omit-frame-pointer
else ifeq ($(VARIANT),release)
variant_compile := -O2 -g
variant_probe := $(hardening_compile)
variant_link_probe := $(hardening_link)
else ifeq ($(VARIANT),asan)
default_cc := clang
variant_compile := -O1 -g -DGATEWAYD_DEBUG=1 -fno-omit-frame-pointer
# vptr needs the C++ runtime, which a program linked by the C compiler has not.
variant_both := -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all
else ifeq ($(VARIANT),tsan)
default_cc := clang
variant_compile := -O1 -g -DGATEWAYD_DEBUG=1 -fno-omit-frame-pointer
variant_both := -fsanitize=thread
else ifeq ($(VARIANT),fuzz)
default_cc := clang
variant_compile := -O1 -g -DGATEWAYD_DEBUG=1 -DGATEWAYD_FUZZ=1 -fno-omit-frame-pointer
variant_both := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize=vptr -fno-sanitize-recover=all
else
$(error VARIANT=$(VARIANT) is unknown: debug, release, asan, tsan or fuzz)
endif

# CC from the environment or the command line wins; make's built-in default does not.
ifeq ($(origin CC),default)
CC := $(or $(default_cc),gcc)
CXX := $(if $(filter clang,$(CC)),clang++,g++)
endif
ifeq ($(origin AR),default)
AR := ar
endif

packages := $(shell sed -n 's/.*pkg-config: *\([a-z0-9_+.-]*\) *>=.*/\1/p' docker/packages)
package_cflags := $(filter-out -Iinclude,$(shell pkg-config --cflags $(packages)))
# Third-party libraries of each folder; a folder links its own and those of the layers below it.
libs_base := -pthread
libs_loop := $(shell pkg-config --libs libevent_core)
libs_net := $(shell pkg-config --libs openssl)
libs_ipc := $(shell pkg-config --libs msgpack-c)
libs_h1 := $(shell pkg-config --libs libllhttp)
libs_h2 := $(shell pkg-config --libs libnghttp2)
libs_h3 := $(shell pkg-config --libs libngtcp2 libngtcp2_crypto_ossl libnghttp3)
libs_ws := -lwslay $(shell pkg-config --libs zlib)
libs_config := $(shell pkg-config --libs tomlplusplus) -lstdc++

probe_key := $(shell { $(CC) --version; echo $(variant_probe) $(variant_link_probe); cat mk/probe; } | cksum | cut -d' ' -f1)
probe_file := $(OUT)/probed-$(probe_key).mk
$(probe_file): mk/probe
	@mkdir -p $(@D)
	@mk/probe "$(CC)" $(variant_probe) -- $(variant_link_probe) >$@.tmp && mv $@.tmp $@
include $(probe_file)

all_cppflags := $(defines) -Igateway $(package_cflags)
all_cflags := $(c_standard) $(warnings_c) $(werror) $(variant_compile) $(variant_both) $(probed_compile) $(CFLAGS)
all_cxxflags := $(cxx_standard) $(warnings_common) $(werror) $(variant_compile) $(variant_both) \
	$(probed_compile) $(CXXFLAGS)
all_ldflags := $(variant_both) $(probed_link) -Wl,--as-needed -pthread $(LDFLAGS)
