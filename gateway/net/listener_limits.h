/* SPDX-License-Identifier: MIT */
/*
 * The bounds on connections, as the listeners use them; only net/ includes it. Every enter that returned true is paired
 * with one leave.
 */
#ifndef GATEWAY_NET_LISTENER_LIMITS_H
#define GATEWAY_NET_LISTENER_LIMITS_H

#include "net/listener.h"

/* Counts a connection about to be accepted; false at max_connections. Any thread, as all of these. */
bool listener_limits_enter(struct listener_limits *limits) MUST_CHECK;
/* Takes back an enter whose accept gave no connection, or one that ends before enter_peer. */
void listener_limits_leave(struct listener_limits *limits);
/* Counts a connection for its address: NONE, LIMIT at max_connections_per_ip, or NO_MEMORY. Trusted and Unix peers are not
 * counted. */
enum error listener_limits_enter_peer(struct listener_limits *limits,
                                      const struct addr *peer) MUST_CHECK;
/* Counts a handshake; false at max_handshakes. */
bool listener_limits_enter_handshake(struct listener_limits *limits) MUST_CHECK;
void listener_limits_leave_handshake(struct listener_limits *limits);

#endif
