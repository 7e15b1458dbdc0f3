/* SPDX-License-Identifier: MIT */
/*
 * Counters and gauges. Each thread adds to a shard of its own with relaxed atomics; a reader sums
 * the shards. The table of all metrics is base/metrics.def, one row each: every limit of the
 * product has its counter there, and the rows marked LIVE are gauges of live objects, which every
 * test scenario expects to be back at zero.
 */
#ifndef GATEWAY_BASE_METRICS_H
#define GATEWAY_BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"

enum metric {
#define METRIC(name, kind, help) METRIC_##name,
#include "base/metrics.def"
#undef METRIC
    METRIC_COUNT
};

enum metric_kind {
    METRIC_KIND_COUNTER, /* only rises */
    METRIC_KIND_GAUGE,   /* a level */
    METRIC_KIND_LIVE     /* a level of live objects: zero when nothing is connected */
};

struct metrics_shard {
    _Atomic int64_t values[METRIC_COUNT];
};

/* The calling thread's shard. Before metrics_register_thread it is a shared fallback, so
 * counting is always safe. */
extern _Thread_local struct metrics_shard *metrics_here;

/* Gives the calling thread a shard of its own, which lives as long as the process. */
enum error metrics_register_thread(void) MUST_CHECK;
/* The sum of a metric over all shards. Any thread. */
int64_t metrics_sum(enum metric metric);
/* Its name in snake case ("h1_requests"), kind and help text (static strings). */
const char *metrics_name(enum metric metric);
enum metric_kind metrics_kind(enum metric metric);
const char *metrics_help(enum metric metric);

static inline void metric_add(enum metric metric, int64_t amount)
{
    atomic_fetch_add_explicit(&metrics_here->values[metric], amount, memory_order_relaxed);
}

#define METRIC_INCREMENT(name) metric_add(METRIC_##name, 1)
#define METRIC_DECREMENT(name) metric_add(METRIC_##name, -1)

#endif
