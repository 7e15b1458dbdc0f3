/* SPDX-License-Identifier: MIT */
/*
 * The bounds on connections that all loops share: two atomic counters, and a table of connections per address. The table
 * is split into shards with a lock each, held for a look-up and never across a system call; it is empty unless
 * max_connections_per_ip is on.
 */
#include "net/listener_limits.h"

#include <netinet/in.h>
#include <pthread.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/metrics.h"

#define PEER_SHARDS 16
#define PEER_BUCKETS_START 16

/* What connections are counted by: an IPv4 address, or the first 64 bits of an IPv6 one. */
struct peer_key {
    uint8_t bytes[8];
    uint8_t family;
};

struct peer {
    struct peer *next;
    struct peer_key key;
    unsigned connections;
};

struct peer_shard {
    pthread_mutex_t lock;
    struct peer **buckets;
    size_t bucket_count, length;
};

struct listener_peers {
    struct peer_shard shards[PEER_SHARDS];
};

enum error listener_limits_init(struct listener_limits *limits)
{
    REQUIRE(limits->max_connections > 0 && limits->max_handshakes > 0);
    REQUIRE(limits->peers == NULL);
    atomic_store(&limits->connections, 0);
    atomic_store(&limits->handshakes, 0);
    struct listener_peers *peers = mem_calloc(1, sizeof(*peers));
    if (peers == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < PEER_SHARDS; i++) {
        REQUIRE(pthread_mutex_init(&peers->shards[i].lock, NULL) == 0);
    }
    limits->peers = peers;
    return ERROR_NONE;
}

void listener_limits_change(struct listener_limits *limits, const struct listener_limits *other)
{
    REQUIRE(other->max_connections > 0 && other->max_handshakes > 0);
    limits->max_connections = other->max_connections;
    limits->max_connections_per_ip = other->max_connections_per_ip;
    limits->max_handshakes = other->max_handshakes;
    limits->handshake_timeout_ns = other->handshake_timeout_ns;
    limits->trusted = other->trusted;
    limits->trusted_count = other->trusted_count;
}

void listener_limits_done(struct listener_limits *limits)
{
    struct listener_peers *peers = limits->peers;
    limits->peers = NULL;
    for (size_t i = 0; peers != NULL && i < PEER_SHARDS; i++) {
        REQUIRE(peers->shards[i].length == 0);
        mem_free(peers->shards[i].buckets);
        pthread_mutex_destroy(&peers->shards[i].lock);
    }
    mem_free(peers);
}

static bool enter_below(_Atomic unsigned *counter, unsigned bound)
{
    if (atomic_fetch_add_explicit(counter, 1, memory_order_relaxed) < bound) {
        return true;
    }
    atomic_fetch_sub_explicit(counter, 1, memory_order_relaxed);
    return false;
}

static void leave(_Atomic unsigned *counter)
{
    REQUIRE(atomic_fetch_sub_explicit(counter, 1, memory_order_relaxed) > 0);
}

bool listener_limits_enter(struct listener_limits *limits)
{
    return enter_below(&limits->connections, limits->max_connections);
}

void listener_limits_leave(struct listener_limits *limits)
{
    leave(&limits->connections);
}

bool listener_limits_enter_handshake(struct listener_limits *limits)
{
    if (!enter_below(&limits->handshakes, limits->max_handshakes)) {
        return false;
    }
    METRIC_INCREMENT(tls_handshakes_open);
    return true;
}

void listener_limits_leave_handshake(struct listener_limits *limits)
{
    leave(&limits->handshakes);
    METRIC_DECREMENT(tls_handshakes_open);
}

/* False for a peer that is not counted. */
static bool peer_key_of(const struct listener_limits *limits, const struct addr *peer,
                        struct peer_key *ret_key)
{
    struct addr addr = addr_unmap(peer);
    if (limits->peers == NULL || addr.length == 0) {
        return false;
    }
    memset(ret_key, 0, sizeof(*ret_key));
    if (addr.sa.sa_family == AF_INET) {
        memcpy(ret_key->bytes, &((struct sockaddr_in *)(void *)&addr.storage)->sin_addr, 4);
    } else if (addr.sa.sa_family == AF_INET6) {
        memcpy(ret_key->bytes, &((struct sockaddr_in6 *)(void *)&addr.storage)->sin6_addr, 8);
    } else {
        return false;
    }
    ret_key->family = (uint8_t)addr.sa.sa_family;
    return true;
}

static bool is_trusted(const struct listener_limits *limits, const struct addr *peer)
{
    for (size_t i = 0; i < limits->trusted_count; i++) {
        if (addr_network_contains(&limits->trusted[i], peer)) {
            return true;
        }
    }
    return false;
}

/* The link that points to the key's entry, or the one at which it would be added; NULL while the shard has no table. */
static struct peer **find(const struct peer_shard *shard, const struct peer_key *key, uint64_t hash)
{
    if (shard->bucket_count == 0) {
        return NULL;
    }
    struct peer **link = &shard->buckets[(hash / PEER_SHARDS) % shard->bucket_count];
    while (*link != NULL && memcmp(&(*link)->key, key, sizeof(*key)) != 0) {
        link = &(*link)->next;
    }
    return link;
}

/* Doubles the table when it is full. It never shrinks: its size follows the most clients that were ever here at once. */
static enum error make_room(struct peer_shard *shard)
{
    if (shard->length < shard->bucket_count) {
        return ERROR_NONE;
    }
    size_t count = shard->bucket_count == 0 ? PEER_BUCKETS_START : shard->bucket_count * 2;
    struct peer_shard larger = {.bucket_count = count};
    larger.buckets = mem_calloc(count, sizeof(*larger.buckets));
    if (larger.buckets == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < shard->bucket_count; i++) {
        while (shard->buckets[i] != NULL) {
            struct peer *peer = shard->buckets[i];
            shard->buckets[i] = peer->next;
            peer->next = NULL;
            *find(&larger, &peer->key, hash_bytes(&peer->key, sizeof(peer->key))) = peer;
        }
    }
    mem_free(shard->buckets);
    shard->buckets = larger.buckets;
    shard->bucket_count = count;
    return ERROR_NONE;
}

static enum error count_up(struct peer_shard *shard, const struct peer_key *key, uint64_t hash,
                           unsigned bound)
{
    struct peer **link = find(shard, key, hash);
    if (link != NULL && *link != NULL) {
        if ((*link)->connections >= bound) {
            return ERROR_LIMIT;
        }
        (*link)->connections++;
        return ERROR_NONE;
    }
    struct peer *peer = mem_calloc(1, sizeof(*peer));
    if (peer == NULL || make_room(shard) != ERROR_NONE) {
        mem_free(peer);
        return ERROR_NO_MEMORY;
    }
    peer->key = *key;
    peer->connections = 1;
    *find(shard, key, hash) = peer;
    shard->length++;
    return ERROR_NONE;
}

static void count_down(struct peer_shard *shard, const struct peer_key *key, uint64_t hash)
{
    struct peer **link = find(shard, key, hash);
    if (link == NULL || *link == NULL) {
        return; /* a trusted peer, or one from before the limit */
    }
    struct peer *peer = *link;
    if (--peer->connections == 0) {
        *link = peer->next;
        mem_free(peer);
        shard->length--;
    }
}

enum error listener_limits_enter_peer(struct listener_limits *limits, const struct addr *peer)
{
    struct peer_key key;
    if (limits->max_connections_per_ip == 0 || !peer_key_of(limits, peer, &key) ||
        is_trusted(limits, peer)) {
        return ERROR_NONE;
    }
    uint64_t hash = hash_bytes(&key, sizeof(key));
    struct peer_shard *shard = &limits->peers->shards[hash % PEER_SHARDS];
    pthread_mutex_lock(&shard->lock);
    enum error error = count_up(shard, &key, hash, limits->max_connections_per_ip);
    pthread_mutex_unlock(&shard->lock);
    return error;
}

void listener_connection_closed(struct listener_limits *limits, const struct addr *peer)
{
    struct peer_key key;
    if (peer_key_of(limits, peer, &key)) {
        uint64_t hash = hash_bytes(&key, sizeof(key));
        struct peer_shard *shard = &limits->peers->shards[hash % PEER_SHARDS];
        pthread_mutex_lock(&shard->lock);
        count_down(shard, &key, hash);
        pthread_mutex_unlock(&shard->lock);
    }
    METRIC_DECREMENT(conns);
    listener_limits_leave(limits);
}
