/* SPDX-License-Identifier: MIT */
/* The settings that the HTTP/2 tests begin with: the product's defaults, but for times, which never pass here. */
#ifndef TESTS_UNIT_H2_H2_SETTINGS_TOLD_H
#define TESTS_UNIT_H2_H2_SETTINGS_TOLD_H

#include "base/clock.h"
#include "http/settings.h"

static const struct http_settings driver_http_settings = {
    .target_max = 8192,
    .header_block_max = 32768,
    .header_fields_max = 100,
    .cookie_crumbs_max = 100,
    .trailer_block_max = 8192,
    .trailer_fields_max = 32,
    .header_timeout = 600 * CLOCK_NS_PER_S,
    .body_size_max = 1 << 30,
    .body_idle = 600 * CLOCK_NS_PER_S,
    .keep_alive = 600 * CLOCK_NS_PER_S,
    .write_stall = 600 * CLOCK_NS_PER_S,
    .lingering_close = 600 * CLOCK_NS_PER_S,
    .window = 65536,
    .server_header = true,
    .server_name = {"test", 4},
};

static const struct h2_settings driver_h2_settings = {
    .max_concurrent_streams = 100,
    .stream_window = 65536,
    .connection_window = 1 << 20,
    .header_table = 4096,
    .continuations_max = 8,
    .settings_entries_max = 32,
    .acks_max = 1000,
    .outbound_queue_max = 1000,
    .reset_burst = 1000,
    .reset_rate = 33,
    .glitch_burst = 1000,
    .glitch_rate = 33,
    .settings_ack_timeout = 600 * CLOCK_NS_PER_S,
};

#endif
