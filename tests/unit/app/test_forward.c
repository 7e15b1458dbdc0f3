/* SPDX-License-Identifier: MIT */
/* app/forward.c and forward_response.c: a request to a worker and its response back, bodies, ends, deadlines. */
#include "check.h"

#include "app/forward.h"
#include "app_fixture.h"
#include "base/clock.h"
#include "base/metrics.h"

static struct app_fixture f;
static struct app_link w[APP_LOOPS];
static struct app_client c, d;

/* One loop, one worker. */
static void start(unsigned capacity)
{
    REQUIRE(app_fixture_start(&f));
    app_worker_up(&f, w, 'a', capacity);
    app_client_init(&f, &c, 0);
    app_client_init(&f, &d, 0);
}

static void begin(unsigned capacity)
{
    app_fixture_init(&f, 1);
    start(capacity);
}

static void finish(void)
{
    strbuf_done(&c.body);
    strbuf_done(&d.body);
    app_link_close(&w[0]);
    app_fixture_done(&f);
}

static uint32_t request(struct app_client *client, const char *method, int64_t length)
{
    CHECK(app_client_begin(client, method, length));
    struct frame frame = app_link_take(&f, &w[0], FRAME_REQUEST);
    CHECK_EQ_INT(frame.type, FRAME_REQUEST);
    return frame.stream;
}

static void say(uint32_t stream, unsigned type, unsigned flags, unsigned code, uint32_t aux,
                const char *payload, size_t length)
{
    app_link_say(&f, &w[0],
                 (struct frame){.type = (uint8_t)type,
                                .flags = (uint8_t)flags,
                                .code = (uint16_t)code,
                                .stream = stream,
                                .aux = aux},
                 payload, length);
}

static void head(uint32_t stream, unsigned status, unsigned flags)
{
    say(stream, FRAME_RESPONSE, flags, status, 0, "\x91\xc4\x00", 3);
}

static void done(uint32_t stream)
{
    say(stream, FRAME_DONE, 0, 0, 0, NULL, 0);
}

static int64_t slots(void)
{
    return metrics_sum(METRIC_slots_taken);
}

/* --- there and back -------------------------------------------------------------------------------------------------------- */

TEST(a_request_is_answered_and_its_slot_is_free)
{
    begin(10);
    uint32_t id = request(&c, "GET", -1);
    CHECK_EQ_INT(slots(), 1);
    app_link_answer(&f, &w[0], id, "hello");
    CHECK(c.complete);
    CHECK_EQ_INT(c.status, 200);
    CHECK_EQ_STR(strbuf_text(&c.body), "hello");
    CHECK_EQ_INT(slots(), 0);
    CHECK_EQ_INT(c.reason, END_COMPLETE);
    finish();
}

TEST(the_slot_stays_taken_until_done)
{
    begin(1);
    uint32_t id = request(&c, "GET", -1);
    head(id, 204, FRAME_FLAG_END_STREAM);
    CHECK(c.complete);
    CHECK_EQ_INT(slots(), 1);
    CHECK(app_client_begin(&d, "GET", -1));
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_REQUEST).type, 0);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 1);
    done(id);
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_REQUEST).type, FRAME_REQUEST);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 0);
    finish();
}

TEST(a_small_body_goes_with_the_head)
{
    begin(10);
    CHECK(app_client_begin(&c, "POST", 100));
    CHECK_EQ_INT(app_client_body(&c, 100, true), 100);
    struct frame frame = app_link_take(&f, &w[0], FRAME_REQUEST);
    CHECK_EQ_INT(frame.flags, FRAME_FLAG_END_STREAM);
    CHECK_EQ_INT(frame.length - frame.aux, 100);
    app_link_answer(&f, &w[0], frame.stream, "");
    CHECK(c.complete);
    finish();
}

TEST(a_long_body_waits_for_credit)
{
    begin(10);
    CHECK(app_client_begin(&c, "POST", 200000));
    size_t sent = app_client_body(&c, 65536, false);
    CHECK_EQ_INT(sent, 65536);
    struct frame frame = app_link_take(&f, &w[0], FRAME_REQUEST);
    uint32_t id = frame.stream;
    size_t got = frame.length - frame.aux;
    uint32_t spent = FRAME_DATA_OVERHEAD + (uint32_t)got;
    CHECK_EQ_INT(got, 16384);
    bool ended = false;
    for (int i = 0; i < 200 && !ended; i++) {
        if (c.exchange != NULL && sent < 200000) {
            sent += app_client_body(&c, 200000 - sent, false);
            if (sent == 200000) {
                (void)app_client_body(&c, 0, true);
            }
        }
        frame = app_link_take(&f, &w[0], FRAME_DATA);
        while (frame.type == FRAME_DATA) {
            got += frame.length;
            spent += FRAME_DATA_OVERHEAD + frame.length;
            CHECK(spent <= 65536);
            ended |= (frame.flags & FRAME_FLAG_END_STREAM) != 0;
            frame = app_link_next(&w[0], FRAME_DATA);
        }
        if (spent > 40000) {
            say(id, FRAME_WINDOW, 0, 0, spent, NULL, 0);
            spent = 0;
        }
    }
    CHECK_EQ_INT(got, 200000);
    CHECK(ended);
    app_link_answer(&f, &w[0], id, "");
    CHECK(c.complete);
    finish();
}

TEST(the_worker_gets_credit_back_as_the_client_takes)
{
    static char block[40000];
    begin(10);
    uint32_t id = request(&c, "GET", -1);
    c.slow = true;
    head(id, 200, 0);
    say(id, FRAME_DATA, 0, 0, 0, block, sizeof block);
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_WINDOW).type, 0);
    c.slow = false;
    struct frame window = app_link_take(&f, &w[0], FRAME_WINDOW);
    CHECK_EQ_INT(window.type, FRAME_WINDOW);
    CHECK_EQ_INT(window.aux, sizeof block + FRAME_DATA_OVERHEAD);
    say(id, FRAME_DATA, FRAME_FLAG_END_STREAM | FRAME_FLAG_DONE, 0, 0, "x", 1);
    CHECK(c.complete);
    CHECK_EQ_INT(c.body.length, sizeof block + 1);
    finish();
}

/* --- connections of TLS clients --------------------------------------------------------------------------------------------- */

TEST(a_connection_with_a_certificate_is_told_before_its_first_request_and_at_its_end)
{
    begin(10);
    c.tls = d.tls = true;
    CHECK(app_client_begin(&c, "GET", -1));
    struct frame conn = app_link_take(&f, &w[0], FRAME_CONN);
    CHECK_EQ_INT(conn.type, FRAME_CONN);
    CHECK_EQ_INT(conn.aux, 1);
    struct frame frame = app_link_next(&w[0], FRAME_REQUEST);
    CHECK_EQ_INT(frame.type, FRAME_REQUEST);
    app_link_answer(&f, &w[0], frame.stream, "");
    CHECK(c.complete); /* this client's connection ends with its response */
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_CONN_END).aux, 1);
    CHECK_EQ_INT(f.apps->app_loops[0].conns.length, 0);
    finish();
}

/* Ids are 32 bits: after the last one they begin again, without 0 and without those that are still open. */
TEST(ids_of_connections_begin_again)
{
    begin(10);
    c.tls = d.tls = true;
    f.apps->app_loops[0].last_conn = UINT32_MAX - 1;
    CHECK(app_client_begin(&c, "GET", -1));
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_CONN).aux, UINT32_MAX);
    f.apps->app_loops[0].last_conn = UINT32_MAX - 1; /* the first one is open all the time */
    CHECK(app_client_begin(&d, "GET", -1));
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_CONN).aux, 1);
    CHECK_EQ_INT(f.apps->app_loops[0].conns.length, 2);
    finish();
}

TEST(a_plain_connection_is_not_told)
{
    begin(10);
    uint32_t id = request(&c, "GET", -1);
    app_link_answer(&f, &w[0], id, "");
    CHECK(c.complete);
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_CONN_END).type, 0);
    finish();
}

/* --- expectations, informational heads, early answers ------------------------------------------------------------------------- */

TEST(the_first_credit_of_an_expecting_request_means_100)
{
    begin(10);
    app_client_init(&f, &c, 0);
    CHECK(app_client_begin(&c, "GET", -1)); /* only to make the connection known */
    app_link_answer(&f, &w[0], app_link_take(&f, &w[0], FRAME_REQUEST).stream, "");
    CHECK(c.complete);
    strbuf_done(&c.body);
    app_client_init(&f, &c, 0);
    CHECK(app_client_begin(&c, "POST", 5));
    c.exchange->request.expect_continue = true; /* placed in the next flush */
    struct frame frame = app_link_take(&f, &w[0], FRAME_REQUEST);
    CHECK_EQ_INT(frame.flags, FRAME_FLAG_EXPECT);
    CHECK_EQ_INT(c.infos, 0);
    say(frame.stream, FRAME_WINDOW, 0, 0, 65536, NULL, 0);
    CHECK_EQ_INT(c.infos, 1);
    CHECK_EQ_INT(app_client_body(&c, 5, true), 5);
    struct frame data = app_link_take(&f, &w[0], FRAME_DATA);
    CHECK_EQ_INT(data.length, 5);
    CHECK_EQ_INT(data.flags, FRAME_FLAG_END_STREAM);
    app_link_answer(&f, &w[0], frame.stream, "");
    CHECK(c.complete);
    finish();
}

TEST(informational_heads_pass_and_the_final_one_follows)
{
    begin(10);
    f.http.early_hints_h1 = true;
    uint32_t id = request(&c, "GET", -1);
    head(id, 103, FRAME_FLAG_INFORMATIONAL);
    CHECK_EQ_INT(c.infos, 1);
    app_link_answer(&f, &w[0], id, "x");
    CHECK(c.complete);
    finish();
}

TEST(an_early_answer_aborts_the_body)
{
    begin(10);
    CHECK(app_client_begin(&c, "POST", 100000));
    CHECK_EQ_INT(app_client_body(&c, 30000, false), 30000);
    struct frame frame = app_link_take(&f, &w[0], FRAME_REQUEST);
    head(frame.stream, 413, FRAME_FLAG_END_STREAM);
    struct frame reset = app_link_take(&f, &w[0], FRAME_RESET);
    CHECK_EQ_INT(reset.code, FRAME_ERROR_BODY_ABORTED);
    CHECK(c.complete);
    CHECK_EQ_INT(c.status, 413);
    CHECK_EQ_INT(slots(), 1);
    done(frame.stream);
    CHECK_EQ_INT(slots(), 0);
    finish();
}

TEST(a_body_that_will_not_come_is_aborted_while_the_app_runs_on)
{
    begin(10);
    CHECK(app_client_begin(&c, "POST", 100000));
    CHECK_EQ_INT(app_client_body(&c, 30000, false), 30000);
    c.slow = true;
    struct frame frame = app_link_take(&f, &w[0], FRAME_REQUEST);
    head(frame.stream, 204, 0); /* complete for the client, but the app has not ended */
    exchange_response_finished(c.exchange);
    exchange_request_drop(c.exchange); /* the codec drains */
    struct frame reset = app_link_take(&f, &w[0], FRAME_RESET);
    CHECK_EQ_INT(reset.code, FRAME_ERROR_BODY_ABORTED);
    app_client_go(&c);
    struct frame gone = app_link_take(&f, &w[0], FRAME_DISCONNECT);
    CHECK_EQ_INT(gone.code, FRAME_ERROR_CLIENT_GONE);
    done(frame.stream);
    finish();
}

/* --- the client goes ---------------------------------------------------------------------------------------------------------- */

TEST(a_client_that_goes_while_waiting_leaves_the_queue)
{
    begin(1);
    uint32_t id = request(&c, "GET", -1);
    CHECK(app_client_begin(&d, "GET", -1));
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 1);
    app_client_go(&d);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 0);
    app_link_answer(&f, &w[0], id, "");
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_REQUEST).type, 0);
    finish();
}

TEST(a_client_that_goes_before_the_flush_reaches_nobody)
{
    begin(1);
    CHECK(app_client_begin(&c, "GET", -1));
    app_client_go(&c);
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_REQUEST).type, 0);
    CHECK_EQ_INT(slots(), 0);
    finish();
}

TEST(a_client_that_goes_is_told_to_the_worker_and_the_slot_waits_for_done)
{
    for (int answered = 0; answered < 2; answered++) {
        begin(10);
        uint32_t id = request(&c, "GET", -1);
        if (answered) {
            head(id, 200, 0);
            CHECK_EQ_INT(c.status, 200);
        }
        app_client_go(&c);
        struct frame frame = app_link_take(&f, &w[0], FRAME_DISCONNECT);
        CHECK_EQ_INT(frame.code, FRAME_ERROR_CLIENT_GONE);
        CHECK_EQ_INT(metrics_sum(METRIC_forwards), 0);
        CHECK_EQ_INT(slots(), 1);
        done(id);
        CHECK_EQ_INT(slots(), 0);
        finish();
    }
}

/* Of a connection with many requests: what was given up counts until the worker is done, also at a stop. */
TEST(a_request_that_was_given_up_counts_until_its_worker_is_done)
{
    for (int stop = 0; stop < 3; stop++) {
        begin(10);
        CHECK(app_client_begin(&c, "GET", -1));
        c.exchange->request.version = HTTP_2;
        uint32_t id = app_link_take(&f, &w[0], FRAME_REQUEST).stream;
        app_client_go(&c);
        CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_DISCONNECT).code, FRAME_ERROR_CLIENT_GONE);
        CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 1);
        CHECK_EQ_INT(metrics_sum(METRIC_forwards), 1);
        if (stop == 0) {
            done(id);
            CHECK_EQ_INT(metrics_sum(METRIC_exchanges), 0);
            CHECK_EQ_INT(metrics_sum(METRIC_forwards), 0);
        } else if (stop == 1) {
            app_link_close(&w[0]); /* lost: it waits for news of the process */
            app_fixture_turns(&f, 2);
        }
        finish(); /* in flight */
    }
}

TEST(a_half_closed_client_is_told_behind_the_end_of_its_body)
{
    begin(10);
    CHECK(app_client_begin(&c, "GET", -1));
    exchange_client_half_closed(c.exchange); /* before it is placed */
    struct frame frame = app_link_take(&f, &w[0], FRAME_REQUEST);
    struct frame eof = app_link_take(&f, &w[0], FRAME_DISCONNECT);
    CHECK_EQ_INT(eof.code, FRAME_ERROR_CLIENT_EOF);
    app_link_answer(&f, &w[0], frame.stream, "still");
    CHECK(c.complete);
    CHECK_EQ_STR(strbuf_text(&c.body), "still");
    finish();
}

/* --- bad responses -------------------------------------------------------------------------------------------------------------- */

TEST(what_a_worker_does_wrong_costs_its_request_only)
{
    static const struct {
        unsigned status, flags;
        const char *payload;
        size_t length;
        unsigned expected;
    } rows[] = {
        {200, 0, "\xc0", 1, 502}, /* no array */
        {200, 0,
         "\x91\xc4\x03"
         "a\0b",
         6, 200}, /* the good one */
        {200, 0,
         "\x91\xc4\x04"
         "a\0b\0",
         7, 502}, /* an odd tail */
        {200, 0,
         "\x91\xc4\x04"
         "a\0\r\n",
         7, 502}, /* CR LF */
        {200, 0,
         "\x91\xc4\x05"
         "a b\0c",
         8, 502}, /* no token */
        {200, 1,
         "\x91\xc4\x10"
         "content-length\0"
         "5",
         19, 502}, /* promises and ends */
        {200, 0,
         "\x91\xc4\x10"
         "content-length\0"
         "x",
         19, 502}, /* no number */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(10);
        uint32_t id = request(&c, "GET", -1);
        say(id, FRAME_RESPONSE, rows[i].flags, rows[i].status, 0, rows[i].payload, rows[i].length);
        CHECK_EQ_INT(c.status, rows[i].expected);
        if (rows[i].expected == 502) {
            CHECK(c.complete);
            CHECK_EQ_INT(c.reason, END_WORKER_PROTOCOL);
            struct frame reset = app_link_take(&f, &w[0], FRAME_RESET);
            CHECK_EQ_INT(reset.type == FRAME_RESET, (rows[i].flags & FRAME_FLAG_END_STREAM) == 0);
            done(id);
            uint32_t next = request(&d, "GET", -1); /* the link lives */
            app_link_answer(&f, &w[0], next, "ok");
            CHECK(d.complete);
        }
        finish();
    }
}

TEST(a_body_longer_than_its_length_is_cut)
{
    begin(10);
    uint32_t id = request(&c, "GET", -1);
    say(id, FRAME_RESPONSE, 0, 200, 0,
        "\x91\xc4\x10"
        "content-length\0"
        "5",
        19);
    CHECK_EQ_INT(c.status, 200);
    say(id, FRAME_DATA, 0, 0, 0, "123456", 6);
    CHECK(c.aborted);
    CHECK_EQ_INT(c.reason, END_WORKER_PROTOCOL);
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_RESET).code, FRAME_ERROR_PROTOCOL);
    done(id);
    finish();
}

TEST(a_worker_that_gives_up_has_its_status)
{
    static const struct {
        enum frame_error code;
        unsigned status;
        enum end_reason reason;
    } rows[] = {{FRAME_ERROR_APP_EXCEPTION, 500, END_APP_EXCEPTION},
                {FRAME_ERROR_APP_INCOMPLETE, 500, END_APP_INCOMPLETE},
                {FRAME_ERROR_DRAINING, 503, END_SHUTDOWN},
                {FRAME_ERROR_HEADER_INVALID, 502, END_WORKER_PROTOCOL},
                {FRAME_ERROR_INTERNAL, 502, END_WORKER_PROTOCOL},
                {FRAME_ERROR_CANCEL, 502, END_WORKER_PROTOCOL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(10);
        uint32_t id = request(&c, "GET", -1);
        say(id, FRAME_RESET, FRAME_FLAG_DONE, rows[i].code, 0, NULL, 0);
        CHECK_EQ_INT(c.status, rows[i].status);
        CHECK_EQ_INT(c.reason, rows[i].reason);
        CHECK_EQ_INT(slots(), 0);
        id = request(&d, "GET", -1); /* after the head it is a cut */
        head(id, 200, 0);
        say(id, FRAME_RESET, FRAME_FLAG_DONE, rows[i].code, 0, NULL, 0);
        CHECK(d.aborted);
        finish();
    }
    begin(10); /* DONE without an answer */
    done(request(&c, "GET", -1));
    CHECK_EQ_INT(c.status, 500);
    CHECK_EQ_INT(c.reason, END_APP_INCOMPLETE);
    finish();
}

/* --- deadlines -------------------------------------------------------------------------------------------------------------------- */

static bool c_is_over(void)
{
    return c.exchange == NULL;
}

TEST(first_byte_is_504_and_tells_the_worker)
{
    app_fixture_init(&f, 1);
    f.http.first_byte = CLOCK_NS_PER_MS;
    start(10);
    uint32_t id = request(&c, "GET", -1);
    CHECK(app_fixture_until(&f, c_is_over));
    CHECK_EQ_INT(c.status, 504);
    CHECK_EQ_INT(c.reason, END_FIRST_BYTE_TIMEOUT);
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_RESET).code, FRAME_ERROR_DEADLINE);
    CHECK_EQ_INT(slots(), 1);
    done(id);
    finish();
}

TEST(request_deadline_counts_in_the_queue_too)
{
    app_fixture_init(&f, 1);
    f.http.request_deadline = CLOCK_NS_PER_MS;
    REQUIRE(app_fixture_start(&f));
    app_client_init(&f, &c, 0);
    CHECK(app_client_begin(&c, "GET", -1));
    CHECK(app_fixture_until(&f, c_is_over));
    CHECK_EQ_INT(c.status, 504);
    CHECK_EQ_INT(c.reason, END_REQUEST_DEADLINE);
    strbuf_done(&c.body);
    app_fixture_done(&f);
}

TEST(response_idle_cuts_a_silent_app_but_waits_for_a_slow_client)
{
    app_fixture_init(&f, 1);
    f.http.response_idle = 20 * CLOCK_NS_PER_MS;
    start(10);
    uint32_t id = request(&c, "GET", -1);
    c.slow = true;
    say(id, FRAME_RESPONSE, 0, 200, 3, "\x91\xc4\x00x", 4);
    uint64_t until = clock_now() + 60 * CLOCK_NS_PER_MS;
    while (clock_now() < until) {
        app_fixture_turns(&f, 1);
    }
    CHECK(!c.aborted);
    c.slow = false;
    CHECK(app_fixture_until(&f, c_is_over));
    CHECK(c.aborted);
    CHECK_EQ_INT(c.reason, END_RESPONSE_IDLE);
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_RESET).code, FRAME_ERROR_DEADLINE);
    done(id);
    finish();
}

/* --- what does not fit ------------------------------------------------------------------------------------------------------------- */

TEST(a_head_over_max_frame_is_431)
{
    static char value[70000];
    begin(10);
    memset(value, 'v', sizeof value);
    CHECK(app_client_begin(&c, "GET", -1));
    c.fields[1] = (struct field){SLICE("x"), {value, sizeof value}};
    c.exchange->request.field_count = 2;
    app_fixture_turns(&f, 3);
    CHECK_EQ_INT(c.status, 431);
    CHECK(c.complete);
    CHECK_EQ_INT(slots(), 0);
    finish();
}

TEST(a_stop_with_everything_in_flight_leaves_nothing)
{
    static struct app_client many[40];
    begin(10);
    for (size_t i = 0; i < 40; i++) {
        app_client_init(&f, &many[i], 0);
        CHECK(app_client_begin(&many[i], "POST", 1000));
        (void)app_client_body(&many[i], 300, false);
    }
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(slots(), 10);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 30);
    head(1, 200, 0);
    head(2, 200, FRAME_FLAG_END_STREAM);
    say(3, FRAME_DATA, 0, 0, 0, "x", 1); /* breaks the protocol in the end */
    app_fixture_turns(&f, 2);
    for (size_t i = 0; i < 40; i++) {
        strbuf_done(&many[i].body);
    }
    finish();
}

CHECK_MAIN
