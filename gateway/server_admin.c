/* SPDX-License-Identifier: MIT */
/*
 * Puts admin/ together with the loops and apps that it asks. It must not know what is asked.
 */
#include "server_admin.h"

#include "admin/admin.h"
#include "base/log.h"
#include "control.h"
#include "server_loop.h"

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
    const struct control_message message = {CONTROL_PLEASE_STOP, 0, -1};

    if (control_send(server->inputs->control, &message) != ERROR_NONE) {
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

enum error server_admin_init(struct server *server)
{
    const struct endpoints *endpoints = server->inputs->endpoints;
    const struct admin_options *options = &server->inputs->config->admin;

    if (endpoints->admin_socket < 0 && endpoints->admin_http < 0) {
        return ERROR_NONE;
    }
    struct admin_settings settings = {
        .loop = server->loop_pointers[0],
        .loops = server->loop_pointers,
        .loop_count = server->loop_count,
        .socket = endpoints->admin_socket,
        .http = endpoints->admin_http,
        .max_connections = options->max_connections,
        .timeout = options->timeout,
        .sources = {.context = server, .rows = rows, .ready = ready, .order = order},
    };
    server->admin = admin_new(&settings);
    return server->admin == NULL ? ERROR_NO_MEMORY : ERROR_NONE;
}

void server_admin_done(struct server *server)
{
    admin_free(server->admin);
    server->admin = NULL;
}
