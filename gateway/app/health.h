/* SPDX-License-Identifier: MIT */
/*
 * What the gateway holds of a worker's health beyond its answers to PING: how much it may be given while it is new, and whether it is
 * left out for a while because it failed again and again. Numbers and times only. Any loop, by atomics.
 */
#ifndef GATEWAY_APP_HEALTH_H
#define GATEWAY_APP_HEALTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define HEALTH_FAILURES 5u /* so many in a row eject */
#define HEALTH_EJECTION (10 * CLOCK_NS_PER_S)

/* Failures of the worker itself: lost, against the protocol, a start that did not come about. An app's own 500s are none. */
struct health {
    _Atomic uint32_t failures;  /* in a row */
    _Atomic uint32_t ejections; /* so far */
    _Atomic uint64_t until;     /* ejected until then; 0: never was */
};

/* One more failure. True: that was one too many, and it is ejected from now on, each time 10 s longer. `spare`: it may be; the last worker is
 * not. */
bool health_failed(struct health *health, uint64_t now, bool spare);
/* A request that went well: the row is broken. */
void health_succeeded(struct health *health);
static inline bool health_is_ejected(const struct health *health, uint64_t now)
{
    return now < atomic_load_explicit(&health->until, memory_order_relaxed);
}
/* Another connection of the same process takes its record over. */
void health_copy(struct health *to, const struct health *from);

/* Whether a worker that became ready at `ready_at` is still new. */
static inline bool health_is_ramping(uint64_t ready_at, uint64_t slow_start, uint64_t now)
{
    return now < ready_at + slow_start;
}
/* How many slots of `capacity` it is given meanwhile: from 1 on, linearly. */
uint32_t health_ramp(uint32_t capacity, uint64_t ready_at, uint64_t slow_start, uint64_t now);
/* Whether so many streams that the gateway has ended and the worker has not are too many for its capacity. */
static inline bool health_is_clogged(uint32_t abandoned, uint32_t capacity)
{
    return abandoned > 0 && abandoned >= capacity - capacity / 2;
}

#endif
