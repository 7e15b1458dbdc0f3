/* SPDX-License-Identifier: MIT */
/*
 * Header blocks of HTTP/2 and field sections of HTTP/3 into request heads: one policy for both. Fields are counted before anything is allocated for them, so that a block of one-byte
 * references to large table entries costs what it says it is (limits.header_block, 32 bytes more for each field as RFC 9113 6.5.2 and RFC 9114 4.2.2 count).
 * The library has checked the syntax of RFC 9113 8.2 and 8.3 (RFC 9114 4.2, 4.3); what it leaves open is checked here, and names and values again.
 */
#ifndef GATEWAY_HTTP_HEAD_BLOCK_H
#define GATEWAY_HTTP_HEAD_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "http/head.h"
#include "http/settings.h"

/* What a field costs beside its bytes: RFC 9113 6.5.2, RFC 9114 4.2.2. */
#define HEAD_BLOCK_FIELD_OVERHEAD 32

/* A header block that is being read. */
struct head_block {
    struct arena *arena; /* the exchange's; NULL: trailers, or nobody wants it */
    const struct http_settings *settings;
    struct slice method, scheme, authority, path;
    struct slice protocol; /* of an extended CONNECT */
    struct field *fields;
    size_t field_count, field_capacity;
    size_t counted, crumbs; /* fields, and cookie fields apart */
    uint64_t bytes;
    unsigned status; /* 0: fine so far; otherwise what it is refused with */
    const char *text;
    bool no_memory;
};

/* Starts a request's block whose memory is `arena`, or (NULL) a block of trailers that is counted and dropped. */
void head_block_begin(struct head_block *block, struct arena *arena,
                      const struct http_settings *settings);
/* Counts a field and keeps it if it is within the limits; afterwards block->status and no_memory say how it stands. */
void head_block_field(struct head_block *block, struct slice name, struct slice value);
/* Checks the complete block and fills `head`. An extended CONNECT for a WebSocket (RFC 8441, RFC 9220) becomes a REQUEST_WEBSOCKET as
 * codec.h says. `end`: END_STREAM (FIN) came with it. False: block->status and text say why; the head says
 * method and version then, so that it can be answered. */
bool head_block_finish(struct head_block *block, enum http_version version, bool secure, bool end,
                       struct request_head *head) MUST_CHECK;

#endif
