/* SPDX-License-Identifier: MIT */
/* Ejection and slow start as arithmetic. It must not know workers. */
#include "app/health.h"

bool health_failed(struct health *health, uint64_t now, bool spare)
{
    uint32_t row = atomic_fetch_add_explicit(&health->failures, 1, memory_order_relaxed) + 1;
    if (row < HEALTH_FAILURES || !spare || health_is_ejected(health, now)) {
        return false;
    }
    uint32_t times = atomic_fetch_add_explicit(&health->ejections, 1, memory_order_relaxed) + 1;
    atomic_store_explicit(&health->failures, 0, memory_order_relaxed);
    atomic_store_explicit(&health->until, now + times * HEALTH_EJECTION, memory_order_relaxed);
    return true;
}

void health_succeeded(struct health *health)
{
    if (atomic_load_explicit(&health->failures, memory_order_relaxed) > 0) {
        atomic_store_explicit(&health->failures, 0, memory_order_relaxed);
    }
}

void health_copy(struct health *to, const struct health *from)
{
    atomic_store(&to->failures, atomic_load(&from->failures));
    atomic_store(&to->ejections, atomic_load(&from->ejections));
    atomic_store(&to->until, atomic_load(&from->until));
}

uint32_t health_ramp(uint32_t capacity, uint64_t ready_at, uint64_t slow_start, uint64_t now)
{
    if (!health_is_ramping(ready_at, slow_start, now)) {
        return capacity;
    }
    uint64_t age = now > ready_at ? now - ready_at : 0;
    double share = (double)age / (double)slow_start;
    return 1 + (uint32_t)((double)(capacity - 1) * share);
}
