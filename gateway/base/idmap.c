/* SPDX-License-Identifier: MIT */
/*
 * The id map: linear probing in a table of a power of two, at most three quarters full; removal
 * closes the gap by moving what follows, so there are no tombstones and a table that saw millions
 * of streams is as fast as a new one.
 */
#include "base/idmap.h"

#include "base/mem.h"

#define IDMAP_FIRST_CAPACITY 8

struct idmap_slot {
    uint64_t id;
    void *value; /* NULL: free */
};

void idmap_init(struct idmap *map)
{
    *map = (struct idmap){0};
}

void idmap_done(struct idmap *map)
{
    mem_free(map->slots);
    idmap_init(map);
}

/* Where the probe of an id starts (Knuth's multiplicative hash; the high bits are the mixed
 * ones). */
static size_t idmap_home(size_t capacity, uint64_t id)
{
    return (size_t)((id * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (capacity - 1);
}

/* The slot of an id, or the free one where it would go. There is always a free one. */
static struct idmap_slot *idmap_find(struct idmap_slot *slots, size_t capacity, uint64_t id)
{
    size_t i = idmap_home(capacity, id);

    while (slots[i].value != NULL && slots[i].id != id) {
        i = (i + 1) & (capacity - 1);
    }
    return &slots[i];
}

static enum error idmap_grow(struct idmap *map)
{
    size_t capacity = map->capacity > 0 ? map->capacity * 2 : IDMAP_FIRST_CAPACITY;
    struct idmap_slot *slots = mem_calloc(capacity, sizeof(*slots));

    if (slots == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->slots[i].value != NULL) {
            *idmap_find(slots, capacity, map->slots[i].id) = map->slots[i];
        }
    }
    mem_free(map->slots);
    map->slots = slots;
    map->capacity = capacity;
    return ERROR_NONE;
}

enum error idmap_put(struct idmap *map, uint64_t id, void *value)
{
    REQUIRE(value != NULL);
    if ((map->length + 1) * 4 > map->capacity * 3) {
        enum error error = idmap_grow(map);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    struct idmap_slot *slot = idmap_find(map->slots, map->capacity, id);
    REQUIRE(slot->value == NULL);
    *slot = (struct idmap_slot){.id = id, .value = value};
    map->length++;
    return ERROR_NONE;
}

void *idmap_get(const struct idmap *map, uint64_t id)
{
    return map->length > 0 ? idmap_find(map->slots, map->capacity, id)->value : NULL;
}

void *idmap_remove(struct idmap *map, uint64_t id)
{
    if (map->length == 0) {
        return NULL;
    }
    struct idmap_slot *slot = idmap_find(map->slots, map->capacity, id);
    void *value = slot->value;
    if (value == NULL) {
        return NULL;
    }
    size_t mask = map->capacity - 1;
    size_t gap = (size_t)(slot - map->slots);
    for (size_t i = (gap + 1) & mask; map->slots[i].value != NULL; i = (i + 1) & mask) {
        /* It may fill the gap unless its home lies behind the gap (seen from the home, the gap
         * comes later). */
        size_t home = idmap_home(map->capacity, map->slots[i].id);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            map->slots[gap] = map->slots[i];
            gap = i;
        }
    }
    map->slots[gap].value = NULL;
    map->length--;
    return value;
}

void *idmap_next(const struct idmap *map, size_t *cursor)
{
    while (*cursor < map->capacity) {
        void *value = map->slots[(*cursor)++].value;
        if (value != NULL) {
            return value;
        }
    }
    return NULL;
}
