/* SPDX-License-Identifier: MIT */
/*
 * Rows of values with named columns, shown as aligned text for people or as JSON for scripts. A table belongs to one thread at a
 * time: loops fill their own and hand them over.
 */
#ifndef GATEWAY_ADMIN_ADMIN_TABLE_H
#define GATEWAY_ADMIN_ADMIN_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/strbuf.h"

enum admin_kind {
    ADMIN_TEXT,    /* JSON: string, null when empty */
    ADMIN_LINES,   /* the same; text: the last line that is not empty */
    ADMIN_NUMBER,  /* JSON: number */
    ADMIN_BYTES,   /* JSON: number; text: "1.5M" */
    ADMIN_SECONDS, /* kept in nanoseconds; JSON: seconds with six decimals; text: "1.5s" */
    ADMIN_BOOL     /* JSON: true, false; text: yes, no */
};

struct admin_column {
    const char *name; /* JSON key; in capitals the text's heading */
    enum admin_kind kind;
    const char *help; /* of numbers, for Prometheus; NULL elsewhere */
};

/* What can be asked of the gateway's loops. */
enum admin_view {
    ADMIN_APPS,
    ADMIN_GENERATIONS,
    ADMIN_WORKERS,
    ADMIN_CONNECTIONS,
    ADMIN_REQUESTS,
    ADMIN_VIEW_COUNT
};

/* Rows of one loop in one answer: listing a hundred thousand connections would stop the loop that lists them. */
#define ADMIN_ROWS_MAX 5000

struct admin_table {
    const struct admin_column *columns;
    size_t column_count;
    struct strbuf cells; /* each a text with its NUL, row by row */
    size_t cell_count;
    size_t left_out; /* rows above ADMIN_ROWS_MAX */
};

/* An empty table with the columns of a view. */
void admin_table_init(struct admin_table *table, enum admin_view view);
void admin_table_done(struct admin_table *table);
/* The next cell: of a text column, of any other one, none (null). A row is as many cells as there are columns. */
void admin_table_text(struct admin_table *table, struct slice text);
void admin_table_number(struct admin_table *table, uint64_t value);
void admin_table_none(struct admin_table *table);
/* Appends the rows of `from`, which has the same columns. */
void admin_table_append(struct admin_table *table, const struct admin_table *from);
/* The text of a cell: NUL-terminated, valid until the table changes. */
const char *admin_table_cell(const struct admin_table *table, size_t row, size_t column);
size_t admin_table_rows(const struct admin_table *table);
/* Whether memory ran out while it was filled. */
bool admin_table_failed(const struct admin_table *table);

/* Aligned columns with a heading; a JSON array of objects. */
void admin_table_print(const struct admin_table *table, struct strbuf *out);
void admin_table_json(const struct admin_table *table, struct strbuf *out);
/* "1.5s", "250ms", "3h02m": a time for people. */
void admin_print_time(uint64_t nanoseconds, struct strbuf *out);
/* Bytes that somebody else chose, without control characters, for a terminal. */
void admin_print_clean(const char *text, struct strbuf *out);

#endif
