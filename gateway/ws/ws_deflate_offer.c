/* SPDX-License-Identifier: MIT */
/*
 * The negotiation of permessage-deflate (RFC 7692 sections 5 and 7.1): offers are read strictly, and what is odd is declined. Pure
 * functions over slices.
 */
#include <stdio.h>

#include "base/check.h"
#include "http/fields.h"
#include "ws/ws_deflate.h"

/* One parameter of an offer. */
struct parameter {
    struct slice name, value;
    bool has_value;
};

/* Cuts at the first `separator` that is not inside quotes. */
static struct slice cut_unquoted(struct slice text, char separator, struct slice *rest)
{
    bool quoted = false;
    for (size_t i = 0; i < text.length; i++) {
        quoted ^= text.data[i] == '"';
        if (text.data[i] == separator && !quoted) {
            *rest = (struct slice){text.data + i + 1, text.length - i - 1};
            return (struct slice){text.data, i};
        }
    }
    *rest = (struct slice){NULL, 0};
    return text;
}

/* RFC 6455 9.1: token [ "=" ( token | quoted-string that holds a token ) ]. */
static bool read_parameter(struct slice text, struct parameter *ret_parameter)
{
    struct slice rest;
    struct slice name = slice_trim(slice_cut(text, '=', &rest));
    *ret_parameter = (struct parameter){.name = name, .has_value = rest.data != NULL};
    if (!field_name_valid(name)) {
        return false;
    }
    if (!ret_parameter->has_value) {
        return true;
    }
    struct slice value = slice_trim(rest);
    if (value.length >= 2 && value.data[0] == '"' && value.data[value.length - 1] == '"') {
        value = (struct slice){value.data + 1, value.length - 2};
    }
    ret_parameter->value = value;
    return field_name_valid(value);
}

/* 8..15 without leading zeros (RFC 7692 7.1.2). */
static bool read_bits(const struct parameter *parameter, unsigned *ret_bits)
{
    unsigned long long bits;
    size_t digits = parameter->value.length;
    if (digits == 0 || !slice_to_uint(parameter->value, 15, &bits) || bits < 8 ||
        digits != (bits < 10 ? 1 : 2)) {
        return false;
    }
    *ret_bits = (unsigned)bits;
    return true;
}

/* What has been read of one offer. */
struct offer {
    bool server_no_takeover, client_no_takeover, server_bits_given, client_bits_given;
    unsigned server_bits, client_bits;
};

/* Takes one parameter; false: unknown, doubled, or with a wrong value. */
static bool take_parameter(struct offer *offer, const struct parameter *parameter)
{
    bool *seen = NULL;
    if (slice_equal_nocase(parameter->name, SLICE("server_no_context_takeover"))) {
        seen = &offer->server_no_takeover;
    } else if (slice_equal_nocase(parameter->name, SLICE("client_no_context_takeover"))) {
        seen = &offer->client_no_takeover;
    }
    if (seen != NULL) {
        bool fine = !*seen && !parameter->has_value;
        *seen = true;
        return fine;
    }
    if (slice_equal_nocase(parameter->name, SLICE("server_max_window_bits"))) {
        bool fine = !offer->server_bits_given && read_bits(parameter, &offer->server_bits);
        offer->server_bits_given = true;
        return fine;
    }
    if (slice_equal_nocase(parameter->name, SLICE("client_max_window_bits"))) {
        bool fine = !offer->client_bits_given &&
                    (!parameter->has_value || read_bits(parameter, &offer->client_bits));
        offer->client_bits_given = true;
        return fine;
    }
    return false;
}

static bool read_offer(struct slice text, struct offer *ret_offer)
{
    struct slice rest;
    *ret_offer = (struct offer){.server_bits = 15, .client_bits = 15};
    struct slice name = slice_trim(cut_unquoted(text, ';', &rest));
    if (!slice_equal_nocase(name, SLICE("permessage-deflate"))) {
        return false;
    }
    while (rest.data != NULL) {
        struct parameter parameter;
        struct slice part = cut_unquoted(rest, ';', &rest);
        if (!read_parameter(part, &parameter) || !take_parameter(ret_offer, &parameter)) {
            return false;
        }
    }
    return true;
}

/* Our answer to a well-formed offer; false: its window is smaller than zlib's smallest. */
static bool accept_offer(const struct offer *offer, const struct ws_settings *settings,
                         struct ws_deflate_params *ret_params)
{
    unsigned most = settings->deflate_bits;
    if (offer->server_bits < 9) {
        return false;
    }
    *ret_params = (struct ws_deflate_params){
        .enabled = true,
        .server_no_takeover = offer->server_no_takeover || !settings->deflate_takeover,
        .client_no_takeover = offer->client_no_takeover || !settings->deflate_takeover,
        .server_bits = offer->server_bits < most ? offer->server_bits : most,
        .client_bits = offer->client_bits,
        .name_server_bits = offer->server_bits_given,
        .name_client_bits = offer->client_bits_given,
    };
    if (offer->client_bits_given) {
        ret_params->client_bits = offer->client_bits < most ? offer->client_bits : most;
    } else if (most < 15) {
        /* It cannot be told a smaller window, but to begin anew with each message: then the large one is not kept. */
        ret_params->client_no_takeover = true;
    }
    return true;
}

struct ws_deflate_params ws_deflate_negotiate(const struct request_head *request,
                                              const struct ws_settings *settings)
{
    struct ws_deflate_params params = {.enabled = false};
    for (size_t i = 0; settings->deflate && i < request->field_count; i++) {
        struct slice rest = request->fields[i].value;
        if (!slice_equal(request->fields[i].name, SLICE("sec-websocket-extensions"))) {
            continue;
        }
        while (rest.data != NULL) {
            struct offer offer;
            struct slice text = cut_unquoted(rest, ',', &rest);
            if (read_offer(text, &offer) && accept_offer(&offer, settings, &params)) {
                return params;
            }
        }
    }
    return params;
}

struct slice ws_deflate_answer(struct arena *arena, const struct ws_deflate_params *params)
{
    char server[40] = "", client[40] = "";
    REQUIRE(params->enabled);
    if (params->name_server_bits) {
        (void)snprintf(server, sizeof server, "; server_max_window_bits=%u", params->server_bits);
    }
    if (params->name_client_bits) {
        (void)snprintf(client, sizeof client, "; client_max_window_bits=%u", params->client_bits);
    }
    return arena_format(arena, "permessage-deflate%s%s%s%s",
                        params->server_no_takeover ? "; server_no_context_takeover" : "",
                        params->client_no_takeover ? "; client_no_context_takeover" : "", server,
                        client);
}
