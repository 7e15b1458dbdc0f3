/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1.1 and HTTP/1.0 over a transport (RFC 9112). One exchange at a time; pipelined requests wait in the read buffer.
 */
#ifndef GATEWAY_H1_H1_CONN_H
#define GATEWAY_H1_H1_CONN_H

#include "base/error.h"
#include "http/conn.h"

struct transport;

/* Makes an HTTP/1.1 connection of a transport whose handshake is done, which it owns from now on (destroyed on failure).
 * `identity` is copied. It lives in the group until it ends by itself or is destroyed, which the group's on_closed tells, even within
 * this call. ERROR_NO_MEMORY: it was never made, and on_closed is not called. */
enum error h1_conn_new(struct conn_group *group, struct transport *transport,
                       const struct conn_identity *identity,
                       const struct h1_settings *settings) MUST_CHECK;

#endif
