/* SPDX-License-Identifier: MIT */
/*
 * The server from inside: what its main thread and its loops share, and one loop: its thread, its listeners, its connections.
 * Orders come from the main thread by mail, one at a time, and each is answered.
 */
#ifndef GATEWAY_SERVER_LOOP_H
#define GATEWAY_SERVER_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "app/app.h"
#include "config/config.h"
#include "control.h"
#include "http/conn.h"
#include "loop/mailbox.h"
#include "net/listener.h"
#include "server.h"

enum server_order {
    SERVER_ORDER_PRESSURE, /* server->pressure has changed */
    SERVER_ORDER_DRAIN,    /* stop accepting, let connections finish */
    SERVER_ORDER_REPORT,   /* add the listeners that are still open to server->open_listeners */
    SERVER_ORDER_CLOSE,    /* end everything now */
    SERVER_ORDER_BARRIER,  /* nothing: what was posted before has been delivered */
    SERVER_ORDER_PREPARE,  /* listen on what is new in server->change; failures are noted there */
    SERVER_ORDER_ABANDON,  /* undo that */
    SERVER_ORDER_APPLY, /* stand still while the main thread takes server->change over, then follow */
    SERVER_ORDER_PARK,     /* stand still while the main thread changes something else */
    SERVER_ORDER_RELEASE,  /* drain the listeners that the last change left out */
    SERVER_ORDER_SWEEP,    /* look what of former configurations is over */
    SERVER_ORDER_RETIRE,   /* as DRAIN, and leave what waits to the next process */
    SERVER_ORDER_CLOSED,   /* upgrade, loop 0: accept no workers */
    SERVER_ORDER_ANNOUNCE, /* upgrade: have the workers dial the next process */
    SERVER_ORDER_RESUME,   /* loop 0: accept workers again */
    SERVER_ORDER_WORKERS,  /* loop 0: accept workers */
    SERVER_ORDER_OPEN,     /* accept clients, and operators in loop 0 */
    SERVER_ORDER_SAVE,     /* loop 0: say to the master what the next process is to know */
    SERVER_ORDER_TELL      /* loop 0: give operators server->told */
};

struct server;
struct server_change;
struct server_generation;
struct server_inbox;
struct server_socket;

/* A listener of a loop; `id` as the master names its socket. */
struct server_listener {
    struct listener *listener;
    unsigned id;
    bool fresh;   /* of a change that is not applied yet */
    bool leaving; /* no longer configured */
};

struct server_loop {
    struct server *server;
    unsigned index;
    struct loop *loop;
    struct server_generation *generation; /* the present one, changed while no loop runs */
    pthread_t thread;
    bool thread_started;
    bool closed; /* SERVER_ORDER_CLOSE came: nothing is accepted any more */
    struct conn_group group;
    struct server_listener *listeners;
    size_t listener_count, listener_room;
    struct quic_endpoint *quic;   /* NULL: no listener has "h3" */
    struct loop_timer idle_timer; /* while draining: closes idle connections */
    struct mail order;
    enum server_order order_kind;
};

/* What the master says about itself, and what came of an operator's wish; for loop 0. */
struct server_told {
    int32_t result;  /* control_result() */
    uint32_t number; /* the last wish that it answers */
    char *text;      /* owned; NULL: out of memory */
};

struct server {
    const struct server_inputs *inputs;
    struct server_generation *generation; /* the present one, then older ones that are still used */
    unsigned number;                      /* of the present configuration, from 1 */
    struct server_change *change;         /* under way; NULL: none */
    struct listener_limits limits;
    struct apps *apps;
    struct admin *admin; /* NULL: none */
    struct server_told told;
    struct server_socket *sockets; /* of workers and operators; owned, with their descriptors */
    size_t socket_count;
    struct tls_keyring *keyring; /* NULL: no listener ever had TLS; owned */
    struct server_loop *loops;
    struct quic_server *quic;    /* NULL: no listener has "h3" */
    struct server_inbox *inbox;  /* of server_older.c; NULL: none */
    struct loop **loop_pointers; /* for apps_new and listener_deal */
    unsigned loop_count;
    uint64_t buffer_budget; /* bytes */
    uint64_t sweep_at;      /* 0: nothing is to be swept */
    uint64_t workers_at;    /* standing by: since when every app has some workers; 0: not */
    bool retiring;          /* apps that are no longer configured have not ended */
    bool standby;           /* clients are not accepted yet */
    bool await_workers;     /* the master is to hear when they are back */
    bool retired;           /* the next process accepts them */
    enum pressure pressure; /* changed by the main thread while it waits for no answer */
    int signal_fd;
    int answer_fd;               /* eventfd: the last loop has answered, or a thread has failed */
    _Atomic unsigned unanswered; /* loops that have not answered the present order */
    _Atomic unsigned open_listeners;
    _Atomic uint32_t wishes[CONTROL_WISHES]; /* numbers of the operators' last ones */
    uint32_t passed_on[CONTROL_WISHES];      /* to the master */
    _Atomic bool thread_failed;
    pthread_mutex_t park_lock; /* of the following */
    pthread_cond_t parked_changed;
    unsigned parked; /* loops that stand still */
    bool parking;
};

/* Prepares the loop (no thread yet). ERROR_NO_MEMORY. Released by server_loop_done, also after a
 * failure. */
enum error server_loop_init(struct server_loop *server_loop, struct server *server,
                            unsigned index) MUST_CHECK;
/* Starts its thread. */
enum error server_loop_start(struct server_loop *server_loop) MUST_CHECK;
/* Posts an order; the loop answers by server->unanswered. */
void server_loop_order(struct server_loop *server_loop, enum server_order order);
/* Gives clients to a connection of the codec that was negotiated: the listeners' on_accept. */
listener_accept_fn server_loop_accept;
/* Ends what the loop has, in the calling thread: after an order to close, and for a start that
 * failed half-way. */
void server_loop_close(struct server_loop *server_loop);
/* Stops the thread and waits for it. */
void server_loop_join(struct server_loop *server_loop);
void server_loop_done(struct server_loop *server_loop);

/* The bounds on connections that a configuration sets. */
void server_limits_fill(struct listener_limits *limits, const struct config *config);
/* Gives an order to all loops and waits until each has carried it out. */
void server_order_all(struct server *server, enum server_order order);
/* SERVER_ORDER_APPLY or _PARK: calls `change` while all loops stand still. */
void server_order_parked(struct server *server, enum server_order order,
                         void (*change)(struct server *server));
/* For loops, under SERVER_ORDER_APPLY: stands still until the change is made. */
void server_park(struct server *server);
/* Ends the process at once with an error: nothing can be taken apart in order any more. */
_Noreturn void server_give_up(const char *why);
/* Wakes the main thread. Any thread. */
void server_wake(struct server *server);

#endif
