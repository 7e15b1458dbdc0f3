/* SPDX-License-Identifier: MIT */
/*
 * The certificate store and everything of TLS that connections share: an immutable snapshot with certificates by name
 * (exact and wildcard), the profile, client-certificate policy and the ticket keyring. Replaced whole on reload; reference
 * counted with atomics because every loop uses it.
 */
#ifndef GATEWAY_NET_TLS_CONTEXT_H
#define GATEWAY_NET_TLS_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "net/transport.h"

enum tls_verify { TLS_VERIFY_NONE, TLS_VERIFY_OPTIONAL, TLS_VERIFY_REQUIRED };

struct tls_certificate_settings {
    struct slice cert, key;     /* PEM files; chain in the cert file, leaf first */
    struct slice key_password;  /* empty: none */
    struct slice password_file; /* where config read the password; empty: nowhere */
};

struct file_set;

struct tls_settings {
    const struct tls_certificate_settings *certificates;
    size_t certificate_count;
    uint16_t min_version;   /* 0x0303 or 0x0304 */
    struct slice ciphers;   /* TLS 1.2 list; empty: the profile's */
    struct slice groups;    /* empty: the profile's */
    struct slice client_ca; /* PEM file; empty: none */
    enum tls_verify verify;
    bool reject_unknown_sni;
    uint64_t ticket_key_life_ns;     /* 1 h */
    unsigned ticket_keys_kept;       /* 24 */
    unsigned key_updates_per_second; /* 100 */
    unsigned tickets;                /* session tickets per handshake; 0: none */
    bool quic;                       /* some listener speaks QUIC (net/tls_quic.h) */
    struct slice quic_keylog; /* debugging: file for the secrets of QUIC connections; empty: none */
    bool quic_early_data;     /* 0-RTT is taken */
    uint64_t
        quic_early_tag; /* of the limits that a client with 0-RTT remembers: tickets of another tag bring none */
    struct file_set
        *files; /* what files are opened through while they are loaded; NULL: just opened */
};

struct tls_context;
struct tls_keyring;

/* The ticket keys, shared by all contexts of the process and across reloads; keys are made by time on demand. NULL: no memory. */
struct tls_keyring *tls_keyring_new(uint64_t key_life_ns, unsigned keys_kept) MUST_CHECK;
void tls_keyring_free(struct tls_keyring *keyring);

/* Loads and checks everything (key matches certificate, file modes: a world-readable key is refused, chain order, expiry only
 * warns). On failure `error_text` says which file, what, and what to do. Reference count 1. */
enum error tls_context_new(const struct tls_settings *settings, struct tls_keyring *keyring,
                           struct tls_context **ret_context, char *error_text,
                           size_t error_size) MUST_CHECK;
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context);
/* The leaf of the first certificate as PEM: what clients get that name no server. Lives as long as the context. */
struct slice tls_context_default_pem(const struct tls_context *context);

/* A TLS server transport over a connected socket, which it owns; `h1` and `h2` say what ALPN offers. Handshake not started. */
struct transport *transport_tls_new(struct loop *loop, int fd, const struct addr *peer,
                                    const struct addr *local, struct tls_context *context, bool h1,
                                    bool h2) MUST_CHECK;
/* Drives the handshake: NONE done, AGAIN (events are armed; call again from on_ready), PROTOCOL or IO failed. */
enum error transport_tls_handshake(struct transport *transport) MUST_CHECK;

#endif
