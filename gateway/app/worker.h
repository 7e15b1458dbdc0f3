/* SPDX-License-Identifier: MIT */
/*
 * A worker: one process that serves an app, with one link per loop. What the loops share of it is atomic; the rest is set
 * before any loop but the first sees it, or belongs to loop 0 (the app's registry).
 */
#ifndef GATEWAY_APP_WORKER_H
#define GATEWAY_APP_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "app/health.h"
#include "base/error.h"
#include "base/list.h"
#include "base/slice.h"
#include "ipc/hello.h"
#include "loop/mailbox.h"

struct app;

/* What a worker can be asked to do; one function, worker_set_state, changes it. */
enum worker_state {
    WORKER_STARTING, /* not READY on every loop yet */
    WORKER_READY,
    WORKER_DRAINING, /* said GOAWAY, or was told to go */
    WORKER_GONE      /* lost, or its last link has closed */
};

/* What a worker has in each loop. */
struct worker_in_loop {
    struct mail loss; /* tells the loop to close its links of this lost worker */
    struct worker *worker;
    _Atomic uint32_t open; /* links with this channel index */
    _Atomic bool
        replaceable; /* the link has used its ids up: another may come beside it (SPEC R22) */
};

struct worker {
    uint32_t magic;
    _Atomic uint32_t references; /* one per link and pending mail, one of the registry */
    struct app *app;
    struct list_node in_app; /* loop 0 */
    uint64_t serial;         /* from 1; never used again, as an address may be */

    uint8_t instance[16], token[16];
    pid_t pid;
    bool pid_from_kernel;
    uid_t uid;
    uint32_t capacity;
    uint64_t connected_at;
    char generation[129], python[65], version[65];
    uint32_t slot;    /* of its generation, in app->deploy */
    char *last_error; /* under app->error_lock; NULL: none. Owned. */

    bool ready_logged;           /* loop 0 */
    _Atomic int state;           /* enum worker_state */
    _Atomic uint32_t in_flight;  /* reserved slots */
    _Atomic uint32_t long_lived; /* WebSockets, event streams, and what has run for 30 s */
    _Atomic uint32_t abandoned;  /* streams that we have ended and the worker has not */
    struct health health;
    _Atomic uint32_t ready_links, open_links;
    _Atomic bool lost, unresponsive, left_told;
    _Atomic bool start_failed; /* its app did not start, or not in time, or its warm-up failed */
    _Atomic bool announced;    /* it was told to dial another gateway process too */
    _Atomic bool superseded;   /* it has dialled this one again: GOAWAY(DRAINING) instead */
    _Atomic bool proven;       /* it has answered a request, or its warm-up */
    _Atomic bool retire;       /* it is sent away: its links get GOAWAY(RETIRED) */
    _Atomic uint64_t ready_at;
    _Atomic uint64_t lag_ns, rss, served, refused;
    struct mail left;                /* to loop 0: the last link has closed */
    struct worker_in_loop in_loop[]; /* one per loop */
};

LIST_DEFINE(worker_list, struct worker, in_app);

/* A worker from its first HELLO, state STARTING, one reference (the registry's). NULL: no memory. */
struct worker *worker_new(struct app *app, const struct ipc_link *link, uint32_t slot,
                          unsigned loops, uint64_t now) MUST_CHECK;
struct worker *worker_ref(struct worker *worker);
void worker_unref(struct worker *worker);
/* Changes the state (never back from GONE) and counts it; returns the one before. Any loop. */
enum worker_state worker_set_state(struct worker *worker, enum worker_state state);
static inline enum worker_state worker_get_state(const struct worker *worker)
{
    return (enum worker_state)atomic_load_explicit(&worker->state, memory_order_acquire);
}
const char *worker_state_name(enum worker_state state);
/* What people are shown: also unresponsive, and paused (ready, but its generation or app is not served). */
const char *worker_condition(const struct worker *worker);
/* Reserves one of its slots; false when all are taken or it is not READY. Any loop. */
bool worker_reserve(struct worker *worker);
/* The same, while fewer than `most` are taken. */
bool worker_reserve_below(struct worker *worker, uint32_t most);
/* Takes one whatever its state and its capacity: for a warm-up. */
void worker_take_slot(struct worker *worker);
/* Gives a reserved slot back; exactly once per reservation. */
void worker_release(struct worker *worker);
/* How loaded it is, for comparison: (in flight + lag / 10 ms) per mille of its capacity. */
uint64_t worker_load(const struct worker *worker);

#endif
