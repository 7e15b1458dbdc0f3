/* SPDX-License-Identifier: MIT */
/*
 * The request parser of HTTP/1.1 and 1.0, without input or output: it is fed bytes in any split and says what came. llhttp
 * (strict, no lenient flag) reads fields, chunk lines and trailers; the request line, the meaning of the head and all limits are
 * checked here (RFC 9112). It must not know connections or exchanges.
 */
#ifndef GATEWAY_H1_H1_PARSE_H
#define GATEWAY_H1_H1_PARSE_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "h1/h1_check.h"
#include "h1/h1_error.h"
#include "h1/h1_line.h"
#include "h1/h1_text.h"
#include "http/head.h"
#include "http/settings.h"

enum h1_event {
    H1_EVENT_NEED_DATA, /* all bytes were used */
    H1_EVENT_BEGIN,     /* the next byte begins a request: call h1_parser_begin */
    H1_EVENT_HEAD,      /* the head given to h1_parser_begin is complete and checked */
    H1_EVENT_BODY,      /* *ret_body has bytes of the body */
    H1_EVENT_END,       /* the message is complete; unused bytes belong to the next one */
    H1_EVENT_H2_PREFACE, /* the line "PRI * HTTP/2.0" was read: HTTP/2 with prior knowledge (RFC 9113 3.4) */
    H1_EVENT_FAILED /* parser->error says why; the parser takes nothing more */
};

enum h1_parse_state {
    H1_PARSE_BETWEEN, /* empty lines, until a request begins */
    H1_PARSE_LINE,
    H1_PARSE_FIELDS,
    H1_PARSE_LENGTH,     /* a body of content-length bytes */
    H1_PARSE_CHUNK_LINE, /* from the end of a chunk's data to the end of the next chunk's first line */
    H1_PARSE_CHUNK_DATA,
    H1_PARSE_TRAILERS,
    H1_PARSE_ENDED, /* END is the next event */
    H1_PARSE_FAILED
};

struct h1_parser {
    const struct http_settings *settings;
    const struct h1_settings *h1_settings;
    bool secure;
    enum h1_parse_state state;
    enum h1_error error;
    struct h1_message message; /* valid from HEAD to END */
    struct request_head *head;
    llhttp_t llhttp;
    struct h1_line line;
    struct h1_line_parts parts;
    struct h1_text text;
    struct field *fields;
    size_t field_count, field_capacity, cookie_count;
    size_t leading; /* bytes of empty lines before the request */
    uint64_t block; /* bytes of the field section, of this chunk line, or of the trailers so far */
    uint64_t left;  /* body bytes of the message or of this chunk still to come */
    uint64_t body_read, body_bytes; /* chunked: bytes used, and how many of them were payload */
    size_t trailer_count;
    bool complete; /* llhttp has said so: end of head or of message */
};

/* Prepares for the first request of a connection. The settings outlive the parser. */
void h1_parser_init(struct h1_parser *parser, const struct http_settings *settings,
                    const struct h1_settings *h1_settings, bool secure);
/* Says where the request that begins now goes: memory from `arena`, the result into `head`; both are used until END or FAILED. */
void h1_parser_begin(struct h1_parser *parser, struct arena *arena, struct request_head *head);
/* Goes on with `length` bytes at `data` up to the next event, which it returns. `*ret_used` bytes are done with. The bytes are
 * overwritten: the payload of several chunks is moved together, so that *ret_body (BODY only) is one piece. While in the
 * body no more payload comes out than bytes go in, so that its user bounds it by `length`. */
enum h1_event h1_parser_feed(struct h1_parser *parser, char *data, size_t length, size_t *ret_used,
                             struct slice *ret_body) MUST_CHECK;
/* Whether nothing of a request has come yet. */
static inline bool h1_parser_between(const struct h1_parser *parser)
{
    return parser->state == H1_PARSE_BETWEEN;
}
/* Body bytes that must still come, as far as it is known: UINT64_MAX when chunked. */
uint64_t h1_parser_body_left(const struct h1_parser *parser);

#endif
