/* SPDX-License-Identifier: MIT */
/* Route matching: host exact or "*.suffix", path by prefix on a normalised copy. It owns nothing. */
#include "app/router.h"

#include "http/fields.h"

/* The normalised form is kept up to this length, which is more than a route's path has (schema.def: 4096), so that what follows
 * decides nothing. */
#define NORMAL_MAX 4352

/* A path in the making: what of its names is in `text`, and how many whole names came after that was full. */
struct normal {
    char text[NORMAL_MAX];
    size_t length;
    size_t beyond;
};

static void push(struct normal *normal, struct slice name)
{
    if (normal->length == NORMAL_MAX) {
        normal->beyond++;
        return;
    }
    normal->text[normal->length++] = '/';
    size_t room = NORMAL_MAX - normal->length;
    size_t part = name.length < room ? name.length : room;
    memcpy(normal->text + normal->length, name.data, part);
    normal->length += part;
}

/* Also what is beyond counts: "/static/<long name>/../../admin" does not begin with "/static/". */
static void pop(struct normal *normal)
{
    if (normal->beyond > 0) {
        normal->beyond--;
        return;
    }
    while (normal->length > 0 && normal->text[--normal->length] != '/') {
    }
}

/* Writes `path` without empty, "." and ".." segments (RFC 3986 5.2.4), and without a slash at its end. */
static void normalise(struct slice path, struct normal *normal)
{
    size_t i = 0;
    normal->length = normal->beyond = 0;
    while (i < path.length) {
        while (i < path.length && path.data[i] == '/') {
            i++;
        }
        size_t start = i;
        while (i < path.length && path.data[i] != '/') {
            i++;
        }
        struct slice name = {path.data + start, i - start};
        if (slice_equal(name, SLICE(".."))) {
            pop(normal);
        } else if (name.length > 0 && !slice_equal(name, SLICE("."))) {
            push(normal, name);
        }
    }
}

/* "/api/" matches "/api/x" and "/api"; "/api" matches "/api" and "/api/x", not "/apix". */
static bool path_matches(struct slice prefix, struct slice path)
{
    while (prefix.length > 0 && prefix.data[prefix.length - 1] == '/') {
        prefix.length--;
    }
    return slice_starts_with(path, prefix) &&
           (path.length == prefix.length || path.data[prefix.length] == '/');
}

const struct route_settings *router_match(const struct router *router,
                                          const struct request_head *head)
{
    if (router->route_count == 0) {
        return NULL;
    }
    struct normal normal;
    normalise(head->path, &normal);
    struct slice path = {normal.text, normal.length};
    struct slice host = authority_host(head->authority);
    for (size_t i = 0; i < router->route_count; i++) {
        const struct route_settings *route = &router->routes[i];
        if ((route->host.length == 0 || host_matches(route->host, host)) &&
            path_matches(route->path, path)) {
            return route;
        }
    }
    return NULL;
}
