/* SPDX-License-Identifier: MIT */
/*
 * The counting allocator. It owns the process-wide counters and the failure injection; it knows
 * nothing of who allocates. Only this file calls malloc and its kin.
 */
#include "base/mem.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t live_count;
static _Atomic uint64_t made_count;
/* The number (in made_count's numbering) of the allocation that fails; 0 = none. */
static _Atomic uint64_t fail_at;
static _Atomic bool fail_from_then_on;

__attribute__((constructor)) static void mem_read_environment(void)
{
    const char *text = getenv("GATEWAYD_FAIL_ALLOC");
    char *end = NULL;

    if (text == NULL) {
        return;
    }
    unsigned long long n = strtoull(text, &end, 10);
    mem_fail_nth(n, end != NULL && *end == '+');
}

/* Numbers this allocation and says whether it must fail. */
static bool mem_injected(void)
{
    uint64_t number = atomic_fetch_add_explicit(&made_count, 1, memory_order_relaxed) + 1;
    uint64_t at = atomic_load_explicit(&fail_at, memory_order_relaxed);

    if (at == 0 || number < at) {
        return false;
    }
    if (number > at && !atomic_load_explicit(&fail_from_then_on, memory_order_relaxed)) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

static void *mem_counted(void *memory)
{
    if (memory != NULL) {
        atomic_fetch_add_explicit(&live_count, 1, memory_order_relaxed);
    }
    return memory;
}

void *mem_alloc(size_t size)
{
    return mem_injected() ? NULL : mem_counted(malloc(size > 0 ? size : 1));
}

void *mem_calloc(size_t count, size_t size)
{
    size_t total;

    if (mem_injected()) {
        return NULL;
    }
    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return mem_counted(calloc(1, total > 0 ? total : 1));
}

void *mem_realloc(void *old, size_t size)
{
    if (mem_injected()) {
        return NULL;
    }
    void *memory = realloc(old, size > 0 ? size : 1);
    return old == NULL ? mem_counted(memory) : memory;
}

char *mem_strndup(const char *data, size_t length)
{
    if (length == SIZE_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    char *copy = mem_alloc(length + 1);
    if (copy == NULL) {
        return NULL;
    }
    if (length > 0) {
        memcpy(copy, data, length);
    }
    copy[length] = '\0';
    return copy;
}

void mem_free(void *memory)
{
    if (memory == NULL) {
        return;
    }
    uint64_t before = atomic_fetch_sub_explicit(&live_count, 1, memory_order_relaxed);
    REQUIRE(before > 0);
    free(memory);
}

uint64_t mem_live(void)
{
    return atomic_load_explicit(&live_count, memory_order_relaxed);
}

uint64_t mem_made(void)
{
    return atomic_load_explicit(&made_count, memory_order_relaxed);
}

void mem_fail_nth(uint64_t n, int from_then_on)
{
    uint64_t made = atomic_load_explicit(&made_count, memory_order_relaxed);

    atomic_store_explicit(&fail_from_then_on, from_then_on != 0, memory_order_relaxed);
    atomic_store_explicit(&fail_at, n == 0 ? 0 : made + n, memory_order_relaxed);
}
