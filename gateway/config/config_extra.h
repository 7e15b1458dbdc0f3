/* SPDX-License-Identifier: MIT */
/*
 * What a configuration keeps for config/ itself: places of options, and lists as they were written. Internal to config/.
 */
#ifndef GATEWAY_CONFIG_CONFIG_EXTRA_H
#define GATEWAY_CONFIG_CONFIG_EXTRA_H

#include "config/config.h"
#include "config/toml_tree.h"

struct config_extra {
    const char *file; /* its name in complaints */
    const struct toml_node *tree;
    const struct slice *trusted_text; /* [proxy_headers] trusted, trusted_count of them */
};

/* While a configuration is being made it is still writable. */
struct config_extra *config_extra_of(struct config *config);

struct option_reader;

/* Reads every section of the tree into the configuration, with complaints to the reader's report (config_sections.c). */
void config_read_sections(struct option_reader *reader, const struct toml_node *tree);
/* What no single option can know: contradictions, duplicates, what is missing altogether (config_check.c). */
void config_check(struct option_reader *reader, const struct toml_node *tree);

#endif
