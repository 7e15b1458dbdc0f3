/* SPDX-License-Identifier: MIT */
/*
 * The inside of a listener, for listener.c (accepts in one loop) and listener_seat.c (brings a client from accept to its
 * user, in the loop that serves it); only they include it.
 */
#ifndef GATEWAY_NET_LISTENER_SEAT_H
#define GATEWAY_NET_LISTENER_SEAT_H

#include "base/list.h"
#include "loop/loop.h"
#include "loop/mailbox.h"
#include "net/listener.h"
#include "net/proxy_protocol.h"
#include "net/tls_context.h"

#define LISTENER_MAGIC UINT32_C(0x6c697374)

/* An accepted client on its way to a seat; whoever has it owns the descriptor and the reference to `tls`. */
struct listener_client {
    int fd;
    struct addr peer, local;
    struct tls_context *tls;
    struct listener_settings settings; /* of the time when it was accepted */
};

/* A client before the end of its handshake. */
struct listener_pending {
    struct list_node in_seat;
    struct listener_seat *seat;
    struct loop_timer deadline;
    struct loop_grave grave;
    struct listener_client client; /* fd -1 once the transport has it */
    bool counted_peer;
    bool lingering; /* the handshake has failed; what says why is on its way to the client */
    struct transport *transport; /* NULL while the PROXY header is read */
    struct loop_io io;           /* of that time */
    struct proxy_reader proxy;
};

LIST_DEFINE(listener_pending_list, struct listener_pending, in_seat);

/* A log line that many clients could cause is written at most once in ten seconds, with the number of those held back. */
struct listener_log_gate {
    uint64_t next_at;
    unsigned held;
};

/* One loop that serves clients of a listener. All but `closing` belongs to that loop's thread. */
struct listener_seat {
    struct listener *listener;
    struct loop *loop;
    void *context;
    struct listener_pending_list pending;
    bool closed;
    struct mail closing;
    struct listener_log_gate refused_gate;
};

struct listener {
    uint32_t magic;
    struct loop *loop;
    struct loop_io io;                 /* fd -1: no longer listening */
    struct listener_settings settings; /* `bind` is empty: its text may be gone */
    struct listener_limits *limits;
    struct tls_context *tls;
    listener_accept_fn *on_accept;
    struct addr addr;
    bool local_varies; /* bound to a wildcard: each connection has its own local address */

    struct loop_timer pause;
    bool paused, short_of_descriptors, held;
    unsigned drain_rounds; /* 0: not draining */
    struct loop_resume drain_again;
    struct listener_log_gate pause_gate, error_gate;

    struct listener_seat *seats;
    size_t seat_count, next_seat;
    /* The owner, and each message under way, hold one: seats are used from other loops. */
    _Atomic unsigned references;
    _Atomic unsigned handshakes; /* clients that are pending, in all seats */
    struct loop_grave grave;
};

/* Serves a client in the calling thread, which is the seat's: consumes it. */
void listener_seat_admit(struct listener_seat *seat, struct listener_client *client);
/* Ends all handshakes under way; later clients are closed. */
void listener_seat_close(struct listener_seat *seat);
/* Closes a client that no seat serves, and uncounts it (it is not counted for its address yet). */
void listener_client_drop(struct listener *listener, struct listener_client *client);
/* Writes a warning about `addr`, or only counts it when the gate let one through in the last ten seconds. */
void listener_log_limited(struct listener_log_gate *gate, uint64_t now, const struct addr *addr,
                          const char *format, ...) PRINTF_LIKE(4, 5);

#endif
