/* SPDX-License-Identifier: MIT */
/*
 * What a finished handshake gave, as plain data: for the ASGI `tls` extension and logs.
 */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/mem.h"
#include "net/tls_store.h"

/* Takes a memory BIO's bytes into memory of ours. */
static enum error take_text(BIO *bio, struct slice *ret_text)
{
    char *data = NULL;
    long length = BIO_get_mem_data(bio, &data);
    char *copy = length >= 0 ? mem_strndup(data, (size_t)length) : NULL;
    if (copy == NULL) {
        return ERROR_NO_MEMORY;
    }
    *ret_text = (struct slice){copy, (size_t)length};
    return ERROR_NONE;
}

static enum error write_chain(SSL *ssl, X509 *leaf, struct slice *ret_pem)
{
    /* On the server's side the chain comes without its leaf; a resumed session has the leaf only. */
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
    BIO *bio = BIO_new(BIO_s_mem());
    enum error error =
        bio != NULL && PEM_write_bio_X509(bio, leaf) == 1 ? ERROR_NONE : ERROR_NO_MEMORY;
    for (int i = 0; error == ERROR_NONE && i < sk_X509_num(chain); i++) {
        if (PEM_write_bio_X509(bio, sk_X509_value(chain, i)) != 1) {
            error = ERROR_NO_MEMORY;
        }
    }
    if (error == ERROR_NONE) {
        error = take_text(bio, ret_pem);
    }
    BIO_free(bio);
    return error;
}

static enum error write_subject(const X509 *leaf, struct slice *ret_name)
{
    BIO *bio = BIO_new(BIO_s_mem());
    enum error error = ERROR_NO_MEMORY;
    /* XN_FLAG_RFC2253 is RFC 4514's form; bytes above 127 stay UTF-8 instead of becoming \XX. */
    if (bio != NULL &&
        X509_NAME_print_ex(bio, X509_get_subject_name(leaf), 0,
                           XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0) {
        error = take_text(bio, ret_name);
    }
    BIO_free(bio);
    return error;
}

static enum error fill_client(struct tls_info *info, SSL *ssl)
{
    X509 *leaf = SSL_get0_peer_certificate(ssl);
    if (leaf == NULL) {
        return ERROR_NONE;
    }
    /* A full handshake checked it; a resumed one brings back a certificate of some hours ago. */
    if (info->resumed && X509_cmp_current_time(X509_get0_notAfter(leaf)) <= 0) {
        return ERROR_PROTOCOL;
    }
    enum error error = write_chain(ssl, leaf, &info->client_chain_pem);
    return error == ERROR_NONE ? write_subject(leaf, &info->client_name) : error;
}

/* The certificate that was shown. A resumed handshake shows none: then the one that a full handshake would most likely have
 * shown. */
static const struct tls_certificate *shown(SSL *ssl, const struct tls_peer *peer)
{
    const X509 *used = SSL_get_certificate(ssl);
    const struct tls_certificate *first = NULL;
    for (int kind = TLS_KEY_KINDS - 1; kind >= 0; kind--) {
        const struct tls_certificate *certificate = peer->entry->by_kind[kind];
        if (certificate != NULL && certificate->leaf == used) {
            return certificate;
        }
        first = certificate != NULL ? certificate : first;
    }
    return first;
}

enum error tls_info_fill(struct tls_info *info, SSL *ssl, const struct tls_peer *peer)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    info->version = (uint16_t)SSL_version(ssl);
    info->version_name = slice_from(SSL_get_version(ssl));
    info->cipher = SSL_CIPHER_get_protocol_id(cipher);
    info->cipher_name = slice_from(SSL_CIPHER_standard_name(cipher));
    info->group_name = slice_from(SSL_get0_group_name(ssl));
    info->resumed = SSL_session_reused(ssl) == 1;
    info->server_name = slice_from(peer->server_name);
    const unsigned char *alpn = NULL;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl, &alpn, &length);
    if (length > 0) {
        info->alpn = length > 2 ? SLICE("http/1.1") : alpn[1] == '3' ? SLICE("h3") : SLICE("h2");
    }
    const struct tls_certificate *certificate = shown(ssl, peer);
    info->server_cert_pem = (struct slice){certificate->pem, certificate->pem_length};
    enum error error = fill_client(info, ssl);
    ERR_clear_error();
    return error;
}

void tls_info_done(struct tls_info *info)
{
    mem_free((void *)(uintptr_t)info->client_chain_pem.data);
    mem_free((void *)(uintptr_t)info->client_name.data);
}
