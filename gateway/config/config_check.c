/* SPDX-License-Identifier: MIT */
/*
 * What no single option can know: contradictions between limits, two things at one address, what is missing altogether. It also
 * fills in what follows from other options (the default route, the window of exchanges).
 */
#include <stdio.h>

#include "config/bind.h"
#include "config/config_extra.h"
#include "config/option.h"
#include "config/resources.h"

#define LISTENERS_MAX 64
#define HEAD_ROOM                                                                                  \
    8192 /* of a REQUEST frame, beside target and fields: names, addresses, the path a second time in part */

/* The node of an option that was written, NULL when it was left out. */
static const struct toml_node *written(const struct toml_node *tree, const char *section,
                                       const char *key)
{
    return toml_find(toml_find(tree, slice_from(section)), slice_from(key));
}

/* Where a contradiction between two options is to be mended: at the one that was written (the first, when both were). */
static const struct toml_node *either(const struct toml_node *first, const struct toml_node *second)
{
    return first != NULL ? first : second;
}

/* --- limits --------------------------------------------------------------------------------------------------------- */

static void check_frames(struct option_reader *reader, const struct toml_node *tree)
{
    const struct config *config = reader->config;
    uint64_t head = config->http.header_block_max + config->http.target_max + HEAD_ROOM;

    if (config->ipc.window < config->ipc.max_frame) {
        report_value(&reader->report,
                     either(written(tree, "ipc", "window"), written(tree, "ipc", "max_frame")),
                     "ipc.window (%u bytes) is smaller than ipc.max_frame (%u bytes); "
                     "make it at least as large",
                     config->ipc.window, config->ipc.max_frame);
    }
    if (head > config->ipc.max_frame) {
        report_value(&reader->report,
                     either(either(written(tree, "limits", "header_block"),
                                   written(tree, "limits", "target")),
                            written(tree, "ipc", "max_frame")),
                     "limits.header_block + limits.target + 8 KiB (%llu bytes) do not fit into "
                     "ipc.max_frame (%u bytes); make the limits smaller or the frame larger",
                     (unsigned long long)head, config->ipc.max_frame);
    }
    if (config->ipc.ping_interval >= config->ipc.unresponsive_after) {
        report_value(&reader->report,
                     either(written(tree, "ipc", "unresponsive_after"),
                            written(tree, "ipc", "ping_interval")),
                     "ipc.unresponsive_after must be longer than ipc.ping_interval; "
                     "every worker would be unresponsive between two PINGs");
    }
    if (config->ipc.link_queue < config->ipc.max_frame) {
        report_value(&reader->report,
                     either(written(tree, "ipc", "link_queue"), written(tree, "ipc", "max_frame")),
                     "ipc.link_queue (%u bytes) is smaller than ipc.max_frame (%u bytes); "
                     "make it at least as large",
                     config->ipc.link_queue, config->ipc.max_frame);
    }
}

static void check_descriptors(struct option_reader *reader, const struct toml_node *tree)
{
    uint64_t limit = resources_descriptors();
    unsigned wanted = reader->config->gateway.max_connections;

    if ((uint64_t)wanted + RESOURCES_DESCRIPTORS_RESERVED > limit) {
        report_value(
            &reader->report, written(tree, "gateway", "max_connections"),
            "gateway.max_connections (%u) and %u descriptors in reserve are more than the hard "
            "limit of %llu; lower it to %lld or raise the limit (LimitNOFILE=, ulimit -Hn)",
            wanted, RESOURCES_DESCRIPTORS_RESERVED, (unsigned long long)limit,
            (long long)limit - RESOURCES_DESCRIPTORS_RESERVED);
    }
}

/* --- TLS ------------------------------------------------------------------------------------------------------------ */

static void check_redirects(struct option_reader *reader, const struct toml_node *tree)
{
    const struct config *config = reader->config;
    bool some_tls = false;

    for (size_t i = 0; i < config->listener_count; i++) {
        some_tls |= config->listeners[i].tls;
    }
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct toml_node *node =
            toml_find(toml_at(toml_find(tree, SLICE("listen")), i), SLICE("redirect_https"));
        if (config->listeners[i].redirect_https && config->listeners[i].tls) {
            report_value(&reader->report, node,
                         "listen[%zu].redirect_https would redirect https to itself; it is for "
                         "listeners without tls",
                         i);
        } else if (config->listeners[i].redirect_https && !some_tls) {
            report_value(
                &reader->report, node,
                "listen[%zu].redirect_https has nowhere to redirect to; add a [[listen]] with "
                "tls = true",
                i);
        }
    }
}

static void check_tls(struct option_reader *reader, const struct toml_node *tree)
{
    const struct config *config = reader->config;
    const struct tls_settings *tls = &config->tls;

    const struct toml_node *certificates = written(tree, "tls", "certificates");

    /* When certificates were written but refused, that complaint is enough. */
    for (size_t i = 0;
         i < config->listener_count && (certificates == NULL || certificates->count == 0); i++) {
        if (config->listeners[i].tls) {
            report_value(&reader->report,
                         toml_find(toml_at(toml_find(tree, SLICE("listen")), i), SLICE("tls")),
                         "listen[%zu].tls needs a certificate; write [tls] certificates = "
                         "[{ cert = \"cert.pem\", key = \"key.pem\" }]",
                         i);
        }
    }
    check_redirects(reader, tree);
    if (tls->verify != TLS_VERIFY_NONE && tls->client_ca.length == 0) {
        report_value(
            &reader->report, written(tree, "tls", "verify"),
            "tls.verify needs tls.client_ca, the file with the authorities that are trusted");
    }
    if (tls->verify == TLS_VERIFY_NONE && tls->client_ca.length > 0) {
        report_value(&reader->report, written(tree, "tls", "client_ca"),
                     "tls.client_ca is of no use while tls.verify is \"none\"; write verify = "
                     "\"optional\" or \"required\", or leave client_ca out");
    }
}

/* --- QUIC ---------------------------------------------------------------------------------------------------------- */

/* What a listener with "h3" must be beside it; NULL: nothing is wrong. */
static const char *quic_problem(const struct listener_settings *listener)
{
    if (!listener->tls) {
        return "has \"h3\", which is always encrypted; write tls = true here, or leave \"h3\" out";
    }
    if (slice_starts_with(listener->bind, SLICE("unix:")) ||
        slice_starts_with(listener->bind, SLICE("fd://"))) {
        return "has \"h3\", which needs a UDP port of its own beside this listener's; bind "
               "\"address:port\", or leave \"h3\" out";
    }
    if (listener->proxy_protocol != PROXY_PROTOCOL_OFF) {
        return "has \"h3\", to which the PROXY protocol does not apply; make it a [[listen]] "
               "without "
               "proxy_protocol, or leave \"h3\" out";
    }
    return NULL;
}

static uint64_t mix(uint64_t tag, uint64_t value)
{
    return (tag ^ value) * UINT64_C(0x9E3779B97F4A7C15);
}

/* Fills in what QUIC takes from elsewhere, and checks the listeners. */
static void check_quic(struct option_reader *reader, const struct toml_node *tree)
{
    struct config *config = reader->config;
    uint64_t window = config->h3.stream_window;

    for (size_t i = 0; i < config->listener_count; i++) {
        const struct listener_settings *listener = &config->listeners[i];
        const char *problem = listener->h3 ? quic_problem(listener) : NULL;
        if (problem != NULL) {
            report_value(
                &reader->report,
                toml_find(toml_at(toml_find(tree, SLICE("listen")), i), SLICE("protocols")),
                "listen[%zu].protocols %s", i, problem);
        }
        config->tls.quic |= listener->h3;
    }
    config->quic.max_concurrent_streams = config->h3.max_concurrent_streams;
    config->quic.connection_window = config->h3.connection_window;
    config->quic.stream_window = window < config->ipc.window ? window : config->ipc.window;
    config->tls.quic_early_data = config->quic.early_data;
    config->tls.quic_keylog = config->quic.keylog;
    /* Whoever sends 0-RTT goes by the limits of its last visit (RFC 9001 4.6.3, RFC 9114 7.2.4.2). */
    uint64_t tag = mix(1, config->quic.max_concurrent_streams);
    tag = mix(tag, config->quic.connection_window);
    tag = mix(tag, config->quic.stream_window);
    tag = mix(tag, config->quic.active_cids);
    tag = mix(tag, config->h3.qpack_table);
    tag = mix(tag, config->h3.qpack_blocked);
    config->tls.quic_early_tag = mix(tag, config->http.header_block_max);
}

/* --- two things at one address -------------------------------------------------------------------------------------- */

/* A place that something wants to listen on, and the option that says so. */
struct claim {
    struct bind_place place;
    char option[96];
};

struct claims {
    struct option_reader *reader;
    const struct toml_node *tree;
    struct claim *items;
    size_t count;
};

static void claim(struct claims *claims, struct slice bind, const char *option)
{
    struct claim *added = &claims->items[claims->count];
    const char *problem;

    if (bind.length == 0 || !bind_parse(bind, &added->place, &problem)) {
        return; /* off, or refused already */
    }
    snprintf(added->option, sizeof(added->option), "%s", option);
    for (size_t i = 0; i < claims->count; i++) {
        if (bind_same(&claims->items[i].place, &added->place)) {
            report_value(&claims->reader->report, toml_walk(claims->tree, slice_from(option)),
                         "%s is the same address as %s; give each an address of its own", option,
                         claims->items[i].option);
            return;
        }
    }
    claims->count++;
}

static void claim_path(struct claims *claims, struct slice path, const char *option)
{
    struct slice bind = arena_format(claims->reader->arena, "unix:%.*s", SLICE_PRINT(path));

    claims->reader->no_memory |= bind.data == NULL;
    if (path.length > 0 && bind.data != NULL) {
        claim(claims, bind, option);
    }
}

static void check_addresses(struct option_reader *reader, const struct toml_node *tree)
{
    const struct config *config = reader->config;
    struct claims claims = {.reader = reader, .tree = tree};
    char option[96];

    claims.items =
        option_alloc(reader, config->listener_count + config->app_count + 2, sizeof(*claims.items));
    if (claims.items == NULL) {
        return;
    }
    for (size_t i = 0; i < config->listener_count; i++) {
        snprintf(option, sizeof(option), "listen[%zu].bind", i);
        claim(&claims, config->listeners[i].bind, option);
    }
    claim(&claims, config->admin.http, "admin.http");
    claim_path(&claims, config->admin.socket, "admin.socket");
    for (size_t i = 0; i < config->app_count; i++) {
        snprintf(option, sizeof(option), "apps.%s.socket", config->apps[i].name.data);
        claim_path(&claims, config->apps[i].socket, option);
    }
}

/* --- apps and routes ------------------------------------------------------------------------------------------------ */

/* Whether an earlier route takes every request that a later one could get. */
static bool shadows(const struct route_settings *earlier, const struct route_settings *later)
{
    bool same_host = earlier->host.length == 0 || slice_equal(earlier->host, later->host);
    bool same_path =
        slice_equal(earlier->path, SLICE("/")) || slice_equal(earlier->path, later->path);

    return same_host && same_path;
}

static void check_routes(struct option_reader *reader, const struct toml_node *tree)
{
    const struct config *config = reader->config;

    for (size_t i = 1; i < config->route_count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (config->routes[i].path.data != NULL && config->routes[j].path.data != NULL &&
                shadows(&config->routes[j], &config->routes[i])) {
                report_value(
                    &reader->report, toml_at(toml_find(tree, SLICE("route")), i),
                    "route[%zu] never matches, because route[%zu] takes all its requests and "
                    "the first match wins; move it up",
                    i, j);
                break;
            }
        }
    }
}

static void default_route(struct option_reader *reader)
{
    struct route_settings *route = option_alloc(reader, 1, sizeof(*route));

    if (route != NULL) {
        route->path = SLICE("/");
        reader->config->routes = route;
        reader->config->route_count = 1;
    }
}

static void check_apps(struct option_reader *reader, const struct toml_node *tree)
{
    struct config *config = reader->config;
    const struct toml_node *apps = toml_find(tree, SLICE("apps"));
    const struct toml_node *route = toml_find(tree, SLICE("route"));

    if (apps == NULL || (apps->kind == TOML_KIND_TABLE && apps->count == 0)) {
        report_value(&reader->report, apps,
                     "there is no app; write [apps.main], and start workers with: python -m "
                     "asgi_worker module:attribute");
    } else if (config->app_count > 1 &&
               (route == NULL || (route->kind == TOML_KIND_ARRAY && route->count == 0))) {
        report_value(
            &reader->report, apps,
            "there are %zu apps and no [[route]]; write one for each, such as: [[route]] path = "
            "\"/\" app = \"%s\"",
            config->app_count, config->apps[0].name.data);
    } else if (config->route_count == 0 && config->app_count == 1) {
        default_route(reader);
    }
    const struct toml_node *listen = toml_find(tree, SLICE("listen"));
    if (listen == NULL || (listen->kind == TOML_KIND_ARRAY && listen->count == 0)) {
        report_value(
            &reader->report, listen,
            "there is no [[listen]]; write one, such as: [[listen]] bind = \"127.0.0.1:8080\"");
    } else if (config->listener_count > LISTENERS_MAX) {
        report_value(&reader->report, listen, "there are %zu [[listen]]; at most %d are allowed",
                     config->listener_count, LISTENERS_MAX);
    }
}

void config_check(struct option_reader *reader, const struct toml_node *tree)
{
    struct config *config = reader->config;

    check_apps(reader, tree);
    check_addresses(reader, tree);
    check_routes(reader, tree);
    check_tls(reader, tree);
    check_quic(reader, tree);
    /* Contradictions between numbers are only told when each is allowed. */
    if (reader->report.count == 0) {
        check_frames(reader, tree);
        check_descriptors(reader, tree);
    }
    config->http.window = config->ipc.window;
    config->ipc.ws_max_message = config->ws.max_message; /* workers are told */
}
