/* SPDX-License-Identifier: MIT */
/*
 * A request stream: an exchange on one side, a stream of the transport and of the library on the other. h3_stream.c has its life and its
 * end, h3_request.c its request, h3_respond.c its response, h3_send.c what becomes of the response's bytes.
 */
#ifndef GATEWAY_H3_H3_STREAM_H
#define GATEWAY_H3_H3_STREAM_H

#include "base/byteq.h"
#include "http/exchange.h"
#include "http/head_block.h"
#include "http/pace.h"

#define H3_STREAM_MAGIC UINT32_C(0x48335330)

struct h3_conn;

/* From its first byte until the transport has closed it and its exchange has ended. */
struct h3_stream {
    uint32_t magic;
    int64_t id;
    struct h3_conn *h3;
    struct exchange
        *exchange; /* NULL before its head began, and once its client half was detached */
    struct list_node in_conn, in_work;
    struct head_block
        block;         /* the field section being read: those of several streams may be under way */
    uint64_t begun_at; /* 0: the head is complete */
    size_t unconsumed; /* body bytes received that nobody has taken yet */
    struct byteq held; /* those that the exchange had no room for */
    bool giving;       /* what is held is being given to the exchange */
    uint64_t framing, content;              /* bytes received */
    uint64_t section_bytes, section_fields; /* decoded of the field section being read */
    /* Response bytes that the library has: shared with the exchange, all of them "sent"; acknowledged ones go. */
    struct byteq kept;
    size_t unreleased; /* of these, the exchange's still: its worker got no credit for them yet */
    size_t due;        /* of these, in packets */
    size_t counted;    /* what of `kept` is counted in buffered_bytes beside the exchange's */
    struct pace body_pace, write_pace;
    enum end_reason cut_reason; /* not END_NONE: to be detached for it */
    bool asked;                 /* the request head was handed over or refused */
    bool remote_ended;          /* the client's FIN has come, or its reset */
    bool ended;                 /* the request is complete */
    bool stopped;               /* STOP_SENDING went out: nothing more of it is read */
    bool deferred;              /* the library waits for nghttp3_conn_resume_stream */
    bool answering;             /* the final head was given to the library */
    bool end_sent;              /* FIN is in a packet */
    bool tunnel;                /* an accepted WebSocket */
    bool waits_for_acks;        /* http3.response_unacked is reached */
    bool reset_in,
        reset_out; /* RESET_STREAM or STOP_SENDING from the client; RESET_STREAM from us */
    bool ignored;  /* refused unread: the library never heard of it */
    bool closed;   /* the transport knows it no more */
    struct loop_grave grave;
};

LIST_DEFINE(h3_stream_list, struct h3_stream, in_conn);
LIST_DEFINE(h3_work_list, struct h3_stream, in_work);

/* --- h3_stream.c --- */

/* A new stream for the first that comes of it; NULL when memory is out. */
struct h3_stream *h3_stream_new(struct h3_conn *h3, int64_t id) MUST_CHECK;
/* The stream of an id that has not been closed yet, or NULL. */
struct h3_stream *h3_stream_find(const struct h3_conn *h3, int64_t id);
/* Refuses it unread: the client may ask again (RFC 9114 4.1.1). */
void h3_stream_reject(struct h3_stream *stream);
/* Resets the response, and stops the request if that is under way; its exchange ends for `reason` in this turn's flush. */
void h3_stream_reset(struct h3_stream *stream, uint64_t code, enum end_reason reason);
/* Asks the client to send no more of the request (STOP_SENDING). */
void h3_stream_stop(struct h3_stream *stream, uint64_t code);
/* The client has reset the request or stopped the response: nobody waits for an answer any more. */
void h3_stream_client_gone(struct h3_stream *stream);
/* Puts it on the list of streams to be looked at. */
void h3_stream_work(struct h3_stream *stream);
/* Looks at them: ends what has ended. Not inside the library. */
void h3_settle(struct h3_conn *h3);
/* Ends all exchanges for `reason` (the connection is over). */
void h3_streams_end(struct h3_conn *h3, enum end_reason reason);
/* Frees all streams, whose exchanges have ended. */
void h3_streams_free(struct h3_conn *h3);
/* Grants the client new streams for those that are over, as far as workers have let go of them. */
void h3_grant(struct h3_conn *h3);

/* --- h3_request.c --- */

/* A field section begins: of a request's head, or (not `head`) of its trailers. False: memory is out. */
bool h3_stream_section(struct h3_stream *stream, bool head) MUST_CHECK;
/* The request head is complete (stream->block): checked and handed over, or refused. `end`: FIN came with it. */
void h3_stream_head(struct h3_stream *stream, bool end);
/* Its trailers are complete. */
void h3_stream_trailers(struct h3_stream *stream);
/* Body bytes have come. */
void h3_stream_body(struct h3_stream *stream, const uint8_t *data, size_t length);
/* The request is complete. */
void h3_stream_ended(struct h3_stream *stream);
/* `length` body bytes were taken (codec_ops.consumed). */
void h3_stream_consumed(struct h3_stream *stream, size_t length);

/* --- h3_respond.c --- */

/* The codec_ops of responses. */
enum error h3_send_head(struct exchange *exchange, const struct response_head *head, bool end);
void h3_resume_body(struct exchange *exchange);

/* --- h3_send.c --- */

/* Shares the next `length` bytes of the response's body with the library. ERROR_NO_MEMORY. */
enum error h3_stream_keep(struct h3_stream *stream, size_t length) MUST_CHECK;
/* `length` of them were acknowledged. */
void h3_stream_acked(struct h3_stream *stream, size_t length);
/* Brings buffered_bytes up to what is kept; after the exchange was detached, too. */
void h3_stream_count(struct h3_stream *stream);

static inline struct h3_stream *h3_stream_of(const struct exchange *exchange)
{
    struct h3_stream *stream = exchange->codec_stream;
    REQUIRE_OBJECT(stream, H3_STREAM_MAGIC);
    return stream;
}

#endif
