/* SPDX-License-Identifier: MIT */
/*
 * The maps of the protocol (HELLO, STATS, LOG): decodes a payload and checks every key against its row of frames.toml
 * (SPEC R37). It knows keys, types and bounds, not what they mean.
 */
#ifndef GATEWAY_IPC_MAP_RULES_H
#define GATEWAY_IPC_MAP_RULES_H

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"
#include "ipc/pack.h"

enum map_kind { MAP_HELLO, MAP_HELLO_ACK, MAP_CONN, MAP_STATS, MAP_LOG, MAP_KIND_COUNT };

/* Decodes a payload that must be the map `kind`. ERROR_PROTOCOL: malformed; `ret_text` (static) names the key or says what is wrong.
 * ERROR_NO_MEMORY. Values live in the arena, their bytes in the payload. */
enum error map_decode(enum map_kind kind, struct arena *arena, struct slice payload,
                      struct pack_value *ret_map, const char **ret_text) MUST_CHECK;
/* The value of a key that is there (REQUIREd): only for required keys of a checked map. */
const struct pack_value *map_value(const struct pack_value *map, const char *key);
/* The bytes of a text or bin key, empty when it is missing. */
struct slice map_bytes(const struct pack_value *map, const char *key);

#endif
