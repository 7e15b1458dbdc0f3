/* SPDX-License-Identifier: MIT */
/* What QUIC's endpoint and connections are made of. Internal to quic_*.c. */
#ifndef GATEWAY_H3_QUIC_STATE_H
#define GATEWAY_H3_QUIC_STATE_H

#include <ngtcp2/ngtcp2.h>
#include <pthread.h>
#include <stdatomic.h>

#include "h3/quic_cid.h"
#include "h3/quic_conn.h"
#include "h3/quic_endpoint.h"
#include "h3/quic_table.h"
#include "loop/loop.h"
#include "net/udp.h"

#define QUIC_SERVER_MAGIC UINT32_C(0x9C000001)
#define QUIC_ENDPOINT_MAGIC UINT32_C(0x9C000002)
/* A packet has at least so many bytes (RFC 9000 10.3: short of it nobody can tell it from a stateless reset). */
#define QUIC_DATAGRAM_MIN 21u
/* RFC 9000 14.1 */
#define QUIC_INITIAL_MIN 1200u

struct quic_server {
    uint32_t magic;
    struct quic_server_settings given;
    pthread_mutex_t tls_lock; /* held for one reference, once per connection */
    struct quic_handover handover;
    struct quic_endpoint **endpoints; /* by loop; all made before the first thread runs */
    _Atomic unsigned *inboxes;        /* by loop: packets that other loops have posted to it */
    _Atomic unsigned half_open;       /* handshakes under way, all loops */
};

/* One datagram, wherever it came from. */
struct quic_datagram {
    struct quic_socket *socket;
    struct addr peer, local;
    unsigned ecn;
    uint8_t *data;
    size_t length;
    bool forwarded; /* by another loop */
};

/* What answers for a closed connection. */
struct quic_close_wait {
    struct quic_owner owner;
    struct quic_endpoint *endpoint;
    struct list_node in_endpoint;
    struct loop_timer timer;
    struct loop_grave grave;
    uint64_t packets, received, sent; /* late ones; bytes */
    size_t length;
    uint8_t packet[];
};

/* An answer without a connection, on its way. */
struct quic_reply {
    struct list_node in_endpoint;
    struct quic_socket *socket;
    struct udp_packets packets;
    size_t size;
    uint8_t data[];
};

LIST_DEFINE(quic_conn_list, struct quic_conn, in_endpoint);
LIST_DEFINE(quic_blocked_list, struct quic_conn, in_blocked);
LIST_DEFINE(quic_close_wait_list, struct quic_close_wait, in_endpoint);
LIST_DEFINE(quic_reply_list, struct quic_reply, in_endpoint);

struct quic_socket {
    struct loop_io io;
    struct udp_socket udp;
    struct quic_endpoint *endpoint;
    unsigned index;
    bool full; /* it took no more: `blocked` waits for LOOP_WRITE */
    struct quic_blocked_list blocked;
};

struct quic_endpoint {
    uint32_t magic;
    struct quic_server *server;
    struct loop *loop;
    unsigned index;
    struct quic_acceptor acceptor;
    struct quic_keys keys;
    struct quic_table table;
    struct quic_socket **sockets;
    size_t socket_count;
    struct quic_conn_list conns;
    struct quic_close_wait_list close_waits;
    struct quic_reply_list replies; /* without a connection; they leave in the flush */
    struct loop_dirty dirty;
    uint64_t reset_tokens, reset_filled_at; /* bucket of stateless resets */
    bool draining, held, closing;
    bool yielded; /* another process takes new connections on the same sockets */
    bool deaf;    /* the process that follows reads the sockets */
};

/* --- quic_endpoint.c: packets to their owners --- */
void quic_endpoint_take(struct quic_endpoint *endpoint, struct quic_datagram *datagram);

/* --- quic_accept.c: first packets --- */
/* A long-header packet of no connection: makes one, asks for a validated address, or refuses. */
void quic_accept(struct quic_endpoint *endpoint, struct quic_datagram *datagram);
/* Whether it is the first packet of a client that has a good token of a Retry, ours or an older process's. */
bool quic_accept_is_retried(const struct quic_endpoint *endpoint,
                            const struct quic_datagram *datagram);
/* The id under which a client's own choice is kept: hashed with both addresses, so that no other client can hit it. */
uint64_t quic_client_cid(const struct quic_datagram *datagram, const uint8_t *cid, size_t length);

/* --- quic_reply.c: answers without a connection --- */
/* A buffer of a reply to fill; NULL: too many wait, or memory is out (counted). */
struct quic_reply *quic_reply_new(struct quic_endpoint *endpoint,
                                  const struct quic_datagram *datagram);
uint8_t *quic_reply_buffer(struct quic_reply *reply, size_t *ret_size);
/* Sends the first `length` bytes in the flush; 0: throws it away. `ceiling`: 0, or the most that may go. */
void quic_reply_send(struct quic_endpoint *endpoint, struct quic_reply *reply, size_t length);
enum loop_flush quic_reply_flush(struct loop_dirty *dirty);
void quic_replies_drop(struct quic_endpoint *endpoint);
void quic_reply_version(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                        const ngtcp2_version_cid *ids);
void quic_reply_reset(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                      const uint8_t *cid);
void quic_reply_retry(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                      const ngtcp2_pkt_hd *head);
void quic_reply_close(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                      const ngtcp2_pkt_hd *head, uint64_t code);

/* --- quic_forward.c: between loops and processes --- */
void quic_forward(struct quic_endpoint *from, unsigned loop, const struct quic_datagram *datagram);

/* --- quic_close_wait.c --- */
/* Answers for a connection that was closed (RFC 9000 10.2): takes over its ids, sends `packet` again for late packets, ever more seldom; an empty
 * one is never sent (draining). For `life` ns. Without memory nobody answers. */
void quic_close_wait_begin(struct quic_endpoint *endpoint, struct quic_owner *routes,
                           const uint8_t *packet, size_t length, uint64_t life);
void quic_close_wait_packet(struct quic_endpoint *endpoint, struct quic_owner *owner,
                            const struct quic_datagram *datagram);
void quic_close_waits_drop(struct quic_endpoint *endpoint);

#endif
