/* SPDX-License-Identifier: MIT */
/*
 * The two clocks: monotonic time drives every timer; wall time is only shown (Date, logs).
 */
#ifndef GATEWAY_BASE_CLOCK_H
#define GATEWAY_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_US UINT64_C(1000)
#define CLOCK_NS_PER_MS UINT64_C(1000000)
#define CLOCK_NS_PER_S UINT64_C(1000000000)

/* Monotonic time in nanoseconds. Inside a loop callback prefer loop_now(), which is read once
 * per turn. */
static inline uint64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Wall time in nanoseconds since 1970. */
static inline uint64_t clock_wall(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

#endif
