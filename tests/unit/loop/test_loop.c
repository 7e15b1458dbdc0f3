/* SPDX-License-Identifier: MIT */
/* loop/loop.c: the order of a turn, budgets in the middle of it, resumed work and the graveyard. */
#include "check.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "loop/loop.h"

static struct loop *loop;
static char trace[256];
static size_t trace_length;

static void note(char letter)
{
    CHECK(trace_length < sizeof(trace) - 1);
    trace[trace_length++] = letter;
    trace[trace_length] = '\0';
}

static void open_loop(unsigned turn_callbacks)
{
    struct loop_settings settings = {turn_callbacks, 1000000000};

    trace_length = 0;
    trace[0] = '\0';
    loop = loop_new(3, &settings);
    CHECK(loop != NULL);
    CHECK_EQ_INT(loop_index(loop), 3);
}

/* A thing that is everything at once; its callbacks note its letter. */
struct thing {
    struct loop_timer timer;
    struct loop_dirty dirty;
    struct loop_resume resume;
    struct loop_grave grave;
    char letter;
    int more; /* how often flush says MORE, resume resumes again */
    void (*on_timer)(struct thing *thing);
    void (*on_flush)(struct thing *thing);
};

static void thing_timer(struct loop_timer *timer)
{
    struct thing *thing = LIST_CONTAINER(timer, struct thing, timer);

    note(thing->letter);
    if (thing->on_timer != NULL) {
        thing->on_timer(thing);
    }
}

static enum loop_flush thing_flush(struct loop_dirty *dirty)
{
    struct thing *thing = LIST_CONTAINER(dirty, struct thing, dirty);

    note((char)(thing->letter - 'a' + 'A'));
    if (thing->on_flush != NULL) {
        thing->on_flush(thing);
    }
    return thing->more-- > 0 ? LOOP_FLUSH_MORE : LOOP_FLUSH_CLEAN;
}

static void thing_resume(struct loop_resume *resume)
{
    struct thing *thing = LIST_CONTAINER(resume, struct thing, resume);

    note((char)(thing->letter - 'a' + '0'));
    if (thing->more-- > 0) {
        loop_resume_later(loop, &thing->resume);
    }
}

static void thing_free(struct loop_grave *grave)
{
    struct thing *thing = LIST_CONTAINER(grave, struct thing, grave);

    note('+');
    note(thing->letter);
}

static void thing_init(struct thing *thing, char letter, enum loop_stage stage)
{
    *thing = (struct thing){.letter = letter};
    loop_timer_init(&thing->timer, loop, thing_timer);
    loop_dirty_init(&thing->dirty, stage, thing_flush);
    loop_resume_init(&thing->resume, thing_resume);
}

static void stop(struct thing *thing)
{
    (void)thing;
    loop_stop(loop);
}

static struct thing a, b, c;

static void open_things(unsigned turn_callbacks)
{
    open_loop(turn_callbacks);
    thing_init(&a, 'a', LOOP_STAGE_CONN);
    thing_init(&b, 'b', LOOP_STAGE_LINK);
    thing_init(&c, 'c', LOOP_STAGE_CONN);
}

static void run_and_expect(const char *expected)
{
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_STR(trace, expected);
    loop_free(loop);
}

static void mark_all(struct thing *thing)
{
    (void)thing;
    loop_mark_dirty(loop, &a.dirty);
    loop_mark_dirty(loop, &b.dirty);
    loop_mark_dirty(loop, &c.dirty);
    loop_mark_dirty(loop, &c.dirty);
    loop_stop(loop);
}

TEST(flush_writes_links_then_conns_once)
{
    open_things(64);
    a.on_timer = mark_all;
    CHECK_EQ_INT(loop_timer_set(&a.timer, 0), ERROR_NONE);
    run_and_expect("aBAC");
}

static void mark_b(struct thing *thing)
{
    (void)thing;
    loop_mark_dirty(loop, &b.dirty);
    a.on_flush = NULL;
}

TEST(flush_goes_round_until_clean)
{
    open_things(64);
    a.on_timer = mark_all;
    a.on_flush = mark_b;
    c.more = 2;
    CHECK_EQ_INT(loop_timer_set(&a.timer, 0), ERROR_NONE);
    run_and_expect("aBACBCC");
}

static int flushes;

static void count_flush(struct thing *thing)
{
    (void)thing;
    trace[--trace_length] = '\0';
    if (++flushes == 20) {
        loop_stop(loop);
    }
}

static void mark_self(struct thing *thing)
{
    loop_mark_dirty(loop, &thing->dirty);
}

TEST(flush_out_of_rounds_goes_on_in_the_next_turn)
{
    int64_t turns = metrics_sum(METRIC_loop_turns);

    open_things(64);
    flushes = 0;
    a.on_timer = mark_self;
    a.on_flush = count_flush;
    a.more = 23;
    CHECK_EQ_INT(loop_timer_set(&a.timer, 0), ERROR_NONE);
    /* 8 rounds a turn: the 20th flush is in the third turn, which ends it at 24 */
    run_and_expect("a");
    CHECK_EQ_INT(flushes, 24);
    /* no turn more: the loop did not sleep or spin in between */
    CHECK(metrics_sum(METRIC_loop_turns) - turns <= 4);
}

static void unmark_c(struct thing *thing)
{
    (void)thing;
    loop_unmark_dirty(loop, &c.dirty);
    loop_unmark_dirty(loop, &c.dirty);
}

TEST(flush_leaves_out_what_was_unmarked)
{
    open_things(64);
    a.on_timer = mark_all;
    a.on_flush = unmark_c;
    CHECK_EQ_INT(loop_timer_set(&a.timer, 0), ERROR_NONE);
    run_and_expect("aBA");
}

TEST(callback_budget_flushes_in_the_middle)
{
    int64_t early = metrics_sum(METRIC_loop_early_flushes);

    open_things(2);
    a.on_timer = mark_self;
    b.on_timer = mark_self;
    c.on_timer = stop;
    /* three timers that are due at the same time: one dispatch */
    CHECK_EQ_INT(loop_timer_set(&a.timer, 1), ERROR_NONE);
    CHECK_EQ_INT(loop_timer_set(&b.timer, 2000), ERROR_NONE);
    CHECK_EQ_INT(loop_timer_set(&c.timer, 4000), ERROR_NONE);
    usleep(10);
    run_and_expect("abBAc");
    CHECK_EQ_INT(metrics_sum(METRIC_loop_early_flushes), early + 1);
}

static void burn(struct thing *thing)
{
    uint64_t until = clock_now() + CLOCK_NS_PER_MS;

    loop_mark_dirty(loop, &thing->dirty);
    while (clock_now() < until) {
    }
}

TEST(time_budget_flushes_in_the_middle)
{
    struct loop_settings settings = {64, 500};

    open_things(64);
    loop_free(loop);
    loop = loop_new(0, &settings);
    CHECK(loop != NULL);
    thing_init(&a, 'a', LOOP_STAGE_CONN);
    thing_init(&c, 'c', LOOP_STAGE_CONN);
    a.on_timer = burn;
    c.on_timer = stop;
    CHECK_EQ_INT(loop_timer_set(&a.timer, 1), ERROR_NONE);
    CHECK_EQ_INT(loop_timer_set(&c.timer, 2000), ERROR_NONE);
    usleep(10);
    run_and_expect("aAc");
}

static void resume_all(struct thing *thing)
{
    (void)thing;
    loop_resume_later(loop, &a.resume);
    loop_resume_later(loop, &b.resume);
    loop_resume_later(loop, &b.resume);
    loop_resume_later(loop, &c.resume);
    loop_resume_cancel(loop, &c.resume);
    loop_resume_cancel(loop, &c.resume);
    loop_mark_dirty(loop, &c.dirty);
    CHECK_EQ_INT(loop_timer_set(&c.timer, 0), ERROR_NONE);
    c.on_timer = stop;
}

TEST(resume_runs_in_the_next_turn_after_its_events)
{
    open_things(64);
    a.on_timer = resume_all;
    CHECK_EQ_INT(loop_timer_set(&a.timer, 0), ERROR_NONE);
    /* turn 1: a, flush C; turn 2: timer c is ready, then the resumed a and b */
    run_and_expect("aCc01");
}

static void resume_a(struct thing *thing)
{
    (void)thing;
    a.more = 1000;
    loop_resume_later(loop, &a.resume);
    CHECK_EQ_INT(loop_timer_set(&c.timer, 50 * CLOCK_NS_PER_US), ERROR_NONE);
    c.on_timer = stop;
}

TEST(resume_does_not_starve_events_and_does_not_sleep)
{
    open_things(64);
    a.on_timer = resume_a;
    trace_length = 0;
    CHECK_EQ_INT(loop_timer_set(&a.timer, 0), ERROR_NONE);
    a.more = 0;
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    /* c came although there was resumed work all the time (at most 200 turns of it fit in the
     * trace) */
    CHECK(strchr(trace, 'c') != NULL);
    CHECK(trace[1] == '0' || trace[1] == 'c');
    loop_resume_cancel(loop, &a.resume);
    loop_free(loop);
}

static void bury_self(struct thing *thing)
{
    loop_bury(loop, &thing->grave, thing_free);
    loop_mark_dirty(loop, &c.dirty);
    c.on_flush = stop;
}

TEST(graves_are_reaped_after_the_flush)
{
    open_things(64);
    a.on_timer = bury_self;
    CHECK_EQ_INT(loop_timer_set(&a.timer, 0), ERROR_NONE);
    run_and_expect("aC+a");
}

TEST(free_reaps_what_was_buried_after_the_run)
{
    open_things(64);
    loop_bury(loop, &a.grave, thing_free);
    loop_free(loop);
    CHECK_EQ_STR(trace, "+a");
}

static void check_clock(struct thing *thing)
{
    (void)thing;
    uint64_t first = loop_now(loop);
    usleep(2000);
    CHECK(loop_now(loop) == first);
    CHECK(loop_wall_seconds(loop) >= (int64_t)(clock_wall() / CLOCK_NS_PER_S) - 1);
    loop_stop(loop);
}

TEST(now_stands_still_within_a_callback)
{
    open_things(64);
    a.on_timer = check_clock;
    CHECK_EQ_INT(loop_timer_set(&a.timer, 0), ERROR_NONE);
    run_and_expect("a");
}

TEST(context_is_kept)
{
    open_things(64);
    CHECK(loop_context(loop) == NULL);
    loop_set_context(loop, &a);
    CHECK(loop_context(loop) == &a);
    loop_free(loop);
}

TEST(new_survives_each_failing_allocation)
{
    struct loop_settings settings = {64, 500};
    uint64_t live = mem_live();
    bool complete = false;

    for (uint64_t n = 1; !complete; n++) {
        mem_fail_nth(n, 0);
        loop = loop_new(0, &settings);
        mem_fail_nth(0, 0);
        complete = loop != NULL && mem_live() > live && n > 12;
        loop_free(loop);
        CHECK_EQ_INT(mem_live(), live);
        CHECK(n < 100);
    }
}

CHECK_MAIN
