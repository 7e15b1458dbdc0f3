/* SPDX-License-Identifier: MIT */
/*
 * Drives the request parser over a stream in pieces of chosen sizes and writes down what it said as one line of text, so that
 * two ways of splitting the same bytes can be compared. Used by the unit tests and the fuzz target.
 */
#ifndef TESTS_UNIT_H1_PARSE_DRIVER_H
#define TESTS_UNIT_H1_PARSE_DRIVER_H

#include <stddef.h>
#include <stdlib.h>

#include "base/strbuf.h"
#include "h1/h1_parse.h"
#include "http/fields.h"

static const struct http_settings driver_http_settings = {
    .target_max = 8192,
    .header_block_max = 32768,
    .header_fields_max = 100,
    .cookie_crumbs_max = 100,
    .trailer_block_max = 8192,
    .trailer_fields_max = 32,
};
static const struct h1_settings driver_h1_settings = {
    .leading_crlf_max = 2,
    .chunk_line_max = 4096,
    .chunk_overhead_max = 100 * 1024,
    .read_buffer = 16384,
};

struct driver {
    struct h1_parser parser;
    struct arena arena;
    struct request_head head;
    struct strbuf
        out;      /* "GET /path?query host{body}. " per message; "!400 " ends it, "~ " is HTTP/2 */
    bool verbose; /* fields too */
    bool in_body;
    bool over;
    uint64_t body_bytes;
    bool count_only; /* bodies are counted, not written */
};

static inline void driver_init(struct driver *driver, const struct http_settings *http,
                               const struct h1_settings *h1)
{
    *driver = (struct driver){.verbose = false};
    h1_parser_init(&driver->parser, http, h1, false);
    arena_init(&driver->arena, 2048);
    strbuf_init(&driver->out);
}

static inline void driver_done(struct driver *driver)
{
    arena_done(&driver->arena);
    strbuf_done(&driver->out);
}

static inline void driver_head(struct driver *driver)
{
    const struct request_head *head = &driver->head;
    struct strbuf *out = &driver->out;
    strbuf_printf(out, "%.*s %.*s", SLICE_PRINT(head->method), SLICE_PRINT(head->raw_path));
    if (head->query.length > 0) {
        strbuf_printf(out, "?%.*s", SLICE_PRINT(head->query));
    }
    strbuf_printf(out, " %.*s", SLICE_PRINT(head->authority));
    if (driver->verbose) {
        strbuf_printf(out,
                      " v%d keep=%d expect=%d te=%d ws=%d length=%lld path=", (int)head->version,
                      driver->parser.message.keep_alive, head->expect_continue, head->te_trailers,
                      driver->parser.message.websocket, (long long)head->content_length);
        strbuf_append_slice(out, head->path);
        for (size_t i = 0; i < head->field_count; i++) {
            strbuf_printf(out, " [%.*s: ", SLICE_PRINT(head->fields[i].name));
            strbuf_append_slice(out, head->fields[i].value);
            strbuf_append_char(out, ']');
        }
    }
}

static inline void driver_event(struct driver *driver, enum h1_event event, struct slice body)
{
    struct strbuf *out = &driver->out;
    switch (event) {
    case H1_EVENT_BEGIN:
        h1_parser_begin(&driver->parser, &driver->arena, &driver->head);
        break;
    case H1_EVENT_HEAD:
        driver_head(driver);
        break;
    case H1_EVENT_BODY:
        if (!driver->in_body && !driver->count_only) {
            strbuf_append_char(out, '{');
        }
        driver->in_body = true;
        driver->body_bytes += body.length;
        if (!driver->count_only) {
            strbuf_append_slice(out, body);
        }
        break;
    case H1_EVENT_END:
        strbuf_append_text(out, driver->in_body && !driver->count_only ? "}. " : ". ");
        driver->in_body = false;
        break;
    case H1_EVENT_H2_PREFACE:
        strbuf_append_text(out, "~ ");
        driver->over = true;
        break;
    case H1_EVENT_FAILED:
        strbuf_printf(out, "!%u ", h1_error_status(driver->parser.error));
        driver->over = true;
        break;
    case H1_EVENT_NEED_DATA:
        break;
    }
}

/* Feeds a piece until the parser wants more; the bytes are copied to memory of exactly their size first. */
static inline void driver_feed(struct driver *driver, const char *data, size_t length)
{
    char *copy = malloc(length > 0 ? length : 1);
    size_t at = 0;
    memcpy(copy, data, length);
    while (!driver->over) {
        size_t used = 0;
        struct slice body;
        enum h1_event event = h1_parser_feed(&driver->parser, copy + at, length - at, &used, &body);
        at += used;
        driver_event(driver, event, body);
        if (event == H1_EVENT_NEED_DATA) {
            REQUIRE(at == length);
            break;
        }
    }
    free(copy);
}

#endif
