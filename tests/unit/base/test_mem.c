/* SPDX-License-Identifier: MIT */
/* base/mem.c: the counts and the failure injection that every other failure walk relies on. */
#include "check.h"

#include <pthread.h>

#include "base/mem.h"

TEST(mem_counts_what_lives)
{
    uint64_t live = mem_live();
    uint64_t made = mem_made();
    void *a = mem_alloc(10);
    void *b = mem_calloc(3, 4);
    char *c = mem_strndup("abcdef", 3);

    CHECK(a != NULL && b != NULL);
    CHECK_EQ_STR(c, "abc");
    CHECK_EQ_MEM(b, "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
    CHECK_EQ_INT(mem_live(), live + 3);
    a = mem_realloc(a, 1000);
    CHECK(a != NULL);
    CHECK_EQ_INT(mem_live(), live + 3);
    CHECK_EQ_INT(mem_made(), made + 4);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(NULL);
    CHECK_EQ_INT(mem_live(), live);
}

TEST(mem_realloc_of_null_is_alloc)
{
    uint64_t live = mem_live();
    void *memory = mem_realloc(NULL, 5);

    CHECK(memory != NULL);
    CHECK_EQ_INT(mem_live(), live + 1);
    mem_free(memory);
}

TEST(mem_zero_bytes_are_a_pointer)
{
    void *a = mem_alloc(0);
    void *b = mem_calloc(0, 8);

    CHECK(a != NULL && b != NULL);
    a = mem_realloc(a, 0);
    CHECK(a != NULL);
    mem_free(a);
    mem_free(b);
}

TEST(mem_calloc_refuses_overflow)
{
    volatile size_t huge = SIZE_MAX / 2;
    uint64_t live = mem_live();

    CHECK(mem_calloc(huge, 3) == NULL);
    CHECK_EQ_INT(mem_live(), live);
}

TEST(mem_fails_the_nth_once)
{
    mem_fail_nth(2, 0);
    void *a = mem_alloc(1);
    void *b = mem_alloc(1);
    void *c = mem_alloc(1);

    mem_fail_nth(0, 0);
    CHECK(a != NULL);
    CHECK(b == NULL);
    CHECK(c != NULL);
    mem_free(a);
    mem_free(c);
}

TEST(mem_fails_from_then_on)
{
    char *kept = mem_strndup("kept", 4);

    mem_fail_nth(1, 1);
    void *a = mem_alloc(1);
    void *b = mem_realloc(kept, 100);
    mem_fail_nth(0, 0);
    void *c = mem_alloc(1);
    CHECK(a == NULL);
    CHECK(b == NULL);
    CHECK(c != NULL);
    CHECK_EQ_STR(kept, "kept");
    mem_free(kept);
    mem_free(c);
}

static void *churn(void *unused)
{
    for (int i = 0; i < 2000; i++) {
        void *memory = mem_alloc(16);
        mem_free(memory);
    }
    return unused;
}

TEST(mem_counts_across_threads)
{
    pthread_t threads[4];
    uint64_t live = mem_live();
    uint64_t made = mem_made();

    for (int i = 0; i < 4; i++) {
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, churn, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ_INT(mem_live(), live);
    CHECK_EQ_INT(mem_made(), made + 8000);
}

CHECK_MAIN
