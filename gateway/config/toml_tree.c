/* SPDX-License-Identifier: MIT */
/*
 * The tree's helpers, and overrides: a path of keys and indices, made as far as it is missing, with a value in TOML or, where that
 * is no TOML, the bare text (so that `-o log.level=debug` needs no quotes through a shell).
 */
#include "config/toml_tree.h"

#include <stdio.h>

#include "config/toml_reader.h"

struct toml_node *toml_node_new(struct arena *arena, enum toml_kind kind)
{
    struct toml_node *node = arena_calloc(arena, 1, sizeof(*node));

    if (node != NULL) {
        node->kind = kind;
    }
    return node;
}

void toml_node_append(struct toml_node *parent, struct toml_node *child)
{
    REQUIRE(parent->kind == TOML_KIND_TABLE || parent->kind == TOML_KIND_ARRAY);
    child->next = NULL;
    if (parent->last != NULL) {
        parent->last->next = child;
    } else {
        parent->first = child;
    }
    parent->last = child;
    parent->count++;
}

struct toml_node *toml_find(const struct toml_node *table, struct slice key)
{
    if (table == NULL || table->kind != TOML_KIND_TABLE) {
        return NULL;
    }
    for (struct toml_node *node = table->first; node != NULL; node = node->next) {
        if (slice_equal(node->key, key)) {
            return node;
        }
    }
    return NULL;
}

struct toml_node *toml_at(const struct toml_node *array, size_t index)
{
    struct toml_node *node = array != NULL && array->kind == TOML_KIND_ARRAY ? array->first : NULL;

    while (node != NULL && index > 0) {
        node = node->next;
        index--;
    }
    return node;
}

const char *toml_kind_text(enum toml_kind kind)
{
    static const char *const texts[] = {
        [TOML_KIND_TABLE] = "a table",
        [TOML_KIND_ARRAY] = "an array",
        [TOML_KIND_STRING] = "a string",
        [TOML_KIND_INTEGER] = "a whole number",
        [TOML_KIND_FLOAT] = "a floating-point number",
        [TOML_KIND_BOOLEAN] = "a boolean",
        [TOML_KIND_TIME] = "a date or time",
    };

    REQUIRE((unsigned)kind < sizeof(texts) / sizeof(texts[0]));
    return texts[kind];
}

/* --- paths ---------------------------------------------------------------------------------------------------------- */

/* One step of a path: ".key" or "[index]". */
struct step {
    struct slice key;
    size_t index;
    bool is_index;
};

/* Takes the next step off `path`; false when it is not well-formed. */
static bool take_step(struct slice *path, bool first, struct step *step)
{
    size_t length = 0;
    unsigned long long index;

    if (path->length > 0 && path->data[0] == '[') {
        struct slice rest;
        struct slice number =
            slice_cut((struct slice){path->data + 1, path->length - 1}, ']', &rest);
        if (rest.data == NULL || !slice_to_uint(number, 9999, &index)) {
            return false;
        }
        *step = (struct step){.index = (size_t)index, .is_index = true};
        *path = rest;
        return true;
    }
    if (!first) {
        if (path->length == 0 || path->data[0] != '.') {
            return false;
        }
        path->data++;
        path->length--;
    }
    while (length < path->length && path->data[length] != '.' && path->data[length] != '[') {
        length++;
    }
    *step = (struct step){.key = {path->data, length}};
    path->data += length;
    path->length -= length;
    return length > 0;
}

const struct toml_node *toml_walk(const struct toml_node *root, struct slice path)
{
    const struct toml_node *node = root;
    struct step step;

    for (bool first = true; path.length > 0 && take_step(&path, first, &step); first = false) {
        const struct toml_node *child =
            step.is_index ? toml_at(node, step.index) : toml_find(node, step.key);
        if (child == NULL) {
            break;
        }
        node = child;
    }
    return node;
}

/* --- overrides ------------------------------------------------------------------------------------------------------ */

static void mark(struct toml_node *node, const char *override)
{
    node->from_override = override;
    for (struct toml_node *child = node->first; child != NULL; child = child->next) {
        mark(child, override);
    }
}

/* The value as TOML, else as a bare string. */
static enum error read_value(struct arena *arena, struct slice value, struct toml_node **ret_value)
{
    struct slice text = arena_format(arena, "v = %.*s\n", SLICE_PRINT(value));
    struct toml_node *root;
    struct toml_fault fault;

    if (text.data == NULL) {
        return ERROR_NO_MEMORY;
    }
    enum error error = toml_read(arena, text, &root, &fault);
    if (error == ERROR_NO_MEMORY) {
        return error;
    }
    if (error == ERROR_NONE && root->count == 1) {
        *ret_value = root->first;
        return ERROR_NONE;
    }
    *ret_value = toml_node_new(arena, TOML_KIND_STRING);
    if (*ret_value == NULL) {
        return ERROR_NO_MEMORY;
    }
    (*ret_value)->string = arena_copy(arena, value);
    return (*ret_value)->string.data != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
}

/* Writes `value` over `node`, which keeps its key and its place among its siblings. */
static void replace(struct toml_node *node, const struct toml_node *value)
{
    struct slice key = node->key;
    struct toml_node *next = node->next;

    *node = *value;
    node->key = key;
    node->next = next;
}

/* The child that a step names, made when it is missing: an empty table, or an array when an index follows. */
static enum error descend(struct arena *arena, struct toml_node *node, const struct step *step,
                          bool array_follows, struct toml_node **ret_child)
{
    enum toml_kind wanted = step->is_index ? TOML_KIND_ARRAY : TOML_KIND_TABLE;

    if (node->kind != wanted) {
        return ERROR_INVALID;
    }
    struct toml_node *child =
        step->is_index ? toml_at(node, step->index) : toml_find(node, step->key);
    if (child == NULL) {
        if (step->is_index && step->index != node->count) {
            return ERROR_INVALID;
        }
        child = toml_node_new(arena, array_follows ? TOML_KIND_ARRAY : TOML_KIND_TABLE);
        if (child == NULL) {
            return ERROR_NO_MEMORY;
        }
        child->key = arena_copy(arena, step->key);
        if (child->key.data == NULL) {
            return ERROR_NO_MEMORY;
        }
        toml_node_append(node, child);
    }
    *ret_child = child;
    return ERROR_NONE;
}

enum error toml_override(struct arena *arena, struct toml_node *root, const char *override,
                         char *text, size_t text_size)
{
    struct slice value;
    struct slice path = slice_trim(slice_cut(slice_from(override), '=', &value));
    struct toml_node *node = root, *parsed;
    struct step step;

    if (value.data == NULL || path.length == 0) {
        snprintf(text, text_size, "it has no value; write section.key=value");
        return ERROR_INVALID;
    }
    for (bool first = true; path.length > 0; first = false) {
        if (!take_step(&path, first, &step)) {
            snprintf(text, text_size,
                     "the name is malformed; write section.key=value or section[0].key=value");
            return ERROR_INVALID;
        }
        bool array_follows = path.length > 0 && path.data[0] == '[';
        enum error error = descend(arena, node, &step, array_follows, &node);
        if (error == ERROR_INVALID) {
            snprintf(text, text_size,
                     "%s; write section.key=value for a table and section[0].key=value for a list, "
                     "whose next element is [%zu]",
                     step.is_index ? "there is no such element" : "the key is not in a table",
                     node->kind == TOML_KIND_ARRAY ? node->count : 0);
        }
        if (error != ERROR_NONE) {
            return error;
        }
        node->from_override = node->line == 0 ? override : node->from_override;
    }
    enum error error = read_value(arena, slice_trim(value), &parsed);
    if (error == ERROR_NONE) {
        replace(node, parsed);
        mark(node, override);
    }
    return error;
}
