/* SPDX-License-Identifier: MIT */
/* http/pressure.c: the rungs at their bounds, for budgets of any size. */
#include "check.h"

#include "http/pressure.h"

TEST(rungs_begin_at_their_shares)
{
    static const struct {
        uint64_t used;
        enum pressure level;
    } rows[] = {{0, PRESSURE_NONE},           {499, PRESSURE_NONE},
                {500, PRESSURE_NO_GROWTH},    {849, PRESSURE_NO_GROWTH},
                {850, PRESSURE_REFUSE},       {919, PRESSURE_REFUSE},
                {920, PRESSURE_CLOSE_IDLE},   {949, PRESSURE_CLOSE_IDLE},
                {950, PRESSURE_PAUSE_ACCEPT}, {1000, PRESSURE_PAUSE_ACCEPT},
                {5000, PRESSURE_PAUSE_ACCEPT}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK_EQ_INT(pressure_level(rows[i].used, 1000), rows[i].level);
        CHECK_EQ_INT(pressure_level(rows[i].used << 30, UINT64_C(1000) << 30), rows[i].level);
    }
    CHECK_EQ_INT(pressure_level(1, 1), PRESSURE_PAUSE_ACCEPT);
    CHECK_EQ_INT(pressure_level(UINT64_MAX, UINT64_MAX), PRESSURE_PAUSE_ACCEPT);
    CHECK_EQ_INT(pressure_level(UINT64_MAX / 4, UINT64_MAX), PRESSURE_NONE);
    CHECK_EQ_INT(pressure_level(UINT64_MAX / 4 * 3, UINT64_MAX), PRESSURE_NO_GROWTH);
}

TEST(rungs_have_names)
{
    CHECK_EQ_STR(pressure_name(PRESSURE_NONE), "none");
    CHECK_EQ_STR(pressure_name(PRESSURE_REFUSE), "refuse");
    CHECK_EQ_STR(pressure_name(PRESSURE_PAUSE_ACCEPT), "pause_accept");
}

CHECK_MAIN
