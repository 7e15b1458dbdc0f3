/* SPDX-License-Identifier: MIT */
/*
 * The loop: one thread, one event_base, and the one concurrency rule of the gateway, the turn:
 *
 *   1. callbacks run: they parse, change state, append to queues and mark dirty;
 *   2. the flush: dirty links, then dirty conns, write once, batched, in rounds until all is clean;
 *   3. the graveyard is reaped.
 *
 * Nothing frees and nothing sends outside 2 and 3. After 64 callbacks or 500 us within one dispatch
 * the wrapper around each callback runs flush and reap itself. Everything here belongs to the
 * loop's thread; only loop_stop and mailbox_post (loop/mailbox.h) may be called from elsewhere.
 */
#ifndef GATEWAY_LOOP_LOOP_H
#define GATEWAY_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/list.h"

struct event_base;
struct loop;

struct loop_settings {
    unsigned turn_callbacks; /* callbacks before a flush in the middle of a turn (64) */
    unsigned turn_time_us;   /* the same in microseconds (500) */
};

/* A new loop with the index it has among its siblings; not running. NULL when memory or
 * descriptors are out. */
struct loop *loop_new(unsigned index, const struct loop_settings *settings) MUST_CHECK;
/* Frees it; it must not be running, and nothing may be registered in it any more (REQUIREd in debug
 * builds). What is in the graveyard is reaped, undelivered mail is discarded. */
void loop_free(struct loop *loop);
/* Runs until loop_stop. The calling thread becomes the owner (and gets its metrics shard). */
enum error loop_run(struct loop *loop) MUST_CHECK;
/* Makes loop_run return after the current turn. Any thread. */
void loop_stop(struct loop *loop);
/* Its index among its siblings. */
unsigned loop_index(const struct loop *loop);
/* Monotonic nanoseconds, read at the start of each callback. */
uint64_t loop_now(const struct loop *loop);
/* Wall time in seconds, for Date headers, as fresh as loop_now. */
int64_t loop_wall_seconds(const struct loop *loop);
/* Aborts when the caller is not the loop's thread (no-op before the loop ran, and in release
 * builds). */
void loop_assert_owner(const struct loop *loop);
/* Lets module code keep one pointer per loop (the server's per-loop state). */
void loop_set_context(struct loop *loop, void *context);
void *loop_context(const struct loop *loop);

/* --- descriptors --- */

#define LOOP_READ 1u
#define LOOP_WRITE 2u
#define LOOP_CLOSED 4u /* the peer shut its side or reset (EV_CLOSED) */
#define LOOP_EDGE 8u   /* edge-triggered, for all events of this descriptor */

struct event;

/* A watched descriptor. Embed it; the callback may call loop_io_set and loop_io_done on its own
 * watch. */
struct loop_io {
    struct loop *loop;
    struct event *event; /* NULL until the first loop_io_set */
    void (*callback)(struct loop_io *io, unsigned events);
    int fd;
    unsigned watched;
};

/* Prepares a watch on `fd` (not owned) that watches nothing yet. */
void loop_io_init(struct loop_io *io, struct loop *loop, int fd,
                  void (*callback)(struct loop_io *io, unsigned events));
/* Watches exactly `events` (LOOP_*), persistently; 0 stops. Cheap when nothing changes. */
enum error loop_io_set(struct loop_io *io, unsigned events) MUST_CHECK;
/* Stops and releases; allowed twice, and on an all-zero watch. The descriptor stays open. */
void loop_io_done(struct loop_io *io);

/* --- timers --- */

/* A one-shot timer on the monotonic clock. Embed it. Timers are kept in a heap of the loop's own
 * behind one event, so that moving a deadline (as every keep-alive does) is cheap. */
struct loop_timer {
    struct loop *loop;
    void (*callback)(struct loop_timer *timer);
    uint64_t at;  /* loop_now() value; 0 = not set */
    size_t index; /* in the heap */
};

void loop_timer_init(struct loop_timer *timer, struct loop *loop,
                     void (*callback)(struct loop_timer *timer));
/* Fires once, `delay_ns` from loop_now(); replaces an earlier setting. Fails only when memory is
 * out: a timer that cannot be set is an error of the operation that it guards. */
enum error loop_timer_set(struct loop_timer *timer, uint64_t delay_ns) MUST_CHECK;
/* Unsets it; allowed when not set, and on an all-zero timer. */
void loop_timer_clear(struct loop_timer *timer);
bool loop_timer_is_set(const struct loop_timer *timer);

/* --- the turn --- */

/* Order of the flush. */
enum loop_stage { LOOP_STAGE_LINK, LOOP_STAGE_CONN, LOOP_STAGE_COUNT };

enum loop_flush {
    LOOP_FLUSH_CLEAN, /* nothing left, or the socket is full and an event is armed */
    LOOP_FLUSH_MORE   /* stopped for budget: flush again in this turn's next round, or next turn */
};

/* Something that writes in the flush. Embed it. */
struct loop_dirty {
    struct list_node in_loop;
    enum loop_flush (*flush)(struct loop_dirty *dirty);
    enum loop_stage stage;
};

void loop_dirty_init(struct loop_dirty *dirty, enum loop_stage stage,
                     enum loop_flush (*flush)(struct loop_dirty *dirty));
/* Asks for one flush call in this turn; cheap and idempotent. */
void loop_mark_dirty(struct loop *loop, struct loop_dirty *dirty);
/* Takes it off the list (before its owner goes to the graveyard); allowed when it is not marked. */
void loop_unmark_dirty(struct loop *loop, struct loop_dirty *dirty);

/* Work that stopped for budget or backpressure and must go on without a new event (reading that
 * was not ended by EAGAIN). */
struct loop_resume {
    struct list_node in_loop;
    uint64_t turn; /* in which it was put on the list */
    void (*resume)(struct loop_resume *resume);
};

void loop_resume_init(struct loop_resume *resume, void (*callback)(struct loop_resume *resume));
/* Calls it once in the next turn (never in this one), after the events that are ready then;
 * idempotent. */
void loop_resume_later(struct loop *loop, struct loop_resume *resume);
void loop_resume_cancel(struct loop *loop, struct loop_resume *resume);

/* A dead object on its way out. Embed it. */
struct loop_grave {
    struct list_node in_loop;
    void (*free)(struct loop_grave *grave);
};

/* Buries an object (its grave all zero): `free_object` is called at the end of this turn, when
 * no callback can hold it any more. Once. The object has taken itself off the dirty and resume
 * lists, its watches and timers before. */
void loop_bury(struct loop *loop, struct loop_grave *grave,
               void (*free_object)(struct loop_grave *grave));

#endif
