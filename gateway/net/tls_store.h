/* SPDX-License-Identifier: MIT */
/*
 * The inside of TLS in net/: certificates, the names that choose among them, the context that connections share, and what a
 * handshake leaves behind. Only net/ includes it.
 */
#ifndef GATEWAY_NET_TLS_STORE_H
#define GATEWAY_NET_TLS_STORE_H

#include <openssl/opensslv.h>
#if OPENSSL_VERSION_NUMBER < 0x30500010L
#error                                                                                             \
    "OpenSSL 3.5.1 or newer is needed (3.5.0 loses QUIC's transport parameters when SNI changes the context)"
#endif
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdatomic.h>

#include "net/tls_context.h"

/* One certificate of each kind may serve a name; the client's algorithms choose. */
enum tls_key_kind { TLS_KEY_RSA, TLS_KEY_EC, TLS_KEY_OTHER, TLS_KEY_KINDS };

struct tls_certificate {
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* the issuers, without the leaf */
    char *pem;              /* of the leaf */
    size_t pem_length;
    char **names; /* lower case, "*." first in wildcards */
    size_t name_count;
    enum tls_key_kind kind;
};

/* Loads and checks one pair of files; on failure `text` says what is wrong with which file. An expired certificate is only
 * logged. The certificate must be all zero before, and is released by _done after success. */
enum error tls_certificate_load(struct file_set *files,
                                const struct tls_certificate_settings *settings,
                                struct tls_certificate *certificate, char *text,
                                size_t text_size) MUST_CHECK;
void tls_certificate_done(struct tls_certificate *certificate);
/* Reads all certificates of a PEM file. On failure `text` says why. */
enum error tls_certificates_read(struct file_set *files, struct slice path,
                                 STACK_OF(X509) * *ret_certificates, char *text,
                                 size_t text_size) MUST_CHECK;
/* The reason of OpenSSL's last error: a static string. */
const char *tls_error_reason(void);

/* The certificates that serve one name. */
struct tls_entry {
    const char *name;
    const struct tls_certificate *by_kind[TLS_KEY_KINDS];
};

struct tls_store {
    struct tls_certificate *certificates;
    size_t certificate_count;
    struct tls_entry *entries; /* sorted by name */
    size_t entry_count;
    struct tls_entry
        fallback; /* of the first certificate: for clients that name no server, or an unknown one */
};

enum error tls_store_init(struct tls_store *store, const struct tls_settings *settings, char *text,
                          size_t text_size) MUST_CHECK;
void tls_store_done(struct tls_store *store);
/* The entry of a lower-case name: exact, else the wildcard for its first label (RFC 9525 6.3), else NULL. */
const struct tls_entry *tls_store_find(const struct tls_store *store, const char *name);

struct tls_context {
    _Atomic unsigned references;
    SSL_CTX *ssl_context;
    SSL_CTX *
        quic_context; /* the same for QUIC: no session of one is resumed in the other; NULL: none */
    struct tls_store store;
    struct tls_keyring *keyring;
    EVP_CIPHER *ticket_cipher; /* fetched once: an implicit fetch per ticket takes a lock */
    bool reject_unknown_sni;
    unsigned key_updates_per_second;
    bool quic_early_data;
    uint64_t quic_early_tag;
    int quic_keylog; /* -1: none */
};

/* What the callbacks of one connection need; tls_peer_of finds it. */
struct tls_peer {
    struct loop *loop;
    struct tls_context *context;
    const struct tls_entry *entry; /* the certificates that the server name chose */
    char *server_name;             /* as sent, lower case; NULL when none was */
    bool h1, h2;
    bool unknown_name; /* refused for it */
    bool established;  /* the handshake is done */
    bool close_notify;
    bool flooded;
    unsigned messages; /* handshake messages after the handshake, since messages_since */
    uint64_t messages_since;
};

/* The peer of an SSL object made here. Not its app data: QUIC's library has that. */
struct tls_peer *tls_peer_of(const SSL *ssl);
/* A server SSL object of `ssl_context` (one of the context's) with its peer; NULL when memory is out. */
SSL *tls_context_ssl(struct tls_context *context, SSL_CTX *ssl_context,
                     struct tls_peer *peer) MUST_CHECK;
/* What the context for QUIC has beside or instead of the profile. ERROR_NO_MEMORY. */
enum error tls_quic_context_init(struct tls_context *context, struct slice keylog) MUST_CHECK;
void tls_quic_context_done(struct tls_context *context);
/* A server SSL object for `fd`; NULL when memory is out. */
SSL *tls_context_ssl_new(struct tls_context *context, struct tls_peer *peer, int fd) MUST_CHECK;

/* Fills what the finished handshake gave. ERROR_NO_MEMORY; ERROR_PROTOCOL when the certificate of a resumed session has
 * expired since. */
enum error tls_info_fill(struct tls_info *info, SSL *ssl, const struct tls_peer *peer) MUST_CHECK;
void tls_info_done(struct tls_info *info);

#endif
