/* SPDX-License-Identifier: MIT */
/*
 * The inside of a QUIC connection (RFC 9000) over ngtcp2. Internal to quic_*.c; its user knows h3/quic.h. Callbacks of the library only note and mark;
 * the flush sends; the graveyard frees.
 */
#ifndef GATEWAY_H3_QUIC_CONN_H
#define GATEWAY_H3_QUIC_CONN_H

#include <ngtcp2/ngtcp2.h>

#include "h3/quic.h"
#include "h3/quic_table.h"
#include "h3/quic_tls.h"
#include "loop/loop.h"
#include "net/udp.h"

#define QUIC_CONN_MAGIC UINT32_C(0x9C000003)

struct quic_datagram;
struct quic_endpoint;
struct quic_socket;
struct quic_trace;

enum quic_phase {
    QUIC_PHASE_HANDSHAKE,
    QUIC_PHASE_OPEN,
    QUIC_PHASE_CLOSING, /* `error` is to be told to the peer in the flush */
    QUIC_PHASE_DEAD
};

/* Packets that the socket did not take. */
struct quic_remainder {
    struct udp_packets packets; /* data: owned, NULL: none */
    struct quic_socket *socket;
};

struct quic_conn {
    uint32_t magic;
    enum quic_phase phase;
    struct quic_endpoint *endpoint;
    struct loop *loop;
    struct quic_socket *socket; /* of the first packet */
    struct quic_owner owner;
    ngtcp2_conn *library;
    struct quic_tls tls;
    const struct tls_info *tls_info; /* NULL before the handshake's end */
    const struct quic_user_ops *ops;
    void *user; /* ops NULL: none yet, or it was told that all is over */
    struct addr peer, local;
    struct addr proven, proven_local; /* of the path that was validated last */
    struct addr counted;              /* the peer's address when it was counted in the limits */
    struct loop_dirty dirty;
    struct loop_timer timer;
    struct loop_resume resume;
    struct loop_grave grave;
    struct list_node in_endpoint, in_blocked;
    struct quic_remainder remainder;
    ngtcp2_ccerr error;
    char reason[64]; /* of `error` */
    uint64_t lost_counted;
    struct quic_trace *trace; /* qlog, NULL: off */
    bool keys_prepared;       /* of the first key update */
    bool half_open;           /* counted as a handshake under way */
    bool opened;              /* on_open was called */
    bool moved;               /* a path was validated: look whether it is another one (`proven`) */
    bool early_seen;          /* 0-RTT bytes came */
    bool in_library;          /* inside a call that must not be re-entered */
};

/* What the first packet said. */
struct quic_hello {
    const ngtcp2_pkt_hd *head;
    ngtcp2_cid original; /* the client's first destination id */
    ngtcp2_token_type token_type;
    bool retried;
};

/* A connection for a first packet, with its user and in the endpoint's table; counted by the caller, from then on the connection's. ERROR_NO_MEMORY. */
enum error quic_conn_new(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                         const struct quic_hello *hello, struct quic_conn **ret_conn) MUST_CHECK;
/* Reads one datagram; it may end the connection. */
void quic_conn_read(struct quic_conn *conn, const struct quic_datagram *datagram);
/* Closes with an error of the transport (RFC 9000 20.1), in the flush. */
void quic_conn_fail(struct quic_conn *conn, int library_error);
void quic_conn_close_transport(struct quic_conn *conn, uint64_t code, const char *reason);
/* The same with an alert of TLS (RFC 9001 4.8). */
void quic_conn_close_alert(struct quic_conn *conn, uint8_t alert);
/* Over: tells the user, takes it out of everything, buries it. */
void quic_conn_end(struct quic_conn *conn, bool by_peer, bool application, uint64_t code);
/* The handshake under way is counted no more. */
void quic_conn_leave_handshake(struct quic_conn *conn);
/* Sets the timer as the library asks. */
void quic_conn_arm(struct quic_conn *conn);
/* Adds what the library has declared lost since the last call to the metric. */
void quic_conn_count_lost(struct quic_conn *conn);

/* --- quic_flush.c --- */
enum loop_flush quic_conn_flush(struct loop_dirty *dirty);
/* The socket of the path's local address. */
struct quic_socket *quic_conn_socket(struct quic_conn *conn, const struct addr *local);
void quic_remainder_drop(struct quic_conn *conn);

/* --- quic_callbacks.c --- */
extern const ngtcp2_callbacks quic_callbacks;
/* Memory of the library, by base/mem. */
extern const ngtcp2_mem quic_mem;
/* A new id of the connection with its reset token, in the table. */
enum error quic_conn_new_cid(struct quic_conn *conn, ngtcp2_cid *cid,
                             ngtcp2_stateless_reset_token *token) MUST_CHECK;

static inline ngtcp2_addr quic_address(const struct addr *addr)
{
    return (ngtcp2_addr){(ngtcp2_sockaddr *)(uintptr_t)&addr->sa, addr->length};
}

#endif
