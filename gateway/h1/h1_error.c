/* SPDX-License-Identifier: MIT */
/* The table of h1_error.h as data. Knows nothing of parsing. */
#include "h1/h1_error.h"

struct row {
    unsigned status;
    enum metric metric;
    const char *text;
};

static const struct row rows[H1_ERROR_COUNT] = {
#define H1_ERROR(name, status, metric, text) {status, METRIC_##metric, text},
    H1_ERRORS(H1_ERROR)
#undef H1_ERROR
};

static const struct row *row_of(enum h1_error error)
{
    REQUIRE(error > H1_ERROR_NONE && error < H1_ERROR_COUNT);
    return &rows[error];
}

unsigned h1_error_status(enum h1_error error)
{
    return row_of(error)->status;
}

const char *h1_error_text(enum h1_error error)
{
    return row_of(error)->text;
}

void h1_error_count(enum h1_error error)
{
    metric_add(row_of(error)->metric, 1);
}
