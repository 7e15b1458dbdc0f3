/* SPDX-License-Identifier: MIT */
/*
 * One configuration as the server uses it: the snapshot and what was made of it. A reload makes another one; the former lives
 * until nothing in any loop uses it. Users are counted in the loops that they live in, without atomics: a generation is freed only
 * after every loop has said that it has none, and new users come to the present one only.
 */
#ifndef GATEWAY_SERVER_GENERATION_H
#define GATEWAY_SERVER_GENERATION_H

#include <stdbool.h>
#include <stddef.h>

#include "app/apps_settings.h"
#include "base/error.h"

struct access_log;
struct config;
struct listener_socket;
struct tls_context;

struct server_generation {
    struct server_generation *older; /* in the server's list */
    struct config *config;
    struct tls_context *tls;       /* NULL: no listener has TLS */
    struct access_log *access_log; /* NULL: off */
    unsigned redirect_port;        /* where listen.redirect_https sends clients */
    struct apps_settings apps;     /* points into config; `users` counts for all of this */
    int *app_sockets;              /* one per app of the configuration; not owned */
    bool *idle;                    /* one per loop: it has no user any more */
};

/* Takes a reference of each. `loops` is the server's. On failure `text` says what. */
enum error server_generation_new(struct config *config, struct tls_context *tls, unsigned loops,
                                 struct server_generation **ret_generation, char *text,
                                 size_t text_size) MUST_CHECK;
/* Finds where listen.redirect_https sends clients, among the sockets of the configuration. */
void server_generation_redirect(struct server_generation *generation,
                                const struct listener_socket *sockets, size_t count);
/* NULL is allowed. */
void server_generation_free(struct server_generation *generation);
/* One more, one less user in this loop; in its thread. */
static inline struct server_generation *server_generation_hold(struct server_generation *generation,
                                                               unsigned loop_index)
{
    (void)apps_settings_hold(&generation->apps, loop_index);
    return generation;
}
static inline void server_generation_release(struct server_generation *generation,
                                             unsigned loop_index)
{
    apps_settings_release(&generation->apps, loop_index);
}

#endif
