/* SPDX-License-Identifier: MIT */
/* Helpers of the tests of net/. A helper that fails ends the program: it is never what is tested. */
#include "support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

const struct addr no_addr;

/* --- loops ---------------------------------------------------------------------------------------------------------- */

static void bench_on_watchdog(struct loop_timer *timer)
{
    struct bench *bench = LIST_CONTAINER(timer, struct bench, watchdog);
    bench->timed_out = true;
    loop_stop(bench->loop);
}

void bench_init(struct bench *bench)
{
    const struct loop_settings settings = {.turn_callbacks = 64, .turn_time_us = 500};
    signal(SIGPIPE, SIG_IGN); /* as the server does */
    bench->loop = loop_new(0, &settings);
    REQUIRE(bench->loop != NULL);
    bench->timed_out = false;
    loop_timer_init(&bench->watchdog, bench->loop, bench_on_watchdog);
}

bool bench_run(struct bench *bench)
{
    bench->timed_out = false;
    REQUIRE(loop_timer_set(&bench->watchdog, 20 * CLOCK_NS_PER_S) == ERROR_NONE);
    REQUIRE(loop_run(bench->loop) == ERROR_NONE);
    loop_timer_clear(&bench->watchdog);
    return !bench->timed_out;
}

struct turner {
    struct loop_resume resume;
    struct loop *loop;
    unsigned left;
};

static void turner_on_resume(struct loop_resume *resume)
{
    struct turner *turner = LIST_CONTAINER(resume, struct turner, resume);
    if (--turner->left == 0) {
        loop_stop(turner->loop);
    } else {
        loop_resume_later(turner->loop, resume);
    }
}

void bench_turns(struct bench *bench, unsigned turns)
{
    struct turner turner = {.loop = bench->loop, .left = turns};
    loop_resume_init(&turner.resume, turner_on_resume);
    loop_resume_later(bench->loop, &turner.resume);
    REQUIRE(bench_run(bench));
}

void bench_done(struct bench *bench)
{
    loop_free(bench->loop);
}

void tcp_pair(int fds[2])
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(in);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(listening >= 0 && bind(listening, (struct sockaddr *)&in, sizeof(in)) == 0);
    REQUIRE(listen(listening, 1) == 0);
    REQUIRE(getsockname(listening, (struct sockaddr *)&in, &length) == 0);
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(connect(fds[1], (struct sockaddr *)&in, sizeof(in)) == 0);
    fds[0] = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    REQUIRE(fds[0] >= 0 && fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
    close(listening);
    const int on = 1; /* as on the sockets of a listener */
    for (int i = 0; i < 2; i++) {
        REQUIRE(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
    }
}

void shrink_buffers(int fd)
{
    int size = 4096;
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0);
}

/* --- files ---------------------------------------------------------------------------------------------------------- */

static char directory[64];

const char *support_directory(void)
{
    if (directory[0] == '\0') {
        strcpy(directory, "/tmp/gatewayd-net-XXXXXX");
        REQUIRE(mkdtemp(directory) != NULL);
        REQUIRE(atexit(support_clean) == 0);
    }
    return directory;
}

void support_clean(void)
{
    DIR *listing = directory[0] != '\0' ? opendir(directory) : NULL;
    struct dirent *entry;
    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            (void)unlinkat(dirfd(listing), entry->d_name, 0);
        }
    }
    if (listing != NULL) {
        closedir(listing);
        (void)rmdir(directory);
        directory[0] = '\0';
    }
}

const char *support_path(const char *name)
{
    static char paths[8][128];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", support_directory(), name);
    return path;
}

static FILE *open_file(const char *name, unsigned mode)
{
    const char *path = support_path(name);
    (void)unlink(path);
    FILE *file = fopen(path, "we");
    REQUIRE(file != NULL && fchmod(fileno(file), (mode_t)mode) == 0);
    return file;
}

void support_write(const char *name, const char *text, unsigned mode)
{
    FILE *file = open_file(name, mode);
    fputs(text, file);
    REQUIRE(fclose(file) == 0);
}

/* --- certificates --------------------------------------------------------------------------------------------------- */

static EVP_PKEY *make_key(enum key_type type)
{
    EVP_PKEY *key = type == KEY_RSA  ? EVP_RSA_gen(2048)
                    : type == KEY_EC ? EVP_EC_gen("P-256")
                                     : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    REQUIRE(key != NULL);
    return key;
}

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    REQUIRE(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

struct authority support_issue(const struct wish *wish, const struct authority *issuer)
{
    static long serial = 1;
    struct authority made = {.key = make_key(wish->type), .certificate = X509_new()};
    X509 *certificate = made.certificate;
    REQUIRE(certificate != NULL && X509_set_version(certificate, X509_VERSION_3) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    bool dated = wish->from_s != 0 || wish->until_s != 0;
    X509_gmtime_adj(X509_getm_notBefore(certificate), dated ? wish->from_s : -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), dated ? wish->until_s : 3600);
    X509_NAME *name = X509_NAME_new();
    REQUIRE(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                       (const unsigned char *)wish->common_name, -1, -1, 0) == 1);
    X509_set_subject_name(certificate, name);
    X509_set_issuer_name(certificate,
                         issuer != NULL ? X509_get_subject_name(issuer->certificate) : name);
    X509_NAME_free(name);
    X509_set_pubkey(certificate, made.key);
    if (wish->names != NULL) {
        add_extension(certificate, NID_subject_alt_name, wish->names);
    }
    if (wish->authority) {
        add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    }
    EVP_PKEY *signer = issuer != NULL ? issuer->key : made.key;
    const EVP_MD *digest = EVP_PKEY_is_a(signer, "ED25519") ? NULL : EVP_sha256();
    REQUIRE(X509_sign(certificate, signer, digest) > 0);
    return made;
}

void support_authority_done(struct authority *authority)
{
    EVP_PKEY_free(authority->key);
    X509_free(authority->certificate);
    memset(authority, 0, sizeof(*authority));
}

void support_write_certificate(const char *name, X509 *first, X509 *second)
{
    FILE *file = open_file(name, 0644);
    REQUIRE(PEM_write_X509(file, first) == 1);
    REQUIRE(second == NULL || PEM_write_X509(file, second) == 1);
    REQUIRE(fclose(file) == 0);
}

void support_write_key(const char *name, EVP_PKEY *key, const char *password, unsigned mode)
{
    FILE *file = open_file(name, mode);
    REQUIRE(PEM_write_PrivateKey(file, key, password != NULL ? EVP_aes_128_cbc() : NULL,
                                 (const unsigned char *)password,
                                 password != NULL ? (int)strlen(password) : 0, NULL, NULL) == 1);
    REQUIRE(fclose(file) == 0);
}

void support_pair(const char *base, const struct wish *wish, const struct authority *issuer)
{
    char name[64];
    struct authority made = support_issue(wish, issuer);
    snprintf(name, sizeof(name), "%s.pem", base);
    support_write_certificate(name, made.certificate, issuer != NULL ? issuer->certificate : NULL);
    snprintf(name, sizeof(name), "%s.key", base);
    support_write_key(name, made.key, NULL, 0600);
    support_authority_done(&made);
}

/* --- the client ----------------------------------------------------------------------------------------------------- */

static SSL_SESSION *last_session;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(last_session);
    last_session = session;
    return 1;
}

SSL_SESSION *support_take_session(void)
{
    SSL_SESSION *session = last_session;
    last_session = NULL;
    return session;
}

static void note_alert(const SSL *ssl, int where, int value)
{
    struct tls_client *client = SSL_get_app_data(ssl);
    if (client != NULL && (where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT &&
        (value & 0xff) != SSL_AD_CLOSE_NOTIFY) {
        client->alert = value & 0xff;
    }
}

SSL_CTX *support_client_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    REQUIRE(context != NULL);
    SSL_CTX_set_session_cache_mode(context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(context, keep_session);
    SSL_CTX_set_info_callback(context, note_alert);
    return context;
}

static void client_read(struct tls_client *client)
{
    for (;;) {
        size_t got = 0, room = sizeof(client->received) - client->received_length;
        char scratch[256];
        ERR_clear_error();
        int done = SSL_read_ex(client->ssl,
                               room > 0 ? client->received + client->received_length : scratch,
                               room > 0 ? room : sizeof(scratch), &got);
        if (done == 1) {
            client->received_length += room > 0 ? got : 0;
            continue;
        }
        int error = SSL_get_error(client->ssl, done);
        client->ended = error == SSL_ERROR_ZERO_RETURN;
        client->failed = error == SSL_ERROR_SSL || error == SSL_ERROR_SYSCALL;
        return;
    }
}

static void client_on_ready(struct loop_io *io, unsigned events)
{
    (void)events;
    struct tls_client *client = LIST_CONTAINER(io, struct tls_client, io);
    struct loop *loop = io->loop;
    ERR_clear_error();
    if (!client->connected) {
        int done = SSL_connect(client->ssl);
        if (done != 1) {
            int error = SSL_get_error(client->ssl, done);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
                client->failed = true;
            }
        } else {
            client->connected = true;
        }
    }
    if (client->connected && !client->failed) {
        client_read(client);
    }
    if (client->failed || client->ended) {
        REQUIRE(loop_io_set(io, 0) == ERROR_NONE);
        loop_stop(loop);
    } else if ((client->connected && client->stop_when_connected) ||
               (client->stop_after > 0 && client->received_length >= client->stop_after)) {
        loop_stop(loop);
    }
}

void tls_client_start(struct tls_client *client, struct loop *loop, SSL_CTX *context, int fd,
                      const char *name, const char *alpn, SSL_SESSION *session)
{
    memset(client, 0, sizeof(*client));
    client->ssl = SSL_new(context);
    REQUIRE(client->ssl != NULL && SSL_set_fd(client->ssl, fd) == 1);
    SSL_set_app_data(client->ssl, client);
    if (name != NULL) {
        REQUIRE(SSL_set_tlsext_host_name(client->ssl, name) == 1);
    }
    if (alpn != NULL) {
        REQUIRE(SSL_set_alpn_protos(client->ssl, (const unsigned char *)alpn,
                                    (unsigned)strlen(alpn)) == 0);
    }
    if (session != NULL) {
        REQUIRE(SSL_set_session(client->ssl, session) == 1);
    }
    loop_io_init(&client->io, loop, fd, client_on_ready);
    (void)SSL_connect(client->ssl);
    REQUIRE(loop_io_set(&client->io, LOOP_READ) == ERROR_NONE);
}

void tls_client_done(struct tls_client *client)
{
    int fd = client->io.fd;
    loop_io_done(&client->io);
    /* Else OpenSSL takes the session for a bad one and offers it no more. */
    SSL_set_shutdown(client->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(client->ssl);
    close(fd);
}

const char *tls_client_server_name(struct tls_client *client)
{
    static char name[64];
    X509 *certificate = SSL_get0_peer_certificate(client->ssl);
    name[0] = '\0';
    if (certificate != NULL) {
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                                  sizeof(name));
    }
    return name;
}
