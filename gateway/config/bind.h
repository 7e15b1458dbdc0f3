/* SPDX-License-Identifier: MIT */
/*
 * What a "bind" string names, so that two that name the same can be told before a socket is opened. Binding itself is
 * net/listener's.
 */
#ifndef GATEWAY_CONFIG_BIND_H
#define GATEWAY_CONFIG_BIND_H

#include <stdbool.h>

#include "base/slice.h"
#include "net/addr.h"

enum bind_kind { BIND_TCP, BIND_UNIX, BIND_DESCRIPTOR };

struct bind_place {
    enum bind_kind kind;
    struct addr addrs[2]; /* BIND_TCP: "*" gives both families */
    size_t addr_count;
    struct slice path;     /* BIND_UNIX */
    unsigned long long fd; /* BIND_DESCRIPTOR */
};

/* What bind_parse accepts, for error texts. */
#define BIND_EXPECTED "\"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or \"fd://3\""

/* Parses a bind string. False: `*ret_problem` says what is wrong with it (a static string). */
bool bind_parse(struct slice text, struct bind_place *ret_place, const char **ret_problem);
/* Whether only one of them can be listened on: the same place, or one address beside all of its family. Port 0 is no place yet. */
bool bind_same(const struct bind_place *a, const struct bind_place *b);

#endif
