/* SPDX-License-Identifier: MIT */
/* What the configuration says about QUIC ([http3]). Times are nanoseconds. */
#ifndef GATEWAY_H3_QUIC_SETTINGS_H
#define GATEWAY_H3_QUIC_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct quic_settings {
    uint64_t max_concurrent_streams; /* bidirectional, of the client */
    uint64_t connection_window;      /* bytes that a client may send unread, all streams */
    uint64_t stream_window;
    uint64_t idle_timeout;
    uint64_t handshake_timeout;
    uint64_t retry_threshold; /* handshakes under way from which on addresses are validated first */
    uint64_t retry_token_life, new_token_life;
    uint64_t active_cids;             /* connection ids that a client may hand out to us */
    uint64_t reset_burst, reset_rate; /* stateless resets; per second */
    uint64_t glitch_burst, glitch_rate;
    bool early_data;     /* 0-RTT */
    struct slice keylog; /* file for the secrets of all connections; empty: none */
    struct slice qlog;   /* directory for one trace per connection; empty: none */
};

#endif
