/* SPDX-License-Identifier: MIT */
/*
 * A chunk: a block of bytes with a reference count, immutable once shared. Single-threaded (a chunk
 * never leaves its loop).
 */
#ifndef GATEWAY_BASE_CHUNK_H
#define GATEWAY_BASE_CHUNK_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct chunk {
    uint32_t references;
    uint32_t capacity;
    uint32_t length; /* bytes filled; only the sole owner may append */
    uint8_t data[];
};

/* A new empty chunk with room for `capacity` bytes, owned by the caller (one reference); NULL
 * when memory is out. */
struct chunk *chunk_new(size_t capacity) MUST_CHECK;
/* One more reference; returns `chunk`. */
struct chunk *chunk_ref(struct chunk *chunk);
/* Gives one reference up; the last frees. NULL is allowed. */
void chunk_unref(struct chunk *chunk);

#endif
