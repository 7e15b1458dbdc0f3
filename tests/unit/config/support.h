/* SPDX-License-Identifier: MIT */
/* What the tests of config/ share: loading text, and what it said. */
#ifndef TESTS_UNIT_CONFIG_SUPPORT_H
#define TESTS_UNIT_CONFIG_SUPPORT_H

#include "base/strbuf.h"
#include "config/config.h"

/* What every configuration needs; goes behind the text under test, so that its lines keep their numbers. */
#define MINIMAL "\n[[listen]]\nbind = \"127.0.0.1:8080\"\n[apps.main]\n"

/* Loads text as "t.toml" in /nonexistent, with up to four overrides (NULL-terminated list, may be NULL); complaints go to `errors`. */
enum error load_text(const char *text, const char *const *overrides, struct config **ret_config,
                     struct strbuf *errors);
/* The same, for text that must be right: prints the complaints and fails the test otherwise. */
struct config *load_good(const char *text, const char *const *overrides);

#endif
