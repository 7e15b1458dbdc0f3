/* SPDX-License-Identifier: MIT */
/* http/exchange_body.c: chunks that move into a response, and the look ahead against its content-length. */
#include "check.h"

#include "base/chunk.h"
#include "base/metrics.h"
#include "http/exchange_body.h"
#include "http_fixture.h"

static struct http_fixture f;

static void begin(const char *method)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, method, -1, false));
}

static struct chunk *chunk_of(const char *text)
{
    size_t length = strlen(text);
    struct chunk *chunk = chunk_new(length + 10);
    CHECK(chunk != NULL);
    memcpy(chunk->data, text, length);
    chunk->length = (uint32_t)length;
    return chunk;
}

static enum error give(const char *text)
{
    return exchange_respond_chunk_take(f.exchange, chunk_of(text), strlen(text));
}

TEST(chunks_are_the_body_without_a_copy)
{
    begin("GET");
    CHECK_EQ_INT(http_fixture_head(&f, 200, 11, false), ERROR_NONE);
    CHECK_EQ_INT(exchange_respond_body(f.exchange, "<", 1), ERROR_NONE);
    CHECK_EQ_INT(give("hello "), ERROR_NONE);
    CHECK_EQ_INT(give("you!"), ERROR_NONE);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 11);
    CHECK_EQ_INT(exchange_respond_end(f.exchange, NULL, 0), ERROR_NONE);
    http_fixture_take(&f, 100);
    CHECK(f.finished);
    CHECK_EQ_STR(strbuf_text(&f.body), "<hello you!");
    CHECK_EQ_INT(f.released, 11);
    http_fixture_done(&f);
}

TEST(a_chunk_over_the_content_length_is_freed)
{
    begin("GET");
    CHECK_EQ_INT(http_fixture_head(&f, 200, 3, false), ERROR_NONE);
    CHECK_EQ_INT(give("four"), ERROR_INVALID);
    CHECK_EQ_INT(give("abc"), ERROR_NONE);
    http_fixture_detach(&f, END_CLIENT_GONE);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 0);
    http_fixture_done(&f); /* REQUIREs that nothing lives */
}

TEST(a_judgement_tells_what_the_bytes_would_say)
{
    static const struct {
        const char *method;
        unsigned status;
        int64_t length;
        uint64_t bytes;
        bool end;
        enum error expected;
        bool wanted;
    } rows[] = {
        {"GET", 200, 5, 5, true, ERROR_NONE, true},
        {"GET", 200, 5, 4, true, ERROR_INVALID, true},
        {"GET", 200, 5, 4, false, ERROR_NONE, true},
        {"GET", 200, 5, 6, false, ERROR_INVALID, true},
        {"GET", 200, 5, UINT64_MAX, false, ERROR_INVALID, true},
        {"GET", 200, -1, UINT64_MAX, true, ERROR_NONE, true},
        {"HEAD", 200, 5, 6, true, ERROR_NONE, false},
        {"GET", 204, -1, 6, true, ERROR_NONE, false},
        {"GET", 304, -1, 6, true, ERROR_NONE, false},
        {"GET", 304, 0, 6, true, ERROR_NONE, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool wanted = !rows[i].wanted;
        begin(rows[i].method);
        CHECK_EQ_INT(http_fixture_head(&f, rows[i].status, rows[i].length, false), ERROR_NONE);
        CHECK_EQ_INT(exchange_respond_judge(f.exchange, rows[i].bytes, rows[i].end, &wanted),
                     rows[i].expected);
        CHECK_EQ_INT(wanted, rows[i].wanted);
        http_fixture_done(&f);
    }
}

CHECK_MAIN
