/* SPDX-License-Identifier: MIT */
/*
 * From a packet's destination connection id to whom it belongs. Hashed with the process's key (SipHash), because what clients choose and what they
 * see of ours would otherwise let them fill one bucket. One table per loop. Knows no packet.
 */
#ifndef GATEWAY_H3_QUIC_TABLE_H
#define GATEWAY_H3_QUIC_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/list.h"

#define QUIC_ROUTE_MAX 20u /* RFC 9000 17.2 */

struct quic_owner;

/* One id and its owner. */
struct quic_route {
    struct quic_route *next; /* in its bucket */
    uint64_t hash;
    struct list_node in_owner;
    struct quic_owner *owner;
    uint8_t length;
    uint8_t id[QUIC_ROUTE_MAX];
};

LIST_DEFINE(quic_route_list, struct quic_route, in_owner);

enum quic_owner_kind { QUIC_OWNER_CONN, QUIC_OWNER_CLOSE_WAIT };

/* Embedded in what packets are for. */
struct quic_owner {
    enum quic_owner_kind kind;
    struct quic_route_list routes;
};

struct quic_table {
    struct quic_route **buckets;
    size_t bucket_count, length;
};

void quic_owner_init(struct quic_owner *owner, enum quic_owner_kind kind);
/* ERROR_NO_MEMORY. */
enum error quic_table_init(struct quic_table *table) MUST_CHECK;
/* Nothing may be in it any more. */
void quic_table_done(struct quic_table *table);
/* Adds an id for `owner`. ERROR_INVALID: somebody has it already; ERROR_NO_MEMORY. */
enum error quic_table_add(struct quic_table *table, struct quic_owner *owner, const void *id,
                          size_t length) MUST_CHECK;
/* NULL: nobody's. */
struct quic_owner *quic_table_find(const struct quic_table *table, const void *id, size_t length);
/* Forgets one id of the owner; nothing when it is another's or nobody's. */
void quic_table_remove(struct quic_table *table, const struct quic_owner *owner, const void *id,
                       size_t length);
/* Forgets all ids of the owner. */
void quic_table_drop(struct quic_table *table, struct quic_owner *owner);
/* What was `from`'s is `to`'s. */
void quic_owner_move(struct quic_owner *from, struct quic_owner *to);

#endif
