/* SPDX-License-Identifier: MIT */
/*
 * A stream: an exchange on one side, a stream of the library on the other. h2_stream.c has its request and its end, h2_respond.c
 * its response.
 */
#ifndef GATEWAY_H2_H2_STREAM_H
#define GATEWAY_H2_H2_STREAM_H

#include "base/byteq.h"
#include "http/exchange.h"
#include "http/pace.h"

#define H2_STREAM_MAGIC UINT32_C(0x48325330)

struct h2_conn;

/* A stream, from its HEADERS until the library has closed it and none of its bytes waits for the socket. */
struct h2_stream {
    uint32_t magic;
    int32_t id;
    struct h2_conn *h2;
    struct exchange *exchange; /* NULL once its client half was detached */
    struct list_node in_conn, in_work;
    size_t unconsumed; /* body bytes received that nobody has taken yet */
    struct byteq held; /* those that the exchange had no room for */
    bool giving;       /* what is held is being given to the exchange */
    unsigned marks;    /* of it in the output */
    struct pace body_pace, write_pace;
    enum end_reason cut_reason; /* not END_NONE: to be detached for it */
    uint32_t close_code;        /* `closed` */
    bool asked;                 /* the request head was handed over or refused */
    bool remote_ended;          /* the client's END_STREAM has come */
    bool deferred;              /* the library waits for nghttp2_session_resume_data */
    bool answering;             /* the final head was given to the library */
    bool end_sent;              /* END_STREAM is in the output */
    bool tunnel;                /* an accepted WebSocket */
    bool reset_in, reset_out;   /* RST_STREAM */
    bool closed;                /* the library knows it no more */
    struct loop_grave grave;
};

LIST_DEFINE(h2_stream_list, struct h2_stream, in_conn);
LIST_DEFINE(h2_work_list, struct h2_stream, in_work);

/* --- h2_stream.c --- */

/* A new stream with its exchange for a HEADERS frame; NULL when memory is out. */
struct h2_stream *h2_stream_new(struct h2_conn *h2, int32_t id) MUST_CHECK;
/* The request head is complete (h2->block): checked and handed over, or refused. */
void h2_stream_head(struct h2_stream *stream);
/* Body bytes have come. */
void h2_stream_body(struct h2_stream *stream, const uint8_t *data, size_t length);
/* The request is complete. */
void h2_stream_ended(struct h2_stream *stream);
/* Answers a bad request if that is still possible, else resets the stream. */
void h2_stream_refuse(struct h2_stream *stream, unsigned status, const char *text);
/* Resets the stream; its exchange ends for `reason` as soon as the library has returned. */
void h2_stream_reset(struct h2_stream *stream, uint32_t code, enum end_reason reason);
/* Puts it on the list of streams to be looked at. */
void h2_stream_work(struct h2_stream *stream);
/* Looks at them: ends what has ended. Not inside the library. */
void h2_settle(struct h2_conn *h2);
/* `length` body bytes of a stream were taken (codec_ops.consumed). */
void h2_stream_consumed(struct h2_stream *stream, size_t length);
/* `length` bytes of DATA came for a stream that does not want them. */
void h2_credit_back(struct h2_conn *h2, size_t length);
/* Ends all exchanges for `reason` (the session is over); the streams are freed with their marks. */
void h2_streams_end(struct h2_conn *h2, enum end_reason reason);

/* --- h2_respond.c --- */

/* The codec_ops of responses. */
enum error h2_send_head(struct exchange *exchange, const struct response_head *head, bool end);
void h2_resume_body(struct exchange *exchange);

static inline struct h2_stream *h2_stream_of(const struct exchange *exchange)
{
    struct h2_stream *stream = exchange->codec_stream;
    REQUIRE_OBJECT(stream, H2_STREAM_MAGIC);
    return stream;
}

#endif
