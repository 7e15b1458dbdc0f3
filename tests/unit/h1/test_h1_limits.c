/* SPDX-License-Identifier: MIT */
/* The limits of the request parser: the last input that is accepted and the first that is refused, each in three ways of splitting. */
#include "check.h"
#include "parse_driver.h"

#define H "Host: h\r\n"
#define GET "GET / HTTP/1.1\r\n" H
#define CHUNKED "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"

static void check_long(const struct strbuf *bytes, const char *expected)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 1000};
    REQUIRE(!bytes->failed);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct driver driver;
        driver_init(&driver, &driver_http_settings, &driver_h1_settings);
        driver.count_only = true;
        for (size_t at = 0; at < bytes->length;) {
            size_t left = bytes->length - at;
            size_t piece = pieces[i] < left ? pieces[i] : left;
            driver_feed(&driver, bytes->data + at, piece);
            at += piece;
        }
        const char *got = strbuf_text(&driver.out);
        size_t length = strlen(got);
        size_t tail = strlen(expected);
        if (length < tail || strcmp(got + length - tail, expected) != 0) {
            printf("# pieces of %zu\n", pieces[i]);
            CHECK_EQ_STR(got, expected);
        }
        driver_done(&driver);
    }
}

static void append_many(struct strbuf *bytes, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        strbuf_append_text(bytes, text);
    }
}

TEST(limits_the_target)
{
    struct strbuf bytes;
    strbuf_init(&bytes);
    strbuf_append_text(&bytes, "GET /");
    append_many(&bytes, "a", 8191);
    strbuf_append_text(&bytes, " HTTP/1.1\r\n" H "\r\n");
    check_long(&bytes, " h. ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, "GET /");
    append_many(&bytes, "a", 8192);
    check_long(&bytes, "!414 ");
    strbuf_done(&bytes);
}

/* A field section of exactly `size` bytes. */
static void append_block(struct strbuf *bytes, size_t size)
{
    strbuf_append_text(bytes, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    append_many(bytes, "a", size - 9 - 3 - 4);
    strbuf_append_text(bytes, "\r\n\r\n");
}

TEST(limits_the_field_section)
{
    struct strbuf bytes;
    strbuf_init(&bytes);
    append_block(&bytes, 32768);
    check_long(&bytes, "GET / h. ");
    strbuf_clear(&bytes);
    append_block(&bytes, 32769);
    check_long(&bytes, "!431 ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, GET);
    append_many(&bytes, "a", 40000); /* a name without end */
    check_long(&bytes, "!431 ");
    strbuf_done(&bytes);
}

TEST(limits_the_number_of_fields)
{
    struct strbuf bytes;
    strbuf_init(&bytes);
    strbuf_append_text(&bytes, GET);
    append_many(&bytes, "X: y\r\n", 99);
    append_many(&bytes, "Cookie: a=b\r\n", 100);
    strbuf_append_text(&bytes, "\r\n");
    check_long(&bytes, "GET / h. ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, GET);
    append_many(&bytes, "X: y\r\n", 100);
    check_long(&bytes, "!431 ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, GET);
    append_many(&bytes, "Cookie: a=b\r\n", 101);
    check_long(&bytes, "!431 ");
    strbuf_done(&bytes);
}

TEST(limits_chunk_lines)
{
    struct strbuf bytes;
    strbuf_init(&bytes);
    strbuf_append_text(&bytes, CHUNKED "1;");
    append_many(&bytes, "a", 4096 - 4);
    strbuf_append_text(&bytes, "\r\nx\r\n0\r\n\r\n");
    check_long(&bytes, "POST / h. ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, CHUNKED "1;");
    append_many(&bytes, "a", 4096 - 3);
    strbuf_append_text(&bytes, "\r\nx\r\n0\r\n\r\n");
    check_long(&bytes, "POST / h!400 ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, CHUNKED);
    append_many(&bytes, "0", 5000);
    check_long(&bytes, "POST / h!400 ");
    strbuf_done(&bytes);
}

TEST(limits_chunk_overhead)
{
    struct strbuf bytes;
    strbuf_init(&bytes);
    strbuf_append_text(&bytes, CHUNKED);
    append_many(&bytes, "1\r\nx\r\n", 20000); /* 100,000 bytes of framing */
    strbuf_append_text(&bytes, "0\r\n\r\n");
    check_long(&bytes, "POST / h. ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, CHUNKED);
    append_many(&bytes, "1\r\nx\r\n", 21000);
    check_long(&bytes, "POST / h!400 ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, CHUNKED);
    append_many(&bytes, "8\r\n12345678\r\n", 50000); /* much framing, but more payload */
    strbuf_append_text(&bytes, "0\r\n\r\n");
    check_long(&bytes, "POST / h. ");
    strbuf_done(&bytes);
}

TEST(limits_trailers)
{
    struct strbuf bytes;
    strbuf_init(&bytes);
    strbuf_append_text(&bytes, CHUNKED "0\r\n");
    append_many(&bytes, "X: y\r\n", 32);
    strbuf_append_text(&bytes, "\r\n");
    check_long(&bytes, "POST / h. ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, CHUNKED "0\r\n");
    append_many(&bytes, "X: y\r\n", 33);
    check_long(&bytes, "POST / h!431 ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, CHUNKED "0\r\nX: ");
    append_many(&bytes, "y", 8192 - 5);
    strbuf_append_text(&bytes, "\r\n\r\n");
    check_long(&bytes, "POST / h. ");
    strbuf_clear(&bytes);
    strbuf_append_text(&bytes, CHUNKED "0\r\nX: ");
    append_many(&bytes, "y", 8192 - 4);
    strbuf_append_text(&bytes, "\r\n\r\n");
    check_long(&bytes, "POST / h!431 ");
    strbuf_done(&bytes);
}

CHECK_MAIN
