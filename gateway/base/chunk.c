/* SPDX-License-Identifier: MIT */
/* Reference-counted blocks of bytes. No lock: a chunk belongs to one loop. */
#include "base/chunk.h"

#include "base/mem.h"

struct chunk *chunk_new(size_t capacity)
{
    REQUIRE(capacity <= UINT32_MAX);
    struct chunk *chunk = mem_alloc(sizeof(*chunk) + capacity);

    if (chunk != NULL) {
        chunk->references = 1;
        chunk->capacity = (uint32_t)capacity;
        chunk->length = 0;
    }
    return chunk;
}

struct chunk *chunk_ref(struct chunk *chunk)
{
    REQUIRE(chunk->references > 0 && chunk->references < UINT32_MAX);
    chunk->references++;
    return chunk;
}

void chunk_unref(struct chunk *chunk)
{
    if (chunk == NULL) {
        return;
    }
    REQUIRE(chunk->references > 0);
    if (--chunk->references == 0) {
        mem_free(chunk);
    }
}
