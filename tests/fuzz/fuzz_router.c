/* SPDX-License-Identifier: MIT */
/*
 * Which route a path gets, against a reference that resolves the path as a list of names (RFC 3986 5.2.4) and compares it with
 * the route's name by name: a path never reaches a route by "..", "." or "//" that it would not reach without them, however
 * long it is.
 *
 * Input: flags (how many routes), then lines: per route its path and its host, then the request's host, then its path. In
 * these, byte 1 stands for 1000 times the byte before it.
 */
#include <stdint.h>
#include <stdlib.h>

#include "app/router.h"
#include "base/strbuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROUTES 4
#define ROUTE_PATH_MAX 4096 /* the configuration takes no longer one */
#define NAMES 65536
#define REPEAT 1000

/* A path as names; "/a/b" and "/a/b/" are the same here. */
struct names {
    struct slice name[NAMES];
    size_t count;
};

static void take_line(struct slice *input, struct strbuf *out)
{
    struct slice line = slice_cut(*input, '\n', input);

    strbuf_init(out);
    for (size_t i = 0; i < line.length && out->length < NAMES - REPEAT; i++) {
        for (int k = 0; k < REPEAT && i > 0 && line.data[i] == 1; k++) {
            strbuf_append_char(out, line.data[i - 1]);
        }
        if (line.data[i] != 1 && line.data[i] != 0) {
            strbuf_append_char(out, line.data[i]);
        }
    }
}

static struct slice text_of(const struct strbuf *text)
{
    return (struct slice){strbuf_text(text), text->length};
}

static void split(struct slice path, bool resolve, struct names *names)
{
    names->count = 0;
    while (path.data != NULL) {
        struct slice name = slice_cut(path, '/', &path);
        if (resolve && slice_equal(name, SLICE(".."))) {
            names->count -= names->count > 0;
        } else if (name.length > 0 && !(resolve && slice_equal(name, SLICE(".")))) {
            names->name[names->count++] = name;
        }
    }
}

static bool begins_with(const struct names *path, const struct names *prefix)
{
    for (size_t i = 0; i < prefix->count; i++) {
        if (i == path->count || !slice_equal(path->name[i], prefix->name[i])) {
            return false;
        }
    }
    return true;
}

/* Host names in lower case, without port. */
static bool same_host(struct slice pattern, struct slice host)
{
    if (pattern.length > 2 && pattern.data[0] == '*' && pattern.data[1] == '.') {
        while (host.length >= pattern.length) {
            host = slice_skip(host, 1);
            if (slice_equal(host, slice_skip(pattern, 1))) {
                return true;
            }
        }
        return false;
    }
    return pattern.length == 0 || slice_equal(pattern, host);
}

/* What the configuration lets through as a route's path: it begins with a slash and is in its plainest form. */
static bool is_plain(struct slice path)
{
    if (path.length == 0 || path.length > ROUTE_PATH_MAX || path.data[0] != '/') {
        return false;
    }
    path = slice_skip(path, 1);
    while (path.length > 0) {
        struct slice name = slice_cut(path, '/', &path);
        if (name.length == 0 || slice_equal(name, SLICE(".")) || slice_equal(name, SLICE(".."))) {
            return false;
        }
    }
    return true;
}

static bool is_host(struct slice host)
{
    for (size_t i = 0; i < host.length; i++) {
        if (strchr("abcdefghijklmnopqrstuvwxyz0123456789-.*", host.data[i]) == NULL) {
            return false;
        }
    }
    return !slice_equal(host, SLICE("*."));
}

static void compare(const struct router *router, const struct request_head *head, struct slice host)
{
    static struct names path, prefix;
    const struct route_settings *expected = NULL;

    split(head->path, true, &path);
    for (size_t i = 0; i < router->route_count && expected == NULL; i++) {
        const struct route_settings *route = &router->routes[i];
        split(route->path, false, &prefix);
        if (begins_with(&path, &prefix) && same_host(route->host, host)) {
            expected = route;
        }
    }
    REQUIRE(router_match(router, head) == expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = {(const char *)data, size};
    struct strbuf texts[2 * ROUTES + 3];
    struct route_settings routes[ROUTES];
    size_t lines = 0;

    if (size < 2) {
        return 0;
    }
    size_t wanted = data[0] % ROUTES + 1;
    bool port = (data[0] & 0x80) != 0, usable = true;
    input = slice_skip(input, 1);
    for (size_t i = 0; i < wanted; i++) {
        take_line(&input, &texts[lines]);
        take_line(&input, &texts[lines + 1]);
        routes[i] = (struct route_settings){.path = text_of(&texts[lines]),
                                            .host = text_of(&texts[lines + 1])};
        usable = usable && is_plain(routes[i].path) && is_host(routes[i].host);
        lines += 2;
    }
    take_line(&input, &texts[lines]);
    take_line(&input, &texts[lines + 1]);
    struct slice host = text_of(&texts[lines]), path = text_of(&texts[lines + 1]);
    strbuf_init(&texts[lines + 2]);
    strbuf_printf(&texts[lines + 2], "%.*s%s", SLICE_PRINT(host), port ? ":8443" : "");
    if (usable && is_host(host) && path.length > 0 && path.data[0] == '/') {
        struct router router = {routes, wanted, SIZE_MAX};
        struct request_head head = {.path = path, .authority = text_of(&texts[lines + 2])};
        compare(&router, &head, host);
    }
    for (size_t i = 0; i < lines + 3; i++) {
        strbuf_done(&texts[i]);
    }
    return 0;
}
