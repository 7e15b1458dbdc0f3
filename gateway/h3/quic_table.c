/* SPDX-License-Identifier: MIT */
/* Chained buckets that double when there are as many ids as buckets. */
#include "h3/quic_table.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

#define FIRST_BUCKETS 64u /* a power of two, as all later counts */

void quic_owner_init(struct quic_owner *owner, enum quic_owner_kind kind)
{
    owner->kind = kind;
    quic_route_list_init(&owner->routes);
}

enum error quic_table_init(struct quic_table *table)
{
    *table = (struct quic_table){.bucket_count = FIRST_BUCKETS};
    table->buckets = mem_calloc(FIRST_BUCKETS, sizeof(*table->buckets));
    return table->buckets != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
}

void quic_table_done(struct quic_table *table)
{
    REQUIRE(table->length == 0);
    mem_free(table->buckets);
    *table = (struct quic_table){0};
}

/* The link that points to the id's route, or the one at the end of its bucket. */
static struct quic_route **find_link(const struct quic_table *table, const void *id, size_t length,
                                     uint64_t hash)
{
    struct quic_route **link = &table->buckets[hash & (table->bucket_count - 1)];

    while (*link != NULL && ((*link)->hash != hash || (*link)->length != length ||
                             memcmp((*link)->id, id, length) != 0)) {
        link = &(*link)->next;
    }
    return link;
}

/* Without memory for it the table goes on with longer chains. */
static void grow(struct quic_table *table)
{
    size_t count = table->bucket_count * 2;
    struct quic_route **buckets = mem_calloc(count, sizeof(*buckets));

    if (buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < table->bucket_count; i++) {
        struct quic_route *route = table->buckets[i];
        while (route != NULL) {
            struct quic_route *next = route->next;
            struct quic_route **head = &buckets[route->hash & (count - 1)];
            route->next = *head;
            *head = route;
            route = next;
        }
    }
    mem_free(table->buckets);
    table->buckets = buckets;
    table->bucket_count = count;
}

enum error quic_table_add(struct quic_table *table, struct quic_owner *owner, const void *id,
                          size_t length)
{
    REQUIRE(length > 0 && length <= QUIC_ROUTE_MAX);
    uint64_t hash = hash_bytes(id, length);

    if (*find_link(table, id, length, hash) != NULL) {
        return ERROR_INVALID;
    }
    struct quic_route *route = mem_calloc(1, sizeof(*route));
    if (route == NULL) {
        return ERROR_NO_MEMORY;
    }
    if (table->length >= table->bucket_count) {
        grow(table);
    }
    route->hash = hash;
    route->owner = owner;
    route->length = (uint8_t)length;
    memcpy(route->id, id, length);
    *find_link(table, id, length, hash) = route;
    quic_route_list_append(&owner->routes, route);
    table->length++;
    return ERROR_NONE;
}

struct quic_owner *quic_table_find(const struct quic_table *table, const void *id, size_t length)
{
    if (length == 0 || length > QUIC_ROUTE_MAX) {
        return NULL;
    }
    const struct quic_route *route = *find_link(table, id, length, hash_bytes(id, length));

    return route != NULL ? route->owner : NULL;
}

static void unlink_route(struct quic_table *table, struct quic_route **link)
{
    struct quic_route *route = *link;

    REQUIRE(route != NULL);
    *link = route->next;
    quic_route_list_remove(&route->owner->routes, route);
    mem_free(route);
    table->length--;
}

void quic_table_remove(struct quic_table *table, const struct quic_owner *owner, const void *id,
                       size_t length)
{
    if (length == 0 || length > QUIC_ROUTE_MAX) {
        return;
    }
    struct quic_route **link = find_link(table, id, length, hash_bytes(id, length));

    if (*link != NULL && (*link)->owner == owner) {
        unlink_route(table, link);
    }
}

void quic_table_drop(struct quic_table *table, struct quic_owner *owner)
{
    struct quic_route *route;

    while ((route = quic_route_list_first(&owner->routes)) != NULL) {
        unlink_route(table, find_link(table, route->id, route->length, route->hash));
    }
}

void quic_owner_move(struct quic_owner *from, struct quic_owner *to)
{
    LIST_EACH(quic_route_list, &from->routes, struct quic_route, route)
    {
        route->owner = to;
    }
    quic_route_list_concat(&to->routes, &from->routes);
}
