/* SPDX-License-Identifier: MIT */
/*
 * The C face of toml++, whose C++ stays in toml_reader.cc.
 */
#ifndef GATEWAY_CONFIG_TOML_READER_H
#define GATEWAY_CONFIG_TOML_READER_H

#include "config/toml_tree.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Why and where a text is no TOML. */
struct toml_fault {
    unsigned line, column;
    char text[256];
};

/* Parses a TOML 1.0 document into nodes of `arena`. ERROR_INVALID: *ret_fault says why. ERROR_NO_MEMORY. No C++ exception leaves it. */
enum error toml_read(struct arena *arena, struct slice text, struct toml_node **ret_root,
                     struct toml_fault *ret_fault) MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
