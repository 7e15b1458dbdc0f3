/* SPDX-License-Identifier: MIT */
/*
 * The limits and choices of the version-neutral part and of HTTP/1.1, filled by config (schema.def has names, defaults and
 * ranges). Times are nanoseconds; 0 = off only where the row of docs/CONFIGURATION.md allows "off".
 */
#ifndef GATEWAY_HTTP_SETTINGS_H
#define GATEWAY_HTTP_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "http/head.h"

struct http_settings {
    uint64_t target_max;        /* bytes of the request target (414) */
    uint64_t header_block_max;  /* bytes of all fields (431) */
    uint64_t header_fields_max; /* 431 */
    uint64_t cookie_crumbs_max; /* 431 */
    uint64_t trailer_block_max, trailer_fields_max;
    uint64_t
        header_timeout;     /* total, from the first byte (on a fresh connection: from its start) */
    uint64_t body_size_max; /* 413 */
    uint64_t body_idle;     /* 408 */
    uint64_t body_min_rate; /* bytes per second, after body_min_rate_after */
    uint64_t body_min_rate_after;
    uint64_t keep_alive;                                  /* idle between requests */
    uint64_t keep_alive_requests;                         /* 0: off */
    uint64_t first_byte, request_deadline, response_idle; /* 0: off */
    uint64_t write_stall;
    uint64_t min_send_rate; /* bytes per second, after min_send_rate_after */
    uint64_t min_send_rate_after;
    uint64_t early_response_drain; /* bytes */
    uint64_t early_response_drain_time, lingering_close;
    uint64_t window; /* bytes held per direction and exchange (64 KiB) */
    bool drop_underscore_fields;
    bool server_header, date_header;
    struct slice server_name;         /* value of Server */
    const struct field *extra_fields; /* added to every response that does not have them */
    size_t extra_field_count;
    const struct slice *server_names; /* accepted Host values; none = all. Others: 404 */
    size_t server_name_count;
    unsigned retry_after; /* seconds, in a 503 */
    bool early_hints_h1;  /* send 103 to HTTP/1.1 clients */
};

struct h1_settings {
    uint64_t leading_crlf_max;   /* 2 */
    uint64_t chunk_line_max;     /* 4 KiB */
    uint64_t chunk_overhead_max; /* 100 KiB, and payload < 1/4 of what was read */
    uint64_t read_buffer;        /* 16 KiB: bounds pipelined read-ahead */
};

struct h2_settings {
    uint64_t max_concurrent_streams; /* 100 */
    uint64_t stream_window;          /* at most http_settings.window is used */
    uint64_t connection_window;      /* request bytes held per connection, 1 MiB */
    uint64_t header_table;           /* HPACK, 4 KiB, both directions */
    uint64_t continuations_max;      /* CONTINUATION frames of a header block */
    uint64_t settings_entries_max;   /* of a SETTINGS frame */
    uint64_t acks_max;               /* of SETTINGS and PING that wait for the socket */
    uint64_t outbound_queue_max;     /* frames that wait for the socket */
    uint64_t reset_burst,
        reset_rate; /* streams reset, by the client or because of it; per second */
    uint64_t glitch_burst, glitch_rate; /* frames that are legal and of no use */
    uint64_t settings_ack_timeout;
};

struct h3_settings {
    uint64_t max_concurrent_streams; /* 100 */
    uint64_t stream_window;          /* at most http_settings.window is used */
    uint64_t connection_window;      /* request bytes held per connection, 1 MiB */
    uint64_t
        response_unacked; /* response bytes kept for each stream, or twice the congestion window */
    uint64_t qpack_table; /* 4 KiB, both directions */
    uint64_t qpack_blocked; /* requests that wait for the table */
    uint64_t reset_burst,
        reset_rate; /* requests reset, by the client or because of it; per second */
    uint64_t glitch_burst, glitch_rate; /* what is legal and of no use */
    uint64_t alt_svc_max_age;           /* ns; 0: no Alt-Svc */
    uint64_t alt_svc_port;              /* 0: the listener's */
};

#endif
