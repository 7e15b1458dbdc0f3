/* SPDX-License-Identifier: MIT */
/*
 * The error values that cross module borders inside the gateway. They say what the caller can do,
 * not what happened in detail: details go to a log line or an error text at the place that knows
 * them.
 */
#ifndef GATEWAY_BASE_ERROR_H
#define GATEWAY_BASE_ERROR_H

#include "base/check.h"

enum error {
    ERROR_NONE = 0,
    ERROR_NO_MEMORY, /* an allocation failed: fail this request, go on with the others */
    ERROR_AGAIN,     /* nothing to do now; an event will tell */
    ERROR_CLOSED,    /* the peer ended the stream in order */
    ERROR_IO,        /* the operating system refused: errno holds why */
    ERROR_PROTOCOL,  /* the peer broke its protocol */
    ERROR_LIMIT,     /* a bound was reached */
    ERROR_INVALID,   /* the value given is not one that is allowed */
    ERROR_NOT_FOUND,
    ERROR_COUNT
};

/* The name of an error for logs: a static string, "unknown" for a value out of range. */
const char *error_name(enum error error);

#endif
