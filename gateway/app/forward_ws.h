/* SPDX-License-Identifier: MIT */
/*
 * What a forward has besides, when its exchange is a WebSocket: the session between the client's tunnel bytes and the worker's
 * messages, its keep-alive and its closing handshake. Before the worker accepts, a WebSocket is forwarded like any request.
 */
#ifndef GATEWAY_APP_FORWARD_WS_H
#define GATEWAY_APP_FORWARD_WS_H

#include "app/forward.h"
#include "ws/ws_session.h"

struct forward_ws {
    struct forward *forward;
    struct list_node in_loop; /* app_loop->websockets, from the start to the end */
    struct worker *worker; /* counted in its `websockets`; holds a reference; NULL: not counted */
    struct ws_deflate_params deflate;
    struct ws_session session; /* once accepted */
    struct loop_timer timer;   /* PING, ws_on_drain, close_timeout */
    bool accepted;
    bool closing;       /* our close frame is out; the worker's stream was let go */
    bool blocked;       /* messages of the client wait for the app */
    bool output_failed; /* bytes for the client were refused */
    uint64_t owed;      /* credit for messages of the app that have not left yet */
    uint64_t heard_at;  /* the client's last bytes, or when it was last excused */
    uint64_t ping_at;   /* of a PING since then; 0: none */
    uint64_t drain_at;  /* ws_on_drain has passed; 0: not draining */
    uint64_t close_at;  /* when `closing` began */
};

LIST_DEFINE(forward_ws_list, struct forward_ws, in_loop);

/* Judges the handshake of a WebSocket and starts forwarding it; when it is wrong, the exchange was answered. */
void forward_ws_start(struct app_loop *app_loop, struct exchange *exchange, struct pool *pool,
                      const struct route_settings *route);
/* --- for forward*.c: the branches of a forward that has a forward_ws -------------------------------------------------- */

/* A worker's slot was reserved for it. */
void forward_ws_placed(struct forward *forward);
/* Tunnel bytes have come, or their end. */
void forward_ws_body(struct forward *forward);
/* Tunnel bytes have left. */
void forward_ws_released(struct forward *forward, size_t length);
/* The stream takes messages. */
void forward_ws_sendable(struct forward *forward);
/* The stream is gone after WS_ACCEPT. */
void forward_ws_gone(struct forward *forward, const struct channel_gone *gone);
/* The worker that it was with does not have it any more. */
void forward_ws_left_worker(struct forward *forward);
/* The forward is over; then its memory goes. */
void forward_ws_over(struct forward *forward);
void forward_ws_free(struct forward_ws *ws);
/* The slots of forward_stream_ops. */
enum error forward_ws_on_accept(void *user, struct slice accept);
enum error forward_ws_on_message(void *user, struct slice data, bool text, bool more);
enum error forward_ws_on_close(void *user, unsigned code, struct slice reason);

/* --- ends that begin at the gateway ------------------------------------------------------------------------------------- */

/* The loop drains: open WebSockets are closed with 1001, later ones as soon as they are accepted. */
void forward_ws_drain_loop(struct app_loop *app_loop);
/* The worker behind this link goes away: its WebSockets are closed with 1012, at once or after apps.x.ws_on_drain. */
void forward_ws_drain_link(struct app_loop *app_loop, const struct pool_link *link);

#endif
