/* SPDX-License-Identifier: MIT */
/*
 * What a process may do: resource limits for both processes, and the server's way from root to an
 * ordinary user.
 */
#ifndef GATEWAY_PRIVILEGES_H
#define GATEWAY_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/slice.h"

/* Who a process becomes. */
struct identity {
    bool change; /* false: stay who we are */
    uid_t uid;
    gid_t gid;
    char name[64];
};

/* Looks `user` up when we are root; empty, or not root: no change. ERROR_NOT_FOUND: no such
 * user; ERROR_LIMIT: its name is too long. */
enum error identity_find(struct slice user, struct identity *ret_identity) MUST_CHECK;
/* Raises the soft limit on descriptors to the hard one. */
void privileges_raise_descriptors(void);
/* Becomes `identity` for good: groups, ids, capabilities; then no new privileges, and outside
 * debug builds neither core files nor tracing by others. Before any thread is started. ERROR_IO:
 * logged, and the process must end. */
enum error privileges_drop(const struct identity *identity) MUST_CHECK;

#endif
