/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1.1 requests: arbitrary bytes must give the same messages, bodies and refusals however they are split, under the usual
 * limits and under tiny ones (so that every limit is in reach of a short input).
 */
#include <stdint.h>
#include <stdio.h>

#include "unit/h1/parse_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_settings tiny_http_settings = {
    .target_max = 16,
    .header_block_max = 96,
    .header_fields_max = 4,
    .cookie_crumbs_max = 2,
    .trailer_block_max = 24,
    .trailer_fields_max = 2,
    .drop_underscore_fields = true,
};
static const struct h1_settings tiny_h1_settings = {
    .leading_crlf_max = 1,
    .chunk_line_max = 12,
    .chunk_overhead_max = 40,
    .read_buffer = 16384,
};

/* Pieces of `piece` bytes, the first one of `first` (0: like the others). */
static void drive(struct driver *driver, const char *data, size_t size, size_t first, size_t piece)
{
    size_t at = 0;
    driver->verbose = true;
    while (at < size) {
        size_t length = at == 0 && first > 0 ? first : piece;
        length = length < size - at ? length : size - at;
        driver_feed(driver, data + at, length);
        at += length;
    }
}

/* What every accepted head must fulfil, whatever the bytes were. */
static void check_head(const struct driver *driver)
{
    const struct request_head *head = &driver->head;
    for (size_t i = 0; i < head->field_count; i++) {
        struct slice name = head->fields[i].name;
        REQUIRE(field_name_valid(name) && field_value_valid(head->fields[i].value));
        REQUIRE(!field_is_connection_specific(name));
        for (size_t j = 0; j < name.length; j++) {
            REQUIRE(name.data[j] < 'A' || name.data[j] > 'Z');
        }
        REQUIRE(i == 0 || !slice_equal(name, SLICE("host")));
    }
    REQUIRE(head->field_count == 0 || head->raw_path.length > 0);
}

static void compare(const char *data, size_t size, size_t first, size_t piece,
                    const struct http_settings *http, const struct h1_settings *h1,
                    const struct driver *whole)
{
    struct driver other;
    driver_init(&other, http, h1);
    drive(&other, data, size, first, piece);
    if (strcmp(strbuf_text(&other.out), strbuf_text(&whole->out)) != 0) {
        fprintf(stderr, "whole: %s\nfirst %zu, then %zu: %s\n", strbuf_text(&whole->out), first,
                piece, strbuf_text(&other.out));
        REQUIRE(!whole->over && whole->over);
    }
    driver_done(&other);
}

static void test(const char *data, size_t size, const struct http_settings *http,
                 const struct h1_settings *h1)
{
    struct driver whole;
    driver_init(&whole, http, h1);
    drive(&whole, data, size, 0, SIZE_MAX);
    check_head(&whole);
    compare(data, size, 0, 1, http, h1, &whole);
    size_t step = size / 64 + 1;
    for (size_t first = 1; first < size; first += step) {
        compare(data, size, first, SIZE_MAX, http, h1, &whole);
    }
    driver_done(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    test((const char *)data, size, &driver_http_settings, &driver_h1_settings);
    test((const char *)data, size, &tiny_http_settings, &tiny_h1_settings);
    return 0;
}
