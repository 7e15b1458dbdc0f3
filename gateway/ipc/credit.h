/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of credit (SPEC section 9), one direction of one stream at a time. It has no state of its own and knows
 * no frames: tests/fuzz/fuzz_flow.c drives it against a model.
 */
#ifndef GATEWAY_IPC_CREDIT_H
#define GATEWAY_IPC_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "ipc/frame_defs.h"

/* Below this not even one byte can go (SPEC R71). */
#define CREDIT_LEAST (FRAME_DATA_OVERHEAD + 1)

/* What we may send. */
struct credit_out {
    uint32_t available, window;
};

static inline void credit_out_init(struct credit_out *credit, uint32_t available, uint32_t window)
{
    *credit = (struct credit_out){.available = available, .window = window};
}

/* A WINDOW came. False: more than the window (SPEC R69), nothing was added. */
static inline bool credit_out_grant(struct credit_out *credit, uint32_t increment)
{
    if (increment > credit->window - credit->available) {
        return false;
    }
    credit->available += increment;
    return true;
}

/* Payload bytes that may be sent in one frame of at most `most` bytes. */
static inline uint32_t credit_out_room(const struct credit_out *credit, uint32_t most)
{
    uint32_t room =
        credit->available < FRAME_DATA_OVERHEAD ? 0 : credit->available - FRAME_DATA_OVERHEAD;
    return room < most ? room : most;
}

/* Pays for a frame. */
static inline void credit_out_pay(struct credit_out *credit, uint32_t cost)
{
    REQUIRE(cost <= credit->available);
    credit->available -= cost;
}

/* What the peer may send us. available + consumed + held + overhead == window, always. */
struct credit_in {
    uint32_t available; /* the peer's credit, as far as WINDOWs were made */
    uint32_t consumed;  /* used and done with, not granted again yet */
    uint32_t held;      /* payload bytes that the user has and has not released */
    uint32_t overhead;  /* what the frames of these bytes cost besides */
    uint32_t window;
};

static inline void credit_in_init(struct credit_in *credit, uint32_t window)
{
    *credit = (struct credit_in){.available = window, .window = window};
}

/* A frame came. False: it costs more than the peer has (SPEC R67). Its payload is held, and with it its overhead, so that small
 * frames are not free (SPEC R70); a frame without payload is done with at once. */
static inline bool credit_in_take(struct credit_in *credit, uint32_t payload)
{
    if (payload > credit->available || credit->available - payload < FRAME_DATA_OVERHEAD) {
        return false;
    }
    credit->available -= payload + FRAME_DATA_OVERHEAD;
    if (payload == 0) {
        credit->consumed += FRAME_DATA_OVERHEAD;
    } else {
        credit->overhead += FRAME_DATA_OVERHEAD;
    }
    credit->held += payload;
    return true;
}

/* The same for a frame whose user gives the whole cost back, overhead included: its cost is held, of an empty one as well. */
static inline bool credit_in_take_whole(struct credit_in *credit, uint32_t payload)
{
    if (payload > credit->available || credit->available - payload < FRAME_DATA_OVERHEAD) {
        return false;
    }
    credit->available -= payload + FRAME_DATA_OVERHEAD;
    credit->held += payload + FRAME_DATA_OVERHEAD;
    return true;
}

/* The user is done with payload bytes: they are given back with their share of the overhead, all of it with the last. */
static inline void credit_in_release(struct credit_in *credit, uint32_t payload)
{
    REQUIRE(payload <= credit->held);
    if (payload == 0) {
        return;
    }
    uint32_t share = (uint32_t)((uint64_t)credit->overhead * payload / credit->held);
    credit->held -= payload;
    credit->overhead -= share;
    credit->consumed += payload + share;
}

/* The increment of the WINDOW that is due now, 0: none (SPEC R70). */
static inline uint32_t credit_in_due(const struct credit_in *credit)
{
    bool half = credit->consumed >= credit->window / 2;
    bool starving = credit->available < CREDIT_LEAST && credit->consumed > 0;

    return half || starving ? credit->consumed : 0;
}

/* The due WINDOW was made; returns its increment. */
static inline uint32_t credit_in_grant(struct credit_in *credit)
{
    uint32_t increment = credit->consumed;

    credit->consumed = 0;
    credit->available += increment;
    return increment;
}

#endif
