/* SPDX-License-Identifier: MIT */
/*
 * Collects what is wrong with a configuration, as lines "file:line:column: what; what would be right", so that a person can
 * mend all of it at once. At most CONFIG_ERRORS_MAX lines are kept; the rest is only counted.
 */
#ifndef GATEWAY_CONFIG_REPORT_H
#define GATEWAY_CONFIG_REPORT_H

#include "base/check.h"
#include "base/strbuf.h"
#include "config/toml_tree.h"

struct report {
    struct strbuf *out;
    const char *file;
    unsigned count;
};

/* A complaint about the value of a node; NULL: about the file as a whole. */
void report_value(struct report *report, const struct toml_node *node, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* A complaint about the key of a node. */
void report_key(struct report *report, const struct toml_node *node, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* A complaint about a place in the file. */
void report_line(struct report *report, unsigned line, unsigned column, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* Says how many more there were. Last. */
void report_end(struct report *report);
/* "file:line:column" of a node's value, or "-o text". NUL-terminated. */
void report_place(const char *file, const struct toml_node *node, char *out, size_t size);

#endif
