/* SPDX-License-Identifier: MIT */
/* Route matching: host exact or "*.suffix", path by prefix on a normalised copy. It owns nothing. */
#include "app/router.h"

/* Longest path whose normalised form is looked at; a longer one is compared by its first bytes, which decides a prefix. */
#define NORMAL_MAX 2048

/* Writes `path` without empty, "." and ".." segments (RFC 3986 5.2.4) and returns the length. */
static size_t normalise(struct slice path, char out[NORMAL_MAX])
{
    size_t length = 0;
    size_t i = 0;
    while (i < path.length && length < NORMAL_MAX) {
        while (i < path.length && path.data[i] == '/') {
            i++;
        }
        size_t start = i;
        while (i < path.length && path.data[i] != '/') {
            i++;
        }
        struct slice segment = {path.data + start, i - start};
        if (slice_equal(segment, SLICE(".."))) {
            while (length > 0 && out[--length] != '/') {
            }
        } else if (segment.length > 0 && !slice_equal(segment, SLICE("."))) {
            out[length++] = '/';
            size_t room = NORMAL_MAX - length;
            size_t part = segment.length < room ? segment.length : room;
            memcpy(out + length, segment.data, part);
            length += part;
            continue;
        }
        if (i == path.length && length < NORMAL_MAX) {
            out[length++] = '/'; /* the path ended in a slash or a dot segment */
        }
    }
    if (length == 0) {
        out[length++] = '/';
    } else if (path.data[path.length - 1] == '/' && out[length - 1] != '/' && length < NORMAL_MAX) {
        out[length++] = '/';
    }
    return length;
}

static struct slice host_of(struct slice authority)
{
    if (authority.length > 0 && authority.data[0] == '[') {
        const char *end = memchr(authority.data, ']', authority.length);
        return end == NULL ? authority
                           : (struct slice){authority.data, (size_t)(end - authority.data) + 1};
    }
    struct slice rest;
    return slice_cut(authority, ':', &rest);
}

static bool host_matches(struct slice pattern, struct slice host)
{
    if (pattern.length == 0) {
        return true;
    }
    if (slice_starts_with(pattern, SLICE("*."))) {
        struct slice suffix = {pattern.data + 1, pattern.length - 1};
        return host.length > suffix.length &&
               slice_equal_nocase(
                   (struct slice){host.data + host.length - suffix.length, suffix.length}, suffix);
    }
    return slice_equal_nocase(pattern, host);
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
    char buffer[NORMAL_MAX];
    struct slice path = {buffer, normalise(head->path, buffer)};
    struct slice host = host_of(head->authority);
    for (size_t i = 0; i < router->route_count; i++) {
        const struct route_settings *route = &router->routes[i];
        if (host_matches(route->host, host) && path_matches(route->path, path)) {
            return route;
        }
    }
    return NULL;
}
