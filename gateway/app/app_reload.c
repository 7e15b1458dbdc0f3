/* SPDX-License-Identifier: MIT */
/* Changing the set of apps. What all loops read is only written while none of them runs (apps_commit); what belongs to one loop is
 * changed by that loop. */
#include "app/app_reload.h"

#include "app/app_deploy.h"
#include "app/pool_links.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/file_pool.h"

struct apps_change {
    struct apps *apps;
    const struct apps_settings *settings;
    struct app **list; /* settings->app_count: present ones, or those below */
    bool *is_new;
};

static struct app *find(const struct apps *apps, struct slice name)
{
    for (size_t i = 0; i < apps->settings->app_count; i++) {
        if (slice_equal(name, slice_from(apps->apps[i]->name))) {
            return apps->apps[i];
        }
    }
    return NULL;
}

static enum error fill(struct apps_change *change)
{
    const struct apps_settings *settings = change->settings;
    for (size_t i = 0; i < settings->app_count; i++) {
        change->list[i] = find(change->apps, settings->apps[i].name);
        if (change->list[i] == NULL) {
            change->list[i] = app_new(change->apps, &settings->apps[i], settings->sockets[i]);
            change->is_new[i] = true;
        }
        if (change->list[i] == NULL) {
            return ERROR_NO_MEMORY;
        }
    }
    return ERROR_NONE;
}

struct apps_change *apps_prepare(struct apps *apps, const struct apps_settings *settings)
{
    struct apps_change *change = mem_calloc(1, sizeof *change);
    if (change == NULL) {
        return NULL;
    }
    change->apps = apps;
    change->settings = settings;
    change->list = mem_calloc(settings->app_count, sizeof change->list[0]);
    change->is_new = mem_calloc(settings->app_count, sizeof change->is_new[0]);
    if (change->list == NULL || change->is_new == NULL || fill(change) != ERROR_NONE) {
        apps_abandon(change);
        return NULL;
    }
    return change;
}

void apps_abandon(struct apps_change *change)
{
    if (change == NULL) {
        return;
    }
    for (size_t i = 0;
         change->list != NULL && change->is_new != NULL && i < change->settings->app_count; i++) {
        if (change->is_new[i]) {
            app_free(change->list[i]);
        }
    }
    mem_free(change->list);
    mem_free(change->is_new);
    mem_free(change);
}

/* The settings go with the configuration that had them: numbers are kept for what still waits. */
static void retire(struct apps *apps, struct app *app, uint64_t now)
{
    struct app_retirement *retirement = &app->retirement;
    retirement->kept = *app->settings;
    retirement->kept.name = slice_from(app->name);
    retirement->kept.socket = retirement->kept.group = SLICE("");
    retirement->kept.warmup = retirement->kept.state_file = SLICE("");
    retirement->kept.allow_uids = NULL;
    retirement->kept.allow_uid_count = 0;
    app->settings = &retirement->kept;
    retirement->since = now;
    atomic_store(&retirement->busy_loops, apps->loop_count);
    app_list_append(&apps->retired, app);
    log_info("app", "%s: no longer configured; its last requests go on", app->name);
}

static bool is_listed(const struct apps_change *change, const struct app *app)
{
    for (size_t i = 0; i < change->settings->app_count; i++) {
        if (change->list[i] == app) {
            return true;
        }
    }
    return false;
}

void apps_commit(struct apps_change *change)
{
    struct apps *apps = change->apps;
    const struct apps_settings *settings = change->settings;
    uint64_t now = clock_now();
    for (size_t i = 0; i < apps->settings->app_count; i++) {
        if (!is_listed(change, apps->apps[i])) {
            retire(apps, apps->apps[i], now);
        }
    }
    for (size_t i = 0; i < settings->app_count; i++) {
        struct app *app = change->list[i];
        app->settings = &settings->apps[i];
        app->socket = settings->sockets[i];
        for (unsigned k = 0; change->is_new[i] && k < apps->loop_count; k++) {
            pool_list_append(apps->app_loops[k].pools, app->pools[k]);
        }
        change->is_new[i] = false;
    }
    mem_free(apps->apps);
    apps->apps = change->list;
    apps->settings = settings;
    file_pool_limit(apps->files, settings->file_threads > 0 ? settings->file_threads : 1);
    for (unsigned k = 0; k < apps->loop_count; k++) {
        apps->app_loops[k].settings = settings;
    }
    mem_free(change->is_new);
    mem_free(change);
}

static void stop_accepting(struct app *app)
{
    ipc_acceptor_free(app->acceptor);
    app->acceptor = NULL;
}

static void accept_workers(struct apps *apps)
{
    if (apps->closed) {
        return;
    }
    for (size_t i = 0; i < apps->settings->app_count; i++) {
        struct app *app = apps->apps[i];
        if (app->acceptor != NULL && ipc_acceptor_fd(app->acceptor) != app->socket) {
            stop_accepting(app);
        }
        if (app->acceptor != NULL
                ? ipc_acceptor_set(app->acceptor, apps->settings->ipc, app->settings->allow_uids,
                                   app->settings->allow_uid_count) != ERROR_NONE
                : app_accept(app) != ERROR_NONE) {
            log_error("app", "%s: out of memory; its workers are accepted when there is some",
                      app->name);
        }
    }
}

void apps_apply_loop(struct apps *apps, unsigned loop_index)
{
    if (loop_index == 0) {
        LIST_EACH(app_list, &apps->retired, struct app, app)
        {
            stop_accepting(app);
            app_deploy_stop(app);
        }
        accept_workers(apps);
        for (size_t i = 0; i < apps->settings->app_count; i++) {
            app_deploy_settings(apps->apps[i]);
        }
        for (size_t i = 0; i < apps->settings->app_count; i++) {
            app_deploy_settings(apps->apps[i]);
        }
    }
    apps_sweep_loop(apps, loop_index, 0);
}

static void sweep(struct app *app, unsigned loop_index, uint64_t deadline)
{
    struct app_retirement *retirement = &app->retirement;
    struct pool *pool = app->pools[loop_index];
    if (retirement->doomed) {
        bool quiet = pool_retire(pool);
        REQUIRE(quiet);
        if (loop_index == 0) {
            app_deploy_stop(app);
        }
        pool_list_remove(app->apps->app_loops[loop_index].pools, pool);
        return;
    }
    if (retirement->since < deadline) {
        pool_stop(pool);
    }
    bool last_used =
        loop_index != 0 || (worker_list_empty(&app->workers) && atomic_load(&app->open_files) == 0);
    if (pool_retire(pool) && last_used) {
        atomic_fetch_sub(&retirement->busy_loops, 1);
    }
}

void apps_sweep_loop(struct apps *apps, unsigned loop_index, uint64_t deadline)
{
    LIST_EACH(app_list, &apps->retired, struct app, app)
    {
        sweep(app, loop_index, deadline);
    }
    for (size_t i = 0; loop_index == 0 && !apps->closed && i < apps->settings->app_count; i++) {
        if (apps->apps[i]->acceptor == NULL) {
            accept_workers(apps);
            break;
        }
    }
}

/* An app that was found quiet in every loop is freed after one more sweep: what was under way to it by mail has come by then. */
bool apps_sweep_end(struct apps *apps)
{
    LIST_EACH(app_list, &apps->retired, struct app, app)
    {
        struct app_retirement *retirement = &app->retirement;
        if (retirement->doomed) {
            log_info("app", "%s: its last request has ended", app->name);
            app_list_remove(&apps->retired, app);
            app_free(app);
            continue;
        }
        retirement->doomed = atomic_exchange(&retirement->busy_loops, apps->loop_count) == 0;
    }
    return !app_list_empty(&apps->retired);
}
