/* SPDX-License-Identifier: MIT */
/* TLS against an OpenSSL client in the same process: names, versions, ALPN, tickets, client certificates. */
#include "check.h"

#include <openssl/pem.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "net/transport_tls.h"
#include "tls_link.h"

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

CHECK_MAIN
