/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses as values: parsing of "bind" strings, printing for logs and ASGI scopes, networks for trust lists.
 */
#ifndef GATEWAY_NET_ADDR_H
#define GATEWAY_NET_ADDR_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/slice.h"

struct addr {
    socklen_t length; /* 0: none known */
    union {
        struct sockaddr_storage storage;
        struct sockaddr sa;
    };
};

/* Room for addr_format's text and its NUL (a Unix path is the longest). */
#define ADDR_TEXT_SIZE 128

/* The host part as text: "127.0.0.1", "::1", a Unix path, "" when there is none. IPv4 mapped in IPv6 is shown as IPv4. */
size_t addr_format_host(const struct addr *addr, char out[ADDR_TEXT_SIZE]);
/* "127.0.0.1:80", "[::1]:80", "unix:/path", "unix:" for an unnamed peer. */
size_t addr_format(const struct addr *addr, char out[ADDR_TEXT_SIZE]);
/* The port, 0 for a Unix address. */
unsigned addr_port(const struct addr *addr);
bool addr_is_unix(const struct addr *addr);
/* All addresses of its family ("0.0.0.0", "::"), whatever the port. */
bool addr_is_any(const struct addr *addr);
/* The same host, scope and port; never for a Unix address. */
bool addr_equal(const struct addr *a, const struct addr *b);
/* Parses a numeric host ("192.0.2.1", "2001:db8::1", brackets allowed) and a port. */
enum error addr_parse(struct slice host, unsigned port, struct addr *ret_addr) MUST_CHECK;
/* The address of a socket file. ERROR_INVALID when the path is empty, holds a NUL, or is longer than ADDR_UNIX_PATH_MAX. */
enum error addr_from_unix(struct slice path, struct addr *ret_addr) MUST_CHECK;
#define ADDR_UNIX_PATH_MAX 107

/* The IPv4 address inside an IPv4-mapped IPv6 address ("::ffff:192.0.2.1"), every other one as it is. */
struct addr addr_unmap(const struct addr *addr);

/* A network for trust lists: an address with a prefix length, every Unix peer ("unix"), or everybody ("*"). */
struct addr_network {
    struct addr addr; /* length 0 for "*" and "unix" */
    bool everybody;
    unsigned prefix;
    bool unix_peers;
};

/* Parses "10.0.0.0/8", "::1", "unix", "*". ERROR_INVALID when it is none of them, also for bits set behind the prefix
 * ("10.1.2.3/8" names a host or a network, and nobody can tell which). */
enum error addr_network_parse(struct slice text, struct addr_network *ret_network) MUST_CHECK;
bool addr_network_contains(const struct addr_network *network, const struct addr *addr);

#endif
