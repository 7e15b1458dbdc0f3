/* SPDX-License-Identifier: MIT */
/*
 * The end of the process when the gateway itself is wrong. It owns nothing and uses neither the log
 * nor the allocator, either of which may be what is broken.
 */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void check_fail(const char *condition, const char *file, int line, const char *function)
{
    char text[512];
    int length =
        snprintf(text, sizeof(text),
                 "gatewayd: bug: %s:%d: %s(): \"%s\" does not hold; please report this line\n",
                 file, line, function, condition);

    if (length > 0) {
        size_t size = (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1;
        /* Nothing can be done about a refused write here. */
        ssize_t written = write(STDERR_FILENO, text, size);
        (void)written;
    }
    abort();
}
