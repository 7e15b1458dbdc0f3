/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses as values: parsing, printing, and networks for trust lists. Pure functions; knows no names (no DNS) and
 * opens nothing.
 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == ADDR_UNIX_PATH_MAX + 1,
               "the longest socket path and its NUL fill sun_path");
_Static_assert(ADDR_TEXT_SIZE >= sizeof("unix:") + ADDR_UNIX_PATH_MAX + 1, "a Unix path fits");
_Static_assert(ADDR_TEXT_SIZE >= INET6_ADDRSTRLEN + 1 + IF_NAMESIZE + sizeof("[]:65535"),
               "a scoped IPv6 address with its port fits");

static const struct sockaddr_in *as_ipv4(const struct addr *addr)
{
    return (const struct sockaddr_in *)(const void *)&addr->storage;
}

static const struct sockaddr_in6 *as_ipv6(const struct addr *addr)
{
    return (const struct sockaddr_in6 *)(const void *)&addr->storage;
}

static int family_of(const struct addr *addr)
{
    return addr->length < sizeof(sa_family_t) ? AF_UNSPEC : addr->sa.sa_family;
}

static struct addr ipv4_of(struct in_addr host, in_port_t port)
{
    struct addr addr;
    memset(&addr, 0, sizeof(addr));
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&addr.storage;
    in->sin_family = AF_INET;
    in->sin_port = port;
    in->sin_addr = host;
    addr.length = sizeof(*in);
    return addr;
}

struct addr addr_unmap(const struct addr *addr)
{
    if (family_of(addr) == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&as_ipv6(addr)->sin6_addr)) {
        struct in_addr host;
        memcpy(&host, &as_ipv6(addr)->sin6_addr.s6_addr[12], sizeof(host));
        return ipv4_of(host, as_ipv6(addr)->sin6_port);
    }
    return *addr;
}

/* The socket's path as text; '@' stands for the NUL that starts an abstract name, '?' for bytes that are not printable. */
static size_t format_path(const struct addr *addr, char *out)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)&addr->storage;
    size_t offset = offsetof(struct sockaddr_un, sun_path);
    size_t length = addr->length > offset ? addr->length - offset : 0;
    if (length > sizeof(un->sun_path)) {
        length = sizeof(un->sun_path);
    }
    if (length > 0 && un->sun_path[0] != '\0') {
        length = strnlen(un->sun_path, length);
    }
    for (size_t i = 0; i < length; i++) {
        char c = un->sun_path[i];
        out[i] = i == 0 && c == '\0' ? '@' : (c >= 0x20 && c < 0x7f) || c < 0 ? c : '?';
    }
    out[length] = '\0';
    return length;
}

static size_t format_ipv6(const struct addr *addr, char *out)
{
    const struct sockaddr_in6 *in6 = as_ipv6(addr);
    inet_ntop(AF_INET6, &in6->sin6_addr, out, INET6_ADDRSTRLEN);
    size_t length = strlen(out);
    if (in6->sin6_scope_id != 0) {
        char name[IF_NAMESIZE];
        if (if_indextoname(in6->sin6_scope_id, name) == NULL) {
            snprintf(name, sizeof(name), "%u", (unsigned)in6->sin6_scope_id);
        }
        int added = snprintf(out + length, ADDR_TEXT_SIZE - length, "%%%s", name);
        length += (size_t)added;
    }
    return length;
}

size_t addr_format_host(const struct addr *given, char out[ADDR_TEXT_SIZE])
{
    struct addr addr = addr_unmap(given);
    out[0] = '\0';
    switch (family_of(&addr)) {
    case AF_INET:
        inet_ntop(AF_INET, &as_ipv4(&addr)->sin_addr, out, ADDR_TEXT_SIZE);
        return strlen(out);
    case AF_INET6:
        return format_ipv6(&addr, out);
    case AF_UNIX:
        return format_path(&addr, out);
    default:
        return 0;
    }
}

size_t addr_format(const struct addr *given, char out[ADDR_TEXT_SIZE])
{
    struct addr addr = addr_unmap(given);
    char host[ADDR_TEXT_SIZE];
    addr_format_host(&addr, host);
    int length = 0;
    out[0] = '\0';
    switch (family_of(&addr)) {
    case AF_INET:
        length = snprintf(out, ADDR_TEXT_SIZE, "%.*s:%u", INET_ADDRSTRLEN, host, addr_port(&addr));
        break;
    case AF_INET6:
        length = snprintf(out, ADDR_TEXT_SIZE, "[%.*s]:%u", INET6_ADDRSTRLEN + IF_NAMESIZE, host,
                          addr_port(&addr));
        break;
    case AF_UNIX:
        length = snprintf(out, ADDR_TEXT_SIZE, "unix:%.*s", ADDR_UNIX_PATH_MAX + 1, host);
        break;
    default:
        break;
    }
    return (size_t)length;
}

unsigned addr_port(const struct addr *addr)
{
    switch (family_of(addr)) {
    case AF_INET:
        return ntohs(as_ipv4(addr)->sin_port);
    case AF_INET6:
        return ntohs(as_ipv6(addr)->sin6_port);
    default:
        return 0;
    }
}

bool addr_is_unix(const struct addr *addr)
{
    return family_of(addr) == AF_UNIX;
}

/* Takes "%eth0" or "%2" off the end of a link-local address. */
static bool parse_scope(char *host, uint32_t *ret_scope)
{
    char *percent = strchr(host, '%');
    *ret_scope = 0;
    if (percent == NULL) {
        return true;
    }
    *percent = '\0';
    unsigned long long number = 0;
    if (slice_to_uint(slice_from(percent + 1), UINT32_MAX, &number)) {
        *ret_scope = (uint32_t)number;
    } else {
        *ret_scope = if_nametoindex(percent + 1);
    }
    return *ret_scope != 0;
}

enum error addr_parse(struct slice host, unsigned port, struct addr *ret_addr)
{
    char text[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE];
    bool bracketed = host.length >= 2 && host.data[0] == '[' && host.data[host.length - 1] == ']';
    if (bracketed) {
        host = (struct slice){host.data + 1, host.length - 2};
    }
    if (port > 65535 || host.length == 0 || host.length >= sizeof(text) ||
        memchr(host.data, '\0', host.length) != NULL) {
        return ERROR_INVALID;
    }
    memcpy(text, host.data, host.length);
    text[host.length] = '\0';

    struct in_addr ipv4;
    if (!bracketed && inet_pton(AF_INET, text, &ipv4) == 1) {
        *ret_addr = ipv4_of(ipv4, htons((uint16_t)port));
        return ERROR_NONE;
    }
    struct addr addr;
    memset(&addr, 0, sizeof(addr));
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&addr.storage;
    if (!parse_scope(text, &in6->sin6_scope_id) ||
        inet_pton(AF_INET6, text, &in6->sin6_addr) != 1) {
        return ERROR_INVALID;
    }
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)port);
    addr.length = sizeof(*in6);
    *ret_addr = addr;
    return ERROR_NONE;
}

enum error addr_from_unix(struct slice path, struct addr *ret_addr)
{
    if (path.length == 0 || path.length > ADDR_UNIX_PATH_MAX ||
        memchr(path.data, '\0', path.length) != NULL) {
        return ERROR_INVALID;
    }
    struct addr addr;
    memset(&addr, 0, sizeof(addr));
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)&addr.storage;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path.data, path.length);
    addr.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.length + 1);
    *ret_addr = addr;
    return ERROR_NONE;
}

/* The bytes of the host part in network order; *ret_bits is their number in bits, 0 when there are none. */
static const unsigned char *host_bytes(const struct addr *addr, unsigned *ret_bits)
{
    switch (family_of(addr)) {
    case AF_INET:
        *ret_bits = 32;
        return (const unsigned char *)&as_ipv4(addr)->sin_addr;
    case AF_INET6:
        *ret_bits = 128;
        return as_ipv6(addr)->sin6_addr.s6_addr;
    default:
        *ret_bits = 0;
        return NULL;
    }
}

static bool bits_equal(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, whole) != 0) {
        return false;
    }
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

bool addr_is_any(const struct addr *addr)
{
    static const unsigned char zero[16];
    unsigned bits;
    const unsigned char *host = host_bytes(addr, &bits);

    return host != NULL && memcmp(host, zero, bits / 8) == 0;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
    unsigned bits, others;
    const unsigned char *host = host_bytes(a, &bits), *other = host_bytes(b, &others);

    return host != NULL && other != NULL && bits == others && memcmp(host, other, bits / 8) == 0 &&
           addr_port(a) == addr_port(b) &&
           (bits == 32 || as_ipv6(a)->sin6_scope_id == as_ipv6(b)->sin6_scope_id);
}

static bool zero_behind(const unsigned char *bytes, unsigned prefix, unsigned bits)
{
    for (unsigned bit = prefix; bit < bits; bit++) {
        if (bytes[bit / 8] & (0x80u >> (bit % 8))) {
            return false;
        }
    }
    return true;
}

enum error addr_network_parse(struct slice text, struct addr_network *ret_network)
{
    struct addr_network network;
    memset(&network, 0, sizeof(network));
    if (slice_equal(text, SLICE("unix")) || slice_equal(text, SLICE("*"))) {
        network.unix_peers = true;
        network.everybody = text.data[0] == '*';
        *ret_network = network;
        return ERROR_NONE;
    }
    struct slice prefix_text;
    struct slice host = slice_cut(text, '/', &prefix_text);
    struct addr addr;
    if (addr_parse(host, 0, &addr) != ERROR_NONE) {
        return ERROR_INVALID;
    }
    unsigned bits = 0;
    const unsigned char *bytes = host_bytes(&addr, &bits);
    unsigned long long prefix = bits;
    if (prefix_text.data != NULL && !slice_to_uint(prefix_text, bits, &prefix)) {
        return ERROR_INVALID;
    }
    if (!zero_behind(bytes, (unsigned)prefix, bits)) {
        return ERROR_INVALID;
    }
    network.addr = addr_unmap(&addr);
    if (network.addr.length != addr.length) { /* "::ffff:10.0.0.0/104" is 10.0.0.0/8 */
        if (prefix < 96) {
            return ERROR_INVALID;
        }
        prefix -= 96;
    }
    network.prefix = (unsigned)prefix;
    *ret_network = network;
    return ERROR_NONE;
}

bool addr_network_contains(const struct addr_network *network, const struct addr *given)
{
    if (network->everybody) {
        return true;
    }
    if (addr_is_unix(given)) {
        return network->unix_peers;
    }
    struct addr addr = addr_unmap(given);
    unsigned network_bits = 0, bits = 0;
    const unsigned char *wanted = host_bytes(&network->addr, &network_bits);
    const unsigned char *bytes = host_bytes(&addr, &bits);
    return bits != 0 && bits == network_bits && bits_equal(wanted, bytes, network->prefix);
}
