/* SPDX-License-Identifier: MIT */
/*
 * The queue of requests that have no worker yet. Placing happens in the flush, before links are written, so
 * that all requests of one turn go into one write per worker. It must not know HTTP beyond the reasons it ends with.
 */
#include "app/pool.h"

#include "app/pool_choose.h"
#include "app/pool_links.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/frame.h"

#define POOL_MAGIC UINT32_C(0x504f4f4c)
/* A request that was refused by the only worker tries it again after this long. */
#define AVOID_NS (UINT64_C(50) * 1000000)
#define BUDGET_SECONDS 10u
#define BUDGET_MIN 3u

static bool any_link(const struct pool *pool, bool (*has)(const struct pool_link *link))
{
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        if (has(link)) {
            return true;
        }
    }
    return false;
}

/* --- the queue ---------------------------------------------------------------------------------------------------------- */

/* Whether it waits for the retry timer rather than for a slot: then it holds nobody behind it up. */
static bool is_avoiding(const struct pool_waiter *waiter)
{
    return waiter->avoid != 0 || waiter->held;
}

static struct pool_waiter *first_in_line(const struct pool *pool)
{
    LIST_EACH(pool_waiter_list, &pool->waiters, struct pool_waiter, waiter)
    {
        if (!is_avoiding(waiter)) {
            return waiter;
        }
    }
    return NULL;
}

/* Tells the other loops since when this one waits; not while none of its links could use a slot but those of others can. The store
 * comes before the next look at slots, and a slot's release before the look at this (both in the one order of seq_cst): so
 * either this loop sees the free slot, or the other one sees that somebody waits here. */
static void publish_oldest(struct pool *pool)
{
    const struct pool_waiter *first = first_in_line(pool);
    bool ready = app_ready(pool->app) > 0;
    bool counts = first != NULL && (!ready || any_link(pool, pool_is_usable));
    atomic_store(&pool->oldest, counts ? first->arrived_at : UINT64_MAX);
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
        uint64_t oldest = atomic_load(&other->oldest);
        if (oldest < arrived_at) {
            arrived_at = oldest;
            found = other;
        }
    }
    return found;
}

/* Takes it out, in the middle of a walk over the queue too. */
static void leave_queue(struct pool_waiter *waiter)
{
    struct pool *pool = waiter->pool;
    loop_timer_clear(&waiter->timer);
    if (!waiter->queued) {
        pool_waiter_list_remove(&pool->arrivals, waiter);
        return;
    }
    if (pool->cursor == waiter) {
        pool->cursor = pool_waiter_list_next(&pool->waiters, waiter);
    }
    pool_waiter_list_remove(&pool->waiters, waiter);
    waiter->queued = false;
    atomic_fetch_sub(&pool->app->waiting, 1);
    METRIC_DECREMENT(requests_waiting);
}

static void expire(struct pool_waiter *waiter, enum end_reason reason)
{
    leave_queue(waiter);
    waiter->on_expire(waiter, reason);
}

/* When its wait is over: while the app is paused, pause_timeout counts, and after that queue_timeout begins anew. */
static uint64_t wait_end(const struct app *app, const struct pool_waiter *waiter)
{
    uint64_t resumed = atomic_load(&app->resumed_at);
    if (atomic_load(&app->paused)) {
        uint64_t timeout = app->settings->pause_timeout;
        return waiter->queued_at + (timeout > waiter->timeout ? timeout : waiter->timeout);
    }
    return (resumed > waiter->queued_at ? resumed : waiter->queued_at) + waiter->timeout;
}

static void on_wait_timer(struct loop_timer *timer)
{
    struct pool_waiter *waiter = LIST_CONTAINER(timer, struct pool_waiter, timer);
    struct pool *pool = waiter->pool;
    uint64_t end = wait_end(pool->app, waiter);
    uint64_t now = loop_now(pool->loop);
    if (end > now && loop_timer_set(&waiter->timer, end - now) == ERROR_NONE) {
        return;
    }
    METRIC_INCREMENT(queue_timeouts);
    expire(waiter, app_ready(pool->app) == 0 ? END_NO_WORKER : END_QUEUE_TIMEOUT);
    loop_mark_dirty(pool->loop, &pool->dirty); /* others may have waited for this one */
}

/* By age. What has just come is the youngest; only a request that is placed again is not. */
static void insert(struct pool_waiter_list *list, struct pool_waiter *waiter)
{
    if (waiter->again) {
        LIST_EACH(pool_waiter_list, list, struct pool_waiter, other)
        {
            if (other->arrived_at > waiter->arrived_at) {
                pool_waiter_list_insert_(list, waiter, &other->in_pool);
                return;
            }
        }
    }
    pool_waiter_list_append(list, waiter);
}

/* Queues an arrival that could not be placed at once, or tells it that there is no room. A request that is placed again was let in
 * before: it always has its place. */
static void enqueue(struct pool_waiter *waiter)
{
    struct pool *pool = waiter->pool;
    struct app *app = pool->app;
    uint32_t before = atomic_fetch_add(&app->waiting, 1);
    enum end_reason reason = END_NONE;
    if (before >= app->settings->queue_max && !waiter->again) {
        METRIC_INCREMENT(queue_full);
        reason = END_QUEUE_FULL;
    } else if (loop_timer_set(&waiter->timer, waiter->timeout) != ERROR_NONE) {
        reason = END_NO_MEMORY;
    }
    if (reason != END_NONE) {
        atomic_fetch_sub(&app->waiting, 1);
        expire(waiter, reason);
        return;
    }
    pool_waiter_list_remove(&pool->arrivals, waiter);
    insert(&pool->waiters, waiter);
    waiter->queued = true;
    METRIC_INCREMENT(requests_waiting);
}

/* A WebSocket does not wait for what may never come: a worker that speaks it, or the end of another WebSocket. True: it was told so. */
static bool refuse_websocket(struct pool *pool, struct pool_waiter *waiter)
{
    bool usable = false;
    bool offered = false;
    if (atomic_load(&pool->app->deploy.fallback) != DEPLOY_NONE) {
        return false; /* who may have it changes in a moment */
    }
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        if (pool_is_usable(link)) {
            if (pool_suits(link, waiter)) {
                return false;
            }
            usable = true;
            offered |= channel_offers(link->channel, FRAME_FEATURE(websocket));
        }
    }
    if (usable && offered) {
        METRIC_INCREMENT(limit_long_lived);
    }
    if (usable) {
        expire(waiter, offered ? END_QUEUE_FULL : END_NO_WEBSOCKET);
    }
    return usable;
}

/* Tries one waiter. True: it is no longer in the queue. */
static bool place(struct pool *pool, struct pool_waiter *waiter)
{
    if (waiter->held || older_elsewhere(pool, waiter->arrived_at) != NULL) {
        return false;
    }
    struct pool_link *link = pool_choose(pool, waiter);
    if (link == NULL) {
        return waiter->websocket && refuse_websocket(pool, waiter);
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
        waiter->held = false;
    }
    loop_mark_dirty(pool->loop, &pool->dirty);
}

static void retry_later(struct pool *pool)
{
    if (!loop_timer_is_set(&pool->retry_timer) &&
        loop_timer_set(&pool->retry_timer, AVOID_NS) != ERROR_NONE) {
        on_retry_timer(&pool->retry_timer);
    }
}

/* The next one by age, of those that wait already and those that have just come. */
static struct pool_waiter *next_waiter(const struct pool *pool, bool blocked)
{
    struct pool_waiter *arrival = pool_waiter_list_first(&pool->arrivals);
    struct pool_waiter *queued = blocked ? NULL : pool->cursor;
    bool arrival_first =
        arrival != NULL && (queued == NULL || arrival->arrived_at < queued->arrived_at);
    return arrival_first ? arrival : queued;
}

/* Places in order what can be placed; once one cannot, the rest need not be looked at, and what has come is queued behind it. Who
 * is placed or refused may take others out of the queue. */
static void place_all(struct pool *pool)
{
    struct pool_waiter *waiter;
    bool blocked = false;
    pool->cursor = pool_waiter_list_first(&pool->waiters);
    while ((waiter = next_waiter(pool, blocked)) != NULL) {
        if (waiter->queued) {
            pool->cursor = pool_waiter_list_next(&pool->waiters, waiter);
        }
        if (!blocked && place(pool, waiter)) {
            continue;
        }
        if (is_avoiding(waiter)) {
            retry_later(pool);
        } else {
            blocked = true;
            if (pool->survey.changing) { /* there will be room without anybody's word */
                retry_later(pool);
            }
        }
        if (!waiter->queued) {
            enqueue(waiter);
        }
    }
    pool->cursor = NULL;
}

/* Whether a slot has become free behind place_all's back. */
static bool could_place(const struct pool *pool)
{
    const struct pool_waiter *first = first_in_line(pool);
    if (first == NULL || older_elsewhere(pool, first->arrived_at) != NULL) {
        return false;
    }
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        if (pool_has_room(link) && pool_suits(link, first)) {
            return true;
        }
    }
    return false;
}

static void tell_older(struct pool *pool)
{
    if (atomic_load(&pool->app->waiting) > 0) {
        struct pool *other = older_elsewhere(pool, atomic_load(&pool->oldest));
        if (other != NULL) {
            pool_kick(other);
        }
    }
}

static void expire_all(struct pool *pool, enum end_reason reason)
{
    struct pool_waiter *waiter;
    while ((waiter = pool_waiter_list_first(&pool->waiters)) != NULL ||
           (waiter = pool_waiter_list_first(&pool->arrivals)) != NULL) {
        expire(waiter, reason);
    }
    publish_oldest(pool);
}

static enum loop_flush on_flush(struct loop_dirty *dirty)
{
    struct pool *pool = LIST_CONTAINER(dirty, struct pool, dirty);
    if (pool->stopped) {
        expire_all(pool, END_SHUTDOWN);
        return LOOP_FLUSH_CLEAN;
    }
    pool_survey(pool);
    do {
        place_all(pool);
        publish_oldest(pool);
    } while (could_place(pool));
    if (any_link(pool, pool_has_room)) {
        tell_older(pool); /* a slot that this loop has no use for, or may not take */
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

void pool_wait(struct pool *pool, struct pool_waiter *waiter, uint64_t timeout, bool again)
{
    REQUIRE_OBJECT(pool, POOL_MAGIC);
    waiter->pool = pool;
    waiter->timeout = timeout;
    waiter->queued = false;
    waiter->again = again;
    waiter->queued_at = loop_now(pool->loop);
    loop_timer_init(&waiter->timer, pool->loop, on_wait_timer);
    if (!again) {
        waiter->arrived_at = loop_now(pool->loop);
        budget_advance(pool);
        pool->budget_requests[pool->budget_second % BUDGET_SECONDS]++;
    }
    insert(&pool->arrivals, waiter);
    loop_mark_dirty(pool->loop, &pool->dirty);
}

void pool_cancel(struct pool_waiter *waiter)
{
    leave_queue(waiter);
    loop_mark_dirty(waiter->pool->loop, &waiter->pool->dirty);
}

/* A slot is free: this loop looks, and the one that has waited longest. */
void pool_slot_freed(struct pool *pool)
{
    if (!pool_waiter_list_empty(&pool->waiters)) {
        loop_mark_dirty(pool->loop, &pool->dirty);
    }
    tell_older(pool);
}

void pool_release(struct pool_link *link)
{
    worker_release(link->worker);
    pool_slot_freed(link->pool);
}

static void on_kick(struct mail *mail, struct loop *loop)
{
    struct pool *pool = LIST_CONTAINER(mail, struct pool, kick);
    atomic_store_explicit(&pool->kicked, false, memory_order_release);
    if (!pool->stopped) {
        if (atomic_exchange_explicit(&pool->retire_look, false, memory_order_acq_rel)) {
            pool_links_send_away(pool);
        }
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
    pool_waiter_list_init(&pool->arrivals);
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
    expire_all(pool, END_SHUTDOWN);
    loop_timer_clear(&pool->retry_timer);
    loop_unmark_dirty(pool->loop, &pool->dirty);
    pool_links_close(pool, again);
}

bool pool_retire(struct pool *pool)
{
    REQUIRE_OBJECT(pool, POOL_MAGIC);
    if (atomic_load(&pool->app->waiting) > 0 || !pool_waiter_list_empty(&pool->arrivals)) {
        return false;
    }
    pool_links_retire(pool);
    if (!pool_link_list_empty(&pool->links)) {
        return false;
    }
    loop_timer_clear(&pool->retry_timer);
    loop_unmark_dirty(pool->loop, &pool->dirty);
    return true;
}

void pool_free(struct pool *pool)
{
    if (pool != NULL) {
        REQUIRE_OBJECT(pool, POOL_MAGIC);
        REQUIRE(pool_link_list_empty(&pool->links) && pool_waiter_list_empty(&pool->waiters) &&
                pool_waiter_list_empty(&pool->arrivals));
        pool->magic = MAGIC_FREED;
        mem_free(pool->table);
        mem_free(pool);
    }
}
