/* SPDX-License-Identifier: MIT */
/*
 * What the gateway says about itself: status, all metrics by name, and the Prometheus text format
 * (prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4).
 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "admin/admin_conn.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

static const char *level_name(void)
{
    static const char *const names[LOG_LEVEL_COUNT] = {"debug", "info", "warning", "error"};
    return names[log_get_level()];
}

/* --- metrics -------------------------------------------------------------------------------------------------------- */

void admin_report_metrics(struct slice prefix, bool json, struct strbuf *out)
{
    const char *separator = "";

    strbuf_append_text(out, json ? "{" : "");
    for (int i = 0; i < METRIC_COUNT; i++) {
        const char *name = metrics_name((enum metric)i);
        if (!slice_starts_with(slice_from(name), prefix)) {
            continue;
        }
        if (json) {
            strbuf_printf(out, "%s\"%s\":%" PRId64, separator, name, metrics_sum((enum metric)i));
            separator = ",";
        } else {
            strbuf_printf(out, "%-28s %" PRId64 "\n", name, metrics_sum((enum metric)i));
        }
    }
    strbuf_append_text(out, json ? "}" : "");
}

/* The gauges of live objects: all zero when nobody is connected. */
static void live_json(struct strbuf *out)
{
    const char *separator = "";

    strbuf_append_char(out, '{');
    for (int i = 0; i < METRIC_COUNT; i++) {
        if (metrics_kind((enum metric)i) == METRIC_KIND_LIVE) {
            strbuf_printf(out, "%s\"%s\":%" PRId64, separator, metrics_name((enum metric)i),
                          metrics_sum((enum metric)i));
            separator = ",";
        }
    }
    strbuf_append_char(out, '}');
}

/* --- status --------------------------------------------------------------------------------------------------------- */

static void status_json(const struct admin *admin, const struct admin_table *tables, bool ready,
                        const struct strbuf *why, struct strbuf *out)
{
    uint64_t uptime = clock_now() - admin->started_at;

    strbuf_printf(out,
                  "{\"version\":\"%s\",\"pid\":%d,\"uptime\":%" PRIu64 ".%06" PRIu64
                  ",\"loops\":%u,\"log_level\":\"%s\",\"ready\":%s,\"not_ready_because\":\"",
                  GATEWAYD_VERSION, (int)getpid(), uptime / CLOCK_NS_PER_S,
                  uptime % CLOCK_NS_PER_S / CLOCK_NS_PER_US, admin->settings.loop_count,
                  level_name(), ready ? "true" : "false");
    strbuf_append_json(out, ready ? SLICE("") : (struct slice){strbuf_text(why), why->length});
    strbuf_append_text(out, "\",");
    admin_wish_report(admin, true, out);
    strbuf_append_text(out, "\"apps\":");
    admin_table_json(&tables[ADMIN_APPS], out);
    strbuf_append_text(out, ",\"generations\":");
    admin_table_json(&tables[ADMIN_GENERATIONS], out);
    strbuf_append_text(out, ",\"workers\":");
    admin_table_json(&tables[ADMIN_WORKERS], out);
    strbuf_append_text(out, ",\"live\":");
    live_json(out);
    strbuf_append_text(out, ",\"metrics\":");
    admin_report_metrics(SLICE(""), true, out);
    strbuf_append_char(out, '}');
}

/* Whether there is more to say than that workers without a generation serve. */
static bool names_generations(const struct admin_table *table)
{
    return admin_table_rows(table) > 1 ||
           (admin_table_rows(table) == 1 && admin_table_cell(table, 0, 1)[0] != '\0');
}

/* The whole texts of which the table shows the last lines. */
static void failures_text(const struct admin_table *table, struct strbuf *out)
{
    for (size_t row = 0; row < admin_table_rows(table); row++) {
        struct slice rest = slice_from(admin_table_cell(table, row, 6));
        if (memchr(rest.length > 0 ? rest.data : "", '\n', rest.length) == NULL) {
            continue;
        }
        strbuf_append_text(out, "\ngeneration ");
        admin_print_clean(admin_table_cell(table, row, 1), out);
        strbuf_append_text(out, ":\n");
        while (rest.data != NULL && rest.length > 0) {
            char line[512];
            struct slice text = slice_cut(rest, '\n', &rest);
            snprintf(line, sizeof(line), "    %.*s", SLICE_PRINT(text));
            admin_print_clean(line, out);
            strbuf_append_char(out, '\n');
        }
    }
}

static void status_text(const struct admin *admin, const struct admin_table *tables, bool ready,
                        const struct strbuf *why, struct strbuf *out)
{
    strbuf_printf(out, "gatewayd %s, process %d, up ", GATEWAYD_VERSION, (int)getpid());
    admin_print_time(clock_now() - admin->started_at, out);
    strbuf_printf(out, ", %u loop%s, log level %s\n", admin->settings.loop_count,
                  admin->settings.loop_count == 1 ? "" : "s", level_name());
    if (ready) {
        strbuf_printf(out, "ready\n%s", strbuf_text(why));
    } else {
        strbuf_printf(out, "NOT READY: %s%s", strbuf_text(why),
                      why->length > 0 && why->data[why->length - 1] == '\n' ? "" : "\n");
    }
    admin_wish_report(admin, false, out);
    strbuf_printf(
        out,
        "connections %" PRId64 " (accepted %" PRId64 ")   requests %" PRId64 " (received %" PRId64
        ", waiting %" PRId64 ")   workers %" PRId64 " (ready %" PRId64 ")\n"
        "responses 1xx %" PRId64 "  2xx %" PRId64 "  3xx %" PRId64 "  4xx %" PRId64 "  5xx %" PRId64
        "  by the gateway %" PRId64 "  aborted %" PRId64 "  clients gone %" PRId64 "\n\n",
        metrics_sum(METRIC_conns), metrics_sum(METRIC_conns_accepted),
        metrics_sum(METRIC_exchanges), metrics_sum(METRIC_requests),
        metrics_sum(METRIC_requests_waiting), metrics_sum(METRIC_workers),
        metrics_sum(METRIC_workers_ready), metrics_sum(METRIC_responses_1xx),
        metrics_sum(METRIC_responses_2xx), metrics_sum(METRIC_responses_3xx),
        metrics_sum(METRIC_responses_4xx), metrics_sum(METRIC_responses_5xx),
        metrics_sum(METRIC_responses_by_gateway), metrics_sum(METRIC_responses_aborted),
        metrics_sum(METRIC_clients_gone));
    admin_table_print(&tables[ADMIN_APPS], out);
    if (names_generations(&tables[ADMIN_GENERATIONS])) {
        strbuf_append_char(out, '\n');
        admin_table_print(&tables[ADMIN_GENERATIONS], out);
        failures_text(&tables[ADMIN_GENERATIONS], out);
    }
}

void admin_report_status(const struct admin *admin, const struct admin_table *tables, bool json,
                         struct strbuf *out)
{
    const struct admin_sources *sources = &admin->settings.sources;
    struct strbuf why;

    strbuf_init(&why);
    bool ready = sources->ready(sources->context, &why);
    if (json) {
        status_json(admin, tables, ready, &why, out);
    } else {
        status_text(admin, tables, ready, &why, out);
    }
    out->failed |= why.failed;
    strbuf_done(&why);
}

/* --- Prometheus ----------------------------------------------------------------------------------------------------- */

/* A label's value: backslash, quote and line feed are escaped. */
static void append_label(const char *text, struct strbuf *out)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\' || *text == '"') {
            strbuf_append_char(out, '\\');
        }
        strbuf_append_text(out, *text == '\n' ? "\\n" : "");
        if (*text != '\n') {
            strbuf_append_char(out, *text);
        }
    }
}

static void append_sample(const struct admin_column *column, const char *cell, struct strbuf *out)
{
    unsigned long long value = 0;

    if (column->kind != ADMIN_SECONDS) {
        strbuf_printf(out, "%s\n", cell);
        return;
    }
    for (; *cell != '\0'; cell++) {
        value = value * 10 + (unsigned long long)(*cell - '0');
    }
    strbuf_printf(out, "%llu.%09llu\n", value / CLOCK_NS_PER_S, value % CLOCK_NS_PER_S);
}

/* Each numeric column is a metric, each row a time series that is told by the first `labels` columns. */
static void append_table(const struct admin_table *table, const char *prefix, size_t labels,
                         struct strbuf *out)
{
    for (size_t column = labels; column < table->column_count; column++) {
        const struct admin_column *about = &table->columns[column];
        const char *unit = about->kind == ADMIN_SECONDS ? "_seconds"
                           : about->kind == ADMIN_BYTES ? "_bytes"
                                                        : "";
        if (about->kind == ADMIN_TEXT || about->kind == ADMIN_LINES ||
            admin_table_rows(table) == 0) {
            continue;
        }
        strbuf_printf(out, "# HELP gatewayd_%s_%s%s %s.\n# TYPE gatewayd_%s_%s%s gauge\n", prefix,
                      about->name, unit, about->help, prefix, about->name, unit);
        for (size_t row = 0; row < admin_table_rows(table); row++) {
            const char *cell = admin_table_cell(table, row, column);
            if (cell[0] == '\0') {
                continue;
            }
            strbuf_printf(out, "gatewayd_%s_%s%s{", prefix, about->name, unit);
            for (size_t label = 0; label < labels; label++) {
                strbuf_printf(out, "%s%s=\"", label > 0 ? "," : "", table->columns[label].name);
                append_label(admin_table_cell(table, row, label), out);
                strbuf_append_char(out, '"');
            }
            strbuf_append_text(out, "} ");
            append_sample(about, cell, out);
        }
    }
}

void admin_report_prometheus(const struct admin *admin, const struct admin_table *tables,
                             struct strbuf *out)
{
    uint64_t uptime = clock_now() - admin->started_at;

    strbuf_printf(
        out,
        "# HELP gatewayd_build_info The version that runs.\n# TYPE gatewayd_build_info gauge\n"
        "gatewayd_build_info{version=\"%s\"} 1\n"
        "# HELP gatewayd_uptime_seconds Time since the server process started.\n"
        "# TYPE gatewayd_uptime_seconds gauge\ngatewayd_uptime_seconds %" PRIu64 ".%03" PRIu64 "\n",
        GATEWAYD_VERSION, uptime / CLOCK_NS_PER_S, uptime % CLOCK_NS_PER_S / CLOCK_NS_PER_MS);
    for (int i = 0; i < METRIC_COUNT; i++) {
        enum metric metric = (enum metric)i;
        bool counter = metrics_kind(metric) == METRIC_KIND_COUNTER;
        const char *name = metrics_name(metric), *suffix = counter ? "_total" : "";
        strbuf_printf(
            out, "# HELP gatewayd_%s%s %s.\n# TYPE gatewayd_%s%s %s\ngatewayd_%s%s %" PRId64 "\n",
            name, suffix, metrics_help(metric), name, suffix, counter ? "counter" : "gauge", name,
            suffix, metrics_sum(metric));
    }
    append_table(&tables[ADMIN_APPS], "app", 1, out);
    append_table(&tables[ADMIN_GENERATIONS], "generation", 3, out);
    append_table(&tables[ADMIN_WORKERS], "worker", 2, out);
}
