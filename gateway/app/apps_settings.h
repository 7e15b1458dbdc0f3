/* SPDX-License-Identifier: MIT */
/*
 * What app/ is told of one configuration: immutable, and replaced whole (app_reload.h). Who uses it beyond the present turn is
 * counted in its loop.
 */
#ifndef GATEWAY_APP_APPS_SETTINGS_H
#define GATEWAY_APP_APPS_SETTINGS_H

#include "app/router.h"
#include "app/settings.h"
#include "base/check.h"
#include "http/settings.h"
#include "ipc/settings.h"
#include "ws/ws_settings.h"

/* How many objects of one loop use a configuration, each on a cache line of its own. */
struct apps_users {
    uint32_t count;
    char pad[60];
};

/* Everything that the server hands over of one configuration: immutable, and replaced whole by app_reload.h. */
struct apps_settings {
    const struct app_settings *apps;
    const int *sockets; /* bound listening sockets, one per app; not owned */
    size_t app_count;
    struct router router;
    const struct ipc_settings *ipc;
    const struct http_settings *http;
    const struct ws_settings *ws; /* NULL: no WebSockets */
    unsigned file_threads;        /* at most; 0: 1 */
    struct slice server_cert_pem; /* of the default certificate; empty: none */
    struct proxy_headers_settings proxy_headers;
    /* Whether an address as text belongs to a trusted proxy ([proxy_headers] trusted). */
    bool (*trusted)(const void *context, struct slice host);
    const void *trusted_context;
    /* One per loop, touched in that loop's thread only; what the settings point to lives until all are zero and others were
     * committed. NULL: it outlives the apps. */
    struct apps_users *users;
};

/* One more, one less user of the settings in this loop. */
static inline const struct apps_settings *apps_settings_hold(const struct apps_settings *settings,
                                                             unsigned loop_index)
{
    if (settings->users != NULL) {
        settings->users[loop_index].count++;
    }
    return settings;
}
static inline void apps_settings_release(const struct apps_settings *settings, unsigned loop_index)
{
    if (settings->users != NULL) {
        REQUIRE(settings->users[loop_index].count > 0);
        settings->users[loop_index].count--;
    }
}

#endif
