/* SPDX-License-Identifier: MIT */
/*
 * The limits and choices of WebSockets, filled by config ([websocket]). Times are nanoseconds.
 */
#ifndef GATEWAY_WS_WS_SETTINGS_H
#define GATEWAY_WS_WS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct ws_settings {
    uint32_t max_message;        /* bytes of a message after inflate (1009) */
    uint32_t max_fragments;      /* frames of a message (1008) */
    uint64_t ping_interval;      /* 0: no PINGs */
    uint64_t ping_timeout;       /* from a PING to anything from the client (1011) */
    uint64_t close_timeout;      /* from our close frame to the client's */
    bool deflate;                /* permessage-deflate may be negotiated */
    bool deflate_takeover;       /* windows are kept between messages */
    unsigned deflate_bits;       /* largest window, 9..15 */
    const struct slice *origins; /* accepted Origin values; none: all */
    size_t origin_count;
};

#endif
