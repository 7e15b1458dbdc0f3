/* SPDX-License-Identifier: MIT */
/*
 * One loop of the server: its thread, its listeners, its connections. Orders come from the server's
 * main thread by mail, one at a time, and each is answered.
 */
#ifndef GATEWAY_SERVER_LOOP_H
#define GATEWAY_SERVER_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "app/app.h"
#include "config/config.h"
#include "http/access_log.h"
#include "http/conn.h"
#include "loop/mailbox.h"
#include "net/listener.h"
#include "server.h"

enum server_order {
    SERVER_ORDER_PRESSURE, /* server->pressure has changed */
    SERVER_ORDER_DRAIN,    /* stop accepting, let connections finish */
    SERVER_ORDER_REPORT,   /* add the listeners that are still open to server->open_listeners */
    SERVER_ORDER_CLOSE,    /* end everything now */
    SERVER_ORDER_BARRIER   /* nothing: what was posted before has been delivered */
};

struct server;
struct server_generation;

struct server_loop {
    struct server *server;
    unsigned index;
    struct loop *loop;
    struct server_generation *generation; /* the present one, changed while no loop runs */
    pthread_t thread;
    bool thread_started;
    bool closed; /* SERVER_ORDER_CLOSE came: nothing is accepted any more */
    struct conn_group group;
    struct listener **listeners; /* server->inputs->endpoints->listener_count places, ours first */
    size_t listener_count;
    struct quic_endpoint *quic;   /* NULL: no listener has "h3" */
    struct loop_timer idle_timer; /* while draining: closes idle connections */
    struct mail order;
    enum server_order order_kind;
};

struct server {
    const struct server_inputs *inputs;
    struct server_generation *generation; /* the present one, then older ones that are still used */
    struct listener_limits limits;
    struct apps *apps;
    struct admin *admin; /* NULL: none */
    struct server_loop *loops;
    struct quic_server *quic;    /* NULL: no listener has "h3" */
    struct loop **loop_pointers; /* for apps_new and listener_deal */
    unsigned loop_count;
    uint64_t buffer_budget; /* bytes */
    enum pressure pressure; /* changed by the main thread while it waits for no answer */
    int signal_fd;
    int answer_fd;               /* eventfd: the last loop has answered, or a thread has failed */
    _Atomic unsigned unanswered; /* loops that have not answered the present order */
    _Atomic unsigned open_listeners;
    _Atomic bool thread_failed;
};

/* Prepares the loop (no thread yet). ERROR_NO_MEMORY. Released by server_loop_done, also after a
 * failure. */
enum error server_loop_init(struct server_loop *server_loop, struct server *server,
                            unsigned index) MUST_CHECK;
/* Makes this loop's listeners; apps exist. ERROR_NO_MEMORY: server_loop_abandon undoes it. */
enum error server_loop_listen(struct server_loop *server_loop) MUST_CHECK;
/* Starts its thread. */
enum error server_loop_start(struct server_loop *server_loop) MUST_CHECK;
/* Posts an order; the loop answers by server->unanswered. */
void server_loop_order(struct server_loop *server_loop, enum server_order order);
/* Ends what the loop has, in the calling thread: after an order to close, and for a start that
 * failed half-way. */
void server_loop_close(struct server_loop *server_loop);
/* Stops the thread and waits for it. */
void server_loop_join(struct server_loop *server_loop);
void server_loop_done(struct server_loop *server_loop);

#endif
