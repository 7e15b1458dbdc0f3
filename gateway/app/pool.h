/* SPDX-License-Identifier: MIT */
/*
 * The pool: the channels of one app on one loop, and this loop's waiters. It chooses a worker for each request, reserves the
 * slot before the request is queued on a channel, and keeps the bounded queue. New arrivals never overtake waiters, in this
 * loop or another.
 */
#ifndef GATEWAY_APP_POOL_H
#define GATEWAY_APP_POOL_H

#include "app/app.h"
#include "app/worker.h"
#include "base/list.h"
#include "http/end_reason.h"
#include "ipc/channel.h"
#include "loop/loop.h"
#include "loop/mailbox.h"

/* One link of a worker in one loop. */
struct pool_link {
    uint32_t magic;
    struct pool *pool;
    struct worker *worker;   /* holds a reference */
    struct channel *channel; /* NULL until attached in its loop */
    struct list_node in_pool;
    size_t in_table;
    const struct apps_settings
        *settings; /* held: those that its worker was told of; NULL until attached */
    bool ready, told_to_go;
    struct warmup *warmup; /* under way on this link; NULL: none */
    struct mail attach;    /* carries it to its loop */
    struct ipc_link *incoming;
    struct loop_grave grave;
};

LIST_DEFINE(pool_link_list, struct pool_link, in_pool);

/* A request that wants a worker. Embedded in its owner. */
struct pool_waiter {
    struct list_node in_pool;
    struct pool *pool;
    struct loop_timer timer;
    uint64_t avoid; /* serial of a worker that refused it a moment ago; 0: none */
    uint64_t arrived_at;
    uint64_t queued_at; /* when it began to wait, this time */
    uint64_t timeout;   /* how long it may */
    bool held;          /* refused more than once: nobody gets it before the retry timer */
    bool
        websocket; /* only to a link that offers it, and to a worker with fewer than long_lived_max */
    bool
        safe; /* can be placed again whatever happens to its worker: may go to one that has not proved itself */
    bool queued; /* in `waiters`, counted in app->waiting; else in `arrivals`, or in neither */
    bool again;  /* was with a worker before: goes by its age, and has its place in a full queue */
    /* A slot of link->worker is reserved for it: open a stream, or call pool_release(link). */
    void (*on_place)(struct pool_waiter *waiter, struct pool_link *link);
    /* It will get no worker: END_QUEUE_FULL, END_QUEUE_TIMEOUT, END_NO_WORKER, END_NO_MEMORY, END_SHUTDOWN. */
    void (*on_expire)(struct pool_waiter *waiter, enum end_reason reason);
};

LIST_DEFINE(pool_waiter_list, struct pool_waiter, in_pool);

/* What a flush needs to know of all links before it places requests (pool_choose.c). */
struct pool_survey {
    uint64_t at;
    bool fit;      /* somebody usable is neither ejected nor clogged */
    bool steady;   /* of these, somebody is not new */
    bool proven;   /* somebody of the serving generation has answered a request */
    bool changing; /* somebody usable is ejected or clogged */
};

struct pool {
    uint32_t magic;
    struct list_node in_loop;
    struct app *app;
    struct app_loop *app_loop;
    struct loop *loop;
    struct pool_link_list links;
    struct pool_link **table; /* the same, for drawing lots; `table_room` places */
    size_t table_room;
    struct pool_survey survey;
    struct pool_waiter_list waiters;  /* queued, by age */
    struct pool_waiter_list arrivals; /* since the last flush, by age */
    struct pool_waiter *cursor;       /* the flush's next one in `waiters` */
    /* arrived_at of the first waiter in line, as the other loops see it; UINT64_MAX: none, or no link that could serve it. */
    _Atomic uint64_t oldest;
    struct loop_dirty dirty;
    struct mail kick; /* "look at your queue": posted by loops that freed a slot */
    _Atomic bool kicked;
    _Atomic bool retire_look; /* workers are to be sent away */
    struct loop_timer retry_timer;
    uint64_t budget_second; /* retry budget over the last 10 s */
    uint32_t budget_requests[10], budget_retries[10];
    bool stopped;
};

LIST_DEFINE(pool_list, struct pool, in_loop);

/* Makes an empty pool. NULL: no memory. */
struct pool *pool_new(struct app *app, struct app_loop *app_loop) MUST_CHECK;
/* Closes its links and expires its waiters (END_SHUTDOWN). A second call does not wait for links that take nothing. */
void pool_stop(struct pool *pool);
void pool_free(struct pool *pool);
/* For an app that is no longer configured: once nobody waits, its links are told to go (channel GOAWAY); open streams go on. True: nothing
 * is left in it, and nothing of it is marked for this loop's flush. In the pool's loop; again and again. */
bool pool_retire(struct pool *pool);

/* Makes the waiter wait from now on; it is placed, or told that it cannot be, in this turn's flush at the earliest. `again`: it was with
 * a worker before and is placed by the age that it has, which is in general at the head of the queue. */
void pool_wait(struct pool *pool, struct pool_waiter *waiter, uint64_t timeout, bool again);
/* Takes a waiter back (its client has gone). */
void pool_cancel(struct pool_waiter *waiter);
/* Gives back a slot that was reserved for a waiter and not used. */
void pool_release(struct pool_link *link);
/* Whether the retry budget (max(3, 20 % of the requests of the last 10 s)) allows one more; counts it when so. */
bool pool_take_retry(struct pool *pool);
/* Takes a link whose worker is registered into this pool (in the pool's loop): makes its channel. */
void pool_attach(struct pool *pool, struct pool_link *link);
/* Closes every link of a lost worker in this pool. */
void pool_drop_worker(struct pool *pool, struct worker *worker);
/* Asks the pool of another loop (or this one) to look at its queue. Any thread. */
void pool_kick(struct pool *pool);

#endif
