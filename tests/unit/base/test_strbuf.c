/* SPDX-License-Identifier: MIT */
/* base/strbuf.c, with a walk over every failing allocation. */
#include "check.h"

#include "base/mem.h"
#include "base/strbuf.h"

TEST(strbuf_builds_text)
{
    struct strbuf buffer;

    strbuf_init(&buffer);
    CHECK_EQ_STR(strbuf_text(&buffer), "");
    strbuf_append_text(&buffer, "a");
    strbuf_append_char(&buffer, 'b');
    strbuf_append_slice(&buffer, SLICE("cd"));
    strbuf_append(&buffer, NULL, 0);
    strbuf_printf(&buffer, "-%d-%s", 5, "x");
    CHECK_EQ_STR(strbuf_text(&buffer), "abcd-5-x");
    CHECK_EQ_INT(buffer.length, 8);
    strbuf_printf(&buffer, "%0500d", 1);
    CHECK_EQ_INT(buffer.length, 508);
    CHECK_EQ_INT(strlen(strbuf_text(&buffer)), 508);
    strbuf_clear(&buffer);
    CHECK_EQ_STR(strbuf_text(&buffer), "");
    CHECK(!buffer.failed);
    strbuf_done(&buffer);
}

static void check_json(struct slice input, const char *expected)
{
    struct strbuf buffer;

    strbuf_init(&buffer);
    strbuf_append_json(&buffer, input);
    CHECK(!buffer.failed);
    CHECK_EQ_STR(strbuf_text(&buffer), expected);
    strbuf_done(&buffer);
}

TEST(strbuf_escapes_json)
{
    check_json(SLICE("plain"), "plain");
    check_json(SLICE("\"\\/"), "\\\"\\\\/");
    check_json(SLICE("\b\f\n\r\t"), "\\b\\f\\n\\r\\t");
    check_json(SLICE("a\0b"), "a\\u0000b");
    check_json(SLICE("\x01\x1f\x7f"), "\\u0001\\u001f\\u007f");
    check_json(SLICE("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
               "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
}

TEST(strbuf_replaces_what_is_no_utf8)
{
    check_json(SLICE("\xff"), "\\ufffd");
    check_json(SLICE("\x80x"), "\\ufffdx");
    check_json(SLICE("\xc0\xaf"), "\\ufffd\\ufffd");                       /* overlong '/' */
    check_json(SLICE("\xe0\x80\xaf"), "\\ufffd\\ufffd\\ufffd");            /* overlong */
    check_json(SLICE("\xed\xa0\x80"), "\\ufffd\\ufffd\\ufffd");            /* surrogate */
    check_json(SLICE("\xf4\x90\x80\x80"), "\\ufffd\\ufffd\\ufffd\\ufffd"); /* above U+10FFFF */
    check_json(SLICE("\xe2\x82"), "\\ufffd\\ufffd");                       /* cut */
    check_json(SLICE("\xe2\x82\""), "\\ufffd\\ufffd\\\"");
    check_json(SLICE("\xf0\x9f\x98"), "\\ufffd\\ufffd\\ufffd");
}

TEST(strbuf_remembers_a_failed_allocation)
{
    uint64_t live = mem_live();
    bool complete = false;

    for (uint64_t n = 1; !complete; n++) {
        struct strbuf buffer;
        strbuf_init(&buffer);
        mem_fail_nth(n, 0);
        for (int i = 0; i < 100; i++) {
            strbuf_append_text(&buffer, "0123456789");
        }
        strbuf_printf(&buffer, "%0500d", 3);
        mem_fail_nth(0, 0);
        complete = !buffer.failed;
        /* what is there is a whole prefix */
        CHECK_EQ_INT(strlen(strbuf_text(&buffer)), buffer.length);
        CHECK_EQ_INT(buffer.length % 10, 0);
        CHECK(!complete || buffer.length == 1500);
        strbuf_done(&buffer);
        CHECK_EQ_INT(mem_live(), live);
        CHECK(n < 20);
    }
}

CHECK_MAIN
