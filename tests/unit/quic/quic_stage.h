/* SPDX-License-Identifier: MIT */
/* Endpoints of two loops over real UDP sockets on loopback, in one thread, and a peer that sends what it likes. Used by the unit tests and a fuzz target. */
#ifndef TESTS_UNIT_QUIC_QUIC_STAGE_H
#define TESTS_UNIT_QUIC_QUIC_STAGE_H

#include "h3/quic_state.h"
#include "net/listener.h"

#define STAGE_LOOPS 2

struct stage_loop {
    struct loop *loop;
    struct quic_endpoint *endpoint;
    unsigned turns; /* left of stage_turn */
    struct loop_resume resume;
};

struct stage {
    struct quic_settings settings;
    struct listener_limits limits;
    struct tls_context *tls;
    struct quic_server *server;
    struct stage_loop loops[STAGE_LOOPS];
    struct addr address, peer_address;
    int peer;       /* a UDP socket */
    unsigned users; /* connections that were given to us and have not ended */
};

/* A server that serves; `change`, when it is not NULL, changes the settings first. */
void stage_init(struct stage *stage, void (*change)(struct stage *stage));
void stage_done(struct stage *stage);
/* Some turns of every loop. */
void stage_turn(struct stage *stage);
/* Gives a datagram of whoever that is to the first loop's endpoint. */
void stage_inject(struct stage *stage, const struct addr *peer, const void *datagram,
                  size_t length);
/* Gives one of the peer to it and lets the loops run. */
void stage_send(struct stage *stage, const void *datagram, size_t length);
/* What the peer was sent; 0: nothing. */
size_t stage_receive(struct stage *stage, uint8_t *out, size_t size);

/* A packet with a long header that looks like a client's first one: `length` bytes in all, at most 1500. */
size_t stage_initial(uint8_t *out, uint32_t version, const uint8_t *dcid, size_t dcid_length,
                     const void *token, size_t token_length, size_t length);
/* One with a short header. */
size_t stage_short(uint8_t *out, const uint8_t *dcid, size_t length);
extern const uint8_t stage_scid[8];

#endif
