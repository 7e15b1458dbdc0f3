/* SPDX-License-Identifier: MIT */
/*
 * The opening handshake (RFC 6455 section 4.2; over HTTP/2 and 3 RFC 8441 and 9220): what a request must say, and what the answer
 * says. It knows heads, not connections.
 */
#ifndef GATEWAY_WS_WS_HANDSHAKE_H
#define GATEWAY_WS_WS_HANDSHAKE_H

#include "base/arena.h"
#include "base/error.h"
#include "http/head.h"
#include "ws/ws_deflate.h"
#include "ws/ws_settings.h"

enum ws_verdict {
    WS_VERDICT_GOOD,
    WS_VERDICT_BAD,     /* 400 */
    WS_VERDICT_VERSION, /* 426 with sec-websocket-version: 13 */
    WS_VERDICT_ORIGIN   /* 403 */
};

/* Judges a request of kind REQUEST_WEBSOCKET. Not GOOD: `ret_text` is the sentence for the client. */
enum ws_verdict ws_handshake_judge(const struct request_head *request,
                                   const struct ws_settings *settings, const char **ret_text);
/* Whether the client offers this subprotocol (SPEC R84). */
bool ws_handshake_offers(const struct request_head *request, struct slice subprotocol);
/* Checks the fields that an app wants in the answer (SPEC R84, R40) and cleans them as response_head_check does. ERROR_INVALID:
 * `ret_text` says why. */
enum error ws_handshake_check_fields(struct arena *arena, struct field *fields, size_t *count,
                                     const char **ret_text) MUST_CHECK;
/* Makes the answer's fields: the app's and those of the handshake. `subprotocol` empty: none. The status is the carrier's. */
enum error ws_handshake_answer(struct arena *arena, const struct request_head *request,
                               const struct ws_deflate_params *deflate, struct slice subprotocol,
                               const struct field *fields, size_t count,
                               struct response_head *ret_head) MUST_CHECK;

#endif
