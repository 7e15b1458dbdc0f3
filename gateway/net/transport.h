/* SPDX-License-Identifier: MIT */
/*
 * A transport: an ordered byte stream to one client over a socket, plain or TLS. Codecs read and write through it and do not
 * know which it is. The transport owns the descriptor, its watch and (for TLS) the SSL object; it calls its user when
 * something may be possible, and the user then tries. Belongs to one loop.
 */
#ifndef GATEWAY_NET_TRANSPORT_H
#define GATEWAY_NET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "loop/loop.h"
#include "net/addr.h"

struct transport;

/* What every kind of transport does. Contract: never blocks; never calls its user; may be called only in the loop's thread. */
struct transport_ops {
    /* Reads at most `size` bytes. NONE: *ret_length >= 1 bytes came. AGAIN: nothing now. CLOSED: the peer ended its side in
     * order (FIN; for TLS with or without close_notify, see transport_clean_end). IO: reset or another error; the transport is dead. */
    enum error (*read)(struct transport *transport, void *out, size_t size, size_t *ret_length);
    /* Writes what fits. NONE: *ret_length >= 1 bytes were taken. AGAIN: nothing now. IO: the transport is dead.
     * Bytes that were offered and not taken are a promise: the next call starts with the same ones and offers at least
     * as many (TLS has sealed a record of them). A queue of bytes written from its head keeps that by itself. */
    enum error (*writev)(struct transport *transport, const struct iovec *vectors, size_t count,
                         size_t *ret_length);
    /* Ends our side: close_notify (TLS), then SHUT_WR. AGAIN: call again when writable. */
    enum error (*shutdown)(struct transport *transport);
    /* Closes the descriptor (with a reset when `reset`); what the transport holds, `tls` too, goes by loop_bury. */
    void (*destroy)(struct transport *transport, bool reset);
};

/* What the TLS handshake gave, for the ASGI `tls` extension and logs; lives as long as the transport. */
struct tls_info {
    uint16_t version; /* 0x0303, 0x0304 */
    uint16_t cipher;  /* IANA number */
    struct slice cipher_name, version_name, group_name;
    struct slice server_name; /* SNI as sent, lower-cased, empty when none */
    struct slice alpn;        /* "http/1.1", "h2", empty when none */
    struct slice
        server_cert_pem; /* owned by the certificate store for as long as this transport holds its context */
    struct slice
        client_chain_pem;     /* concatenated, leaf first; empty when no certificate was given */
    struct slice client_name; /* subject of the leaf, RFC 4514; empty when none */
    bool resumed;
};

struct transport {
    uint32_t magic;
    const struct transport_ops *ops;
    struct loop *loop;
    struct loop_io io;
    struct addr peer, local;
    const struct tls_info *tls; /* NULL on a plain transport */
    uint64_t bytes_in, bytes_out;
    /* The user's hooks. `events` are LOOP_READ, LOOP_WRITE, LOOP_CLOSED (peer shut or reset: read to learn which). */
    void (*on_ready)(void *user, unsigned events);
    void *user;
    /* Private to net/ from here on. */
    struct loop_grave grave;
    bool watching; /* TRANSPORT_READ_WATCH */
    bool writing;  /* the user's wish */
    bool
        read_ended; /* CLOSED was told: from then on watched as TRANSPORT_READ_WATCH, so that a FIN cannot spin */
    bool clean_end;
    bool dead;             /* IO was told */
    bool buffered;         /* TLS: the last read gave bytes, so there may be more inside */
    bool read_needs_write; /* TLS: reading goes on when the socket is writable, and the reverse */
    bool write_needs_read;
};

static inline enum error transport_read(struct transport *t, void *out, size_t size,
                                        size_t *ret_length)
{
    return t->ops->read(t, out, size, ret_length);
}
static inline enum error transport_writev(struct transport *t, const struct iovec *vectors,
                                          size_t count, size_t *ret_length)
{
    return t->ops->writev(t, vectors, count, ret_length);
}
static inline enum error transport_shutdown(struct transport *t)
{
    return t->ops->shutdown(t);
}
static inline void transport_destroy(struct transport *t, bool reset)
{
    t->ops->destroy(t, reset);
}

/* How the user wants to hear of incoming bytes. */
enum transport_reading {
    TRANSPORT_READ_ON, /* level-triggered: on_ready(LOOP_READ) whenever there is something */
    TRANSPORT_READ_WATCH /* not reading (buffer full, or a response is pending): told once per new bytes, FIN or RST
                           (EV_READ|EV_CLOSED|EV_ET; EV_CLOSED alone would spin on a reset); never spins */
};

/* Sets both wishes. Writing interest is one-shot in effect: keep it only while the last writev said AGAIN. A TLS transport
 * adds what the protocol itself needs (WANT_READ in a write, and the reverse). */
enum error transport_want(struct transport *transport, enum transport_reading reading,
                          bool writing) MUST_CHECK;

/* After LOOP_CLOSED without a wish to read: whether the peer reset (ERROR_IO), shut its side (ERROR_CLOSED), or neither
 * (ERROR_NONE). Reads nothing and leaves a pending error for the next read. */
enum error transport_peer_state(const struct transport *transport);

/* After a read said CLOSED: whether the peer said so (TLS: close_notify, RFC 8446 6.1; plain: always). A protocol that
 * ends messages by closing must not take an unclean end for a whole message. */
bool transport_clean_end(const struct transport *transport);

/* How many bytes lie in the socket that the peer's system has not acknowledged yet: what was written and is not in this queue has
 * arrived. 0 when it cannot be told. */
size_t transport_queued(const struct transport *transport);

/* Whether decrypted bytes may be waiting although the socket is not readable (always false for plain). Not SSL_has_pending. */
bool transport_buffered(const struct transport *transport);

/* A plain transport over a connected socket, which it owns from now on (closed on failure). NULL when memory is out. */
struct transport *transport_plain_new(struct loop *loop, int fd, const struct addr *peer,
                                      const struct addr *local) MUST_CHECK;

#endif
