/* SPDX-License-Identifier: MIT */
/*
 * Deployment of one app: feeds the generations (app/deploy.h) with what its workers do, sends the retired ones away, keeps the state
 * file, pauses. Everything but app_deploy_look belongs to loop 0.
 */
#ifndef GATEWAY_APP_APP_DEPLOY_H
#define GATEWAY_APP_APP_DEPLOY_H

#include <stddef.h>

#include "app/app.h"

/* With the app, before its loops run. */
void app_deploy_init(struct app *app);
/* Reads the state file; before workers are accepted. What cannot be read is logged, and the app begins anew. */
void app_deploy_start(struct app *app);
/* No timers any more; allowed twice, and without a start. */
void app_deploy_stop(struct app *app);
/* No mail any more: before the workers are dropped. */
void app_deploy_done(struct app *app);

/* The generations are to be looked at: a worker has changed. Any loop. */
void app_deploy_look(struct app *app);
/* A worker of this generation is at the door: its slot. Otherwise the code that it is refused with, and `text` says why. */
enum frame_error app_deploy_admit(struct app *app, struct slice generation, uint32_t *ret_slot,
                                  char *text, size_t size);
/* A new worker: what its process did before, if it was here before. */
void app_recall(struct app *app, struct worker *worker);
/* A worker's last link has closed; it is off the registry. */
void app_deploy_left(struct worker *worker);
/* The settings of the app have changed (app->settings is new): they hold from now on. */
void app_deploy_settings(struct app *app);

/* The generations for the next server of an upgrade, and from the one before (before app_deploy_start, whose state file is not read
 * then). */
void app_deploy_save(const struct app *app, struct strbuf *out);
enum error app_deploy_restore(struct app *app, struct slice text) MUST_CHECK;

/* --- what operators order; `text` is the answer, or why not */

/* gatewayctl deploy: the generation is wanted. */
enum error app_order(struct app *app, struct slice generation, struct strbuf *text);
/* What became of it. */
enum deploy_outcome app_outcome(const struct app *app, struct slice generation,
                                struct strbuf *text);
/* gatewayctl rollback. */
enum error app_roll_back(struct app *app, struct strbuf *text);
/* gatewayctl pause: requests wait from now on, until app_resume or pause_timeout. */
enum error app_pause(struct app *app, struct strbuf *text);
enum error app_resume(struct app *app, struct strbuf *text);
/* gatewayctl drain: the worker with this pid (`id` false) or serial finishes what it has and goes for good. Not the last ready one of
 * its app unless `force`. */
enum error apps_drain_worker(struct apps *apps, uint64_t number, bool id, bool force,
                             struct strbuf *text);
/* The app of this name, or NULL. */
struct app *apps_find(struct apps *apps, struct slice name);

#endif
