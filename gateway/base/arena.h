/* SPDX-License-Identifier: MIT */
/*
 * A bump allocator whose memory dies all at once: one per exchange (heads, fields, log data) and
 * per configuration. Single-threaded.
 */
#ifndef GATEWAY_BASE_ARENA_H
#define GATEWAY_BASE_ARENA_H

#include <stddef.h>

#include "base/check.h"
#include "base/slice.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t block_size;          /* of the next block; a larger request gets a block of its own */
    size_t total;               /* bytes taken from mem so far: for budgets */
};

/* Prepares an empty arena (takes no memory yet). Blocks are `block_size` bytes. */
void arena_init(struct arena *arena, size_t block_size);
/* Frees everything that came from the arena; it is empty and usable again. */
void arena_done(struct arena *arena);
/* `size` bytes aligned for any type, not cleared; NULL when memory is out. */
void *arena_alloc(struct arena *arena, size_t size) MUST_CHECK;
/* As arena_alloc, cleared. */
void *arena_calloc(struct arena *arena, size_t count, size_t size) MUST_CHECK;
/* Copies bytes (and puts a NUL behind them); on failure data is NULL and length 0. An empty
 * slice gives a non-NULL data. */
struct slice arena_copy(struct arena *arena, struct slice bytes) MUST_CHECK;
/* printf into the arena: NUL-terminated; data NULL when memory is out. */
struct slice arena_format(struct arena *arena, const char *format, ...) MUST_CHECK
    PRINTF_LIKE(2, 3);

#endif
