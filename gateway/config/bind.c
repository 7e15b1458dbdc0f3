/* SPDX-License-Identifier: MIT */
/*
 * Parsing and comparing bind strings.
 */
#include "config/bind.h"

static bool add_addr(struct bind_place *place, struct slice host, unsigned port)
{
    return addr_parse(host, port, &place->addrs[place->addr_count++]) == ERROR_NONE;
}

static bool parse_tcp(struct slice text, struct bind_place *place, const char **ret_problem)
{
    unsigned long long port;
    size_t colon = text.length;

    while (colon > 0 && text.data[colon - 1] != ':') {
        colon--;
    }
    if (colon == 0) {
        *ret_problem = "has no port";
        return false;
    }
    struct slice host = {text.data, colon - 1};
    if (!slice_to_uint((struct slice){text.data + colon, text.length - colon}, 65535, &port)) {
        *ret_problem = "has no port from 0 to 65535";
        return false;
    }
    place->kind = BIND_TCP;
    if (slice_equal(host, SLICE("*"))) {
        return add_addr(place, SLICE("0.0.0.0"), (unsigned)port) &&
               add_addr(place, SLICE("::"), (unsigned)port);
    }
    bool brackets = host.length > 1 && host.data[0] == '[' && host.data[host.length - 1] == ']';
    if (!brackets && host.length > 0 && memchr(host.data, ':', host.length) != NULL) {
        *ret_problem = "has an IPv6 address without [ ]";
        return false;
    }
    if (host.length == 0 || !add_addr(place, host, (unsigned)port)) {
        *ret_problem = "has a host that is no numeric address";
        return false;
    }
    return true;
}

bool bind_parse(struct slice text, struct bind_place *ret_place, const char **ret_problem)
{
    struct bind_place place = {0};
    struct addr ignored;

    if (slice_starts_with(text, SLICE("unix:"))) {
        place.kind = BIND_UNIX;
        place.path = (struct slice){text.data + 5, text.length - 5};
        if (addr_from_unix(place.path, &ignored) != ERROR_NONE) {
            *ret_problem = "has a path that is empty or longer than 107 characters";
            return false;
        }
    } else if (slice_starts_with(text, SLICE("fd://"))) {
        place.kind = BIND_DESCRIPTOR;
        if (!slice_to_uint((struct slice){text.data + 5, text.length - 5}, 1 << 20, &place.fd) ||
            place.fd < 3) {
            *ret_problem = "names no descriptor from 3 upwards";
            return false;
        }
    } else if (!parse_tcp(text, &place, ret_problem)) {
        return false;
    }
    *ret_place = place;
    return true;
}

static bool is_wildcard(const char *text)
{
    return strncmp(text, "0.0.0.0:", 8) == 0 || strncmp(text, "[::]:", 5) == 0;
}

/* Whether the kernel lets only one of them listen: the same port on the same address, or on all addresses of its family. */
static bool addr_clash(const struct addr *a, const struct addr *b)
{
    char a_text[ADDR_TEXT_SIZE], b_text[ADDR_TEXT_SIZE];

    if (addr_port(a) == 0 || addr_port(a) != addr_port(b) || a->sa.sa_family != b->sa.sa_family) {
        return false;
    }
    addr_format(a, a_text);
    addr_format(b, b_text);
    return strcmp(a_text, b_text) == 0 || is_wildcard(a_text) || is_wildcard(b_text);
}

bool bind_same(const struct bind_place *a, const struct bind_place *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    if (a->kind == BIND_UNIX) {
        return slice_equal(a->path, b->path);
    }
    if (a->kind == BIND_DESCRIPTOR) {
        return a->fd == b->fd;
    }
    for (size_t i = 0; i < a->addr_count; i++) {
        for (size_t j = 0; j < b->addr_count; j++) {
            if (addr_clash(&a->addrs[i], &b->addrs[j])) {
                return true;
            }
        }
    }
    return false;
}
