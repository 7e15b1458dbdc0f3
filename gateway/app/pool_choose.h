/* SPDX-License-Identifier: MIT */
/*
 * Choosing a worker for a request. Only pool.c uses this.
 */
#ifndef GATEWAY_APP_POOL_CHOOSE_H
#define GATEWAY_APP_POOL_CHOOSE_H

#include "app/pool.h"

/* Whether requests may go there at all. */
bool pool_is_usable(const struct pool_link *link);
/* Whether this request may go there: a WebSocket wants a worker that speaks it and has not too many long-lived streams. */
bool pool_suits(const struct pool_link *link, const struct pool_waiter *waiter);
/* Looks at all links: who is fit, who is new. Before a flush places requests. */
void pool_survey(struct pool *pool);
/* Whether the link has room for one more, as of the survey. */
bool pool_has_room(const struct pool_link *link);
/* The worker that gets this request, its slot reserved; NULL when there is none now. */
struct pool_link *pool_choose(struct pool *pool, const struct pool_waiter *waiter);

#endif
