/* SPDX-License-Identifier: MIT */
/*
 * Request and response heads as every HTTP version gives and takes them. A codec fills a request_head only after all checks
 * of its version passed; memory is the exchange's arena. What stands here is already safe: names are lower-case tokens,
 * values hold no CR, LF, NUL or other control but HTAB.
 */
#ifndef GATEWAY_HTTP_HEAD_H
#define GATEWAY_HTTP_HEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"

enum http_version { HTTP_1_0 = 10, HTTP_1_1 = 11, HTTP_2 = 20, HTTP_3 = 30 };

struct field {
    struct slice name;
    struct slice value;
};

enum request_kind { REQUEST_HTTP, REQUEST_WEBSOCKET };

struct request_head {
    enum request_kind kind;
    enum http_version version;
    struct slice method;    /* "GET" */
    struct slice scheme;    /* "http", "https"; "ws", "wss" for REQUEST_WEBSOCKET */
    struct slice authority; /* host[:port] as sent, lower-cased; empty on HTTP/1.0 without Host */
    struct slice target;    /* as sent, for the access log */
    struct slice raw_path;  /* path as sent, without query; begins with '/', or is "*" (OPTIONS) */
    struct slice path;      /* percent-decoded once, valid UTF-8 (bad sequences are U+FFFD) */
    struct slice query;     /* without '?' */
    struct field
        *fields; /* "host" first when there is one; connection-specific fields and Expect removed */
    size_t field_count;
    int64_t content_length; /* -1: not stated */
    bool has_body;          /* a body follows (content_length > 0 or chunked / no END_STREAM) */
    bool expect_continue;   /* the client waits for 100 */
    bool te_trailers;       /* the client takes trailers */
    bool prioritised;       /* the client has said how urgent it is (RFC 9218): */
    uint8_t urgency;        /* 0, the most urgent, to 7 */
    bool incremental;
};

struct response_head {
    unsigned status;      /* 100..999; < 200 informational */
    struct field *fields; /* as the app gave them, after response_head_check */
    size_t field_count;
    int64_t content_length; /* from content-length; -1: not stated */
};

/* Splits an origin-form target into raw_path, path and query (percent-decoding once, %00 and NUL refused: ERROR_INVALID;
 * invalid %-escapes stay literal; bad UTF-8 becomes U+FFFD in path only). ASGI 3.0 HTTP scope; RFC 3986 2.1, 3.3. */
enum error head_parse_target(struct arena *arena, struct slice target,
                             struct request_head *head) MUST_CHECK;
/* The first field with this (lower-case) name, or NULL. */
const struct field *head_find(const struct field *fields, size_t count, struct slice name);

#endif
