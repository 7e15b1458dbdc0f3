/* SPDX-License-Identifier: MIT */
/*
 * QUIC for the server: what all loops share, and one endpoint per loop, which owns the loop's UDP sockets and its connections.
 */
#ifndef GATEWAY_H3_QUIC_ENDPOINT_H
#define GATEWAY_H3_QUIC_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "h3/quic.h"
#include "h3/quic_settings.h"
#include "net/cipher.h"

struct listener_limits;
struct strbuf;
struct tls_context;
struct udp_packets;

/* What comes to a process that has replaced another one: packets of the older one's connections (binary upgrade). */
struct quic_handover {
    /* Takes a copy of a datagram for the process of `generation`, or loses it; false: there is none (any more). Called in any loop. */
    bool (*on_older)(void *context, uint16_t generation, const struct addr *peer,
                     const struct addr *local, unsigned ecn, struct slice datagram);
    void *context;
};

struct quic_server_settings {
    struct quic_settings settings;      /* its strings outlive the server */
    struct listener_limits *limits;     /* outlives the server */
    struct tls_context *tls;            /* made for QUIC (tls_quic_ready); a reference is taken */
    uint8_t secret[CIPHER_SECRET_SIZE]; /* the master's: the same for every process that follows */
    uint16_t generation;                /* of this process, another one for each */
    unsigned loops;
    uint64_t
        others_until; /* until then (monotonic) another process may serve connections on the same sockets: its packets are not answered */
};

struct quic_server;
struct quic_endpoint;

/* What the loops share; before their threads run. On failure `text` (at least 256 bytes) says why. */
enum error quic_server_new(const struct quic_server_settings *settings,
                           struct quic_server **ret_server, char *text,
                           size_t text_size) MUST_CHECK;
/* The endpoints are gone. NULL is allowed. */
void quic_server_free(struct quic_server *server);
/* Uses another store from the next connection on (reload); one that was not made for QUIC changes nothing. Any thread. */
void quic_server_set_tls(struct quic_server *server, struct tls_context *tls);
/* Who takes packets of older processes; NULL: nobody, they are answered as those of lost connections. Before the threads run. */
void quic_server_set_handover(struct quic_server *server, const struct quic_handover *handover);

/* The endpoint of a loop; before its thread runs. NULL: memory is out. */
struct quic_endpoint *quic_endpoint_new(struct quic_server *server, struct loop *loop,
                                        const struct quic_acceptor *acceptor) MUST_CHECK;
/* Serves one more bound socket, which it owns from now on; every loop adds the sockets of the same addresses in the same order. ERROR_NO_MEMORY: the
 * descriptor is still the caller's. */
enum error quic_endpoint_add(struct quic_endpoint *endpoint, int fd,
                             const struct addr *addr) MUST_CHECK;
/* Refuses new connections from now on (CONNECTION_REFUSED): the process stops. */
void quic_endpoint_drain(struct quic_endpoint *endpoint);
/* Leaves first packets, and packets of other processes' connections, to the process that reads the same sockets from now on (binary upgrade). */
void quic_endpoint_yield(struct quic_endpoint *endpoint);
/* Refuses new connections for as long as `hold` (memory is short). */
void quic_endpoint_hold(struct quic_endpoint *endpoint, bool hold);
/* Closes every connection in this turn's flush. */
void quic_endpoint_close(struct quic_endpoint *endpoint);
/* Frees it with what is left, and closes its sockets; no connection hears of it any more. The thread does not run. NULL is allowed. */
void quic_endpoint_free(struct quic_endpoint *endpoint);
/* Lines for status output. */
void quic_endpoint_dump(const struct quic_endpoint *endpoint, struct strbuf *out);

/* Reads its sockets no more: the process that follows does, and hands over what is for this one (quic_endpoint_inject). Sending goes on. */
void quic_endpoint_retire(struct quic_endpoint *endpoint);
/* Takes datagrams that came elsewhere, as if they had come to the socket of their local address; in the loop's thread. False: no socket has it. */
bool quic_endpoint_inject(struct quic_endpoint *endpoint, const struct udp_packets *packets);

#endif
