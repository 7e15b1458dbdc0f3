/* SPDX-License-Identifier: MIT */
/* Four steps, each of which the master orders: save, announce, open, retire. */
#include "server_upgrade.h"

#include <stdio.h>
#include <string.h>

#include "app/app_upgrade.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "server_admin.h"
#include "server_listeners.h"
#include "server_loop.h"
#include "server_quic.h"

/* Once every app has a worker again, the others are waited for so long: better all than one that gets everything. */
#define ALL_WORKERS_TIME CLOCK_NS_PER_S
#define PATIENCE_MS 1000

static void say(struct server *server, const struct control_message *message)
{
    if (control_send(server->inputs->control, message, PATIENCE_MS) != ERROR_NONE) {
        log_error("server", "the master process does not listen");
    }
}

/* --- loops ---------------------------------------------------------------------------------------------------------- */

static void save(struct server *server)
{
    const struct apps *apps = server->apps;

    for (size_t i = 0; i < apps->settings->app_count; i++) {
        struct control_message message = {.kind = CONTROL_APP_STATE, .fd = -1};
        struct strbuf text;
        strbuf_init(&text);
        strbuf_append(&text, apps->apps[i]->name, strlen(apps->apps[i]->name) + 1);
        app_hand_over(apps->apps[i], &text, &message.number);
        message.text = (struct slice){text.data, text.length};
        if (text.failed || text.length > CONTROL_TEXT_MAX) {
            log_warning("server",
                        "%s: its generations are too much to hand over; the new server goes by "
                        "its state file",
                        apps->apps[i]->name);
            message.text = (struct slice){apps->apps[i]->name, strlen(apps->apps[i]->name) + 1};
        }
        say(server, &message);
        strbuf_done(&text);
    }
}

static void open_loop(struct server_loop *server_loop)
{
    struct server *server = server_loop->server;

    server_listeners_hold(server_loop, server->pressure >= PRESSURE_PAUSE_ACCEPT);
    if (server_quic_open(server_loop) != ERROR_NONE) {
        log_error("server", "out of memory: a loop does not serve HTTP/3");
    }
    if (server_loop->index == 0 && server_admin_init(server) != ERROR_NONE) {
        log_error("server", "out of memory: [admin] is not served");
    }
}

/* What only loop 0 does. */
static void order_first(struct server *server, enum server_order order)
{
    switch (order) {
    case SERVER_ORDER_RESUME:
    case SERVER_ORDER_WORKERS:
        if (apps_resume(server->apps) != ERROR_NONE) {
            log_error("server", "out of memory: not every app accepts workers");
        }
        break;
    case SERVER_ORDER_CLOSED:
        apps_close(server->apps);
        break;
    case SERVER_ORDER_SAVE:
        save(server);
        break;
    default: /* SERVER_ORDER_TELL */
        server_admin_tell(server);
    }
}

void server_upgrade_order(struct server_loop *server_loop)
{
    struct server *server = server_loop->server;

    if (server_loop->order_kind == SERVER_ORDER_ANNOUNCE) {
        apps_announce_loop(server->apps, server_loop->index);
    } else if (server_loop->order_kind == SERVER_ORDER_OPEN) {
        open_loop(server_loop);
    } else if (server_loop->index == 0) {
        order_first(server, server_loop->order_kind);
    }
}

/* --- the main thread ------------------------------------------------------------------------------------------------ */

static void take_state(struct server *server, const struct control_message *message)
{
    size_t name = strlen(message->text.data);
    struct slice state = {NULL, 0};

    if (name < message->text.length) {
        state = slice_skip(message->text, name + 1);
    }
    /* No worker is accepted yet: loop 0 does nothing with the apps. */
    apps_take_over(server->apps, (struct slice){message->text.data, name}, message->number, state);
}

static void open_all(struct server *server)
{
    server->standby = false;
    server->await_workers = false;
    server_order_all(server, SERVER_ORDER_OPEN);
    log_info("server", "clients are accepted");
}

bool server_upgrade_take(struct server *server, const struct control_message *message)
{
    switch (message->kind) {
    case CONTROL_SAVE:
        server_order_all(server, SERVER_ORDER_SAVE);
        say(server, &(struct control_message){.kind = CONTROL_SAVED, .fd = -1});
        return true;
    case CONTROL_RECONNECT:
        /* First none is accepted, then they are called: one that is quick must not come back here. */
        server_order_all(server, SERVER_ORDER_CLOSED);
        server_order_all(server, SERVER_ORDER_ANNOUNCE);
        return true;
    case CONTROL_RESUME:
        server_order_all(server, SERVER_ORDER_RESUME);
        return true;
    case CONTROL_APP_STATE:
        take_state(server, message);
        return true;
    case CONTROL_ACCEPT_WORKERS:
        server_order_all(server, SERVER_ORDER_WORKERS);
        server->await_workers = true;
        return true;
    case CONTROL_ACCEPT:
        open_all(server);
        return true;
    default:
        return false;
    }
}

void server_upgrade_retired(struct server *server)
{
    say(server, &(struct control_message){.kind = CONTROL_RETIRED, .fd = -1});
}

void server_upgrade_look(struct server *server)
{
    uint64_t now = clock_now();

    if (!apps_have_some(server->apps)) {
        server->workers_at = 0;
        return;
    }
    server->workers_at = server->workers_at == 0 ? now : server->workers_at;
    if (apps_have_all(server->apps) || now - server->workers_at >= ALL_WORKERS_TIME) {
        server->await_workers = false;
        say(server, &(struct control_message){.kind = CONTROL_WORKERS, .fd = -1});
    }
}
