/* SPDX-License-Identifier: MIT */
/* Forwarded identity, believed only from trusted proxies. It owns nothing. */
#include "app/proxy_headers.h"

#include <arpa/inet.h>
#include <string.h>

#include "app/forwarded.h"
#include "http/fields.h"

/* The last element of a comma list; `*rest` is what is before it. */
static struct slice last_element(struct slice list, struct slice *rest)
{
    size_t i = list.length;
    while (i > 0 && list.data[i - 1] != ',') {
        i--;
    }
    if (list.length == 0) {
        *rest = list;
        return list; /* its data may be NULL, which no offset may be added to */
    }
    struct slice element = {list.data + i, list.length - i};
    *rest = (struct slice){list.data, i > 0 ? i - 1 : 0};
    return slice_trim(element);
}

/* "192.0.2.1", "192.0.2.1:80", "[2001:db8::1]:80", "2001:db8::1" without the port. */
static struct slice host_part(struct slice element)
{
    if (element.length == 0) {
        return element; /* its data may be NULL */
    }
    if (element.length > 1 && element.data[0] == '[') {
        const char *end = memchr(element.data, ']', element.length);
        return end == NULL ? element
                           : (struct slice){element.data + 1, (size_t)(end - element.data) - 1};
    }
    const char *colon = memchr(element.data, ':', element.length);
    bool one_colon =
        colon != NULL &&
        memchr(colon + 1, ':', element.length - (size_t)(colon - element.data) - 1) == NULL;
    return one_colon ? (struct slice){element.data, (size_t)(colon - element.data)} : element;
}

static bool is_address(struct slice host)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];
    if (host.length == 0 || host.length >= sizeof text) {
        return false;
    }
    memcpy(text, host.data, host.length);
    text[host.length] = '\0';
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

/* The first address from the right that is not itself a trusted proxy; the leftmost when all are. The chain may be spread over several
 * fields. It ends at what is no address ("unknown", or something made up): who wrote that is the last one known. */
static struct slice client_of(const struct apps_settings *settings, const struct request_head *head)
{
    struct slice found = {NULL, 0};
    for (size_t i = head->field_count; i > 0; i--) {
        struct slice list = head->fields[i - 1].value;
        if (!slice_equal(head->fields[i - 1].name, SLICE("x-forwarded-for"))) {
            continue;
        }
        while (list.length > 0) {
            struct slice host = host_part(last_element(list, &list));
            if (!is_address(host)) {
                return found;
            }
            found = host;
            if (!settings->trusted(settings->trusted_context, host)) {
                return found;
            }
        }
    }
    return found;
}

/* The last field with this name: the one that the nearest proxy wrote. */
static struct slice last_value(const struct request_head *head, struct slice name)
{
    for (size_t i = head->field_count; i > 0; i--) {
        if (slice_equal(head->fields[i - 1].name, name)) {
            return head->fields[i - 1].value;
        }
    }
    return (struct slice){NULL, 0};
}

/* A path in visible ASCII. Anything else is not believed: a worker would refuse a root_path that is no UTF-8 (SPEC R42). */
static bool prefix_valid(struct slice prefix)
{
    for (size_t i = 0; i < prefix.length; i++) {
        if (prefix.data[i] <= ' ' || prefix.data[i] >= 0x7f) {
            return false;
        }
    }
    /* "//host" would lead elsewhere when the app makes a URL of it. */
    return prefix.length > 1 && prefix.data[0] == '/' && prefix.data[1] != '/';
}

static void believe_client(struct proxy_identity *out, struct slice client)
{
    if (client.length > 0) {
        out->identity.client_host = client;
        out->identity.client_port = 0; /* the header does not say, or says what no one can check */
    }
}

static void believe_proto(struct proxy_identity *out, const struct request_head *head,
                          struct slice proto)
{
    bool secure =
        slice_equal_nocase(proto, SLICE("https")) || slice_equal_nocase(proto, SLICE("wss"));
    bool plain = slice_equal_nocase(proto, SLICE("http")) || slice_equal_nocase(proto, SLICE("ws"));
    bool websocket = head->kind == REQUEST_WEBSOCKET;

    if (secure) {
        out->scheme = websocket ? SLICE("wss") : SLICE("https");
    } else if (plain) {
        out->scheme = websocket ? SLICE("ws") : SLICE("http");
    }
}

static void believe_host(struct proxy_identity *out, struct slice host)
{
    if (authority_valid(host)) {
        out->host = host;
    }
}

/* RFC 7239: the hops are walked from the right over trusted addresses; the hop that names the client also says which host and scheme
 * the client used. */
static void resolve_forwarded(const struct apps_settings *settings, const struct request_head *head,
                              struct proxy_identity *out)
{
    struct forwarded_hop hops[FORWARDED_HOPS_MAX];
    size_t count = forwarded_read(head, hops);
    struct slice client = {NULL, 0};
    const struct forwarded_hop *hop = NULL;

    for (size_t i = count; i > 0; i--) {
        struct slice node = host_part(hops[i - 1].node);
        if (hop != NULL && !is_address(node)) {
            break; /* "unknown" or a made-up name: the hop before is the last one known */
        }
        hop = &hops[i - 1];
        client = is_address(node) ? node : client;
        if (!is_address(node) || !settings->trusted(settings->trusted_context, node)) {
            break;
        }
    }
    if (hop == NULL) {
        return;
    }
    if (settings->proxy_headers.use_for) {
        believe_client(out, client);
    }
    if (settings->proxy_headers.use_proto) {
        believe_proto(out, head, hop->proto);
    }
    if (settings->proxy_headers.use_host) {
        believe_host(out, hop->host);
    }
}

static void resolve_x_forwarded(const struct apps_settings *settings,
                                const struct request_head *head, struct proxy_identity *out)
{
    struct slice rest;

    if (settings->proxy_headers.use_for) {
        believe_client(out, client_of(settings, head));
    }
    if (settings->proxy_headers.use_proto) {
        believe_proto(out, head, last_element(last_value(head, SLICE("x-forwarded-proto")), &rest));
    }
    if (settings->proxy_headers.use_host) {
        believe_host(out, last_element(last_value(head, SLICE("x-forwarded-host")), &rest));
    }
}

/* No other style has a prefix. */
static void resolve_prefix(const struct request_head *head, struct proxy_identity *out)
{
    struct slice rest;
    struct slice prefix = last_element(last_value(head, SLICE("x-forwarded-prefix")), &rest);

    while (prefix.length > 0 && prefix.data[prefix.length - 1] == '/') {
        prefix.length--;
    }
    if (prefix_valid(prefix)) {
        out->prefix = prefix;
    }
}

/* Whether Forwarded is the style that counts in this request. */
static bool is_forwarded_style(const struct apps_settings *settings,
                               const struct request_head *head)
{
    bool forwarded = false;

    if (settings->proxy_headers.style != PROXY_HEADERS_AUTO) {
        return settings->proxy_headers.style == PROXY_HEADERS_FORWARDED;
    }
    for (size_t i = 0; i < head->field_count; i++) {
        struct slice name = head->fields[i].name;
        if (slice_equal(name, SLICE("x-forwarded-for")) ||
            slice_equal(name, SLICE("x-forwarded-proto")) ||
            slice_equal(name, SLICE("x-forwarded-host"))) {
            return false;
        }
        forwarded |= slice_equal(name, SLICE("forwarded"));
    }
    return forwarded;
}

void proxy_headers_resolve(const struct apps_settings *settings, const struct conn *conn,
                           const struct request_head *head, struct proxy_identity *out)
{
    *out = (struct proxy_identity){.identity = conn->identity, .scheme = head->scheme};
    if (!conn->identity.trusted_proxy || settings->trusted == NULL) {
        return;
    }
    if (is_forwarded_style(settings, head)) {
        resolve_forwarded(settings, head, out);
    } else {
        resolve_x_forwarded(settings, head, out);
    }
    if (settings->proxy_headers.use_prefix) {
        resolve_prefix(head, out);
    }
}
