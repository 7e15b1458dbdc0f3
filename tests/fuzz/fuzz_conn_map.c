/* SPDX-License-Identifier: MIT */
/*
 * What a TLS connection is, as a CONN map: whatever chain and name it has, the map fits into its bound, keeps the rules of its
 * table, and its certificates are the beginning of the chain, each whole.
 *
 * Input: flags, then the chain; byte 1 stands for 2000 times the byte before it.
 */
#include <stdint.h>

#include "app/head_wire.h"
#include "ipc/map_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REPEAT 2000
#define CHAIN_MAX 100000

static const char end_line[] = "-----END CERTIFICATE-----";

static void expand(const uint8_t *data, size_t size, struct strbuf *out)
{
    for (size_t i = 0; i < size && out->length < CHAIN_MAX; i++) {
        for (int k = 0; k < REPEAT && i > 0 && data[i] == 1; k++) {
            strbuf_append_char(out, (char)(data[i - 1] & 0x7f)); /* PEM is ASCII */
        }
        if (data[i] != 1) {
            strbuf_append_char(out, (char)(data[i] & 0x7f));
        }
    }
}

/* Each certificate of the map ends in an end line, has one only, and follows the one before it in the chain. */
static void check_chain(const struct pack_value *chain, const struct strbuf *given)
{
    size_t at = 0;

    for (uint32_t i = 0; i < chain->count; i++) {
        struct slice text = chain->items[i].bytes;
        REQUIRE(text.length <= given->length - at);
        REQUIRE(memcmp(text.data, given->data + at, text.length) == 0);
        const char *end = memmem(text.data, text.length, end_line, sizeof end_line - 1);
        REQUIRE(end != NULL);
        size_t behind = text.length - (size_t)(end - text.data) - (sizeof end_line - 1);
        REQUIRE(behind == 0 || (behind == 1 && text.data[text.length - 1] == '\n'));
        at += text.length;
    }
}

/* The text, or nil when it is longer than its row in frames.toml allows. */
static void check_text(const struct pack_value *value, struct slice given, size_t most)
{
    REQUIRE(value != NULL);
    REQUIRE(value->type == PACK_NIL || slice_equal(value->bytes, given));
    REQUIRE(value->type != PACK_NIL || given.length == 0 || given.length > most);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t bounds[] = {32768, 65536, 81920};
    struct strbuf chain, out;
    struct arena arena;
    struct pack_value map;
    const char *why;

    if (size == 0) {
        return 0;
    }
    size_t max = bounds[data[0] % 3];
    strbuf_init(&chain);
    strbuf_init(&out);
    arena_init(&arena, 1024);
    expand(data + 1, size - 1, &chain);
    struct slice all = {strbuf_text(&chain), chain.length};
    /* Names and the server's certificate are taken from the chain's end: any text does. */
    struct slice name = slice_skip(all, all.length - all.length / (1 + data[0] % 7));
    struct slice server = slice_skip(all, all.length - all.length / (1 + data[0] % 5));
    struct conn_identity identity = {.secure = true,
                                     .client_chain_pem = all,
                                     .client_name = (data[0] & 0x40) != 0 ? name : SLICE(""),
                                     .server_cert_pem = (data[0] & 0x80) != 0 ? server : SLICE("")};
    head_wire_conn(&out, &identity, max);
    REQUIRE(!out.failed && out.length <= max);
    struct slice bytes = {out.data, out.length};
    REQUIRE(map_decode(MAP_CONN, &arena, bytes, &map, &why) == ERROR_NONE);
    check_chain(map_value(&map, "client_cert_chain"), &chain);
    check_text(pack_get(&map, "client_cert_name"), identity.client_name, 4096);
    check_text(pack_get(&map, "server_cert"), identity.server_cert_pem, 16384);
    arena_done(&arena);
    strbuf_done(&out);
    strbuf_done(&chain);
    return 0;
}
