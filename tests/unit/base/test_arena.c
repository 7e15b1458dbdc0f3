/* SPDX-License-Identifier: MIT */
/* base/arena.c, with a walk over every failing allocation. */
#include "check.h"

#include "base/arena.h"
#include "base/mem.h"

TEST(arena_gives_aligned_memory_of_its_own)
{
    struct arena arena;
    unsigned char *blocks[64];

    arena_init(&arena, 1024);
    CHECK_EQ_INT(arena.total, 0);
    for (size_t i = 0; i < 64; i++) {
        blocks[i] = arena_alloc(&arena, i);
        CHECK(blocks[i] != NULL);
        CHECK_EQ_INT((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)i, i);
    }
    for (size_t i = 0; i < 64; i++) {
        for (size_t j = 0; j < i; j++) {
            CHECK_EQ_INT(blocks[i][j], i);
        }
    }
    CHECK(arena.total >= 64 * 63 / 2);
    arena_done(&arena);
    CHECK_EQ_INT(arena.total, 0);
}

TEST(arena_large_request_keeps_the_newest_block)
{
    struct arena arena;

    arena_init(&arena, 1024);
    char *small = arena_alloc(&arena, 16);
    char *large = arena_alloc(&arena, 100000);
    char *next = arena_alloc(&arena, 16);
    CHECK(small != NULL && large != NULL);
    memset(large, 1, 100000);
    CHECK(next == small + 16);
    arena_done(&arena);
}

TEST(arena_is_usable_after_done)
{
    uint64_t live = mem_live();
    struct arena arena;

    arena_init(&arena, 256);
    CHECK(arena_alloc(&arena, 10) != NULL);
    arena_done(&arena);
    CHECK_EQ_INT(mem_live(), live);
    CHECK(arena_alloc(&arena, 10) != NULL);
    arena_done(&arena);
    arena_done(&arena);
    CHECK_EQ_INT(mem_live(), live);
}

TEST(arena_copies_and_formats)
{
    struct arena arena;

    arena_init(&arena, 256);
    struct slice copy = arena_copy(&arena, SLICE("hello"));
    CHECK_EQ_STR(copy.data, "hello");
    CHECK_EQ_INT(copy.length, 5);
    struct slice empty = arena_copy(&arena, slice_from(NULL));
    CHECK_EQ_STR(empty.data, "");
    struct slice text = arena_format(&arena, "%s-%d-%0300d", "x", 42, 7);
    CHECK_EQ_INT(text.length, 305);
    CHECK_EQ_MEM(text.data, "x-42-000", 8);
    CHECK_EQ_INT(text.data[305], 0);
    arena_done(&arena);
}

TEST(arena_refuses_overflow)
{
    struct arena arena;
    volatile size_t huge = SIZE_MAX;

    arena_init(&arena, 256);
    CHECK(arena_alloc(&arena, huge - 3) == NULL);
    CHECK(arena_calloc(&arena, huge / 2, 4) == NULL);
    CHECK_EQ_INT(arena.total, 0);
    arena_done(&arena);
}

/* Returns how many of the four steps worked. */
static int scenario(struct arena *arena)
{
    int worked = 0;

    worked += arena_alloc(arena, 100) != NULL;
    worked += arena_calloc(arena, 10, 100) != NULL;
    worked += arena_copy(arena, SLICE("some bytes")).data != NULL;
    worked += arena_format(arena, "%0500d", 1).data != NULL;
    return worked;
}

TEST(arena_survives_each_failing_allocation)
{
    uint64_t live = mem_live();
    int worked = 0;

    for (uint64_t n = 1; worked < 4; n++) {
        struct arena arena;
        arena_init(&arena, 256);
        mem_fail_nth(n, 0);
        worked = scenario(&arena);
        mem_fail_nth(0, 0);
        CHECK(worked >= 3);
        CHECK(arena_alloc(&arena, 64) != NULL);
        arena_done(&arena);
        CHECK_EQ_INT(mem_live(), live);
        CHECK(n < 20);
    }
}

CHECK_MAIN
