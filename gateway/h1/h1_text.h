/* SPDX-License-Identifier: MIT */
/*
 * A builder of many small strings in an arena whose bytes arrive in pieces: the token under construction is contiguous and moves
 * when its region is full; finished tokens stay where they are.
 */
#ifndef GATEWAY_H1_H1_TEXT_H
#define GATEWAY_H1_H1_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"

struct h1_text {
    struct arena *arena;
    char *data;
    size_t used, capacity;
    size_t token; /* where the token under construction begins */
};

/* Starts with an empty token; memory comes from `arena`. */
void h1_text_init(struct h1_text *text, struct arena *arena);
/* Appends to the token; false when memory is out. */
bool h1_text_append(struct h1_text *text, const char *bytes, size_t length) MUST_CHECK;
/* The same with ASCII capitals in lower case. */
bool h1_text_append_lower(struct h1_text *text, const char *bytes, size_t length) MUST_CHECK;
/* The token so far; valid until the next append. */
struct slice h1_text_token(const struct h1_text *text);
/* Finishes the token and returns it; it lives as long as the arena. */
struct slice h1_text_finish(struct h1_text *text);
/* Forgets the token. */
void h1_text_drop(struct h1_text *text);

#endif
