/* SPDX-License-Identifier: MIT */
/*
 * The life of an app's generations around the pure rules of deploy.c: counts, timers, mail, and who is sent away. What operators
 * order and what lies in the state file is in app_order.c and app_state.c.
 */
#include "app/app_deploy.h"

#include <stdio.h>

#include "app/app_state.h"
#include "app/app_upgrade.h"
#include "app/pool.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

static void count_workers(struct app *app)
{
    for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
        app->deploy.slots[i].workers = app->deploy.slots[i].alive = 0;
    }
    LIST_EACH(worker_list, &app->workers, struct worker, worker)
    {
        struct generation *generation = &app->deploy.slots[worker->slot];
        enum worker_state state = worker_get_state(worker);
        generation->workers++;
        generation->alive += state == WORKER_STARTING || state == WORKER_READY;
    }
}

static const char *name_of(const struct generation *generation)
{
    return generation->name[0] != '\0' ? generation->name : "(none)";
}

/* Every change of a generation's state, from set_state of deploy.c. */
static void on_change(void *context, const struct generation *generation,
                      enum generation_state before)
{
    struct app *app = context;
    enum generation_state state = generation->state;
    bool kept = state == GENERATION_CURRENT || state == GENERATION_PREVIOUS ||
                state == GENERATION_RETIRED || state == GENERATION_FAILED;
    app->state_dirty |= kept || before == GENERATION_RETIRED || before == GENERATION_FAILED;
    if (app->loading) {
        return;
    }
    if (state == GENERATION_CURRENT) {
        METRIC_INCREMENT(deploys_promoted);
        log_info("deploy", "%s: generation %s serves from now on", app->name, name_of(generation));
    } else if (state == GENERATION_FAILED) {
        METRIC_INCREMENT(deploys_failed);
        log_error("deploy", "%s: generation %s failed (deploy_failed), it is sent away: %s",
                  app->name, name_of(generation),
                  generation->reason != NULL ? generation->reason : "no reason is known");
    } else if (state != GENERATION_FREE) {
        log_info("deploy", "%s: generation %s: %s, was %s", app->name, name_of(generation),
                 generation_state_name(state), generation_state_name(before));
    }
}

static struct deploy_settings settings_of(const struct app *app)
{
    return (struct deploy_settings){.min_ready = app->settings->min_ready,
                                    .soak = app->settings->soak,
                                    .probation = app->settings->probation,
                                    .rollback_keep = app->settings->rollback_keep,
                                    .promote_auto = app->settings->promote_auto};
}

/* --- the review ----------------------------------------------------------------------------------------------------------- */

/* Workers of generations that were sent away get their GOAWAY from their loops. */
static void retire_workers(struct app *app)
{
    bool any = false;
    LIST_EACH(worker_list, &app->workers, struct worker, worker)
    {
        enum generation_state state = app->deploy.slots[worker->slot].state;
        if ((state == GENERATION_RETIRED || state == GENERATION_FAILED) &&
            !atomic_load_explicit(&worker->retire, memory_order_relaxed)) {
            atomic_store_explicit(&worker->retire, true, memory_order_release);
            any = true;
        }
    }
    if (any) {
        app_retire(app);
    }
}

void app_retire(struct app *app)
{
    for (unsigned i = 0; i < app->apps->loop_count; i++) {
        atomic_store_explicit(&app->pools[i]->retire_look, true, memory_order_release);
        pool_kick(app->pools[i]);
    }
}

/* Said when it counts, that is, after the generations were looked at. */
static void log_ready(struct app *app)
{
    LIST_EACH(worker_list, &app->workers, struct worker, worker)
    {
        if (!worker->ready_logged && worker_get_state(worker) == WORKER_READY) {
            worker->ready_logged = true;
            log_info("app", "%s: worker %d ready (generation %s, %s)", app->name, (int)worker->pid,
                     worker->generation[0] != '\0' ? worker->generation : "none", worker->python);
        }
    }
}

void app_deploy_review(struct app *app)
{
    uint64_t now = loop_now(app->apps->loops[0]);
    uint32_t before = app->serving_known, way_back = app->fallback_known;
    count_workers(app);
    uint64_t next = deploy_review(&app->deploy, now);
    app->serving_known = atomic_load(&app->deploy.serving);
    app->fallback_known = atomic_load(&app->deploy.fallback);
    if (app->serving_known != before || app->fallback_known != way_back) {
        app_kick(app); /* other workers may be used than before */
    }
    retire_workers(app);
    log_ready(app);
    app_state_write(app);
    if (next == UINT64_MAX) {
        loop_timer_clear(&app->deploy_timer);
    } else if (loop_timer_set(&app->deploy_timer, next > now ? next - now : 0) != ERROR_NONE) {
        app_deploy_look(app); /* tries again, in the next turn */
    }
}

static void on_deploy_timer(struct loop_timer *timer)
{
    app_deploy_review(LIST_CONTAINER(timer, struct app, deploy_timer));
}

static void on_review(struct mail *mail, struct loop *loop)
{
    struct app *app = LIST_CONTAINER(mail, struct app, review);
    (void)loop;
    atomic_store_explicit(&app->review_posted, false, memory_order_release);
    if (!app->deploy_stopped) {
        app_deploy_review(app);
        app_supersede(app);
    }
}

static void discard_review(struct mail *mail)
{
    (void)mail; /* review_posted stays: there is no loop for another one */
}

void app_deploy_look(struct app *app)
{
    if (!atomic_exchange_explicit(&app->review_posted, true, memory_order_acq_rel)) {
        mailbox_post(app->apps->loops[0], &app->review);
    }
}

/* --- workers -------------------------------------------------------------------------------------------------------------- */

enum frame_error app_deploy_admit(struct app *app, struct slice generation, uint32_t *ret_slot,
                                  char *text, size_t size)
{
    count_workers(app);
    enum error error =
        deploy_admit(&app->deploy, generation, loop_now(app->apps->loops[0]), ret_slot);
    if (error == ERROR_CLOSED) {
        const struct generation *known = deploy_find(&app->deploy, generation);
        METRIC_INCREMENT(workers_refused_retired);
        snprintf(text, size, "generation %s %s", name_of(known),
                 known->state == GENERATION_FAILED
                     ? "has failed; mend it and give it a new name, or order it by gatewayctl "
                       "deploy"
                     : "is retired; gatewayctl deploy makes it welcome again");
        return FRAME_ERROR_RETIRED;
    }
    if (error == ERROR_AGAIN) {
        snprintf(text, size,
                 "this generation was retired, but nobody of the current one has come back yet; "
                 "dial again");
        return FRAME_ERROR_OVERLOADED;
    }
    if (error != ERROR_NONE) {
        snprintf(text, size, "workers of %d generations are connected already", DEPLOY_SLOTS);
        return FRAME_ERROR_FULL;
    }
    return FRAME_ERROR_NO_ERROR;
}

/* A process that lost its links may dial again: its failures are remembered. */
static void remember(struct app *app, struct worker *worker)
{
    bool others = app_ready(app) > 0;
    uint64_t now = loop_now(app->apps->loops[0]);
    if (health_failed(&worker->health, now, others)) {
        METRIC_INCREMENT(workers_ejected);
        log_warning("app",
                    "%s: worker %d is left out for %u s if it comes back: %u failures in a row",
                    app->name, (int)worker->pid, 10 * atomic_load(&worker->health.ejections),
                    HEALTH_FAILURES);
    }
    struct app_past *past = &app->past[app->past_count++ % APP_PAST];
    memcpy(past->instance, worker->instance, sizeof past->instance);
    health_copy(&past->health, &worker->health);
}

void app_recall(struct app *app, struct worker *worker)
{
    for (unsigned i = 0; i < APP_PAST; i++) {
        /* The newest last: it is the one that counts. */
        const struct app_past *past = &app->past[(app->past_count + i) % APP_PAST];
        if (memcmp(past->instance, worker->instance, sizeof past->instance) == 0) {
            health_copy(&worker->health, &past->health);
        }
    }
}

void app_deploy_left(struct worker *worker)
{
    struct app *app = worker->app;
    enum deploy_gone how = atomic_load(&worker->start_failed) ? DEPLOY_START_FAILED
                           : atomic_load(&worker->lost)       ? DEPLOY_LOST
                                                              : DEPLOY_LEFT;
    count_workers(app);
    pthread_mutex_lock(&app->error_lock);
    deploy_gone(&app->deploy, worker->slot, how, slice_from(worker->last_error),
                loop_now(app->apps->loops[0]));
    pthread_mutex_unlock(&app->error_lock);
    if (how != DEPLOY_LEFT) {
        remember(app, worker);
    }
    app_deploy_look(app);
}

void app_deploy_settings(struct app *app)
{
    app->deploy.settings = settings_of(app);
    if (!app->deploy_stopped) {
        app_deploy_look(app);
    }
}

/* --- life ----------------------------------------------------------------------------------------------------------------- */

static void on_pause_timer(struct loop_timer *timer)
{
    struct app *app = LIST_CONTAINER(timer, struct app, pause_timer);
    log_warning("deploy", "%s: the pause ends by itself after pause_timeout", app->name);
    app_end_pause(app);
}

void app_deploy_init(struct app *app)
{
    struct deploy_settings settings = settings_of(app);
    struct loop *loop = app->apps->loops[0];
    deploy_init(&app->deploy, &settings, on_change, app);
    app->serving_known = app->fallback_known = DEPLOY_NONE;
    app->review.deliver = on_review;
    app->review.discard = discard_review;
    loop_timer_init(&app->deploy_timer, loop, on_deploy_timer);
    loop_timer_init(&app->pause_timer, loop, on_pause_timer);
}

void app_deploy_start(struct app *app)
{
    if (atomic_load(&app->deploy.serving) == DEPLOY_NONE) {
        app_state_read(app);
    }
    app->serving_known = atomic_load(&app->deploy.serving);
}

void app_deploy_stop(struct app *app)
{
    app->deploy_stopped = true;
    loop_timer_clear(&app->deploy_timer);
    loop_timer_clear(&app->pause_timer);
}

void app_deploy_done(struct app *app)
{
    atomic_store(&app->review_posted, true); /* for good: the loops have ended */
    if (atomic_exchange(&app->paused, false)) {
        METRIC_DECREMENT(apps_paused);
    }
    deploy_done(&app->deploy);
}

void app_deploy_save(const struct app *app, struct strbuf *out)
{
    deploy_write(&app->deploy, out);
}

enum error app_deploy_restore(struct app *app, struct slice text)
{
    app->loading = true;
    enum error error = deploy_read(&app->deploy, text, clock_now());
    app->loading = false;
    return error;
}
