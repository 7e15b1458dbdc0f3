/* SPDX-License-Identifier: MIT */
/* TLS against an OpenSSL client in the same process: names, versions, ALPN, tickets, client certificates, data, ends. */
#include "check.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "net/tls_context.h"
#include "net/tls_keyring.h"
#include "net/transport_tls.h"
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

static void server_on_ready(void *user, unsigned events)
{
    struct server *server = user;
    server->events |= events;
    if (server->handshake == ERROR_AGAIN) {
        server->handshake = transport_tls_handshake(server->transport);
        if (server->handshake != ERROR_AGAIN && server->stop_when_done) {
            loop_stop(server->bench->loop);
        }
    } else if (server->stop_when_ready) {
        loop_stop(server->bench->loop);
    }
}

static void server_start(struct server *server, struct bench *bench, struct tls_context *context,
                         int fd, bool h1, bool h2)
{
    memset(server, 0, sizeof(*server));
    server->bench = bench;
    server->handshake = ERROR_AGAIN;
    server->transport = transport_tls_new(bench->loop, fd, &no_addr, &no_addr, context, h1, h2);
    CHECK(server->transport != NULL);
    server->transport->on_ready = server_on_ready;
    server->transport->user = server;
    CHECK_EQ_INT(transport_want(server->transport, TRANSPORT_READ_ON, false), ERROR_NONE);
}

/* The two files of a certificate; the texts stay for the whole program. */
static struct tls_certificate_settings pair(const char *base)
{
    static struct {
        char base[32], cert[128], key[128];
    } known[16];
    size_t i = 0;
    while (known[i].base[0] != '\0' && strcmp(known[i].base, base) != 0) {
        i++;
    }
    snprintf(known[i].base, sizeof(known[i].base), "%s", base);
    snprintf(known[i].cert, sizeof(known[i].cert), "%s/%s.pem", support_directory(), base);
    snprintf(known[i].key, sizeof(known[i].key), "%s/%s.key", support_directory(), base);
    return (struct tls_certificate_settings){.cert = slice_from(known[i].cert),
                                             .key = slice_from(known[i].key)};
}

static struct tls_settings settings_with(const struct tls_certificate_settings *certificates,
                                         size_t count)
{
    return (struct tls_settings){.certificates = certificates,
                                 .certificate_count = count,
                                 .min_version = 0x0303,
                                 .ticket_key_life_ns = HOUR,
                                 .ticket_keys_kept = 24,
                                 .key_updates_per_second = 100,
                                 .tickets = 1};
}

static struct tls_context *context_of(const struct tls_settings *settings,
                                      struct tls_keyring *keyring)
{
    char text[512] = "";
    struct tls_context *context = NULL;
    if (tls_context_new(settings, keyring, &context, text, sizeof(text)) != ERROR_NONE) {
        printf("# %s\n", text);
        CHECK(!"tls_context_new");
    }
    return context;
}

/* One connection: both ends, their loop. */
struct link {
    struct bench bench;
    struct server server;
    struct tls_client client;
    SSL_CTX *client_context;
};

static void link_start(struct link *link, struct tls_context *context, SSL_CTX *client_context,
                       const char *name, const char *alpn, SSL_SESSION *session)
{
    int fds[2];
    bench_init(&link->bench);
    tcp_pair(fds);
    server_start(&link->server, &link->bench, context, fds[0], true, true);
    link->client_context = client_context;
    tls_client_start(&link->client, link->bench.loop, client_context, fds[1], name, alpn, session);
}

/* Runs the handshake to its end on both sides. */
static void link_shake(struct link *link)
{
    link->client.stop_when_connected = true;
    link->server.stop_when_done = true;
    while ((link->server.handshake == ERROR_AGAIN) ||
           (!link->client.connected && !link->client.failed)) {
        CHECK(bench_run(&link->bench));
        CHECK(!link->client.ended || link->server.handshake != ERROR_AGAIN);
        if (link->client.failed && link->server.handshake == ERROR_AGAIN) {
            continue;
        }
        if (link->server.handshake != ERROR_AGAIN && link->server.handshake != ERROR_NONE) {
            break;
        }
    }
    link->client.stop_when_connected = false;
}

static void link_end(struct link *link)
{
    transport_destroy(link->server.transport, false);
    tls_client_done(&link->client);
    bench_done(&link->bench);
}

static SSL_CTX *client_of_version(int version)
{
    SSL_CTX *context = support_client_context();
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    return context;
}

static void make_certificates(void)
{
    static bool made;
    if (made) {
        return;
    }
    made = true;
    support_pair("main", &(struct wish){"main", "DNS:localhost,DNS:Main.Example", KEY_EC, 0, 0, 0},
                 NULL);
    support_pair("rsa", &(struct wish){"main-rsa", "DNS:main.example", KEY_RSA, 0, 0, 0}, NULL);
    support_pair("wild", &(struct wish){"wild", "DNS:*.example.org", KEY_EC, 0, 0, 0}, NULL);
    support_pair("exact", &(struct wish){"exact", "DNS:a.example.org", KEY_ED25519, 0, 0, 0}, NULL);
    support_pair("common", &(struct wish){"by.common.name", NULL, KEY_EC, 0, 0, 0}, NULL);
}

TEST(tls_chooses_certificates_by_name)
{
    static const struct {
        const char *name, *shown;
    } rows[] = {
        {NULL, "main"},
        {"main.example", "main"},
        {"MAIN.example", "main"},
        {"unknown.test", "main"},
        {"b.example.org", "wild"},
        {"a.example.org", "exact"},
        {"A.EXAMPLE.ORG", "exact"},
        {"x.a.example.org", "main"},
        {"example.org", "main"},
        {"by.common.name", "by.common.name"},
    };
    make_certificates();
    struct tls_certificate_settings pairs[] = {pair("main"), pair("rsa"), pair("wild"),
                                               pair("exact"), pair("common")};
    struct tls_settings settings = settings_with(pairs, 5);
    struct tls_context *context = context_of(&settings, NULL);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX *client = client_of_version(version);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            struct link link;
            link_start(&link, context, client, rows[i].name, NULL, NULL);
            link_shake(&link);
            CHECK_EQ_INT(link.server.handshake, ERROR_NONE);
            CHECK_EQ_STR(tls_client_server_name(&link.client), rows[i].shown);
            const struct tls_info *info = link.server.transport->tls;
            CHECK_EQ_INT(info->version, version);
            CHECK_EQ_STR(info->version_name.data,
                         version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
            CHECK_EQ_INT(info->server_name.length, rows[i].name ? strlen(rows[i].name) : 0);
            CHECK(slice_starts_with(info->server_cert_pem, SLICE("-----BEGIN CERTIFICATE-----")));
            CHECK(info->cipher == 0x1301 || info->cipher == 0x1302 || info->cipher == 0x1303 ||
                  info->cipher >> 8 == 0xc0 || info->cipher >> 8 == 0xcc);
            CHECK_EQ_INT(info->alpn.length, 0);
            CHECK(!info->resumed);
            link_end(&link);
        }
        SSL_CTX_free(client);
    }
    tls_context_unref(context);
}

TEST(tls_serves_rsa_and_ecdsa_for_one_name)
{
    make_certificates();
    struct tls_certificate_settings pairs[] = {pair("wild"), pair("main"), pair("rsa")};
    struct tls_settings settings = settings_with(pairs, 3);
    struct tls_context *context = context_of(&settings, NULL);
    static const char *const algorithms[] = {"ECDSA+SHA256", "RSA-PSS+SHA256"};
    static const char *const shown[] = {"main", "main-rsa"};
    for (int i = 0; i < 2; i++) {
        SSL_CTX *client = support_client_context();
        CHECK_EQ_INT(SSL_CTX_set1_sigalgs_list(client, algorithms[i]), 1);
        struct link link;
        link_start(&link, context, client, "main.example", NULL, NULL);
        link_shake(&link);
        CHECK_EQ_INT(link.server.handshake, ERROR_NONE);
        CHECK_EQ_STR(tls_client_server_name(&link.client), shown[i]);
        BIO *bio = BIO_new_mem_buf(link.server.transport->tls->server_cert_pem.data,
                                   (int)link.server.transport->tls->server_cert_pem.length);
        X509 *told = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        CHECK_EQ_INT(X509_cmp(told, SSL_get0_peer_certificate(link.client.ssl)), 0);
        X509_free(told);
        BIO_free(bio);
        link_end(&link);
        SSL_CTX_free(client);
    }
    tls_context_unref(context);
}

TEST(tls_refuses_unknown_names_when_asked)
{
    make_certificates();
    struct tls_certificate_settings pairs[] = {pair("main")};
    struct tls_settings settings = settings_with(pairs, 1);
    settings.reject_unknown_sni = true;
    struct tls_context *context = context_of(&settings, NULL);
    SSL_CTX *client = support_client_context();
    int64_t before = metrics_sum(METRIC_tls_unknown_names);
    struct link link;
    link_start(&link, context, client, "other.test", NULL, NULL);
    link_shake(&link);
    CHECK_EQ_INT(link.server.handshake, ERROR_PROTOCOL);
    CHECK_EQ_STR(transport_tls_failure(link.server.transport),
                 "no certificate for the server name");
    CHECK_EQ_INT(metrics_sum(METRIC_tls_unknown_names), before + 1);
    while (!link.client.failed) {
        CHECK(bench_run(&link.bench));
    }
    CHECK_EQ_INT(link.client.alert, SSL_AD_UNRECOGNIZED_NAME);
    link_end(&link);

    link_start(&link, context, client, "localhost", NULL, NULL);
    link_shake(&link);
    CHECK_EQ_INT(link.server.handshake, ERROR_NONE);
    link_end(&link);
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    CHECK_EQ_INT(link.server.handshake, ERROR_NONE);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_negotiates_alpn)
{
    static const struct {
        const char *offered;
        bool h1, h2;
        const char *chosen; /* NULL: refused */
    } rows[] = {
        {"\x02h2\x08http/1.1", true, true, "h2"},
        {"\x08http/1.1\x02h2", true, true, "h2"},
        {"\x02h2\x08http/1.1", true, false, "http/1.1"},
        {"\x08http/1.1", true, true, "http/1.1"},
        {"\x02h3\x02h2", false, true, "h2"},
        {"\x06spdy/1", true, true, NULL},
        {"\x02h2", true, false, NULL},
    };
    make_certificates();
    struct tls_certificate_settings pairs[] = {pair("main")};
    struct tls_settings settings = settings_with(pairs, 1);
    struct tls_context *context = context_of(&settings, NULL);
    SSL_CTX *client = support_client_context();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct link link;
        int fds[2];
        bench_init(&link.bench);
        tcp_pair(fds);
        server_start(&link.server, &link.bench, context, fds[0], rows[i].h1, rows[i].h2);
        tls_client_start(&link.client, link.bench.loop, client, fds[1], NULL, rows[i].offered,
                         NULL);
        link_shake(&link);
        if (rows[i].chosen != NULL) {
            CHECK_EQ_INT(link.server.handshake, ERROR_NONE);
            CHECK_EQ_STR(link.server.transport->tls->alpn.data, rows[i].chosen);
            const unsigned char *got;
            unsigned length;
            SSL_get0_alpn_selected(link.client.ssl, &got, &length);
            CHECK(
                slice_equal((struct slice){(const char *)got, length}, slice_from(rows[i].chosen)));
        } else {
            CHECK_EQ_INT(link.server.handshake, ERROR_PROTOCOL);
            while (!link.client.failed) {
                CHECK(bench_run(&link.bench));
            }
            CHECK_EQ_INT(link.client.alert, SSL_AD_NO_APPLICATION_PROTOCOL);
        }
        link_end(&link);
    }
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_keeps_to_its_versions)
{
    make_certificates();
    struct tls_certificate_settings pairs[] = {pair("main")};
    struct tls_settings settings = settings_with(pairs, 1);
    settings.min_version = 0x0304;
    struct tls_context *context = context_of(&settings, NULL);
    SSL_CTX *old = client_of_version(TLS1_2_VERSION);
    struct link link;
    link_start(&link, context, old, NULL, NULL, NULL);
    link_shake(&link);
    CHECK_EQ_INT(link.server.handshake, ERROR_PROTOCOL);
    link_end(&link);
    SSL_CTX_free(old);

    SSL_CTX *current = support_client_context();
    link_start(&link, context, current, NULL, NULL, NULL);
    link_shake(&link);
    CHECK_EQ_INT(link.server.handshake, ERROR_NONE);
    CHECK_EQ_STR(link.server.transport->tls->group_name.data, "X25519MLKEM768");
    link_end(&link);
    SSL_CTX_free(current);
    tls_context_unref(context);
}

/* Shakes hands, lets the ticket arrive, ends in order; returns whether the session was a resumed one. */
static bool visit(struct tls_context *context, SSL_CTX *client, SSL_SESSION *session,
                  const char *name)
{
    struct link link;
    link_start(&link, context, client, name, NULL, session);
    link_shake(&link);
    CHECK_EQ_INT(link.server.handshake, ERROR_NONE);
    bool resumed = link.server.transport->tls->resumed;
    CHECK_EQ_INT(resumed, SSL_session_reused(link.client.ssl));
    size_t length = 0;
    struct iovec vector = {(void *)(uintptr_t)"bye", 3};
    CHECK_EQ_INT(transport_writev(link.server.transport, &vector, 1, &length), ERROR_NONE);
    CHECK_EQ_INT(transport_shutdown(link.server.transport), ERROR_NONE);
    while (!link.client.ended) {
        CHECK(bench_run(&link.bench));
    }
    CHECK_EQ_INT(link.client.received_length, 3);
    link_end(&link);
    return resumed;
}

TEST(tls_resumes_in_another_context_with_the_keyring)
{
    make_certificates();
    struct tls_keyring *keyring = tls_keyring_new(HOUR, 24);
    struct tls_keyring *other_keyring = tls_keyring_new(HOUR, 24);
    struct tls_certificate_settings pairs[] = {pair("main"), pair("wild")};
    struct tls_settings settings = settings_with(pairs, 2);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_context *first = context_of(&settings, keyring);
        struct tls_context *second = context_of(&settings, keyring);
        struct tls_context *stranger = context_of(&settings, other_keyring);
        SSL_CTX *client = client_of_version(version);
        CHECK(!visit(first, client, NULL, "x.example.org"));
        SSL_SESSION *session = support_take_session();
        CHECK(session != NULL && SSL_SESSION_has_ticket(session));
        CHECK_EQ_INT(SSL_SESSION_get_ticket_lifetime_hint(session), 23 * 3600);
        CHECK(visit(second, client, session, "x.example.org"));
        CHECK(!visit(stranger, client, session, "x.example.org"));
        SSL_SESSION_free(session);
        SSL_SESSION_free(support_take_session());
        SSL_CTX_free(client);
        tls_context_unref(first);
        tls_context_unref(second);
        tls_context_unref(stranger);
    }
    tls_keyring_free(keyring);
    tls_keyring_free(other_keyring);
}

TEST(tls_gives_no_tickets_when_told)
{
    make_certificates();
    struct tls_keyring *keyring = tls_keyring_new(HOUR, 24);
    struct tls_certificate_settings pairs[] = {pair("main")};
    struct tls_settings settings = settings_with(pairs, 1);
    settings.tickets = 0;
    struct tls_context *context = context_of(&settings, keyring);
    SSL_CTX *client = support_client_context();
    SSL_SESSION_free(support_take_session());
    CHECK(!visit(context, client, NULL, NULL));
    CHECK(support_take_session() == NULL);
    SSL_CTX_free(client);
    tls_context_unref(context);
    tls_keyring_free(keyring);
}

/* --- client certificates -------------------------------------------------------------------------------------------- */

struct client_row {
    enum tls_verify verify;
    const char *certificate; /* NULL: none */
    enum error outcome;
};

TEST(tls_checks_client_certificates)
{
    static const struct client_row rows[] = {
        {TLS_VERIFY_NONE, "alice", ERROR_NONE},
        {TLS_VERIFY_OPTIONAL, NULL, ERROR_NONE},
        {TLS_VERIFY_OPTIONAL, "alice", ERROR_NONE},
        {TLS_VERIFY_OPTIONAL, "mallory", ERROR_PROTOCOL},
        {TLS_VERIFY_REQUIRED, NULL, ERROR_PROTOCOL},
        {TLS_VERIFY_REQUIRED, "alice", ERROR_NONE},
        {TLS_VERIFY_REQUIRED, "mallory", ERROR_PROTOCOL},
        {TLS_VERIFY_REQUIRED, "late", ERROR_PROTOCOL},
    };
    make_certificates();
    struct authority authority =
        support_issue(&(struct wish){"Test CA", NULL, KEY_EC, 0, 0, true}, NULL);
    support_write_certificate("ca.pem", authority.certificate, NULL);
    support_pair("alice", &(struct wish){"Alice, \xc3\x84", NULL, KEY_EC, 0, 0, 0}, &authority);
    support_pair("late", &(struct wish){"late", NULL, KEY_EC, -7200, -3600, 0}, &authority);
    support_pair("mallory", &(struct wish){"Mallory", NULL, KEY_EC, 0, 0, 0}, NULL);
    support_authority_done(&authority);
    struct tls_certificate_settings pairs[] = {pair("main")};
    char ca[128];
    strcpy(ca, support_path("ca.pem"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            struct tls_settings settings = settings_with(pairs, 1);
            settings.verify = rows[i].verify;
            settings.client_ca = slice_from(ca);
            struct tls_context *context = context_of(&settings, NULL);
            SSL_CTX *client = client_of_version(version);
            if (rows[i].certificate != NULL) {
                struct tls_certificate_settings own = pair(rows[i].certificate);
                CHECK_EQ_INT(SSL_CTX_use_certificate_chain_file(client, own.cert.data), 1);
                CHECK_EQ_INT(SSL_CTX_use_PrivateKey_file(client, own.key.data, SSL_FILETYPE_PEM),
                             1);
            }
            struct link link;
            link_start(&link, context, client, NULL, NULL, NULL);
            link_shake(&link);
            CHECK_EQ_INT(link.server.handshake, rows[i].outcome);
            if (rows[i].outcome == ERROR_NONE) {
                const struct tls_info *info = link.server.transport->tls;
                bool given = rows[i].certificate != NULL && rows[i].verify != TLS_VERIFY_NONE;
                CHECK_EQ_STR(given ? info->client_name.data : "none",
                             given ? "CN=Alice\\, \xc3\x84" : "none");
                CHECK_EQ_INT(info->client_chain_pem.length > 0, given);
                const char *leaf = info->client_chain_pem.data;
                CHECK(!given || strstr(leaf + 1, "-----BEGIN CERTIFICATE-----") != NULL);
            }
            link_end(&link);
            SSL_CTX_free(client);
            tls_context_unref(context);
        }
    }
}

TEST(tls_resumption_keeps_the_client_but_not_across_policies)
{
    make_certificates();
    struct authority authority =
        support_issue(&(struct wish){"Test CA", NULL, KEY_EC, 0, 0, true}, NULL);
    support_write_certificate("ca2.pem", authority.certificate, NULL);
    support_pair("bob", &(struct wish){"Bob", NULL, KEY_EC, 0, 0, 0}, &authority);
    support_authority_done(&authority);
    char ca[128];
    strcpy(ca, support_path("ca2.pem"));
    struct tls_certificate_settings pairs[] = {pair("main")}, own = pair("bob");
    struct tls_keyring *keyring = tls_keyring_new(HOUR, 24);
    struct tls_settings settings = settings_with(pairs, 1);
    settings.client_ca = slice_from(ca);
    settings.verify = TLS_VERIFY_OPTIONAL;
    struct tls_context *optional = context_of(&settings, keyring);
    settings.verify = TLS_VERIFY_REQUIRED;
    struct tls_context *required = context_of(&settings, keyring);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX *anonymous = client_of_version(version), *bob = client_of_version(version);
        CHECK_EQ_INT(SSL_CTX_use_certificate_chain_file(bob, own.cert.data), 1);
        CHECK_EQ_INT(SSL_CTX_use_PrivateKey_file(bob, own.key.data, SSL_FILETYPE_PEM), 1);

        CHECK(!visit(required, bob, NULL, NULL));
        SSL_SESSION *session = support_take_session();
        struct link link;
        link_start(&link, required, bob, NULL, NULL, session);
        link_shake(&link);
        CHECK_EQ_INT(link.server.handshake, ERROR_NONE);
        CHECK(link.server.transport->tls->resumed);
        CHECK_EQ_STR(link.server.transport->tls->client_name.data, "CN=Bob");
        link_end(&link);
        SSL_SESSION_free(session);

        /* A session made without a certificate must not open the door that asks for one. */
        CHECK(!visit(optional, anonymous, NULL, NULL));
        session = support_take_session();
        CHECK(session != NULL);
        link_start(&link, required, anonymous, NULL, NULL, session);
        link_shake(&link);
        CHECK(link.server.handshake == ERROR_PROTOCOL);
        link_end(&link);
        SSL_SESSION_free(session);
        SSL_SESSION_free(support_take_session());
        SSL_CTX_free(anonymous);
        SSL_CTX_free(bob);
    }
    tls_context_unref(optional);
    tls_context_unref(required);
    tls_keyring_free(keyring);
}

/* --- data ----------------------------------------------------------------------------------------------------------- */

static struct tls_context *simple_context(unsigned updates)
{
    make_certificates();
    struct tls_certificate_settings pairs[] = {pair("main")};
    struct tls_settings settings = settings_with(pairs, 1);
    settings.key_updates_per_second = updates;
    return context_of(&settings, NULL);
}

TEST(tls_carries_data_through_a_full_socket)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    struct link link;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    REQUIRE(loop_io_set(&link.client.io, 0) == ERROR_NONE); /* read by hand below */
    struct transport *transport = link.server.transport;
    shrink_buffers(transport->io.fd);
    size_t size = 1u << 20, sent = 0, got = 0;
    uint8_t *data = malloc(size), *back = malloc(size);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 31 + (i >> 9));
    }
    unsigned waits = 0;
    while (sent < size || got < size) {
        /* Many small vectors, as a queue of chunks gives; some of them empty. */
        struct iovec vectors[40];
        size_t at = sent, count = 0, length = 0;
        for (; count < 40 && at < size; count++) {
            size_t part = count % 7 == 3 ? 0 : 1 + count * 997 % 3000;
            part = part < size - at ? part : size - at;
            vectors[count] = (struct iovec){data + at, part};
            at += part;
        }
        enum error error =
            at > sent ? transport_writev(transport, vectors, count, &length) : ERROR_AGAIN;
        if (error == ERROR_NONE) {
            CHECK(length > 0 && length <= at - sent);
            sent += length;
            continue;
        }
        CHECK_EQ_INT(error, ERROR_AGAIN);
        waits++;
        size_t part = 0;
        while (got < size && SSL_read_ex(link.client.ssl, back + got, size - got, &part) == 1) {
            got += part;
        }
        if (sent < size) {
            link.server.stop_when_ready = true;
            link.server.events = 0;
            CHECK_EQ_INT(transport_want(transport, TRANSPORT_READ_ON, true), ERROR_NONE);
            CHECK(bench_run(&link.bench));
            CHECK_EQ_INT(link.server.events, LOOP_WRITE);
        }
    }
    CHECK(waits > 1);
    CHECK_EQ_MEM(back, data, size);
    CHECK_EQ_INT(transport->bytes_out, size);
    free(data);
    free(back);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

static size_t record_sizes[512], record_count;

static void note_record(int written, int version, int type, const void *bytes, size_t length,
                        SSL *ssl, void *argument)
{
    (void)version, (void)ssl, (void)argument;
    const uint8_t *data = bytes;
    if (!written && type == SSL3_RT_HEADER && length >= 5 && data[0] == 23 && record_count < 512) {
        record_sizes[record_count++] = (size_t)data[3] << 8 | data[4];
    }
}

TEST(tls_records_grow)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    SSL_CTX_set_msg_callback(client, note_record);
    struct link link;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    REQUIRE(loop_io_set(&link.client.io, 0) == ERROR_NONE);
    static uint8_t block[65536 + 4 * 16384];
    size_t sent = 0, got = 0, part = 0;
    static uint8_t scratch[16384];
    record_count = 0;
    while (got < sizeof(block)) {
        struct iovec vector = {block + sent, sizeof(block) - sent};
        if (sent < sizeof(block) &&
            transport_writev(link.server.transport, &vector, 1, &part) == ERROR_NONE) {
            sent += part;
        }
        while (SSL_read_ex(link.client.ssl, scratch, sizeof(scratch), &part) == 1) {
            got += part;
        }
    }
    CHECK_EQ_INT(record_count, 16 + 4);
    for (size_t i = 0; i < record_count; i++) {
        size_t payload = i < 16 ? 4096 : 16384;
        CHECK(record_sizes[i] > payload && record_sizes[i] <= payload + 32);
    }
    /* Small pieces are gathered into one record. */
    record_count = 0;
    struct iovec pieces[100];
    for (size_t i = 0; i < 100; i++) {
        pieces[i] = (struct iovec){block, 100};
    }
    CHECK_EQ_INT(transport_writev(link.server.transport, pieces, 100, &part), ERROR_NONE);
    CHECK_EQ_INT(part, 10000);
    got = 0;
    while (got < 10000) {
        if (SSL_read_ex(link.client.ssl, scratch, sizeof(scratch), &part) == 1) {
            got += part;
        }
    }
    CHECK_EQ_INT(record_count, 1);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_says_what_may_be_buffered)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    struct link link;
    char buffer[64];
    size_t length = 0;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    struct transport *transport = link.server.transport;
    CHECK(!transport_buffered(transport));
    CHECK_EQ_INT(SSL_write(link.client.ssl, "abcdef", 6), 6);
    CHECK_EQ_INT(SSL_write(link.client.ssl, "ghi", 3), 3);
    link.server.stop_when_ready = true;
    CHECK(bench_run(&link.bench));
    CHECK_EQ_INT(transport_read(transport, buffer, 4, &length), ERROR_NONE);
    CHECK_EQ_INT(length, 4);
    CHECK(
        transport_buffered(transport)); /* "ef" and "ghi" are inside OpenSSL, the socket is empty */
    size_t got = 4;
    while (transport_read(transport, buffer + got, sizeof(buffer) - got, &length) == ERROR_NONE) {
        got += length;
    }
    CHECK_EQ_INT(got, 9);
    CHECK_EQ_MEM(buffer, "abcdefghi", 9);
    CHECK(!transport_buffered(transport));
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_ends_clean_or_not)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    for (int clean = 0; clean < 2; clean++) {
        struct link link;
        char byte;
        size_t length = 0;
        link_start(&link, context, client, NULL, NULL, NULL);
        link_shake(&link);
        if (clean) {
            CHECK_EQ_INT(SSL_shutdown(link.client.ssl), 0);
        }
        shutdown(link.client.io.fd, SHUT_WR);
        link.server.stop_when_ready = true;
        CHECK(bench_run(&link.bench));
        CHECK_EQ_INT(transport_read(link.server.transport, &byte, 1, &length), ERROR_CLOSED);
        CHECK_EQ_INT(transport_clean_end(link.server.transport), clean);
        link_end(&link);
    }
    struct link link;
    char byte;
    size_t length = 0;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    CHECK_EQ_INT(transport_want(link.server.transport, TRANSPORT_READ_WATCH, false), ERROR_NONE);
    struct linger now = {1, 0};
    setsockopt(link.client.io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    int fd = link.client.io.fd;
    loop_io_done(&link.client.io);
    close(fd);
    link.client.io.fd = -1;
    link.server.stop_when_ready = true;
    link.server.events = 0;
    CHECK(bench_run(&link.bench));
    CHECK(link.server.events & LOOP_CLOSED);
    CHECK_EQ_INT(transport_peer_state(link.server.transport), ERROR_IO);
    CHECK_EQ_INT(transport_read(link.server.transport, &byte, 1, &length), ERROR_IO);
    CHECK_EQ_INT(transport_shutdown(link.server.transport), ERROR_IO);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_bounds_key_updates)
{
    struct tls_context *context = simple_context(20);
    SSL_CTX *client = client_of_version(TLS1_3_VERSION);
    int64_t before = metrics_sum(METRIC_tls_message_floods);
    struct link link;
    char buffer[64];
    size_t length = 0;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    enum error error = ERROR_AGAIN;
    unsigned updates = 0;
    for (; updates < 200 && error == ERROR_AGAIN; updates++) {
        CHECK_EQ_INT(SSL_key_update(link.client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        CHECK_EQ_INT(SSL_do_handshake(link.client.ssl), 1);
        error = transport_read(link.server.transport, buffer, sizeof(buffer), &length);
    }
    CHECK_EQ_INT(error, ERROR_IO);
    CHECK(updates > 20 && updates <= 40); /* a second may end in between */
    CHECK_EQ_STR(transport_tls_failure(link.server.transport), "too many KeyUpdate messages");
    CHECK_EQ_INT(metrics_sum(METRIC_tls_message_floods), before + 1);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_takes_some_key_updates)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = client_of_version(TLS1_3_VERSION);
    struct link link;
    char buffer[64];
    size_t length = 0;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ_INT(SSL_key_update(link.client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        CHECK_EQ_INT(SSL_write(link.client.ssl, "x", 1), 1);
        enum error error;
        do {
            error = transport_read(link.server.transport, buffer, sizeof(buffer), &length);
        } while (error == ERROR_AGAIN);
        CHECK_EQ_INT(error, ERROR_NONE);
        struct iovec vector = {(void *)(uintptr_t)"y", 1};
        CHECK_EQ_INT(transport_writev(link.server.transport, &vector, 1, &length), ERROR_NONE);
    }
    link.client.stop_after = 10;
    CHECK(bench_run(&link.bench));
    CHECK_EQ_MEM(link.client.received, "yyyyyyyyyy", 10);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_answers_plain_http)
{
    struct tls_context *context = simple_context(100);
    struct bench bench;
    struct server server;
    int fds[2];
    char answer[512] = "";
    bench_init(&bench);
    tcp_pair(fds);
    server_start(&server, &bench, context, fds[0], true, false);
    server.stop_when_done = true;
    CHECK_EQ_INT(write(fds[1], "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27), 27);
    CHECK(bench_run(&bench));
    CHECK_EQ_INT(server.handshake, ERROR_PROTOCOL);
    CHECK_EQ_STR(transport_tls_failure(server.transport), "plain HTTP sent to a TLS port");
    transport_destroy(server.transport, false);
    ssize_t length = read(fds[1], answer, sizeof(answer) - 1);
    CHECK(length > 0);
    const char *body = strstr(answer, "\r\n\r\n");
    CHECK(strncmp(answer, "HTTP/1.1 400 ", 13) == 0 && body != NULL);
    CHECK_EQ_INT(atoi(strstr(answer, "Content-Length: ") + 16), strlen(body + 4));
    close(fds[1]);
    bench_done(&bench);
    tls_context_unref(context);
}

/* Every allocation of ours on the way of a connection fails once: the handshake fails or goes on, and nothing is lost. */
TEST(tls_survives_failing_allocations)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    visit(context, client, NULL, "localhost"); /* what OpenSSL keeps for good is made now */
    uint64_t live = mem_live();
    bool reached_end = false;
    for (uint64_t n = 1; n < 20 && !reached_end; n++) {
        struct bench bench;
        int fds[2];
        bench_init(&bench);
        tcp_pair(fds);
        mem_fail_nth(n, 0);
        uint64_t made = mem_made();
        struct transport *transport =
            transport_tls_new(bench.loop, fds[0], &no_addr, &no_addr, context, true, true);
        reached_end = mem_made() - made < n;
        mem_fail_nth(0, 0);
        if (transport != NULL) {
            transport_destroy(transport, false);
        } else {
            char byte;
            CHECK_EQ_INT(read(fds[1], &byte, 1), 0);
        }
        close(fds[1]);
        bench_done(&bench);
    }
    CHECK(reached_end);
    CHECK_EQ_INT(mem_live(), live);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

CHECK_MAIN
