/* SPDX-License-Identifier: MIT */
/* msgpack: what is written is read back; what is malformed costs nothing (SPEC R35 to R37). */
#include "check.h"

#include <malloc.h>

#include "base/mem.h"
#include "ipc/map_rules.h"
#include "ipc/pack.h"

static struct arena arena;

static enum error decode(struct slice input, struct pack_value *ret_value)
{
    arena_done(&arena);
    arena_init(&arena, 4096);
    return pack_decode(&arena, input, ret_value);
}

#define DECODE(literal, value) decode(SLICE(literal), value)

TEST(what_is_written_is_read)
{
    struct strbuf out;
    struct pack_value v;

    strbuf_init(&out);
    pack_map(&out, 5);
    pack_text(&out, SLICE("number"));
    pack_uint(&out, UINT64_MAX);
    pack_text(&out, SLICE("list"));
    pack_array(&out, 4);
    pack_nil(&out);
    pack_bool(&out, true);
    pack_bool(&out, false);
    pack_uint(&out, 127);
    pack_text(&out, SLICE("bin"));
    pack_bin(&out, (struct slice){"a\0b", 3});
    pack_text(&out, SLICE("empty"));
    pack_bin(&out, (struct slice){NULL, 0});
    pack_text(&out, SLICE("later"));
    pack_bin_head(&out, 2);
    strbuf_append(&out, "xy", 2);
    CHECK(!out.failed);
    CHECK_EQ_INT(decode((struct slice){out.data, out.length}, &v), ERROR_NONE);
    CHECK_EQ_INT(v.type, PACK_MAP);
    CHECK_EQ_INT(v.count, 5);
    CHECK(pack_get(&v, "number")->number == UINT64_MAX);
    const struct pack_value *list = pack_get(&v, "list");
    CHECK_EQ_INT(list->count, 4);
    CHECK_EQ_INT(list->items[0].type, PACK_NIL);
    CHECK_EQ_INT(list->items[1].number, 1);
    CHECK_EQ_INT(list->items[2].type, PACK_BOOL);
    CHECK_EQ_INT(list->items[3].number, 127);
    CHECK_EQ_INT(pack_get(&v, "bin")->bytes.length, 3);
    CHECK_EQ_MEM(pack_get(&v, "bin")->bytes.data, "a\0b", 3);
    CHECK_EQ_INT(pack_get(&v, "empty")->type, PACK_BIN);
    CHECK_EQ_INT(pack_get(&v, "empty")->bytes.length, 0);
    CHECK_EQ_MEM(pack_get(&v, "later")->bytes.data, "xy", 2);
    CHECK(pack_get(&v, "missing") == NULL);
    CHECK(pack_get(list, "number") == NULL);
    strbuf_done(&out);
    arena_done(&arena);
}

TEST(every_width_is_read)
{
    struct pack_value v;

    CHECK_EQ_INT(DECODE("\xce\x00\x00\x00\x07", &v), ERROR_NONE);
    CHECK_EQ_INT(v.type, PACK_UINT);
    CHECK_EQ_INT(v.number, 7);
    CHECK_EQ_INT(DECODE("\xd3\x00\x00\x00\x00\x00\x00\x00\x07", &v), ERROR_NONE);
    CHECK_EQ_INT(v.type, PACK_UINT);
    CHECK_EQ_INT(DECODE("\xd0\xff", &v), ERROR_NONE);
    CHECK_EQ_INT(v.type, PACK_INT);
    CHECK_EQ_INT((int64_t)v.number, -1);
    CHECK_EQ_INT(DECODE("\xdb\x00\x00\x00\x02hi", &v), ERROR_NONE);
    CHECK_EQ_INT(v.type, PACK_TEXT);
    CHECK_EQ_INT(DECODE("\xc6\x00\x00\x00\x02hi", &v), ERROR_NONE);
    CHECK_EQ_INT(v.type, PACK_BIN);
    CHECK_EQ_INT(DECODE("\xdd\x00\x00\x00\x01\xc0", &v), ERROR_NONE);
    CHECK_EQ_INT(DECODE("\xdf\x00\x00\x00\x01\xa1k\xc0", &v), ERROR_NONE);
    arena_done(&arena);
}

TEST(bombs_allocate_nothing)
{
    static const struct slice bombs[] = {SLICE("\xdd\x01\x00\x00\x00"),
                                         SLICE("\xdf\x01\x00\x00\x00"),
                                         SLICE("\xdc\xff\xff"),
                                         SLICE("\xde\xff\xff"),
                                         SLICE("\xc6\xff\xff\xff\xff"),
                                         SLICE("\xdb\xff\xff\xff\xff"),
                                         SLICE("\x9f"),
                                         SLICE("\x91\xdd\x01\x00\x00\x00")};
    struct pack_value v;

    arena_done(&arena);
    arena_init(&arena, 4096);
    uint64_t made = mem_made();
    struct mallinfo2 before = mallinfo2();
    for (size_t i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
        CHECK_EQ_INT(pack_decode(&arena, bombs[i], &v), ERROR_PROTOCOL);
    }
    struct mallinfo2 after = mallinfo2();
    CHECK_EQ_INT(mem_made(), made);
    CHECK_EQ_INT(after.uordblks, before.uordblks);
    CHECK_EQ_INT(after.hblkhd, before.hblkhd);
}

TEST(malformed)
{
    struct pack_value v;

    CHECK_EQ_INT(DECODE("", &v), ERROR_PROTOCOL);
    CHECK_EQ_INT(DECODE("\xc1", &v), ERROR_PROTOCOL);                 /* never used */
    CHECK_EQ_INT(DECODE("\xca\x00\x00\x00\x00", &v), ERROR_PROTOCOL); /* float */
    CHECK_EQ_INT(DECODE("\xd4\x01\x00", &v), ERROR_PROTOCOL);         /* extension */
    CHECK_EQ_INT(DECODE("\xc7\x00\x01", &v), ERROR_PROTOCOL);
    CHECK_EQ_INT(DECODE("\xc0\xc0", &v), ERROR_PROTOCOL); /* bytes behind the end */
    CHECK_EQ_INT(DECODE("\xcd\x01", &v), ERROR_PROTOCOL); /* cut */
    CHECK_EQ_INT(DECODE("\xa2h", &v), ERROR_PROTOCOL);
    CHECK_EQ_INT(DECODE("\x92\xc0", &v), ERROR_PROTOCOL);
    CHECK_EQ_INT(DECODE("\x81\xc0\xc0", &v), ERROR_PROTOCOL);           /* a key that is no text */
    CHECK_EQ_INT(DECODE("\x82\xa1k\xc0\xa1k\xc0", &v), ERROR_PROTOCOL); /* twice */
    CHECK_EQ_INT(DECODE("\x82\xa1k\xc0\xd9\x01k\xc0", &v), ERROR_PROTOCOL); /* twice, two widths */
    CHECK_EQ_INT(DECODE("\x91\x91\x91\x91\xc0", &v), ERROR_NONE);
    CHECK_EQ_INT(DECODE("\x91\x91\x91\x91\x90", &v), ERROR_PROTOCOL); /* five deep */
    arena_done(&arena);
}

TEST(text_is_utf8)
{
    struct pack_value v;

    CHECK_EQ_INT(DECODE("\xa2\xc3\xa9", &v), ERROR_NONE);
    CHECK_EQ_INT(DECODE("\xa4\xf0\x9f\x98\x80", &v), ERROR_NONE);
    CHECK_EQ_INT(DECODE("\xa1\xc3", &v), ERROR_PROTOCOL);
    CHECK_EQ_INT(DECODE("\xa2\xc0\x80", &v), ERROR_PROTOCOL);         /* overlong */
    CHECK_EQ_INT(DECODE("\xa3\xed\xa0\x80", &v), ERROR_PROTOCOL);     /* surrogate */
    CHECK_EQ_INT(DECODE("\xa4\xf4\x90\x80\x80", &v), ERROR_PROTOCOL); /* above U+10FFFF */
    CHECK_EQ_INT(DECODE("\xa3\xe2\x82\x41", &v), ERROR_PROTOCOL);
    CHECK_EQ_INT(DECODE("\xa1\x80", &v), ERROR_PROTOCOL);
    arena_done(&arena);
}

TEST(maps_are_checked_against_their_rows)
{
    struct pack_value map;
    const char *text = NULL;

    arena_done(&arena);
    arena_init(&arena, 4096);
    CHECK_EQ_INT(map_decode(MAP_STATS, &arena,
                            SLICE("\x84\xa3rss\x01\xa9in_flight\x02\xa5tasks\x03\xa5other\x90"),
                            &map, &text),
                 ERROR_NONE); /* an unknown key is skipped (R37) */
    CHECK_EQ_INT(map_value(&map, "tasks")->number, 3);
    CHECK_EQ_INT(
        map_decode(MAP_STATS, &arena, SLICE("\x82\xa3rss\x01\xa9in_flight\x02"), &map, &text),
        ERROR_PROTOCOL);
    CHECK_EQ_STR(text, "tasks");
    CHECK_EQ_INT(map_decode(MAP_STATS, &arena,
                            SLICE("\x83\xa3rss\xa1x\xa9in_flight\x02\xa5tasks\x03"), &map, &text),
                 ERROR_PROTOCOL);
    CHECK_EQ_STR(text, "rss");
    CHECK_EQ_INT(map_decode(MAP_STATS, &arena,
                            SLICE("\x83\xa3rss\xff\xa9in_flight\x02\xa5tasks\x03"), &map, &text),
                 ERROR_PROTOCOL); /* negative */
    CHECK_EQ_INT(map_decode(MAP_STATS, &arena,
                            SLICE("\x83\xa3rss\x01\xa9in_flight\xcf\x00\x00\x00\x01\x00\x00\x00\x00"
                                  "\xa5tasks\x03"),
                            &map, &text),
                 ERROR_PROTOCOL); /* above its bound */
    CHECK_EQ_INT(map_decode(MAP_STATS, &arena, SLICE("\x90"), &map, &text), ERROR_PROTOCOL);
    CHECK_EQ_INT(
        map_decode(MAP_LOG, &arena, SLICE("\x82\xa5level\xa0\xa7message\xa0"), &map, &text),
        ERROR_PROTOCOL); /* level has at least a byte */
    CHECK_EQ_STR(text, "level");
    CHECK_EQ_INT(
        map_decode(MAP_LOG, &arena, SLICE("\x82\xa5level\xc4\x04info\xa7message\xa0"), &map, &text),
        ERROR_PROTOCOL); /* bin is not text */
    arena_done(&arena);
}

TEST(every_prefix_of_a_map_is_malformed)
{
    static const char whole[] = "\x83\xa3rss\xce\x00\x01\x00\x00\xa9in_flight\x02\xa5tasks\xcc\xff";
    struct pack_value v;

    for (size_t length = 0; length < sizeof(whole) - 1; length++) {
        CHECK_EQ_INT(decode((struct slice){whole, length}, &v), ERROR_PROTOCOL);
    }
    CHECK_EQ_INT(decode((struct slice){whole, sizeof(whole) - 1}, &v), ERROR_NONE);
    arena_done(&arena);
}

TEST(no_memory_is_told_apart)
{
    struct pack_value v;

    arena_done(&arena);
    arena_init(&arena, 4096);
    mem_fail_nth(1, 0);
    CHECK_EQ_INT(pack_decode(&arena, SLICE("\x91\xc0"), &v), ERROR_NO_MEMORY);
    mem_fail_nth(0, 0);
    arena_done(&arena);
}

CHECK_MAIN
