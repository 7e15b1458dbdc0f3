/* SPDX-License-Identifier: MIT */
/*
 * Other settings for apps that run: apps that stay keep their workers and queues, new ones are added, and those that are no longer
 * configured retire: what they have goes on to its end, then they are freed.
 *
 * In this order: apps_prepare() and apps_commit() in the server's main thread, the latter while no loop runs; then apps_apply_loop() in
 * each loop's thread. After that from time to time apps_sweep_loop() in each loop and apps_sweep_end() in the main thread, while no loop runs.
 */
#ifndef GATEWAY_APP_APP_RELOAD_H
#define GATEWAY_APP_APP_RELOAD_H

#include "app/app.h"

struct apps_change;

/* Makes what commit needs: the apps whose names are new. Changes nothing. `settings` becomes apps->settings by the commit. NULL: no
 * memory. */
struct apps_change *apps_prepare(struct apps *apps,
                                 const struct apps_settings *settings) MUST_CHECK;
/* Frees what was prepared and not committed; NULL is allowed. */
void apps_abandon(struct apps_change *change);
/* Makes the prepared settings the present ones, and frees `change`. No loop runs meanwhile. The former settings, and the sockets of
 * apps that have another or none now, are the caller's again once every loop has applied this, and for the settings once
 * their `users` are zero in every loop. */
void apps_commit(struct apps_change *change);
/* Starts and stops accepting workers (loop 0), and begins the retirement of apps, whose long-lived streams are asked to end. */
void apps_apply_loop(struct apps *apps, unsigned loop_index);
/* Looks how far retired apps of this loop are; those that retired before `deadline` are cut. Also tries again to accept workers where memory did not suffice. */
void apps_sweep_loop(struct apps *apps, unsigned loop_index, uint64_t deadline);
/* After every loop has swept, and while none runs: frees what is over. True: some apps still retire. */
bool apps_sweep_end(struct apps *apps);

#endif
