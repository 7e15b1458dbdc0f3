/* SPDX-License-Identifier: MIT */
/*
 * The fields that the gateway itself adds to final responses, on every HTTP version: Date, Server, Alt-Svc and those of the
 * configuration, each only where the app has not given it.
 */
#ifndef GATEWAY_HTTP_OWN_FIELDS_H
#define GATEWAY_HTTP_OWN_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include "http/head.h"
#include "http/settings.h"

/* Where they come from. */
struct own_fields {
    const struct http_settings *settings;
    struct slice date;    /* conn_group_date */
    struct slice alt_svc; /* of the identity; empty: none (RFC 7838) */
};

/* How many there are at most. */
size_t own_fields_most(const struct http_settings *settings);
/* The one at `index` < own_fields_most; false when this response does not get it. */
bool own_fields_get(const struct own_fields *own, size_t index, const struct response_head *head,
                    struct field *ret_field);

#endif
