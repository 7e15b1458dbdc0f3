/* SPDX-License-Identifier: MIT */
/* Which route a request gets; the fuzz target "router" compares the same with a reference. */
#include "check.h"

#include <stdlib.h>

#include "app/router.h"

static const struct route_settings routes[] = {
    {.host = {"", 0}, .path = {"/static/", 8}},
    {.host = {"", 0}, .path = {"/admin", 6}},
    {.host = {"*.example", 9}, .path = {"/", 1}},
    {.host = {"[::1]", 5}, .path = {"/", 1}},
};

/* The index of the route, -1: none. */
static int match(const char *host, struct slice path)
{
    struct router router = {routes, 4, SIZE_MAX};
    struct request_head head = {.authority = slice_from(host), .path = path};
    const struct route_settings *route = router_match(&router, &head);

    return route == NULL ? -1 : (int)(route - routes);
}

TEST(a_prefix_ends_at_a_slash)
{
    CHECK_EQ_INT(match("h", SLICE("/static")), 0);
    CHECK_EQ_INT(match("h", SLICE("/static/x")), 0);
    CHECK_EQ_INT(match("h", SLICE("/staticx")), -1);
    CHECK_EQ_INT(match("h", SLICE("/admin")), 1);
    CHECK_EQ_INT(match("h", SLICE("/admin/")), 1);
    CHECK_EQ_INT(match("h", SLICE("*")), -1);
}

TEST(hosts_are_compared_without_port_and_case)
{
    CHECK_EQ_INT(match("a.EXAMPLE:8443", SLICE("/")), 2);
    CHECK_EQ_INT(match("example", SLICE("/")), -1);
    CHECK_EQ_INT(match("[::1]:80", SLICE("/")), 3);
}

TEST(dot_segments_do_not_reach_a_route)
{
    CHECK_EQ_INT(match("h", SLICE("/static/../admin/x")), 1);
    CHECK_EQ_INT(match("h", SLICE("/static/..")), -1);
    CHECK_EQ_INT(match("h", SLICE("//static//./x")), 0);
    CHECK_EQ_INT(match("h", SLICE("/../../static")), 0);
}

/* "/static/<name>" `deep` times, as many "/..", and the rest. */
static struct slice long_path(char *out, size_t size, size_t length, size_t deep, const char *rest)
{
    size_t used = (size_t)snprintf(out, size, "/static");

    CHECK(used + deep * (length + 4) + strlen(rest) < size);
    for (size_t i = 0; i < deep; i++) {
        out[used++] = '/';
        memset(out + used, 'x', length);
        used += length;
    }
    for (size_t i = 0; i < deep; i++) {
        used += (size_t)snprintf(out + used, size - used, "/..");
    }
    used += (size_t)snprintf(out + used, size - used, "%s", rest);
    return (struct slice){out, used};
}

/* The normalised copy has a bound; what was behind it used to be forgotten, dot segments included. */
TEST(traversal_behind_a_long_path_does_not_reach_a_route)
{
    static char path[65536];

    for (size_t length = 1; length < 20000; length = length * 3 / 2 + 1) {
        size_t deep = 40000 / (length + 8);
        CHECK_EQ_INT(match("h", long_path(path, sizeof path, length, deep, "/x")), 0);
        CHECK_EQ_INT(match("h", long_path(path, sizeof path, length, deep, "/../admin")), 1);
    }
}

CHECK_MAIN
