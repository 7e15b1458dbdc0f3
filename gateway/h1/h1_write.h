/* SPDX-License-Identifier: MIT */
/*
 * Response heads and body framing as bytes (RFC 9112 4, 6, 7), without a socket. The writer keeps only the framing; body bytes stay
 * in their queue and are pointed at: [heads][chunk line][pieces of the body][end of chunk, last chunk, trailers] in one
 * vector. It must not know connections or exchanges.
 */
#ifndef GATEWAY_H1_H1_WRITE_H
#define GATEWAY_H1_H1_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "base/arena.h"
#include "base/byteq.h"
#include "base/error.h"
#include "http/fields.h"
#include "http/head.h"
#include "http/settings.h"

struct h1_writer {
    struct slice head; /* heads that are still to be sent; in the arena */
    char chunk_line[20];
    size_t chunk_sent, chunk_length;
    size_t body_left;  /* bytes of the queue that belong to the chunk (or run) under way */
    struct slice tail; /* what follows them */
    bool chunked;
    bool final; /* the final head was given */
    bool last;  /* nothing comes after the tail */
    bool close_marks_end;
};

/* What a head needs to know of its surroundings. */
struct h1_head_context {
    const struct http_settings *settings;
    const struct request_head *request;
    struct slice date;    /* value of Date */
    struct slice alt_svc; /* value of Alt-Svc; empty: none */
    bool close;           /* the connection ends after this response */
    bool end;             /* nothing follows the head */
    bool whole;           /* all of an open body is here, without trailers: `length` bytes */
    size_t length;
};

/* Prepares for the responses of one request. */
void h1_writer_init(struct h1_writer *writer);
/* Renders a checked head behind what is waiting. A final one decides the framing: BODY_OPEN is chunked on HTTP/1.1 and ends with the
 * connection on HTTP/1.0, unless the body is whole: then it gets a content-length. */
enum error h1_writer_head(struct h1_writer *writer, struct arena *arena,
                          const struct h1_head_context *context,
                          const struct response_head *head) MUST_CHECK;
/* Takes what is new in the body queue into account; `end`: no more will come. Call before each gather. */
enum error h1_writer_plan(struct h1_writer *writer, struct arena *arena, const struct byteq *body,
                          bool end, const struct field *trailers, size_t trailer_count) MUST_CHECK;
/* Points at what can be sent now, in order; returns how many vectors were filled, 0: nothing. */
size_t h1_writer_gather(const struct h1_writer *writer, const struct byteq *body,
                        struct iovec *vectors, size_t max);
/* `length` gathered bytes were sent; returns how many of them were the body queue's. */
size_t h1_writer_sent(struct h1_writer *writer, size_t length);
/* Whether the whole response was sent. */
bool h1_writer_finished(const struct h1_writer *writer);
/* Whether something was planned that is not sent yet. */
bool h1_writer_pending(const struct h1_writer *writer);

#endif
