/* SPDX-License-Identifier: MIT */
/* base/slice.h and slice.c. */
#include "check.h"

#include "base/slice.h"

#define CHECK_SLICE(got, text)                                                                     \
    do {                                                                                           \
        struct slice got_ = (got);                                                                 \
        CHECK_EQ_INT(got_.length, strlen(text));                                                   \
        CHECK_EQ_MEM(got_.data, text, got_.length);                                                \
    } while (0)

TEST(slice_equality)
{
    CHECK(slice_equal(SLICE("abc"), slice_from("abc")));
    CHECK(!slice_equal(SLICE("abc"), SLICE("abC")));
    CHECK(!slice_equal(SLICE("abc"), SLICE("ab")));
    CHECK(slice_equal(slice_from(NULL), SLICE("")));
    CHECK(slice_equal_nocase(SLICE("Content-Length"), SLICE("cONTENT-lENGTH")));
    /* '[' and '{' differ in the same bit as letters of two cases do */
    CHECK(!slice_equal_nocase(SLICE("["), SLICE("{")));
    CHECK(!slice_equal_nocase(SLICE("@"), SLICE("`")));
    CHECK(!slice_equal_nocase(SLICE("a"), SLICE("ab")));
}

TEST(slice_prefixes)
{
    CHECK(slice_starts_with(SLICE("/api/x"), SLICE("/api/")));
    CHECK(slice_starts_with(SLICE("/api/"), SLICE("/api/")));
    CHECK(slice_starts_with(SLICE("x"), SLICE("")));
    CHECK(!slice_starts_with(SLICE("/ap"), SLICE("/api/")));
}

TEST(slice_trims_spaces_and_tabs_only)
{
    CHECK_SLICE(slice_trim(SLICE(" \t a b\t ")), "a b");
    CHECK_SLICE(slice_trim(SLICE(" \t ")), "");
    CHECK_SLICE(slice_trim(SLICE("\r\nx\r\n")), "\r\nx\r\n");
}

TEST(slice_cuts_at_the_first_separator)
{
    struct slice rest;

    CHECK_SLICE(slice_cut(SLICE("a,b,c"), ',', &rest), "a");
    CHECK_SLICE(rest, "b,c");
    CHECK_SLICE(slice_cut(SLICE("a,"), ',', &rest), "a");
    CHECK(rest.data != NULL && rest.length == 0);
    CHECK_SLICE(slice_cut(SLICE("abc"), ',', &rest), "abc");
    CHECK(rest.data == NULL && rest.length == 0);
    CHECK_SLICE(slice_cut(slice_from(NULL), ',', &rest), "");
    CHECK(rest.data == NULL);
}

TEST(slice_reads_numbers)
{
    unsigned long long value = 77;

    CHECK(slice_to_uint(SLICE("0"), 10, &value));
    CHECK_EQ_INT(value, 0);
    CHECK(slice_to_uint(SLICE("65535"), 65535, &value));
    CHECK_EQ_INT(value, 65535);
    CHECK(slice_to_uint(SLICE("18446744073709551615"), ~0ULL, &value));
    CHECK(value == ~0ULL);
    value = 77;
    CHECK(!slice_to_uint(SLICE("18446744073709551616"), ~0ULL, &value));
    CHECK(!slice_to_uint(SLICE("65536"), 65535, &value));
    CHECK(!slice_to_uint(SLICE(""), 10, &value));
    CHECK(!slice_to_uint(SLICE("+1"), 10, &value));
    CHECK(!slice_to_uint(SLICE("-1"), 10, &value));
    CHECK(!slice_to_uint(SLICE(" 1"), 10, &value));
    CHECK(!slice_to_uint(SLICE("1 "), 10, &value));
    CHECK(!slice_to_uint(SLICE("0x1"), 10, &value));
    CHECK(!slice_to_uint(SLICE("1"), 0, &value));
    CHECK_EQ_INT(value, 77);
}

CHECK_MAIN
