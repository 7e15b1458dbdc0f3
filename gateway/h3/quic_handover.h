/* SPDX-License-Identifier: MIT */
/*
 * The head of a datagram on its way from one server of an upgrade to another: where it came from and went to. Both are ours, of different builds
 * perhaps, so it has a form of its own and every field is judged. Knows no socket.
 */
#ifndef GATEWAY_H3_QUIC_HANDOVER_H
#define GATEWAY_H3_QUIC_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUIC_HANDOVER_HEAD 52u

struct udp_packets;

/* Writes the head of these packets, whose addresses are IPv4 or IPv6. */
void quic_handover_pack(const struct udp_packets *packets, uint8_t out[QUIC_HANDOVER_HEAD]);
/* Reads a head with its datagram behind it: `length` bytes in all, which *ret_packets points into. False: it is none, or another form's. */
bool quic_handover_unpack(uint8_t *message, size_t length, struct udp_packets *ret_packets);

#endif
