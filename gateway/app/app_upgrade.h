/* SPDX-License-Identifier: MIT */
/*
 * The apps of two processes during a binary upgrade: the older one has its workers dial again, the newer one waits until they have, and
 * each app's generations go over. Everything in loop 0's thread but what says otherwise.
 */
#ifndef GATEWAY_APP_APP_UPGRADE_H
#define GATEWAY_APP_APP_UPGRADE_H

#include "app/app.h"

/* The older one: accepts workers no more, then asks those of each loop to dial again; requests go on to them. The latter in each loop's
 * thread. */
void apps_close(struct apps *apps);
void apps_announce_loop(struct apps *apps, unsigned loop_index);
/* The older one goes on alone: accepts workers again. One that dials again replaces what it had here. ERROR_NO_MEMORY. */
enum error apps_resume(struct apps *apps) MUST_CHECK;
/* Workers that were announced and have dialled this process again are ready: their former links go. */
void app_supersede(struct app *app);
/* Appends what the next process is to know of an app: its ready workers are *ret_ready. */
void app_hand_over(struct app *app, struct strbuf *out, uint32_t *ret_ready);
/* The newer one: what the older one said of the app of this name; before its workers are accepted. An app that is not configured is
 * left out. */
void apps_take_over(struct apps *apps, struct slice name, uint32_t ready, struct slice state);
/* How the workers stand that the older one had: every app has one again, all are there. Any thread. */
bool apps_have_some(const struct apps *apps);
bool apps_have_all(const struct apps *apps);

#endif
