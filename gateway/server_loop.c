/* SPDX-License-Identifier: MIT */
/*
 * What happens in a loop's thread: an accepted transport becomes a connection of the codec that was
 * negotiated, and the orders of the main thread are carried out.
 */
#include "server_loop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/app_reload.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "h1/h1_conn.h"
#include "h2/h2_conn.h"
#include "net/tls_context.h"
#include "net/transport.h"
#include "server_admin.h"
#include "server_client.h"
#include "server_generation.h"
#include "server_listeners.h"
#include "server_older.h"
#include "server_quic.h"
#include "server_reload.h"
#include "server_upgrade.h"

/* While draining, connections that became idle since are looked for so often. */
#define IDLE_AGAIN CLOCK_NS_PER_S

/* A connection that could not be made: what it took is given back. */
static void give_up(struct server_loop *server_loop, struct server_client *client)
{
    listener_connection_closed(&server_loop->server->limits, &client->peer);
    server_client_free(client);
}

/* Whether a client speaks HTTP/2 from the first byte: by ALPN, or because nothing else is served
 * here. On a plain listener with both, the preface tells (on_preface). */
static bool begins_with_h2(const struct transport *transport,
                           const struct listener_settings *settings)
{
    if (transport->tls != NULL) {
        return slice_equal(transport->tls->alpn, SLICE("h2"));
    }
    return settings->h2 && !settings->h1;
}

static void on_preface(struct conn_group *group, struct transport *transport,
                       const struct conn_identity *identity, struct slice bytes, void *context)
{
    struct server_loop *server_loop = context;
    struct server_client *client = identity->user;
    const struct config *config = client->generation->config;

    if (h2_conn_new(group, transport, identity, &config->h2, bytes) != ERROR_NONE) {
        give_up(server_loop, client);
    }
}

void server_loop_accept(void *context, struct transport *transport,
                        const struct listener_settings *settings)
{
    struct server_loop *server_loop = context;
    struct server *server = server_loop->server;
    struct server_generation *generation = server_loop->generation;
    const struct config *config = generation->config;
    struct addr peer = transport->peer;
    struct conn_identity identity = {0};

    if (settings->redirect_https) {
        identity.redirect_port = generation->redirect_port;
    }
    struct server_client *client =
        server_loop->closed ? NULL
                            : server_client_new(server_loop, generation, &transport->peer,
                                                &transport->local, &identity);
    if (client == NULL) {
        transport_destroy(transport, true);
        listener_connection_closed(&server->limits, &peer);
        return;
    }
    if (transport->tls != NULL) {
        server_client_tls(&identity, transport->tls);
    }
    if (transport->tls != NULL && settings->h3 && server_loop->quic != NULL &&
        config->h3.alt_svc_max_age > 0) {
        unsigned port = (unsigned)config->h3.alt_svc_port;
        server_client_announce(client, &identity, port != 0 ? port : identity.server_port,
                               config->h3.alt_svc_max_age);
    }
    bool h2 = begins_with_h2(transport, settings);
    if (!h2 && !settings->h1) { /* TLS without ALPN where HTTP/1.1 is switched off */
        transport_destroy(transport, false);
        give_up(server_loop, client);
        return;
    }
    identity.prior_knowledge = settings->h2 && transport->tls == NULL;
    enum error error =
        h2 ? h2_conn_new(&server_loop->group, transport, &identity, &config->h2, SLICE(""))
           : h1_conn_new(&server_loop->group, transport, &identity, &config->h1);
    if (error != ERROR_NONE) {
        give_up(server_loop, client);
    }
}

static void on_closed(struct conn_group *group, struct conn *conn, void *context)
{
    struct server_loop *server_loop = context;
    struct server *server = server_loop->server;
    struct server_client *client = conn->identity.user;

    (void)group;
    app_loop_conn_closed(&server->apps->app_loops[server_loop->index], conn);
    if (!client->quic) { /* QUIC's endpoint counts its connections itself */
        listener_connection_closed(&server->limits, &client->peer);
    }
    server_client_bury(client);
}

/* --- orders --- */

static void on_idle_timer(struct loop_timer *timer)
{
    struct server_loop *server_loop = LIST_CONTAINER(timer, struct server_loop, idle_timer);

    conn_group_drain(&server_loop->group, true);
    if (loop_timer_set(timer, IDLE_AGAIN) != ERROR_NONE) {
        log_warning("server", "out of memory: idle connections may wait for the drain's deadline");
    }
}

static void drain(struct server_loop *server_loop, bool shared)
{
    uint64_t idle = server_loop->generation->config->gateway.drain_idle;

    shared ? server_listeners_stop(server_loop) : server_listeners_drain(server_loop);
    if (shared) {
        server_quic_yield(server_loop);
    }
    if (shared && server_loop->index == 0) {
        server_admin_retire(server_loop->server);
    }
    shared ? server_quic_retire(server_loop) : server_quic_drain(server_loop);
    conn_group_drain(&server_loop->group, idle == 0);
    apps_drain_loop(server_loop->server->apps, server_loop->index);
    if (loop_timer_set(&server_loop->idle_timer, idle) != ERROR_NONE) {
        conn_group_drain(&server_loop->group, true);
    }
}

static void apply_pressure(struct server_loop *server_loop)
{
    enum pressure level = server_loop->server->pressure;

    conn_group_set_pressure(&server_loop->group, level);
    server_listeners_hold(server_loop,
                          level >= PRESSURE_PAUSE_ACCEPT || server_loop->server->standby);
    server_quic_hold(server_loop, level >= PRESSURE_PAUSE_ACCEPT);
}

static void prepare(struct server_loop *server_loop)
{
    struct server_change *change = server_loop->server->change;

    if (server_listeners_add(server_loop, change->listeners, change->listener_count,
                             change->generation) != ERROR_NONE) {
        atomic_store(&change->failed, true);
    }
}

/* After the main thread has made the new generation the present one. */
static void apply(struct server_loop *server_loop)
{
    struct server *server = server_loop->server;
    const struct server_change *change = server->change;
    const struct server_generation *generation = server_loop->generation;

    server_loop->group.settings = &generation->config->http;
    server_loop->group.access_log = generation->access_log;
    server_listeners_apply(server_loop, change->listeners, change->listener_count, generation);
    apps_apply_loop(server->apps, server_loop->index);
    if (server_loop->index == 0) {
        server_admin_apply(server);
    }
    apply_pressure(server_loop);
}

static void sweep(struct server_loop *server_loop)
{
    struct server *server = server_loop->server;
    uint64_t patience = server_loop->generation->config->gateway.drain_timeout;
    uint64_t now = loop_now(server_loop->loop);

    if (server_listeners_sweep(server_loop)) {
        atomic_fetch_add(&server->open_listeners, 1);
    }
    apps_sweep_loop(server->apps, server_loop->index, now > patience ? now - patience : 0);
    for (struct server_generation *older = server->generation->older; older != NULL;
         older = older->older) {
        older->idle[server_loop->index] = older->apps.users[server_loop->index].count == 0;
    }
}

void server_loop_close(struct server_loop *server_loop)
{
    struct server *server = server_loop->server;

    server_loop->closed = true;
    loop_timer_clear(&server_loop->idle_timer);
    if (server_loop->index == 0) {
        server_admin_done(server);
        server_older_stop(server);
    }
    conn_group_destroy_all(&server_loop->group);
    server_quic_close(server_loop);
    server_listeners_close(server_loop);
    if (server->apps != NULL) {
        apps_stop_loop(server->apps, server_loop->index);
    }
}

static void carry_out(struct server_loop *server_loop)
{
    struct server *server = server_loop->server;

    switch (server_loop->order_kind) {
    case SERVER_ORDER_PRESSURE:
        apply_pressure(server_loop);
        break;
    case SERVER_ORDER_DRAIN:
    case SERVER_ORDER_RETIRE:
        drain(server_loop, server_loop->order_kind == SERVER_ORDER_RETIRE);
        break;
    case SERVER_ORDER_REPORT:
        atomic_fetch_add(&server->open_listeners, server_listeners_open(server_loop));
        break;
    case SERVER_ORDER_CLOSE:
        server_loop_close(server_loop);
        break;
    case SERVER_ORDER_BARRIER:
        break;
    case SERVER_ORDER_PREPARE:
        prepare(server_loop);
        break;
    case SERVER_ORDER_ABANDON:
        server_listeners_abandon(server_loop);
        break;
    case SERVER_ORDER_APPLY:
        server_park(server);
        apply(server_loop);
        break;
    case SERVER_ORDER_PARK:
        server_park(server);
        break;
    case SERVER_ORDER_RELEASE:
        server_listeners_release(server_loop);
        break;
    case SERVER_ORDER_SWEEP:
        sweep(server_loop);
        break;
    default:
        server_upgrade_order(server_loop);
    }
}

static void order_deliver(struct mail *mail, struct loop *loop)
{
    struct server_loop *server_loop = LIST_CONTAINER(mail, struct server_loop, order);
    struct server *server = server_loop->server;

    (void)loop;
    carry_out(server_loop);
    if (atomic_fetch_sub(&server->unanswered, 1) == 1) {
        server_wake(server);
    }
}

static void order_discard(struct mail *mail)
{
    (void)mail; /* a part of the server_loop */
}

void server_loop_order(struct server_loop *server_loop, enum server_order order)
{
    server_loop->order_kind = order;
    mailbox_post(server_loop->loop, &server_loop->order);
}

/* --- life --- */

enum error server_loop_init(struct server_loop *server_loop, struct server *server, unsigned index)
{
    const struct config *config = server->generation->config;

    server_loop->server = server;
    server_loop->generation = server->generation;
    server_loop->index = index;
    server_loop->order.deliver = order_deliver;
    server_loop->order.discard = order_discard;
    server_loop->loop = loop_new(index, &config->loop);
    if (server_loop->loop == NULL) {
        return ERROR_NO_MEMORY;
    }
    loop_set_context(server_loop->loop, server_loop);
    loop_timer_init(&server_loop->idle_timer, server_loop->loop, on_idle_timer);
    conn_group_init(&server_loop->group, server_loop->loop, &config->http, &app_handler, NULL);
    server_loop->group.access_log = server->generation->access_log;
    server_loop->group.on_closed = on_closed;
    server_loop->group.on_closed_context = server_loop;
    server_loop->group.on_preface = on_preface;
    return ERROR_NONE;
}

static void *thread_main(void *argument)
{
    struct server_loop *server_loop = argument;
    char name[16];

    snprintf(name, sizeof(name), "gw-loop-%u", server_loop->index);
    pthread_setname_np(pthread_self(), name);
    if (loop_run(server_loop->loop) != ERROR_NONE) {
        atomic_store(&server_loop->server->thread_failed, true);
        server_wake(server_loop->server);
    }
    return NULL;
}

enum error server_loop_start(struct server_loop *server_loop)
{
    int result = pthread_create(&server_loop->thread, NULL, thread_main, server_loop);

    if (result != 0) {
        log_error("server", "cannot start a thread: %s", strerror(result));
        return ERROR_IO;
    }
    server_loop->thread_started = true;
    return ERROR_NONE;
}

void server_loop_join(struct server_loop *server_loop)
{
    if (server_loop->thread_started) {
        loop_stop(server_loop->loop);
        pthread_join(server_loop->thread, NULL);
        server_loop->thread_started = false;
    }
}

void server_loop_done(struct server_loop *server_loop)
{
    server_quic_done(server_loop);
    loop_free(server_loop->loop);
    mem_free(server_loop->listeners);
    *server_loop = (struct server_loop){0};
}
