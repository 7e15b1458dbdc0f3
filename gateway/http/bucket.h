/* SPDX-License-Identifier: MIT */
/*
 * A token bucket: so many events at once, and a rate at which they may go on for ever. It has no timer; its user gives the time. Used by
 * the codecs against floods.
 */
#ifndef GATEWAY_HTTP_BUCKET_H
#define GATEWAY_HTTP_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

/* Tokens are counted in thousandths, so that a slow rate adds up. */
struct bucket {
    uint64_t tokens;
    uint64_t at; /* loop_now of the last refill */
};

/* Full. */
void bucket_init(struct bucket *bucket, uint64_t now, uint64_t burst);
/* Takes one token; `rate` > 0 is per second. False: there is none. */
bool bucket_take(struct bucket *bucket, uint64_t now, uint64_t burst, uint64_t rate);

#endif
