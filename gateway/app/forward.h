/* SPDX-License-Identifier: MIT */
/*
 * One request on its way between an exchange and a worker's stream: the worker half of the exchange and the user of the
 * stream. The only object that holds both.
 */
#ifndef GATEWAY_APP_FORWARD_H
#define GATEWAY_APP_FORWARD_H

#include "app/pool.h"
#include "http/exchange.h"

enum forward_phase {
    FORWARD_WAITING,     /* in the pool's queue */
    FORWARD_SENT,        /* REQUEST is with a worker, no final RESPONSE yet */
    FORWARD_ANSWERED,    /* the final head has come */
    FORWARD_UNCONFIRMED, /* the client is gone; the worker was told and has not said DONE */
    FORWARD_OVER         /* let go by both sides, on its way to the graveyard */
};

struct forward {
    uint32_t magic;
    enum forward_phase phase;
    struct app_loop *app_loop;
    const struct apps_settings *settings; /* held: those of the time when it began */
    struct exchange *exchange;
    const struct route_settings *route; /* NULL: none */
    struct forward_ws *ws;              /* NULL: an HTTP request */
    struct forward_file *file;          /* that is being sent for the worker; NULL: none */
    struct pool_waiter waiter;
    struct pool_link *link; /* while a stream is open */
    struct channel_stream *stream;
    struct worker
        *long_lived; /* counted in its long_lived, for which this is a reference; NULL: not */
    struct loop_timer timer; /* first_byte, request_deadline, response_idle */
    uint64_t last_data_at;
    uint64_t sent;        /* request body bytes sent to the present worker */
    bool end_sent;        /* the request's end was sent to the present worker */
    bool eof_owed;        /* DISCONNECT(CLIENT_EOF) follows once the request's end is sent */
    bool replayable;      /* everything sent is still held */
    bool response_seen;   /* any RESPONSE frame has come: never placed again */
    bool started_retried; /* the one retry of a started request is used */
    unsigned workers_lost, refusals;
    uint64_t waiting_since; /* when it was placed in the queue again */
    uint64_t waited;        /* in the queue since it was first with a worker */
    struct loop_grave grave;
};

/* Starts forwarding an exchange whose head is complete: attaches, waits for a worker. On failure the exchange was answered. `ws` is
 * taken (forward_ws_start); NULL: an HTTP request. */
void forward_start(struct app_loop *app_loop, struct exchange *exchange, struct pool *pool,
                   const struct route_settings *route, struct forward_ws *ws);
/* What the exchange tells (app_handler). */
void forward_body(struct forward *forward);
void forward_released(struct forward *forward, size_t length);
void forward_client_gone(struct forward *forward, bool half_closed);
/* The worker has confirmed the end of a request whose client is gone, or is lost. */
void forward_confirmed(struct forward *forward);
/* For forward_retry.c and forward_response.c: ends the exchange with a reason, lets the stream go, buries the forward. */
void forward_fail(struct forward *forward, enum end_reason reason, const char *text);
/* Lets the stream go without a word to the exchange (it was already told). */
void forward_over(struct forward *forward);
/* The response is complete for the exchange: both sides let go; the worker's slot stays taken until DONE. */
void forward_finish(struct forward *forward);
/* A lost or refusing worker: places the request again where the retry table allows it, otherwise fails it. */
void forward_lost(struct forward *forward, const struct channel_gone *gone);
/* The worker's answer cannot be sent, for this error: 502 or a cut; returns the error, with which the stream is reset. */
enum error forward_refuse_response(struct forward *forward, enum error error,
                                   const char *text) MUST_CHECK;
/* Whether a lost worker would not matter to this request: it may run again, and what there is of its body is kept. */
bool forward_is_safe(const struct forward *forward, const struct pool *pool);
/* The stream is not with its worker any more, where it may have been counted as long-lived. */
void forward_left_worker(struct forward *forward);
/* For status: how many request body bytes the worker would take now of what has this worker half. False: it is no forward, or not with a
 * worker. */
bool forward_credit(const void *worker_half, uint32_t *ret_credit);
/* (Re)sets the timer for the phase. */
void forward_set_timer(struct forward *forward);

extern const struct channel_user_ops forward_stream_ops;

#endif
