/* SPDX-License-Identifier: MIT */
/* app/head_wire.c where the vectors do not reach: forgeries, another host, CONN within its bounds, field blocks. */
#include "check.h"

#include "app/head_wire.h"
#include "ipc/map_rules.h"
#include "ipc/pack.h"

static struct arena arena;

static struct pack_value decoded(const struct strbuf *out)
{
    struct pack_value value;
    CHECK(!out->failed);
    CHECK_EQ_INT(pack_decode(&arena, (struct slice){out->data, out->length}, &value), ERROR_NONE);
    return value;
}

/* --- REQUEST ----------------------------------------------------------------------------------------------------------- */

static struct slice fields_as_sent(bool strip, struct slice host)
{
    static struct field fields[] = {{{"host", 4}, {"a.example", 9}},
                                    {{"forwarded", 9}, {"for=1", 5}},
                                    {{"x", 1}, {"", 0}},
                                    {{"x-forwarded-for", 15}, {"1", 1}},
                                    {{"x-real-ip", 9}, {"1", 1}},
                                    {{"x-forwarded", 11}, {"1", 1}}};
    struct conn_identity identity = {.server_host = SLICE("/run/g.sock")};
    struct request_head head = {.version = HTTP_1_1,
                                .method = SLICE("GET"),
                                .raw_path = SLICE("/%61"),
                                .path = SLICE("/a"),
                                .query = SLICE(""),
                                .fields = fields,
                                .field_count = 6};
    struct head_wire_context context = {.identity = &identity,
                                        .scheme = SLICE("http"),
                                        .root_path = SLICE(""),
                                        .host = host,
                                        .strip_forwarded = strip};
    struct strbuf out;
    strbuf_init(&out);
    head_wire_request(&out, &head, &context);
    struct pack_value value = decoded(&out);
    CHECK_EQ_INT(value.type, PACK_ARRAY);
    CHECK_EQ_INT(value.count, 13);
    CHECK(slice_equal(value.items[5].bytes, SLICE("/%61")));
    CHECK_EQ_INT(value.items[8].type, PACK_NIL); /* a Unix peer has no address */
    CHECK_EQ_INT(value.items[9].bytes.length, 12);
    CHECK_EQ_MEM(value.items[9].bytes.data, "/run/g.sock\0", 12);
    CHECK_EQ_INT(value.items[11].type, PACK_NIL);
    CHECK_EQ_INT(value.items[12].type, PACK_NIL);
    struct slice block = arena_copy(&arena, value.items[10].bytes);
    strbuf_done(&out);
    return block;
}

TEST(what_a_stranger_says_of_his_client_is_dropped)
{
    arena_init(&arena, 4096);
    struct slice block = fields_as_sent(true, (struct slice){NULL, 0});
    static const char expected[] = "host\0a.example\0x\0\0x-forwarded\0"
                                   "1";
    CHECK_EQ_INT(block.length, sizeof expected - 1);
    CHECK_EQ_MEM(block.data, expected, block.length);
    block = fields_as_sent(false, SLICE("b.example"));
    static const char all[] = "host\0b.example\0forwarded\0for=1\0x\0\0x-forwarded-for\0"
                              "1\0x-real-ip\0"
                              "1\0x-forwarded\0"
                              "1";
    CHECK_EQ_INT(block.length, sizeof all - 1);
    CHECK_EQ_MEM(block.data, all, block.length);
    arena_done(&arena);
}

/* --- RESPONSE ------------------------------------------------------------------------------------------------------------ */

TEST(field_blocks_have_pairs)
{
    static const struct {
        const char *bytes;
        size_t length, fields;
        enum error error;
    } rows[] = {
        {"\x91\xc4\x00", 3, 0, ERROR_NONE},
        {"\x91\xc4\x03"
         "a\0b",
         6, 1, ERROR_NONE},
        {"\x91\xc4\x07"
         "a\0b\0c\0d",
         10, 2, ERROR_NONE},
        {"\x91\xc4\x01\0", 4, 1, ERROR_NONE}, /* an empty name: response_head_check refuses it */
        {"\x91\xc4\x01"
         "a",
         4, 0, ERROR_PROTOCOL},
        {"\x91\xc4\x04"
         "a\0b\0",
         7, 0, ERROR_PROTOCOL},
        {"\x91\xa3"
         "a\0b",
         5, 0, ERROR_PROTOCOL}, /* text, not bin */
        {"\x92\xc4\x00\xc0", 4, 0, ERROR_PROTOCOL},
        {"\x90", 1, 0, ERROR_PROTOCOL},
        {"\xc4\x00", 2, 0, ERROR_PROTOCOL},
        {"\x91\xc4\x00\x00", 4, 0, ERROR_PROTOCOL}, /* a byte behind it */
        {"\xdd\x01\x00\x00\x00", 5, 0, ERROR_PROTOCOL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct field *fields = NULL;
        size_t count = 0;
        arena_init(&arena, 4096);
        CHECK_EQ_INT(head_wire_fields(&arena, (struct slice){rows[i].bytes, rows[i].length},
                                      &fields, &count),
                     rows[i].error);
        CHECK_EQ_INT(count, rows[i].fields);
        arena_done(&arena);
    }
}

/* --- CONN ----------------------------------------------------------------------------------------------------------------- */

#define END_LINE "-----END CERTIFICATE-----\n"

static char chain[200000], name[5000];

/* `count` certificates of `size` bytes each. */
static struct slice make_chain(size_t count, size_t size)
{
    memset(chain, 'A', sizeof chain);
    for (size_t i = 1; i <= count; i++) {
        memcpy(chain + i * size - strlen(END_LINE), END_LINE, strlen(END_LINE));
    }
    return (struct slice){chain, count * size};
}

static struct pack_value conn_map(const struct conn_identity *identity, struct strbuf *out)
{
    const char *text = "";
    struct pack_value map;
    strbuf_init(out);
    head_wire_conn(out, identity, 32768);
    CHECK(!out->failed && out->length <= 32768);
    /* the worker's own bounds */
    CHECK_EQ_INT(map_decode(MAP_CONN, &arena, (struct slice){out->data, out->length}, &map, &text),
                 ERROR_NONE);
    return map;
}

TEST(a_connection_is_told_within_the_bounds_of_its_map)
{
    static const struct {
        size_t count, size, name, server, told;
    } rows[] = {{0, 0, 0, 0, 0},
                {1, 1000, 10, 1000, 1},
                {3, 2000, 100, 0, 3},
                {16, 1000, 0, 10000, 16},
                {40, 500, 0, 0, 16},
                {16, 8000, 0, 0, 4},
                {2, 16000, 4096, 16384, 0},
                {2, 4000, 5000, 17000, 2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct strbuf out;
        arena_init(&arena, 4096);
        memset(name, 'n', sizeof name);
        static char server[20000];
        memset(server, 's', sizeof server);
        struct conn_identity identity = {.client_chain_pem =
                                             make_chain(rows[i].count, rows[i].size),
                                         .client_name = {name, rows[i].name},
                                         .server_cert_pem = {server, rows[i].server}};
        struct pack_value map = conn_map(&identity, &out);
        const struct pack_value *certificates = map_value(&map, "client_cert_chain");
        CHECK_EQ_INT(certificates->count, rows[i].told);
        for (uint32_t k = 0; k < certificates->count; k++) {
            CHECK_EQ_INT(certificates->items[k].bytes.length, rows[i].size);
        }
        bool named = rows[i].name > 0 && rows[i].name <= 4096;
        CHECK_EQ_INT(map_value(&map, "client_cert_name")->type, named ? PACK_TEXT : PACK_NIL);
        strbuf_done(&out);
        arena_done(&arena);
    }
}

CHECK_MAIN
