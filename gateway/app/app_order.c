/* SPDX-License-Identifier: MIT */
/*
 * What operators order of an app: deploy, rollback, pause, resume, and a worker's drain. Loop 0.
 */
#include <inttypes.h>

#include "app/app_deploy.h"
#include "app/app_state.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

struct app *apps_find(struct apps *apps, struct slice name)
{
    for (size_t i = 0; i < apps->settings->app_count; i++) {
        if (slice_equal(slice_from(apps->apps[i]->name), name)) {
            return apps->apps[i];
        }
    }
    return NULL;
}

/* --- generations ---------------------------------------------------------------------------------------------------------- */

enum error app_order(struct app *app, struct slice generation, struct strbuf *text)
{
    uint64_t now = loop_now(app->apps->loops[0]);
    if (generation.length > DEPLOY_NAME_MAX) {
        strbuf_printf(text, "the name of a generation has at most %d bytes", DEPLOY_NAME_MAX);
        return ERROR_INVALID;
    }
    if (deploy_order(&app->deploy, generation, now) != ERROR_NONE) {
        strbuf_printf(text, "workers of %d generations are connected already", DEPLOY_SLOTS);
        return ERROR_LIMIT;
    }
    log_info("deploy", "%s: generation %.*s is wanted (gatewayctl deploy)", app->name,
             SLICE_PRINT(generation));
    app_deploy_review(app);
    strbuf_printf(text, "%s: generation %.*s: ", app->name, SLICE_PRINT(generation));
    (void)deploy_outcome(&app->deploy, generation, now, text);
    return ERROR_NONE;
}

enum deploy_outcome app_outcome(const struct app *app, struct slice generation, struct strbuf *text)
{
    return deploy_outcome(&app->deploy, generation, loop_now(app->apps->loops[0]), text);
}

enum error app_roll_back(struct app *app, struct strbuf *text)
{
    char why[256];
    enum error error =
        deploy_roll_back(&app->deploy, loop_now(app->apps->loops[0]), why, sizeof why);
    if (error != ERROR_NONE) {
        strbuf_append_text(text, why);
        return error;
    }
    METRIC_INCREMENT(deploys_rolled_back);
    app_deploy_review(app);
    uint32_t serving = atomic_load(&app->deploy.serving);
    strbuf_printf(text, "%s: generation %s serves again", app->name,
                  app->deploy.slots[serving].name);
    return ERROR_NONE;
}

/* --- pause ---------------------------------------------------------------------------------------------------------------- */

enum error app_pause(struct app *app, struct strbuf *text)
{
    if (loop_timer_set(&app->pause_timer, app->settings->pause_timeout) != ERROR_NONE) {
        strbuf_append_text(text, "out of memory");
        return ERROR_NO_MEMORY;
    }
    if (!atomic_exchange(&app->paused, true)) {
        METRIC_INCREMENT(apps_paused);
        log_info("deploy", "%s: paused: its requests wait", app->name);
    }
    strbuf_printf(text,
                  "%s: paused; its requests wait for gatewayctl resume, at most %" PRIu64
                  " s (pause_timeout)",
                  app->name, app->settings->pause_timeout / CLOCK_NS_PER_S);
    return ERROR_NONE;
}

void app_end_pause(struct app *app)
{
    loop_timer_clear(&app->pause_timer);
    atomic_store(&app->resumed_at, clock_now());
    if (atomic_exchange(&app->paused, false)) {
        METRIC_DECREMENT(apps_paused);
    }
    app_kick(app);
}

enum error app_resume(struct app *app, struct strbuf *text)
{
    if (!atomic_load(&app->paused)) {
        strbuf_printf(text, "%s is not paused", app->name);
        return ERROR_CLOSED;
    }
    uint32_t waiting = atomic_load(&app->waiting);
    app_end_pause(app);
    log_info("deploy", "%s: resumed", app->name);
    strbuf_printf(text, "%s: resumed; %u requests waited, %u workers are ready", app->name, waiting,
                  app_ready(app));
    return ERROR_NONE;
}

/* --- a worker ------------------------------------------------------------------------------------------------------------- */

static struct worker *find_worker(struct apps *apps, uint64_t number, bool id)
{
    for (size_t i = 0; i < apps->settings->app_count; i++) {
        LIST_EACH(worker_list, &apps->apps[i]->workers, struct worker, worker)
        {
            if ((id ? worker->serial : (uint64_t)worker->pid) == number) {
                return worker;
            }
        }
    }
    return NULL;
}

enum error apps_drain_worker(struct apps *apps, uint64_t number, bool id, bool force,
                             struct strbuf *text)
{
    struct worker *worker = find_worker(apps, number, id);
    if (worker == NULL) {
        strbuf_printf(text, "there is no worker with %s %" PRIu64 "; gatewayctl workers lists them",
                      id ? "id" : "pid", number);
        return ERROR_INVALID;
    }
    struct app *app = worker->app;
    bool serves = worker->slot == atomic_load(&app->deploy.serving);
    if (serves && worker_get_state(worker) == WORKER_READY && app_ready(app) == 1 && !force) {
        strbuf_printf(text,
                      "worker %d is the only ready one of app %s; start another one first, "
                      "or say --force",
                      (int)worker->pid, app->name);
        return ERROR_CLOSED;
    }
    log_info("deploy", "%s: worker %d is drained by order", app->name, (int)worker->pid);
    atomic_store_explicit(&worker->retire, true, memory_order_release);
    app_retire(app);
    strbuf_printf(text, "worker %d finishes its %u requests and goes; nobody takes its place",
                  (int)worker->pid, atomic_load(&worker->in_flight));
    return ERROR_NONE;
}
