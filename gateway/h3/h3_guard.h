/* SPDX-License-Identifier: MIT */
/*
 * Counters against floods that cost the sender little: requests that are reset, framing without content, fields behind the
 * limits, control and QPACK streams that say much and ask nothing. Ours, beside those of the library (unknown frames and streams).
 */
#ifndef GATEWAY_H3_H3_GUARD_H
#define GATEWAY_H3_H3_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/bucket.h"

struct h3_conn;
struct h3_stream;

struct h3_guard {
    struct bucket resets, glitches;
    uint64_t uni_received;
    uint64_t uni_bytes; /* that control and QPACK streams may still bring without being counted */
    /* Requests of the present second: begun, and of these reset before any response. */
    uint64_t second;
    unsigned streams, unanswered;
};

void h3_guard_init(struct h3_conn *h3);
/* Something legal and of no use; ends the connection when there was too much of it. */
void h3_guard_glitch(struct h3_conn *h3);
/* A request was begun. */
void h3_guard_stream(struct h3_conn *h3);
/* A request was reset, by the client or for something that it did; `answered`: a response had begun. */
void h3_guard_reset(struct h3_conn *h3, bool answered);
/* Bytes of a unidirectional stream came. */
void h3_guard_uni(struct h3_conn *h3, size_t length);
/* Bytes of a request stream came that are no content. */
void h3_guard_framing(struct h3_stream *stream, size_t length);
/* A field section begins. */
void h3_guard_section(struct h3_stream *stream);
/* One of its fields was decoded, of so many bytes. */
void h3_guard_field(struct h3_stream *stream, size_t length);

#endif
