/* SPDX-License-Identifier: MIT */
/* Header blocks: what is counted, what is refused, and what the app sees. */
#include "base/mem.h"
#include "check.h"
#include "http/head_block.h"

static const struct http_settings told = {
    .target_max = 8192,
    .header_block_max = 32768,
    .header_fields_max = 100,
    .cookie_crumbs_max = 100,
    .trailer_block_max = 8192,
    .trailer_fields_max = 32,
};
static struct arena arena;
static struct head_block block;
static struct request_head head;

/* "name: value" lines; a pseudo-field's name begins with the first colon. */
static bool read(const char *text, bool end)
{
    struct slice rest = slice_from(text);
    arena_done(&arena);
    arena_init(&arena, 2048);
    head_block_begin(&block, &arena, &told);
    while (rest.length > 0) {
        struct slice line = slice_cut(rest, '\n', &rest);
        const char *colon = memchr(line.data + 1, ':', line.length - 1);
        size_t length = (size_t)(colon - line.data);
        head_block_field(&block, (struct slice){line.data, length},
                         (struct slice){colon + 2, line.length - length - 2});
    }
    return head_block_finish(&block, HTTP_2, false, end, &head);
}

#define GET ":method: GET\n:scheme: http\n:path: /a%20b?q=1\n:authority: Host:80\n"

static void check_text(struct slice got, const char *expected)
{
    CHECK_EQ_INT(got.length, strlen(expected));
    CHECK_EQ_MEM(got.data, expected, got.length);
}

TEST(a_request)
{
    CHECK(read(GET "x-a: 1\nx-b: 2\n", true));
    check_text(head.method, "GET");
    check_text(head.scheme, "http");
    check_text(head.raw_path, "/a%20b");
    check_text(head.path, "/a b");
    check_text(head.query, "q=1");
    check_text(head.target, "/a%20b?q=1");
    check_text(head.authority, "host:80");
    CHECK_EQ_INT(head.version, HTTP_2);
    CHECK_EQ_INT(head.field_count, 3);
    check_text(head.fields[0].name, "host");
    check_text(head.fields[0].value, "Host:80");
    check_text(head.fields[2].name, "x-b");
    CHECK(!head.has_body && head.content_length == -1);
}

TEST(a_body_is_told_by_the_missing_end)
{
    CHECK(read(GET "content-length: 12\n", false));
    CHECK(head.has_body);
    CHECK_EQ_INT(head.content_length, 12);
    CHECK(read(GET, false));
    CHECK(head.has_body);
    CHECK_EQ_INT(head.content_length, -1);
}

TEST(what_is_not_the_apps_is_taken_out)
{
    CHECK(read(GET "te: trailers\nexpect: 100-Continue\nhost: HOST\n", false));
    CHECK(head.te_trailers && head.expect_continue);
    CHECK_EQ_INT(head.field_count, 1);
    CHECK(read(GET "expect: 100-continue\n", true));
    CHECK(!head.expect_continue);
}

TEST(host_instead_of_authority)
{
    CHECK(read(":method: GET\n:scheme: http\n:path: /\nx: y\nhost: Example\n", true));
    check_text(head.authority, "example");
    CHECK_EQ_INT(head.field_count, 2);
    check_text(head.fields[0].value, "Example");
}

#define TUNNEL(begin) begin ":scheme: http\n:path: /a?b\n:authority: a\n"

/* RFC 8441 4, 5. */
TEST(extended_connect_is_a_websocket)
{
    CHECK(read(TUNNEL(":method: CONNECT\n:protocol: WebSocket\n") "expect: 100-continue\n", false));
    CHECK(head.kind == REQUEST_WEBSOCKET && head.has_body && !head.expect_continue);
    check_text(head.method, "GET");
    check_text(head.scheme, "ws");
    check_text(head.raw_path, "/a");
    check_text(head.query, "b");
    CHECK(!read(TUNNEL(":method: CONNECT\n:protocol: websocket\n") "content-length: 0\n", false));
    CHECK_EQ_INT(block.status, 400);
}

struct refusal {
    const char *text;
    unsigned status;
};

TEST(refusals)
{
    static const struct refusal cases[] = {
        {":method: GET\n:scheme: http\n:path: /\n", 400},
        {GET "host: other\n", 400},
        {":method: GET\n:scheme: http\n:path: /\nhost: a\nhost: a\n", 400},
        {":method: GET\n:scheme: http\n:path: /\n:authority: a@b\n", 400},
        {":method: GET\n:scheme: http\n:path: /\n:authority: a\nhost: a/b\n", 400},
        {":method: GET\n:scheme: ftp\n:path: /\n:authority: a\n", 400},
        {":method: GET\n:scheme: http\n:path: *\n:authority: a\n", 400},
        {":method: GET\n:scheme: http\n:path: a\n:authority: a\n", 400},
        {":method: GET\n:scheme: http\n:path: /%00\n:authority: a\n", 400},
        {":method: G T\n:scheme: http\n:path: /\n:authority: a\n", 400},
        {":method: CONNECT\n:authority: a:1\n", 501},
        {":method: TRACE\n:scheme: http\n:path: /\n:authority: a\n", 501},
        {TUNNEL(":method: CONNECT\n:protocol: websocket\n") ":x: y\n", 400},
        {TUNNEL(":method: CONNECT\n:protocol: websocket\n"), 400}, /* it ended */
        {TUNNEL(":method: CONNECT\n:protocol: connect-udp\n"), 501},
        {TUNNEL(":method: CONNECT\n:protocol: \n"), 501},
        {TUNNEL(":method: GET\n:protocol: websocket\n"), 400},
        {GET "content-length: -1\n", 400},
        {GET "content-length: 1\ncontent-length: 1\n", 400},
        {GET "expect: wonders\n", 417},
        {GET "x-a: b\001\n", 400},
        {GET "x a: b\n", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool good = read(cases[i].text, true);
        if (good || block.status != cases[i].status) {
            printf("# case %zu: %u\n", i, block.status);
        }
        CHECK(!good);
        CHECK_EQ_INT(block.status, cases[i].status);
        CHECK(block.text != NULL);
    }
}

TEST(nothing_is_allocated_over_the_limits)
{
    static char large[33000];
    memset(large, 'v', sizeof large - 1);
    arena_done(&arena);
    arena_init(&arena, 2048);
    head_block_begin(&block, &arena, &told);
    head_block_field(&block, SLICE("x-a"), slice_from(large));
    CHECK_EQ_INT(block.status, 431);
    CHECK_EQ_INT(arena.total, 0);
    uint64_t made = mem_made();
    for (int i = 0; i < 100000; i++) {
        head_block_field(&block, SLICE("x-a"), slice_from(large));
    }
    CHECK_EQ_INT(mem_made(), made);
}

TEST(fields_and_crumbs_are_counted_apart)
{
    arena_done(&arena);
    arena_init(&arena, 2048);
    head_block_begin(&block, &arena, &told);
    for (int i = 0; i < 100; i++) {
        head_block_field(&block, SLICE("cookie"), SLICE("a=b"));
        head_block_field(&block, SLICE("x-a"), SLICE("b"));
    }
    CHECK_EQ_INT(block.status, 0);
    head_block_field(&block, SLICE("cookie"), SLICE("a=b"));
    CHECK_EQ_INT(block.status, 431);
}

TEST(each_field_costs_32_bytes_more)
{
    arena_done(&arena);
    arena_init(&arena, 2048);
    struct http_settings settings = told;
    settings.header_block_max = 100;
    head_block_begin(&block, &arena, &settings);
    head_block_field(&block, SLICE("abcd"), SLICE("efgh"));
    head_block_field(&block, SLICE("abcd"), SLICE("efgh"));
    CHECK_EQ_INT(block.status, 0);
    head_block_field(&block, SLICE("a"), SLICE(""));
    CHECK_EQ_INT(block.status, 431);
}

TEST(trailers_are_counted_and_dropped)
{
    head_block_begin(&block, NULL, &told);
    for (int i = 0; i < 32; i++) {
        head_block_field(&block, SLICE("x-a"), SLICE("b"));
    }
    CHECK_EQ_INT(block.status, 0);
    head_block_field(&block, SLICE("x-a"), SLICE("b"));
    CHECK_EQ_INT(block.status, 431);
}

TEST(underscores_are_dropped_when_told)
{
    struct http_settings settings = told;
    settings.drop_underscore_fields = true;
    arena_done(&arena);
    arena_init(&arena, 2048);
    head_block_begin(&block, &arena, &settings);
    head_block_field(&block, SLICE("content_length"), SLICE("5"));
    CHECK_EQ_INT(block.field_count, 0);
    CHECK_EQ_INT(block.counted, 1);
}

TEST(every_allocation_may_fail)
{
    for (uint64_t n = 1; n < 100; n++) {
        arena_done(&arena);
        mem_fail_nth(n, 1);
        bool good = read(GET "a: b\nc: d\n", true);
        mem_fail_nth(0, 0);
        CHECK(good || block.no_memory);
        if (good) {
            arena_done(&arena);
            return;
        }
    }
    CHECK(!"it never succeeds");
}

CHECK_MAIN
