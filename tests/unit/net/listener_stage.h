/* SPDX-License-Identifier: MIT */
/* A listener on loopback and what it gave, for the tests of listeners. */
#ifndef TESTS_UNIT_NET_LISTENER_STAGE_H
#define TESTS_UNIT_NET_LISTENER_STAGE_H

#include "net/listener.h"
#include "net/tls_context.h"
#include "support.h"

#define CLIENTS 16

/* A listener on loopback and what it gave. */
struct stage {
    struct bench bench;
    struct listener_settings settings;
    struct listener_limits limits;
    struct listener_socket socket;
    struct listener *listener;
    struct tls_context *tls;
    struct transport *accepted[CLIENTS];
    unsigned count, stop_at;
    struct loop_timer timer; /* of run_for */
    char received[64];       /* by the last transport */
    size_t received_length;
};

/* A stage with wide limits, which a test narrows before stage_start. */
void stage_init(struct stage *stage);
void stage_use_tls(struct stage *stage);
void stage_start(struct stage *stage);
/* Ends an accepted connection. */
void stage_close(struct stage *stage, unsigned index);
/* Ends everything; requires that all bounds and gauges are back at zero. */
void stage_end(struct stage *stage);
/* Keeps the transport, reads what comes into `received`; stops the loop at `stop_at` clients, or after a read when it is 0. */
void stage_on_accept(void *context, struct transport *transport,
                     const struct listener_settings *settings);
void run_for(struct stage *stage, uint64_t time_ns);
void run_until_accepted(struct stage *stage, unsigned count);
/* A blocking client. */
int dial(const struct addr *addr);
/* Runs until the server has closed the connection, and closes it here. */
void wait_closed(struct stage *stage, int fd);

#endif
