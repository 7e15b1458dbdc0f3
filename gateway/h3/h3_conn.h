/* SPDX-License-Identifier: MIT */
/*
 * HTTP/3 over a QUIC connection (RFC 9114; QPACK RFC 9204, priorities RFC 9218, WebSockets RFC 9220), by nghttp3. Many exchanges at a
 * time, one for each stream that the client opens.
 */
#ifndef GATEWAY_H3_H3_CONN_H
#define GATEWAY_H3_H3_CONN_H

#include "base/error.h"
#include "h3/quic.h"
#include "http/conn.h"

/* Says anew who is at the other end: the handshake is complete (its certificates are known), or the peer's address has changed and was
 * validated. Sets conn->identity; what the old one pointed to goes by loop_bury. */
typedef void h3_identify(struct conn *conn, const struct quic_conn *quic);

/* Makes an HTTP/3 connection of a new QUIC connection, whose user it is until on_closed. `identity` is copied, and again by `identify`
 * whenever something of it becomes known. It lives in the group until it ends by itself or is destroyed. ERROR_NO_MEMORY. */
enum error h3_conn_new(struct conn_group *group, struct quic_conn *quic,
                       const struct conn_identity *identity, const struct h3_settings *settings,
                       h3_identify *identify, const struct quic_user_ops **ret_ops,
                       void **ret_user) MUST_CHECK;

#endif
