/* SPDX-License-Identifier: MIT */
/* Request targets into paths. */
#include "check.h"

#include "http/head.h"

static void check_target(const char *target, const char *raw_path, const char *path,
                         const char *query)
{
    struct arena arena;
    struct request_head head = {.version = HTTP_1_1};
    arena_init(&arena, 256);
    enum error error = head_parse_target(&arena, slice_from(target), &head);
    if (raw_path == NULL) {
        CHECK_EQ_INT(error, ERROR_INVALID);
    } else {
        CHECK_EQ_INT(error, ERROR_NONE);
        CHECK(slice_equal(head.raw_path, slice_from(raw_path)));
        if (!slice_equal(head.path, slice_from(path))) {
            printf("# %s: %.*s\n", target, SLICE_PRINT(head.path));
        }
        CHECK(slice_equal(head.path, slice_from(path)));
        CHECK(slice_equal(head.query, slice_from(query)));
    }
    arena_done(&arena);
}

TEST(splits_and_decodes_once)
{
    check_target("/", "/", "/", "");
    check_target("*", "*", "*", "");
    check_target("/a?b", "/a", "/a", "b");
    check_target("/a?", "/a", "/a", "");
    check_target("/a?b?c=%20", "/a", "/a", "b?c=%20");
    check_target("/a%20b", "/a%20b", "/a b", "");
    check_target("/%2525", "/%2525", "/%25", "");
    check_target("/a%2Fb%2e%2E", "/a%2Fb%2e%2E", "/a/b..", "");
    check_target("//a/../b", "//a/../b", "//a/../b", "");
    check_target("/%C3%BC", "/%C3%BC", "/\xc3\xbc", "");
    check_target("/%F0%9F%98%80", "/%F0%9F%98%80", "/\xf0\x9f\x98\x80", "");
    check_target("/%0d%0A", "/%0d%0A", "/\r\n", ""); /* the path is data, never part of a line */
}

TEST(invalid_escapes_stay)
{
    check_target("/%", "/%", "/%", "");
    check_target("/%2", "/%2", "/%2", "");
    check_target("/%zz%41", "/%zz%41", "/%zzA", "");
    check_target("/%%41", "/%%41", "/%A", "");
    check_target("/%4", "/%4", "/%4", "");
}

TEST(bad_utf8_is_replaced)
{
#define BAD "\xef\xbf\xbd"
    check_target("/%FF", "/%FF", "/" BAD, "");
    check_target("/a%80b", "/a%80b", "/a" BAD "b", "");
    check_target("/%C3", "/%C3", "/" BAD, "");
    check_target("/%C3%28", "/%C3%28", "/" BAD "(", "");
    check_target("/%C0%AF", "/%C0%AF", "/" BAD BAD, "");           /* overlong */
    check_target("/%E0%80%80", "/%E0%80%80", "/" BAD BAD BAD, ""); /* overlong */
    check_target("/%ED%A0%80", "/%ED%A0%80", "/" BAD BAD BAD, ""); /* surrogate */
    check_target("/%F4%90%80%80", "/%F4%90%80%80", "/" BAD BAD BAD BAD, "");
    check_target("/%E2%82", "/%E2%82", "/" BAD, ""); /* one truncated sequence: one replacement */
    check_target("/%F0%9F%98x", "/%F0%9F%98x", "/" BAD "x", "");
}

TEST(refuses)
{
    static const char *const targets[] = {
        "",    "a",   "?a",  "**",    "/%00",  "/a%00b", "/a#b", "/a b",     "/\"",
        "/<",  "/>",  "/\\", "/^",    "/`",    "/{",     "/|",   "/}",       "/?\"",
        "/?<", "/?>", "/?#", "/\x7f", "/\x1f", "/\x80",  "/?\t", "http://h/"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        check_target(targets[i], NULL, NULL, NULL);
    }
    check_target("/?{}|\\^`", "/", "/", "{}|\\^`"); /* what browsers send */
}

TEST(finds_fields)
{
    const struct field fields[] = {
        {SLICE("a"), SLICE("1")}, {SLICE("b"), SLICE("2")}, {SLICE("a"), SLICE("3")}};
    CHECK(head_find(fields, 3, SLICE("a")) == &fields[0]);
    CHECK(head_find(fields, 3, SLICE("b")) == &fields[1]);
    CHECK(head_find(fields, 3, SLICE("c")) == NULL);
    CHECK(head_find(NULL, 0, SLICE("a")) == NULL);
}

CHECK_MAIN
