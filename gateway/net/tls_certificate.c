/* SPDX-License-Identifier: MIT */
/*
 * One certificate with its key and chain, from PEM files: loading, and every check that keeps a wrong file from being
 * noticed only by the first client. Speaks to the person who configured it; knows no connections.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_set.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/tls_store.h"

#define FILE_SIZE_MAX ((size_t)1 << 20)

/* A file's bytes, wiped when released. */
struct file_bytes {
    char *data;
    size_t length;
};

/* Where an error goes: "PATH: what is wrong; what to do". */
struct complaint {
    struct file_set *files;
    struct slice path;
    char *text;
    size_t size;
};

PRINTF_LIKE(2, 3)
static enum error complain(const struct complaint *complaint, const char *format, ...)
{
    int start = snprintf(complaint->text, complaint->size, "%.*s: ", SLICE_PRINT(complaint->path));
    if (start >= 0 && (size_t)start < complaint->size) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(complaint->text + start, complaint->size - (size_t)start, format, arguments);
        va_end(arguments);
    }
    ERR_clear_error();
    return ERROR_INVALID;
}

const char *tls_error_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != NULL ? reason : "unknown error";
}

static void file_bytes_done(struct file_bytes *bytes)
{
    if (bytes->data != NULL) {
        OPENSSL_cleanse(bytes->data, bytes->length);
        mem_free(bytes->data);
    }
    *bytes = (struct file_bytes){NULL, 0};
}

static enum error read_all(const struct complaint *complaint, int fd, size_t size,
                           struct file_bytes *bytes)
{
    bytes->data = mem_alloc(size + 1);
    if (bytes->data == NULL) {
        (void)complain(complaint, "out of memory");
        return ERROR_NO_MEMORY;
    }
    while (bytes->length < size) {
        ssize_t got = read(fd, bytes->data + bytes->length, size - bytes->length);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return complain(complaint, "cannot read: %s", strerror(errno));
        }
        if (got == 0) {
            break;
        }
        bytes->length += (size_t)got;
    }
    return ERROR_NONE;
}

/* Reads a file. A private one must not be open to every user: its mode is checked on the open file, not on the path. */
static enum error read_file(const struct complaint *complaint, bool private,
                            struct file_bytes *ret_bytes)
{
    char path[4096];
    if (complaint->path.length == 0 || complaint->path.length >= sizeof(path)) {
        return complain(complaint, "no usable file name");
    }
    memcpy(path, complaint->path.data, complaint->path.length);
    path[complaint->path.length] = '\0';
    int fd = file_set_open(complaint->files, path, O_NOCTTY);
    if (fd < 0) {
        return complain(complaint, "cannot open: %s", strerror(errno));
    }
    struct stat status;
    struct file_bytes bytes = {NULL, 0};
    enum error error = ERROR_NONE;
    if (fstat(fd, &status) != 0) {
        error = complain(complaint, "cannot check: %s", strerror(errno));
    } else if (!S_ISREG(status.st_mode)) {
        error = complain(complaint, "not a regular file");
    } else if (private && (status.st_mode & S_IRWXO) != 0) {
        error = complain(complaint,
                         "the private key is open to every user (mode %04o); make it private: "
                         "chmod 600, or 640 with the gateway's group",
                         (unsigned)(status.st_mode & 07777));
    } else if ((size_t)status.st_size > FILE_SIZE_MAX) {
        error = complain(complaint, "too large for a PEM file (more than 1 MiB)");
    } else {
        error = read_all(complaint, fd, (size_t)status.st_size, &bytes);
    }
    close(fd);
    if (error != ERROR_NONE) {
        file_bytes_done(&bytes);
        return error;
    }
    *ret_bytes = bytes;
    return ERROR_NONE;
}

/* --- certificates --------------------------------------------------------------------------------------------------- */

static bool no_more_pem(void)
{
    unsigned long error = ERR_peek_last_error();
    return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

static enum error parse_certificates(const struct complaint *complaint, struct file_bytes bytes,
                                     STACK_OF(X509) * certificates)
{
    BIO *bio = BIO_new_mem_buf(bytes.data, (int)bytes.length);
    X509 *certificate = NULL;
    enum error error = bio != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    ERR_clear_error();
    while (error == ERROR_NONE &&
           (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (sk_X509_push(certificates, certificate) <= 0) {
            X509_free(certificate);
            error = ERROR_NO_MEMORY;
        }
    }
    BIO_free(bio);
    if (error == ERROR_NO_MEMORY) {
        (void)complain(complaint, "out of memory");
    } else if (!no_more_pem()) {
        error = complain(complaint, "certificate %d is damaged: %s", sk_X509_num(certificates) + 1,
                         tls_error_reason());
    } else if (sk_X509_num(certificates) == 0) {
        error = complain(complaint, "no certificate in PEM form is in this file (it would start "
                                    "with \"-----BEGIN CERTIFICATE-----\")");
    }
    ERR_clear_error();
    return error;
}

enum error tls_certificates_read(struct file_set *files, struct slice path,
                                 STACK_OF(X509) * *ret_certificates, char *text, size_t text_size)
{
    struct complaint complaint = {files, path, text, text_size};
    struct file_bytes bytes = {NULL, 0};
    enum error error = read_file(&complaint, false, &bytes);
    if (error != ERROR_NONE) {
        return error;
    }
    STACK_OF(X509) *certificates = sk_X509_new_null();
    if (certificates == NULL) {
        (void)complain(&complaint, "out of memory");
        error = ERROR_NO_MEMORY;
    } else {
        error = parse_certificates(&complaint, bytes, certificates);
    }
    file_bytes_done(&bytes);
    if (error != ERROR_NONE) {
        sk_X509_pop_free(certificates, X509_free);
        return error;
    }
    *ret_certificates = certificates;
    return ERROR_NONE;
}

/* RFC 8446 4.4.2: the sender's certificate first; each following one should certify the one before it. */
static enum error check_chain(const struct complaint *complaint, const struct tls_certificate *made)
{
    const X509 *before = made->leaf;
    for (int i = 0; i < sk_X509_num(made->chain); i++) {
        const X509 *issuer = sk_X509_value(made->chain, i);
        if (X509_NAME_cmp(X509_get_issuer_name(before), X509_get_subject_name(issuer)) != 0) {
            return complain(complaint,
                            "certificate %d did not issue the one before it; put the server's own "
                            "certificate first, then its issuer, and so on",
                            i + 2);
        }
        before = issuer;
    }
    return ERROR_NONE;
}

static void warn_of_dates(const struct complaint *complaint, const X509 *leaf)
{
    if (X509_cmp_current_time(X509_get0_notAfter(leaf)) <= 0) {
        log_warning("tls", "%.*s: the certificate has expired; clients will refuse it",
                    SLICE_PRINT(complaint->path));
    } else if (X509_cmp_current_time(X509_get0_notBefore(leaf)) > 0) {
        log_warning("tls", "%.*s: the certificate is not valid yet; clients will refuse it",
                    SLICE_PRINT(complaint->path));
    }
}

static enum error keep_pem(struct tls_certificate *made)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    if (bio != NULL && PEM_write_bio_X509(bio, made->leaf) == 1) {
        made->pem_length = (size_t)BIO_get_mem_data(bio, &data);
        made->pem = mem_strndup(data, made->pem_length);
    }
    BIO_free(bio);
    return made->pem != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
}

/* --- names ---------------------------------------------------------------------------------------------------------- */

static enum error add_name(struct tls_certificate *made, const unsigned char *data, int length)
{
    if (length <= 0 || length > 255 || memchr(data, '\0', (size_t)length) != NULL) {
        return ERROR_NONE; /* no name that a client can send */
    }
    char **names = mem_realloc(made->names, (made->name_count + 1) * sizeof(*names));
    if (names == NULL) {
        return ERROR_NO_MEMORY;
    }
    made->names = names;
    char *name = mem_strndup((const char *)data, (size_t)length);
    if (name == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    made->names[made->name_count++] = name;
    return ERROR_NONE;
}

/* The DNS names of the subjectAltName; only a certificate without any is known by its common name. */
static enum error collect_names(struct tls_certificate *made)
{
    enum error error = ERROR_NONE;
    GENERAL_NAMES *alternatives = X509_get_ext_d2i(made->leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; error == ERROR_NONE && i < sk_GENERAL_NAME_num(alternatives); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(alternatives, i);
        if (name->type == GEN_DNS) {
            error = add_name(made, ASN1_STRING_get0_data(name->d.dNSName),
                             ASN1_STRING_length(name->d.dNSName));
        }
    }
    GENERAL_NAMES_free(alternatives);
    const X509_NAME *subject = X509_get_subject_name(made->leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (error == ERROR_NONE && made->name_count == 0 && at >= 0) {
        const ASN1_STRING *common = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
        error = add_name(made, ASN1_STRING_get0_data(common), ASN1_STRING_length(common));
    }
    ERR_clear_error();
    return error;
}

/* --- keys ----------------------------------------------------------------------------------------------------------- */

struct password {
    struct slice text;
    bool asked;
};

/* Always given to OpenSSL, which else asks on the terminal. */
static int give_password(char *out, int size, int writing, void *user)
{
    (void)writing;
    struct password *password = user;
    password->asked = true;
    if (password->text.length == 0 || password->text.length > (size_t)size) {
        return -1;
    }
    memcpy(out, password->text.data, password->text.length);
    return (int)password->text.length;
}

static enum error load_key(struct file_set *files, const struct tls_certificate_settings *settings,
                           struct tls_certificate *made, char *text, size_t text_size)
{
    struct complaint complaint = {files, settings->key, text, text_size};
    struct file_bytes bytes = {NULL, 0};
    enum error error = read_file(&complaint, true, &bytes);
    if (error != ERROR_NONE) {
        return error;
    }
    struct password password = {settings->key_password, false};
    BIO *bio = BIO_new_mem_buf(bytes.data, (int)bytes.length);
    ERR_clear_error();
    if (bio != NULL) {
        made->key = PEM_read_bio_PrivateKey(bio, NULL, give_password, &password);
    }
    BIO_free(bio);
    file_bytes_done(&bytes);
    if (made->key == NULL && password.asked) {
        return settings->key_password.length == 0
                   ? complain(&complaint, "the private key is encrypted and no password is set")
                   : complain(&complaint, "the private key cannot be decrypted; is the password "
                                          "the right one?");
    }
    if (made->key == NULL) {
        return complain(&complaint, "no private key in PEM form is in this file (%s)",
                        tls_error_reason());
    }
    made->kind = EVP_PKEY_is_a(made->key, "RSA")  ? TLS_KEY_RSA
                 : EVP_PKEY_is_a(made->key, "EC") ? TLS_KEY_EC
                                                  : TLS_KEY_OTHER;
    return ERROR_NONE;
}

/* What OpenSSL itself asks of a pair (key sizes, algorithms), asked now rather than in the first handshake. */
static enum error try_pair(const struct complaint *complaint, const struct tls_certificate *made,
                           struct slice key_path)
{
    if (X509_check_private_key(made->leaf, made->key) != 1) {
        return complain(complaint,
                        "the first certificate in this file does not belong to the key %.*s; is "
                        "the key of another certificate, or is the order in the file wrong?",
                        SLICE_PRINT(key_path));
    }
    SSL_CTX *scratch = SSL_CTX_new(TLS_server_method());
    if (scratch == NULL) {
        (void)complain(complaint, "out of memory");
        return ERROR_NO_MEMORY;
    }
    ERR_clear_error();
    int taken = SSL_CTX_use_cert_and_key(scratch, made->leaf, made->key, made->chain, 1);
    SSL_CTX_free(scratch);
    return taken == 1
               ? ERROR_NONE
               : complain(complaint, "the certificate cannot be used: %s", tls_error_reason());
}

enum error tls_certificate_load(struct file_set *files,
                                const struct tls_certificate_settings *settings,
                                struct tls_certificate *certificate, char *text, size_t text_size)
{
    struct complaint complaint = {files, settings->cert, text, text_size};
    struct tls_certificate *made = certificate;
    enum error error = tls_certificates_read(files, settings->cert, &made->chain, text, text_size);
    if (error == ERROR_NONE) {
        made->leaf = sk_X509_shift(made->chain);
        error = load_key(files, settings, made, text, text_size);
    }
    if (error == ERROR_NONE) {
        error = try_pair(&complaint, made, settings->key);
    }
    if (error == ERROR_NONE) {
        error = check_chain(&complaint, made);
    }
    if (error == ERROR_NONE &&
        (keep_pem(made) != ERROR_NONE || collect_names(made) != ERROR_NONE)) {
        (void)complain(&complaint, "out of memory");
        error = ERROR_NO_MEMORY;
    }
    if (error != ERROR_NONE) {
        tls_certificate_done(certificate);
        return error;
    }
    warn_of_dates(&complaint, made->leaf);
    return ERROR_NONE;
}

void tls_certificate_done(struct tls_certificate *certificate)
{
    X509_free(certificate->leaf);
    EVP_PKEY_free(certificate->key);
    sk_X509_pop_free(certificate->chain, X509_free);
    mem_free(certificate->pem);
    for (size_t i = 0; i < certificate->name_count; i++) {
        mem_free(certificate->names[i]);
    }
    mem_free(certificate->names);
    memset(certificate, 0, sizeof(*certificate));
}
