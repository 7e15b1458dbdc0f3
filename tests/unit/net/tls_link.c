/* SPDX-License-Identifier: MIT */
/* A TLS connection with both its ends in one loop. What fails here ends the program: it is never what is tested. */
#include "tls_link.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

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

void server_start(struct server *server, struct bench *bench, struct tls_context *context, int fd,
                  bool h1, bool h2)
{
    memset(server, 0, sizeof(*server));
    server->bench = bench;
    server->handshake = ERROR_AGAIN;
    server->transport = transport_tls_new(bench->loop, fd, &no_addr, &no_addr, context, h1, h2);
    REQUIRE(server->transport != NULL);
    server->transport->on_ready = server_on_ready;
    server->transport->user = server;
    REQUIRE(transport_want(server->transport, TRANSPORT_READ_ON, false) == ERROR_NONE);
}

/* The two files of a certificate; the texts stay for the whole program. */
struct tls_certificate_settings pair(const char *base)
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

struct tls_settings settings_with(const struct tls_certificate_settings *certificates, size_t count)
{
    return (struct tls_settings){.certificates = certificates,
                                 .certificate_count = count,
                                 .min_version = 0x0303,
                                 .ticket_key_life_ns = HOUR,
                                 .ticket_keys_kept = 24,
                                 .key_updates_per_second = 100,
                                 .tickets = 1};
}

struct tls_context *context_of(const struct tls_settings *settings, struct tls_keyring *keyring)
{
    char text[512] = "";
    struct tls_context *context = NULL;
    if (tls_context_new(settings, keyring, &context, text, sizeof(text)) != ERROR_NONE) {
        printf("# %s\n", text);
        REQUIRE(!"tls_context_new");
    }
    return context;
}

void link_start(struct link *link, struct tls_context *context, SSL_CTX *client_context,
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
void link_shake(struct link *link)
{
    link->client.stop_when_connected = true;
    link->server.stop_when_done = true;
    while ((link->server.handshake == ERROR_AGAIN) ||
           (!link->client.connected && !link->client.failed)) {
        REQUIRE(bench_run(&link->bench));
        REQUIRE(!link->client.ended || link->server.handshake != ERROR_AGAIN);
        if (link->client.failed && link->server.handshake == ERROR_AGAIN) {
            continue;
        }
        if (link->server.handshake != ERROR_AGAIN && link->server.handshake != ERROR_NONE) {
            break;
        }
    }
    link->client.stop_when_connected = false;
}

void link_end(struct link *link)
{
    transport_destroy(link->server.transport, false);
    tls_client_done(&link->client);
    bench_done(&link->bench);
}

SSL_CTX *client_of_version(int version)
{
    SSL_CTX *context = support_client_context();
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    return context;
}

void make_certificates(void)
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
