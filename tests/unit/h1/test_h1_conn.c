/* SPDX-License-Identifier: MIT */
/* A connection from its first byte to its end: what clients see, and what the handler is told. */
#include "check.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "h1/h1_state.h"
#include "h1_fixture.h"

/* --- the usual ---------------------------------------------------------------------------------- */

TEST(answers_and_keeps_the_connection)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    for (int i = 0; i < 3; i++) {
        fixture_send_text(&f, HELLO);
        CHECK(fixture_receives(&f, HELLO_OK));
    }
    CHECK_EQ_INT(f.heads, 3);
    fixture_disconnect(&f, false);
    CHECK(fixture_run_until(&f, fixture_until_no_conn));
    fixture_done(&f);
}

TEST(idle_connections_are_small)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, HELLO);
    CHECK(fixture_receives(&f, HELLO_OK));
    fixture_run_some(&f);
    struct h1_conn *h1 = h1_of_conn(conn_list_first(&f.group.conns));
    CHECK_EQ_INT(h1->phase, H1_PHASE_IDLE);
    CHECK(h1->buffer == NULL && h1->exchange == NULL);
    CHECK(sizeof *h1 + sizeof *h1->transport < 3072);
    CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 0);
    fixture_done(&f);
}

TEST(one_pipelined_request_at_a_time_and_in_order)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT HELLO "GET /wait?2 HTTP/1.1\r\nHost: h\r\n\r\n" HELLO);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_run_some(&f);
    CHECK_EQ_STR(strbuf_text(&f.seen), "GET /wait;");
    CHECK_EQ_INT(f.client.got.length, 0);
    fixture_respond(&f, 200, "content-length: 1", "a");
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_run_some(&f);
    CHECK_EQ_STR(strbuf_text(&f.seen), "GET /wait;GET /hello;GET /wait;");
    fixture_respond(&f, 200, "content-length: 1", "b");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na" HELLO_OK
                               "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb" HELLO_OK));
    CHECK(metrics_sum(METRIC_h1_pipelined) > 0);
    fixture_done(&f);
}

TEST(read_ahead_is_bounded)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    int64_t before = metrics_sum(METRIC_bytes_received);
    for (int i = 0; i < 2000; i++) { /* 66,000 bytes */
        fixture_send_text(&f, HELLO);
    }
    fixture_run_some(&f);
    CHECK_EQ_INT(metrics_sum(METRIC_bytes_received) - before, 16384);
    fixture_respond(&f, 200, "content-length: 0", "");
    struct strbuf all;
    strbuf_init(&all);
    strbuf_append_text(&all, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    for (int i = 0; i < 2000; i++) {
        strbuf_append_text(&all, HELLO_OK);
    }
    CHECK(fixture_receives(&f, strbuf_text(&all)));
    strbuf_done(&all);
    fixture_done(&f);
}

TEST(date_and_server_fields)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.date_header = f.settings.server_header = true;
    f.settings.server_name = SLICE("gatewayd");
    static const struct field extra[] = {{{"x-extra", 7}, {"1", 1}},
                                         {{"content-type", 12}, {"no", 2}}};
    f.settings.extra_fields = extra;
    f.settings.extra_field_count = 2;
    fixture_connect(&f);
    fixture_send_text(&f, HELLO);
    CHECK(!fixture_receives(&f, "?") || true);
    CHECK(fixture_has_text(&f, "\r\ndate: ") && fixture_has_text(&f, " GMT\r\n"));
    CHECK(fixture_has_text(&f, "\r\nserver: gatewayd\r\n") &&
          fixture_has_text(&f, "\r\nx-extra: 1\r\n"));
    CHECK(!fixture_has_text(&f, "content-type: no"));
    fixture_done(&f);
}

TEST(http10_closes_unless_it_asks)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(fixture_receives(&f,
                           "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\n"
                           "connection: keep-alive\r\n\r\nhello"));
    fixture_send_text(&f, "GET /hello HTTP/1.0\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK_EQ_STR(strbuf_text(&f.client.got), HELLO_CLOSE);
    CHECK(f.client.eof);
    fixture_done(&f);
}

TEST(http10_body_without_length_ends_with_the_connection)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "GET /wait HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 200, "", NULL);
    fixture_respond_more(&f, "ab");
    fixture_run_some(&f);
    fixture_respond_more(&f, "c");
    fixture_respond_end(&f);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK_EQ_STR(strbuf_text(&f.client.got), "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc");
    CHECK(f.client.eof);
    fixture_done(&f);
}

/* All of the body came before the head was written: it needs no chunks, and on HTTP/1.0 no end of the connection. */
TEST(a_whole_body_gets_a_content_length)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "GET /wait HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 200, "", "abc");
    CHECK(fixture_receives(
        &f, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\nabc"));
    fixture_send_text(&f, WAIT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 200, "", "abcd");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"));
    fixture_done(&f);
}

TEST(an_end_that_comes_alone_is_seen)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 200, "content-length: 3", NULL);
    fixture_respond_more(&f, "abc");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"));
    fixture_run_some(&f);
    fixture_respond_end(&f); /* no byte goes with it, but the next request may begin */
    fixture_send_text(&f, "GET /wait HTTP/1.0\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 200, "", NULL);
    fixture_respond_more(&f, "abc");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"));
    fixture_respond_end(&f);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof);
    fixture_done(&f);
}

TEST(body_less_responses)
{
    static const struct {
        const char *method, *fields, *expected;
        unsigned status;
    } rows[] = {
        {"HEAD", "content-length: 7", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", 200},
        {"HEAD", "", "HTTP/1.1 200 OK\r\n\r\n", 200},
        {"GET", "content-length: 3", "HTTP/1.1 204 No Content\r\n\r\n", 204},
        {"GET", "", "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n", 205},
        {"GET", "content-length: 9", "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304},
        {"GET", "content-length: 0", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200},
        {"GET", "transfer-encoding: chunked\nconnection: x\nkeep-alive: 1\ncontent-length: 0",
         "HTTP/1.1 799 \r\ncontent-length: 0\r\n\r\n", 799},
    };
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char request[128];
        snprintf(request, sizeof request, "%s /wait HTTP/1.1\r\nHost: h\r\n\r\n", rows[i].method);
        fixture_send_text(&f, request);
        CHECK(fixture_run_until(&f, fixture_until_attached));
        fixture_respond(&f, rows[i].status, rows[i].fields,
                        strstr(rows[i].fields, ": 0") ? "" : "abc");
        CHECK(fixture_receives(&f, rows[i].expected));
    }
    fixture_done(&f);
}

/* --- bodies -------------------------------------------------------------------------------------- */

TEST(takes_bodies_by_length_and_by_chunks)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    fixture_run_some(&f);
    fixture_send_text(&f, "cde");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde"));
    fixture_send_text(
        &f, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab");
    fixture_run_some(&f);
    fixture_send_text(&f, "\r\n3;x=y\r\ncde\r\n0\r\nTrailer: 1\r\n\r\n" HELLO);
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde" HELLO_OK));
    fixture_done(&f);
}

TEST(streams_chunks_and_trailers)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "GET /wait HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 103, "link: </a>", NULL);
    CHECK(fixture_receives(&f, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"));
    fixture_respond(&f, 200, "", NULL);
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"));
    fixture_respond_more(&f, "hello");
    CHECK(fixture_receives(&f, "5\r\nhello\r\n"));
    CHECK_EQ_INT(f.released, 5);
    fixture_respond_more(&f, "0123456789abcdef");
    struct exchange *exchange = f.attached;
    static struct field trailer[] = {{{"x-sum", 5}, {"1", 1}}};
    f.attached = NULL;
    CHECK_EQ_INT(exchange_respond_end(exchange, trailer, 1), ERROR_NONE);
    exchange_worker_detach(exchange);
    CHECK(fixture_receives(&f, "10\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n"));
    fixture_send_text(&f, HELLO);
    CHECK(fixture_receives(&f, HELLO_OK));
    fixture_done(&f);
}

TEST(answers_while_the_body_still_comes)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "POST /stream HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"));
    for (int i = 0; i < 3; i++) {
        fixture_send_text(&f, "3\r\nabc\r\n");
        CHECK(fixture_receives(&f, "3\r\nabc\r\n"));
    }
    fixture_send_text(&f, "0\r\n\r\n" HELLO);
    CHECK(fixture_receives(&f, "0\r\n\r\n" HELLO_OK));
    fixture_done(&f);
}

TEST(a_slow_handler_holds_the_client_back)
{
    enum { SIZE = 1000000 };
    struct fixture f;
    fixture_init(&f);
    f.hold = true;
    fixture_connect(&f);
    char *body = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        body[i] = (char)('a' + i % 23);
    }
    fixture_send_text(&f, "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
    int64_t before = metrics_sum(METRIC_bytes_received);
    fixture_send(&f, body, 200000);
    CHECK(fixture_run_until(&f, fixture_until_body_full));
    fixture_run_some(&f);
    CHECK_EQ_INT(f.attached->request_body.size, 65536);
    CHECK(metrics_sum(METRIC_bytes_received) - before <= 65536 + 16384 + 100);
    f.hold = false;
    f.attached->handler->on_body(f.attached);
    fixture_send(&f, body + 200000, SIZE - 200000);
    CHECK(fixture_run_until(&f, fixture_until_body_ended));
    CHECK_EQ_INT(f.body.length, SIZE);
    CHECK_EQ_MEM(f.body.data, body, SIZE);
    fixture_respond(&f, 200, "content-length: 0", "");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    free(body);
    fixture_done(&f);
}

static size_t produced;

static void produce(struct fixture *f)
{
    static const size_t total = 4000000;
    while (f->attached != NULL && f->attached->response_body.size < 65536 && produced < total) {
        char piece[4096];
        size_t length = total - produced < sizeof piece ? total - produced : sizeof piece;
        for (size_t i = 0; i < length; i++) {
            piece[i] = (char)('a' + (produced + i) % 23);
        }
        REQUIRE(exchange_respond_body(f->attached, piece, length) == ERROR_NONE);
        produced += length;
        if (produced == total) {
            fixture_respond_end(f);
        }
    }
}

TEST(long_responses_arrive_whole)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "GET /wait HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 200, "content-length: 4000000", NULL);
    produced = 0;
    f.each_tick = produce;
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof);
    const char *body = strstr(strbuf_text(&f.client.got), "\r\n\r\n") + 4;
    CHECK_EQ_INT(f.client.got.length - (size_t)(body - f.client.got.data), 4000000);
    for (size_t i = 0; i < 4000000; i++) {
        if (body[i] != (char)('a' + i % 23)) {
            CHECK_EQ_INT(i, -1);
        }
    }
    fixture_done(&f);
}

/* --- Expect and early responses -------------------------------------------------------------------- */

#define EXPECT "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"

TEST(sends_100_when_the_app_asks)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, EXPECT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_run_some(&f);
    CHECK_EQ_INT(f.client.got.length, 0);
    exchange_continue(f.attached);
    exchange_continue(f.attached);
    CHECK(fixture_receives(&f, "HTTP/1.1 100 Continue\r\n\r\n"));
    fixture_send_text(&f, "ab");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"));
    fixture_send_text(&f, HELLO);
    CHECK(fixture_receives(&f, HELLO_OK));
    fixture_done(&f);
}

TEST(no_100_when_the_body_has_come)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, EXPECT "ab" HELLO);
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab" HELLO_OK));
    fixture_done(&f);
}

TEST(a_final_response_instead_of_100_ends_the_connection)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"
                          "Expect: 100-continue\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 403, "content-length: 0", "");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK_EQ_STR(strbuf_text(&f.client.got),
                 "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    CHECK(f.client.eof); /* lingering: not a reset, although the body may still come */
    fixture_send_text(&f, HELLO);
    fixture_run_some(&f);
    CHECK_EQ_INT(f.heads, 1);
    fixture_done(&f);
}

TEST(a_short_rest_of_a_body_is_drained_after_an_early_response)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
    CHECK(fixture_receives(&f, HELLO_OK));
    fixture_run_some(&f);
    CHECK_EQ_INT(f.heads, 1);
    fixture_send_text(&f, "GET / " HELLO); /* six bytes of body, then a request */
    CHECK(fixture_receives(&f, HELLO_OK));
    CHECK_EQ_STR(strbuf_text(&f.seen), "POST /hello;GET /hello;");
    fixture_done(&f);
}

TEST(a_long_rest_of_a_body_ends_the_connection)
{
    struct fixture f;
    fixture_init(&f);
    fixture_connect(&f);
    fixture_send_text(&f, "POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\nabc");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof);
    CHECK_EQ_STR(strbuf_text(&f.client.got), HELLO_CLOSE);
    char *more = calloc(1, 500000); /* goes on sending: no reset may come */
    fixture_send(&f, more, 500000);
    free(more);
    fixture_run_some(&f);
    CHECK(!f.client.reset && !conn_list_empty(&f.group.conns));
    fixture_disconnect(&f, false);
    CHECK(fixture_run_until(&f, fixture_until_no_conn));
    fixture_done(&f);
}

TEST(a_chunked_rest_is_drained_up_to_its_bound)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.early_response_drain = 1000;
    fixture_connect(&f);
    fixture_send_text(&f, "POST /wait HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 200, "content-length: 1", NULL);
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n"));
    fixture_respond_more(&f, "a"); /* the head has promised nothing: the rest is worth a try */
    fixture_respond_end(&f);
    CHECK(fixture_receives(&f, "a"));
    char chunk[1200] = "480\r\n"; /* 1152 bytes */
    memset(chunk + 5, 'x', 1152);
    int64_t before = metrics_sum(METRIC_limit_early_response_drain);
    fixture_send(&f, chunk, 5 + 1152);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof);
    CHECK_EQ_INT(metrics_sum(METRIC_limit_early_response_drain), before + 1);
    fixture_done(&f);
}

TEST(drain_time_is_bounded)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.early_response_drain_time = 20 * CLOCK_NS_PER_MS;
    f.settings.lingering_close = 20 * CLOCK_NS_PER_MS;
    fixture_connect(&f);
    fixture_send_text(&f, "POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
    int64_t before = metrics_sum(METRIC_limit_lingering_close);
    CHECK(fixture_run_until(&f, fixture_until_no_conn));
    CHECK(fixture_has_prefix(&f, HELLO_OK));
    CHECK_EQ_INT(metrics_sum(METRIC_limit_lingering_close), before + 1);
    fixture_done(&f);
}

TEST(bodies_over_the_limit_get_413)
{
    static const char *const requests[] = {
        "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n",
        "POST /wait HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n",
    };
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        fixture_init(&f);
        f.settings.body_size_max = 1000;
        f.settings.early_response_drain = 100;
        fixture_connect(&f);
        char body[1001];
        memset(body, 'x', sizeof body);
        fixture_send_text(&f, requests[i]);
        fixture_send(&f, body, i == 0 ? 500 : sizeof body);
        CHECK(fixture_run_until(&f, fixture_until_over));
        CHECK(f.client.eof && fixture_has_prefix(&f, "HTTP/1.1 413 ") &&
              fixture_has_text(&f, "connection: close"));
        CHECK_EQ_INT(f.gone, i); /* the first is refused before a handler sees it */
        fixture_done(&f);
    }
}

/* --- memory -------------------------------------------------------------------------------------------- */

TEST(survives_every_failed_allocation)
{
    for (uint64_t n = 1; n < 80; n++) {
        struct fixture f;
        fixture_init(&f);
        mem_fail_nth(n, n % 2 == 0); /* once, or from then on */
        fixture_connect(&f);
        fixture_send_text(&f, HELLO "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                                    "GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        fixture_run_some(&f);
        mem_fail_nth(0, 0);
        fixture_done(&f); /* checks that nothing is left over */
    }
}

TEST(dumps_its_state)
{
    struct fixture f;
    struct strbuf out;
    fixture_init(&f);
    strbuf_init(&out);
    fixture_connect(&f);
    fixture_send_text(&f, WAIT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    struct conn *conn = conn_list_first(&f.group.conns);
    conn->ops->dump(conn, &out);
    CHECK(strstr(strbuf_text(&out), "phase=WAIT") != NULL);
    strbuf_done(&out);
    fixture_done(&f);
}

CHECK_MAIN
