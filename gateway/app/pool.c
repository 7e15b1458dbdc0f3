/* SPDX-License-Identifier: MIT */
/*
 * Choosing a worker and the queue of those that have none yet. Placing happens in the flush, before links are written, so
 * that all requests of one turn go into one write per worker. It must not know HTTP beyond the reasons it ends with.
 */
#include "app/pool.h"

#include "app/pool_links.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"

#define POOL_MAGIC UINT32_C(0x504f4f4c)
/* A request that was refused by the only worker tries it again after this long. */
#define AVOID_NS (UINT64_C(50) * 1000000)
#define BUDGET_SECONDS 10u
#define BUDGET_MIN 3u

/* --- choosing ----------------------------------------------------------------------------------------------------------- */

/* An unresponsive worker gets nothing new: its requests would wait there instead of here. */
static bool can_take(const struct pool_link *link)
{
    const struct worker *worker = link->worker;
    return link->ready && worker_get_state(worker) == WORKER_READY &&
           !atomic_load_explicit(&worker->unresponsive, memory_order_relaxed) &&
           atomic_load_explicit(&worker->in_flight, memory_order_relaxed) < worker->capacity &&
           channel_can_open(link->channel);
}

/* The least loaded worker that can take one more, its slot reserved; NULL when there is none now. */
static struct pool_link *choose(struct pool *pool, uint64_t avoid)
{
    for (;;) {
        struct pool_link *best = NULL;
        uint64_t best_load = 0;
        uint32_t ties = 1;
        LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
        {
            if (link->worker->serial == avoid || !can_take(link)) {
                continue;
            }
            uint64_t load = worker_load(link->worker);
            if (best == NULL || load < best_load) {
                best = link;
                best_load = load;
                ties = 1;
            } else if (load == best_load && random_cheap() % ++ties == 0) {
                best = link;
            }
        }
        if (best == NULL || worker_reserve(best->worker)) {
            return best;
        }
        /* Another loop took the last slot meanwhile: look again. */
    }
}

/* --- the queue ---------------------------------------------------------------------------------------------------------- */

static void publish_oldest(struct pool *pool)
{
    uint64_t oldest = UINT64_MAX;
    LIST_EACH(pool_waiter_list, &pool->waiters, struct pool_waiter, waiter)
    {
        if (waiter->queued && waiter->avoid == 0) {
            oldest = waiter->arrived_at;
            break;
        }
    }
    atomic_store_explicit(&pool->oldest, oldest, memory_order_release);
}

/* The pool of this app, in another loop, whose oldest waiter is older than `arrived_at`; NULL when there is none. */
static struct pool *older_elsewhere(const struct pool *pool, uint64_t arrived_at)
{
    struct pool *found = NULL;
    const struct apps *apps = pool->app->apps;
    for (unsigned i = 0; i < apps->loop_count; i++) {
        struct pool *other = pool->app->pools[i];
        if (other == pool) {
            continue;
        }
        uint64_t oldest = atomic_load_explicit(&other->oldest, memory_order_acquire);
        if (oldest < arrived_at) {
            arrived_at = oldest;
            found = other;
        }
    }
    return found;
}

static void leave_queue(struct pool_waiter *waiter)
{
    struct pool *pool = waiter->pool;
    pool_waiter_list_remove(&pool->waiters, waiter);
    loop_timer_clear(&waiter->timer);
    if (waiter->queued) {
        waiter->queued = false;
        pool->queued--;
        atomic_fetch_sub_explicit(&pool->app->waiting, 1, memory_order_relaxed);
        METRIC_DECREMENT(requests_waiting);
    }
}

static void expire(struct pool_waiter *waiter, enum end_reason reason)
{
    leave_queue(waiter);
    waiter->on_expire(waiter, reason);
}

static void on_wait_timer(struct loop_timer *timer)
{
    struct pool_waiter *waiter = LIST_CONTAINER(timer, struct pool_waiter, timer);
    struct pool *pool = waiter->pool;
    METRIC_INCREMENT(queue_timeouts);
    bool none_ready = atomic_load_explicit(&pool->app->ready_workers, memory_order_relaxed) == 0;
    expire(waiter, none_ready ? END_NO_WORKER : END_QUEUE_TIMEOUT);
    publish_oldest(pool);
}

/* Counts a waiter that could not be placed at once. False: the queue is full (the waiter has been told). */
static bool enqueue(struct pool_waiter *waiter)
{
    struct app *app = waiter->pool->app;
    uint32_t before = atomic_fetch_add_explicit(&app->waiting, 1, memory_order_relaxed);
    if (before >= app->settings->queue_max ||
        loop_timer_set(&waiter->timer, waiter->timeout) != ERROR_NONE) {
        atomic_fetch_sub_explicit(&app->waiting, 1, memory_order_relaxed);
        METRIC_INCREMENT(queue_full);
        expire(waiter, END_QUEUE_FULL);
        return false;
    }
    waiter->queued = true;
    waiter->pool->queued++;
    METRIC_INCREMENT(requests_waiting);
    return true;
}

/* Tries one waiter. True: it is no longer in the list. */
static bool place(struct pool *pool, struct pool_waiter *waiter)
{
    if (older_elsewhere(pool, waiter->arrived_at) != NULL) {
        return false;
    }
    struct pool_link *link = choose(pool, waiter->avoid);
    if (link == NULL) {
        return false;
    }
    leave_queue(waiter);
    waiter->on_place(waiter, link);
    return true;
}

static void on_retry_timer(struct loop_timer *timer)
{
    struct pool *pool = LIST_CONTAINER(timer, struct pool, retry_timer);
    LIST_EACH(pool_waiter_list, &pool->waiters, struct pool_waiter, waiter)
    {
        waiter->avoid = 0;
    }
    loop_mark_dirty(pool->loop, &pool->dirty);
}

/* Places what can be placed, in order; the rest is queued. A slot that is left goes to the loop that waits longest. */
static enum loop_flush on_flush(struct loop_dirty *dirty)
{
    struct pool *pool = LIST_CONTAINER(dirty, struct pool, dirty);
    bool blocked = false;
    bool avoiding = false;
    LIST_EACH(pool_waiter_list, &pool->waiters, struct pool_waiter, waiter)
    {
        if (!blocked && place(pool, waiter)) {
            continue;
        }
        if (waiter->avoid != 0) {
            avoiding = true;
        } else {
            blocked = true;
        }
        if (!waiter->queued) {
            (void)enqueue(waiter);
        }
    }
    if (avoiding && !loop_timer_is_set(&pool->retry_timer)) {
        if (loop_timer_set(&pool->retry_timer, AVOID_NS) != ERROR_NONE) {
            on_retry_timer(&pool->retry_timer);
        }
    }
    publish_oldest(pool);
    if (pool->queued == 0 && atomic_load_explicit(&pool->app->waiting, memory_order_relaxed) > 0) {
        struct pool *other = older_elsewhere(pool, UINT64_MAX);
        if (other != NULL) {
            pool_kick(other);
        }
    }
    return LOOP_FLUSH_CLEAN;
}

/* Moves the budget's window of ten seconds to now. */
static void budget_advance(struct pool *pool)
{
    uint64_t second = loop_now(pool->loop) / UINT64_C(1000000000);
    uint64_t steps = second - pool->budget_second;
    for (uint64_t i = 1; i <= steps && i <= BUDGET_SECONDS; i++) {
        pool->budget_requests[(pool->budget_second + i) % BUDGET_SECONDS] = 0;
        pool->budget_retries[(pool->budget_second + i) % BUDGET_SECONDS] = 0;
    }
    pool->budget_second = second;
}

bool pool_take_retry(struct pool *pool)
{
    uint32_t requests = 0;
    uint32_t retries = 0;
    budget_advance(pool);
    for (unsigned i = 0; i < BUDGET_SECONDS; i++) {
        requests += pool->budget_requests[i];
        retries += pool->budget_retries[i];
    }
    uint32_t allowed = requests / 5 > BUDGET_MIN ? requests / 5 : BUDGET_MIN;
    if (retries >= allowed) {
        METRIC_INCREMENT(retries_over_budget);
        return false;
    }
    pool->budget_retries[pool->budget_second % BUDGET_SECONDS]++;
    return true;
}

void pool_wait(struct pool *pool, struct pool_waiter *waiter, uint64_t timeout, bool retry)
{
    REQUIRE_OBJECT(pool, POOL_MAGIC);
    waiter->pool = pool;
    waiter->timeout = timeout;
    waiter->queued = false;
    loop_timer_init(&waiter->timer, pool->loop, on_wait_timer);
    if (retry) {
        pool_waiter_list_prepend(&pool->waiters, waiter);
    } else {
        waiter->arrived_at = loop_now(pool->loop);
        budget_advance(pool);
        pool->budget_requests[pool->budget_second % BUDGET_SECONDS]++;
        pool_waiter_list_append(&pool->waiters, waiter);
    }
    loop_mark_dirty(pool->loop, &pool->dirty);
}

void pool_cancel(struct pool_waiter *waiter)
{
    leave_queue(waiter);
    publish_oldest(waiter->pool);
    loop_mark_dirty(waiter->pool->loop, &waiter->pool->dirty);
}

/* A slot is free: the loop that has waited longest looks first. */
static void slot_freed(struct pool *pool)
{
    if (atomic_load_explicit(&pool->app->waiting, memory_order_relaxed) == 0 &&
        pool_waiter_list_empty(&pool->waiters)) {
        return;
    }
    struct pool *other =
        older_elsewhere(pool, atomic_load_explicit(&pool->oldest, memory_order_relaxed));
    if (other != NULL) {
        pool_kick(other);
    } else {
        loop_mark_dirty(pool->loop, &pool->dirty);
    }
}

void pool_release(struct pool_link *link)
{
    worker_release(link->worker);
    slot_freed(link->pool);
}

static void on_kick(struct mail *mail, struct loop *loop)
{
    struct pool *pool = LIST_CONTAINER(mail, struct pool, kick);
    atomic_store_explicit(&pool->kicked, false, memory_order_release);
    if (!pool->stopped) {
        loop_mark_dirty(loop, &pool->dirty);
    }
}

static void discard_kick(struct mail *mail)
{
    struct pool *pool = LIST_CONTAINER(mail, struct pool, kick);
    atomic_store_explicit(&pool->kicked, false, memory_order_release);
}

void pool_kick(struct pool *pool)
{
    if (!atomic_exchange_explicit(&pool->kicked, true, memory_order_acq_rel)) {
        mailbox_post(pool->loop, &pool->kick);
    }
}

void pool_slot_freed(struct pool *pool)
{
    slot_freed(pool);
}

/* --- life --------------------------------------------------------------------------------------------------------------- */

struct pool *pool_new(struct app *app, struct app_loop *app_loop)
{
    struct pool *pool = mem_calloc(1, sizeof *pool);
    if (pool == NULL) {
        return NULL;
    }
    pool->magic = POOL_MAGIC;
    pool->app = app;
    pool->app_loop = app_loop;
    pool->loop = app_loop->loop;
    pool_link_list_init(&pool->links);
    pool_waiter_list_init(&pool->waiters);
    atomic_init(&pool->oldest, UINT64_MAX);
    loop_dirty_init(&pool->dirty, LOOP_STAGE_LINK, on_flush);
    loop_timer_init(&pool->retry_timer, pool->loop, on_retry_timer);
    pool->kick.deliver = on_kick;
    pool->kick.discard = discard_kick;
    return pool;
}

void pool_stop(struct pool *pool)
{
    REQUIRE_OBJECT(pool, POOL_MAGIC);
    bool again = pool->stopped;
    pool->stopped = true;
    for (struct pool_waiter *waiter; (waiter = pool_waiter_list_first(&pool->waiters)) != NULL;) {
        expire(waiter, END_SHUTDOWN);
    }
    publish_oldest(pool);
    loop_timer_clear(&pool->retry_timer);
    loop_unmark_dirty(pool->loop, &pool->dirty);
    pool_links_close(pool, again);
}

void pool_free(struct pool *pool)
{
    if (pool != NULL) {
        REQUIRE_OBJECT(pool, POOL_MAGIC);
        REQUIRE(pool_link_list_empty(&pool->links) && pool_waiter_list_empty(&pool->waiters));
        pool->magic = MAGIC_FREED;
        mem_free(pool);
    }
}
