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

enum listener_proxy_protocol {
    PROXY_PROTOCOL_OFF,
    PROXY_PROTOCOL_V1,
    PROXY_PROTOCOL_V2,
    PROXY_PROTOCOL_ANY
};

struct listener_settings {
    struct slice
        bind; /* "*:8443", "0.0.0.0:80", "[::]:80", "host:port" numeric, "unix:/path", "fd://3" */
    bool tls;
    bool h1, h2, h3; /* protocols */
    bool redirect_https;
    enum listener_proxy_protocol proxy_protocol;
    int backlog;
    unsigned unix_mode; /* of a Unix socket file, 0660 */
};

/* A bound socket and the settings it was bound for. "*:port" gives two (IPv4 and IPv6, V6ONLY always). */
struct listener_socket {
    int fd;           /* listening already: clients may queue up before a loop serves it */
    unsigned setting; /* index into the array of listener_settings */
    unsigned
        loop; /* which loop serves it (TCP: socket i serves loop i; unix: and fd://: loop 0, dealt out by mailbox) */
    struct addr addr;
    unsigned id; /* of whoever keeps it; 0 from listener_bind */
};

struct listener_peers;

/* Bounds shared by all loops of the process; `connections` and below are the listeners' own. All-zero but for the first
 * block, then listener_limits_init. */
struct listener_limits {
    unsigned max_connections;        /* at least 1; when reached, accepting pauses */
    unsigned max_connections_per_ip; /* 0 = off; IPv6 counted per /64; a further one is closed */
    unsigned
        max_handshakes; /* connections before the end of TLS and PROXY protocol; a further one is closed */
    uint64_t handshake_timeout_ns;      /* for both together */
    const struct addr_network *trusted; /* never counted per address; outlives the limits */
    size_t trusted_count;

    _Atomic unsigned connections; /* open now, all loops */
    _Atomic unsigned handshakes;
    struct listener_peers *peers; /* connections per address */
};

/* Makes what the limits need beside the numbers. ERROR_NO_MEMORY. */
enum error listener_limits_init(struct listener_limits *limits) MUST_CHECK;
/* Takes the first block (all before `connections`) from `other`, while no loop runs. Where max_connections_per_ip was off, those that
 * are open are not counted per address. */
void listener_limits_change(struct listener_limits *limits, const struct listener_limits *other);
/* Releases it; no connection may be counted any more. */
void listener_limits_done(struct listener_limits *limits);

/* Parses and binds one setting for `loops` loops: appends at most `room` sockets to `out`, *ret_count says how many. On
 * failure `error_text` (at least 256 bytes) says what and what to do ("address already in use: another process listens on ..."). */
enum error listener_bind(const struct listener_settings *settings, unsigned setting_index,
                         unsigned loops, struct listener_socket *out, size_t room,
                         size_t *ret_count, char *error_text, size_t error_size) MUST_CHECK;

struct listener;

/* Gets each accepted client after its handshake, in the loop that serves it; owns the transport from then on and calls
 * listener_connection_closed with transport->peer when it ends. Bytes of the client may be waiting already: read first
 * (a TLS record that came with the handshake gives no further event). */
typedef void listener_accept_fn(void *context, struct transport *transport,
                                const struct listener_settings *settings);

/* Starts accepting on a bound socket, whose descriptor it owns from then on, in `loop` (before loop_run, or in its
 * thread). `settings` are copied, `limits` outlives it; of `tls`, NULL for a plain listener, it takes a reference. NULL when memory
 * is out: the descriptor is then still the caller's. */
struct listener *listener_new(struct loop *loop, const struct listener_socket *socket,
                              const struct listener_settings *settings,
                              struct listener_limits *limits, struct tls_context *tls,
                              listener_accept_fn *on_accept, void *context) MUST_CHECK;
/* Lets listener_new's socket deal clients out to these loops in turn instead of keeping them (unix: and fd://). The i-th
 * context is passed to on_accept in loop i. Once, right after listener_new. ERROR_NO_MEMORY. */
enum error listener_deal(struct listener *listener, struct loop *const *loops,
                         void *const *contexts, size_t count) MUST_CHECK;
/* Serves clients by other settings, and another certificate store, from the next connection on; as listener_new takes them. In the
 * listener's loop. */
void listener_set(struct listener *listener, const struct listener_settings *settings,
                  struct tls_context *tls);
/* Stops at once and leaves what the kernel has to whoever else holds the socket. Handshakes under way go on. */
void listener_stop(struct listener *listener);
/* Leaves clients in the kernel's queue for as long as `hold` (memory is short). A drain ends it. In the listener's loop. */
void listener_hold(struct listener *listener, bool hold);
/* Stops for good: accepts what the kernel already has (until EAGAIN, twice), then closes the socket. Handshakes under way go on. */
void listener_drain(struct listener *listener);
/* Whether it still listens: a drain has ended once it does not. In the listener's loop. */
bool listener_is_open(const struct listener *listener);
/* Closes everything, handshakes under way too (in other loops by mail); the memory goes by loop_bury. NULL is allowed. */
void listener_free(struct listener *listener);
/* Connections of this listener that are still in their handshake, in the listener's own loop: 0 after a drain means that
 * on_accept will not be called here again. */
size_t listener_pending(const struct listener *listener);

/* Whether clients are on their way to on_accept, in any loop. In the listener's loop, when it does not listen any more. */
bool listener_busy(const struct listener *listener);

/* Told when a client connection has ended: takes it off the bounds (metric `conns` too); paused listeners see it within
 * 10 ms. Any thread. */
void listener_connection_closed(struct listener_limits *limits, const struct addr *peer);

#endif
