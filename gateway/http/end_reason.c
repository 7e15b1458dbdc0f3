/* SPDX-License-Identifier: MIT */
/* The table of end reasons as functions. */
#include "http/end_reason.h"

#include "base/check.h"

struct end_reason_row {
    const char *name;
    unsigned status;
    const char *text;
};

static const struct end_reason_row rows[END_REASON_COUNT] = {
#define END_REASON(constant, name, status, text, meaning) {(name), (status), (text)},
    END_REASONS(END_REASON)
#undef END_REASON
};

const char *end_reason_name(enum end_reason reason)
{
    REQUIRE(reason < END_REASON_COUNT);
    return rows[reason].name;
}

unsigned end_reason_status(enum end_reason reason)
{
    REQUIRE(reason < END_REASON_COUNT);
    return rows[reason].status;
}

const char *end_reason_text(enum end_reason reason)
{
    REQUIRE(reason < END_REASON_COUNT);
    return rows[reason].text;
}
