/* SPDX-License-Identifier: MIT */
/* Deadlines and least rates, each with a setting of a few milliseconds and nothing else that could end the connection. */
#include "check.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "h1/h1_state.h"
#include "h1_fixture.h"

#define EXPECT "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"

TEST(header_timeout)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.header_timeout = 20 * CLOCK_NS_PER_MS;
    int64_t before = metrics_sum(METRIC_limit_header_timeout);
    fixture_connect(&f);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof && f.client.got.length == 0); /* no byte came: nothing to answer */
    fixture_disconnect(&f, false);
    fixture_connect(&f);
    fixture_send_text(&f, "GET / HTTP/1.1\r\nHost:");
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.eof && fixture_has_prefix(&f, "HTTP/1.1 408 ") &&
          fixture_has_text(&f, "connection: close"));
    CHECK_EQ_INT(metrics_sum(METRIC_limit_header_timeout), before + 2);
    fixture_done(&f);
}

static void trickle(struct fixture *f)
{
    if (f->client.fd >= 0) {
        (void)!send(f->client.fd, "a", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

TEST(header_timeout_is_a_total)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.header_timeout = 40 * CLOCK_NS_PER_MS;
    fixture_connect(&f);
    fixture_send_text(&f, "GET /");
    f.each_tick = trickle;
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(fixture_has_prefix(&f, "HTTP/1.1 408 "));
    fixture_done(&f);
}

TEST(keep_alive_timeout)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.keep_alive = 20 * CLOCK_NS_PER_MS;
    fixture_connect(&f);
    fixture_send_text(&f, HELLO);
    int64_t before = metrics_sum(METRIC_limit_keep_alive);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK_EQ_STR(strbuf_text(&f.client.got), HELLO_OK);
    CHECK_EQ_INT(metrics_sum(METRIC_limit_keep_alive), before + 1);
    fixture_done(&f);
}

#define UPLOAD "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nx"

TEST(body_idle)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.body_idle = 20 * CLOCK_NS_PER_MS;
    fixture_connect(&f);
    fixture_send_text(&f, UPLOAD);
    int64_t before = metrics_sum(METRIC_limit_body_idle);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(fixture_has_prefix(&f, "HTTP/1.1 408 ") && fixture_has_text(&f, "connection: close") &&
          f.client.eof);
    CHECK_EQ_INT(f.gone, 1);
    CHECK_EQ_INT(metrics_sum(METRIC_limit_body_idle), before + 1);
    fixture_done(&f);
}

TEST(body_min_rate)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.body_min_rate = 10000000;
    f.settings.body_min_rate_after = 30 * CLOCK_NS_PER_MS;
    fixture_connect(&f);
    fixture_send_text(&f, UPLOAD);
    f.each_tick = trickle;
    int64_t before = metrics_sum(METRIC_limit_body_min_rate);
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(fixture_has_prefix(&f, "HTTP/1.1 408 "));
    CHECK_EQ_INT(metrics_sum(METRIC_limit_body_min_rate), before + 1);
    fixture_done(&f);
}

TEST(the_body_clock_stands_while_we_do_not_read)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.window = 10;
    f.settings.body_idle = 5 * CLOCK_NS_PER_MS;
    f.hold = true;
    fixture_connect(&f);
    fixture_send_text(&f, "POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n"
                          "01234567890123456789");
    CHECK(fixture_run_until(&f, fixture_until_body_full));
    for (int i = 0; i < 4; i++) { /* far longer than body_idle */
        fixture_run_some(&f);
    }
    CHECK_EQ_INT(f.gone, 0);
    f.hold = false;
    f.attached->handler->on_body(f.attached);
    CHECK(fixture_run_until(&f, fixture_until_body_ended));
    CHECK_EQ_STR(strbuf_text(&f.body), "01234567890123456789");
    fixture_respond(&f, 200, "content-length: 0", "");
    CHECK(fixture_receives(&f, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    fixture_done(&f);
}

TEST(the_body_clock_stands_before_100)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.body_idle = 5 * CLOCK_NS_PER_MS;
    fixture_connect(&f);
    fixture_send_text(&f, EXPECT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    for (int i = 0; i < 4; i++) {
        fixture_run_some(&f);
    }
    CHECK_EQ_INT(f.gone, 0);
    exchange_continue(f.attached); /* from now on it is the client's turn */
    CHECK(fixture_run_until(&f, fixture_until_gone));
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(fixture_has_text(&f, "HTTP/1.1 408 "));
    fixture_done(&f);
}

static void produce_for_ever(struct fixture *f)
{
    static char piece[4096];
    while (f->attached != NULL && f->attached->response_body.size < 65536) {
        REQUIRE(exchange_respond_body(f->attached, piece, sizeof piece) == ERROR_NONE);
    }
}

TEST(write_stall)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.write_stall = 100 * CLOCK_NS_PER_MS;
    fixture_connect(&f);
    f.client.paused = true;
    fixture_send_text(&f, WAIT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 200, "", NULL);
    f.each_tick = produce_for_ever;
    int64_t before = metrics_sum(METRIC_limit_write_stall);
    CHECK(fixture_run_until(&f, fixture_until_gone));
    CHECK(fixture_run_until(&f, fixture_until_no_conn));
    CHECK_EQ_INT(metrics_sum(METRIC_limit_write_stall), before + 1);
    f.client.paused = false;
    CHECK(fixture_run_until(&f, fixture_until_over));
    CHECK(f.client.reset);
    fixture_done(&f);
}

static void sip(struct fixture *f)
{
    char piece[1024];
    produce_for_ever(f);
    if (f->client.fd >= 0) {
        (void)!recv(f->client.fd, piece, sizeof piece, MSG_DONTWAIT);
    }
}

TEST(min_send_rate)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.min_send_rate = 1000000000;
    f.settings.min_send_rate_after = 50 * CLOCK_NS_PER_MS;
    fixture_connect(&f);
    f.client.paused = true;
    fixture_send_text(&f, WAIT);
    CHECK(fixture_run_until(&f, fixture_until_attached));
    fixture_respond(&f, 200, "", NULL);
    f.each_tick = sip;
    int64_t before = metrics_sum(METRIC_limit_min_send_rate);
    CHECK(fixture_run_until(&f, fixture_until_no_conn));
    CHECK_EQ_INT(metrics_sum(METRIC_limit_min_send_rate), before + 1);
    CHECK_EQ_INT(f.gone, 1);
    fixture_done(&f);
}

CHECK_MAIN
