/* SPDX-License-Identifier: MIT */
/*
 * The bump allocator. It owns its blocks; the newest block is the one that is being filled, and a
 * request that is larger than a block gets a block of its own behind it, so that the room in the
 * newest one is not lost.
 */
#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "base/mem.h"

#define ARENA_ALIGNMENT alignof(max_align_t)

struct arena_block {
    struct arena_block *next;
    size_t used, capacity; /* of bytes[] */
    alignas(max_align_t) unsigned char bytes[];
};

void arena_init(struct arena *arena, size_t block_size)
{
    REQUIRE(block_size >= 2 * sizeof(struct arena_block));
    *arena = (struct arena){.block_size = block_size};
}

void arena_done(struct arena *arena)
{
    struct arena_block *block = arena->blocks;

    while (block != NULL) {
        struct arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
    arena->blocks = NULL;
    arena->total = 0;
}

/* A new block for `size` bytes, linked in; NULL when memory is out. */
static struct arena_block *arena_grow(struct arena *arena, size_t size)
{
    size_t usual = arena->block_size - sizeof(struct arena_block);
    size_t capacity = size > usual ? size : usual;
    struct arena_block *block = mem_alloc(sizeof(*block) + capacity);

    if (block == NULL) {
        return NULL;
    }
    block->used = 0;
    block->capacity = capacity;
    arena->total += sizeof(*block) + capacity;
    if (size > usual && arena->blocks != NULL) {
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
    }
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    /* Never zero bytes: each result is a pointer of its own. */
    size = size > 0 ? (size + ARENA_ALIGNMENT - 1) & ~(ARENA_ALIGNMENT - 1) : ARENA_ALIGNMENT;
    struct arena_block *block = arena->blocks;
    if (block == NULL || block->capacity - block->used < size) {
        block = arena_grow(arena, size);
        if (block == NULL) {
            return NULL;
        }
    }
    void *memory = block->bytes + block->used;
    block->used += size;
    return memory;
}

void *arena_calloc(struct arena *arena, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total)) {
        return NULL;
    }
    void *memory = arena_alloc(arena, total);
    if (memory != NULL) {
        memset(memory, 0, total);
    }
    return memory;
}

struct slice arena_copy(struct arena *arena, struct slice bytes)
{
    char *copy = bytes.length < SIZE_MAX ? arena_alloc(arena, bytes.length + 1) : NULL;

    if (copy == NULL) {
        return (struct slice){NULL, 0};
    }
    if (bytes.length > 0) {
        memcpy(copy, bytes.data, bytes.length);
    }
    copy[bytes.length] = '\0';
    return (struct slice){copy, bytes.length};
}

struct slice arena_format(struct arena *arena, const char *format, ...)
{
    va_list arguments;
    char *text = NULL;

    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length >= 0) {
        text = arena_alloc(arena, (size_t)length + 1);
    }
    if (text == NULL) {
        return (struct slice){NULL, 0};
    }
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return (struct slice){text, (size_t)length};
}
