/* SPDX-License-Identifier: MIT */
/*
 * What is a legal header field, what belongs to a connection, and what an app's response head means on the wire: decided
 * once, for all HTTP versions.
 */
#ifndef GATEWAY_HTTP_FIELDS_H
#define GATEWAY_HTTP_FIELDS_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/error.h"
#include "http/head.h"

/* RFC 9110 5.6.2 token, not empty. */
bool field_name_valid(struct slice name);
/* RFC 9110 5.5: no control characters but HTAB (obs-text is allowed), no leading or trailing white space. */
bool field_value_valid(struct slice value);
/* A connection-specific field (RFC 9110 7.6.1, RFC 9113 8.2.2): connection, keep-alive, proxy-connection,
 * transfer-encoding, upgrade, te, trailer is not one. Name in lower case. */
bool field_is_connection_specific(struct slice name);
/* A legal Host or :authority: reg-name or IP literal, optional port, no userinfo, no path (RFC 9110 7.2, RFC 3986 3.2). */
bool authority_valid(struct slice authority);
/* Whether two valid authorities name the same, but for case and a port that is the scheme's own (RFC 9110 4.2.3). */
bool authority_equal(struct slice a, struct slice b, bool secure);
/* The host of a valid authority without its port; an IP literal keeps its brackets (RFC 3986 3.2.2). */
struct slice authority_host(struct slice authority);
/* Whether a host is the pattern, without regard to case, or with "*.example.com" any name below that one. */
bool host_matches(struct slice pattern, struct slice host);

/* What follows a response head. */
enum body_framing {
    BODY_NONE,   /* HEAD, 1xx, 204, 304, or content-length: 0 */
    BODY_LENGTH, /* exactly content_length bytes */
    BODY_OPEN    /* until its end is marked (chunked, END_STREAM, or close) */
};

/* Checks and cleans an app's response head in place: names lower-cased into the arena and valid, values valid, connection-
 * specific fields dropped (transfer-encoding too), content-length parsed (two that differ, or a bad one: ERROR_INVALID),
 * content-length stripped on 1xx and 204, status in range (101 is refused). ERROR_INVALID: the head must not be sent; `ret_text` says why. */
enum error response_head_check(struct arena *arena, struct response_head *head,
                               const char **ret_text) MUST_CHECK;
/* The framing of a checked head in answer to a request (RFC 9112 6.3): 205 has no body; HEAD and 304 keep content-length. */
enum body_framing response_framing(const struct request_head *request,
                                   const struct response_head *response);
/* Checks trailers likewise: valid, and none of the fields that RFC 9110 6.5.1 forbids (framing, routing, auth, content-*). */
enum error trailers_check(struct arena *arena, struct field *fields, size_t count,
                          const char **ret_text) MUST_CHECK;

#endif
