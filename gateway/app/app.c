/* SPDX-License-Identifier: MIT */
/*
 * The apps of the process: made once, workers registered in loop 0 and dealt out to all loops. It must not know HTTP.
 */
#include "app/app.h"

#include <stdio.h>

#include "app/app_deploy.h"
#include "app/forward_ws.h"
#include "app/pool_links.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/frame.h"
#include "loop/file_pool.h"

#define APP_MAGIC UINT32_C(0x41505021)
#define APPS_MAGIC UINT32_C(0x41505053)
/* How long the end waits for a read that hangs in a file system. */
#define FILES_STOP_TIMEOUT (2 * CLOCK_NS_PER_S)

/* --- the registry (loop 0) ---------------------------------------------------------------------------------------------- */

static void on_left(struct mail *mail, struct loop *loop)
{
    struct worker *worker = LIST_CONTAINER(mail, struct worker, left);
    if (worker_list_linked(worker)) { /* not when apps_free was earlier */
        worker_list_remove(&worker->app->workers, worker);
        if (loop != NULL && !worker->app->deploy_stopped) {
            app_deploy_left(worker);
        }
    }
    worker_unref(worker);
}

static void discard_left(struct mail *mail)
{
    on_left(mail, NULL);
}

void app_worker_left(struct worker *worker)
{
    if (!atomic_exchange_explicit(&worker->left_told, true, memory_order_acq_rel)) {
        worker->left.deliver = on_left;
        worker->left.discard = discard_left;
        mailbox_post(worker->app->apps->loops[0], &worker->left);
    }
}

void app_note_error(struct worker *worker, enum frame_error code, struct slice text)
{
    struct app *app = worker->app;
    char line[sizeof app->last_error];
    int length =
        snprintf(line, sizeof line, "worker %d: %s: ", (int)worker->pid, frame_error_name(code));
    size_t room = sizeof line - (size_t)length - 1;
    if (text.length > room) { /* the end of a traceback says what happened */
        text = slice_skip(text, text.length - room);
    }
    snprintf(line + length, room + 1, "%.*s", SLICE_PRINT(text));
    char *copy = mem_alloc(strlen(line) + 1);
    pthread_mutex_lock(&app->error_lock);
    memcpy(app->last_error, line, strlen(line) + 1);
    if (copy != NULL) {
        memcpy(copy, line, strlen(line) + 1);
        mem_free(worker->last_error);
        worker->last_error = copy;
    }
    pthread_mutex_unlock(&app->error_lock);
}

void app_kick(struct app *app)
{
    for (unsigned i = 0; i < app->apps->loop_count; i++) {
        pool_kick(app->pools[i]);
    }
}

static struct worker *find_instance(const struct app *app, const struct hello *hello)
{
    LIST_EACH(worker_list, &app->workers, struct worker, worker)
    {
        if (memcmp(worker->instance, hello->instance, sizeof worker->instance) == 0 &&
            worker_get_state(worker) != WORKER_GONE && !atomic_load(&worker->announced)) {
            return worker;
        }
    }
    return NULL;
}

/* Why a HELLO is refused (SPEC R27, R29, R30); FRAME_ERROR_NO_ERROR: it is not. */
static enum frame_error judge_hello(const struct app *app, const struct hello *hello,
                                    const struct worker *worker, char *text, size_t size)
{
    const struct apps *apps = app->apps;
    if (hello->proto_min > FRAME_PROTOCOL_VERSION || hello->proto_max < FRAME_PROTOCOL_VERSION) {
        snprintf(text, size, "this gateway speaks protocol version %d; the worker speaks %u to %u",
                 FRAME_PROTOCOL_VERSION, hello->proto_min, hello->proto_max);
        return FRAME_ERROR_VERSION;
    }
    if (hello->app.length > 0 && !slice_equal(hello->app, slice_from(app->name))) {
        snprintf(text, size, "this socket belongs to app '%s', not to '%.*s'", app->name,
                 SLICE_PRINT(hello->app));
        return FRAME_ERROR_UNKNOWN_APP;
    }
    if (hello->channel_index >= apps->loop_count) {
        snprintf(text, size, "channel_index %u, but this gateway has %u channels",
                 hello->channel_index, apps->loop_count);
        return FRAME_ERROR_PROTOCOL;
    }
    if (atomic_load_explicit(&apps->links, memory_order_relaxed) >=
        apps->settings->ipc->max_links) {
        snprintf(text, size, "the gateway has no room for another link (ipc.max_links = %u)",
                 apps->settings->ipc->max_links);
        return FRAME_ERROR_FULL;
    }
    struct slice token = worker == NULL
                             ? (struct slice){NULL, 0}
                             : (struct slice){(const char *)worker->token, sizeof worker->token};
    bool known = worker != NULL && slice_equal(hello->token, token);
    if (hello->channel_index > 0 && !known) {
        snprintf(text, size, "the token is not known (anymore); begin again with channel 0");
        return FRAME_ERROR_RECONNECT;
    }
    if (worker != NULL && !known) {
        snprintf(text, size, "this instance is connected already");
        return FRAME_ERROR_DUPLICATE;
    }
    if (worker != NULL) {
        const struct worker_in_loop *there = &worker->in_loop[hello->channel_index];
        if (atomic_load_explicit(&there->open, memory_order_relaxed) > 0 &&
            !atomic_load_explicit(&there->replaceable, memory_order_relaxed)) {
            snprintf(text, size, "channel %u of this instance is open already",
                     hello->channel_index);
            return FRAME_ERROR_DUPLICATE;
        }
    }
    return FRAME_ERROR_NO_ERROR;
}

/* Every well-formed HELLO comes here, in loop 0. */
static void on_hello(void *context, struct ipc_link *link)
{
    struct app *app = context;
    struct apps *apps = app->apps;
    const struct hello *hello = &link->hello;
    char text[256];
    struct worker *worker = find_instance(app, hello);
    uint32_t slot = 0;
    enum frame_error code = judge_hello(app, hello, worker, text, sizeof text);
    if (code == FRAME_ERROR_NO_ERROR && worker == NULL) {
        code = app_deploy_admit(app, hello->generation, &slot, text, sizeof text);
    }
    if (code != FRAME_ERROR_NO_ERROR) {
        /* A link that is told to begin again does so: that is how a worker meets another process. */
        log_at(code == FRAME_ERROR_RECONNECT ? LOG_INFO : LOG_WARNING, "app",
               "%s: refused worker %d: %s", app->name, (int)link->pid, text);
        ipc_link_refuse(link, code, text);
        return;
    }
    if (worker == NULL) {
        worker = worker_new(app, link, slot, apps->loop_count, clock_now());
        if (worker == NULL) {
            ipc_link_refuse(link, FRAME_ERROR_OVERLOADED, "the gateway is out of memory");
            return;
        }
        app_recall(app, worker);
        worker_list_append(&app->workers, worker);
    }
    struct pool *pool = app->pools[hello->channel_index];
    struct pool_link *pool_link = pool_link_new(pool, worker, link);
    if (pool_link != NULL) {
        pool_link_send(pool_link);
    } else if (atomic_load_explicit(&worker->open_links, memory_order_relaxed) == 0) {
        worker_set_state(worker, WORKER_GONE);
        app_worker_left(worker);
    }
}

/* --- life ---------------------------------------------------------------------------------------------------------------- */

struct app *app_new(struct apps *apps, const struct app_settings *settings, int socket)
{
    struct app *app = mem_calloc(1, sizeof *app);
    if (app == NULL) {
        return NULL;
    }
    app->magic = APP_MAGIC;
    app->apps = apps;
    app->settings = settings;
    app->socket = socket;
    REQUIRE(settings->name.length < sizeof app->name);
    memcpy(app->name, settings->name.data, settings->name.length);
    worker_list_init(&app->workers);
    pthread_mutex_init(&app->error_lock, NULL);
    app_deploy_init(app);
    app->pools = mem_calloc(apps->loop_count, sizeof app->pools[0]);
    bool failed = app->pools == NULL;
    for (unsigned i = 0; i < apps->loop_count && !failed; i++) {
        app->pools[i] = pool_new(app, &apps->app_loops[i]);
        failed = app->pools[i] == NULL;
    }
    if (failed) {
        app_free(app);
        return NULL;
    }
    return app;
}

/* Those whose last link never came to its loop, or whose news did not come to loop 0 any more: that mail has the reference then. */
static void drop_workers(struct app *app)
{
    struct worker *worker;
    while ((worker = worker_list_pop(&app->workers)) != NULL) {
        worker_set_state(worker, WORKER_GONE);
        if (!atomic_load_explicit(&worker->left_told, memory_order_acquire)) {
            worker_unref(worker);
        }
    }
}

void app_free(struct app *app)
{
    if (app == NULL) {
        return;
    }
    REQUIRE_OBJECT(app, APP_MAGIC);
    REQUIRE(app->acceptor == NULL);
    for (unsigned i = 0; app->pools != NULL && i < app->apps->loop_count; i++) {
        pool_free(app->pools[i]);
    }
    mem_free(app->pools);
    app_deploy_done(app);
    drop_workers(app);
    pthread_mutex_destroy(&app->error_lock);
    app->magic = MAGIC_FREED;
    mem_free(app);
}

static enum error init_app_loop(struct apps *apps, unsigned index)
{
    struct app_loop *app_loop = &apps->app_loops[index];
    app_loop->apps = apps;
    app_loop->settings = apps->settings;
    app_loop->loop = apps->loops[index];
    app_loop->index = index;
    strbuf_init(&app_loop->head);
    idmap_init(&app_loop->conns);
    app_loop->pools = mem_calloc(1, sizeof *app_loop->pools);
    app_loop->websockets = mem_calloc(1, sizeof *app_loop->websockets);
    if (app_loop->pools == NULL || app_loop->websockets == NULL) {
        return ERROR_NO_MEMORY;
    }
    pool_list_init(app_loop->pools);
    forward_ws_list_init(app_loop->websockets);
    return ERROR_NONE;
}

struct apps *apps_new(const struct apps_settings *settings, struct loop **loops,
                      unsigned loop_count)
{
    struct apps *apps = mem_calloc(1, sizeof *apps);
    if (apps == NULL) {
        return NULL;
    }
    apps->magic = APPS_MAGIC;
    apps->settings = settings;
    apps->loops = loops;
    apps->loop_count = loop_count;
    app_list_init(&apps->retired);
    random_bytes(apps->gateway_instance, sizeof apps->gateway_instance);
    apps->apps = mem_calloc(settings->app_count, sizeof apps->apps[0]);
    apps->app_loops = mem_calloc(loop_count, sizeof apps->app_loops[0]);
    apps->files = file_pool_new(settings->file_threads > 0 ? settings->file_threads : 1);
    bool failed = apps->apps == NULL || apps->app_loops == NULL || apps->files == NULL;
    for (unsigned i = 0; i < loop_count && !failed; i++) {
        failed = init_app_loop(apps, i) != ERROR_NONE;
    }
    for (size_t i = 0; i < settings->app_count && !failed; i++) {
        int socket = settings->sockets != NULL ? settings->sockets[i] : -1;
        apps->apps[i] = app_new(apps, &settings->apps[i], socket);
        failed = apps->apps[i] == NULL;
        for (unsigned k = 0; k < loop_count && !failed; k++) {
            pool_list_append(apps->app_loops[k].pools, apps->apps[i]->pools[k]);
        }
    }
    if (failed) {
        apps_free(apps);
        return NULL;
    }
    return apps;
}

enum error app_accept(struct app *app)
{
    struct apps *apps = app->apps;
    if (!app->started) {
        app->started = true;
        app_deploy_start(app);
    }
    app->acceptor =
        ipc_acceptor_new(apps->loops[0], app->socket, apps->settings->ipc,
                         app->settings->allow_uids, app->settings->allow_uid_count, on_hello, app);
    return app->acceptor != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
}

enum error apps_start(struct apps *apps)
{
    REQUIRE_OBJECT(apps, APPS_MAGIC);
    for (size_t i = 0; i < apps->settings->app_count; i++) {
        /* One that accepts already: what is undone here may not have been done. */
        enum error error = apps->apps[i]->acceptor == NULL ? app_accept(apps->apps[i]) : ERROR_NONE;
        if (error != ERROR_NONE) {
            return error;
        }
    }
    return ERROR_NONE;
}

void apps_drain_loop(struct apps *apps, unsigned loop_index)
{
    REQUIRE_OBJECT(apps, APPS_MAGIC);
    forward_ws_drain_loop(&apps->app_loops[loop_index]);
}

void apps_stop_loop(struct apps *apps, unsigned loop_index)
{
    REQUIRE_OBJECT(apps, APPS_MAGIC);
    LIST_EACH(pool_list, apps->app_loops[loop_index].pools, struct pool, pool)
    {
        if (loop_index == 0 && pool->app->acceptor != NULL) {
            ipc_acceptor_free(pool->app->acceptor);
            pool->app->acceptor = NULL;
        }
        if (loop_index == 0) {
            app_deploy_stop(pool->app);
        }
        pool_stop(pool);
    }
}

bool apps_stop_files(struct apps *apps)
{
    return apps == NULL || file_pool_stop(apps->files, FILES_STOP_TIMEOUT);
}

void apps_free(struct apps *apps)
{
    if (apps == NULL) {
        return;
    }
    REQUIRE_OBJECT(apps, APPS_MAGIC);
    for (size_t i = 0; apps->apps != NULL && i < apps->settings->app_count; i++) {
        app_free(apps->apps[i]);
    }
    struct app *retired;
    while ((retired = app_list_pop(&apps->retired)) != NULL) {
        app_free(retired);
    }
    for (unsigned i = 0; apps->app_loops != NULL && i < apps->loop_count; i++) {
        strbuf_done(&apps->app_loops[i].head);
        idmap_done(&apps->app_loops[i].conns);
        mem_free(apps->app_loops[i].pools);
        mem_free(apps->app_loops[i].websockets);
    }
    mem_free(apps->app_loops);
    mem_free(apps->apps);
    file_pool_free(apps->files);
    apps->magic = MAGIC_FREED;
    mem_free(apps);
}

void app_loop_conn_closed(struct app_loop *app_loop, struct conn *conn)
{
    if (conn->wire_id == 0) {
        return;
    }
    LIST_EACH(pool_list, app_loop->pools, struct pool, pool)
    {
        LIST_EACH(pool_link_list, &pool->links, struct pool_link, link)
        {
            channel_conn_end(link->channel, conn->wire_id);
        }
    }
    REQUIRE(idmap_remove(&app_loop->conns, conn->wire_id) == conn);
    conn->wire_id = 0;
}
