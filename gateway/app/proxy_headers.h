/* SPDX-License-Identifier: MIT */
/*
 * Who the client is when a trusted proxy stands between: X-Forwarded-For or Forwarded (RFC 7239) walked from the right over trusted
 * addresses; scheme, host and prefix where they are enabled.
 */
#ifndef GATEWAY_APP_PROXY_HEADERS_H
#define GATEWAY_APP_PROXY_HEADERS_H

#include "app/app.h"
#include "http/conn.h"
#include "http/head.h"

struct proxy_identity {
    struct conn_identity identity; /* client host and port replaced where a trusted proxy said so */
    struct slice scheme;
    struct slice host;   /* as the client used it; empty: none */
    struct slice prefix; /* X-Forwarded-Prefix; empty: none */
};

/* Resolves the identity of one request. Slices borrow from the connection and the head. Nothing is believed of a peer that is
 * no trusted proxy. */
void proxy_headers_resolve(const struct apps_settings *settings, const struct conn *conn,
                           const struct request_head *head, struct proxy_identity *out);

#endif
