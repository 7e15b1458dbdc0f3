/* SPDX-License-Identifier: MIT */
/* Making what the server needs of a configuration, and freeing it. */
#include "server_generation.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "config/config.h"
#include "http/access_log.h"
#include "net/tls_context.h"

static bool trusted_host(const void *context, struct slice host)
{
    const struct config *config = context;
    struct addr addr;

    if (addr_parse(host, 0, &addr) != ERROR_NONE) {
        return false;
    }
    for (size_t i = 0; i < config->trusted_count; i++) {
        if (addr_network_contains(&config->trusted[i], &addr)) {
            return true;
        }
    }
    return false;
}

static void fill_apps(struct server_generation *generation)
{
    const struct config *config = generation->config;
    struct apps_users *users = generation->apps.users;

    generation->apps = (struct apps_settings){
        .apps = config->apps,
        .sockets = generation->app_sockets,
        .app_count = config->app_count,
        .router = {config->routes, config->route_count, SIZE_MAX},
        .ipc = &config->ipc,
        .http = &config->http,
        .ws = &config->ws,
        .file_threads = config->gateway.file_threads,
        .server_cert_pem =
            generation->tls != NULL ? tls_context_default_pem(generation->tls) : SLICE(""),
        .proxy_headers = config->proxy_headers,
        .trusted = trusted_host,
        .trusted_context = config,
        .users = users,
    };
}

static enum error make_access_log(struct server_generation *generation, char *text, size_t size)
{
    char why[256] = "out of memory";

    if (generation->config->log.access.length == 0) {
        return ERROR_NONE;
    }
    enum error error = access_log_new(generation->config->access_format, &generation->access_log,
                                      why, sizeof(why));
    if (error != ERROR_NONE) {
        snprintf(text, size, "log.access_format: %s", why);
    }
    return error;
}

enum error server_generation_new(struct config *config, struct tls_context *tls, unsigned loops,
                                 struct server_generation **ret_generation, char *text,
                                 size_t text_size)
{
    struct server_generation *generation = mem_calloc(1, sizeof(*generation));

    snprintf(text, text_size, "out of memory");
    if (generation == NULL) {
        return ERROR_NO_MEMORY;
    }
    generation->config = config_ref(config);
    generation->tls = tls != NULL ? tls_context_ref(tls) : NULL;
    generation->idle = mem_calloc(loops, sizeof(*generation->idle));
    generation->apps.users = mem_calloc(loops, sizeof(*generation->apps.users));
    generation->app_sockets = mem_calloc(config->app_count, sizeof(*generation->app_sockets));
    enum error error = generation->idle == NULL || generation->apps.users == NULL ||
                               generation->app_sockets == NULL
                           ? ERROR_NO_MEMORY
                           : make_access_log(generation, text, text_size);
    if (error != ERROR_NONE) {
        server_generation_free(generation);
        return error;
    }
    fill_apps(generation);
    *ret_generation = generation;
    return ERROR_NONE;
}

/* The first listener with TLS; config sees to it that there is one. */
void server_generation_redirect(struct server_generation *generation,
                                const struct listener_socket *sockets, size_t count)
{
    generation->redirect_port =
        443; /* TLS on a Unix socket only: what is in front of it has the usual port */
    for (size_t i = 0; i < count; i++) {
        if (generation->config->listeners[sockets[i].setting].tls &&
            addr_port(&sockets[i].addr) != 0) {
            generation->redirect_port = addr_port(&sockets[i].addr);
            return;
        }
    }
}

void server_generation_free(struct server_generation *generation)
{
    if (generation == NULL) {
        return;
    }
    mem_free(generation->app_sockets);
    mem_free(generation->apps.users);
    mem_free(generation->idle);
    access_log_free(generation->access_log);
    tls_context_unref(generation->tls);
    config_unref(generation->config);
    mem_free(generation);
}
