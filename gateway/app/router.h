/* SPDX-License-Identifier: MIT */
/*
 * The router: which app answers a request, by host and path prefix; first match wins. Immutable, replaced whole.
 */
#ifndef GATEWAY_APP_ROUTER_H
#define GATEWAY_APP_ROUTER_H

#include "app/settings.h"
#include "http/head.h"

struct router {
    const struct route_settings *routes;
    size_t route_count;
    size_t only_app; /* without routes: the app that gets everything; SIZE_MAX: none */
};

/* The first route that matches the request's authority and path, NULL when none does (or there are no routes). The path is
 * compared after dot segments and doubled slashes were resolved, so that "/static/../admin" does not match "/static/". */
const struct route_settings *router_match(const struct router *router,
                                          const struct request_head *head);

#endif
