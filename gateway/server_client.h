/* SPDX-License-Identifier: MIT */
/*
 * What the server keeps of a client connection beside its codec: who it is in words, what it was counted under, and the configuration that it
 * began with.
 */
#ifndef GATEWAY_SERVER_CLIENT_H
#define GATEWAY_SERVER_CLIENT_H

#include <stdbool.h>

#include "http/conn.h"
#include "loop/loop.h"
#include "net/addr.h"

struct server_generation;
struct server_loop;
struct tls_info;

struct server_client {
    struct loop_grave grave;
    struct server_loop *server_loop;
    struct server_generation *generation; /* held: the connection keeps what it began with */
    struct addr peer;
    bool quic;
    char alt_svc[64]; /* value of Alt-Svc, "": none */
    char text[];      /* client host, server host */
};

/* Makes the record and fills in the identity's addresses, whose slices point into it; identity->user is the record. NULL: memory is out. */
struct server_client *server_client_new(struct server_loop *server_loop,
                                        struct server_generation *generation,
                                        const struct addr *peer, const struct addr *local,
                                        struct conn_identity *identity) MUST_CHECK;
/* What TLS told; the slices live as long as `tls`. */
void server_client_tls(struct conn_identity *identity, const struct tls_info *tls);
/* Announces that HTTP/3 is spoken on this UDP port: Alt-Svc for the answers of the connection (RFC 7838 3). `max_age` in ns. */
void server_client_announce(struct server_client *client, struct conn_identity *identity,
                            unsigned port, uint64_t max_age);
/* At once, and at the end of the turn: the identity's text may still be read in it. */
void server_client_free(struct server_client *client);
void server_client_bury(struct server_client *client);

#endif
