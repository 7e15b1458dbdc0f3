/* SPDX-License-Identifier: MIT */
/*
 * HTTP/2 over a transport (RFC 9113), by nghttp2: TLS by ALPN, or prior knowledge on a plain connection (3.3). Many exchanges at a
 * time, one for each stream.
 */
#ifndef GATEWAY_H2_H2_CONN_H
#define GATEWAY_H2_H2_CONN_H

#include "base/error.h"
#include "base/slice.h"
#include "http/conn.h"

struct transport;

/* Makes an HTTP/2 connection of a transport whose handshake is done, which it owns from now on (destroyed on failure). `identity` is
 * copied; `bytes` were read from the transport already (the beginning of the client's preface; empty: nothing). It lives in the group until it
 * ends by itself or is destroyed. */
enum error h2_conn_new(struct conn_group *group, struct transport *transport,
                       const struct conn_identity *identity, const struct h2_settings *settings,
                       struct slice bytes) MUST_CHECK;

#endif
