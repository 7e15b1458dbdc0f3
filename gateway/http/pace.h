/* SPDX-License-Identifier: MIT */
/*
 * A pace: how long a client was waited for, and how many bytes that gave. The clock stands while we are the ones who keep the client
 * waiting. It has no timer of its own: its user asks from time to time.
 */
#ifndef GATEWAY_HTTP_PACE_H
#define GATEWAY_HTTP_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint64_t since; /* loop_now when the present wait began or last got something; 0: not waiting */
    uint64_t waited; /* ns, all waits before `since` */
    uint64_t bytes;
};

/* What a wait is bounded by: an idle time, and a least rate in bytes per second that is judged after `after` ns of waiting (rate 0:
 * not at all). Both, so that a byte now and then does not stretch the wait for ever. */
struct pace_limits {
    uint64_t idle, rate, after;
};

enum pace_verdict { PACE_FINE, PACE_IDLE, PACE_SLOW };

/* `waiting`: whether the client is waited for from now on; `bytes` have just come. */
void pace_update(struct pace *pace, uint64_t now, bool waiting, uint64_t bytes);
/* What there is to say about the present wait. */
enum pace_verdict pace_judge(const struct pace *pace, uint64_t now,
                             const struct pace_limits *limits);

#endif
