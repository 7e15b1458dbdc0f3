/* SPDX-License-Identifier: MIT */
/*
 * Which worker gets a request: the least loaded by a full scan, above 16 workers the better of two at random, so that many loops do
 * not rush at the same one. Workers that failed again and again, or that are clogged with streams whose clients have gone, are a
 * last resort; new ones are given more from second to second, while others have room.
 */
#include "app/pool_choose.h"

#include "base/hash.h"
#include "ipc/frame.h"

#define SCAN_MAX 16u
#define DRAWS 8u

/* Whether its generation serves; on probation (app/deploy.h) the one before still may, see pool_suits. */
static bool is_of_serving(const struct pool_link *link)
{
    return link->worker->slot ==
           atomic_load_explicit(&link->pool->app->deploy.serving, memory_order_acquire);
}

static bool is_of_fallback(const struct pool_link *link)
{
    return link->worker->slot ==
           atomic_load_explicit(&link->pool->app->deploy.fallback, memory_order_acquire);
}

bool pool_is_usable(const struct pool_link *link)
{
    const struct worker *worker = link->worker;
    return link->ready && worker_get_state(worker) == WORKER_READY &&
           (is_of_serving(link) || is_of_fallback(link)) &&
           !atomic_load_explicit(&worker->app->paused, memory_order_relaxed) &&
           !atomic_load_explicit(&worker->unresponsive, memory_order_relaxed) &&
           channel_can_open(link->channel);
}

static bool is_fit(const struct pool_link *link, uint64_t now)
{
    const struct worker *worker = link->worker;
    return !health_is_ejected(&worker->health, now) &&
           !health_is_clogged(atomic_load_explicit(&worker->abandoned, memory_order_relaxed),
                              worker->capacity);
}

static bool is_new(const struct pool_link *link, uint64_t now)
{
    return health_is_ramping(atomic_load_explicit(&link->worker->ready_at, memory_order_relaxed),
                             link->pool->app->settings->slow_start, now);
}

void pool_survey(struct pool *pool)
{
    uint64_t now = loop_now(pool->loop);
    struct pool_survey survey = {.at = now};
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        if (!pool_is_usable(link) || !is_of_serving(link)) {
            continue;
        }
        bool fit = is_fit(link, now);
        bool young = is_new(link, now);
        survey.fit |= fit;
        survey.steady |= fit && !young;
        survey.proven |= atomic_load_explicit(&link->worker->proven, memory_order_relaxed);
        survey.changing |= !fit;
    }
    pool->survey = survey;
}

/* On probation a request that could not be placed again goes to a worker of the new generation that has answered one before, and as long as
 * there is none, to the generation before: what dies of its first request costs nobody his. */
static bool suits_probation(const struct pool_link *link, const struct pool_waiter *waiter)
{
    bool probation = atomic_load_explicit(&link->pool->app->deploy.fallback,
                                          memory_order_relaxed) != DEPLOY_NONE;
    if (!is_of_serving(link)) {
        return probation && !waiter->safe && !link->pool->survey.proven;
    }
    return !probation || waiter->safe ||
           atomic_load_explicit(&link->worker->proven, memory_order_relaxed);
}

bool pool_suits(const struct pool_link *link, const struct pool_waiter *waiter)
{
    return suits_probation(link, waiter) &&
           (!waiter->websocket ||
            (channel_offers(link->channel, FRAME_FEATURE(websocket)) &&
             atomic_load_explicit(&link->worker->long_lived, memory_order_relaxed) <
                 link->pool->app->settings->long_lived_max));
}

/* How many slots of the worker may be taken now; `gently`: while it is new, not more than its share. */
static uint32_t allowed(const struct pool_link *link, bool gently)
{
    const struct pool_survey *survey = &link->pool->survey;
    const struct worker *worker = link->worker;
    if (!pool_is_usable(link) || (survey->fit && !is_fit(link, survey->at))) {
        return 0;
    }
    if (!gently) {
        return worker->capacity;
    }
    return health_ramp(worker->capacity,
                       atomic_load_explicit(&worker->ready_at, memory_order_relaxed),
                       link->pool->app->settings->slow_start, survey->at);
}

bool pool_has_room(const struct pool_link *link)
{
    /* Sequentially consistent: publish_oldest in pool.c says why. */
    return atomic_load(&link->worker->in_flight) < allowed(link, false);
}

static bool can_serve(const struct pool_link *link, const struct pool_waiter *waiter, bool gently)
{
    return link->worker->serial != waiter->avoid &&
           atomic_load(&link->worker->in_flight) < allowed(link, gently) &&
           pool_suits(link, waiter);
}

/* The least loaded of all; ties go to any of them. */
static struct pool_link *scan(struct pool *pool, const struct pool_waiter *waiter, bool gently)
{
    struct pool_link *best = NULL;
    uint64_t best_load = 0;
    uint32_t ties = 1;
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        if (!can_serve(link, waiter, gently)) {
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
    return best;
}

/* The less loaded of two; NULL: a few draws did not find them. */
static struct pool_link *draw(struct pool *pool, const struct pool_waiter *waiter, bool gently)
{
    struct pool_link *first = NULL;
    for (unsigned i = 0; i < DRAWS; i++) {
        struct pool_link *link = pool->table[random_cheap() % pool->links.length];
        if (link == first || !can_serve(link, waiter, gently)) {
            continue;
        }
        if (first != NULL) {
            return worker_load(link->worker) < worker_load(first->worker) ? link : first;
        }
        first = link;
    }
    return NULL;
}

struct pool_link *pool_choose(struct pool *pool, const struct pool_waiter *waiter)
{
    bool gently = pool->survey.steady; /* else all are new, or nobody else is there */
    for (;;) {
        struct pool_link *link = pool->links.length > SCAN_MAX ? draw(pool, waiter, gently) : NULL;
        link = link != NULL ? link : scan(pool, waiter, gently);
        if (link == NULL && gently) {
            gently = false; /* better a new worker than the queue */
        } else if (link == NULL || worker_reserve_below(link->worker, allowed(link, gently))) {
            return link;
        }
        /* Another loop took the last slot meanwhile: look again. */
    }
}
