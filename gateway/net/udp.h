/* SPDX-License-Identifier: MIT */
/*
 * UDP sockets for QUIC: datagrams with the address that they were sent to, their ECN marks, and many of one size in one call (GSO,
 * GRO). Binding is the master's (udp_bind); a loop receives and sends. Knows nothing of what is in a datagram.
 */
#ifndef GATEWAY_NET_UDP_H
#define GATEWAY_NET_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/addr.h"

/* The largest that one call gives or takes. */
#define UDP_BUFFER_SIZE 65536u
/* Segments that the kernel takes in one call (UDP_MAX_SEGMENTS). */
#define UDP_SEGMENTS_MAX 64u

struct udp_socket {
    int fd;
    struct addr addr; /* as bound */
    bool gso;         /* the kernel cuts datagrams; off for good once a device refused */
};

/* What came, or goes, with one call: `length` bytes in datagrams of `segment` bytes each, the last one may be shorter. */
struct udp_packets {
    struct addr peer;
    struct addr local; /* with the socket's port */
    unsigned ecn;      /* the two bits of RFC 3168: 0 not ECT, 1 ECT(1), 2 ECT(0), 3 CE */
    uint8_t *data;
    size_t length;
    size_t segment;
};

/* Binds a socket to an address with a port; `group`: beside others of ours (SO_REUSEPORT), in the order of the calls. Non-blocking,
 * ready for udp_receive. ERROR_IO with errno. */
enum error udp_bind(const struct addr *addr, bool group, int *ret_fd) MUST_CHECK;
/* As udp_bind for `count` sockets of one address, one for each loop; refuses an address on which another process listens. Attaches the
 * program that steers by connection id where the kernel allows it. On failure `text` (at least 256 bytes) says what to do, and nothing is open. */
enum error udp_bind_group(const struct addr *addr, size_t count, int *ret_fds, char *text,
                          size_t text_size) MUST_CHECK;

/* Takes a bound socket into use: whether it can cut datagrams is found out. */
void udp_socket_init(struct udp_socket *udp, int fd, const struct addr *addr);

/* One recvmsg into `buffer` (UDP_BUFFER_SIZE bytes), to which ret_packets->data points then. An empty datagram has length 0. AGAIN; IO: errno
 * (an error that an earlier send caused: the next call goes on). */
enum error udp_receive(const struct udp_socket *udp, uint8_t *buffer,
                       struct udp_packets *ret_packets) MUST_CHECK;
/* Sends them. AGAIN: the socket is full; *ret_sent bytes (whole datagrams) are gone. A datagram that the network will not have (too
 * long, no route) counts as sent: it is lost. */
enum error udp_send(struct udp_socket *udp, const struct udp_packets *packets,
                    size_t *ret_sent) MUST_CHECK;

#endif
