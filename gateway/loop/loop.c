/* SPDX-License-Identifier: MIT */
/*
 * The loop and its turn: poll and callbacks, then resumed work, then the flush, then the graveyard.
 * It owns the event_base and the lists of what is dirty, suspended and dead. It knows nothing of
 * what the callbacks do.
 */
#include "loop/loop.h"

#include <event2/event.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "loop/loop_state.h"

/* Rounds of flushing in one turn; what is dirty after them waits for the next turn, which then
 * does not sleep. */
#define FLUSH_ROUNDS 8

static void *libevent_alloc(size_t size)
{
    return mem_alloc(size);
}

static void *libevent_realloc(void *old, size_t size)
{
    return mem_realloc(old, size);
}

/* What libevent has to say goes to our log; without this it would write to stderr, which may block. */
static void libevent_log(int severity, const char *text)
{
    if (severity >= EVENT_LOG_WARN) {
        log_warning("libevent", "%s", text);
    } else {
        log_debug("libevent", "%s", text);
    }
}

static void libevent_once(void)
{
    event_set_log_callback(libevent_log);
    event_set_mem_functions(libevent_alloc, libevent_realloc, mem_free);
}

static struct event_base *loop_new_base(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, libevent_once);
    struct event_config *config = event_config_new();
    if (config == NULL) {
        return NULL;
    }
    struct event_base *base = NULL;
    /* Edge triggering and EV_CLOSED are what only epoll has; other threads reach the loop
     * through the mailbox alone. */
    if (event_config_require_features(config, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER | EVENT_BASE_FLAG_NOLOCK) ==
            0) {
        base = event_base_new_with_config(config);
    }
    event_config_free(config);
    return base;
}

struct loop *loop_new(unsigned index, const struct loop_settings *settings)
{
    REQUIRE(settings->turn_callbacks > 0 && settings->turn_time_us > 0);
    struct loop *loop = mem_calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return NULL;
    }
    loop->magic = LOOP_MAGIC;
    loop->index = index;
    loop->settings = *settings;
    loop->mailbox_fd = -1;
    for (int stage = 0; stage < LOOP_STAGE_COUNT; stage++) {
        dirty_list_init(&loop->dirty[stage]);
    }
    resume_list_init(&loop->resumes);
    grave_list_init(&loop->graves);
    mail_list_init(&loop->mailbox_inbox);
    mail_list_init(&loop->mailbox_opened);
    pthread_mutex_init(&loop->mailbox_lock, NULL);
    loop->base = loop_new_base();
    if (loop->base == NULL || loop_timers_init(loop) != ERROR_NONE ||
        mailbox_init(loop) != ERROR_NONE) {
        loop_free(loop);
        return NULL;
    }
    return loop;
}

static void loop_reap(struct loop *loop)
{
    struct loop_grave *grave;

    while ((grave = grave_list_pop(&loop->graves)) != NULL) {
        grave->free(grave);
    }
}

void loop_free(struct loop *loop)
{
    if (loop == NULL) {
        return;
    }
    REQUIRE_OBJECT(loop, LOOP_MAGIC);
    REQUIRE(!atomic_load(&loop->has_owner));
    mailbox_done(loop);
    loop_reap(loop);
#ifdef GATEWAYD_DEBUG
    REQUIRE(loop->watches == 0 && loop->heap_length == 0 && resume_list_empty(&loop->resumes));
    for (int stage = 0; stage < LOOP_STAGE_COUNT; stage++) {
        REQUIRE(dirty_list_empty(&loop->dirty[stage]));
    }
#endif
    loop_timers_done(loop);
    if (loop->base != NULL) {
        event_base_free(loop->base);
    }
    pthread_mutex_destroy(&loop->mailbox_lock);
    loop->magic = MAGIC_FREED;
    mem_free(loop);
}

unsigned loop_index(const struct loop *loop)
{
    return loop->index;
}

uint64_t loop_now(const struct loop *loop)
{
    return loop->in_callback || loop->in_flush ? loop->now : clock_now();
}

int64_t loop_wall_seconds(const struct loop *loop)
{
    struct timespec now;

    (void)loop;
    /* A tick old at most (4 ms), which no Date header shows, and cheaper than the exact clock. */
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return (int64_t)now.tv_sec;
}

void loop_assert_owner(const struct loop *loop)
{
#ifdef GATEWAYD_DEBUG
    REQUIRE(!atomic_load_explicit(&loop->has_owner, memory_order_acquire) ||
            pthread_equal(loop->owner, pthread_self()));
#else
    (void)loop;
#endif
}

void loop_set_context(struct loop *loop, void *context)
{
    loop->context = context;
}

void *loop_context(const struct loop *loop)
{
    return loop->context;
}

/* --- the turn --- */

static bool loop_is_dirty(const struct loop *loop)
{
    for (int stage = 0; stage < LOOP_STAGE_COUNT; stage++) {
        if (!dirty_list_empty(&loop->dirty[stage])) {
            return true;
        }
    }
    return false;
}

/* Flushes what was dirty when the round began; what becomes dirty meanwhile is the next round's. */
static void loop_flush_stage(struct loop *loop, struct dirty_list *list)
{
    for (size_t left = list->length; left > 0 && !dirty_list_empty(list); left--) {
        struct loop_dirty *dirty = dirty_list_pop(list);
        if (dirty->flush(dirty) == LOOP_FLUSH_MORE) {
            loop_mark_dirty(loop, dirty);
        }
    }
}

/* Steps 2 and 3 of the turn. Links go first: what they free of their queues lets conns write in
 * the same round. */
static void loop_flush(struct loop *loop)
{
    REQUIRE(!loop->in_callback && !loop->in_flush);
    loop->in_flush = true;
    for (int round = 0; round < FLUSH_ROUNDS && loop_is_dirty(loop); round++) {
        for (int stage = 0; stage < LOOP_STAGE_COUNT; stage++) {
            loop_flush_stage(loop, &loop->dirty[stage]);
        }
    }
    loop_reap(loop);
    loop->in_flush = false;
    loop->slice_callbacks = 0;
    loop->now_is_fresh = false;
}

void loop_callback_begin(struct loop *loop)
{
    REQUIRE(!loop->in_callback && !loop->in_flush);
    if (!loop->now_is_fresh) {
        loop->now = clock_now();
        loop->now_is_fresh = true;
    }
    if (loop->slice_callbacks == 0) {
        loop->slice_start = loop->now;
    }
    loop->slice_callbacks++;
    loop->in_callback = true;
    METRIC_INCREMENT(loop_callbacks);
}

void loop_callback_end(struct loop *loop)
{
    loop->in_callback = false;
    /* One reading serves the end of this callback and the start of the next. */
    loop->now = clock_now();
    if (loop->slice_callbacks < loop->settings.turn_callbacks &&
        loop->now - loop->slice_start < loop->settings.turn_time_us * CLOCK_NS_PER_US) {
        return;
    }
    /* libevent runs every ready callback before it returns: without this the first response of a
     * busy turn would wait for the last request. */
    METRIC_INCREMENT(loop_early_flushes);
    loop_flush(loop);
}

/* Continues what was suspended before this turn began; what is suspended now is continued in the
 * next one. */
static void loop_run_resumes(struct loop *loop)
{
    struct loop_resume *resume;

    while ((resume = resume_list_first(&loop->resumes)) != NULL && resume->turn < loop->turn) {
        resume_list_remove(&loop->resumes, resume);
        loop_callback_begin(loop);
        resume->resume(resume);
        loop_callback_end(loop);
    }
}

static void loop_run_turn(struct loop *loop)
{
    int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

    loop->turn++;
    if (loop_is_dirty(loop) || !resume_list_empty(&loop->resumes) ||
        !grave_list_empty(&loop->graves)) {
        flags |= EVLOOP_NONBLOCK;
    }
    loop_timers_arm(loop);
    loop->now_is_fresh = false;
    REQUIRE(event_base_loop(loop->base, flags) == 0);
    mailbox_deliver(loop);
    loop_run_resumes(loop);
    if (!loop->now_is_fresh) {
        loop->now = clock_now();
    }
    loop_flush(loop);
    METRIC_INCREMENT(loop_turns);
}

enum error loop_run(struct loop *loop)
{
    REQUIRE_OBJECT(loop, LOOP_MAGIC);
    REQUIRE(!atomic_load(&loop->has_owner));
    enum error error = metrics_register_thread();
    if (error != ERROR_NONE) {
        return error;
    }
    loop->owner = pthread_self();
    atomic_store_explicit(&loop->has_owner, true, memory_order_release);
    while (!atomic_load_explicit(&loop->stopping, memory_order_acquire)) {
        loop_run_turn(loop);
    }
    atomic_store(&loop->stopping, false);
    atomic_store_explicit(&loop->has_owner, false, memory_order_release);
    return ERROR_NONE;
}

void loop_stop(struct loop *loop)
{
    atomic_store_explicit(&loop->stopping, true, memory_order_release);
    mailbox_wake(loop);
}

/* --- what a turn works on --- */

void loop_dirty_init(struct loop_dirty *dirty, enum loop_stage stage,
                     enum loop_flush (*flush)(struct loop_dirty *dirty))
{
    *dirty = (struct loop_dirty){.flush = flush, .stage = stage};
}

void loop_mark_dirty(struct loop *loop, struct loop_dirty *dirty)
{
    loop_assert_owner(loop);
    if (!dirty_list_linked(dirty)) {
        dirty_list_append(&loop->dirty[dirty->stage], dirty);
    }
}

void loop_unmark_dirty(struct loop *loop, struct loop_dirty *dirty)
{
    loop_assert_owner(loop);
    if (dirty_list_linked(dirty)) {
        dirty_list_remove(&loop->dirty[dirty->stage], dirty);
    }
}

void loop_resume_init(struct loop_resume *resume, void (*callback)(struct loop_resume *resume))
{
    *resume = (struct loop_resume){.resume = callback};
}

void loop_resume_later(struct loop *loop, struct loop_resume *resume)
{
    loop_assert_owner(loop);
    if (!resume_list_linked(resume)) {
        resume->turn = loop->turn;
        resume_list_append(&loop->resumes, resume);
    }
}

void loop_resume_cancel(struct loop *loop, struct loop_resume *resume)
{
    loop_assert_owner(loop);
    if (resume_list_linked(resume)) {
        resume_list_remove(&loop->resumes, resume);
    }
}

void loop_bury(struct loop *loop, struct loop_grave *grave,
               void (*free_object)(struct loop_grave *grave))
{
    loop_assert_owner(loop);
    grave->free = free_object;
    grave_list_append(&loop->graves, grave);
}
