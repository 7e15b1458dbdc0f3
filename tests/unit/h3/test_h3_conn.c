/* SPDX-License-Identifier: MIT */
/* A connection as a whole, against the library's own client: what is answered, what is bounded, and that nothing is left behind. */
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "check.h"
#include "unit/h3/h3_client.h"

static struct h3_driver driver;
static struct h3_client client;
static uint64_t live;

static void begin(void)
{
    REQUIRE(metrics_register_thread() == ERROR_NONE); /* its memory stays */
    live = mem_live();
    h3_driver_init(&driver);
}

static void connect_client(void)
{
    REQUIRE(h3_driver_connect(&driver));
    h3_client_init(&client, &driver);
    h3_client_run(&client);
}

static void end(void)
{
    h3_client_done(&client);
    h3_driver_done(&driver);
    CHECK(!client.bad);
    CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 0);
    CHECK_EQ_INT(metrics_sum(METRIC_buffered_bytes), 0);
    CHECK_EQ_INT(mem_live(), live);
}

static struct h3_answer *ask(const char *method, const char *path, size_t body)
{
    int64_t id = h3_client_request(&client, method, path, body);
    h3_client_run(&client);
    return h3_client_answer(&client, id);
}

static struct fake_stream *stream_of_last(void)
{
    return fake_quic_stream(&driver.quic, client.next_id - 4);
}

TEST(requests_are_answered)
{
    begin();
    connect_client();
    for (int i = 0; i < 40; i++) { /* more than at once: streams are granted anew */
        struct h3_answer *answer = ask("GET", "/now", 0);
        CHECK_EQ_INT(answer->status, 200);
        CHECK_EQ_INT(answer->body, 5);
        CHECK(answer->ended && stream_of_last()->closed && !stream_of_last()->reset);
    }
    CHECK_EQ_INT(driver.quic.granted, 40);
    CHECK_EQ_INT(ask("HEAD", "/now", 0)->body, 0);
    CHECK_EQ_INT(ask("GET", "/fail", 0)->status, 502);
    CHECK_EQ_INT(ask("GET", "/hint", 0)->informational, 1);
    CHECK_EQ_INT(ask("GET", "/trailers", 0)->trailers, 1);
    CHECK_EQ_INT(driver.heads, 44);
    CHECK_EQ_INT(driver.identified, 1);
    end();
}

TEST(bodies_go_both_ways)
{
    begin();
    connect_client();
    CHECK_EQ_INT(ask("POST", "/stream", 300000)->body, 300003);
    CHECK_EQ_INT(ask("POST", "/echo", 70000)->body, 3);
    CHECK_EQ_INT(ask("GET", "/big", 0)->body, DRIVER_BIG);
    CHECK(driver.released >=
          DRIVER_BIG - DRIVER_WINDOW); /* the last of it when nobody asks any more */
    CHECK_EQ_INT(driver.quic.consumed, driver.quic.received);
    end();
}

TEST(small_pieces_change_nothing)
{
    begin();
    driver.quic.packet = 7;
    connect_client();
    CHECK_EQ_INT(ask("POST", "/stream", 3000)->body, 3003);
    CHECK_EQ_INT(ask("GET", "/trailers", 0)->trailers, 1);
    end();
}

TEST(an_early_answer_ends_the_request)
{
    begin();
    connect_client();
    struct h3_answer *answer = ask("POST", "/early", SIZE_MAX);
    CHECK_EQ_INT(answer->status, 403);
    CHECK_EQ_INT(answer->body, 5);
    CHECK(answer->ended);
    CHECK(stream_of_last()->stopped && !stream_of_last()->reset);
    CHECK_EQ_INT(stream_of_last()->stop_code, NGHTTP3_H3_NO_ERROR);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    end();
}

TEST(an_early_answer_outlives_the_reset_of_its_request)
{
    begin();
    connect_client();
    driver.quic.hold_acks = true;
    ask("POST", "/early", SIZE_MAX);
    CHECK(stream_of_last()->stopped);
    fake_quic_reset(&driver.quic, client.next_id - 4, NGHTTP3_H3_NO_ERROR);
    h3_driver_run(&driver, 2);
    CHECK(!stream_of_last()->reset && !stream_of_last()->closed);
    CHECK_EQ_INT(metrics_sum(METRIC_h3_resets_in), 0);
    driver.quic.hold_acks = false;
    fake_quic_acknowledge(&driver.quic);
    h3_client_run(&client);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    CHECK_EQ_INT(driver.quic.consumed, driver.quic.received);
    end();
}

TEST(a_cut_response_is_reset)
{
    begin();
    connect_client();
    struct h3_answer *answer = ask("GET", "/cut", 0);
    CHECK(!answer->ended && stream_of_last()->reset);
    CHECK_EQ_INT(stream_of_last()->reset_code, NGHTTP3_H3_INTERNAL_ERROR);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    end();
}

TEST(a_reset_reaches_the_handler)
{
    begin();
    connect_client();
    ask("POST", "/never", SIZE_MAX);
    CHECK_EQ_INT(driver.gone, 0);
    fake_quic_reset(&driver.quic, client.next_id - 4, NGHTTP3_H3_REQUEST_CANCELLED);
    h3_client_run(&client);
    CHECK_EQ_INT(driver.gone, 1);
    CHECK(stream_of_last()->reset);
    ask("GET", "/never", 0);
    fake_quic_stop(&driver.quic, client.next_id - 4, NGHTTP3_H3_REQUEST_CANCELLED);
    h3_client_run(&client);
    CHECK_EQ_INT(driver.gone, 2);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    CHECK_EQ_INT(driver.quic.consumed, driver.quic.received);
    end();
}

TEST(a_place_is_given_back_when_the_worker_has_let_go)
{
    begin();
    driver.leave_unconfirmed = true;
    connect_client();
    ask("GET", "/never", 0);
    fake_quic_stop(&driver.quic, client.next_id - 4, NGHTTP3_H3_REQUEST_CANCELLED);
    h3_client_run(&client);
    CHECK(driver.gone == 1 && stream_of_last()->closed);
    CHECK_EQ_INT(driver.quic.granted, 0);
    exchange_worker_confirmed(driver.unconfirmed);
    CHECK_EQ_INT(driver.quic.granted, 1);
    end();
}

TEST(a_slow_stream_does_not_stop_the_others)
{
    begin();
    connect_client();
    driver.quic.window = 1000;
    int64_t slow = h3_client_request(&client, "GET", "/big", 0);
    h3_client_run(&client);
    driver.quic.window = SIZE_MAX / 2;
    CHECK(fake_quic_stream(&driver.quic, slow)->blocked);
    CHECK_EQ_INT(ask("GET", "/big", 0)->body, DRIVER_BIG);
    CHECK(h3_client_answer(&client, slow)->body < 1000);
    CHECK(metrics_sum(METRIC_buffered_bytes) <= 2 * DRIVER_WINDOW);
    fake_quic_open_window(&driver.quic, slow, DRIVER_BIG + 100000);
    h3_client_run(&client);
    CHECK_EQ_INT(h3_client_answer(&client, slow)->body, DRIVER_BIG);
    end();
}

TEST(what_is_not_acknowledged_is_kept_and_bounded)
{
    begin();
    connect_client();
    driver.quic.hold_acks = true;
    struct h3_answer *answer = ask("GET", "/big", 0);
    CHECK(answer->body >= driver.h3.response_unacked);
    CHECK(answer->body <= driver.h3.response_unacked + 2 * DRIVER_WINDOW);
    CHECK(metrics_sum(METRIC_buffered_bytes) >= (int64_t)driver.h3.response_unacked);
    CHECK(metrics_sum(METRIC_h3_unacked_waits) > 0);
    driver.quic.cwnd = 1 << 20; /* a path that holds more */
    driver.quic.hold_acks = false;
    quic_conn_mark_dirty(&driver.quic);
    h3_client_run(&client);
    CHECK_EQ_INT(answer->body, DRIVER_BIG);
    end();
}

TEST(bad_heads_are_answered)
{
    static const struct field host[] = {{{"host", 4}, {"other.example", 13}}};
    static struct field many[120];
    begin();
    connect_client();
    int64_t id = h3_client_ask(&client, "GET", "/now", host, 1, 0);
    h3_client_run(&client);
    CHECK_EQ_INT(h3_client_answer(&client, id)->status, 400);
    for (size_t i = 0; i < 120; i++) {
        many[i] = (struct field){SLICE("x-a"), SLICE("b")};
    }
    id = h3_client_ask(&client, "POST", "/now", many, 120, SIZE_MAX);
    h3_client_run(&client);
    CHECK_EQ_INT(h3_client_answer(&client, id)->status, 431);
    CHECK(stream_of_last()->stopped);
    CHECK_EQ_INT(driver.heads, 0);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    end();
}

TEST(early_data_is_for_what_does_no_harm_twice)
{
    begin();
    connect_client();
    driver.quic.early = driver.quic.early_stream = true;
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    CHECK(driver.early_data);
    CHECK_EQ_INT(ask("POST", "/echo", 10)->status, 425);
    CHECK_EQ_INT(ask("DELETE", "/now", 0)->status, 425);
    driver.quic.early = false;
    CHECK_EQ_INT(ask("POST", "/echo", 10)->status, 200);
    CHECK(!driver.early_data);
    end();
}

TEST(priorities_reach_the_app)
{
    static const struct field urgent[] = {{{"priority", 8}, {"u=1, i", 6}}};
    begin();
    connect_client();
    ask("GET", "/now", 0);
    CHECK(!driver.prioritised);
    h3_client_ask(&client, "GET", "/now", urgent, 1, 0);
    h3_client_run(&client);
    CHECK(driver.prioritised && driver.urgency == 1);
    end();
}

TEST(resets_are_counted)
{
    begin();
    connect_client();
    for (int i = 0; i < 25 && !driver.quic.closed; i++) {
        ask("GET", "/never", 0);
        fake_quic_stop(&driver.quic, client.next_id - 4, NGHTTP3_H3_REQUEST_CANCELLED);
        h3_client_run(&client);
    }
    CHECK(driver.quic.closed);
    CHECK_EQ_INT(driver.quic.close_code, NGHTTP3_H3_EXCESSIVE_LOAD);
    CHECK_EQ_INT(driver.closed, 1);
    end();
}

/* HEADERS by hand: POST, https, example.org and /never, from the static table. */
static const uint8_t post_never[] = {0x01, 0x19, 0x00, 0x00, 0xd4, 0xd7, 0x50, 0x0b, 'e',
                                     'x',  'a',  'm',  'p',  'l',  'e',  '.',  'o',  'r',
                                     'g',  0x51, 0x06, '/',  'n',  'e',  'v',  'e',  'r'};

TEST(framing_without_content_is_counted)
{
    static const uint8_t empty[1000]; /* DATA frames of length 0 */
    begin();
    connect_client();
    fake_quic_receive(&driver.quic, 0, post_never, sizeof post_never, false);
    h3_driver_run(&driver, 1);
    CHECK_EQ_INT(driver.heads, 1);
    for (int i = 0; i < 1000 && !driver.quic.closed; i++) {
        fake_quic_receive(&driver.quic, 0, empty, sizeof empty, false);
        h3_driver_run(&driver, 1);
    }
    CHECK(driver.quic.closed);
    CHECK_EQ_INT(driver.quic.close_code, NGHTTP3_H3_EXCESSIVE_LOAD);
    end();
}

/* One byte for each field, two thousand of them: it is over long before their end. */
TEST(fields_behind_the_limits_are_counted)
{
    enum { REFERENCES = 2000, SECTION = sizeof post_never - 2 + REFERENCES };
    uint8_t bomb[3 + SECTION] = {0x01, 0x40 | SECTION >> 8, SECTION & 0xff};
    memcpy(bomb + 3, post_never + 2, sizeof post_never - 2);
    memset(bomb + 3 + sizeof post_never - 2, 0xdd, REFERENCES);
    begin();
    connect_client();
    int64_t before = metrics_sum(METRIC_h3_glitches);
    fake_quic_receive(&driver.quic, 0, bomb, sizeof bomb, false);
    h3_driver_run(&driver, 2);
    CHECK(driver.quic.closed);
    CHECK_EQ_INT(driver.quic.close_code, NGHTTP3_H3_EXCESSIVE_LOAD);
    CHECK_EQ_INT(driver.heads, 0);
    CHECK_EQ_INT(metrics_sum(METRIC_h3_glitches), before + (int64_t)driver.h3.glitch_burst + 1);
    end();
}

TEST(a_drain_takes_two_steps)
{
    begin();
    connect_client();
    driver.quic.window = 1000;
    struct h3_answer *answer = ask("GET", "/big", 0);
    conn_group_drain(&driver.group, false);
    h3_driver_run(&driver, 2);
    CHECK(client.goaway == (INT64_C(1) << 62) - 4);
    conn_group_drain(&driver.group, true); /* not idle: goes on */
    h3_client_run(&client);
    CHECK(!driver.quic.closed && answer->body < 1000);
    fake_quic_open_window(&driver.quic, 0, 2 * DRIVER_BIG);
    h3_client_run(&client);
    CHECK_EQ_INT(answer->body, DRIVER_BIG);
    conn_group_drain(&driver.group, true);
    h3_client_run(&client);
    CHECK(driver.quic.closed);
    CHECK_EQ_INT(driver.quic.close_code, NGHTTP3_H3_NO_ERROR);
    CHECK_EQ_INT(driver.closed, 1);
    end();
}

TEST(a_request_behind_the_last_goaway_is_rejected)
{
    begin();
    connect_client();
    ask("GET", "/never", 0);
    conn_group_drain(&driver.group, false);
    while (client.goaway != 4) { /* the second step, when requests on their way had time to come */
        h3_client_run(&client);
    }
    fake_quic_receive(&driver.quic, 8, post_never, sizeof post_never, false);
    h3_driver_run(&driver, 2);
    CHECK(fake_quic_stream(&driver.quic, 8)->reset);
    CHECK_EQ_INT(fake_quic_stream(&driver.quic, 8)->reset_code, NGHTTP3_H3_REQUEST_REJECTED);
    CHECK_EQ_INT(driver.heads, 1);
    fake_quic_stop(&driver.quic, 0, NGHTTP3_H3_REQUEST_CANCELLED);
    while (!driver.quic.closed) {
        h3_client_run(&client);
    }
    CHECK_EQ_INT(driver.quic.close_code, NGHTTP3_H3_NO_ERROR);
    end();
}

TEST(a_stream_of_which_only_a_reset_is_heard)
{
    begin();
    connect_client();
    fake_quic_reset(&driver.quic, 0, NGHTTP3_H3_REQUEST_CANCELLED);
    client.next_id = 4;
    h3_client_run(&client);
    CHECK(fake_quic_stream(&driver.quic, 0)->closed);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    CHECK_EQ_INT(driver.quic.granted, 2);
    end();
}

TEST(a_client_that_allows_no_streams_is_refused)
{
    begin();
    driver.quic.no_uni = true;
    REQUIRE(h3_driver_connect(&driver));
    h3_client_init(&client, &driver);
    h3_driver_run(&driver, 3);
    CHECK(driver.quic.closed);
    CHECK_EQ_INT(driver.quic.close_code, NGHTTP3_H3_GENERAL_PROTOCOL_ERROR);
    end();
}

TEST(pressure_rejects_new_requests)
{
    begin();
    connect_client();
    conn_group_set_pressure(&driver.group, PRESSURE_REFUSE);
    ask("GET", "/now", 0);
    CHECK(stream_of_last()->reset);
    CHECK_EQ_INT(stream_of_last()->reset_code, NGHTTP3_H3_REQUEST_REJECTED);
    conn_group_set_pressure(&driver.group, PRESSURE_NONE);
    CHECK_EQ_INT(ask("GET", "/now", 0)->status, 200);
    CHECK_EQ_INT(driver.heads, 1);
    end();
}

TEST(the_client_may_go_at_any_time)
{
    begin();
    connect_client();
    h3_client_request(&client, "GET", "/big", 0);
    h3_client_request(&client, "POST", "/never", SIZE_MAX);
    driver.quic.hold_acks = true;
    h3_client_run(&client);
    fake_quic_end(&driver.quic, NGHTTP3_H3_NO_ERROR);
    h3_driver_run(&driver, 2);
    CHECK_EQ_INT(driver.gone, 2);
    CHECK_EQ_INT(driver.closed, 1);
    end();
}

/* --- memory ------------------------------------------------------------------------------------ */

/* Requests of every kind while the n-th allocation fails, and (`from_then_on`) all later ones. True: so many were not made. */
static bool survives(uint64_t n, int from_then_on)
{
    static const char *const paths[] = {"/stream", "/hint", "/trailers", "/early", "/cut", "/big"};
    begin();
    h3_client_init(&client, &driver);
    uint64_t made = mem_made();
    mem_fail_nth(n, from_then_on);
    if (h3_driver_connect(&driver)) {
        for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
            (void)h3_client_request(&client, "POST", paths[i], 3000);
            h3_client_run(&client);
        }
    }
    mem_fail_nth(0, 0);
    made = mem_made() - made;
    client.bad = false; /* a connection that is out of memory may end anywhere */
    end();
    return made < n;
}

TEST(every_allocation_may_fail_once)
{
    uint64_t n = 1;
    while (!survives(n, 0)) {
        n += n < 300 ? 1 : 29; /* then it is the same again and again */
        REQUIRE(n < 10000);
    }
    printf("# %d allocations\n", (int)n);
    CHECK(n > 50);
}

TEST(every_allocation_may_fail_from_then_on)
{
    for (uint64_t n = 1; n < 250; n++) {
        (void)survives(n, 1);
    }
}

CHECK_MAIN
