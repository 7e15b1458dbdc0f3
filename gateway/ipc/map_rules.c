/* SPDX-License-Identifier: MIT */
/*
 * The rows of every map, from frame_rules.h, and the check. It owns nothing.
 */
#include "ipc/map_rules.h"

#include <stdint.h>

#include "ipc/frame_rules.h"

enum map_type { MAP_UINT, MAP_BOOL, MAP_TEXT, MAP_BIN, MAP_TEXTS, MAP_TEXT_NIL, MAP_PRIORITY };

struct map_key {
    const char *key; /* also what an error names */
    enum map_type type;
    bool required;
    uint64_t min, max;
};

#define X(key_, type_, required_, min_, max_)                                                      \
    {.key = #key_, .type = MAP_##type_, .required = required_, .min = min_, .max = max_},
static const struct map_key hello_keys[] = {FRAME_MAP_HELLO(X)};
static const struct map_key hello_ack_keys[] = {FRAME_MAP_HELLO_ACK(X)};
static const struct map_key conn_keys[] = {FRAME_MAP_CONN(X)};
static const struct map_key stats_keys[] = {FRAME_MAP_STATS(X)};
static const struct map_key log_keys[] = {FRAME_MAP_LOG(X)};
#undef X

#define KEYS(array) {(array), sizeof(array) / sizeof((array)[0])}
static const struct {
    const struct map_key *keys;
    size_t count;
} maps[MAP_KIND_COUNT] = {
    [MAP_HELLO] = KEYS(hello_keys), [MAP_HELLO_ACK] = KEYS(hello_ack_keys),
    [MAP_CONN] = KEYS(conn_keys),   [MAP_STATS] = KEYS(stats_keys),
    [MAP_LOG] = KEYS(log_keys),
};

static bool within(uint64_t value, const struct map_key *key)
{
    return value >= key->min && value <= key->max;
}

static bool texts_match(const struct pack_value *value, const struct map_key *key)
{
    if (value->type != PACK_ARRAY || !within(value->count, key)) {
        return false;
    }
    for (uint32_t i = 0; i < value->count; i++) {
        if (value->items[i].type != PACK_TEXT) {
            return false;
        }
    }
    return true;
}

static bool value_matches(const struct pack_value *value, const struct map_key *key)
{
    switch (key->type) {
    case MAP_UINT:
        return value->type == PACK_UINT && within(value->number, key);
    case MAP_BOOL:
        return value->type == PACK_BOOL;
    case MAP_TEXT:
        return value->type == PACK_TEXT && within(value->bytes.length, key);
    case MAP_TEXT_NIL:
        return value->type == PACK_NIL ||
               (value->type == PACK_TEXT && within(value->bytes.length, key));
    case MAP_BIN:
        return value->type == PACK_BIN && within(value->bytes.length, key);
    case MAP_TEXTS:
        return texts_match(value, key);
    case MAP_PRIORITY:
        return value->type == PACK_ARRAY && value->count == 2 &&
               value->items[0].type == PACK_UINT && value->items[1].type == PACK_BOOL;
    }
    return false;
}

enum error map_decode(enum map_kind kind, struct arena *arena, struct slice payload,
                      struct pack_value *ret_map, const char **ret_text)
{
    struct pack_value map;
    enum error error = pack_decode(arena, payload, &map);

    if (error != ERROR_NONE) {
        *ret_text = error == ERROR_PROTOCOL ? "not one whole msgpack value" : "out of memory";
        return error;
    }
    if (map.type != PACK_MAP) {
        *ret_text = "not a msgpack map";
        return ERROR_PROTOCOL;
    }
    for (size_t i = 0; i < maps[kind].count; i++) {
        const struct map_key *key = &maps[kind].keys[i];
        const struct pack_value *value = pack_get(&map, key->key);
        if (value == NULL ? key->required : !value_matches(value, key)) {
            *ret_text = key->key;
            return ERROR_PROTOCOL;
        }
    }
    *ret_map = map;
    return ERROR_NONE;
}

const struct pack_value *map_value(const struct pack_value *map, const char *key)
{
    const struct pack_value *value = pack_get(map, key);

    REQUIRE(value != NULL);
    return value;
}

struct slice map_bytes(const struct pack_value *map, const char *key)
{
    const struct pack_value *value = pack_get(map, key);

    return value != NULL ? value->bytes : (struct slice){NULL, 0};
}
