/* SPDX-License-Identifier: MIT */
/*
 * Responses that the gateway makes itself: error pages that are short and honest.
 */
#ifndef GATEWAY_HTTP_RESPOND_H
#define GATEWAY_HTTP_RESPOND_H

#include "base/slice.h"
#include "http/end_reason.h"

struct exchange;
struct field;

/* Answers with the status and sentence of a reason as text/plain (Retry-After on 503). No head may have been sent. The
 * request body, if any is left, is dropped. `extra` (may be empty) is a second sentence for the client. */
void respond_error(struct exchange *exchange, enum end_reason reason, struct slice extra);
/* The same with another status (414, 431, 405, 501, 505, 417 ...). */
void respond_status(struct exchange *exchange, unsigned status, const char *text);
/* The same with a field of its own. */
void respond_status_field(struct exchange *exchange, unsigned status, const char *text,
                          struct field field);
/* A redirect (308) of the same URL to https on the identity's redirect_port; 400 when the request names no host. */
void respond_redirect_https(struct exchange *exchange);
/* The reason phrase of a status ("Not Found"), "" when it has none. */
const char *status_phrase(unsigned status);

#endif
