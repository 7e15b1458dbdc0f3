# SPDX-License-Identifier: MIT
# Archives, programs, unit tests and fuzz targets of one variant, in $(OUT). Sources are found by wildcard: a new file needs no line
# here. Every object depends on its headers (-MMD -MP) and on the flags it was made with ($(OUT)/flags).

include mk/flags.mk

# The layers, upper first, each before what it may include (docs/ARCHITECTURE.md): also the order on the linker's command line.
folders := admin config app h1 h2 h3 ws ipc http net loop base
below_base :=
below_loop := base
below_net := loop base
below_http := loop base
below_ipc := net loop base
below_ws := http loop base
below_h1 := http net loop base
below_h2 := http net loop base
below_h3 := http net loop base
# Tests of QUIC alone: those of h3 put a connection of their own in its place.
below_quic := h3 http net loop base
below_app := ws ipc http net loop base
below_config := app h1 h2 h3 ws ipc http net loop base
below_admin := app h1 h2 h3 ws ipc http net loop base
below_ctl := base
below_main := $(folders)
below_fuzz := $(folders)
below_vectors := ipc net loop base

present = $(foreach f,$(1),$(if $(wildcard gateway/$(f)/*.c),$(f)))
archives = $(foreach f,$(call present,$(1)),$(OUT)/lib$(f).a)
libraries = $(foreach f,$(call present,$(1)),$(libs_$(f))) $(libs_base)
objects = $(patsubst %,$(OUT)/obj/%.o,$(1))

sources_of = $(sort $(wildcard gateway/$(1)/*.c gateway/$(1)/*.cc))
main_objects := $(call objects,$(sort $(wildcard gateway/*.c)))
ctl_objects := $(call objects,$(sort $(wildcard gateway/ctl/*.c)))
programs := $(if $(wildcard gateway/main.c),$(OUT)/gatewayd) $(if $(ctl_objects),$(OUT)/gatewayctl)

# A changed flag, compiler or archive member set rebuilds: the stamps are rewritten only when their text differs.
flags_text := $(CC) $(CXX) $(all_cppflags) $(all_cflags) $(all_cxxflags) $(all_ldflags)
write_if_changed = $(shell mkdir -p $(dir $(1)); printf '%s\n' '$(subst ','\'',$(2))' | cmp -s - $(1) || \
	printf '%s\n' '$(subst ','\'',$(2))' >$(1))
$(call write_if_changed,$(OUT)/flags,$(flags_text))

$(OUT)/obj/%.c.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	$(call show,CC,$<)$(CC) $(all_cppflags) $(extra_includes) $(all_cflags) -MMD -MP -c $< -o $@

$(OUT)/obj/%.cc.o: %.cc $(OUT)/flags
	@mkdir -p $(@D)
	$(call show,CXX,$<)$(CXX) $(all_cppflags) $(all_cxxflags) -MMD -MP -c $< -o $@

define archive_rule
$(call write_if_changed,$(OUT)/lib$(1).members,$(call sources_of,$(1)))
$(OUT)/lib$(1).a: $(call objects,$(call sources_of,$(1))) $(OUT)/lib$(1).members
	$$(call show,AR,$$@)rm -f $$@ && $(AR) rcs $$@ $$(filter %.o,$$^)
endef
$(foreach f,$(call present,$(folders)),$(eval $(call archive_rule,$(f))))

$(OUT)/gatewayd: $(main_objects) $(call archives,$(below_main))
	$(call show,LINK,$@)$(CC) $(all_ldflags) $^ $(call libraries,$(below_main)) -o $@

$(OUT)/gatewayctl: $(ctl_objects) $(call archives,$(below_ctl))
	$(call show,LINK,$@)$(CC) $(all_ldflags) $^ $(call libraries,$(below_ctl)) -o $@

# Unit tests: tests/unit/<folder>/test_*.c is one program each, linked with the folder's archive and those below; other .c files in
# tests/unit/<folder> are helpers, linked into each of them. tests/vectors/test_*.c likewise (they drive ipc).
test_sources := $(sort $(wildcard tests/unit/*/test_*.c))
test_folders := $(sort $(foreach t,$(test_sources),$(notdir $(patsubst %/,%,$(dir $(t))))))
test_program = $(patsubst %.c,$(OUT)/%,$(1))
programs_of = $(call test_program,$(sort $(wildcard tests/unit/$(1)/test_*.c)))
helpers_of = $(call objects,$(filter-out tests/unit/$(1)/test_%.c,$(sort $(wildcard tests/unit/$(1)/*.c))))
vector_programs := $(call test_program,$(sort $(wildcard tests/vectors/test_*.c)))
vector_helpers := $(call objects,$(filter-out tests/vectors/test_%.c,$(sort $(wildcard tests/vectors/*.c))))

$(OUT)/obj/tests/%.o: extra_includes = -Itests/unit -Itests
define test_rule
$(call programs_of,$(1)): $(OUT)/tests/unit/$(1)/%: $(OUT)/obj/tests/unit/$(1)/%.c.o $(call helpers_of,$(1)) $(call archives,$(1) $(below_$(1)))
	@mkdir -p $$(@D)
	$$(call show,LINK,$$@)$(CC) $(all_ldflags) $$^ $(call libraries,$(1) $(below_$(1))) -o $$@
endef
$(foreach f,$(test_folders),$(eval $(call test_rule,$(f))))

$(vector_programs): $(OUT)/tests/vectors/%: $(OUT)/obj/tests/vectors/%.c.o $(vector_helpers) $(call archives,$(below_vectors))
	@mkdir -p $(@D)
	$(call show,LINK,$@)$(CC) $(all_ldflags) $^ $(call libraries,$(below_vectors)) -o $@

# Fuzz targets: tests/fuzz/fuzz_*.c, one program each; other .c files there are helpers.
fuzz_sources := $(sort $(wildcard tests/fuzz/fuzz_*.c))
fuzz_programs := $(patsubst tests/fuzz/%.c,$(OUT)/%,$(fuzz_sources))
fuzz_helpers := $(call objects,$(filter-out tests/fuzz/fuzz_%.c,$(sort $(wildcard tests/fuzz/*.c))))
$(fuzz_programs): $(OUT)/%: $(OUT)/obj/tests/fuzz/%.c.o $(fuzz_helpers) $(call archives,$(below_fuzz))
	$(call show,LINK,$@)$(CC) $(all_ldflags) -fsanitize=fuzzer $^ $(call libraries,$(below_fuzz)) -o $@

# The load generator of `make bench`.
$(OUT)/h3load: $(call objects,tests/bench/h3load.c)
	$(call show,LINK,$@)$(CC) $(all_ldflags) $^ $(libs_h3) $(libs_net) -o $@

all_test_sources := $(test_sources) $(wildcard tests/unit/*/*.c tests/vectors/*.c tests/fuzz/*.c)
-include $(patsubst %.o,%.d,$(main_objects) $(ctl_objects) $(foreach f,$(folders),$(call objects,$(call sources_of,$(f)))) \
	$(call objects,$(sort $(all_test_sources))))
.SECONDARY:
