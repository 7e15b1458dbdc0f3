/* SPDX-License-Identifier: MIT */
/*
 * The retry table: what may be placed again when its worker was lost or refused it. Decided by what is known to have
 * started; never twice for a request that is not safe to repeat.
 */
#include "app/forward.h"
#include "app/forward_ws.h"
#include "base/log.h"
#include "base/metrics.h"
#include "http/conn.h"

/* One request may cost two workers; then it is held to be the cause. */
#define POISON_WORKERS 2

static bool is_one_of(struct slice method, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (slice_equal(method, slice_from(*names))) {
            return true;
        }
    }
    return false;
}

/* Whether a request that may have started can run again (RFC 9110 9.2.1, 9.2.2). */
static bool repeatable(struct slice method, enum app_retry retry)
{
    static const char *const safe[] = {"GET", "HEAD", "OPTIONS", NULL};
    static const char *const idempotent[] = {"PUT", "DELETE", NULL};
    return (retry >= APP_RETRY_SAFE && is_one_of(method, safe)) ||
           (retry >= APP_RETRY_IDEMPOTENT && is_one_of(method, idempotent));
}

bool forward_is_safe(const struct forward *forward, const struct pool *pool)
{
    return forward->ws == NULL && !forward->started_retried &&
           !forward->exchange->request.has_body &&
           repeatable(forward->exchange->request.method, pool->app->settings->retry);
}

/* Which counter the retry belongs to; METRIC_COUNT: it is not allowed. */
static enum metric judge(struct forward *forward, const struct channel_gone *gone)
{
    struct pool *pool = forward->waiter.pool;
    enum app_retry retry = pool->app->settings->retry;
    if (retry == APP_RETRY_NEVER || forward->response_seen || !forward->replayable) {
        return METRIC_COUNT;
    }
    if (gone->end == CHANNEL_END_REFUSED) {
        return METRIC_retries_refused;
    }
    if (gone->fate != CHANNEL_FATE_STARTED) {
        return METRIC_retries_unstarted;
    }
    forward->workers_lost++;
    if (forward->workers_lost >= POISON_WORKERS) {
        METRIC_INCREMENT(requests_poisonous);
        log_error("app", "%s: a request cost %u workers: %.*s %.*s", pool->app->name,
                  forward->workers_lost, SLICE_PRINT(forward->exchange->request.method),
                  SLICE_PRINT(forward->exchange->request.raw_path));
        return METRIC_COUNT;
    }
    if (forward->ws != NULL || forward->started_retried ||
        !repeatable(forward->exchange->request.method, retry) || !pool_take_retry(pool)) {
        return METRIC_COUNT;
    }
    forward->started_retried = true;
    return METRIC_retries_started;
}

/* A fresh queue_timeout for all the waiting that retries cost, but not beyond the request's own deadline. 0: it is used up, as when
 * every worker refuses again and again. */
static uint64_t fresh_timeout(const struct forward *forward)
{
    uint64_t timeout = forward->waiter.pool->app->settings->queue_timeout;
    uint64_t deadline = forward->settings->http->request_deadline;
    timeout = forward->waited < timeout ? timeout - forward->waited : 0;
    if (deadline != 0) {
        uint64_t age = loop_now(forward->app_loop->loop) - forward->exchange->started_at;
        uint64_t left = age < deadline ? deadline - age : 0;
        timeout = left < timeout ? left : timeout;
    }
    return timeout;
}

/* Back into the queue, as if it had never been with a worker. */
static void place_again(struct forward *forward, bool refused, uint64_t timeout)
{
    struct exchange *exchange = forward->exchange;
    exchange->retries++;
    byteq_rewind(&exchange->request_body);
    /* A lost worker is not there to be avoided. Two that refuse must not toss a request to and fro without a pause. */
    forward->waiter.avoid = refused ? forward->link->worker->serial : 0;
    forward->refusals += refused;
    forward->waiter.held = refused && forward->refusals > 1;
    forward->waiting_since = loop_now(forward->app_loop->loop);
    forward->link = NULL;
    forward_left_worker(forward);
    if (forward->ws != NULL) {
        forward_ws_left_worker(forward);
    }
    forward->phase = FORWARD_WAITING;
    forward->sent = 0;
    forward->end_sent = false;
    forward->eof_owed = exchange->client_half_closed;
    forward->waiter.safe = forward_is_safe(forward, forward->waiter.pool);
    pool_wait(forward->waiter.pool, &forward->waiter, timeout, true);
    forward_set_timer(forward);
}

void forward_lost(struct forward *forward, const struct channel_gone *gone)
{
    bool refused = gone->end == CHANNEL_END_REFUSED;
    if (refused) {
        atomic_fetch_add_explicit(&forward->link->worker->refused, 1, memory_order_relaxed);
    }
    enum metric counter = judge(forward, gone);
    uint64_t timeout = fresh_timeout(forward);
    if (counter != METRIC_COUNT && timeout > 0) {
        metric_add(counter, 1);
        place_again(forward, refused, timeout);
    } else if (refused) {
        forward_fail(forward, END_NO_WORKER, "the worker refused the request");
    } else {
        forward_fail(forward, END_WORKER_LOST, "the worker was lost");
    }
}
