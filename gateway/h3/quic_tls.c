/* SPDX-License-Identifier: MIT */
/* The one file that sees both ngtcp2's helper for OpenSSL and, through it, OpenSSL's types; it calls nothing of OpenSSL itself. */
#include "h3/quic_tls.h"

#include <ngtcp2/ngtcp2_crypto_ossl.h>

#include "net/tls_quic.h"

enum error quic_tls_prepare(void)
{
    return ngtcp2_crypto_ossl_init() == 0 ? ERROR_NONE : ERROR_NO_MEMORY;
}

static ngtcp2_conn *get_library(ngtcp2_crypto_conn_ref *reference)
{
    return reference->user_data;
}

enum error quic_tls_init(struct quic_tls *tls, struct tls_context *context, struct loop *loop,
                         ngtcp2_conn *library)
{
    *tls = (struct quic_tls){.reference = {get_library, library}};
    tls->tls = tls_quic_new(context, loop);
    if (tls->tls == NULL || ngtcp2_crypto_ossl_ctx_new(&tls->crypto, NULL) != 0) {
        return ERROR_NO_MEMORY;
    }
    SSL *ssl = tls_quic_ssl(tls->tls);
    ngtcp2_crypto_ossl_ctx_set_ssl(tls->crypto, ssl);
    if (ngtcp2_crypto_ossl_configure_server_session(ssl) != 0) {
        return ERROR_NO_MEMORY;
    }
    tls_quic_set_user(tls->tls, &tls->reference);
    tls_quic_allow_early(tls->tls);
    ngtcp2_conn_set_tls_native_handle(library, tls->crypto);
    return ERROR_NONE;
}

void quic_tls_done(struct quic_tls *tls)
{
    if (tls->tls != NULL) {
        /* Else SSL_free calls back into the connection that is being taken apart. */
        tls_quic_set_user(tls->tls, NULL);
        tls_quic_free(tls->tls);
    }
    if (tls->crypto != NULL) {
        ngtcp2_crypto_ossl_ctx_del(tls->crypto);
    }
    *tls = (struct quic_tls){0};
}
