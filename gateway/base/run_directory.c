/* SPDX-License-Identifier: MIT */
/*
 * The rule for the run directory, once for all programs (the Python worker has the same rule in its config module).
 */
#include "base/run_directory.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"

size_t run_directory(char *out, size_t size)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int length;

    if (geteuid() == 0) {
        length = snprintf(out, size, "/run/gatewayd");
    } else if (runtime != NULL && runtime[0] == '/') {
        length = snprintf(out, size, "%s/gatewayd", runtime);
    } else {
        length = snprintf(out, size, "/run/user/%u/gatewayd", (unsigned)geteuid());
    }
    REQUIRE(length > 0);
    return (size_t)length;
}
