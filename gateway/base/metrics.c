/* SPDX-License-Identifier: MIT */
/*
 * The metric table and the shards. A shard is pushed on a list without a lock and never taken off,
 * so that a reader can walk the list while threads come and go, and what a thread counted outlives
 * it.
 */
#include "base/metrics.h"

#include <stddef.h>

#include "base/mem.h"

#define CACHE_LINE 64

struct shard_node {
    struct shard_node *next;
    char padding_before[CACHE_LINE]; /* two threads' counters never share a cache line */
    struct metrics_shard shard;
    char padding_after[CACHE_LINE];
};

static struct metrics_shard fallback_shard;
static _Atomic(struct shard_node *) shards;

_Thread_local struct metrics_shard *metrics_here = &fallback_shard;

struct metric_row {
    const char *name;
    enum metric_kind kind;
    const char *help;
};

static const struct metric_row rows[METRIC_COUNT] = {
#define METRIC(name, kind, help) [METRIC_##name] = {#name, METRIC_KIND_##kind, help},
#include "base/metrics.def"
#undef METRIC
};

enum error metrics_register_thread(void)
{
    if (metrics_here != &fallback_shard) {
        return ERROR_NONE;
    }
    struct shard_node *node = mem_calloc(1, sizeof(*node));
    if (node == NULL) {
        return ERROR_NO_MEMORY;
    }
    node->next = atomic_load_explicit(&shards, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&shards, &node->next, node, memory_order_release,
                                                  memory_order_relaxed)) {
        /* node->next was refreshed: try again */
    }
    metrics_here = &node->shard;
    return ERROR_NONE;
}

int64_t metrics_sum(enum metric metric)
{
    REQUIRE((unsigned)metric < METRIC_COUNT);
    int64_t sum = atomic_load_explicit(&fallback_shard.values[metric], memory_order_relaxed);
    struct shard_node *node = atomic_load_explicit(&shards, memory_order_acquire);

    for (; node != NULL; node = node->next) {
        sum += atomic_load_explicit(&node->shard.values[metric], memory_order_relaxed);
    }
    return sum;
}

const char *metrics_name(enum metric metric)
{
    REQUIRE((unsigned)metric < METRIC_COUNT);
    return rows[metric].name;
}

enum metric_kind metrics_kind(enum metric metric)
{
    REQUIRE((unsigned)metric < METRIC_COUNT);
    return rows[metric].kind;
}

const char *metrics_help(enum metric metric)
{
    REQUIRE((unsigned)metric < METRIC_COUNT);
    return rows[metric].help;
}
