/* SPDX-License-Identifier: MIT */
/* loop/loop_timer.c: the heap against a model, order, moving, clearing, and timers that set
 * themselves. */
#include "check.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "loop/loop_state.h"

#define MANY 500

static struct loop *loop;
static struct loop_timer timers[MANY];
static uint64_t last_at;
static uint64_t expected_at[MANY];
static size_t fired;

static void open_loop(void)
{
    struct loop_settings settings = {64, 500};

    loop = loop_new(0, &settings);
    CHECK(loop != NULL);
    fired = 0;
    last_at = 0;
    memset(timers, 0, sizeof(timers));
}

static void check_heap(void)
{
    for (size_t i = 0; i < loop->heap_length; i++) {
        CHECK_EQ_INT(loop->heap[i]->index, i);
        CHECK(i == 0 || loop->heap[(i - 1) / 2]->at <= loop->heap[i]->at);
    }
}

static void on_timer(struct loop_timer *timer)
{
    size_t index = (size_t)(timer - timers);

    CHECK(!loop_timer_is_set(timer));
    CHECK(expected_at[index] >= last_at);
    CHECK(loop_now(loop) >= expected_at[index]);
    last_at = expected_at[index];
    expected_at[index] = 0;
    fired++;
    if (loop->heap_length == 0) {
        loop_stop(loop);
    }
}

TEST(timers_fire_in_order_whatever_was_done_to_them)
{
    size_t set = 0;

    open_loop();
    for (size_t i = 0; i < MANY; i++) {
        loop_timer_init(&timers[i], loop, on_timer);
        expected_at[i] = 0;
    }
    for (int step = 0; step < 5000; step++) {
        size_t i = random_cheap() % MANY;
        if (random_cheap() % 3 == 0) {
            loop_timer_clear(&timers[i]);
            CHECK(!loop_timer_is_set(&timers[i]));
            expected_at[i] = 0;
        } else {
            CHECK_EQ_INT(loop_timer_set(&timers[i], random_cheap() % (20 * 1000000)), ERROR_NONE);
            CHECK(loop_timer_is_set(&timers[i]));
            expected_at[i] = timers[i].at;
        }
        if (step % 100 == 0) {
            check_heap();
        }
    }
    check_heap();
    for (size_t i = 0; i < MANY; i++) {
        set += expected_at[i] != 0;
    }
    CHECK_EQ_INT(loop->heap_length, set);
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_INT(fired, set);
    loop_free(loop);
}

static void set_again(struct loop_timer *timer)
{
    if (++fired == 100) {
        loop_stop(loop);
        return;
    }
    CHECK_EQ_INT(loop_timer_set(timer, 0), ERROR_NONE);
}

TEST(timer_that_sets_itself_does_not_hold_the_turn)
{
    open_loop();
    loop_timer_init(&timers[0], loop, set_again);
    CHECK_EQ_INT(loop_timer_set(&timers[0], 0), ERROR_NONE);
    uint64_t before = loop->turn;
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_INT(loop->turn - before, 100);
    loop_free(loop);
}

static void clear_next(struct loop_timer *timer)
{
    fired++;
    loop_timer_clear(timer + 1);
    loop_stop(loop);
}

TEST(timer_cleared_by_another_that_is_due_too)
{
    open_loop();
    loop_timer_init(&timers[0], loop, clear_next);
    loop_timer_init(&timers[1], loop, clear_next);
    CHECK_EQ_INT(loop_timer_set(&timers[0], 0), ERROR_NONE);
    CHECK_EQ_INT(loop_timer_set(&timers[1], 0), ERROR_NONE);
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_INT(fired, 1);
    loop_free(loop);
}

static void stop_now(struct loop_timer *timer)
{
    (void)timer;
    fired++;
    loop_stop(loop);
}

static void move_it_nearer(struct loop_timer *timer)
{
    CHECK_EQ_INT(loop_timer_set(timer + 1, CLOCK_NS_PER_MS), ERROR_NONE);
}

TEST(timer_moved_nearer_and_farther)
{
    open_loop();
    loop_timer_init(&timers[0], loop, move_it_nearer);
    loop_timer_init(&timers[1], loop, stop_now);
    /* would end the test in an hour; is moved to a millisecond while the loop sleeps for the
     * other */
    CHECK_EQ_INT(loop_timer_set(&timers[1], 3600 * CLOCK_NS_PER_S), ERROR_NONE);
    CHECK_EQ_INT(loop_timer_set(&timers[0], CLOCK_NS_PER_MS), ERROR_NONE);
    uint64_t start = clock_now();
    CHECK_EQ_INT(loop_timer_set(&timers[0], 3 * CLOCK_NS_PER_MS), ERROR_NONE);
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_INT(fired, 1);
    CHECK(clock_now() - start >= 4 * CLOCK_NS_PER_MS);
    loop_free(loop);
}

TEST(timer_extremes)
{
    struct loop_timer zero;

    open_loop();
    memset(&zero, 0, sizeof(zero));
    loop_timer_clear(&zero);
    CHECK(!loop_timer_is_set(&zero));
    loop_timer_init(&timers[0], loop, stop_now);
    CHECK_EQ_INT(loop_timer_set(&timers[0], UINT64_MAX), ERROR_NONE);
    CHECK(loop_timer_is_set(&timers[0]));
    loop_timer_init(&timers[1], loop, stop_now);
    CHECK_EQ_INT(loop_timer_set(&timers[1], 1), ERROR_NONE);
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_INT(fired, 1);
    loop_timer_clear(&timers[0]);
    loop_free(loop);
}

TEST(timer_set_survives_a_failing_allocation)
{
    open_loop();
    for (size_t i = 0; i < MANY; i++) {
        loop_timer_init(&timers[i], loop, stop_now);
        mem_fail_nth(1, 0);
        enum error error = loop_timer_set(&timers[i], CLOCK_NS_PER_S);
        mem_fail_nth(0, 0);
        CHECK_EQ_INT(loop_timer_is_set(&timers[i]), error == ERROR_NONE);
        if (error != ERROR_NONE) {
            CHECK_EQ_INT(error, ERROR_NO_MEMORY);
            CHECK_EQ_INT(loop_timer_set(&timers[i], CLOCK_NS_PER_S), ERROR_NONE);
        }
        /* moving a set one needs no memory */
        mem_fail_nth(1, 1);
        CHECK_EQ_INT(loop_timer_set(&timers[i], 2 * CLOCK_NS_PER_S), ERROR_NONE);
        mem_fail_nth(0, 0);
    }
    for (size_t i = 0; i < MANY; i++) {
        loop_timer_clear(&timers[i]);
    }
    loop_free(loop);
}

CHECK_MAIN
