/* SPDX-License-Identifier: MIT */
/*
 * A hash map from a 64-bit id to a pointer: stream tables. Ids are chosen by the gateway or rise by
 * protocol, so the hash is a plain multiplicative one; maps keyed by a peer's bytes use
 * base/hash.h's keyed function.
 */
#ifndef GATEWAY_BASE_IDMAP_H
#define GATEWAY_BASE_IDMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/error.h"

struct idmap_slot;

struct idmap {
    struct idmap_slot *slots; /* open addressing, power of two; NULL while empty */
    size_t capacity, length;
};

void idmap_init(struct idmap *map);
/* Frees the table, not what it points to. */
void idmap_done(struct idmap *map);
/* Adds a new id (REQUIREs that it is not there and that `value` is not NULL). */
enum error idmap_put(struct idmap *map, uint64_t id, void *value) MUST_CHECK;
/* The value of an id or NULL. */
void *idmap_get(const struct idmap *map, uint64_t id);
/* Removes an id and returns its value, NULL when it was not there. */
void *idmap_remove(struct idmap *map, uint64_t id);
/* Walks all entries in no order: start with *cursor = 0; returns NULL at the end. The map must
 * not change meanwhile. */
void *idmap_next(const struct idmap *map, size_t *cursor);

#endif
