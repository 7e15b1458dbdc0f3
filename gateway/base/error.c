/* SPDX-License-Identifier: MIT */
/* The names of the error values, for logs. */
#include "base/error.h"

#include <stddef.h>

static const char *const error_names[ERROR_COUNT] = {
    [ERROR_NONE] = "none",           [ERROR_NO_MEMORY] = "out of memory",
    [ERROR_AGAIN] = "again",         [ERROR_CLOSED] = "closed",
    [ERROR_IO] = "system error",     [ERROR_PROTOCOL] = "protocol error",
    [ERROR_LIMIT] = "limit",         [ERROR_INVALID] = "invalid value",
    [ERROR_NOT_FOUND] = "not found",
};

const char *error_name(enum error error)
{
    if ((int)error < 0 || error >= ERROR_COUNT) {
        return "unknown";
    }
    return error_names[error];
}
