/* SPDX-License-Identifier: MIT */
/*
 * The first line of the input is a format, the rest is what a client sent, spread over the fields of an exchange. A format is
 * refused or compiles; its line holds no control character, and as many quotes as the format itself.
 */
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "http/access_log.h"
#include "http/conn.h"
#include "http/exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice part(const char **at, const char *end)
{
    size_t left = (size_t)(end - *at);
    size_t length = left > 0 ? (unsigned char)**at % 32 : 0;

    if (left > 0) {
        (*at)++;
        left--;
    }
    struct slice bytes = {*at, length < left ? length : left};
    *at += bytes.length;
    return bytes;
}

static void check_text(struct slice format, const struct access_log *log,
                       const struct exchange *exchange)
{
    struct strbuf line;
    size_t expected = 0, quotes = 0;

    strbuf_init(&line);
    access_log_format(log, exchange, &line);
    for (size_t i = 0; i < format.length; i++) {
        expected += format.data[i] == '"';
    }
    for (size_t i = 0; i < line.length; i++) {
        quotes += line.data[i] == '"';
        REQUIRE(line.data[i] != '\n' && line.data[i] != '\r' && line.data[i] != '\0');
    }
    /* Quotes inside an atom's name are not printed; what a client sent never adds one. */
    REQUIRE(quotes <= expected);
    strbuf_done(&line);
}

static void check_json(const struct exchange *exchange)
{
    struct access_log *log;
    struct strbuf line;
    char error[512];
    bool in_string = false;

    REQUIRE(access_log_new(SLICE("json"), &log, error, sizeof(error)) == ERROR_NONE);
    strbuf_init(&line);
    access_log_format(log, exchange, &line);
    REQUIRE(line.length > 2 && line.data[0] == '{' && line.data[line.length - 1] == '}');
    for (size_t i = 0; i < line.length; i++) {
        REQUIRE((unsigned char)line.data[i] >= 0x20);
        if (in_string && line.data[i] == '\\') {
            i++;
        } else if (line.data[i] == '"') {
            in_string = !in_string;
        }
    }
    REQUIRE(!in_string);
    strbuf_done(&line);
    access_log_free(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice all = {(const char *)data, size}, rest;
    struct slice format = slice_cut(all, '\n', &rest);
    const char *at = rest.data ? rest.data : "", *end = at + rest.length;
    struct access_log *log;
    char error[512];

    struct conn conn = {
        .identity = {.client_host = part(&at, end), .tls_version_name = part(&at, end)}};
    struct field in[] = {{SLICE("authorization"), part(&at, end)},
                         {SLICE("referer"), part(&at, end)},
                         {SLICE("user-agent"), part(&at, end)},
                         {part(&at, end), part(&at, end)}};
    struct field out[] = {{part(&at, end), part(&at, end)}};
    struct exchange exchange = {.conn = &conn,
                                .request = {.version = HTTP_1_1,
                                            .method = part(&at, end),
                                            .target = part(&at, end),
                                            .raw_path = part(&at, end),
                                            .query = part(&at, end),
                                            .authority = part(&at, end),
                                            .scheme = part(&at, end),
                                            .fields = in,
                                            .field_count = 4},
                                .response_state = RESPONSE_FINISHED,
                                .response = {.status = 200, .fields = out, .field_count = 1},
                                .app_name = part(&at, end),
                                .error_text = part(&at, end)};

    check_json(&exchange);
    if (slice_equal(format, SLICE("json"))) {
        return 0;
    }
    if (access_log_new(format, &log, error, sizeof(error)) == ERROR_NONE) {
        bool combined = slice_equal(format, SLICE("combined"));
        check_text(combined ? SLICE("\"\"\"\"\"\"") : format, log, &exchange);
        access_log_free(log);
    } else {
        REQUIRE(strncmp(error, "at character ", 13) == 0);
    }
    return 0;
}
