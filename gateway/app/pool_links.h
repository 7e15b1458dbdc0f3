/* SPDX-License-Identifier: MIT */
/*
 * The links side of a pool: from a moved descriptor to a ready channel to its end. Only app/ uses this.
 */
#ifndef GATEWAY_APP_POOL_LINKS_H
#define GATEWAY_APP_POOL_LINKS_H

#include "app/pool.h"

/* A new link record for a registered worker; takes `incoming` (freed on failure) and a reference of the worker. NULL: no memory. */
struct pool_link *pool_link_new(struct pool *pool, struct worker *worker,
                                struct ipc_link *incoming) MUST_CHECK;
/* Moves it to its pool's loop, where pool_attach makes the channel. Any thread. */
void pool_link_send(struct pool_link *link);
/* Closes all channels of a pool (the gateway stops); `now`: also those whose GOAWAY could not be written yet. */
void pool_links_close(struct pool *pool, bool now);
/* Has their workers dial again beside what they have here (SPEC R96). */
void pool_links_announce(struct pool *pool);
/* Tells all links once to go; open streams go on to their end. */
void pool_links_retire(struct pool *pool);
/* A slot of one of this pool's workers is free: whoever waits longest is told. */
void pool_slot_freed(struct pool *pool);
/* Sends GOAWAY(RETIRED) on the links of workers that are to be sent away, once. */
void pool_links_send_away(struct pool *pool);
/* The worker broke the rules in a way that costs a request, not the link: one more failure in a row. */
void pool_link_failed(struct pool_link *link);
/* Tells every loop that a worker is lost, once; they close its links. Any loop. */
void worker_lost(struct worker *worker, const char *why);

#endif
