/* SPDX-License-Identifier: MIT */
/*
 * What the kinds of transport share among themselves; only net/ includes it.
 */
#ifndef GATEWAY_NET_TRANSPORT_CORE_H
#define GATEWAY_NET_TRANSPORT_CORE_H

#include "net/transport.h"

#define TRANSPORT_MAGIC UINT32_C(0x7472616e)

/* Fills the common part; owns `fd` from now on. Nothing is watched until transport_want. */
void transport_init(struct transport *transport, const struct transport_ops *ops, struct loop *loop,
                    int fd, const struct addr *peer, const struct addr *local);
/* Watches what the wishes and the protocol's needs add up to; ERROR_IO (and the transport is dead) when it cannot. */
enum error transport_update(struct transport *transport) MUST_CHECK;
/* Notes that the peer ended its side and returns CLOSED, or IO when the watch cannot be changed. */
enum error transport_end(struct transport *transport, bool clean) MUST_CHECK;
/* Notes that the transport is dead and returns ERROR_IO. */
enum error transport_fail(struct transport *transport);
/* Counts bytes of the user's, in or out. */
void transport_count_in(struct transport *transport, size_t length);
void transport_count_out(struct transport *transport, size_t length);
/* Shuts our side of the socket: NONE or IO. */
enum error transport_shut_socket(struct transport *transport);
/* Stops watching and closes the descriptor; `free_transport` gets the memory at the end of the turn. */
void transport_close(struct transport *transport, bool reset,
                     void (*free_transport)(struct loop_grave *grave));

#endif
