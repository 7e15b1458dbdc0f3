/* SPDX-License-Identifier: MIT */
/*
 * What TLS over QUIC has of its own: ALPN "h3", a context apart from TCP's, and 0-RTT tickets that are bound to the limits which a client
 * remembers with them (RFC 9001 4.6, RFC 9114 7.2.4.2), because OpenSSL binds them to nothing.
 */
#include "net/tls_quic.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/tls_store.h"

struct tls_quic {
    SSL *ssl;
    struct tls_peer peer;
    struct tls_info info;
};

/* No overlap is an alert, never a handshake without a protocol (RFC 9001 8.1). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                   const unsigned char *offered, unsigned offered_length, void *argument)
{
    (void)ssl, (void)argument;
    for (unsigned at = 0; at + 1u + offered[at] <= offered_length; at += 1u + offered[at]) {
        if (offered[at] == 2 && memcmp(offered + at + 1, "h3", 2) == 0) {
            *out = offered + at + 1;
            *out_length = 2;
            return SSL_TLSEXT_ERR_OK;
        }
        if (at + 1u + offered[at] == offered_length) {
            break;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int on_ticket_made(SSL *ssl, void *argument)
{
    const struct tls_context *context = argument;
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), &context->quic_early_tag,
                                           sizeof(context->quic_early_tag));
}

/* A ticket made under other limits still resumes where it brings no 0-RTT; OpenSSL cannot take the one and leave the other. */
static SSL_TICKET_RETURN on_ticket_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                          size_t name_length, SSL_TICKET_STATUS status,
                                          void *argument)
{
    const struct tls_context *context = argument;
    void *tag = NULL;
    size_t length = 0;
    (void)ssl, (void)name, (void)name_length;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) {
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    }
    if (SSL_SESSION_get0_ticket_appdata(session, &tag, &length) != 1 ||
        length != sizeof(context->quic_early_tag) ||
        memcmp(tag, &context->quic_early_tag, length) != 0) {
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    }
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/* One write for each line: appending is atomic, so that loops and processes may share the file. */
static void on_secret(const SSL *ssl, const char *line)
{
    const struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    char text[512];
    int length = snprintf(text, sizeof(text), "%s\n", line);
    if (length > 0 && (size_t)length < sizeof(text)) {
        ssize_t written = write(context->quic_keylog, text, (size_t)length);
        (void)written;
    }
    OPENSSL_cleanse(text, sizeof(text));
}

static void open_keylog(struct tls_context *context, struct slice path)
{
    char *name = mem_strndup(path.data, path.length);
    if (name != NULL) {
        context->quic_keylog =
            open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    if (context->quic_keylog >= 0) {
        log_warning("net", "http3.keylog: the secrets of all QUIC connections go to %s", name);
        SSL_CTX_set_keylog_callback(context->quic_context, on_secret);
    } else {
        log_warning("net", "http3.keylog: cannot write %.*s: %s; it is left off", SLICE_PRINT(path),
                    strerror(errno));
    }
    mem_free(name);
}

void tls_quic_context_done(struct tls_context *context)
{
    if (context->quic_keylog >= 0) {
        close(context->quic_keylog);
    }
}

enum error tls_quic_context_init(struct tls_context *context, struct slice keylog)
{
    SSL_CTX *ssl_context = context->quic_context;
    if (keylog.length > 0) {
        open_keylog(context, keylog);
    }
    /* Replay is met by what is done with early data (RFC 8470), not by a cache that no other process shares. */
    SSL_CTX_set_options(ssl_context, SSL_OP_NO_ANTI_REPLAY);
    SSL_CTX_set_alpn_select_cb(ssl_context, on_alpn, NULL);
    uint32_t early = context->quic_early_data ? UINT32_MAX : 0; /* RFC 9001 4.6.1 */
    if (SSL_CTX_set_max_early_data(ssl_context, early) != 1 ||
        (context->quic_early_data &&
         SSL_CTX_set_session_ticket_cb(ssl_context, on_ticket_made, on_ticket_opened, context) !=
             1)) {
        return ERROR_NO_MEMORY;
    }
    return ERROR_NONE;
}

bool tls_quic_ready(const struct tls_context *context)
{
    return context->quic_context != NULL;
}

struct tls_quic *tls_quic_new(struct tls_context *context, struct loop *loop)
{
    struct tls_quic *tls = mem_calloc(1, sizeof(*tls));
    if (tls == NULL) {
        return NULL;
    }
    tls->peer.loop = loop;
    tls->ssl = tls_context_ssl(context, context->quic_context, &tls->peer);
    if (tls->ssl == NULL) {
        mem_free(tls);
        return NULL;
    }
    tls_context_ref(context);
    return tls;
}

void tls_quic_set_user(struct tls_quic *tls, void *user)
{
    (void)SSL_set_app_data(tls->ssl, user);
}

void tls_quic_allow_early(struct tls_quic *tls)
{
    (void)SSL_set_quic_tls_early_data_enabled(tls->ssl, tls->peer.context->quic_early_data);
}

struct ssl_st *tls_quic_ssl(struct tls_quic *tls)
{
    return tls->ssl;
}

enum error tls_quic_finish(struct tls_quic *tls, const struct tls_info **ret_info)
{
    enum error error = tls_info_fill(&tls->info, tls->ssl, &tls->peer);
    if (error == ERROR_NONE) {
        tls->peer.established = true;
        *ret_info = &tls->info;
    }
    return error;
}

bool tls_quic_unknown_name(const struct tls_quic *tls)
{
    return tls->peer.unknown_name;
}

void tls_quic_free(struct tls_quic *tls)
{
    if (tls == NULL) {
        return;
    }
    SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls->ssl);
    tls_info_done(&tls->info);
    mem_free(tls->peer.server_name);
    tls_context_unref(tls->peer.context);
    mem_free(tls);
}
