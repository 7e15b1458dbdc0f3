/* SPDX-License-Identifier: MIT */
/*
 * Rows from what the gateway has: apps and workers (loop 0's registry), connections and requests (each loop's own).
 */
#include <inttypes.h>
#include <stdio.h>

#include "admin/admin.h"
#include "app/app.h"
#include "app/forward.h"
#include "base/clock.h"
#include "http/conn.h"
#include "http/exchange.h"

static uint64_t since(uint64_t now, uint64_t then)
{
    return now > then ? now - then : 0;
}

/* --- apps and workers ----------------------------------------------------------------------------------------------- */

static void app_row(struct app *app, struct admin_table *table)
{
    uint64_t in_flight = 0;

    LIST_EACH(worker_list, &app->workers, struct worker, worker)
    {
        in_flight += atomic_load_explicit(&worker->in_flight, memory_order_relaxed);
    }
    uint32_t serving = atomic_load_explicit(&app->deploy.serving, memory_order_relaxed);
    bool paused = atomic_load_explicit(&app->paused, memory_order_relaxed);

    admin_table_text(table, slice_from(app->name));
    admin_table_text(table, slice_from(paused                ? "paused"
                                       : app_ready(app) == 0 ? "no worker"
                                                             : "serving"));
    admin_table_text(table, serving == DEPLOY_NONE ? SLICE("")
                                                   : slice_from(app->deploy.slots[serving].name));
    admin_table_number(table, app_ready(app));
    admin_table_number(table, app->workers.length);
    admin_table_number(table, in_flight);
    admin_table_number(table, atomic_load_explicit(&app->waiting, memory_order_relaxed));
    admin_table_number(table, app->settings->queue_max);
    admin_table_text(table, app->settings->socket);
    pthread_mutex_lock(&app->error_lock);
    admin_table_text(table, slice_from(app->last_error));
    pthread_mutex_unlock(&app->error_lock);
}

static void generation_rows(const struct app *app, uint64_t now, struct admin_table *table)
{
    unsigned workers[DEPLOY_SLOTS] = {0};

    LIST_EACH(worker_list, &app->workers, struct worker, worker)
    {
        workers[worker->slot]++;
    }
    for (uint32_t i = 0; i < DEPLOY_SLOTS; i++) {
        const struct generation *generation = &app->deploy.slots[i];
        if (generation->state == GENERATION_FREE) {
            continue;
        }
        admin_table_text(table, slice_from(app->name));
        admin_table_text(table, slice_from(generation->name));
        admin_table_text(table, slice_from(generation_state_name(generation->state)));
        admin_table_number(table, workers[i]);
        admin_table_number(table, atomic_load_explicit(&generation->ready, memory_order_relaxed));
        admin_table_number(table, since(now, generation->since));
        admin_table_text(table, slice_from(generation->reason));
    }
}

static void worker_row(struct app *app, const struct worker *worker, uint64_t now,
                       struct admin_table *table)
{
    char id[24];

    snprintf(id, sizeof(id), "%" PRIu64, worker->serial);
    admin_table_text(table, slice_from(app->name));
    admin_table_number(table, (uint64_t)worker->pid);
    admin_table_text(table, slice_from(id));
    admin_table_number(table, !worker->pid_from_kernel);
    admin_table_text(table, slice_from(worker_condition(worker)));
    admin_table_text(table, slice_from(worker->generation));
    admin_table_number(table, atomic_load_explicit(&worker->in_flight, memory_order_relaxed));
    admin_table_number(table, worker->capacity);
    admin_table_number(table, atomic_load_explicit(&worker->long_lived, memory_order_relaxed));
    admin_table_number(table, atomic_load_explicit(&worker->abandoned, memory_order_relaxed));
    admin_table_number(table, atomic_load_explicit(&worker->served, memory_order_relaxed));
    admin_table_number(table, atomic_load_explicit(&worker->refused, memory_order_relaxed));
    admin_table_number(table, atomic_load_explicit(&worker->health.failures, memory_order_relaxed));
    admin_table_number(table, atomic_load_explicit(&worker->open_links, memory_order_relaxed));
    admin_table_number(table, atomic_load_explicit(&worker->lag_ns, memory_order_relaxed));
    admin_table_number(table, atomic_load_explicit(&worker->rss, memory_order_relaxed));
    admin_table_number(table, since(now, worker->connected_at));
    admin_table_text(table, slice_from(worker->python));
    admin_table_text(table, slice_from(worker->version));
    pthread_mutex_lock(&app->error_lock);
    admin_table_text(table, slice_from(worker->last_error));
    pthread_mutex_unlock(&app->error_lock);
}

static void rows_of_app(struct app *app, enum admin_view view, uint64_t now,
                        struct admin_table *table)
{
    if (view == ADMIN_APPS) {
        app_row(app, table);
        return;
    }
    if (view == ADMIN_GENERATIONS) {
        generation_rows(app, now, table);
        return;
    }
    LIST_EACH(worker_list, &app->workers, struct worker, worker)
    {
        worker_row(app, worker, now, table);
    }
}

void admin_rows_of_apps(const struct apps *apps, enum admin_view view, struct admin_table *table)
{
    uint64_t now = clock_now();

    for (size_t i = 0; i < apps->settings->app_count; i++) {
        rows_of_app(apps->apps[i], view, now, table);
    }
    /* What is no longer configured is seen until its last request has ended. */
    LIST_EACH(app_list, &apps->retired, struct app, app)
    {
        rows_of_app(app, view, now, table);
    }
}

bool admin_apps_ready(const struct apps *apps, struct strbuf *why)
{
    bool ready = true;

    for (size_t i = 0; i < apps->settings->app_count; i++) {
        const struct app *app = apps->apps[i];
        if (atomic_load_explicit(&app->paused, memory_order_relaxed)) {
            strbuf_printf(why, "app %s is paused: its requests wait\n", app->name);
        } else if (app_ready(app) == 0) {
            strbuf_printf(why, "app %s has no ready worker\n", app->name);
            ready = false;
        }
    }
    return ready;
}

/* --- connections and requests --------------------------------------------------------------------------------------- */

static void conn_row(const struct conn *conn, unsigned index, uint64_t now,
                     struct admin_table *table)
{
    const struct conn_identity *identity = &conn->identity;
    struct strbuf text;

    strbuf_init(&text);
    admin_table_number(table, conn->id);
    admin_table_number(table, index);
    if (identity->unix_peer) {
        strbuf_append_text(&text, "unix");
    } else {
        bool v6 = memchr(identity->client_host.data ? identity->client_host.data : "", ':',
                         identity->client_host.length) != NULL;
        strbuf_printf(&text, v6 ? "[%.*s]:%u" : "%.*s:%u", SLICE_PRINT(identity->client_host),
                      identity->client_port);
    }
    admin_table_text(table, (struct slice){strbuf_text(&text), text.length});
    admin_table_text(table, slice_from(conn->protocol));
    admin_table_text(table, identity->tls_version_name);
    admin_table_text(table, identity->server_name);
    admin_table_number(table, conn->requests);
    admin_table_number(table, since(now, conn->opened_at));
    admin_table_number(table, conn->draining);
    strbuf_clear(&text);
    conn->ops->dump(conn, &text);
    if (text.length > 0 && text.data[text.length - 1] == '\n') {
        text.length--;
    }
    admin_table_text(table, (struct slice){strbuf_text(&text), text.length});
    strbuf_done(&text);
}

/* Where a request is on its way. */
static const char *phase_of(const struct exchange *exchange)
{
    switch (exchange->response_state) {
    case RESPONSE_STARTED:
        return exchange->response_end ? "sending" : "responding";
    case RESPONSE_ENDED:
        return "sending";
    case RESPONSE_FINISHED:
    case RESPONSE_CUT:
        return "ending";
    case RESPONSE_NONE:
        break;
    }
    if (exchange->head_at == 0) {
        return "reading";
    }
    return exchange->dispatched_at == 0 ? "waiting" : "working";
}

static void number_or_none(struct admin_table *table, uint64_t value)
{
    if (value > 0) {
        admin_table_number(table, value);
    } else {
        admin_table_none(table);
    }
}

static void exchange_row(const struct exchange *exchange, unsigned index, uint64_t now,
                         struct admin_table *table)
{
    uint32_t credit;

    admin_table_number(table, exchange->conn->id);
    admin_table_number(table, index);
    admin_table_text(table, exchange->app_name);
    number_or_none(table, exchange->worker_pid > 0 ? (uint64_t)exchange->worker_pid : 0);
    admin_table_text(table, slice_from(phase_of(exchange)));
    admin_table_number(table, since(now, exchange->started_at));
    number_or_none(table,
                   exchange->response_state == RESPONSE_NONE ? 0 : exchange->response.status);
    admin_table_number(table, exchange->request_bytes);
    admin_table_number(table, exchange->request_body.size);
    if (forward_credit(exchange->worker_half, &credit)) {
        admin_table_number(table, credit);
    } else {
        admin_table_none(table);
    }
    admin_table_number(table, exchange->response_bytes);
    admin_table_number(table, exchange->response_body.size);
    admin_table_number(table, exchange->retries);
    admin_table_text(table, exchange->request.method);
    admin_table_text(table, exchange->request.authority);
    admin_table_text(table, exchange->request.target);
}

void admin_rows_of_group(const struct conn_group *group, unsigned index, enum admin_view view,
                         struct admin_table *table)
{
    uint64_t now = clock_now();

    if (view == ADMIN_CONNECTIONS) {
        LIST_EACH(conn_list, &group->conns, struct conn, conn)
        {
            if (admin_table_rows(table) >= ADMIN_ROWS_MAX) {
                table->left_out = group->conns.length - ADMIN_ROWS_MAX;
                break;
            }
            conn_row(conn, index, now, table);
        }
        return;
    }
    LIST_EACH(exchange_list, &group->exchanges, struct exchange, exchange)
    {
        if (admin_table_rows(table) >= ADMIN_ROWS_MAX) {
            table->left_out = group->exchanges.length - ADMIN_ROWS_MAX;
            break;
        }
        exchange_row(exchange, index, now, table);
    }
}
