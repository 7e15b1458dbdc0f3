/* SPDX-License-Identifier: MIT */
/* What the tests of net/ share: a loop that ends by itself, socket pairs, certificates made on the spot, a TLS client. */
#ifndef TESTS_UNIT_NET_SUPPORT_H
#define TESTS_UNIT_NET_SUPPORT_H

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdbool.h>

#include "loop/loop.h"
#include "net/transport.h"

/* A loop whose run is ended by loop_stop or, as a failure, by a watchdog. */
struct bench {
    struct loop *loop;
    struct loop_timer watchdog;
    bool timed_out;
};

void bench_init(struct bench *bench);
/* Runs until loop_stop; false when nobody called it within 20 s. */
bool bench_run(struct bench *bench);
/* Runs `turns` turns that need no event. */
void bench_turns(struct bench *bench, unsigned turns);
void bench_done(struct bench *bench);

/* A connected pair of TCP sockets over loopback, non-blocking: [0] the server's end. */
void tcp_pair(int fds[2]);
/* Sets a socket's buffer sizes small. */
void shrink_buffers(int fd);
extern const struct addr no_addr;

/* --- certificates --------------------------------------------------------------------------------------------------- */

enum key_type { KEY_RSA, KEY_EC, KEY_ED25519 };

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
};

/* What a test wants of a certificate. */
struct wish {
    const char *common_name;
    const char *names; /* subjectAltName, "DNS:a,DNS:b"; NULL: none */
    enum key_type type;
    long from_s, until_s; /* from now; 0, 0: an hour each way */
    bool authority;
};

/* A fresh directory for files, removed by support_clean. */
const char *support_directory(void);
void support_clean(void);
/* The path of a file in it; a static buffer of eight that take turns. */
const char *support_path(const char *name);
void support_write(const char *name, const char *text, unsigned mode);
/* Makes a certificate signed by `issuer` (NULL: by itself). The caller frees both members. */
struct authority support_issue(const struct wish *wish, const struct authority *issuer);
void support_authority_done(struct authority *authority);
/* Makes "<base>.pem" (with the issuer's certificate behind it when there is one) and "<base>.key". */
void support_pair(const char *base, const struct wish *wish, const struct authority *issuer);
void support_write_certificate(const char *name, X509 *first, X509 *second);
void support_write_key(const char *name, EVP_PKEY *key, const char *password, unsigned mode);

/* --- a TLS client in the same loop ---------------------------------------------------------------------------------- */

struct tls_client {
    struct loop_io io;
    SSL *ssl;
    bool connected, failed, ended;
    int alert; /* that the server sent, 0 none */
    char received[256];
    size_t received_length;
    unsigned stop_after; /* loop_stop when this many bytes came, or at the end */
    bool stop_when_connected;
};

/* A client context that does not check the server's certificate and keeps sessions for support_session. */
SSL_CTX *support_client_context(void);
/* The last session that any client was given; the caller's to free. */
SSL_SESSION *support_take_session(void);
/* Connects over `fd`, which it owns. `alpn` in wire form or NULL. */
void tls_client_start(struct tls_client *client, struct loop *loop, SSL_CTX *context, int fd,
                      const char *name, const char *alpn, SSL_SESSION *session);
void tls_client_done(struct tls_client *client);
/* The common name of the certificate that the server showed. */
const char *tls_client_server_name(struct tls_client *client);

#endif
