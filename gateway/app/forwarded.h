/* SPDX-License-Identifier: MIT */
/* The Forwarded field (RFC 7239): what each proxy on the way says of whom it spoke to. It owns nothing and believes nothing. */
#ifndef GATEWAY_APP_FORWARDED_H
#define GATEWAY_APP_FORWARDED_H

#include <stddef.h>

#include "http/head.h"

/* Longer chains are not read at all. */
#define FORWARDED_HOPS_MAX 32

/* One hop, as its proxy wrote it; quotes removed, an empty slice where it says nothing. */
struct forwarded_hop {
    struct slice node, host, proto; /* for=, host=, proto= (RFC 7239 5.2 to 5.4) */
};

/* Reads all Forwarded fields of a request as one list, the nearest proxy last. The slices borrow from the head. Returns the number of
 * hops, 0 also when anything in the list is malformed or it has more than FORWARDED_HOPS_MAX (RFC 7239 4): half a chain tells
 * nothing. */
size_t forwarded_read(const struct request_head *head,
                      struct forwarded_hop hops[FORWARDED_HOPS_MAX]);

#endif
