/* SPDX-License-Identifier: MIT */
/* The one place that knows both QUIC's endpoint and the server's loops. */
#include "server_quic.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "h3/h3_conn.h"
#include "h3/quic_endpoint.h"
#include "net/transport.h"
#include "server_client.h"
#include "server_generation.h"
#include "server_loop.h"

/* Steps of an upgrade, and what a server may take beyond its drain_timeout. */
#define OLDER_SERVER_GRACE (30 * CLOCK_NS_PER_S)

/* --- who a client is ------------------------------------------------------------------------------ */

static struct server_client *describe(struct server_loop *server_loop,
                                      struct server_generation *generation,
                                      const struct quic_conn *quic, struct conn_identity *identity)
{
    struct server_client *client = server_client_new(server_loop, generation, quic_conn_peer(quic),
                                                     quic_conn_local(quic), identity);

    identity->secure = true;
    if (client != NULL) {
        client->quic = true;
    }
    if (client != NULL && quic_conn_tls(quic) != NULL) {
        server_client_tls(identity, quic_conn_tls(quic));
    }
    return client;
}

/* Without memory the connection stays who it was. */
static void identify(struct conn *conn, const struct quic_conn *quic)
{
    struct server_client *old = conn->identity.user;
    struct server *server = old->server_loop->server;
    struct conn_identity identity = conn->identity;

    if (describe(old->server_loop, old->generation, quic, &identity) != NULL) {
        if (!slice_equal(identity.client_chain_pem, conn->identity.client_chain_pem)) {
            /* Workers that had a request of early data know it without its client's certificate. */
            app_loop_conn_closed(&server->apps->app_loops[old->server_loop->index], conn);
        }
        conn->identity = identity;
        server_client_bury(old);
    } else {
        log_warning("server", "out of memory: a client's new address is not noted");
    }
}

static enum error on_connection(void *context, struct quic_conn *quic,
                                const struct quic_user_ops **ret_ops, void **ret_user)
{
    struct server_loop *server_loop = context;
    struct server_generation *generation = server_loop->generation;
    struct conn_identity identity = {0};
    struct server_client *client =
        server_loop->closed ? NULL : describe(server_loop, generation, quic, &identity);

    if (client == NULL) {
        return ERROR_NO_MEMORY;
    }
    enum error error = h3_conn_new(&server_loop->group, quic, &identity, &generation->config->h3,
                                   identify, ret_ops, ret_user);
    if (error != ERROR_NONE) {
        server_client_free(client);
    }
    return error;
}

/* --- life ----------------------------------------------------------------------------------------- */

enum error server_quic_init(struct server *server)
{
    const struct server_inputs *inputs = server->inputs;
    char text[256];

    if (inputs->endpoints->datagram_count == 0) {
        return ERROR_NONE;
    }
    struct quic_server_settings settings = {
        .settings = inputs->config->quic,
        .limits = &server->limits,
        .tls = inputs->tls,
        .generation = inputs->quic_generation,
        .loops = inputs->loops,
    };
    /* Beside an older one, which drains for so long at most and to which nothing leads. */
    if (server->standby && inputs->quic_older_count == 0) {
        settings.others_until =
            clock_now() + inputs->config->gateway.drain_timeout + OLDER_SERVER_GRACE;
    }
    memcpy(settings.secret, inputs->quic_secret, sizeof(settings.secret));
    enum error error = quic_server_new(&settings, &server->quic, text, sizeof(text));
    explicit_bzero(settings.secret, sizeof(settings.secret));
    if (error != ERROR_NONE && error != ERROR_NO_MEMORY) {
        log_error("server", "%s", text);
    }
    return error;
}

enum error server_quic_listen(struct server_loop *server_loop)
{
    struct server *server = server_loop->server;
    struct quic_acceptor acceptor = {on_connection, server_loop};

    if (server->quic == NULL) {
        return ERROR_NONE;
    }
    server_loop->quic = quic_endpoint_new(server->quic, server_loop->loop, &acceptor);
    if (server_loop->quic == NULL) {
        return ERROR_NO_MEMORY;
    }
    return server->standby ? ERROR_NONE : server_quic_open(server_loop);
}

enum error server_quic_open(struct server_loop *server_loop)
{
    struct endpoints *endpoints = server_loop->server->inputs->endpoints;

    if (server_loop->quic == NULL) {
        return ERROR_NONE;
    }
    for (size_t i = 0; i < endpoints->datagram_count; i++) {
        struct listener_socket *socket = &endpoints->datagrams[i];
        if (socket->loop != server_loop->index) {
            continue;
        }
        if (quic_endpoint_add(server_loop->quic, socket->fd, &socket->addr) != ERROR_NONE) {
            return ERROR_NO_MEMORY;
        }
        socket->fd = -1; /* the endpoint's now */
    }
    return ERROR_NONE;
}

void server_quic_yield(struct server_loop *server_loop)
{
    if (server_loop->quic != NULL) {
        quic_endpoint_yield(server_loop->quic);
    }
}

void server_quic_drain(struct server_loop *server_loop)
{
    if (server_loop->quic != NULL) {
        quic_endpoint_drain(server_loop->quic);
    }
}

void server_quic_retire(struct server_loop *server_loop)
{
    if (server_loop->quic != NULL) {
        quic_endpoint_drain(server_loop->quic);
        quic_endpoint_retire(server_loop->quic);
    }
}

void server_quic_hold(struct server_loop *server_loop, bool hold)
{
    if (server_loop->quic != NULL) {
        quic_endpoint_hold(server_loop->quic, hold);
    }
}

void server_quic_close(struct server_loop *server_loop)
{
    if (server_loop->quic != NULL) {
        quic_endpoint_close(server_loop->quic);
    }
}

void server_quic_done(struct server_loop *server_loop)
{
    quic_endpoint_free(server_loop->quic);
    server_loop->quic = NULL;
}
