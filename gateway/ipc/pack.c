/* SPDX-License-Identifier: MIT */
/*
 * The one place that knows msgpack-c. Reading walks the bytes first and bounds them (SPEC R35 to R37), because msgpack-c
 * allocates what a count declares: five bytes make it take half a gigabyte. It owns nothing; values live in the caller's
 * arena and borrow their bytes from the input.
 */
#include "ipc/pack.h"

#include <msgpack.h>

#include "ipc/frame_defs.h"

/* No frame of the protocol comes near these; they bound the memory and the time that one payload costs. */
#define PACK_MAX_VALUES 4096
#define PACK_MAX_PAIRS 256 /* of one map: its keys are compared pairwise */

/* --- writing --------------------------------------------------------------------------------------------------------- */

static int pack_write(void *out, const char *bytes, size_t length)
{
    struct strbuf *buffer = out;

    strbuf_append(buffer, bytes, length);
    return buffer->failed ? -1 : 0;
}

static msgpack_packer packer_for(struct strbuf *out)
{
    msgpack_packer packer;

    msgpack_packer_init(&packer, out, pack_write);
    return packer;
}

void pack_array(struct strbuf *out, uint32_t count)
{
    msgpack_packer packer = packer_for(out);
    (void)msgpack_pack_array(&packer, count);
}

void pack_map(struct strbuf *out, uint32_t pairs)
{
    msgpack_packer packer = packer_for(out);
    (void)msgpack_pack_map(&packer, pairs);
}

void pack_uint(struct strbuf *out, uint64_t value)
{
    msgpack_packer packer = packer_for(out);
    (void)msgpack_pack_uint64(&packer, value);
}

void pack_nil(struct strbuf *out)
{
    msgpack_packer packer = packer_for(out);
    (void)msgpack_pack_nil(&packer);
}

void pack_bool(struct strbuf *out, bool value)
{
    msgpack_packer packer = packer_for(out);
    (void)(value ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer));
}

void pack_text(struct strbuf *out, struct slice utf8)
{
    msgpack_packer packer = packer_for(out);
    (void)msgpack_pack_str(&packer, utf8.length);
    strbuf_append_slice(out, utf8);
}

void pack_bin_head(struct strbuf *out, uint32_t length)
{
    msgpack_packer packer = packer_for(out);
    (void)msgpack_pack_bin(&packer, length);
}

void pack_bin(struct strbuf *out, struct slice bytes)
{
    REQUIRE(bytes.length <= UINT32_MAX);
    pack_bin_head(out, (uint32_t)bytes.length);
    strbuf_append_slice(out, bytes);
}

/* --- the walk: bounds before anything is allocated ---------------------------------------------------------------------- */

struct walk {
    const uint8_t *at, *end;
    unsigned values;
};

static enum error walk_value(struct walk *walk, unsigned depth);

static size_t walk_left(const struct walk *walk)
{
    return (size_t)(walk->end - walk->at);
}

/* A big-endian number of `width` bytes. */
static enum error walk_number(struct walk *walk, unsigned width, uint32_t *ret_value)
{
    uint32_t value = 0;

    if (walk_left(walk) < width) {
        return ERROR_PROTOCOL;
    }
    for (unsigned i = 0; i < width; i++) {
        value = value << 8 | *walk->at++;
    }
    *ret_value = value;
    return ERROR_NONE;
}

static enum error walk_skip(struct walk *walk, size_t length)
{
    if (walk_left(walk) < length) {
        return ERROR_PROTOCOL;
    }
    walk->at += length;
    return ERROR_NONE;
}

/* The continuation bytes of a UTF-8 character and the range of the first of them (RFC 3629 4). */
static unsigned utf8_follow(uint8_t lead, uint8_t *ret_low, uint8_t *ret_high)
{
    *ret_low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    *ret_high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
        return 1;
    }
    if (lead >= 0xe0 && lead <= 0xef) {
        return 2;
    }
    return lead >= 0xf0 && lead <= 0xf4 ? 3 : 0;
}

static bool utf8_valid(const uint8_t *bytes, size_t length)
{
    size_t i = 0;

    while (i < length) {
        if (bytes[i] < 0x80) {
            i++;
            continue;
        }
        uint8_t low, high;
        unsigned follow = utf8_follow(bytes[i], &low, &high);
        if (follow == 0 || follow >= length - i || bytes[i + 1] < low || bytes[i + 1] > high) {
            return false;
        }
        for (unsigned k = 2; k <= follow; k++) {
            if ((bytes[i + k] & 0xc0) != 0x80) {
                return false;
            }
        }
        i += follow + 1;
    }
    return true;
}

static enum error walk_text(struct walk *walk, size_t length)
{
    const uint8_t *text = walk->at;
    enum error error = walk_skip(walk, length);

    return error == ERROR_NONE && !utf8_valid(text, length) ? ERROR_PROTOCOL : error;
}

static enum error walk_array(struct walk *walk, uint32_t count, unsigned depth)
{
    if (depth >= FRAME_MAX_PACK_DEPTH || count > walk_left(walk)) {
        return ERROR_PROTOCOL;
    }
    for (uint32_t i = 0; i < count; i++) {
        enum error error = walk_value(walk, depth + 1);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    return ERROR_NONE;
}

static bool is_text_head(uint8_t byte)
{
    return (byte >= 0xa0 && byte <= 0xbf) || (byte >= 0xd9 && byte <= 0xdb);
}

/* The text behind a key's head; the key was walked and is whole. */
static struct slice key_text(const uint8_t *key, const uint8_t *end)
{
    size_t head = *key <= 0xbf ? 1 : *key == 0xd9 ? 2 : *key == 0xda ? 3 : 5;

    return (struct slice){(const char *)key + head, (size_t)(end - key) - head};
}

static enum error walk_map(struct walk *walk, uint32_t pairs, unsigned depth)
{
    struct slice keys[PACK_MAX_PAIRS];

    if (depth >= FRAME_MAX_PACK_DEPTH || pairs > PACK_MAX_PAIRS || pairs > walk_left(walk) / 2) {
        return ERROR_PROTOCOL;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        const uint8_t *key = walk->at;
        if (key == walk->end || !is_text_head(*key) || walk_value(walk, depth + 1) != ERROR_NONE) {
            return ERROR_PROTOCOL;
        }
        keys[i] = key_text(key, walk->at);
        for (uint32_t k = 0; k < i; k++) {
            if (slice_equal(keys[k], keys[i])) {
                return ERROR_PROTOCOL;
            }
        }
        if (walk_value(walk, depth + 1) != ERROR_NONE) {
            return ERROR_PROTOCOL;
        }
    }
    return ERROR_NONE;
}

/* Types that carry a count or length of 1, 2 or 4 bytes. */
static enum error walk_counted(struct walk *walk, uint8_t head, unsigned depth)
{
    static const uint8_t widths[] = {[0xc4 - 0xc4] = 1, [0xc5 - 0xc4] = 2, [0xc6 - 0xc4] = 4,
                                     [0xd9 - 0xc4] = 1, [0xda - 0xc4] = 2, [0xdb - 0xc4] = 4,
                                     [0xdc - 0xc4] = 2, [0xdd - 0xc4] = 4, [0xde - 0xc4] = 2,
                                     [0xdf - 0xc4] = 4};
    uint32_t count;
    enum error error = walk_number(walk, widths[head - 0xc4], &count);

    if (error != ERROR_NONE) {
        return error;
    }
    if (head <= 0xc6) {
        return walk_skip(walk, count);
    }
    if (head <= 0xdb) {
        return walk_text(walk, count);
    }
    return head <= 0xdd ? walk_array(walk, count, depth) : walk_map(walk, count, depth);
}

static enum error walk_value(struct walk *walk, unsigned depth)
{
    if (walk->at == walk->end || ++walk->values > PACK_MAX_VALUES) {
        return ERROR_PROTOCOL;
    }
    uint8_t head = *walk->at++;
    if (head <= 0x7f || head >= 0xe0 || head == 0xc0 || head == 0xc2 || head == 0xc3) {
        return ERROR_NONE;
    }
    if (head <= 0x8f) {
        return walk_map(walk, head & 0x0f, depth);
    }
    if (head <= 0x9f) {
        return walk_array(walk, head & 0x0f, depth);
    }
    if (head <= 0xbf) {
        return walk_text(walk, head & 0x1f);
    }
    if (head >= 0xcc && head <= 0xd3) { /* uint and int of 1, 2, 4, 8 bytes */
        return walk_skip(walk, (size_t)1 << ((head - 0xcc) & 3));
    }
    if ((head >= 0xc4 && head <= 0xc6) || (head >= 0xd9 && head <= 0xdf)) {
        return walk_counted(walk, head, depth);
    }
    return ERROR_PROTOCOL; /* floats, extension types, c1 */
}

/* --- reading ----------------------------------------------------------------------------------------------------------- */

static enum error convert(struct arena *arena, const msgpack_object *from, struct pack_value *to);

static enum error convert_items(struct arena *arena, const msgpack_object *objects, uint32_t count,
                                struct pack_value *items)
{
    for (uint32_t i = 0; i < count; i++) {
        enum error error = convert(arena, &objects[i], &items[i]);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    return ERROR_NONE;
}

static enum error convert_array(struct arena *arena, const msgpack_object_array *from,
                                struct pack_value *to)
{
    struct pack_value *items = arena_calloc(arena, from->size + 1u, sizeof(*items));

    if (items == NULL) {
        return ERROR_NO_MEMORY;
    }
    to->type = PACK_ARRAY;
    to->count = from->size;
    to->items = items;
    return convert_items(arena, from->ptr, from->size, items);
}

static enum error convert_map(struct arena *arena, const msgpack_object_map *from,
                              struct pack_value *to)
{
    struct pack_value *items = arena_calloc(arena, 2u * from->size + 1u, sizeof(*items));

    if (items == NULL) {
        return ERROR_NO_MEMORY;
    }
    to->type = PACK_MAP;
    to->count = from->size;
    to->items = items;
    for (uint32_t i = 0; i < from->size; i++) {
        enum error error = convert(arena, &from->ptr[i].key, &items[2 * (size_t)i]);
        if (error == ERROR_NONE) {
            error = convert(arena, &from->ptr[i].val, &items[2 * (size_t)i + 1]);
        }
        if (error != ERROR_NONE) {
            return error;
        }
    }
    return ERROR_NONE;
}

/* The depth is bounded by the walk. */
static enum error convert(struct arena *arena, const msgpack_object *from, struct pack_value *to)
{
    *to = (struct pack_value){.type = PACK_NIL};
    switch (from->type) {
    case MSGPACK_OBJECT_NIL:
        return ERROR_NONE;
    case MSGPACK_OBJECT_BOOLEAN:
        to->type = PACK_BOOL;
        to->number = from->via.boolean;
        return ERROR_NONE;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        to->type = PACK_UINT;
        to->number = from->via.u64;
        return ERROR_NONE;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        to->type = PACK_INT;
        to->number = (uint64_t)from->via.i64;
        return ERROR_NONE;
    case MSGPACK_OBJECT_STR:
        to->type = PACK_TEXT;
        to->bytes = (struct slice){from->via.str.ptr, from->via.str.size};
        return ERROR_NONE;
    case MSGPACK_OBJECT_BIN:
        to->type = PACK_BIN;
        to->bytes = (struct slice){from->via.bin.ptr, from->via.bin.size};
        return ERROR_NONE;
    case MSGPACK_OBJECT_ARRAY:
        return convert_array(arena, &from->via.array, to);
    case MSGPACK_OBJECT_MAP:
        return convert_map(arena, &from->via.map, to);
    default:
        return ERROR_PROTOCOL; /* the walk lets nothing else through */
    }
}

enum error pack_decode(struct arena *arena, struct slice input, struct pack_value *ret_value)
{
    const uint8_t *begin = (const uint8_t *)input.data;
    struct walk walk = {.at = begin, .end = begin + input.length};

    if (input.length == 0 || walk_value(&walk, 0) != ERROR_NONE || walk.at != walk.end) {
        return ERROR_PROTOCOL;
    }
    msgpack_zone zone;
    /* Enough for nearly every payload in one block; the walk has bounded the rest. */
    if (!msgpack_zone_init(&zone, sizeof(msgpack_object) * 64)) {
        return ERROR_NO_MEMORY;
    }
    msgpack_object object;
    struct pack_value value;
    size_t offset = 0;
    enum error error = ERROR_NO_MEMORY; /* all that can go wrong behind the walk */
    if (msgpack_unpack(input.data, input.length, &offset, &zone, &object) ==
        MSGPACK_UNPACK_SUCCESS) {
        error = convert(arena, &object, &value);
    }
    msgpack_zone_destroy(&zone);
    if (error == ERROR_NONE) {
        *ret_value = value;
    }
    return error;
}

const struct pack_value *pack_get(const struct pack_value *map, const char *key)
{
    if (map->type != PACK_MAP) {
        return NULL;
    }
    for (uint32_t i = 0; i < map->count; i++) {
        if (slice_equal(map->items[2 * (size_t)i].bytes, slice_from(key))) {
            return &map->items[2 * (size_t)i + 1];
        }
    }
    return NULL;
}
