/* SPDX-License-Identifier: MIT */
/* The arithmetic of waiting for clients. Knows no protocol and no timer. */
#include "http/pace.h"

#include "base/clock.h"

void pace_update(struct pace *pace, uint64_t now, bool waiting, uint64_t bytes)
{
    pace->bytes += bytes;
    if (pace->since != 0 && (!waiting || bytes > 0)) {
        pace->waited += now - pace->since;
        pace->since = 0;
    }
    if (waiting && pace->since == 0) {
        pace->since = now;
    }
}

enum pace_verdict pace_judge(const struct pace *pace, uint64_t now,
                             const struct pace_limits *limits)
{
    if (pace->since == 0) {
        return PACE_FINE;
    }
    uint64_t present = now - pace->since;
    if (present >= limits->idle) {
        return PACE_IDLE;
    }
    uint64_t waited = pace->waited + present;
    bool slow = limits->rate > 0 && waited >= limits->after &&
                pace->bytes < waited / CLOCK_NS_PER_MS * limits->rate / 1000;
    return slow ? PACE_SLOW : PACE_FINE;
}
