/* SPDX-License-Identifier: MIT */
/* http/exchange.c, the request's side and the ends: admission, body room, replay cursors, both halves letting go, failures. */
#include "check.h"

#include "base/mem.h"
#include "base/metrics.h"
#include "http_fixture.h"

static struct http_fixture f;
static char zeros[70000];

static bool says(const char *text)
{
    http_fixture_take(&f, sizeof zeros);
    return strcmp(strbuf_text(&f.body), text) == 0;
}

static enum error body(size_t length)
{
    return exchange_request_body(f.exchange, zeros, length);
}

/* --- both halves ------------------------------------------------------------------------------------------------------- */

TEST(an_exchange_is_buried_by_whichever_half_detaches_second)
{
    for (int client_first = 0; client_first < 2; client_first++) {
        http_fixture_init(&f);
        CHECK(http_fixture_begin(&f, "GET", -1, false));
        CHECK_EQ_INT(f.on_heads, 1);
        CHECK(f.exchange->request_end);
        CHECK_EQ_INT(http_fixture_head(&f, 200, 5, false), ERROR_NONE);
        CHECK_EQ_INT(exchange_respond_body(f.exchange, "hello", 5), ERROR_NONE);
        CHECK_EQ_INT(exchange_respond_end(f.exchange, NULL, 0), ERROR_NONE);
        if (!client_first) {
            http_fixture_let_go(&f);
        }
        CHECK(says("hello"));
        CHECK(f.finished);
        CHECK_EQ_INT(f.exchange->end_reason, END_COMPLETE);
        struct exchange *exchange = f.exchange;
        http_fixture_detach(&f, END_COMPLETE);
        if (client_first) {
            CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 1);
            CHECK(!exchange_client_attached(exchange));
            exchange_worker_detach(exchange);
        }
        CHECK_EQ_INT(f.gones, 0); /* the response was complete: the handler is not told */
        http_fixture_turn(&f);
        CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 0);
        http_fixture_done(&f);
    }
}

TEST(a_client_that_goes_is_told_once_and_counted_once)
{
    http_fixture_init(&f);
    int64_t gone = metrics_sum(METRIC_clients_gone);
    CHECK(http_fixture_begin(&f, "GET", -1, false));
    http_fixture_detach(&f, END_CLIENT_GONE);
    CHECK_EQ_INT(f.gones, 1);
    CHECK_EQ_INT(metrics_sum(METRIC_clients_gone) - gone, 1);
    http_fixture_turn(&f);
    CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 0);
    http_fixture_done(&f);
}

/* The codec detaches after each cut, too: that is not a client that went away. */
TEST(a_cut_from_our_side_is_no_gone_client)
{
    http_fixture_init(&f);
    int64_t gone = metrics_sum(METRIC_clients_gone);
    int64_t aborted = metrics_sum(METRIC_responses_aborted);
    CHECK(http_fixture_begin(&f, "GET", -1, false));
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, false), ERROR_NONE);
    exchange_fail(f.exchange, END_WORKER_LOST, SLICE("lost"));
    CHECK_EQ_INT(f.aborts, 1);
    CHECK_EQ_INT(f.abort_reason, END_WORKER_LOST);
    CHECK_EQ_INT(f.exchange->end_reason, END_WORKER_LOST);
    CHECK(slice_equal(f.exchange->error_text, SLICE("lost")));
    http_fixture_detach(&f, END_WORKER_LOST);
    CHECK_EQ_INT(metrics_sum(METRIC_clients_gone) - gone, 0);
    CHECK_EQ_INT(metrics_sum(METRIC_responses_aborted) - aborted, 1);
    CHECK_EQ_INT(f.gones, 0);
    http_fixture_done(&f);
}

TEST(half_closed_is_told_once)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "GET", -1, false));
    exchange_client_half_closed(f.exchange);
    exchange_client_half_closed(f.exchange);
    CHECK_EQ_INT(f.half_closes, 1);
    CHECK_EQ_INT(f.gones, 0);
    CHECK_EQ_INT(http_fixture_head(&f, 204, -1, true), ERROR_NONE); /* the answer is still sent */
    http_fixture_let_go(&f);
    http_fixture_take(&f, 10);
    CHECK(f.finished);
    http_fixture_done(&f);
}

/* --- failures ------------------------------------------------------------------------------------------------------------ */

TEST(a_failure_before_the_head_is_an_error_response)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "GET", -1, false));
    exchange_fail(f.exchange, END_QUEUE_FULL, SLICE("apps.queue_max"));
    CHECK_EQ_INT(f.status, 503);
    CHECK_EQ_STR(http_fixture_field(&f, "retry-after"), "7");
    CHECK(f.exchange->response_by_gateway && f.exchange->worker_half == NULL);
    CHECK(says("The server is at capacity. Please try again.\n"));
    CHECK(f.finished);
    CHECK_EQ_INT(f.exchange->end_reason, END_QUEUE_FULL);
    http_fixture_detach(&f, END_COMPLETE);
    http_fixture_done(&f);
}

TEST(a_failure_from_the_clients_side_tells_the_handler_first)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "POST", 10, true));
    exchange_client_fail(f.exchange, END_CLIENT_TIMEOUT, SLICE("limits.body_idle"));
    CHECK_EQ_INT(f.gones, 1);
    CHECK_EQ_INT(f.status, 408);
    CHECK(f.exchange->request_body_dropped);
    CHECK_EQ_INT(exchange_request_room(f.exchange), SIZE_MAX);
    http_fixture_done(&f);

    http_fixture_init(&f); /* after the head it is a cut */
    CHECK(http_fixture_begin(&f, "POST", 10, true));
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, false), ERROR_NONE);
    exchange_client_fail(f.exchange, END_CLIENT_PROTOCOL, SLICE("bad chunk"));
    CHECK_EQ_INT(f.gones, 1);
    CHECK_EQ_INT(f.aborts, 1);
    CHECK_EQ_INT(f.status, 200);
    CHECK_EQ_INT(f.exchange->response_state, RESPONSE_CUT);
    exchange_client_fail(f.exchange, END_CLIENT_PROTOCOL, SLICE("again"));
    CHECK_EQ_INT(f.aborts, 1);
    http_fixture_done(&f);
}

TEST(an_abort_may_detach_at_once)
{
    http_fixture_init(&f);
    f.detach_in_abort = true;
    CHECK(http_fixture_begin(&f, "GET", -1, false));
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, false), ERROR_NONE);
    exchange_fail(f.exchange, END_WORKER_LOST, SLICE("lost"));
    CHECK(f.exchange == NULL);
    http_fixture_turn(&f);
    CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 0);
    CHECK(http_fixture_begin(&f, "POST", 10, true));
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, false), ERROR_NONE);
    exchange_client_fail(f.exchange, END_CLIENT_STALLED, SLICE("limits.write_stall"));
    CHECK(f.exchange == NULL);
    http_fixture_done(&f);
}

TEST(a_worker_that_fails_after_the_client_has_gone_only_buries)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "HEAD", -1, false));
    CHECK_EQ_INT(http_fixture_head(&f, 200, 5, false), ERROR_NONE); /* complete: HEAD */
    http_fixture_take(&f, 10);
    CHECK(f.finished);
    struct exchange *exchange = f.exchange;
    http_fixture_detach(&f, END_COMPLETE);
    CHECK_EQ_INT(f.gones, 0);
    exchange_fail(exchange, END_WORKER_LOST, SLICE("lost"));
    CHECK_EQ_INT(f.aborts, 0);
    http_fixture_done(&f);
}

/* A complete response, a request body that nobody has read yet, and a worker that still runs. */
static void early_and_finished(void)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "POST", 1000, true));
    CHECK_EQ_INT(body(100), ERROR_NONE);
    CHECK_EQ_INT(http_fixture_head(&f, 204, -1, false), ERROR_NONE);
    http_fixture_take(&f, 10);
    CHECK(f.finished);
}

TEST(a_worker_that_reads_a_body_is_told_when_it_will_not_come)
{
    early_and_finished();
    http_fixture_detach(&f, END_COMPLETE); /* the connection was closed instead of drained */
    CHECK_EQ_INT(f.gones, 1);
    http_fixture_done(&f);

    early_and_finished();
    unsigned bodies = f.bodies;
    exchange_request_drop(f.exchange); /* the codec reads it to its end and throws it away */
    CHECK_EQ_INT(f.bodies, bodies + 1);
    CHECK(f.exchange->request_body_dropped);
    http_fixture_done(&f);
}

TEST(a_failure_after_the_response_lets_the_codec_read_on)
{
    early_and_finished();
    size_t before = f.consumes;
    exchange_fail(f.exchange, END_WORKER_LOST, SLICE("lost"));
    CHECK_EQ_INT(f.aborts, 0);
    CHECK_EQ_INT(f.exchange->end_reason, END_COMPLETE);
    CHECK(f.exchange->request_body_dropped);
    CHECK_EQ_INT(f.consumes, before + 1);
    CHECK_EQ_INT(body(900), ERROR_NONE);
    exchange_request_ended(f.exchange);
    http_fixture_detach(&f, END_COMPLETE);
    http_fixture_done(&f);
}

/* --- admission ------------------------------------------------------------------------------------------------------------ */

TEST(server_names_are_compared_without_port_and_case)
{
    static const struct slice names[] = {
        {"example.com", 11}, {"[2001:db8::1]", 13}, {"*.example.net", 13}};
    static const struct {
        const char *authority;
        bool accepted;
    } rows[] = {
        {"example.com", true},           {"example.com:8080", true}, {"EXAMPLE.com", true},
        {"[2001:db8::1]", true},         {"[2001:db8::1]:80", true}, {"other.example.com", false},
        {"example.com.evil.org", false}, {"[2001:db8::2]", false},   {"", false},
        {"a.example.net", true},         {"a.B.Example.NET", true},  {"example.net", false},
        {".example.net", false},         {"aexample.net", false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        http_fixture_init(&f);
        f.settings.server_names = names;
        f.settings.server_name_count = 3;
        struct exchange *exchange = http_fixture_request(&f, "GET", rows[i].authority, -1, false);
        CHECK(exchange != NULL);
        exchange_request_head(exchange);
        CHECK_EQ_INT(f.on_heads, rows[i].accepted);
        CHECK_EQ_INT(f.heads, !rows[i].accepted);
        if (!rows[i].accepted) {
            CHECK_EQ_INT(f.status, 404);
            CHECK_EQ_INT(exchange->end_reason, END_NO_ROUTE);
        }
        http_fixture_done(&f);
    }
}

TEST(overload_refuses_new_requests)
{
    http_fixture_init(&f);
    int64_t refused = metrics_sum(METRIC_overload_refused);
    f.group.pressure = PRESSURE_NO_GROWTH;
    CHECK(http_fixture_begin(&f, "GET", -1, false));
    CHECK_EQ_INT(f.on_heads, 1);
    http_fixture_detach(&f, END_CLIENT_GONE);
    f.group.pressure = PRESSURE_REFUSE;
    CHECK(http_fixture_begin(&f, "GET", -1, false));
    CHECK_EQ_INT(f.on_heads, 1);
    CHECK_EQ_INT(f.status, 503);
    CHECK_EQ_STR(http_fixture_field(&f, "retry-after"), "7");
    CHECK_EQ_INT(metrics_sum(METRIC_overload_refused) - refused, 1);
    http_fixture_done(&f);
}

TEST(a_body_over_the_limit_is_refused_by_its_length)
{
    http_fixture_init(&f);
    int64_t refused = metrics_sum(METRIC_limit_body_size);
    f.settings.body_size_max = 1000;
    CHECK(http_fixture_begin(&f, "POST", 1000, true));
    CHECK_EQ_INT(f.on_heads, 1);
    http_fixture_detach(&f, END_CLIENT_GONE);
    CHECK(http_fixture_begin(&f, "POST", 1001, true));
    CHECK_EQ_INT(f.on_heads, 1);
    CHECK_EQ_INT(f.status, 413);
    CHECK_EQ_INT(metrics_sum(METRIC_limit_body_size) - refused, 1);
    CHECK_EQ_INT(body(1001), ERROR_LIMIT); /* counted, not kept */
    CHECK_EQ_INT(metrics_sum(METRIC_limit_body_size) - refused, 1);
    http_fixture_done(&f);
}

TEST(a_body_over_the_limit_is_refused_by_counting)
{
    http_fixture_init(&f);
    int64_t refused = metrics_sum(METRIC_limit_body_size);
    f.settings.body_size_max = 1000;
    CHECK(http_fixture_begin(&f, "POST", -1, true));
    CHECK_EQ_INT(body(1000), ERROR_NONE);
    CHECK_EQ_INT(f.heads, 0);
    CHECK_EQ_INT(body(1), ERROR_LIMIT);
    CHECK_EQ_INT(f.gones, 1);
    CHECK_EQ_INT(f.status, 413);
    CHECK_EQ_INT(f.exchange->end_reason, END_BODY_TOO_LARGE);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), (int64_t)f.exchange->response_body.size);
    CHECK_EQ_INT(metrics_sum(METRIC_limit_body_size) - refused, 1);
    http_fixture_done(&f);
}

/* --- the body: room, cursors --------------------------------------------------------------------------------------------- */

TEST(room_is_the_window_less_what_the_worker_has_not_got)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "POST", -1, true));
    CHECK_EQ_INT(exchange_request_room(f.exchange), 65536);
    CHECK_EQ_INT(body(65000), ERROR_NONE);
    CHECK_EQ_INT(exchange_request_room(f.exchange), 536);
    CHECK_EQ_INT(body(536), ERROR_NONE);
    CHECK_EQ_INT(exchange_request_room(f.exchange), 0);
    CHECK_EQ_INT(f.bodies, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 65536);
    exchange_request_taken(f.exchange, 1000);
    CHECK_EQ_INT(f.consumed, 1000);
    CHECK_EQ_INT(exchange_request_room(f.exchange), 1000);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 65536); /* kept for a replay */
    exchange_request_forget(f.exchange);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 64536);
    exchange_request_taken(f.exchange, 64536);
    exchange_request_forget(f.exchange);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 0);
    CHECK(!f.exchange->request_end);
    exchange_request_ended(f.exchange);
    CHECK_EQ_INT(f.bodies, 3);
    http_fixture_done(&f);
}

TEST(what_was_sent_is_replayed_until_it_is_forgotten)
{
    char out[8] = "";
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "PUT", 6, true));
    CHECK_EQ_INT(exchange_request_body(f.exchange, "abcdef", 6), ERROR_NONE);
    exchange_request_taken(f.exchange, 4);
    byteq_rewind(&f.exchange->request_body);
    CHECK_EQ_INT(byteq_copy_out(&f.exchange->request_body, out, 8), 6);
    CHECK_EQ_MEM(out, "abcdef", 6);
    exchange_request_taken(f.exchange, 2);
    exchange_request_forget(f.exchange);
    byteq_rewind(&f.exchange->request_body);
    CHECK_EQ_INT(byteq_copy_out(&f.exchange->request_body, out, 8), 4);
    CHECK_EQ_MEM(out, "cdef", 4);
    http_fixture_done(&f);
}

TEST(letting_go_drops_the_body_that_nobody_will_read)
{
    http_fixture_init(&f);
    CHECK(http_fixture_begin(&f, "POST", 2000, true));
    CHECK_EQ_INT(body(2000), ERROR_NONE);
    exchange_request_ended(f.exchange);
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, true), ERROR_NONE);
    http_fixture_let_go(&f);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 0); /* also when all of it had come */
    CHECK_EQ_INT(f.consumes, 0);
    http_fixture_done(&f);
}

/* --- memory -------------------------------------------------------------------------------------------------------------- */

static const struct response_head hint = {.status = 103, .content_length = -1};

/* A whole exchange with a body both ways; any step may fail. */
static void whole_exchange(void)
{
    if (!http_fixture_begin(&f, "POST", -1, true)) {
        return;
    }
    for (int i = 0; i < 5 && f.exchange->worker_half != NULL; i++) {
        if (body(3000) == ERROR_NONE && f.exchange->worker_half != NULL) {
            exchange_request_taken(f.exchange, 3000);
        }
    }
    if (f.exchange->worker_half == NULL) {
        return; /* answered 503, or cut */
    }
    exchange_request_ended(f.exchange);
    CHECK_EQ_INT(exchange_respond_info(f.exchange, &hint), ERROR_NONE);
    CHECK_EQ_INT(http_fixture_head(&f, 200, -1, false), ERROR_NONE);
    for (int i = 0; i < 5; i++) {
        if (exchange_respond_body(f.exchange, zeros, 3000) != ERROR_NONE) {
            exchange_fail(f.exchange, END_NO_MEMORY, SLICE("no memory for the response"));
            return;
        }
    }
    CHECK_EQ_INT(exchange_respond_end(f.exchange, NULL, 0), ERROR_NONE);
    http_fixture_let_go(&f);
    http_fixture_take(&f, sizeof zeros);
    CHECK(f.finished);
}

TEST(every_allocation_may_fail)
{
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        for (uint64_t n = 1;; n++) {
            http_fixture_init(&f);
            uint64_t made = mem_made();
            mem_fail_nth(n, from_then_on);
            whole_exchange();
            made = mem_made() - made;
            mem_fail_nth(0, 0);
            bool answered = f.exchange == NULL || f.finished || f.heads > 0 || f.aborts > 0;
            CHECK(answered);
            http_fixture_done(&f); /* REQUIREs that nothing is left */
            if (made < n) {
                CHECK(n > 8);
                break;
            }
            CHECK(n < 200);
        }
    }
}

CHECK_MAIN
