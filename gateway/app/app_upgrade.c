/* SPDX-License-Identifier: MIT */
/* Announcing, resuming, waiting for workers. */
#include "app/app_upgrade.h"

#include "app/app_deploy.h"
#include "app/app_state.h"
#include "app/pool_links.h"
#include "base/log.h"

void apps_close(struct apps *apps)
{
    apps->closed = true;
    for (size_t i = 0; i < apps->settings->app_count; i++) {
        ipc_acceptor_free(apps->apps[i]->acceptor);
        apps->apps[i]->acceptor = NULL;
    }
}

void apps_announce_loop(struct apps *apps, unsigned loop_index)
{
    LIST_EACH(pool_list, apps->app_loops[loop_index].pools, struct pool, pool)
    {
        pool_links_announce(pool);
    }
}

enum error apps_resume(struct apps *apps)
{
    apps->closed = false;
    return apps_start(apps);
}

static bool has_successor(const struct app *app, const struct worker *former)
{
    LIST_EACH(worker_list, &app->workers, struct worker, worker)
    {
        if (worker != former && worker_get_state(worker) == WORKER_READY &&
            !atomic_load(&worker->announced) &&
            memcmp(worker->instance, former->instance, sizeof worker->instance) == 0) {
            return true;
        }
    }
    return false;
}

void app_supersede(struct app *app)
{
    bool found = false;
    LIST_EACH(worker_list, &app->workers, struct worker, worker)
    {
        if (atomic_load(&worker->announced) && !atomic_load(&worker->superseded) &&
            has_successor(app, worker)) {
            atomic_store(&worker->superseded, true);
            atomic_store_explicit(&worker->retire, true, memory_order_release);
            found = true;
        }
    }
    if (found) {
        app_retire(app);
    }
}

void app_hand_over(struct app *app, struct strbuf *out, uint32_t *ret_ready)
{
    app_deploy_save(app, out);
    *ret_ready = app_ready(app);
}

void apps_take_over(struct apps *apps, struct slice name, uint32_t ready, struct slice state)
{
    struct app *app = apps_find(apps, name);
    if (app == NULL) {
        return;
    }
    app->expected = ready;
    if (state.length > 0 && app_deploy_restore(app, state) != ERROR_NONE) {
        log_warning("app", "%s: what the server before knew of its generations cannot be used",
                    app->name);
    }
}

static bool have(const struct apps *apps, bool all)
{
    for (size_t i = 0; i < apps->settings->app_count; i++) {
        const struct app *app = apps->apps[i];
        uint32_t ready = app_ready(app);
        if (ready < app->expected && (all || ready == 0)) {
            return false;
        }
    }
    return true;
}

bool apps_have_some(const struct apps *apps)
{
    return have(apps, false);
}

bool apps_have_all(const struct apps *apps)
{
    return have(apps, true);
}
