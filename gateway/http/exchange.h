/* SPDX-License-Identifier: MIT */
/*
 * An exchange: one request and its response, or one WebSocket. It knows no HTTP version and no worker; it is the only
 * joint between the two stacks. It has two halves, client (the codec) and worker (the handler); each detaches for good once,
 * and the second detach buries it. There is no reference count.
 */
#ifndef GATEWAY_HTTP_EXCHANGE_H
#define GATEWAY_HTTP_EXCHANGE_H

#include "base/arena.h"
#include "base/byteq.h"
#include "base/list.h"
#include "http/codec.h"
#include "http/end_reason.h"
#include "http/fields.h"
#include "http/head.h"
#include "loop/loop.h"

enum exchange_response_state {
    RESPONSE_NONE,     /* no final head yet */
    RESPONSE_STARTED,  /* final head given to the codec */
    RESPONSE_ENDED,    /* the last body byte was given to the codec */
    RESPONSE_FINISHED, /* the codec has put the last byte into the socket */
    RESPONSE_CUT       /* aborted */
};

struct exchange {
    uint32_t magic;
    struct conn *conn; /* NULL once the client half has detached */
    struct loop *loop;
    const struct exchange_handler *handler;
    void *codec_stream;      /* the codec's own (NULL for h1, where the conn is the stream) */
    void *worker_half;       /* the handler's own; not NULL = attached */
    bool worker_unconfirmed; /* let go, but the worker has not said that it is done */
    struct conn *charged_to; /* whose list of such exchanges it is in; NULL: none */
    struct list_node in_unconfirmed;
    struct list_node in_group; /* while its client half is attached: what is under way */

    struct arena arena;
    struct request_head request;
    struct byteq request_body; /* sent but unacked: with the worker, kept for a replay */
    uint64_t request_body_max; /* bytes; set with the head */
    bool request_end;          /* the whole request body has arrived */
    bool client_half_closed;
    bool request_body_dropped; /* nobody wants the rest of it: codecs drain or stop it */

    enum exchange_response_state response_state;
    struct response_head response;
    enum body_framing response_framing;
    int64_t response_left;       /* bytes still owed of a BODY_LENGTH response */
    uint64_t response_swallowed; /* body bytes of a body-less response */
    struct byteq response_body;  /* bound: the window granted to the worker */
    struct field *trailers;      /* valid when response_end */
    size_t trailer_count;
    bool response_end, response_by_gateway;
    bool continue_sent; /* 100 was sent */

    size_t buffered;            /* what of both bodies is counted in buffered_bytes */
    enum end_reason end_reason; /* END_NONE while it lives */
    /* For logs and metrics (loop_now values; 0: has not happened). */
    uint64_t started_at, head_at, dispatched_at, first_byte_at, ended_at;
    uint64_t request_bytes;  /* body bytes received */
    uint64_t response_bytes; /* body bytes sent */
    unsigned retries;
    int worker_pid;           /* of the worker that answered, 0: none */
    struct slice client_host; /* as a trusted proxy says; empty: the connection's */
    struct slice app_name;    /* empty: none chosen */
    struct slice error_text;  /* why the gateway answered or cut, for logs; empty: nothing to say */
    struct loop_grave grave;
};

LIST_DEFINE(exchange_list, struct exchange, in_group);
LIST_DEFINE(unconfirmed_list, struct exchange, in_unconfirmed);

/* --- the client half: called by codecs --------------------------------------------------------------------------- */

/* A new exchange of a connection, its client half attached. NULL when memory is out. */
struct exchange *exchange_new(struct conn *conn) MUST_CHECK;
/* Hands a complete request over (exchange->request is filled): counts it and calls the handler. */
void exchange_request_head(struct exchange *exchange);
/* How many body bytes it can take now; the codec stops at 0 and goes on at codec_ops.consumed. SIZE_MAX: they are dropped. */
size_t exchange_request_room(const struct exchange *exchange);
/* Body bytes (at most room). ERROR_LIMIT: more than body_size (413 was answered); ERROR_NO_MEMORY. */
enum error exchange_request_body(struct exchange *exchange, const void *data,
                                 size_t length) MUST_CHECK;
/* The request body is complete. */
void exchange_request_ended(struct exchange *exchange);
/* The client shut its side after a complete request; the answer can still be sent. */
void exchange_client_half_closed(struct exchange *exchange);
/* `length` bytes of response_body were taken by the socket (h3: by packets): they are dropped here and the worker gets credit. A codec that needs
 * them still has its own reference (byteq_share). */
void exchange_response_sent(struct exchange *exchange, size_t length);
/* The whole response is in the socket: state FINISHED. The codec detaches when the request is over too. */
void exchange_response_finished(struct exchange *exchange);
/* Fails an exchange from the client's side (malformed body, timeouts, limits): the handler is told by on_client_gone, then the
 * client gets the reason's error response if no head was sent yet, otherwise codec_ops.abort is called. `text` as in exchange_fail. */
void exchange_client_fail(struct exchange *exchange, enum end_reason reason, struct slice text);
/* Takes back an exchange for which no request was handed over: nothing is logged or counted. */
void exchange_discard(struct exchange *exchange);
/* The codec has no more to do with it. With a response not FINISHED the reason must say why (client gone, protocol error ...) and
 * the handler is told by on_client_gone. Writes the access log. The exchange must not be touched afterwards. */
void exchange_client_detach(struct exchange *exchange, enum end_reason reason);

/* --- the worker half: called by the handler ------------------------------------------------------------------------ */

/* Attaches the handler's state (not NULL). Once. */
void exchange_worker_attach(struct exchange *exchange, void *worker_half);
/* An informational head (100 .. 199, not 101), checked. ERROR_CLOSED: no client, or after the final head. Not sent to HTTP/1.0. */
enum error exchange_respond_info(struct exchange *exchange,
                                 const struct response_head *head) MUST_CHECK;
/* The worker asks for the body of an `Expect: 100-continue` request: sends 100 once, unless the body came or a response began. */
void exchange_continue(struct exchange *exchange);
/* The final head, checked by response_head_check (memory: the exchange's arena). ERROR_CLOSED: the client is gone. */
enum error exchange_respond_head(struct exchange *exchange, const struct response_head *head,
                                 bool end) MUST_CHECK;
/* Accepts a REQUEST_WEBSOCKET: `head` has the answer's checked fields, the status is set here (101; 200 from HTTP/2 on). From now on
 * response body bytes are tunnel bytes. ERROR_CLOSED: the client is gone. */
enum error exchange_accept_websocket(struct exchange *exchange,
                                     const struct response_head *head) MUST_CHECK;
/* Body bytes; copied. ERROR_INVALID: more than content-length (nothing was taken; the caller fails the exchange). Bytes of a
 * body-less response (HEAD ...) are swallowed and released at once, up to a bound. ERROR_CLOSED: the client is gone. */
enum error exchange_respond_body(struct exchange *exchange, const void *data,
                                 size_t length) MUST_CHECK;
/* The end of the response. ERROR_INVALID: fewer bytes than content-length came (the caller aborts). Trailers are checked ones in
 * the arena, dropped unless the client said te: trailers. */
enum error exchange_respond_end(struct exchange *exchange, struct field *trailers,
                                size_t count) MUST_CHECK;
/* Request body bytes that the worker was sent: moves the sent cursor; the codec may read on. */
void exchange_request_taken(struct exchange *exchange, size_t length);
/* The body bytes sent so far need no replay any more. */
void exchange_request_forget(struct exchange *exchange);
/* Nobody wants the rest of the request body: held bytes are dropped, later ones are drained by the codec. */
void exchange_request_drop(struct exchange *exchange);
/* Detaches the worker half, then fails the exchange for `reason`: a gateway-made error response with the status of the reason when
 * no head was sent yet, otherwise codec_ops.abort. `text` (copied) goes to the logs. Must not be touched afterwards. */
void exchange_fail(struct exchange *exchange, enum end_reason reason, struct slice text);
/* The handler has no more to do with it (the response is ENDED, or the client is gone); it must not be touched afterwards. */
void exchange_worker_detach(struct exchange *exchange);
/* Instead of exchange_worker_detach, when the client is gone: it counts in its connection's `unconfirmed` until the worker has confirmed the
 * end (or is lost), so that resetting streams makes no room for more work. Must not be touched after the second call. */
void exchange_worker_unconfirmed(struct exchange *exchange);
void exchange_worker_confirmed(struct exchange *exchange);

/* Whether something can still be sent to the client. */
static inline bool exchange_client_attached(const struct exchange *exchange)
{
    return exchange->conn != NULL;
}

#endif
