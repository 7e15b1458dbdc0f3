/* SPDX-License-Identifier: MIT */
/* A TLS connection with both its ends in one loop, for the tests of TLS. */
#ifndef TESTS_UNIT_NET_TLS_LINK_H
#define TESTS_UNIT_NET_TLS_LINK_H

#include "base/clock.h"
#include "net/tls_context.h"
#include "support.h"

#define HOUR (UINT64_C(3600) * CLOCK_NS_PER_S)

/* A server's end of one connection. */
struct server {
    struct bench *bench;
    struct transport *transport;
    enum error handshake; /* AGAIN while under way */
    unsigned events;
    bool stop_when_done, stop_when_ready;
};

/* One connection: both ends, their loop. */
struct link {
    struct bench bench;
    struct server server;
    struct tls_client client;
    SSL_CTX *client_context;
};

/* A transport over `fd` that waits for the client. */
void server_start(struct server *server, struct bench *bench, struct tls_context *context, int fd,
                  bool h1, bool h2);
/* The two files of a certificate; the texts stay for the whole program. */
struct tls_certificate_settings pair(const char *base);
/* Makes main, rsa, wild, exact and common, once. */
void make_certificates(void);
/* Good settings for these certificates. */
struct tls_settings settings_with(const struct tls_certificate_settings *certificates,
                                  size_t count);
struct tls_context *context_of(const struct tls_settings *settings, struct tls_keyring *keyring);
void link_start(struct link *link, struct tls_context *context, SSL_CTX *client_context,
                const char *name, const char *alpn, SSL_SESSION *session);
/* Runs the handshake to its end on both sides. */
void link_shake(struct link *link);
void link_end(struct link *link);
/* A client that speaks one version only. */
SSL_CTX *client_of_version(int version);

#endif
