/* SPDX-License-Identifier: MIT */
/*
 * A TOML document as a tree of plain nodes with their places, and the -o overrides written into it. Nodes live in an arena.
 * It knows TOML's types and nothing of options.
 */
#ifndef GATEWAY_CONFIG_TOML_TREE_H
#define GATEWAY_CONFIG_TOML_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"

enum toml_kind {
    TOML_KIND_TABLE,
    TOML_KIND_ARRAY,
    TOML_KIND_STRING,
    TOML_KIND_INTEGER,
    TOML_KIND_FLOAT,
    TOML_KIND_BOOLEAN,
    TOML_KIND_TIME /* the four date and time types, which no option takes */
};

struct toml_node {
    enum toml_kind kind;
    struct slice key;              /* in its table; empty in an array */
    unsigned key_line, key_column; /* of the key; 0 when there is none */
    unsigned line, column;         /* of the value */
    const char *from_override; /* the text of the -o that set it, or NULL: it stands in the file */
    struct slice string;       /* TOML_KIND_STRING, NUL-terminated */
    int64_t integer;
    double number;
    bool boolean;
    struct toml_node *first, *last; /* children of a table or an array, in the order of the file */
    struct toml_node *next;
    size_t count;
};

/* A new empty node, NULL when memory is out. */
struct toml_node *toml_node_new(struct arena *arena, enum toml_kind kind) MUST_CHECK;
/* Adds `child` behind the others. */
void toml_node_append(struct toml_node *parent, struct toml_node *child);
/* The entry of a table, or NULL. */
struct toml_node *toml_find(const struct toml_node *table, struct slice key);
/* The i-th element, or NULL. */
struct toml_node *toml_at(const struct toml_node *array, size_t index);
/* "a table", "a string" ...: for error texts. */
const char *toml_kind_text(enum toml_kind kind);

/* Walks a path such as "listen[1].bind" as far as it exists: the deepest node found, never NULL. */
const struct toml_node *toml_walk(const struct toml_node *root, struct slice path);
/* Writes one override "path=value" into the tree, making tables and the next element of an array as needed. ERROR_INVALID:
 * `text` says what is wrong with it. */
enum error toml_override(struct arena *arena, struct toml_node *root, const char *override,
                         char *text, size_t text_size) MUST_CHECK;

#endif
