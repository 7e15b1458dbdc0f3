/* SPDX-License-Identifier: MIT */
/*
 * The HTTP endpoint: four pages, GET and HEAD, one request per connection. It reads no more of HTTP than it needs to find the end of
 * the head, and takes nothing from it but method and path.
 */
#include <string.h>

#include "admin/admin_conn.h"

static const char *phrase(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    default:
        return "Service Unavailable";
    }
}

/* Sends head and body (which is consumed). */
static void respond_take(struct admin_conn *conn, unsigned status, const char *type,
                         struct strbuf *body)
{
    strbuf_printf(
        &conn->answer,
        "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n%sConnection: close\r\n\r\n",
        status, phrase(status), type, body->length, status == 405 ? "Allow: GET, HEAD\r\n" : "");
    if (!conn->head_only && body->length > 0) {
        strbuf_append(&conn->answer, body->data, body->length);
    }
    conn->answer.failed |= body->failed;
    strbuf_done(body);
    admin_conn_answer(conn);
}

static void respond_text(struct admin_conn *conn, unsigned status, const char *text)
{
    struct strbuf body;

    strbuf_init(&body);
    strbuf_append_text(&body, text);
    respond_take(conn, status, "text/plain; charset=utf-8", &body);
}

static void render_metrics(struct admin_conn *conn, const struct admin_table *tables)
{
    struct strbuf body;

    strbuf_init(&body);
    admin_report_prometheus(conn->admin, tables, &body);
    respond_take(conn, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static void render_status(struct admin_conn *conn, const struct admin_table *tables)
{
    struct strbuf body;

    strbuf_init(&body);
    admin_report_status(conn->admin, tables, true, &body);
    strbuf_append_char(&body, '\n');
    respond_take(conn, 200, "application/json", &body);
}

static void respond_ready(struct admin_conn *conn)
{
    const struct admin_sources *sources = &conn->admin->settings.sources;
    struct strbuf why, body;

    strbuf_init(&why);
    strbuf_init(&body);
    bool ready = sources->ready(sources->context, &why);
    strbuf_printf(&body, "%s%s", ready ? "ready\n" : "", strbuf_text(&why));
    strbuf_done(&why);
    respond_take(conn, ready ? 200 : 503, "text/plain; charset=utf-8", &body);
}

static void respond(struct admin_conn *conn, struct slice path)
{
    unsigned registry = 1u << ADMIN_APPS | 1u << ADMIN_GENERATIONS | 1u << ADMIN_WORKERS;

    if (slice_equal(path, SLICE("/livez"))) {
        respond_text(conn, 200, "live\n");
    } else if (slice_equal(path, SLICE("/readyz"))) {
        respond_ready(conn);
    } else if (slice_equal(path, SLICE("/metrics"))) {
        admin_gather_start(conn, registry, render_metrics);
    } else if (slice_equal(path, SLICE("/status"))) {
        admin_gather_start(conn, registry, render_status);
    } else {
        respond_text(conn, 404, "There are /livez, /readyz, /metrics and /status.\n");
    }
}

bool admin_http_read(struct admin_conn *conn)
{
    struct slice rest, after_method, after_path, ignored;

    if (strstr(conn->request, "\r\n\r\n") == NULL && strstr(conn->request, "\n\n") == NULL) {
        return false;
    }
    struct slice line = slice_cut((struct slice){conn->request, conn->request_length}, '\n', &rest);
    struct slice method = slice_cut(line, ' ', &after_method);
    struct slice target = slice_cut(after_method, ' ', &after_path);
    struct slice path = slice_cut(target, '?', &ignored);

    conn->head_only = slice_equal(method, SLICE("HEAD"));
    if (after_path.data == NULL || !slice_starts_with(after_path, SLICE("HTTP/1."))) {
        respond_text(conn, 400, "This is no HTTP/1.1 request.\n");
    } else if (!conn->head_only && !slice_equal(method, SLICE("GET"))) {
        respond_text(conn, 405, "Only GET and HEAD are answered here.\n");
    } else {
        respond(conn, path);
    }
    return true;
}
