/* SPDX-License-Identifier: MIT */
/*
 * TLS 1.3 for one QUIC connection (RFC 9001): the same certificates, names, client policy and ticket keys as over TCP, in a context of its own.
 * The handshake's bytes go through QUIC's library, which drives the SSL object.
 */
#ifndef GATEWAY_NET_TLS_QUIC_H
#define GATEWAY_NET_TLS_QUIC_H

#include <stdbool.h>

#include "base/error.h"

struct loop;
struct ssl_st;
struct tls_context;
struct tls_info;
struct tls_quic;

/* Whether the context was made for QUIC too. */
bool tls_quic_ready(const struct tls_context *context);
/* A server's side of a handshake; takes a reference of the context. NULL: memory is out. */
struct tls_quic *tls_quic_new(struct tls_context *context, struct loop *loop) MUST_CHECK;
/* The SSL object, for QUIC's library, which owns its app data. Lives as long as `tls`. */
struct ssl_st *tls_quic_ssl(struct tls_quic *tls);
/* What QUIC's library finds in the SSL object (its app data). */
void tls_quic_set_user(struct tls_quic *tls, void *user);
/* Lets it take 0-RTT where the configuration says so; after the library has hung itself in, before the first byte. */
void tls_quic_allow_early(struct tls_quic *tls);
/* After the handshake: what it gave, which lives as long as `tls`. ERROR_NO_MEMORY; ERROR_PROTOCOL: the certificate of a resumed session has expired. */
enum error tls_quic_finish(struct tls_quic *tls, const struct tls_info **ret_info) MUST_CHECK;
/* Whether the client's server name was refused (reject_unknown_sni). */
bool tls_quic_unknown_name(const struct tls_quic *tls);
/* NULL is allowed. */
void tls_quic_free(struct tls_quic *tls);

#endif
