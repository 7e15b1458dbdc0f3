/* SPDX-License-Identifier: MIT */
/*
 * Timers: a binary heap whose entries know their place, so that setting, moving and clearing cost
 * O(log n) and no system call. One libevent timer stands for the earliest of them; it is moved
 * before a poll when it would fire too late, and when it fires too early (the deadline moved on, as
 * keep-alive deadlines do) it is simply set again.
 */
#include <event2/event.h>

#include "base/clock.h"
#include "base/mem.h"
#include "loop/loop_state.h"

/* The libevent timer is never removed, only moved: adding it again can then not fail for want of
 * memory. */
#define TIMER_FAR_SECONDS (24 * 60 * 60)
#define HEAP_FIRST_CAPACITY 64

static void heap_place(struct loop *loop, size_t index, struct loop_timer *timer)
{
    loop->heap[index] = timer;
    timer->index = index;
}

static void heap_sift_up(struct loop *loop, size_t index)
{
    struct loop_timer *timer = loop->heap[index];

    while (index > 0 && loop->heap[(index - 1) / 2]->at > timer->at) {
        heap_place(loop, index, loop->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    heap_place(loop, index, timer);
}

static void heap_sift_down(struct loop *loop, size_t index)
{
    struct loop_timer *timer = loop->heap[index];

    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= loop->heap_length) {
            break;
        }
        if (child + 1 < loop->heap_length && loop->heap[child + 1]->at < loop->heap[child]->at) {
            child++;
        }
        if (loop->heap[child]->at >= timer->at) {
            break;
        }
        heap_place(loop, index, loop->heap[child]);
        index = child;
    }
    heap_place(loop, index, timer);
}

/* Puts the timer at `index` where it belongs after its deadline changed. */
static void heap_fix(struct loop *loop, size_t index)
{
    if (index > 0 && loop->heap[(index - 1) / 2]->at > loop->heap[index]->at) {
        heap_sift_up(loop, index);
    } else {
        heap_sift_down(loop, index);
    }
}

static enum error heap_reserve(struct loop *loop)
{
    if (loop->heap_length < loop->heap_capacity) {
        return ERROR_NONE;
    }
    size_t capacity = loop->heap_capacity > 0 ? loop->heap_capacity * 2 : HEAP_FIRST_CAPACITY;
    struct loop_timer **heap = mem_realloc(loop->heap, capacity * sizeof(struct loop_timer *));
    if (heap == NULL) {
        return ERROR_NO_MEMORY;
    }
    loop->heap = heap;
    loop->heap_capacity = capacity;
    return ERROR_NONE;
}

void loop_timer_init(struct loop_timer *timer, struct loop *loop,
                     void (*callback)(struct loop_timer *timer))
{
    *timer = (struct loop_timer){.loop = loop, .callback = callback};
}

enum error loop_timer_set(struct loop_timer *timer, uint64_t delay_ns)
{
    struct loop *loop = timer->loop;
    uint64_t now = loop_now(loop);
    /* At least a nanosecond ahead: a timer that sets itself anew with no delay fires in the next
     * turn, not for ever in this one. */
    uint64_t delay = delay_ns > 0 ? delay_ns : 1;
    uint64_t at = delay < UINT64_MAX - 1 - now ? now + delay : UINT64_MAX - 1;

    loop_assert_owner(loop);
    if (timer->at != 0) {
        timer->at = at;
        heap_fix(loop, timer->index);
        return ERROR_NONE;
    }
    enum error error = heap_reserve(loop);
    if (error != ERROR_NONE) {
        return error;
    }
    timer->at = at;
    heap_place(loop, loop->heap_length++, timer);
    heap_sift_up(loop, timer->index);
    return ERROR_NONE;
}

void loop_timer_clear(struct loop_timer *timer)
{
    struct loop *loop = timer->loop;

    if (timer->at == 0) {
        return;
    }
    loop_assert_owner(loop);
    REQUIRE(timer->index < loop->heap_length && loop->heap[timer->index] == timer);
    size_t index = timer->index;
    struct loop_timer *last = loop->heap[--loop->heap_length];
    timer->at = 0;
    if (last != timer) {
        heap_place(loop, index, last);
        heap_fix(loop, index);
    }
}

bool loop_timer_is_set(const struct loop_timer *timer)
{
    return timer->at != 0;
}

static void loop_timers_move_event(struct loop *loop, uint64_t delay_ns)
{
    /* Rounded up: a timer must not fire before its time. */
    uint64_t us = delay_ns / CLOCK_NS_PER_US + (delay_ns % CLOCK_NS_PER_US != 0);
    struct timeval after = {.tv_sec = (time_t)(us / 1000000),
                            .tv_usec = (suseconds_t)(us % 1000000)};

    REQUIRE(event_add(loop->timer_event, &after) == 0);
}

static void loop_timers_fire(evutil_socket_t fd, short what, void *argument)
{
    struct loop *loop = argument;
    uint64_t now = clock_now();

    (void)fd;
    (void)what;
    loop->timer_armed_at = UINT64_MAX;
    /* Only what was due at `now`: see loop_timer_set. */
    while (loop->heap_length > 0 && loop->heap[0]->at <= now) {
        struct loop_timer *timer = loop->heap[0];
        loop_callback_begin(loop);
        loop_timer_clear(timer);
        timer->callback(timer);
        loop_callback_end(loop);
    }
}

void loop_timers_arm(struct loop *loop)
{
    uint64_t earliest = loop->heap_length > 0 ? loop->heap[0]->at : UINT64_MAX;

    if (earliest >= loop->timer_armed_at && event_pending(loop->timer_event, EV_TIMEOUT, NULL)) {
        return;
    }
    uint64_t now = clock_now();
    uint64_t far = now + TIMER_FAR_SECONDS * CLOCK_NS_PER_S;
    loop->timer_armed_at = earliest < far ? earliest : far;
    loop_timers_move_event(loop, loop->timer_armed_at > now ? loop->timer_armed_at - now : 0);
}

enum error loop_timers_init(struct loop *loop)
{
    struct timeval far = {.tv_sec = TIMER_FAR_SECONDS};

    loop->timer_armed_at = UINT64_MAX;
    loop->timer_event = event_new(loop->base, -1, 0, loop_timers_fire, loop);
    if (loop->timer_event == NULL || event_add(loop->timer_event, &far) != 0) {
        return ERROR_NO_MEMORY;
    }
    return ERROR_NONE;
}

void loop_timers_done(struct loop *loop)
{
    if (loop->timer_event != NULL) {
        event_free(loop->timer_event);
        loop->timer_event = NULL;
    }
    mem_free(loop->heap);
    loop->heap = NULL;
}
