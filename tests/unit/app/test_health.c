/* SPDX-License-Identifier: MIT */
/* app/health.c: the ramp of new workers, ejection and its growing times, clogged workers. */
#include "check.h"

#include "app/health.h"

#define S CLOCK_NS_PER_S

TEST(a_new_worker_is_given_more_from_second_to_second)
{
    CHECK_EQ_INT(health_ramp(1000, 100 * S, 10 * S, 100 * S), 1);
    CHECK_EQ_INT(health_ramp(1000, 100 * S, 10 * S, 101 * S), 100);
    CHECK_EQ_INT(health_ramp(1000, 100 * S, 10 * S, 105 * S), 500);
    CHECK_EQ_INT(health_ramp(1000, 100 * S, 10 * S, 110 * S), 1000);
    CHECK_EQ_INT(health_ramp(1000, 100 * S, 10 * S, 1000 * S), 1000);
    CHECK_EQ_INT(health_ramp(1, 100 * S, 10 * S, 100 * S), 1);
    CHECK_EQ_INT(health_ramp(4, 100 * S, 10 * S, 104 * S), 2);
    CHECK_EQ_INT(health_ramp(1000, 100 * S, 10 * S, 99 * S),
                 1); /* another loop's clock was read a moment ago */
    CHECK_EQ_INT(health_ramp(UINT32_MAX, 100 * S, 10 * S, 105 * S), UINT32_MAX / 2 + 1);
    CHECK_EQ_INT(health_ramp(1000, 100 * S, 0, 100 * S), 1000); /* off */
    CHECK(health_is_ramping(100 * S, 10 * S, 109 * S));
    CHECK(!health_is_ramping(100 * S, 10 * S, 110 * S));
}

TEST(five_failures_in_a_row_eject)
{
    struct health health = {0};
    for (unsigned i = 1; i < HEALTH_FAILURES; i++) {
        CHECK(!health_failed(&health, i * S, true));
    }
    CHECK(!health_is_ejected(&health, 5 * S));
    CHECK(health_failed(&health, 5 * S, true));
    CHECK(health_is_ejected(&health, 5 * S));
    CHECK(health_is_ejected(&health, 15 * S - 1));
    CHECK(!health_is_ejected(&health, 15 * S));
}

TEST(success_breaks_the_row)
{
    struct health health = {0};
    for (unsigned i = 0; i < 100; i++) {
        CHECK(!health_failed(&health, i * S, true));
        if (i % 4 == 3) {
            health_succeeded(&health);
        }
    }
    CHECK_EQ_INT(health.ejections, 0);
}

TEST(each_ejection_is_longer)
{
    struct health health = {0};
    uint64_t now = S;
    for (uint64_t times = 1; times <= 4; times++) {
        for (unsigned i = 1; i < HEALTH_FAILURES; i++) {
            CHECK(!health_failed(&health, now, true));
        }
        CHECK(health_failed(&health, now, true));
        CHECK_EQ_INT(health.until, now + times * 10 * S);
        CHECK(!health_failed(&health, now, true)); /* what was under way to it fails too */
        now = health.until;
        health_succeeded(&health);
    }
}

TEST(the_last_one_is_not_ejected)
{
    struct health health = {0};
    for (unsigned i = 0; i < 50; i++) {
        CHECK(!health_failed(&health, S, false));
    }
    CHECK(!health_is_ejected(&health, S));
    CHECK(health_failed(&health, S, true)); /* but as soon as another one is there */
}

TEST(a_record_is_taken_over)
{
    struct health before = {0}, after = {0};
    for (unsigned i = 0; i < HEALTH_FAILURES; i++) {
        (void)health_failed(&before, S, true);
    }
    (void)health_failed(&before, S, true);
    health_copy(&after, &before);
    CHECK_EQ_INT(after.failures, 1);
    CHECK_EQ_INT(after.ejections, 1);
    CHECK(health_is_ejected(&after, 2 * S));
}

TEST(half_of_the_capacity_is_too_many)
{
    CHECK(!health_is_clogged(0, 1));
    CHECK(health_is_clogged(1, 1));
    CHECK(health_is_clogged(1, 2));
    CHECK(!health_is_clogged(1, 3));
    CHECK(health_is_clogged(2, 3));
    CHECK(!health_is_clogged(499, 1000));
    CHECK(health_is_clogged(500, 1000));
}

CHECK_MAIN
