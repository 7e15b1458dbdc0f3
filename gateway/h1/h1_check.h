/* SPDX-License-Identifier: MIT */
/*
 * What a request head as a whole must fulfil before an app sees it: one Host, one way to tell the body's length, known
 * expectations; and its translation into a request_head. llhttp has checked the syntax; nothing here relies on its leniency.
 */
#ifndef GATEWAY_H1_H1_CHECK_H
#define GATEWAY_H1_H1_CHECK_H

#include <stdbool.h>

#include "base/arena.h"
#include "h1/h1_error.h"
#include "h1/h1_line.h"
#include "http/head.h"

/* What concerns the connection, not the app. */
struct h1_message {
    bool chunked;
    bool keep_alive; /* the client allows another request: RFC 9112 9.3 */
    bool
        websocket; /* asks for a WebSocket (RFC 6455 4.1); the rest of the handshake is not judged */
};

/* Checks `fields` (names in lower case, values trimmed; the array is reordered and shortened) and fills `head` and `message`.
 * `secure`: the connection is TLS. On an error the head says method and version, so that it can be answered. */
enum h1_error h1_check_head(struct arena *arena, const struct h1_line_parts *line,
                            struct field *fields, size_t count, bool secure,
                            struct request_head *head, struct h1_message *message) MUST_CHECK;

#endif
