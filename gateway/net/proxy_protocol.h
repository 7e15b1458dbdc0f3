/* SPDX-License-Identifier: MIT */
/*
 * The PROXY protocol header, versions 1 and 2 (haproxy.org, proxy-protocol.txt, 2020): a parser without input or output,
 * which takes exactly the header's bytes and no byte of what follows.
 */
#ifndef GATEWAY_NET_PROXY_PROTOCOL_H
#define GATEWAY_NET_PROXY_PROTOCOL_H

#include "net/addr.h"

/* Section 2.1: the longest line with its CRLF. */
#define PROXY_V1_MAX 107
/* Section 2.2: the fixed part and the largest addresses that we use; what follows (TLVs) is skipped. */
#define PROXY_V2_KEPT 52
/* The longest version 2 header that is taken, TLVs included. */
#define PROXY_V2_MAX 4096

struct proxy_reader {
    bool allow_v1, allow_v2;
    size_t length; /* bytes of the header seen */
    size_t total;  /* version 2: all of them, once known */
    uint8_t data[PROXY_V1_MAX];
    /* The outcome: when `known` is false (LOCAL, UNKNOWN, other families) the socket's own addresses hold. */
    bool known;
    struct addr source, destination;
};

/* An empty reader; at least one version must be allowed. */
void proxy_reader_init(struct proxy_reader *reader, bool allow_v1, bool allow_v2);
/* Takes header bytes; *ret_used (always set) says how many of the `length` were its. NONE: the header is whole. AGAIN: it
 * goes on, all were used. PROTOCOL: it is wrong, or of a version that is not allowed. */
enum error proxy_reader_feed(struct proxy_reader *reader, const uint8_t *bytes, size_t length,
                             size_t *ret_used) MUST_CHECK;

#endif
