/* SPDX-License-Identifier: MIT */
/*
 * msgpack behind a few functions: the only file that knows msgpack-c is pack.c. Bytes from a worker are walked and bounded
 * (counts <= bytes left, depth <= FRAME_MAX_PACK_DEPTH, exact end, no duplicate keys) before anything is allocated.
 */
#ifndef GATEWAY_IPC_PACK_H
#define GATEWAY_IPC_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"
#include "base/strbuf.h"

/* --- writing: appends to a strbuf (check strbuf.failed once at the end) ------------------------------------------------ */
void pack_array(struct strbuf *out, uint32_t count);
void pack_map(struct strbuf *out, uint32_t pairs);
void pack_uint(struct strbuf *out, uint64_t value);
void pack_nil(struct strbuf *out);
void pack_bool(struct strbuf *out, bool value);
void pack_text(struct strbuf *out, struct slice utf8);
void pack_bin(struct strbuf *out, struct slice bytes);
/* Begins a bin of exactly `length` bytes that the caller appends to `out` himself. */
void pack_bin_head(struct strbuf *out, uint32_t length);

/* --- reading ------------------------------------------------------------------------------------------------------------- */

enum pack_type {
    PACK_NIL,
    PACK_BOOL,
    PACK_UINT,
    PACK_INT,
    PACK_TEXT,
    PACK_BIN,
    PACK_ARRAY,
    PACK_MAP
};

/* A decoded value. For arrays `items` has `count` values, for maps 2 x count (key, value, ...). Bytes are borrowed from the input. */
struct pack_value {
    enum pack_type type;
    uint64_t number;
    struct slice bytes;
    uint32_t count;
    const struct pack_value *items;
};

/* Decodes exactly one value that fills the input. ERROR_PROTOCOL: malformed or over a bound (nothing was allocated); ERROR_NO_MEMORY. */
enum error pack_decode(struct arena *arena, struct slice input,
                       struct pack_value *ret_value) MUST_CHECK;
/* The value of a text key in a map, or NULL. */
const struct pack_value *pack_get(const struct pack_value *map, const char *key);

#endif
