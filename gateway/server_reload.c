/* SPDX-License-Identifier: MIT */
/* Everything of a change is made before anything is changed; after the loops stood still nothing can fail. */
#include "server_reload.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/app_reload.h"
#include "base/clock.h"
#include "base/file_set.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "endpoints.h"
#include "h3/quic_endpoint.h"
#include "net/tls_context.h"
#include "server_generation.h"
#include "tls_load.h"

/* What the master waits for is sent for so long at most. */
#define PATIENCE_MS 5000
#define SWEEP_AGAIN (250 * CLOCK_NS_PER_MS)

static void answer(struct server *server, enum control_kind kind, const struct strbuf *text)
{
    struct control_message message = {
        .kind = kind, .fd = -1, .text = {strbuf_text(text), text->length}};

    if (control_send(server->inputs->control, &message, PATIENCE_MS) != ERROR_NONE) {
        log_error("server", "the master process does not listen");
    }
}

/* --- what the master sends ------------------------------------------------------------------------------------------ */

static void close_socket(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static void change_free(struct server_change *change)
{
    if (change == NULL) {
        return;
    }
    for (size_t i = 0; i < change->listener_count; i++) {
        close_socket(change->listeners[i].fd);
    }
    for (size_t i = 0; i < change->socket_count; i++) {
        close_socket(change->sockets[i].fd);
    }
    apps_abandon(change->apps);
    server_generation_free(change->generation);
    file_set_free(change->files);
    mem_free(change->listeners);
    mem_free(change->sockets);
    mem_free(change->path);
    mem_free(change);
}

void server_reload_abandon(struct server *server)
{
    change_free(server->change);
    server->change = NULL;
}

static void begin(struct server *server, const struct control_message *message)
{
    struct server_change *change = mem_calloc(1, sizeof(*change));

    server_reload_abandon(server);
    if (change == NULL) {
        return;
    }
    change->files = file_set_new(true);
    if (message->text.length > 0) {
        change->path = mem_strndup(message->text.data, message->text.length);
    }
    change->failed = change->files == NULL || (message->text.length > 0 && change->path == NULL);
    server->change = change;
}

/* Takes the descriptor. */
static void take_file(struct server_change *change, const struct control_message *message)
{
    const char *path = message->text.data;
    size_t length = strlen(path);
    const char *target = length < message->text.length ? path + length + 1 : NULL;

    if (change->failed) {
        close_socket(message->fd);
    } else if (file_set_add_take(change->files, path, message->fd, target) != ERROR_NONE) {
        change->failed = true;
    }
}

static void *grow(struct server_change *change, void *items, size_t count, size_t size)
{
    void *larger = mem_realloc(items, (count + 1) * size);

    change->failed = change->failed || larger == NULL;
    return larger;
}

static void take_socket(struct server_change *change, const struct control_message *message)
{
    if (message->argument == CONTROL_SOCKET_LISTENER) {
        if (message->text.length != sizeof(*change->listeners)) { /* not of this binary */
            change->failed = true;
            close_socket(message->fd);
            return;
        }
        struct listener_socket *larger =
            grow(change, change->listeners, change->listener_count, sizeof(*larger));
        if (larger == NULL) {
            close_socket(message->fd);
            return;
        }
        change->listeners = larger;
        memcpy(&larger[change->listener_count], message->text.data, sizeof(*larger));
        larger[change->listener_count++].fd = message->fd;
        return;
    }
    struct server_socket *larger =
        grow(change, change->sockets, change->socket_count, sizeof(*larger));
    if (larger == NULL) {
        close_socket(message->fd);
        return;
    }
    change->sockets = larger;
    larger[change->socket_count++] = (struct server_socket){
        .kind = (enum control_socket)message->argument, .id = message->number, .fd = message->fd};
}

/* --- making --------------------------------------------------------------------------------------------------------- */

static int known_socket(const struct server *server, unsigned id)
{
    for (size_t i = 0; i < server->socket_count; i++) {
        if (server->sockets[i].id == id) {
            return server->sockets[i].fd;
        }
    }
    return -1;
}

/* False: the files say something else than when the master read them. */
static bool fill_sockets(const struct server *server, struct server_change *change)
{
    struct server_generation *generation = change->generation;
    size_t app = 0;

    for (size_t i = 0; i < change->socket_count; i++) {
        const struct server_socket *socket = &change->sockets[i];
        if (socket->kind == CONTROL_SOCKET_APP && app < generation->config->app_count) {
            generation->app_sockets[app++] =
                socket->fd >= 0 ? socket->fd : known_socket(server, socket->id);
        }
    }
    for (size_t i = 0; i < change->listener_count; i++) {
        if (change->listeners[i].setting >= generation->config->listener_count) {
            return false;
        }
    }
    return app == generation->config->app_count;
}

/* False: `text` says why. */
static bool load(struct server *server, struct server_change *change, struct strbuf *text)
{
    const struct server_inputs *inputs = server->inputs;
    struct config *config = NULL;
    struct tls_context *tls = NULL;
    struct strbuf kept;
    char why[1024];

    enum error error = config_load_files(change->files, change->path, inputs->overrides,
                                         inputs->override_count, &config, text);
    if (error != ERROR_NONE) {
        strbuf_append_text(text, error == ERROR_NO_MEMORY ? "out of memory\n" : "");
        return false;
    }
    strbuf_init(&kept); /* the master says it */
    config_keep_fixed(config, server->generation->config, &kept);
    strbuf_done(&kept);
    error = tls_load(config, change->files, &server->keyring, &tls, why, sizeof(why));
    if (error == ERROR_NONE) {
        error = server_generation_new(config, tls, server->loop_count, &change->generation, why,
                                      sizeof(why));
    }
    tls_context_unref(tls);
    config_unref(config);
    if (error != ERROR_NONE) {
        strbuf_printf(text, "%s\n", why);
        return false;
    }
    return true;
}

/* Everything that can fail. */
static bool make(struct server *server, struct server_change *change, struct strbuf *text)
{
    if (change->failed) {
        strbuf_append_text(text, "out of memory\n");
        return false;
    }
    if (!load(server, change, text)) {
        return false;
    }
    if (!fill_sockets(server, change)) {
        strbuf_append_text(text, "the configuration was changed while it was read; reload again\n");
        return false;
    }
    server_generation_redirect(change->generation, change->listeners, change->listener_count);
    change->apps = apps_prepare(server->apps, &change->generation->apps);
    if (change->apps != NULL) {
        server_order_all(server, SERVER_ORDER_PREPARE);
    }
    if (change->apps == NULL || change->failed) {
        server_order_all(server, SERVER_ORDER_ABANDON);
        strbuf_append_text(text, "out of memory\n");
        return false;
    }
    return true;
}

/* --- taking over ---------------------------------------------------------------------------------------------------- */

/* No loop runs meanwhile. */
static void take_over(struct server *server)
{
    struct server_change *change = server->change;
    struct server_generation *generation = change->generation;
    struct listener_limits limits;

    server_limits_fill(&limits, generation->config);
    listener_limits_change(&server->limits, &limits);
    apps_commit(change->apps);
    server->retiring = !app_list_empty(&server->apps->retired);
    change->apps = NULL;
    generation->older = server->generation;
    server->generation = generation;
    change->generation = NULL;
    for (unsigned i = 0; i < server->loop_count; i++) {
        server->loops[i].generation = generation;
    }
    server->buffer_budget = config_buffer_memory(generation->config);
    if (server->quic != NULL && generation->tls != NULL) {
        quic_server_set_tls(server->quic, generation->tls);
    }
    /* Those that stay go from the old list to the new one. */
    for (size_t i = 0; i < change->socket_count; i++) {
        for (size_t k = 0; change->sockets[i].fd < 0 && k < server->socket_count; k++) {
            if (server->sockets[k].id == change->sockets[i].id) {
                change->sockets[i].fd = server->sockets[k].fd;
                server->sockets[k].fd = -1;
            }
        }
    }
    struct server_socket *old = server->sockets;
    size_t old_count = server->socket_count;
    server->sockets = change->sockets;
    server->socket_count = change->socket_count;
    change->sockets = old; /* closed with the change, when no loop uses them any more */
    change->socket_count = old_count;
}

static void end(struct server *server, const struct control_message *message)
{
    struct server_change *change = server->change;
    struct strbuf text;

    strbuf_init(&text);
    if (change == NULL) {
        strbuf_append_text(&text, "out of memory\n");
    }
    bool made = change != NULL && make(server, change, &text);
    if (made) {
        enum log_level level = server->generation->config->log.level;
        server->number = message->number;
        server_order_parked(server, SERVER_ORDER_APPLY, take_over);
        if (server->generation->config->log.level != level) {
            log_set_level(server->generation->config->log.level);
        }
        METRIC_INCREMENT(config_reloads);
    }
    answer(server, made ? CONTROL_RELOADED : CONTROL_REFUSED, &text);
    strbuf_done(&text);
    server_reload_abandon(server);
}

void server_reload_take(struct server *server, const struct control_message *message)
{
    bool taken = false;

    switch (message->kind) {
    case CONTROL_RELOAD_BEGIN:
        begin(server, message);
        break;
    case CONTROL_RELOAD_FILE:
        if (server->change != NULL) {
            take_file(server->change, message);
            taken = true;
        }
        break;
    case CONTROL_RELOAD_SOCKET:
        if (server->change != NULL) {
            take_socket(server->change, message);
            taken = true;
        }
        break;
    case CONTROL_RELOAD_END:
        end(server, message);
        break;
    default: /* CONTROL_RELOAD_RELEASE */
        server_order_all(server, SERVER_ORDER_RELEASE);
        server->sweep_at = clock_now();
    }
    if (!taken) {
        close_socket(message->fd);
    }
}

/* --- what is over --------------------------------------------------------------------------------------------------- */

static bool is_idle(const struct server *server, const struct server_generation *generation)
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        if (!generation->idle[i]) {
            return false;
        }
    }
    return true;
}

/* Loops read the list of apps: no loop runs meanwhile. */
static void end_retired(struct server *server)
{
    server->retiring = apps_sweep_end(server->apps);
}

void server_reload_sweep(struct server *server)
{
    struct server_generation **link = &server->generation->older;

    atomic_store(&server->open_listeners, 0);
    server_order_all(server, SERVER_ORDER_SWEEP);
    bool more = atomic_load(&server->open_listeners) > 0;
    if (server->retiring) {
        server_order_parked(server, SERVER_ORDER_PARK, end_retired);
        more |= server->retiring;
    }
    while (*link != NULL) {
        struct server_generation *older = *link;
        if (is_idle(server, older)) {
            *link = older->older;
            server_generation_free(older);
        } else {
            link = &older->older;
            more = true;
        }
    }
    server->sweep_at = more ? clock_now() + SWEEP_AGAIN : 0;
}
