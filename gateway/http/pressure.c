/* SPDX-License-Identifier: MIT */
/* The rungs of the overload ladder. */
#include "http/pressure.h"

#include "base/check.h"

enum pressure pressure_level(uint64_t used, uint64_t budget)
{
    REQUIRE(budget > 0);
    /* In thousandths, so that a budget of any size does not overflow. */
    uint64_t share = used >= budget ? 1000 : (uint64_t)((double)used * 1000.0 / (double)budget);
    if (share >= 950) {
        return PRESSURE_PAUSE_ACCEPT;
    }
    if (share >= 920) {
        return PRESSURE_CLOSE_IDLE;
    }
    if (share >= 850) {
        return PRESSURE_REFUSE;
    }
    return share >= 500 ? PRESSURE_NO_GROWTH : PRESSURE_NONE;
}

const char *pressure_name(enum pressure level)
{
    static const char *const names[] = {"none", "no_growth", "refuse", "close_idle",
                                        "pause_accept"};
    REQUIRE((unsigned)level < sizeof names / sizeof names[0]);
    return names[level];
}
