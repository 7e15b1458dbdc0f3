/* SPDX-License-Identifier: MIT */
/* The PROXY header: every row whole, in single bytes, and with bytes behind it that must stay. */
#include "check.h"

#include <stdlib.h>

#include "net/proxy_protocol.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

struct row {
    const char *bytes;
    size_t length;
    enum error outcome;
    const char *source, *destination; /* NULL: not known */
    bool no_v1, no_v2;
};

#define ROW(text, ...) {text, sizeof(text) - 1, __VA_ARGS__}

static const struct row rows[] = {
    ROW("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", ERROR_NONE, "192.0.2.1:56324",
        "192.0.2.2:443", 0, 0),
    ROW("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", ERROR_NONE, "[2001:db8::1]:1", "[::1]:65535", 0,
        0),
    ROW("PROXY UNKNOWN\r\n", ERROR_NONE, NULL, NULL, 0, 0),
    ROW("PROXY UNKNOWN ffff:f...f:ffff what ever 65535 65535\r\n", ERROR_NONE, NULL, NULL, 0, 0),
    ROW("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP4 192.0.2.1 192.0.2.2  56324 443\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 5\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP4 192.0.2.1 192.0.2.2 56324 65536\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP4 192.0.2.1 192.0.2.2 056 443\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP4 ::1 ::2 56 443\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP6 192.0.2.1 192.0.2.2 56 443\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP6 [::1] ::2 56 443\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("proxy TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("GET / HTTP/1.1\r\n", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", ERROR_PROTOCOL, NULL, NULL, 1, 0),
    /* 107 bytes and no end of line */
    ROW("PROXY UNKNOWN 0123456789012345678901234567890123456789012345678901234567890123456789"
        "01234567890123456789012345678901234567890123456789\r\n",
        ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW(SIGNATURE "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb", ERROR_NONE,
        "192.0.2.1:56324", "192.0.2.2:443", 0, 0),
    /* with a TLV behind the addresses */
    ROW(SIGNATURE "\x21\x11\x00\x10\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb\x04\x00\x01x",
        ERROR_NONE, "192.0.2.1:56324", "192.0.2.2:443", 0, 0),
    ROW(SIGNATURE "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
                  "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50\x01\xbb",
        ERROR_NONE, "[2001:db8::1]:80", "[::1]:443", 0, 0),
    ROW(SIGNATURE "\x20\x00\x00\x00", ERROR_NONE, NULL, NULL, 0, 0),
    ROW(SIGNATURE "\x20\x11\x00\x03"
                  "abc",
        ERROR_NONE, NULL, NULL, 0, 0),
    ROW(SIGNATURE "\x21\x00\x00\x00", ERROR_NONE, NULL, NULL, 0, 0),
    ROW(SIGNATURE "\x21\x11\x00\x0b\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01", ERROR_PROTOCOL,
        NULL, NULL, 0, 0),
    ROW(SIGNATURE "\x21\x11\x10\x00", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW(SIGNATURE "\x22\x11\x00\x0c", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW(SIGNATURE "\x11\x11\x00\x0c", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW(SIGNATURE "\x21\x41\x00\x0c", ERROR_PROTOCOL, NULL, NULL, 0, 0),
    ROW(SIGNATURE "\x20\x00\x00\x00", ERROR_PROTOCOL, NULL, NULL, 0, 1),
    ROW("\r\n\r\nGET / HTTP/1.1", ERROR_PROTOCOL, NULL, NULL, 0, 0),
};

static void check_outcome(const struct row *row, const struct proxy_reader *reader)
{
    char text[ADDR_TEXT_SIZE];
    CHECK_EQ_INT(reader->known, row->source != NULL);
    if (row->source != NULL) {
        addr_format(&reader->source, text);
        CHECK_EQ_STR(text, row->source);
        addr_format(&reader->destination, text);
        CHECK_EQ_STR(text, row->destination);
    }
}

TEST(proxy_reads_every_row_whole)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct proxy_reader reader;
        uint8_t bytes[256];
        size_t used = 99;
        memcpy(bytes, rows[i].bytes, rows[i].length);
        memcpy(bytes + rows[i].length, "GET /", 5);
        proxy_reader_init(&reader, !rows[i].no_v1, !rows[i].no_v2);
        CHECK_EQ_INT(proxy_reader_feed(&reader, bytes, rows[i].length + 5, &used), rows[i].outcome);
        if (rows[i].outcome == ERROR_NONE) {
            CHECK_EQ_INT(used, rows[i].length); /* what follows stays */
            check_outcome(&rows[i], &reader);
        }
    }
}

TEST(proxy_reads_every_row_byte_by_byte)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct proxy_reader reader;
        enum error error = ERROR_AGAIN;
        size_t at = 0, used = 0;
        proxy_reader_init(&reader, !rows[i].no_v1, !rows[i].no_v2);
        for (; error == ERROR_AGAIN && at < rows[i].length; at++) {
            error = proxy_reader_feed(&reader, (const uint8_t *)rows[i].bytes + at, 1, &used);
            CHECK_EQ_INT(used, error == ERROR_PROTOCOL ? 0 : 1);
        }
        CHECK_EQ_INT(error, rows[i].outcome);
        if (error == ERROR_NONE) {
            CHECK_EQ_INT(at, rows[i].length);
            check_outcome(&rows[i], &reader);
        }
    }
}

TEST(proxy_skips_long_tlvs_within_the_bound)
{
    static uint8_t bytes[PROXY_V2_MAX];
    struct proxy_reader reader;
    size_t used = 0;
    memcpy(bytes, SIGNATURE "\x21\x11", 14);
    bytes[14] = (PROXY_V2_MAX - 16) >> 8;
    bytes[15] = (PROXY_V2_MAX - 16) & 0xff;
    memcpy(bytes + 16, "\x7f\0\0\1\x7f\0\0\1\0\1\0\2", 12);
    proxy_reader_init(&reader, false, true);
    CHECK_EQ_INT(proxy_reader_feed(&reader, bytes, sizeof(bytes) - 1, &used), ERROR_AGAIN);
    CHECK_EQ_INT(used, sizeof(bytes) - 1);
    CHECK_EQ_INT(proxy_reader_feed(&reader, bytes, 1, &used), ERROR_NONE);
    CHECK(reader.known);
    CHECK_EQ_INT(addr_port(&reader.source), 1);
}

CHECK_MAIN
