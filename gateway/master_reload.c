/* SPDX-License-Identifier: MIT */
/* A reload is all or nothing: everything that can fail is done here first, then in the server; only when both have it, what was
 * before is given up. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file_set.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/config.h"
#include "master_state.h"
#include "net/tls_context.h"
#include "notify.h"
#include "tls_load.h"

/* A server that does not answer for so long hangs. */
#define ANSWER_TIMEOUT (30 * CLOCK_NS_PER_S)

void master_log_lines(enum log_level level, const char *text)
{
    struct slice rest = slice_from(text);

    while (rest.length > 0) {
        struct slice line = slice_cut(rest, '\n', &rest);
        if (line.length > 0) {
            log_at(level, "config", "%.*s", SLICE_PRINT(line));
        }
    }
}

/* Frees what was made for a reload; the endpoints were given up or taken over before. */
static void forget(struct master_reload *reload)
{
    config_unref(reload->config);
    tls_context_unref(reload->tls);
    file_set_free(reload->files);
    reload->config = NULL;
    reload->tls = NULL;
    reload->files = NULL;
    reload->running = false;
}

static void over(struct master *master)
{
    struct master_reload *reload = &master->reload;

    forget(reload);
    notify_send(master->ready ? "READY=1\nSTATUS=serving" : "READY=1");
    if (reload->again) {
        reload->again = false;
        master_reload_start(master, reload->answer_next);
    }
}

static void failed(struct master *master, const char *text)
{
    master_log_lines(LOG_ERROR, text);
    log_error("master", "the configuration was not taken over: nothing was changed");
    master_answer(master, CONTROL_WISH_RELOAD, true, master->reload.answers, text);
    over(master);
}

/* --- making --------------------------------------------------------------------------------------------------------- */

/* What only the master may do: reading root's files, binding privileged ports. */
static enum error make(struct master *master, struct strbuf *out)
{
    struct master_reload *reload = &master->reload;
    const struct master_source *source = master->source;
    char text[1024];

    reload->files = file_set_new(false);
    if (reload->files == NULL) {
        strbuf_append_text(out, "out of memory\n");
        return ERROR_NO_MEMORY;
    }
    enum error error = config_load_files(reload->files, source->path, source->overrides,
                                         source->override_count, &reload->config, out);
    if (error != ERROR_NONE) {
        strbuf_append_text(out, error == ERROR_NO_MEMORY ? "out of memory\n" : "");
        return error;
    }
    error =
        tls_load(reload->config, reload->files, &master->keyring, &reload->tls, text, sizeof(text));
    if (error == ERROR_NONE) {
        error = endpoints_renew(&reload->endpoints, &master->endpoints, true, reload->config,
                                master->loops, &master->identity, text, sizeof(text));
    }
    if (error != ERROR_NONE) {
        strbuf_printf(out, "%s\n", text);
    }
    return error;
}

/* --- sending -------------------------------------------------------------------------------------------------------- */

static bool send_files(struct master *master)
{
    char text[CONTROL_TEXT_MAX];
    bool sent = true;

    for (const struct file_set_entry *entry = file_set_first(master->reload.files);
         entry != NULL && sent; entry = entry->next) {
        const char *target = entry->target != NULL ? entry->target : "";
        int length = snprintf(text, sizeof(text), "%s%c%s", entry->path, '\0', target);
        struct control_message message = {.kind = CONTROL_RELOAD_FILE, .fd = entry->fd};
        sent = length > 0 && (size_t)length < sizeof(text);
        /* Without a target there is no second text. */
        message.text =
            (struct slice){text, entry->target != NULL ? (size_t)length : strlen(entry->path)};
        sent = sent && master_send(master, &message);
    }
    return sent;
}

static bool send_socket(struct master *master, enum control_socket kind,
                        const struct endpoint *endpoint)
{
    struct control_message message = {
        .kind = CONTROL_RELOAD_SOCKET, .argument = (int32_t)kind, .number = endpoint->id, .fd = -1};

    if (endpoint->fd < 0) {
        return true;
    }
    if (!endpoints_have(&master->endpoints, endpoint->id)) {
        message.fd = endpoint->fd;
    }
    return master_send(master, &message);
}

static bool send_sockets(struct master *master)
{
    const struct endpoints *endpoints = &master->reload.endpoints;
    bool sent = true;

    for (size_t i = 0; i < endpoints->listener_count && sent; i++) {
        const struct listener_socket *socket = &endpoints->listeners[i];
        struct control_message message = {.kind = CONTROL_RELOAD_SOCKET,
                                          .argument = CONTROL_SOCKET_LISTENER,
                                          .fd = -1,
                                          .text = {(const char *)socket, sizeof(*socket)}};
        if (!endpoints_have(&master->endpoints, socket->id)) {
            message.fd = socket->fd;
        }
        sent = master_send(master, &message);
    }
    for (size_t i = 0; i < endpoints->app_count && sent; i++) {
        sent = send_socket(master, CONTROL_SOCKET_APP, &endpoints->apps[i]);
    }
    return sent && send_socket(master, CONTROL_SOCKET_ADMIN, &endpoints->admin_socket) &&
           send_socket(master, CONTROL_SOCKET_ADMIN_HTTP, &endpoints->admin_http);
}

static bool send_all(struct master *master)
{
    const char *path = master->source->path != NULL ? master->source->path : "";
    struct control_message begin = {
        .kind = CONTROL_RELOAD_BEGIN, .fd = -1, .text = slice_from(path)};
    struct control_message end = {
        .kind = CONTROL_RELOAD_END, .number = master->number + 1, .fd = -1};

    return master_send(master, &begin) && send_files(master) && send_sockets(master) &&
           master_send(master, &end);
}

void master_reload_start(struct master *master, uint32_t wish)
{
    struct master_reload *reload = &master->reload;
    struct strbuf out;

    if (reload->running) {
        reload->again = true;
        reload->answer_next = wish > reload->answer_next ? wish : reload->answer_next;
        return;
    }
    if (master->upgrade.phase != UPGRADE_NONE && !master->stopping) {
        /* Two servers, and which one stays is not known. An operator can ask again; a signal is remembered here, and by a new master
         * in that it reads the files anyway. */
        log_warning("master", "no reload yet: an upgrade is under way");
        if (wish == 0) {
            reload->again = true;
        } else {
            master_answer(master, CONTROL_WISH_RELOAD, true, wish,
                          "an upgrade is under way; reload again when it is over");
        }
        return;
    }
    reload->answers = wish > reload->answers ? wish : reload->answers;
    if (master->stopping) {
        master_answer(master, CONTROL_WISH_RELOAD, true, reload->answers,
                      "the gateway is stopping");
        return;
    }
    notify_reloading();
    strbuf_init(&out);
    if (make(master, &out) != ERROR_NONE) {
        failed(master, strbuf_text(&out));
    } else if (master->control < 0 || !master->ready || !send_all(master)) {
        endpoints_replace(&reload->endpoints, &master->endpoints);
        failed(master, "the server does not run or does not listen; try again");
    } else {
        reload->running = true;
        reload->deadline = clock_now() + ANSWER_TIMEOUT;
    }
    strbuf_done(&out);
}

void master_reload_pending(struct master *master)
{
    struct master_reload *reload = &master->reload;

    if (reload->again && !reload->running && !master->stopping) {
        reload->again = false;
        master_reload_start(master, 0);
    }
}

/* --- the server's answer -------------------------------------------------------------------------------------------- */

/* The server has it: what was before is given up. */
static void take_over(struct master *master)
{
    struct master_reload *reload = &master->reload;
    struct control_message release = {.kind = CONTROL_RELOAD_RELEASE, .fd = -1};
    struct strbuf kept;
    char text[128];

    strbuf_init(&kept);
    config_keep_fixed(reload->config, master->config, &kept);
    master_log_lines(LOG_WARNING, strbuf_text(&kept));
    if (reload->config->log.level != master->config->log.level) {
        log_set_level(reload->config->log.level);
    }
    endpoints_replace(&master->endpoints, &reload->endpoints);
    master->endpoints = reload->endpoints;
    config_unref(master->config);
    tls_context_unref(master->tls);
    master->config = reload->config;
    master->tls = reload->tls;
    reload->config = NULL;
    reload->tls = NULL;
    master->number++;
    (void)master_send(master, &release);
    master_reopen_logs(master);
    log_info("master", "configuration %u is in effect", master->number);
    snprintf(text, sizeof(text), "configuration %u is in effect\n", master->number);
    struct strbuf answer;
    strbuf_init(&answer);
    strbuf_printf(&answer, "%s%s", text, strbuf_text(&kept));
    master_answer(master, CONTROL_WISH_RELOAD, false, reload->answers, strbuf_text(&answer));
    strbuf_done(&answer);
    strbuf_done(&kept);
    over(master);
}

void master_reload_answered(struct master *master, const struct control_message *message)
{
    if (!master->reload.running) {
        return;
    }
    if (message->kind == CONTROL_RELOADED) {
        take_over(master);
    } else {
        endpoints_replace(&master->reload.endpoints, &master->endpoints);
        failed(master, message->text.data);
    }
}

void master_reload_lost(struct master *master, const char *why)
{
    if (master->reload.running) {
        endpoints_replace(&master->reload.endpoints, &master->endpoints);
        master->reload.again = false;
        failed(master, why);
    }
}
