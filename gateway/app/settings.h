/* SPDX-License-Identifier: MIT */
/*
 * Apps and routes as config gives them. Times are nanoseconds.
 */
#ifndef GATEWAY_APP_SETTINGS_H
#define GATEWAY_APP_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/slice.h"

enum app_retry { APP_RETRY_NEVER, APP_RETRY_UNSTARTED, APP_RETRY_SAFE, APP_RETRY_IDEMPOTENT };

struct app_settings {
    struct slice name;
    struct slice socket;  /* absolute path */
    struct slice group;   /* group of the socket file; empty: unchanged */
    unsigned socket_mode; /* of the socket file, 0660 */
    const uid_t *allow_uids;
    size_t allow_uid_count;
    uint32_t queue_max;
    uint64_t queue_timeout;
    uint64_t pause_timeout;
    enum app_retry retry;
    uint32_t max_open_files; /* descriptors of workers' files at once; 0: none are taken */
    uint32_t long_lived_max; /* WebSockets of one worker */
    uint64_t
        ws_on_drain; /* how long WebSockets of a worker that goes away are kept; 0: closed at once */
    uint32_t min_ready; /* at least 1 */
    uint64_t soak, probation, rollback_keep;
    bool promote_auto;
    struct slice warmup; /* target of the request that a new worker is tried with; empty: none */
    struct slice state_file; /* where generations are remembered; empty: nowhere */
    uint64_t slow_start;     /* until a new worker is given its whole share; 0: at once */
};

struct route_settings {
    struct slice host;  /* lower case; empty: any; "*.example.com": any label before it */
    struct slice path;  /* prefix, begins with '/'; "/" by default */
    size_t app;         /* index into the apps; SIZE_MAX: files */
    struct slice files; /* directory; not served yet */
    bool strip_prefix;
};

/* Which identity fields of a trusted proxy are believed. */
enum proxy_headers_style {
    PROXY_HEADERS_AUTO, /* X-Forwarded-* of a request that has one of them, else Forwarded */
    PROXY_HEADERS_X_FORWARDED,
    PROXY_HEADERS_FORWARDED /* RFC 7239 */
};
struct proxy_headers_settings {
    bool use_for, use_proto, use_host, use_prefix;
    enum proxy_headers_style style;
};

#endif
