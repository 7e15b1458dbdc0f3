/* SPDX-License-Identifier: MIT */
/*
 * Listening sockets: bound once (by the master, before rights are dropped), then each watched by one loop. A listener
 * accepts, makes the transport, runs the TLS handshake to its end or its deadline, and hands the finished transport to its
 * user, which picks a codec by transport->tls->alpn. It also keeps the bounds on connections.
 */
#ifndef GATEWAY_NET_LISTENER_H
#define GATEWAY_NET_LISTENER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "net/addr.h"
#include "net/transport.h"

struct tls_context;

enum listener_proxy_protocol { PROXY_PROTOCOL_OFF, PROXY_PROTOCOL_V1, PROXY_PROTOCOL_V2, PROXY_PROTOCOL_ANY };

struct listener_settings {
    struct slice bind; /* "*:8443", "0.0.0.0:80", "[::]:80", "host:port" numeric, "unix:/path", "fd://3" */
    bool tls;
    bool h1, h2, h3;                 /* protocols */
    bool redirect_https;
    enum listener_proxy_protocol proxy_protocol;
    int backlog;
    unsigned unix_mode;              /* of a Unix socket file, 0660 */
};

/* A bound socket and the settings it was bound for. "*:port" gives two (IPv4 and IPv6, V6ONLY always). */
struct listener_socket {
    int fd;
    unsigned setting; /* index into the array of listener_settings */
    unsigned loop;    /* which loop serves it (TCP: socket i serves loop i; unix: and fd://: loop 0, dealt out by mailbox) */
    struct addr addr;
};

/* Bounds shared by all loops of the process. */
struct listener_limits {
    unsigned max_connections;        /* accept pauses */
    unsigned max_connections_per_ip; /* 0 = off; IPv6 counted per /64 */
    unsigned max_handshakes;         /* half-open TLS, oldest... the new one is closed */
    uint64_t handshake_timeout_ns;
    _Atomic unsigned connections;    /* open now, all loops */
    _Atomic unsigned handshakes;
};

/* Parses and binds one setting for `loops` loops: appends at most `room` sockets to `out`, *ret_count says how many. On
 * failure `error_text` (at least 256 bytes) says what and what to do ("address already in use: another process listens on ..."). */
enum error listener_bind(const struct listener_settings *settings, unsigned setting_index, unsigned loops,
                         struct listener_socket *out, size_t room, size_t *ret_count,
                         char *error_text, size_t error_size) MUST_CHECK;

struct listener;

/* Gets each accepted client after its handshake, in the listener's loop; owns the transport from then on. `context` is
 * the listener's; returns nothing: on failure it destroys the transport. */
typedef void listener_accept_fn(void *context, struct transport *transport,
                                const struct listener_settings *settings);

/* Starts accepting on a bound socket in `loop`. `tls` is NULL for a plain listener and otherwise outlives it (reference
 * counted). `dealers`/`loops` let a single socket deal its clients out to all loops (by mailbox). */
struct listener *listener_new(struct loop *loop, const struct listener_socket *socket,
                              const struct listener_settings *settings, struct listener_limits *limits,
                              struct tls_context *tls, listener_accept_fn *on_accept,
                              void *context) MUST_CHECK;
/* Lets listener_new's socket deal clients out to these loops in turn instead of keeping them (unix: and fd://). The i-th
 * context is passed to on_accept in loop i. */
void listener_deal(struct listener *listener, struct loop **loops, void **contexts, size_t count);
/* Stops for good: accepts what the kernel already has (until EAGAIN, twice), then closes the socket. Handshakes under way go on. */
void listener_drain(struct listener *listener);
/* Closes everything, handshakes under way too; the memory goes by loop_bury. */
void listener_free(struct listener *listener);

/* Told when a client connection has ended: takes it off the bounds and lets paused listeners accept again. */
void listener_connection_closed(struct listener_limits *limits, const struct addr *peer);

#endif
