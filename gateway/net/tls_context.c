/* SPDX-License-Identifier: MIT */
/*
 * The context that all TLS connections of a configuration share: the profile (Mozilla Intermediate 5.8), certificates by
 * server name, client certificates, tickets, ALPN. Immutable once made; every callback here runs inside a handshake and
 * reads only.
 */
#include "net/tls_context.h"

#include <ctype.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "net/tls_keyring.h"
#include "net/tls_store.h"

#define PROFILE_CIPHERS                                                                            \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define PROFILE_SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define PROFILE_GROUPS "X25519MLKEM768:X25519:prime256v1:secp384r1"
#define VERIFY_DEPTH 4
#define SESSION_LIFE_MAX_S 86400u

/* --- callbacks of the handshake ------------------------------------------------------------------------------------- */

static pthread_once_t peer_index_once = PTHREAD_ONCE_INIT;
static int peer_index = -1;

static void make_peer_index(void)
{
    peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

struct tls_peer *tls_peer_of(const SSL *ssl)
{
    return SSL_get_ex_data(ssl, peer_index);
}

/* The name as sent, in lower case and without a dot at its end. */
static char *lower_name(const char *sent)
{
    size_t length = strlen(sent);
    if (length > 1 && sent[length - 1] == '.') {
        length--;
    }
    char *name = mem_strndup(sent, length);
    for (size_t i = 0; name != NULL && i < length; i++) {
        name[i] = (char)tolower((unsigned char)name[i]);
    }
    return name;
}

static int on_server_name(SSL *ssl, int *alert, void *argument)
{
    struct tls_context *context = argument;
    struct tls_peer *peer = tls_peer_of(ssl);
    const char *sent = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (sent == NULL) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    mem_free(peer->server_name); /* a HelloRetryRequest brings it twice */
    peer->server_name = lower_name(sent);
    if (peer->server_name == NULL) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    const struct tls_entry *entry = tls_store_find(&context->store, peer->server_name);
    if (entry == NULL && context->reject_unknown_sni) {
        peer->unknown_name = true;
        METRIC_INCREMENT(tls_unknown_names);
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    peer->entry = entry != NULL ? entry : &context->store.fallback;
    return entry != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static bool same_certificates(const struct tls_entry *a, const struct tls_entry *b)
{
    return memcmp(a->by_kind, b->by_kind, sizeof(a->by_kind)) == 0;
}

/* The context carries the fallback's certificates; only another name's are put into the one connection. */
static int on_certificate(SSL *ssl, void *argument)
{
    struct tls_context *context = argument;
    const struct tls_entry *entry = tls_peer_of(ssl)->entry;
    if (same_certificates(entry, &context->store.fallback)) {
        return 1;
    }
    SSL_certs_clear(ssl);
    for (int kind = 0; kind < TLS_KEY_KINDS; kind++) {
        const struct tls_certificate *certificate = entry->by_kind[kind];
        if (certificate != NULL && SSL_use_cert_and_key(ssl, certificate->leaf, certificate->key,
                                                        certificate->chain, 1) != 1) {
            return 0;
        }
    }
    return 1;
}

/* Our order: h2 before http/1.1. No overlap is an alert, as RFC 7301 3.2 says. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                   const unsigned char *offered, unsigned offered_length, void *argument)
{
    (void)argument;
    const struct tls_peer *peer = tls_peer_of(ssl);
    unsigned char ours[16];
    unsigned length = 0;
    if (peer->h2) {
        memcpy(ours + length, "\x02h2", 3);
        length += 3;
    }
    if (peer->h1) {
        memcpy(ours + length, "\x08http/1.1", 9);
        length += 9;
    }
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_length, ours, length, offered, offered_length) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    /* `chosen` points into `ours`, which ends with this call; the offer holds the same bytes and does not. */
    for (unsigned at = 0; at + 1u + *out_length <= offered_length; at += 1u + offered[at]) {
        if (offered[at] == *out_length && memcmp(offered + at + 1, chosen, *out_length) == 0) {
            *out = offered + at + 1;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static long refuse_to_read(BIO *bio, int operation, const char *data, size_t length, int argi,
                           long argl, int result, size_t *processed)
{
    (void)bio, (void)data, (void)length, (void)argi, (void)argl, (void)processed;
    return operation == BIO_CB_READ ? -1 : result;
}

/* KeyUpdate and its kin cost us a key derivation or an answer and the client nothing: a bucket of one second bounds them.
 * What OpenSSL has already read is at most one buffer; further reading is refused from here on. */
static void count_message(SSL *ssl, struct tls_peer *peer)
{
    uint64_t now = loop_now(peer->loop);
    if (now - peer->messages_since >= CLOCK_NS_PER_S) {
        peer->messages_since = now;
        peer->messages = 0;
    }
    if (++peer->messages > peer->context->key_updates_per_second && !peer->flooded) {
        peer->flooded = true;
        METRIC_INCREMENT(tls_message_floods);
        BIO_set_callback_ex(SSL_get_rbio(ssl), refuse_to_read);
    }
}

/* Sees every message; record headers are looked at because TLS 1.2 answers a refused renegotiation without a message
 * callback. */
static void on_message(int written, int version, int type, const void *bytes, size_t length,
                       SSL *ssl, void *argument)
{
    (void)version, (void)argument;
    const unsigned char *data = bytes;
    struct tls_peer *peer = tls_peer_of(ssl);
    if (written || peer == NULL) {
        return;
    }
    if (type == SSL3_RT_ALERT && length == 2 && data[1] == SSL_AD_CLOSE_NOTIFY) {
        peer->close_notify = true;
    }
    if (peer->established && (type == SSL3_RT_HANDSHAKE || (type == SSL3_RT_HEADER && length > 0 &&
                                                            data[0] == SSL3_RT_HANDSHAKE))) {
        count_message(ssl, peer);
    }
}

/* --- tickets -------------------------------------------------------------------------------------------------------- */

static int start_ticket(const struct tls_context *context, const struct tls_ticket_key *key,
                        unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int sealing)
{
    char digest[] = "SHA256";
    unsigned char hmac[sizeof(key->hmac)];
    memcpy(hmac, key->hmac, sizeof(hmac));
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, hmac, sizeof(hmac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    int done = EVP_MAC_CTX_set_params(mac, parameters) == 1 &&
               EVP_CipherInit_ex2(cipher, context->ticket_cipher, key->aes, iv, sealing, NULL) == 1;
    OPENSSL_cleanse(hmac, sizeof(hmac));
    return done;
}

/* RFC 5077 4: AES-256-CBC and HMAC-SHA-256, the key found by its name. Returns as SSL_CTX_set_tlsext_ticket_key_evp_cb(3)
 * says: 1 goes on, 0 no ticket, 2 opened but to be renewed, -1 failed. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int sealing)
{
    struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct tls_ticket_key key;
    bool renew = false;
    if (sealing) {
        tls_keyring_current(context->keyring, clock_now(), &key);
        memcpy(name, key.name, sizeof(key.name));
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(context->ticket_cipher)) != 1) {
            OPENSSL_cleanse(&key, sizeof(key));
            return -1;
        }
    } else if (!tls_keyring_find(context->keyring, clock_now(), name, &key, &renew)) {
        return 0;
    }
    int started = start_ticket(context, &key, iv, cipher, mac, sealing);
    OPENSSL_cleanse(&key, sizeof(key));
    return started != 1 ? -1 : renew ? 2 : 1;
}

/* --- making --------------------------------------------------------------------------------------------------------- */

/* Where an error goes, and what was being set. */
struct making {
    const struct tls_settings *settings;
    struct tls_context *context;
    SSL_CTX *ssl_context; /* the context's for TCP or for QUIC */
    bool quic;
    char *text;
    size_t size;
};

static enum error refused(const struct making *making, const char *key, struct slice value)
{
    snprintf(making->text, making->size, "%s: OpenSSL does not take \"%.*s\": %s", key,
             SLICE_PRINT(value), tls_error_reason());
    ERR_clear_error();
    return ERROR_INVALID;
}

static enum error out_of_memory(const struct making *making)
{
    snprintf(making->text, making->size, "TLS: out of memory");
    ERR_clear_error();
    return ERROR_NO_MEMORY;
}

/* Calls `set` with the value as a string, or with the profile's when there is none. */
static bool set_list(SSL_CTX *ssl_context, int (*set)(SSL_CTX *, const char *), struct slice value,
                     const char *profile)
{
    char *text = value.length > 0 ? mem_strndup(value.data, value.length) : NULL;
    bool done = set(ssl_context, value.length > 0 ? text : profile) == 1;
    mem_free(text);
    return done;
}

static int set_groups(SSL_CTX *ssl_context, const char *groups)
{
    return groups != NULL && SSL_CTX_set1_groups_list(ssl_context, groups) == 1;
}

static int set_ciphers(SSL_CTX *ssl_context, const char *ciphers)
{
    return ciphers != NULL && SSL_CTX_set_cipher_list(ssl_context, ciphers) == 1;
}

static enum error set_profile(const struct making *making)
{
    const struct tls_settings *settings = making->settings;
    SSL_CTX *ssl_context = making->ssl_context;
    SSL_CTX_set_options(ssl_context, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF |
                                         SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_NO_TX_CERTIFICATE_COMPRESSION |
                                         SSL_OP_NO_RX_CERTIFICATE_COMPRESSION);
    SSL_CTX_set_mode(ssl_context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ssl_context, 1);
    SSL_CTX_set_session_cache_mode(ssl_context, SSL_SESS_CACHE_OFF);
    REQUIRE(settings->min_version == TLS1_2_VERSION || settings->min_version == TLS1_3_VERSION);
    int least = making->quic ? TLS1_3_VERSION : settings->min_version;
    if (SSL_CTX_set_min_proto_version(ssl_context, least) != 1 ||
        SSL_CTX_set_ciphersuites(ssl_context, PROFILE_SUITES) != 1) {
        return refused(making, "tls.min_version", SLICE("TLS"));
    }
    if (!set_list(ssl_context, set_ciphers, settings->ciphers, PROFILE_CIPHERS)) {
        return refused(making, "tls.ciphers", settings->ciphers);
    }
    if (!set_list(ssl_context, set_groups, settings->groups, PROFILE_GROUPS)) {
        return refused(making, "tls.groups", settings->groups);
    }
    return ERROR_NONE;
}

static enum error set_certificates(const struct making *making)
{
    enum error error = ERROR_NONE;
    for (int kind = 0; error == ERROR_NONE && kind < TLS_KEY_KINDS; kind++) {
        const struct tls_certificate *certificate = making->context->store.fallback.by_kind[kind];
        if (certificate != NULL &&
            SSL_CTX_use_cert_and_key(making->ssl_context, certificate->leaf, certificate->key,
                                     certificate->chain, 1) != 1) {
            error = refused(making, "tls.certificates", making->settings->certificates[0].cert);
        }
    }
    return error;
}

/* The authorities that may have issued a client's certificate; `digest` takes them in for the session context. */
static enum error set_authorities(const struct making *making, EVP_MD_CTX *digest)
{
    SSL_CTX *ssl_context = making->ssl_context;
    STACK_OF(X509) *authorities = NULL;
    enum error error = tls_certificates_read(making->settings->files, making->settings->client_ca,
                                             &authorities, making->text, making->size);
    for (int i = 0; error == ERROR_NONE && i < sk_X509_num(authorities); i++) {
        X509 *authority = sk_X509_value(authorities, i);
        unsigned char fingerprint[EVP_MAX_MD_SIZE];
        unsigned length = 0;
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl_context), authority) != 1 ||
            SSL_CTX_add_client_CA(ssl_context, authority) != 1 ||
            X509_digest(authority, EVP_sha256(), fingerprint, &length) != 1 ||
            EVP_DigestUpdate(digest, fingerprint, length) != 1) {
            error = out_of_memory(making);
        }
    }
    sk_X509_pop_free(authorities, X509_free);
    return error;
}

static int verify_mode(enum tls_verify verify)
{
    switch (verify) {
    case TLS_VERIFY_REQUIRED:
        return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    case TLS_VERIFY_OPTIONAL:
        return SSL_VERIFY_PEER;
    default:
        return SSL_VERIFY_NONE;
    }
}

/* The session context is the digest of the policy, so that a session made under one is never resumed under another, also
 * across reloads and restarts. */
static enum error set_verification(const struct making *making)
{
    const struct tls_settings *settings = making->settings;
    SSL_CTX *ssl_context = making->ssl_context;
    if (settings->verify != TLS_VERIFY_NONE && settings->client_ca.length == 0) {
        snprintf(making->text, making->size,
                 "tls.verify asks for client certificates, but tls.client_ca names no file with "
                 "the authorities that issue them");
        return ERROR_INVALID;
    }
    unsigned char policy = (unsigned char)(settings->verify | (making->quic ? 0x80 : 0));
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    enum error error = ERROR_NONE;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (hash == NULL || EVP_DigestInit_ex2(hash, EVP_sha256(), NULL) != 1 ||
        EVP_DigestUpdate(hash, &policy, 1) != 1) {
        error = out_of_memory(making);
    }
    if (error == ERROR_NONE && settings->verify != TLS_VERIFY_NONE) {
        error = set_authorities(making, hash);
    }
    if (error == ERROR_NONE &&
        (EVP_DigestFinal_ex(hash, digest, &length) != 1 || length > SSL_MAX_SID_CTX_LENGTH ||
         SSL_CTX_set_session_id_context(ssl_context, digest, length) != 1)) {
        error = out_of_memory(making);
    }
    EVP_MD_CTX_free(hash);
    SSL_CTX_set_verify(ssl_context, verify_mode(settings->verify), NULL);
    SSL_CTX_set_verify_depth(ssl_context, VERIFY_DEPTH);
    return error;
}

static enum error set_tickets(const struct making *making)
{
    const struct tls_settings *settings = making->settings;
    struct tls_context *context = making->context;
    if (settings->tickets == 0 || context->keyring == NULL) {
        SSL_CTX_set_options(making->ssl_context, SSL_OP_NO_TICKET);
        return SSL_CTX_set_num_tickets(making->ssl_context, 0) == 1 ? ERROR_NONE
                                                                    : out_of_memory(making);
    }
    /* A ticket is good for as long as its key is certainly kept. */
    uint64_t seconds = settings->ticket_key_life_ns / CLOCK_NS_PER_S *
                       (settings->ticket_keys_kept > 1 ? settings->ticket_keys_kept - 1 : 1);
    seconds = seconds < 1 ? 1 : seconds > SESSION_LIFE_MAX_S ? SESSION_LIFE_MAX_S : seconds;
    SSL_CTX_set_timeout(making->ssl_context, (long)seconds);
    if (context->ticket_cipher == NULL) {
        context->ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    }
    if (context->ticket_cipher == NULL ||
        SSL_CTX_set_num_tickets(making->ssl_context, settings->tickets) != 1 ||
        SSL_CTX_set_tlsext_ticket_key_evp_cb(making->ssl_context, on_ticket) != 1) {
        return out_of_memory(making);
    }
    return ERROR_NONE;
}

static void set_callbacks(const struct making *making)
{
    SSL_CTX *ssl_context = making->ssl_context;
    struct tls_context *context = making->context;
    SSL_CTX_set_app_data(ssl_context, context);
    SSL_CTX_set_tlsext_servername_callback(ssl_context, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(ssl_context, context);
    SSL_CTX_set_cert_cb(ssl_context, on_certificate, context);
    if (!making->quic) {
        SSL_CTX_set_alpn_select_cb(ssl_context, on_alpn, NULL);
        SSL_CTX_set_msg_callback(ssl_context, on_message);
    }
}

/* One of the two contexts, all but what only QUIC has. */
static enum error make_context(struct making *making, SSL_CTX **ret_ssl_context)
{
    making->ssl_context = *ret_ssl_context = SSL_CTX_new(TLS_server_method());
    enum error error = making->ssl_context != NULL ? set_profile(making) : out_of_memory(making);
    if (error == ERROR_NONE) {
        error = set_certificates(making);
    }
    if (error == ERROR_NONE) {
        error = set_verification(making);
    }
    if (error == ERROR_NONE) {
        error = set_tickets(making);
    }
    if (error == ERROR_NONE) {
        set_callbacks(making);
    }
    return error;
}

static enum error make_quic_context(struct making *making)
{
    making->quic = true;
    enum error error = make_context(making, &making->context->quic_context);
    if (error == ERROR_NONE &&
        tls_quic_context_init(making->context, making->settings->quic_keylog) != ERROR_NONE) {
        error = out_of_memory(making);
    }
    return error;
}

enum error tls_context_new(const struct tls_settings *settings, struct tls_keyring *keyring,
                           struct tls_context **ret_context, char *error_text, size_t error_size)
{
    REQUIRE(error_size >= 256);
    struct tls_context *context = mem_calloc(1, sizeof(*context));
    struct making making = {
        .settings = settings, .context = context, .text = error_text, .size = error_size};
    if (context == NULL) {
        return out_of_memory(&making);
    }
    atomic_init(&context->references, 1);
    context->keyring = keyring;
    context->reject_unknown_sni = settings->reject_unknown_sni;
    context->key_updates_per_second = settings->key_updates_per_second;
    context->quic_keylog = -1;
    context->quic_early_data = settings->quic_early_data;
    context->quic_early_tag = settings->quic_early_tag;
    ERR_clear_error();
    pthread_once(&peer_index_once, make_peer_index);
    enum error error = tls_store_init(&context->store, settings, error_text, error_size);
    if (error == ERROR_NONE) {
        error = make_context(&making, &context->ssl_context);
    }
    if (error == ERROR_NONE && settings->quic) {
        error = make_quic_context(&making);
    }
    if (error != ERROR_NONE) {
        tls_context_unref(context);
        return error;
    }
    *ret_context = context;
    return ERROR_NONE;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

void tls_context_unref(struct tls_context *context)
{
    if (context != NULL &&
        atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) == 1) {
        SSL_CTX_free(context->ssl_context);
        SSL_CTX_free(context->quic_context);
        tls_quic_context_done(context);
        EVP_CIPHER_free(context->ticket_cipher);
        tls_store_done(&context->store);
        mem_free(context);
    }
}

struct slice tls_context_default_pem(const struct tls_context *context)
{
    const struct tls_certificate *first = &context->store.certificates[0];

    return (struct slice){first->pem, first->pem_length};
}

SSL *tls_context_ssl(struct tls_context *context, SSL_CTX *ssl_context, struct tls_peer *peer)
{
    peer->context = context;
    peer->entry = &context->store.fallback;
    ERR_clear_error();
    SSL *ssl = SSL_new(ssl_context);
    if (ssl != NULL && SSL_set_ex_data(ssl, peer_index, peer) != 1) {
        SSL_free(ssl);
        ssl = NULL;
    }
    if (ssl != NULL) {
        SSL_set_accept_state(ssl);
    }
    return ssl;
}

SSL *tls_context_ssl_new(struct tls_context *context, struct tls_peer *peer, int fd)
{
    SSL *ssl = tls_context_ssl(context, context->ssl_context, peer);
    if (ssl != NULL && SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ssl = NULL;
    }
    return ssl;
}
