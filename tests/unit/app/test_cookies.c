/* SPDX-License-Identifier: MIT */
/* Cookie crumbs reach the worker as one field (SPEC R44), whatever stands between them. */
#include "check.h"

#include "app/head_wire.h"

static void check_block(struct field *fields, size_t count, struct slice expected)
{
    struct request_head head = {.version = HTTP_1_1,
                                .method = SLICE("GET"),
                                .raw_path = SLICE("/"),
                                .path = SLICE("/"),
                                .fields = fields,
                                .field_count = count};
    struct conn_identity identity = {.unix_peer = true};
    struct head_wire_context context = {.identity = &identity, .scheme = SLICE("http")};
    struct strbuf out;
    strbuf_init(&out);
    head_wire_request(&out, &head, &context);
    CHECK(!out.failed);
    CHECK(memmem(out.data, out.length, expected.data, expected.length) != NULL);
    strbuf_done(&out);
}

TEST(crumbs_are_joined_at_the_first_ones_place)
{
    struct field fields[] = {{SLICE("host"), SLICE("h")},
                             {SLICE("cookie"), SLICE("a=1")},
                             {SLICE("accept"), SLICE("*")},
                             {SLICE("cookie"), SLICE("b=2")},
                             {SLICE("cookie"), SLICE("c=3")}};
    /* bin 8 of 36 bytes */
    check_block(fields, 5,
                SLICE("\xc4\x24"
                      "host\0h\0cookie\0a=1; b=2; c=3\0accept\0*"));
}

TEST(a_single_cookie_and_other_repeats_stay_as_they_are)
{
    struct field fields[] = {{SLICE("accept"), SLICE("x")},
                             {SLICE("cookie"), SLICE("a=1")},
                             {SLICE("accept"), SLICE("y")}};
    check_block(fields, 3,
                SLICE("\xc4\x1c"
                      "accept\0x\0cookie\0a=1\0accept\0y"));
}

CHECK_MAIN
