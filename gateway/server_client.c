/* SPDX-License-Identifier: MIT */
/* Records of client connections. Knows no codec. */
#include "server_client.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "config/config.h"
#include "net/transport.h"
#include "server_generation.h"
#include "server_loop.h"

static bool is_trusted(const struct config *config, const struct addr *addr)
{
    for (size_t i = 0; i < config->trusted_count; i++) {
        if (addr_network_contains(&config->trusted[i], addr)) {
            return true;
        }
    }
    return false;
}

struct server_client *server_client_new(struct server_loop *server_loop,
                                        struct server_generation *generation,
                                        const struct addr *peer, const struct addr *local,
                                        struct conn_identity *identity)
{
    char peer_text[ADDR_TEXT_SIZE], local_text[ADDR_TEXT_SIZE];
    size_t peer_length = addr_is_unix(peer) ? 0 : addr_format_host(peer, peer_text);
    size_t local_length = addr_format_host(local, local_text);
    struct server_client *client = mem_alloc(sizeof(*client) + peer_length + local_length);

    if (client == NULL) {
        return NULL;
    }
    client->grave = (struct loop_grave){0};
    client->server_loop = server_loop;
    client->generation = server_generation_hold(generation, server_loop->index);
    client->peer = *peer;
    client->quic = false;
    client->alt_svc[0] = 0;
    memcpy(client->text, peer_text, peer_length);
    memcpy(client->text + peer_length, local_text, local_length);
    identity->client_host = (struct slice){client->text, peer_length};
    identity->server_host = (struct slice){client->text + peer_length, local_length};
    identity->client_port = addr_port(peer);
    identity->server_port = addr_port(local);
    identity->unix_peer = addr_is_unix(peer);
    identity->trusted_proxy = is_trusted(generation->config, peer);
    identity->user = client;
    return client;
}

void server_client_tls(struct conn_identity *identity, const struct tls_info *tls)
{
    identity->secure = true;
    identity->tls_version = tls->version;
    identity->tls_cipher = tls->cipher;
    identity->tls_version_name = tls->version_name;
    identity->tls_cipher_name = tls->cipher_name;
    identity->server_name = tls->server_name;
    identity->server_cert_pem = tls->server_cert_pem;
    identity->client_chain_pem = tls->client_chain_pem;
    identity->client_name = tls->client_name;
}

void server_client_announce(struct server_client *client, struct conn_identity *identity,
                            unsigned port, uint64_t max_age)
{
    int length = snprintf(client->alt_svc, sizeof(client->alt_svc), "h3=\":%u\"; ma=%llu", port,
                          (unsigned long long)(max_age / CLOCK_NS_PER_S));

    REQUIRE(length > 0 && (size_t)length < sizeof(client->alt_svc));
    identity->alt_svc = (struct slice){client->alt_svc, (size_t)length};
}

void server_client_free(struct server_client *client)
{
    server_generation_release(client->generation, client->server_loop->index);
    mem_free(client);
}

static void free_buried(struct loop_grave *grave)
{
    server_client_free(LIST_CONTAINER(grave, struct server_client, grave));
}

void server_client_bury(struct server_client *client)
{
    loop_bury(client->server_loop->loop, &client->grave, free_buried);
}
