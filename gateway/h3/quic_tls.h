/* SPDX-License-Identifier: MIT */
/* The handshake of net/tls_quic joined to ngtcp2 by its helper library. Internal to quic_*.c. */
#ifndef GATEWAY_H3_QUIC_TLS_H
#define GATEWAY_H3_QUIC_TLS_H

#include <ngtcp2/ngtcp2_crypto.h>

#include "base/error.h"

struct loop;
struct ngtcp2_crypto_ossl_ctx;
struct tls_context;
struct tls_quic;

struct quic_tls {
    struct tls_quic *tls;
    struct ngtcp2_crypto_ossl_ctx *crypto;
    ngtcp2_crypto_conn_ref reference; /* what the library finds in the SSL object */
};

/* Once per process, before its threads: fetches what all handshakes use. */
enum error quic_tls_prepare(void) MUST_CHECK;
/* A server's handshake for `library`. ERROR_NO_MEMORY. */
enum error quic_tls_init(struct quic_tls *tls, struct tls_context *context, struct loop *loop,
                         ngtcp2_conn *library) MUST_CHECK;
/* Before the library's connection is deleted. Allowed on an all-zero one. */
void quic_tls_done(struct quic_tls *tls);

#endif
