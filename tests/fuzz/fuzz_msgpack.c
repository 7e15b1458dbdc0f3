/* SPDX-License-Identifier: MIT */
/*
 * msgpack from a worker: what is malformed allocates nothing, what is well-formed can be written again and reads as the same.
 * The first byte chooses a map's rules.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/mem.h"
#include "ipc/frame_defs.h"
#include "ipc/map_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_value(struct strbuf *out, const struct pack_value *value)
{
    uint32_t items = value->type == PACK_MAP ? 2 * value->count : value->count;

    switch (value->type) {
    case PACK_NIL:
    case PACK_INT: /* never written by the gateway: its place is kept */
        pack_nil(out);
        return;
    case PACK_BOOL:
        pack_bool(out, value->number != 0);
        return;
    case PACK_UINT:
        pack_uint(out, value->number);
        return;
    case PACK_TEXT:
        pack_text(out, value->bytes);
        return;
    case PACK_BIN:
        pack_bin(out, value->bytes);
        return;
    case PACK_ARRAY:
        pack_array(out, value->count);
        break;
    case PACK_MAP:
        pack_map(out, value->count);
        break;
    }
    for (uint32_t i = 0; i < items; i++) {
        write_value(out, &value->items[i]);
    }
}

static void same(const struct pack_value *a, const struct pack_value *b, unsigned depth)
{
    REQUIRE(depth <= FRAME_MAX_PACK_DEPTH);
    if (a->type == PACK_INT) {
        REQUIRE((int64_t)a->number < 0 && b->type == PACK_NIL);
        return;
    }
    REQUIRE(a->type == b->type && a->number == b->number && a->count == b->count);
    REQUIRE(slice_equal(a->bytes, b->bytes));
    uint32_t items = a->type == PACK_MAP ? 2 * a->count : a->count;
    for (uint32_t i = 0; i < items; i++) {
        same(&a->items[i], &b->items[i], depth + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pack_value value, again;
    struct arena arena;
    const char *text;

    if (size == 0) {
        return 0;
    }
    struct slice input = {(const char *)data + 1, size - 1};
    uint64_t live = mem_live();
    uint64_t made = mem_made();
    arena_init(&arena, 1024);
    if (pack_decode(&arena, input, &value) != ERROR_NONE) {
        REQUIRE(mem_made() == made);
    } else {
        struct strbuf out;
        strbuf_init(&out);
        write_value(&out, &value);
        REQUIRE(!out.failed &&
                out.length <= input.length + 9); /* never longer than the widths allow */
        REQUIRE(pack_decode(&arena, (struct slice){out.data, out.length}, &again) == ERROR_NONE);
        same(&value, &again, 0);
        strbuf_done(&out);
        (void)!map_decode(data[0] % MAP_KIND_COUNT, &arena, input, &value, &text);
    }
    arena_done(&arena);
    REQUIRE(mem_live() == live);
    return 0;
}
