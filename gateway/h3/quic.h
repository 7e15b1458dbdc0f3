/* SPDX-License-Identifier: MIT */
/*
 * The seam inside h3/: a QUIC connection (quic_*.c: packets, paths, TLS, streams as bytes, loss, pacing; RFC 9000, 9001, 9002)
 * and the application protocol on it (h3_*.c: HTTP/3 by nghttp3). The transport knows no HTTP, the application no packet.
 * One loop owns both; the transport frees itself after on_closed.
 */
#ifndef GATEWAY_H3_QUIC_H
#define GATEWAY_H3_QUIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/slice.h"
#include "net/addr.h"

struct loop;
struct quic_conn;
struct strbuf;
struct tls_info;

/* What the transport tells its user. No call may free the connection; quic_conn_close() is allowed in each (it only marks). */
struct quic_user_ops {
    /* Streams can be opened and bytes sent (the 1-RTT write key exists; the handshake may not be confirmed yet: 0.5-RTT). */
    enum error (*on_open)(void *user);
    /* The handshake is complete: the client's certificate is known, quic_conn_early() is false from now on. */
    void (*on_established)(void *user);
    /* Bytes of a stream in order; `end`: its FIN (bytes may be empty). The user owes their flow control credit: quic_conn_consumed. */
    enum error (*on_stream_data)(void *user, int64_t stream, struct slice bytes, bool end);
    /* `bytes` more of what was pulled were acknowledged: their memory may go. */
    void (*on_acked)(void *user, int64_t stream, uint64_t bytes);
    void (*on_stream_reset)(void *user, int64_t stream,
                            uint64_t code); /* RESET_STREAM of the peer */
    void (*on_stop_sending)(void *user, int64_t stream,
                            uint64_t code); /* STOP_SENDING of the peer */
    /* Both directions are over and acknowledged (or reset). The stream is forgotten after it. */
    void (*on_stream_closed)(void *user, int64_t stream, uint64_t code);
    /* The peer opened the stream's window again after on_blocked. */
    void (*on_stream_window)(void *user, int64_t stream);

    /* The flush asks for bytes: fills `vectors` with what one stream has (memory that stays until on_acked), returns how many (0 with
     * *ret_end: a FIN alone), and -1 in *ret_stream when nothing is to be sent. ERROR_...: the connection was closed. */
    enum error (*pull)(void *user, int64_t *ret_stream, bool *ret_end, struct iovec *vectors,
                       size_t max, size_t *ret_count);
    void (*on_taken)(void *user, int64_t stream,
                     size_t bytes);                 /* of the last pull, put into a packet */
    void (*on_blocked)(void *user, int64_t stream); /* the stream's window is shut: pull another */
    void (*on_shut)(void *user, int64_t stream);    /* nothing can be written to it any more */

    /* The last call: the connection is gone or closing (idle, error, peer's close, ours), nothing can be sent. The user ends its exchanges and
     * lets go of the connection. `code`/`application`: the error of whoever closed; 0 when it timed out. */
    void (*on_closed)(void *user, bool by_peer, bool application, uint64_t code);
    /* A change that the user may want to note: the peer's address was validated anew (migration). */
    void (*on_migrated)(void *user);
};

/* Opens one of our unidirectional streams. ERROR_LIMIT: the peer grants none. */
enum error quic_conn_open_uni(struct quic_conn *quic, int64_t *ret_stream) MUST_CHECK;
/* The user took bytes: opens the stream's window and the connection's (`stream` < 0: only the connection's; stream credit of a stream
 * that is gone is not needed). */
void quic_conn_consumed(struct quic_conn *quic, int64_t stream, size_t bytes);
/* One more bidirectional stream may be opened by the peer (the application stream has ended, RFC 9000 4.6). */
void quic_conn_grant_stream(struct quic_conn *quic, unsigned count);
/* STOP_SENDING, RESET_STREAM, or both. */
void quic_conn_stop_reading(struct quic_conn *quic, int64_t stream, uint64_t code);
void quic_conn_reset_stream(struct quic_conn *quic, int64_t stream, uint64_t code);
/* Ends the connection with CONNECTION_CLOSE in the flush: an application error (RFC 9000 20.2). on_closed follows. Idempotent. */
void quic_conn_close(struct quic_conn *quic, uint64_t code, const char *reason);
/* Something is to be sent: asks for pull in this turn's flush. */
void quic_conn_mark_dirty(struct quic_conn *quic);

struct loop *quic_conn_loop(const struct quic_conn *quic);
/* Addresses of the validated path; the slices of `tls` live as long as the connection. */
const struct addr *quic_conn_peer(const struct quic_conn *quic);
const struct addr *quic_conn_local(const struct quic_conn *quic);
const struct tls_info *quic_conn_tls(const struct quic_conn *quic); /* NULL before on_established */
bool quic_conn_early(const struct quic_conn *quic); /* before the handshake is complete */
/* Whether bytes of the stream came as 0-RTT (RFC 9001 4.6). */
bool quic_conn_stream_early(const struct quic_conn *quic, int64_t stream);
/* Whether the peer lets no more bytes come on the stream: its window, or the connection's, is shut. */
bool quic_conn_stream_blocked(const struct quic_conn *quic, int64_t stream);
uint64_t quic_conn_cwnd(const struct quic_conn *quic);      /* bytes */
uint64_t quic_conn_pto(const struct quic_conn *quic);       /* ns */
uint64_t quic_conn_timestamp(const struct quic_conn *quic); /* ns, for calls of nghttp3 */
/* One line of state for status output. */
void quic_conn_dump(const struct quic_conn *quic, struct strbuf *out);

/* Makes the user of a new connection (once per connection, before its first packet is read): the ops and the user, or an error. Given
 * to the endpoint by the server. */
struct quic_acceptor {
    enum error (*on_connection)(void *context, struct quic_conn *quic,
                                const struct quic_user_ops **ret_ops, void **ret_user);
    void *context;
};

#endif
