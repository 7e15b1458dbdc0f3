/* SPDX-License-Identifier: MIT */
/*
 * The way in for operators: a Unix socket that takes one command per connection (gatewayctl), and an HTTP endpoint for health
 * checks and Prometheus. It lives in one loop, asks the other loops by mail, and shares nothing with the apps' budgets, so that it
 * answers when every app is stuck. It changes nothing but the log level; orders and wishes of operators are carried out by its sources.
 *
 * On the socket a client sends one line, `COMMAND [WORD...] [--json]` or {"command":"...","arguments":["..."],"json":true}, and gets
 * a line of its own: `ok`, `pending` (asked about a deployment that is not decided), `failed` (one that is), or `error: why`; then, but
 * for errors, the answer, then the end of the stream.
 */
#ifndef GATEWAY_ADMIN_ADMIN_H
#define GATEWAY_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "admin/admin_table.h"
#include "base/error.h"

struct admin;
struct apps;
struct conn_group;
struct loop;

/* What became of an order. */
enum admin_verdict {
    ADMIN_DONE,
    ADMIN_PENDING, /* ask again */
    ADMIN_FAILED,  /* it was tried */
    ADMIN_REFUSED  /* it makes no sense as things are */
};

/* What an operator may wish that takes its time; done elsewhere, told by admin_tell(). */
enum admin_wish { ADMIN_WISH_RELOAD, ADMIN_WISH_UPGRADE, ADMIN_WISHES };

/* What became of it: of all wishes of this kind up to `number`. */
struct admin_result {
    enum admin_wish wish;
    bool failed;
    uint32_t number;
    const char *text;
};

/* Where the answers come from. */
struct admin_sources {
    void *context;
    /* Appends the rows of a view that loop `index` has; called in that loop's thread. Only ADMIN_CONNECTIONS and
     * ADMIN_REQUESTS are asked of other loops than loop 0. */
    void (*rows)(void *context, enum admin_view view, unsigned index, struct admin_table *table);
    /* Whether requests can be served now; when not, appends why, a line for each reason; when so, what is remarkable. Any thread. */
    bool (*ready)(void *context, struct strbuf *why);
    /* Carries out the order of an operator (admin_command.c lists them) with its words, as many as the list allows; appends the answer,
     * or why not. In the admin's loop. */
    enum admin_verdict (*order)(void *context, struct slice command, const struct slice *words,
                                size_t count, struct strbuf *text);
    /* Passes a wish on; returns its number, counted up from 1. In the admin's loop. */
    uint32_t (*wish)(void *context, enum admin_wish wish);
};

struct admin_settings {
    struct loop *loop;         /* where it lives */
    struct loop *const *loops; /* all of them; `loop` may be one */
    unsigned loop_count;
    int socket, http;         /* listening descriptors, non-blocking, not owned; -1: none */
    unsigned max_connections; /* at once; more are closed */
    uint64_t timeout;         /* nanoseconds, from accept to the end of the answer */
    struct admin_sources sources;
};

/* Starts serving; before loop_run, or in the loop's thread. NULL: no memory or descriptors. Settings are copied, but `loops`
 * outlives it. */
struct admin *admin_new(const struct admin_settings *settings) MUST_CHECK;
/* Goes on with other sockets, bounds and timeouts of `settings`; connections stay. ERROR_NO_MEMORY: a socket is not served. */
enum error admin_change(struct admin *admin, const struct admin_settings *settings) MUST_CHECK;
/* What became of wishes: told to those who wait for it, and kept for status. In its loop's thread. */
void admin_tell(struct admin *admin, const struct admin_result *result);
/* Ends everything; in its loop's thread, or when no loop runs any more; before any loop is freed. The memory goes by loop_bury. NULL
 * is allowed. */
void admin_free(struct admin *admin);

/* Rows for `sources.rows` from what the gateway has; in the threads that admin_sources names. */
void admin_rows_of_apps(const struct apps *apps, enum admin_view view, struct admin_table *table);
void admin_rows_of_group(const struct conn_group *group, unsigned index, enum admin_view view,
                         struct admin_table *table);
/* For `sources.ready`: every app has a ready worker, or is paused. Any thread. */
bool admin_apps_ready(const struct apps *apps, struct strbuf *why);
/* For `sources.order`: deploy, outcome, rollback, pause, resume, and drain of a worker. In loop 0's thread. */
enum admin_verdict admin_order_apps(struct apps *apps, struct slice command,
                                    const struct slice *words, size_t count, struct strbuf *text);

#endif
