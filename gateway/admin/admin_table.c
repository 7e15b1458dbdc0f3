/* SPDX-License-Identifier: MIT */
/*
 * Tables: the columns of each view, and the two ways to show them.
 */
#include "admin/admin_table.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"

#define COLUMNS_MAX 24

static const struct admin_column app_columns[] = {
    {"app", ADMIN_TEXT, NULL},
    {"state", ADMIN_TEXT, NULL},
    {"generation", ADMIN_TEXT, NULL},
    {"ready", ADMIN_NUMBER, "Ready workers of the generation that serves"},
    {"workers", ADMIN_NUMBER, "Workers connected"},
    {"in_flight", ADMIN_NUMBER, "Requests with workers"},
    {"waiting", ADMIN_NUMBER, "Requests waiting for a worker"},
    {"queue_max", ADMIN_NUMBER, "Requests that may wait"},
    {"socket", ADMIN_TEXT, NULL},
    {"last_error", ADMIN_LINES, NULL}};
static const struct admin_column generation_columns[] = {
    {"app", ADMIN_TEXT, NULL},
    {"generation", ADMIN_TEXT, NULL},
    {"state", ADMIN_TEXT, NULL},
    {"workers", ADMIN_NUMBER, "Workers of the generation"},
    {"ready", ADMIN_NUMBER, "Ready workers of the generation"},
    {"since", ADMIN_SECONDS, "Time since the generation came into its state"},
    {"reason", ADMIN_LINES, NULL}};
static const struct admin_column worker_columns[] = {
    {"app", ADMIN_TEXT, NULL},
    {"pid", ADMIN_NUMBER, NULL},
    {"id", ADMIN_TEXT, NULL},
    {"claimed", ADMIN_BOOL, "Whether the process id is only what the worker says"},
    {"state", ADMIN_TEXT, NULL},
    {"generation", ADMIN_TEXT, NULL},
    {"in_flight", ADMIN_NUMBER, "Requests with the worker"},
    {"capacity", ADMIN_NUMBER, "Requests that it takes at once"},
    {"long_lived", ADMIN_NUMBER, "WebSockets and streams that last"},
    {"abandoned", ADMIN_NUMBER, "Streams that the gateway has ended and the worker has not"},
    {"served", ADMIN_NUMBER, "Requests that it has ended"},
    {"refused", ADMIN_NUMBER, "Requests that it has refused"},
    {"failures", ADMIN_NUMBER, "Failures of the worker itself, in a row"},
    {"links", ADMIN_NUMBER, "Links open"},
    {"lag", ADMIN_SECONDS, "Round trip through its event loop"},
    {"rss", ADMIN_BYTES, "Resident memory"},
    {"age", ADMIN_SECONDS, "Time since it connected"},
    {"python", ADMIN_TEXT, NULL},
    {"version", ADMIN_TEXT, NULL},
    {"last_error", ADMIN_LINES, NULL}};
static const struct admin_column connection_columns[] = {
    {"id", ADMIN_NUMBER, NULL},       {"loop", ADMIN_NUMBER, NULL},
    {"client", ADMIN_TEXT, NULL},     {"protocol", ADMIN_TEXT, NULL},
    {"tls", ADMIN_TEXT, NULL},        {"server_name", ADMIN_TEXT, NULL},
    {"requests", ADMIN_NUMBER, NULL}, {"age", ADMIN_SECONDS, NULL},
    {"draining", ADMIN_BOOL, NULL},   {"state", ADMIN_TEXT, NULL}};
static const struct admin_column request_columns[] = {
    {"conn", ADMIN_NUMBER, NULL},     {"loop", ADMIN_NUMBER, NULL},
    {"app", ADMIN_TEXT, NULL},        {"worker", ADMIN_NUMBER, NULL},
    {"phase", ADMIN_TEXT, NULL},      {"age", ADMIN_SECONDS, NULL},
    {"status", ADMIN_NUMBER, NULL},   {"received", ADMIN_BYTES, NULL},
    {"to_worker", ADMIN_BYTES, NULL}, {"credit", ADMIN_BYTES, NULL},
    {"sent", ADMIN_BYTES, NULL},      {"to_client", ADMIN_BYTES, NULL},
    {"retries", ADMIN_NUMBER, NULL},  {"method", ADMIN_TEXT, NULL},
    {"host", ADMIN_TEXT, NULL},       {"target", ADMIN_TEXT, NULL}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
    const struct admin_column *columns;
    size_t count;
} views[ADMIN_VIEW_COUNT] = {
    [ADMIN_APPS] = {app_columns, COUNT(app_columns)},
    [ADMIN_GENERATIONS] = {generation_columns, COUNT(generation_columns)},
    [ADMIN_WORKERS] = {worker_columns, COUNT(worker_columns)},
    [ADMIN_CONNECTIONS] = {connection_columns, COUNT(connection_columns)},
    [ADMIN_REQUESTS] = {request_columns, COUNT(request_columns)},
};

/* --- filling -------------------------------------------------------------------------------------------------------- */

void admin_table_init(struct admin_table *table, enum admin_view view)
{
    REQUIRE((unsigned)view < ADMIN_VIEW_COUNT && views[view].count <= COLUMNS_MAX);
    *table =
        (struct admin_table){.columns = views[view].columns, .column_count = views[view].count};
    strbuf_init(&table->cells);
}

void admin_table_done(struct admin_table *table)
{
    strbuf_done(&table->cells);
    table->cell_count = 0;
}

static bool is_text(const struct admin_column *column)
{
    return column->kind == ADMIN_TEXT || column->kind == ADMIN_LINES;
}

static void end_cell(struct admin_table *table)
{
    strbuf_append_char(&table->cells, '\0');
    table->cell_count++;
}

void admin_table_text(struct admin_table *table, struct slice text)
{
    size_t length = text.length > 0 ? strnlen(text.data, text.length) : 0;

    REQUIRE(is_text(&table->columns[table->cell_count % table->column_count]));
    strbuf_append(&table->cells, text.data ? text.data : "", length);
    end_cell(table);
}

void admin_table_number(struct admin_table *table, uint64_t value)
{
    REQUIRE(!is_text(&table->columns[table->cell_count % table->column_count]));
    strbuf_printf(&table->cells, "%" PRIu64, value);
    end_cell(table);
}

void admin_table_none(struct admin_table *table)
{
    end_cell(table);
}

void admin_table_append(struct admin_table *table, const struct admin_table *from)
{
    REQUIRE(table->columns == from->columns);
    if (from->cells.length > 0) {
        strbuf_append(&table->cells, from->cells.data, from->cells.length);
    }
    table->cells.failed |= from->cells.failed;
    table->cell_count += from->cell_count;
    table->left_out += from->left_out;
}

bool admin_table_failed(const struct admin_table *table)
{
    return table->cells.failed;
}

size_t admin_table_rows(const struct admin_table *table)
{
    REQUIRE(table->column_count > 0);
    return table->cells.failed ? 0 : table->cell_count / table->column_count;
}

const char *admin_table_cell(const struct admin_table *table, size_t row, size_t column)
{
    const char *cell = table->cells.data;
    size_t index = row * table->column_count + column;

    REQUIRE(index < table->cell_count && !table->cells.failed);
    for (size_t i = 0; i < index; i++) {
        cell += strlen(cell) + 1;
    }
    return cell;
}

/* --- values --------------------------------------------------------------------------------------------------------- */

void admin_print_time(uint64_t nanoseconds, struct strbuf *out)
{
    uint64_t seconds = nanoseconds / CLOCK_NS_PER_S;

    if (nanoseconds < CLOCK_NS_PER_MS) {
        strbuf_printf(out, "%" PRIu64 "us", nanoseconds / CLOCK_NS_PER_US);
    } else if (seconds < 1) {
        strbuf_printf(out, "%" PRIu64 "ms", nanoseconds / CLOCK_NS_PER_MS);
    } else if (seconds < 60) {
        strbuf_printf(out, "%" PRIu64 ".%" PRIu64 "s", seconds,
                      nanoseconds % CLOCK_NS_PER_S / (100 * CLOCK_NS_PER_MS));
    } else if (seconds < 3600) {
        strbuf_printf(out, "%" PRIu64 "m%02" PRIu64 "s", seconds / 60, seconds % 60);
    } else if (seconds < 48 * 3600) {
        strbuf_printf(out, "%" PRIu64 "h%02" PRIu64 "m", seconds / 3600, seconds / 60 % 60);
    } else {
        strbuf_printf(out, "%" PRIu64 "d%02" PRIu64 "h", seconds / 86400, seconds / 3600 % 24);
    }
}

static void print_bytes(uint64_t value, struct strbuf *out)
{
    static const char units[] = "KMGTP";
    uint64_t tenths = value * 10;
    size_t unit = 0;

    if (value < 1024) {
        strbuf_printf(out, "%" PRIu64, value);
        return;
    }
    for (tenths /= 1024; tenths >= 10240 && unit + 2 < sizeof(units); unit++) {
        tenths /= 1024;
    }
    strbuf_printf(out, "%" PRIu64 ".%" PRIu64 "%c", tenths / 10, tenths % 10, units[unit]);
}

void admin_print_clean(const char *text, struct strbuf *out)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f) {
            strbuf_append_char(out, ' ');
        } else {
            strbuf_append_char(out, *text);
        }
    }
}

/* The last line says what a traceback is about. */
static void print_last_line(const char *text, struct strbuf *out)
{
    size_t end = strlen(text);

    while (end > 0 && text[end - 1] == '\n') {
        end--;
    }
    size_t start = end;
    while (start > 0 && text[start - 1] != '\n') {
        start--;
    }
    for (; start < end; start++) {
        admin_print_clean((char[2]){text[start], '\0'}, out);
    }
}

static void print_cell(const struct admin_column *column, const char *cell, struct strbuf *out)
{
    if (cell[0] == '\0') {
        strbuf_append_char(out, '-');
        return;
    }
    switch (column->kind) {
    case ADMIN_TEXT:
        admin_print_clean(cell, out);
        break;
    case ADMIN_LINES:
        print_last_line(cell, out);
        break;
    case ADMIN_NUMBER:
        strbuf_append_text(out, cell);
        break;
    case ADMIN_BYTES:
        print_bytes(strtoull(cell, NULL, 10), out);
        break;
    case ADMIN_SECONDS:
        admin_print_time(strtoull(cell, NULL, 10), out);
        break;
    case ADMIN_BOOL:
        strbuf_append_text(out, cell[0] == '0' ? "no" : "yes");
        break;
    }
}

static void json_cell(const struct admin_column *column, const char *cell, struct strbuf *out)
{
    unsigned long long value = strtoull(cell, NULL, 10);

    if (cell[0] == '\0') {
        strbuf_append_text(out, "null");
        return;
    }
    switch (column->kind) {
    case ADMIN_TEXT:
    case ADMIN_LINES:
        strbuf_append_char(out, '"');
        strbuf_append_json(out, slice_from(cell));
        strbuf_append_char(out, '"');
        break;
    case ADMIN_NUMBER:
    case ADMIN_BYTES:
        strbuf_append_text(out, cell);
        break;
    case ADMIN_SECONDS:
        strbuf_printf(out, "%llu.%06llu", value / CLOCK_NS_PER_S,
                      value % CLOCK_NS_PER_S / CLOCK_NS_PER_US);
        break;
    case ADMIN_BOOL:
        strbuf_append_text(out, value ? "true" : "false");
        break;
    }
}

/* --- tables --------------------------------------------------------------------------------------------------------- */

/* Calls for each cell in order: walking the cells once is what keeps large tables cheap. */
static const char *next_cell(const char *cell)
{
    return cell + strlen(cell) + 1;
}

static void measure(const struct admin_table *table, size_t widths[COLUMNS_MAX])
{
    const char *cell = table->cells.data;
    struct strbuf text;

    strbuf_init(&text);
    for (size_t i = 0; i < table->column_count; i++) {
        widths[i] = strlen(table->columns[i].name);
    }
    for (size_t i = 0; i < admin_table_rows(table) * table->column_count;
         i++, cell = next_cell(cell)) {
        size_t column = i % table->column_count;
        strbuf_clear(&text);
        print_cell(&table->columns[column], cell, &text);
        widths[column] = text.length > widths[column] ? text.length : widths[column];
    }
    strbuf_done(&text);
}

/* Text to the left, numbers to the right; no spaces at the end of a line. */
static void print_aligned(const struct admin_column *column, const char *text, size_t width,
                          bool last, struct strbuf *out)
{
    if (is_text(column)) {
        strbuf_printf(out, "%-*s", last ? 0 : (int)width, text);
    } else {
        strbuf_printf(out, "%*s", (int)width, text);
    }
    strbuf_append_text(out, last ? "\n" : "  ");
}

void admin_table_print(const struct admin_table *table, struct strbuf *out)
{
    size_t widths[COLUMNS_MAX];
    const char *cell = table->cells.data;
    struct strbuf text;

    measure(table, widths);
    strbuf_init(&text);
    for (size_t i = 0; i < table->column_count; i++) {
        strbuf_clear(&text);
        for (const char *c = table->columns[i].name; *c != '\0'; c++) {
            strbuf_append_char(&text, (char)toupper((unsigned char)*c));
        }
        print_aligned(&table->columns[i], strbuf_text(&text), widths[i],
                      i + 1 == table->column_count, out);
    }
    for (size_t i = 0; i < admin_table_rows(table) * table->column_count;
         i++, cell = next_cell(cell)) {
        size_t column = i % table->column_count;
        strbuf_clear(&text);
        print_cell(&table->columns[column], cell, &text);
        print_aligned(&table->columns[column], strbuf_text(&text), widths[column],
                      column + 1 == table->column_count, out);
    }
    if (table->left_out > 0) {
        strbuf_printf(out, "... and %zu more\n", table->left_out);
    }
    strbuf_done(&text);
}

void admin_table_json(const struct admin_table *table, struct strbuf *out)
{
    const char *cell = table->cells.data;

    strbuf_append_char(out, '[');
    for (size_t i = 0; i < admin_table_rows(table) * table->column_count;
         i++, cell = next_cell(cell)) {
        size_t column = i % table->column_count;
        strbuf_append_text(out, column > 0 ? "," : i > 0 ? ",{" : "{");
        strbuf_printf(out, "\"%s\":", table->columns[column].name);
        json_cell(&table->columns[column], cell, out);
        strbuf_append_text(out, column + 1 == table->column_count ? "}" : "");
    }
    if (table->left_out > 0) { /* a last element of its own: who counts rows must see it */
        strbuf_printf(out, "%s{\"truncated\":true,\"left_out\":%zu}",
                      admin_table_rows(table) > 0 ? "," : "", table->left_out);
    }
    strbuf_append_char(out, ']');
}
