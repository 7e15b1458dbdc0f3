/* SPDX-License-Identifier: MIT */
/*
 * The request that a new worker is tried with before it counts as ready (apps.x.warmup). It belongs to the link that it is sent on.
 */
#ifndef GATEWAY_APP_WARMUP_H
#define GATEWAY_APP_WARMUP_H

#include "app/pool.h"

struct warmup;

/* Sends the request on a link whose worker has said READY everywhere. `on_end` is told once, unless warmup_cancel is called before:
 * NULL: a status below 500 came and the response is complete; else why not, in words. NULL: no memory. */
struct warmup *warmup_start(struct pool_link *link,
                            void (*on_end)(struct pool_link *link, const char *failure)) MUST_CHECK;
/* The link has ended: its streams are gone. NULL is allowed. */
void warmup_cancel(struct warmup *warmup);

#endif
