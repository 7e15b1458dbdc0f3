/* SPDX-License-Identifier: MIT */
/* The exchange handler: routes a request to an app's pool, and passes an exchange's news to its forward. */
#include "app/forward.h"
#include "app/forward_ws.h"
#include "app/proxy_headers.h"
#include "base/metrics.h"
#include "http/conn.h"

/* For the access log: who is behind a trusted proxy. */
static void note_client(const struct app_loop *app_loop, struct exchange *exchange)
{
    struct proxy_identity proxied;
    if (exchange->conn->identity.trusted_proxy) {
        proxy_headers_resolve(app_loop->settings, exchange->conn, &exchange->request, &proxied);
        /* The connection's own text may be another one by the time of the log: QUIC's clients move. */
        if (proxied.identity.client_host.data != exchange->conn->identity.client_host.data) {
            exchange->client_host = proxied.identity.client_host;
        }
    }
}

static void on_head(struct exchange *exchange)
{
    struct app_loop *app_loop = exchange->conn->group->handler_context;
    note_client(app_loop, exchange);
    const struct router *router = &app_loop->settings->router;
    const struct route_settings *route = router_match(router, &exchange->request);
    size_t app = route != NULL              ? route->app
                 : router->route_count == 0 ? router->only_app
                                            : SIZE_MAX;
    if (app == SIZE_MAX) {
        METRIC_INCREMENT(routes_missed);
        exchange_client_fail(exchange, END_NO_ROUTE, SLICE("no route matches"));
        return;
    }
    REQUIRE(app < app_loop->settings->app_count);
    struct pool *pool = app_loop->apps->apps[app]->pools[app_loop->index];
    if (exchange->request.kind == REQUEST_WEBSOCKET) {
        forward_ws_start(app_loop, exchange, pool, route);
        return;
    }
    forward_start(app_loop, exchange, pool, route, NULL);
}

static void on_body(struct exchange *exchange)
{
    forward_body(exchange->worker_half);
}

static void on_released(struct exchange *exchange, size_t length)
{
    forward_released(exchange->worker_half, length);
}

static void on_client_gone(struct exchange *exchange, bool half_closed)
{
    forward_client_gone(exchange->worker_half, half_closed);
}

const struct exchange_handler app_handler = {
    .on_head = on_head,
    .on_body = on_body,
    .on_released = on_released,
    .on_client_gone = on_client_gone,
};
