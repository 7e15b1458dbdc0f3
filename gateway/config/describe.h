/* SPDX-License-Identifier: MIT */
/*
 * The words about options that people read: comments in TOML, conf/gateway.toml, and the reference in docs/. Internal to config/
 * and to the generator (tests/lint).
 */
#ifndef GATEWAY_CONFIG_DESCRIBE_H
#define GATEWAY_CONFIG_DESCRIBE_H

#include "base/strbuf.h"

struct option;

/* The option's sentence, range, default, breach and metric as TOML comment lines. */
void describe_option_comment(const struct option *option, struct strbuf *out);
/* conf/gateway.toml: every option with its default, commented out where the default says it. */
void describe_example(struct strbuf *out);
/* docs/CONFIGURATION.md. */
void describe_reference(struct strbuf *out);

#endif
