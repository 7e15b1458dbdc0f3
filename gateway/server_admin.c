/* SPDX-License-Identifier: MIT */
/*
 * Puts admin/ together with the loops and apps that it asks. It must not know what is asked.
 */
#include "server_admin.h"

#include "admin/admin.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "control.h"
#include "server_generation.h"
#include "server_loop.h"
#include "server_reload.h"

_Static_assert((int)ADMIN_WISH_RELOAD == (int)CONTROL_WISH_RELOAD &&
                   (int)ADMIN_WISH_UPGRADE == (int)CONTROL_WISH_UPGRADE &&
                   (int)ADMIN_WISHES == (int)CONTROL_WISHES,
               "one numbering");

static void rows(void *context, enum admin_view view, unsigned index, struct admin_table *table)
{
    struct server *server = context;

    if (view == ADMIN_CONNECTIONS || view == ADMIN_REQUESTS) {
        admin_rows_of_group(&server->loops[index].group, index, view, table);
    } else {
        admin_rows_of_apps(server->apps, view, table);
    }
}

static bool ready(void *context, struct strbuf *why)
{
    const struct server *server = context;

    return admin_apps_ready(server->apps, why);
}

/* The whole gateway stops as by SIGTERM, which is the master's to do. */
static enum admin_verdict stop_gateway(const struct server *server, struct strbuf *text)
{
    const struct control_message message = {.kind = CONTROL_PLEASE_STOP, .fd = -1};

    if (control_send(server->inputs->control, &message, 1000) != ERROR_NONE) {
        strbuf_append_text(text, "the master process does not listen");
        return ADMIN_REFUSED;
    }
    log_info("admin", "the gateway is drained by order");
    strbuf_append_text(text, "the gateway stops as soon as its requests are done");
    return ADMIN_DONE;
}

static enum admin_verdict order(void *context, struct slice command, const struct slice *words,
                                size_t count, struct strbuf *text)
{
    const struct server *server = context;

    if (count == 0 && slice_equal(command, SLICE("drain"))) {
        return stop_gateway(server, text);
    }
    return admin_order_apps(server->apps, command, words, count, text);
}

static uint32_t wish(void *context, enum admin_wish wish)
{
    struct server *server = context;
    uint32_t number = atomic_fetch_add(&server->wishes[wish], 1) + 1;

    server_wake(server);
    return number;
}

static int find_socket(const struct server *server, enum control_socket kind)
{
    for (size_t i = 0; i < server->socket_count; i++) {
        if (server->sockets[i].kind == kind) {
            return server->sockets[i].fd;
        }
    }
    return -1;
}

static void fill(struct server *server, struct admin_settings *settings)
{
    const struct admin_options *options = &server->generation->config->admin;

    *settings = (struct admin_settings){
        .loop = server->loop_pointers[0],
        .loops = server->loop_pointers,
        .loop_count = server->loop_count,
        .socket = find_socket(server, CONTROL_SOCKET_ADMIN),
        .http = find_socket(server, CONTROL_SOCKET_ADMIN_HTTP),
        .max_connections = options->max_connections,
        .timeout = options->timeout,
        .sources = {.context = server, .rows = rows, .ready = ready, .order = order, .wish = wish},
    };
}

enum error server_admin_init(struct server *server)
{
    struct admin_settings settings;

    fill(server, &settings);
    server->admin = admin_new(&settings);
    return server->admin == NULL ? ERROR_NO_MEMORY : ERROR_NONE;
}

void server_admin_apply(struct server *server)
{
    struct admin_settings settings;

    fill(server, &settings);
    if (server->admin != NULL && admin_change(server->admin, &settings) != ERROR_NONE) {
        log_error("server", "out of memory: [admin] is not served");
    }
}

void server_admin_retire(struct server *server)
{
    struct admin_settings settings;

    fill(server, &settings);
    settings.socket = settings.http = -1;
    if (server->admin != NULL && admin_change(server->admin, &settings) != ERROR_NONE) {
        log_error("server", "out of memory: [admin] is not given up");
    }
}

void server_admin_done(struct server *server)
{
    admin_free(server->admin);
    server->admin = NULL;
}

/* --- what the master says ------------------------------------------------------------------------------------------- */

void server_tell(struct server *server, const struct control_message *message)
{
    struct server_told *told = &server->told;

    mem_free(told->text);
    told->result = message->argument;
    told->number = message->number;
    told->text = mem_strndup(message->text.data, message->text.length);
    if (message->argument == control_result(CONTROL_WISH_RELOAD, true)) {
        METRIC_INCREMENT(config_reloads_failed);
    }
    server_order_all(server, SERVER_ORDER_TELL);
}

void server_admin_tell(struct server *server)
{
    const struct server_told *told = &server->told;
    struct admin_result result = {.wish = (enum admin_wish)(told->result / 2),
                                  .failed = told->result % 2 != 0,
                                  .number = told->number,
                                  .text = told->text != NULL ? told->text : "out of memory"};

    if (server->admin != NULL && result.wish < ADMIN_WISHES) {
        admin_tell(server->admin, &result);
    }
}
