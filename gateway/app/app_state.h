/* SPDX-License-Identifier: MIT */
/*
 * What the files app_deploy.c, app_order.c and app_state.c tell each other. Internal to app/; loop 0.
 */
#ifndef GATEWAY_APP_APP_STATE_H
#define GATEWAY_APP_APP_STATE_H

#include "app/app.h"

/* The state file, as app/deploy.h writes it: read once, written anew (beside, then renamed) after each change that it shows. An app
 * whose workers name no generation needs none. */
void app_state_read(struct app *app);
void app_state_write(struct app *app);

/* Looks at the generations now. */
void app_deploy_review(struct app *app);
/* All loops look for workers that are to be sent away. */
void app_retire(struct app *app);
void app_end_pause(struct app *app);

#endif
