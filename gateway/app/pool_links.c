/* SPDX-License-Identifier: MIT */
/*
 * The links of a pool: attached by mailbox, owned by their loop, gone with their channel. A worker is ready when each of its
 * links is; it is lost as a whole when one of them is lost.
 */
#include "app/pool_links.h"

#include <stdio.h>

#include "app/forward_ws.h"
#include "app/pool_choose.h"
#include "app/warmup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/frame.h"

#define POOL_LINK_MAGIC UINT32_C(0x504c494e)

/* Whether the loop's links can serve its waiters may be another answer now. */
static void look_again(const struct pool_link *link)
{
    loop_mark_dirty(link->pool->loop, &link->pool->dirty);
}

/* --- loss --------------------------------------------------------------------------------------------------------------- */

static void on_loss(struct mail *mail, struct loop *loop)
{
    struct worker *worker = LIST_CONTAINER(mail, struct worker_in_loop, loss)->worker;
    pool_drop_worker(worker->app->pools[loop_index(loop)], worker);
    worker_unref(worker);
}

static void discard_loss(struct mail *mail)
{
    worker_unref(LIST_CONTAINER(mail, struct worker_in_loop, loss)->worker);
}

/* What it said itself says more. */
static void note_loss(struct worker *worker, const char *why)
{
    pthread_mutex_lock(&worker->app->error_lock);
    bool said = worker->last_error != NULL;
    pthread_mutex_unlock(&worker->app->error_lock);
    if (!said) {
        app_note_error(worker, FRAME_ERROR_WORKER_LOST, slice_from(why));
    }
}

void worker_lost(struct worker *worker, const char *why)
{
    if (atomic_exchange_explicit(&worker->lost, true, memory_order_acq_rel)) {
        return;
    }
    METRIC_INCREMENT(workers_lost);
    /* That a start failed was said with its traceback. */
    log_at(atomic_load(&worker->start_failed) ? LOG_DEBUG : LOG_WARNING, "app",
           "%s: worker %d lost: %s", worker->app->name, (int)worker->pid, why);
    if (worker_set_state(worker, WORKER_GONE) == WORKER_READY &&
        deploy_fall_back(&worker->app->deploy, worker->slot)) {
        METRIC_INCREMENT(deploys_fallen_back);
        log_error("deploy",
                  "%s: worker %d of generation %s was lost on probation: the generation "
                  "before serves again",
                  worker->app->name, (int)worker->pid, worker->generation);
        app_kick(worker->app);
    }
    note_loss(worker, why);
    const struct apps *apps = worker->app->apps;
    for (unsigned i = 0; i < apps->loop_count; i++) {
        struct worker_in_loop *there = &worker->in_loop[i];
        there->worker = worker_ref(worker);
        there->loss.deliver = on_loss;
        there->loss.discard = discard_loss;
        mailbox_post(apps->loops[i], &there->loss);
    }
}

void pool_link_failed(struct pool_link *link)
{
    struct worker *worker = link->worker;
    bool others = false;
    LIST_EACH(pool_link_list, &link->pool->links, struct pool_link, other)
    {
        others |= other->worker != worker && pool_is_usable(other) &&
                  !health_is_ejected(&other->worker->health, loop_now(link->pool->loop));
    }
    if (health_failed(&worker->health, loop_now(link->pool->loop), others)) {
        METRIC_INCREMENT(workers_ejected);
        log_warning("app", "%s: worker %d is left out for %u s: %u failures in a row",
                    worker->app->name, (int)worker->pid,
                    10 * atomic_load(&worker->health.ejections), HEALTH_FAILURES);
    }
}

void pool_drop_worker(struct pool *pool, struct worker *worker)
{
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        if (link->worker == worker) {
            channel_close(link->channel, FRAME_ERROR_WORKER_LOST,
                          "another link of this worker was lost");
        }
    }
}

/* Once: open streams go on to their end. */
static void tell_to_go(struct pool_link *link, enum frame_error code)
{
    if (!link->told_to_go) {
        link->told_to_go = true;
        worker_set_state(link->worker, WORKER_DRAINING);
        forward_ws_drain_link(link->pool->app_loop, link);
        channel_goaway(link->channel, code);
    }
}

void pool_links_send_away(struct pool *pool)
{
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        if (atomic_load_explicit(&link->worker->retire, memory_order_acquire)) {
            bool again = atomic_load_explicit(&link->worker->superseded, memory_order_relaxed);
            tell_to_go(link,
                       again ? FRAME_ERROR_DRAINING : FRAME_ERROR_RETIRED); /* SPEC R95, R97 */
        }
    }
}

void pool_links_close(struct pool *pool, bool now)
{
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        worker_set_state(link->worker, WORKER_DRAINING);
        /* Requests that the worker has not ended yet have no client any more: nobody waits for them. */
        if (!now && channel_counts(link->channel).open == 0) {
            channel_goaway(link->channel, FRAME_ERROR_DRAINING); /* SPEC R95 */
        } else {
            channel_close(link->channel, FRAME_ERROR_RECONNECT, "the gateway stops");
            channel_give_up(link->channel);
        }
    }
}

void pool_links_announce(struct pool *pool)
{
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        if (!link->told_to_go) {
            atomic_store(&link->worker->announced, true);
            channel_announce(link->channel);
        }
    }
}

void pool_links_retire(struct pool *pool)
{
    LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
    {
        tell_to_go(link, FRAME_ERROR_DRAINING); /* SPEC R95 */
    }
}

/* --- the pool's links ---------------------------------------------------------------------------------------------------- */

static enum error make_room(struct pool *pool)
{
    if (pool->links.length < pool->table_room) {
        return ERROR_NONE;
    }
    size_t room = pool->table_room > 0 ? 2 * pool->table_room : 8;
    struct pool_link **table = mem_calloc(room, sizeof *table);
    if (table == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < pool->links.length; i++) {
        table[i] = pool->table[i];
    }
    mem_free(pool->table);
    pool->table = table;
    pool->table_room = room;
    return ERROR_NONE;
}

/* There is room. */
static void add_link(struct pool *pool, struct pool_link *link)
{
    link->in_table = pool->links.length;
    pool->table[link->in_table] = link;
    pool_link_list_append(&pool->links, link);
}

static void remove_link(struct pool *pool, struct pool_link *link)
{
    struct pool_link *last = pool->table[pool->links.length - 1];
    pool->table[link->in_table] = last;
    last->in_table = link->in_table;
    pool_link_list_remove(&pool->links, link);
}

/* --- the channel's news --------------------------------------------------------------------------------------------------- */

static void become_ready(struct pool_link *link)
{
    struct worker *worker = link->worker;
    atomic_store(&worker->ready_at, loop_now(link->pool->loop));
    worker_set_state(worker, WORKER_READY);
    app_kick(worker->app);
}

static void on_warm(struct pool_link *link, const char *failure)
{
    struct worker *worker = link->worker;
    char text[256];
    link->warmup = NULL;
    if (failure == NULL) {
        atomic_store(&worker->proven, true);
        become_ready(link);
        return;
    }
    METRIC_INCREMENT(warmups_failed);
    snprintf(text, sizeof text, "the request of apps.%s.warmup (%.*s) failed: %s",
             worker->app->name, SLICE_PRINT(worker->app->settings->warmup), failure);
    log_error("app", "%s: worker %d: %s", worker->app->name, (int)worker->pid, text);
    app_note_error(worker, FRAME_ERROR_STARTUP_FAILED, slice_from(text));
    atomic_store(&worker->start_failed, true);
    channel_close(link->channel, FRAME_ERROR_STARTUP_FAILED, text);
}

static void on_ready(struct channel *channel, void *owner)
{
    struct pool_link *link = owner;
    struct worker *worker = link->worker;
    (void)channel;
    link->ready = true;
    uint32_t ready = atomic_fetch_add_explicit(&worker->ready_links, 1, memory_order_acq_rel) + 1;
    if (ready < worker->app->apps->loop_count || worker_get_state(worker) != WORKER_STARTING) {
        look_again(link); /* dialled again: who waits in this loop may have waited for it */
    } else if (worker->app->settings->warmup.length == 0) {
        become_ready(link);
    } else {
        link->warmup = warmup_start(link, on_warm);
        if (link->warmup == NULL) {
            on_warm(link, "there was no memory, or no room on its link");
        }
    }
}

static void on_goaway(struct channel *channel, void *owner, enum frame_error code)
{
    struct pool_link *link = owner;
    (void)channel;
    (void)code;
    look_again(link);
    if (worker_set_state(link->worker, WORKER_DRAINING) == WORKER_READY) {
        log_info("app", "%s: worker %d is going away", link->worker->app->name,
                 (int)link->worker->pid);
    }
    forward_ws_drain_link(link->pool->app_loop, link);
}

static void on_slot_free(struct channel *channel, void *owner)
{
    struct pool_link *link = owner;
    (void)channel;
    atomic_fetch_add_explicit(&link->worker->served, 1, memory_order_relaxed);
    pool_release(link);
}

static void on_lag(struct channel *channel, void *owner, uint64_t lag)
{
    struct pool_link *link = owner;
    struct worker *worker = link->worker;
    (void)channel;
    bool stuck = lag == UINT64_MAX;
    bool before = atomic_exchange_explicit(&worker->unresponsive, stuck, memory_order_acq_rel);
    if (!stuck) {
        atomic_store_explicit(&worker->lag_ns, lag, memory_order_relaxed);
    }
    if (stuck != before) {
        log_warning("app", "%s: worker %d %s", worker->app->name, (int)worker->pid,
                    stuck ? "does not answer PING; it gets no new requests" : "answers again");
        if (!stuck) {
            app_kick(worker->app);
        }
    }
}

static void on_stats(struct channel *channel, void *owner, const struct worker_stats *stats)
{
    struct pool_link *link = owner;
    (void)channel;
    atomic_store_explicit(&link->worker->rss, stats->rss, memory_order_relaxed);
}

static void on_error_text(struct channel *channel, void *owner, enum frame_error code,
                          struct slice text)
{
    struct pool_link *link = owner;
    struct worker *worker = link->worker;
    (void)channel;
    log_error("app", "%s: worker %d: %s: %.*s", worker->app->name, (int)worker->pid,
              frame_error_name(code), SLICE_PRINT(text));
    app_note_error(worker, code, text);
    if (code == FRAME_ERROR_STARTUP_FAILED) {
        atomic_store(&worker->start_failed, true);
    }
}

static void free_link(struct loop_grave *grave)
{
    struct pool_link *link = LIST_CONTAINER(grave, struct pool_link, grave);
    REQUIRE_OBJECT(link, POOL_LINK_MAGIC);
    link->magic = MAGIC_FREED;
    mem_free(link);
}

/* The link's last word: the worker may be gone with it. */
static void release_link(struct pool_link *link)
{
    struct worker *worker = link->worker;
    struct app *app = worker->app;
    if (link->ready) {
        atomic_fetch_sub_explicit(&worker->ready_links, 1, memory_order_acq_rel);
    }
    atomic_fetch_sub_explicit(&app->apps->links, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&worker->in_loop[link->pool->app_loop->index].open, 1,
                              memory_order_relaxed);
    if (atomic_fetch_sub_explicit(&worker->open_links, 1, memory_order_acq_rel) == 1) {
        worker_set_state(worker, WORKER_GONE);
        app_worker_left(worker);
    }
    worker_unref(worker);
    link->worker = NULL;
    apps_settings_release(link->settings, link->pool->app_loop->index);
    loop_bury(link->pool->loop, &link->grave, free_link);
}

static void on_closed(struct channel *channel, void *owner, bool orderly, const char *text)
{
    struct pool_link *link = owner;
    if (channel_end_code(channel) == FRAME_ERROR_STARTUP_FAILED) {
        atomic_store(&link->worker->start_failed, true);
    }
    warmup_cancel(link->warmup);
    link->warmup = NULL;
    remove_link(link->pool, link);
    link->channel = NULL;
    look_again(link);
    if (!orderly && !link->pool->stopped) {
        worker_lost(link->worker, text);
    }
    release_link(link);
}

static const struct channel_owner_ops owner_ops = {
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_slot_free = on_slot_free,
    .on_lag = on_lag,
    .on_stats = on_stats,
    .on_error_text = on_error_text,
    .on_closed = on_closed,
};

/* --- attaching ------------------------------------------------------------------------------------------------------------ */

static void deliver_attach(struct mail *mail, struct loop *loop)
{
    struct pool_link *link = LIST_CONTAINER(mail, struct pool_link, attach);
    (void)loop;
    pool_attach(link->pool, link);
}

static void discard_attach(struct mail *mail)
{
    struct pool_link *link = LIST_CONTAINER(mail, struct pool_link, attach);
    /* The loops have ended: what is left of the worker goes with the registry, in apps_free. */
    atomic_fetch_sub_explicit(&link->pool->app->apps->links, 1, memory_order_relaxed);
    ipc_link_free(link->incoming);
    worker_unref(link->worker);
    mem_free(link);
}

struct pool_link *pool_link_new(struct pool *pool, struct worker *worker, struct ipc_link *incoming)
{
    struct pool_link *link = mem_calloc(1, sizeof *link);
    if (link == NULL) {
        ipc_link_free(incoming);
        return NULL;
    }
    link->magic = POOL_LINK_MAGIC;
    link->pool = pool;
    link->worker = worker_ref(worker);
    link->incoming = incoming;
    link->attach.deliver = deliver_attach;
    link->attach.discard = discard_attach;
    atomic_fetch_add_explicit(&worker->open_links, 1, memory_order_acq_rel);
    struct worker_in_loop *there = &worker->in_loop[pool->app_loop->index];
    atomic_fetch_add_explicit(&there->open, 1, memory_order_relaxed);
    atomic_store_explicit(&there->replaceable, false, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->app->apps->links, 1, memory_order_relaxed);
    return link;
}

void pool_link_send(struct pool_link *link)
{
    if (link->pool->loop == link->worker->app->apps->loops[0]) {
        pool_attach(link->pool, link); /* the acceptor's own loop */
    } else {
        mailbox_post(link->pool->loop, &link->attach);
    }
}

void pool_attach(struct pool *pool, struct pool_link *link)
{
    REQUIRE_OBJECT(link, POOL_LINK_MAGIC);
    const struct apps *apps = pool->app->apps;
    struct worker *worker = link->worker;
    struct ipc_link *incoming = link->incoming;
    link->incoming = NULL;
    link->settings = apps_settings_hold(pool->app_loop->settings, pool->app_loop->index);
    if (pool->stopped || worker_get_state(worker) == WORKER_GONE) {
        ipc_link_refuse(incoming, FRAME_ERROR_WORKER_LOST, "this worker was lost; begin again");
        release_link(link);
        return;
    }
    struct hello_ack ack = {
        .proto = FRAME_PROTOCOL_VERSION,
        .channels = apps->loop_count,
        .token = {(const char *)worker->token, sizeof worker->token},
        .server_cert_pem = link->settings->server_cert_pem,
    };
    if (link->settings->ws != NULL) {
        ack.features = incoming->hello.features & FRAME_FEATURE(websocket);
    }
    if (pool->app->settings->max_open_files > 0) {
        ack.features |= incoming->hello.features & FRAME_FEATURE(files);
    }
    memcpy(ack.gateway_instance, apps->gateway_instance, sizeof ack.gateway_instance);
    if (make_room(pool) == ERROR_NONE) {
        link->channel =
            channel_new(pool->loop, incoming, &ack, link->settings->ipc, &owner_ops, link);
    }
    ipc_link_free(incoming);
    if (link->channel == NULL) {
        worker_lost(worker, "no memory or descriptors for its link");
        release_link(link);
        return;
    }
    channel_watch(link->channel, &worker->abandoned, &worker->lag_ns);
    add_link(pool, link);
    if (atomic_load_explicit(&worker->retire, memory_order_acquire)) {
        pool_links_send_away(pool); /* it was on its way here meanwhile */
    }
}
