/* SPDX-License-Identifier: MIT */
/* http/exchange.c, the response's side: heads, informational ones, 100, framing, content-length, trailers, swallowed bodies. */
#include "check.h"

#include "base/metrics.h"
#include "http_fixture.h"

static struct http_fixture f;
static char zeros[70000];

static void begin(const char *method)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, method, -1, false));
}

static enum error body(const char *text)
{
    return exchange_respond_body(f.exchange, text, strlen(text));
}

static enum error end(void)
{
    return exchange_respond_end(f.exchange, NULL, 0);
}

/* --- heads ----------------------------------------------------------------------------------------------------------- */

TEST(a_head_that_is_all_ends_the_response)
{
    begin("GET");
    int64_t before = metrics_sum(METRIC_responses_2xx);
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, true), ERROR_NONE);
    CHECK(f.head_end);
    CHECK_EQ_INT(f.exchange->response_state, RESPONSE_ENDED);
    CHECK_EQ_INT(metrics_sum(METRIC_responses_2xx) - before, 1);
    http_fixture_done(&f);
}

TEST(a_head_that_promises_bytes_must_not_end)
{
    begin("GET");
    CHECK_EQ_INT(http_fixture_head(&f, 200, 5, true), ERROR_INVALID);
    CHECK_EQ_INT(f.heads, 0);
    exchange_fail(f.exchange, END_WORKER_PROTOCOL, SLICE("bad"));
    CHECK_EQ_INT(f.status, 502);
    http_fixture_done(&f);
}

TEST(a_codec_that_cannot_take_the_head_makes_a_cut)
{
    begin("GET");
    f.head_answer = ERROR_NO_MEMORY;
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, false), ERROR_NO_MEMORY);
    exchange_fail(f.exchange, END_NO_MEMORY, SLICE("no memory"));
    CHECK_EQ_INT(f.aborts, 1);
    CHECK_EQ_INT(f.abort_reason, END_NO_MEMORY);
    http_fixture_done(&f);
}

TEST(a_head_that_was_not_sent_is_replaced_by_the_failures)
{
    begin("GET");
    f.take_back = true;
    CHECK_EQ_INT(http_fixture_head(&f, 200, 10, false), ERROR_NONE);
    CHECK_EQ_INT(body("half"), ERROR_NONE);
    exchange_fail(f.exchange, END_APP_EXCEPTION, SLICE("raised"));
    CHECK_EQ_INT(f.aborts, 0);
    CHECK_EQ_INT(f.status, 500);
    http_fixture_take(&f, 1000);
    CHECK(f.finished);
    CHECK(strstr(strbuf_text(&f.body), "half") == NULL);
    http_fixture_done(&f);
}

TEST(a_head_that_was_sent_is_not_replaced)
{
    begin("GET");
    CHECK_EQ_INT(http_fixture_head(&f, 200, 10, false), ERROR_NONE);
    exchange_fail(f.exchange, END_APP_EXCEPTION, SLICE("raised"));
    CHECK_EQ_INT(f.aborts, 1);
    CHECK_EQ_INT(f.status, 200);
    http_fixture_done(&f);
}

TEST(informational_heads_go_before_the_final_one_only)
{
    begin("GET");
    CHECK_EQ_INT(http_fixture_head(&f, 103, -1, false), ERROR_NONE);
    CHECK_EQ_INT(http_fixture_head(&f, 102, -1, false), ERROR_NONE);
    CHECK_EQ_INT(f.infos, 2);
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, true), ERROR_NONE);
    CHECK_EQ_INT(http_fixture_head(&f, 103, -1, false), ERROR_CLOSED);
    CHECK_EQ_INT(f.infos, 2);
    http_fixture_done(&f);
}

TEST(informational_heads_are_hidden_from_clients_that_cannot_take_them)
{
    begin("GET");
    f.exchange->request.version = HTTP_1_0; /* RFC 9110 15.2 */
    CHECK_EQ_INT(http_fixture_head(&f, 102, -1, false), ERROR_NONE);
    CHECK_EQ_INT(http_fixture_head(&f, 103, -1, false), ERROR_NONE);
    CHECK_EQ_INT(f.infos, 0);
    f.exchange->request.version = HTTP_1_1;
    f.settings.early_hints_h1 = false;
    CHECK_EQ_INT(http_fixture_head(&f, 103, -1, false), ERROR_NONE);
    CHECK_EQ_INT(f.infos, 0);
    CHECK_EQ_INT(http_fixture_head(&f, 102, -1, false), ERROR_NONE);
    CHECK_EQ_INT(f.infos, 1);
    f.exchange->request.version = HTTP_2; /* where the setting has no meaning */
    CHECK_EQ_INT(http_fixture_head(&f, 103, -1, false), ERROR_NONE);
    CHECK_EQ_INT(f.infos, 2);
    http_fixture_done(&f);
}

/* --- 100 ------------------------------------------------------------------------------------------------------------- */

static void begin_expect(void)
{
    http_fixture_init(&f);
    struct exchange *exchange = http_fixture_request(&f, "POST", "example.com", 5, true);
    CHECK(exchange != NULL);
    exchange->request.expect_continue = true;
    exchange_request_head(exchange);
}

TEST(the_client_is_told_to_go_on_once)
{
    begin_expect();
    exchange_continue(f.exchange);
    exchange_continue(f.exchange);
    CHECK_EQ_INT(f.infos, 1);
    CHECK_EQ_INT(f.info_status, 100);
    CHECK(f.exchange->continue_sent);
    http_fixture_done(&f);
}

TEST(nobody_is_told_to_go_on_who_did_not_ask_or_has_begun_or_was_answered)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "POST", 5, true));
    exchange_continue(f.exchange);
    CHECK_EQ_INT(f.infos, 0);
    http_fixture_done(&f);

    begin_expect();
    CHECK_EQ_INT(exchange_request_body(f.exchange, "a", 1), ERROR_NONE);
    exchange_continue(f.exchange);
    CHECK_EQ_INT(f.infos, 0);
    http_fixture_done(&f);

    begin_expect();
    CHECK_EQ_INT(http_fixture_head(&f, 401, 0, true), ERROR_NONE);
    exchange_continue(f.exchange);
    CHECK_EQ_INT(f.infos, 0);
    http_fixture_done(&f);

    begin_expect();
    f.exchange->request.version = HTTP_1_0;
    exchange_continue(f.exchange);
    CHECK_EQ_INT(f.infos, 0);
    http_fixture_done(&f);
}

/* --- content-length --------------------------------------------------------------------------------------------------- */

TEST(a_body_is_held_to_its_content_length)
{
    begin("GET");
    CHECK_EQ_INT(http_fixture_head(&f, 200, 5, false), ERROR_NONE);
    CHECK_EQ_INT(body("abc"), ERROR_NONE);
    CHECK_EQ_INT(end(), ERROR_INVALID); /* two are owed */
    CHECK_EQ_INT(f.exchange->response_state, RESPONSE_STARTED);
    CHECK_EQ_INT(body("def"), ERROR_INVALID); /* one too many: nothing of it is taken */
    CHECK_EQ_INT(f.exchange->response_body.size, 3);
    CHECK_EQ_INT(body("de"), ERROR_NONE);
    CHECK_EQ_INT(end(), ERROR_NONE);
    CHECK_EQ_INT(f.exchange->response_state, RESPONSE_ENDED);
    http_fixture_let_go(&f);
    http_fixture_take(&f, 4);
    CHECK(!f.finished);
    http_fixture_take(&f, 4);
    CHECK(f.finished);
    CHECK_EQ_STR(strbuf_text(&f.body), "abcde");
    CHECK_EQ_INT(f.exchange->response_bytes, 5);
    http_fixture_done(&f);
}

TEST(bytes_after_a_length_of_zero_are_refused)
{
    begin("GET");
    CHECK_EQ_INT(http_fixture_head(&f, 200, 0, false), ERROR_NONE);
    CHECK(f.head_end);
    CHECK_EQ_INT(body("x"), ERROR_INVALID); /* SPEC R54 */
    http_fixture_take(&f, 1);               /* the head has gone: nothing is cut */
    CHECK(f.finished);
    exchange_fail(f.exchange, END_WORKER_PROTOCOL, SLICE("bad"));
    CHECK_EQ_INT(f.aborts, 0);
    http_fixture_done(&f);
}

/* --- bodies that nobody gets ------------------------------------------------------------------------------------------- */

TEST(the_body_of_a_response_without_one_is_swallowed_and_released)
{
    static const struct {
        const char *method;
        unsigned status;
        int64_t length;
    } rows[] = {
        {"HEAD", 200, 5}, {"HEAD", 200, 0}, {"HEAD", 200, -1}, {"GET", 204, -1}, {"GET", 304, 5}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(rows[i].method);
        CHECK_EQ_INT(http_fixture_head(&f, rows[i].status, rows[i].length, false), ERROR_NONE);
        CHECK(f.head_end);
        CHECK_EQ_INT(body("hello"), ERROR_NONE);
        CHECK_EQ_INT(f.released, 5);
        CHECK_EQ_INT(f.exchange->response_body.size, 0);
        http_fixture_take(&f, 10);
        CHECK(f.finished);
        CHECK_EQ_INT(body("more"), ERROR_NONE); /* also behind the last byte */
        CHECK_EQ_INT(f.released, 9);
        CHECK_EQ_INT(end(), ERROR_NONE);
        CHECK_EQ_STR(strbuf_text(&f.body), "");
        http_fixture_done(&f);
    }
}

TEST(swallowing_ends_at_a_bound)
{
    begin("HEAD");
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, false), ERROR_NONE);
    for (int i = 0; i < 16; i++) {
        CHECK_EQ_INT(exchange_respond_body(f.exchange, zeros, 65536), ERROR_NONE);
    }
    CHECK_EQ_INT(exchange_respond_body(f.exchange, zeros, 1), ERROR_CLOSED);
    http_fixture_done(&f);
}

TEST(what_the_client_took_is_released)
{
    begin("GET");
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, false), ERROR_NONE);
    CHECK_EQ_INT(exchange_respond_body(f.exchange, zeros, 60000), ERROR_NONE);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 60000);
    CHECK_EQ_INT(f.released, 0);
    http_fixture_take(&f, 20000);
    CHECK_EQ_INT(f.released, 20000);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 40000);
    http_fixture_detach(&f, END_CLIENT_GONE);
    CHECK_EQ_INT(f.gones, 1);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 0);
    http_fixture_done(&f);
}

/* --- trailers ------------------------------------------------------------------------------------------------------------ */

TEST(trailers_go_to_clients_that_take_them)
{
    static struct field trailer = {{"a", 1}, {"b", 1}};
    static const struct {
        bool te;
        enum http_version version;
        int64_t length;
        size_t expected;
    } rows[] = {{true, HTTP_1_1, -1, 1},
                {false, HTTP_1_1, -1, 0},
                {true, HTTP_1_0, -1, 0},
                {true, HTTP_1_1, 1, 0},
                {true, HTTP_2, -1, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin("GET");
        f.exchange->request.te_trailers = rows[i].te;
        f.exchange->request.version = rows[i].version;
        CHECK_EQ_INT(http_fixture_head(&f, 200, rows[i].length, false), ERROR_NONE);
        CHECK_EQ_INT(body("x"), ERROR_NONE);
        CHECK_EQ_INT(exchange_respond_end(f.exchange, &trailer, 1), ERROR_NONE);
        CHECK_EQ_INT(f.exchange->trailer_count, rows[i].expected);
        CHECK(f.exchange->response_end);
        http_fixture_done(&f);
    }
}

CHECK_MAIN
