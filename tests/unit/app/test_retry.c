/* SPDX-License-Identifier: MIT */
/* app/forward_retry.c: the retry table row by row (lifecycle), poison, budget, replay, GOAWAY, refusals. */
#include "check.h"

#include <unistd.h>

#include "app/forward.h"
#include "app_fixture.h"
#include "base/clock.h"
#include "base/metrics.h"

static struct app_fixture f;
static struct app_link w, v;
static struct app_client c;

static void begin(enum app_retry retry)
{
    app_fixture_init(&f, 1);
    f.app.retry = retry;
    CHECK(app_fixture_start(&f));
    app_client_init(&f, &c, 0);
}

/* A worker in a process of its own, so that its death is known. */
static void child_up(struct app_link *link, char instance, unsigned capacity)
{
    CHECK_EQ_INT(app_link_dial_child(&f, link, instance, capacity).type, FRAME_HELLO_ACK);
    app_link_say(&f, link, (struct frame){.type = FRAME_READY}, NULL, 0);
}

static void finish(void)
{
    strbuf_done(&c.body);
    app_link_close(&w);
    app_fixture_done(&f);
}

static bool c_is_over_or_waits(void)
{
    return c.exchange == NULL || metrics_sum(METRIC_requests_waiting) > 0;
}

static bool c_is_over(void)
{
    return c.exchange == NULL;
}

static void place(const char *method, int64_t length)
{
    CHECK(app_client_begin(&c, method, length));
    CHECK_EQ_INT(app_link_take(&f, &w, FRAME_REQUEST).type, FRAME_REQUEST);
}

/* The next worker answers what is left to be answered. */
static void answered_by_the_next(void)
{
    CHECK(c.exchange != NULL);
    app_worker_up(&f, &v, 'z', 10);
    struct frame frame = app_link_take(&f, &v, FRAME_REQUEST);
    CHECK_EQ_INT(frame.type, FRAME_REQUEST);
    app_link_answer(&f, &v, frame.stream, "again");
    CHECK(c.complete);
    CHECK_EQ_INT(c.status, 200);
    CHECK_EQ_INT(c.retries, 1);
    app_link_close(&v);
}

/* --- the table ---------------------------------------------------------------------------------------------------------- */

TEST(a_request_that_was_not_started_by_a_dead_worker_is_placed_again)
{
    static const char *const methods[] = {"GET", "POST", "PATCH"};
    for (int retry = APP_RETRY_UNSTARTED; retry <= APP_RETRY_IDEMPOTENT; retry++) {
        for (size_t i = 0; i < 3; i++) {
            int64_t before = metrics_sum(METRIC_retries_unstarted);
            begin((enum app_retry)retry);
            child_up(&w, 'a', 10);
            place(methods[i], -1);
            app_link_kill(&w, 0);
            CHECK(app_fixture_until(&f, c_is_over_or_waits));
            CHECK_EQ_INT(metrics_sum(METRIC_retries_unstarted) - before, 1);
            answered_by_the_next();
            finish();
        }
    }
}

TEST(started_requests_are_placed_again_as_retry_and_method_allow)
{
    static const struct {
        const char *method;
        enum app_retry retry;
        bool again;
    } rows[] = {
        {"GET", APP_RETRY_NEVER, false},        {"GET", APP_RETRY_UNSTARTED, false},
        {"GET", APP_RETRY_SAFE, true},          {"HEAD", APP_RETRY_SAFE, true},
        {"OPTIONS", APP_RETRY_SAFE, true},      {"PUT", APP_RETRY_SAFE, false},
        {"DELETE", APP_RETRY_SAFE, false},      {"POST", APP_RETRY_SAFE, false},
        {"GET", APP_RETRY_IDEMPOTENT, true},    {"PUT", APP_RETRY_IDEMPOTENT, true},
        {"DELETE", APP_RETRY_IDEMPOTENT, true}, {"POST", APP_RETRY_IDEMPOTENT, false},
        {"PATCH", APP_RETRY_IDEMPOTENT, false}, {"get", APP_RETRY_IDEMPOTENT, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(rows[i].retry);
        child_up(&w, 'a', 10);
        place(rows[i].method, -1);
        app_link_kill(&w, 1);
        CHECK(app_fixture_until(&f, c_is_over_or_waits));
        if (rows[i].again) {
            answered_by_the_next();
        } else {
            CHECK_EQ_INT(c.status, 502);
            CHECK_EQ_INT(c.reason, END_WORKER_LOST);
            CHECK_EQ_INT(c.retries, 0);
        }
        finish();
    }
}

TEST(nothing_is_placed_again_when_retry_is_never)
{
    begin(APP_RETRY_NEVER);
    child_up(&w, 'a', 10);
    place("GET", -1);
    app_link_kill(&w, 0);
    CHECK(app_fixture_until(&f, c_is_over));
    CHECK_EQ_INT(c.status, 502);
    finish();
}

TEST(a_worker_that_lives_counts_as_having_started)
{
    begin(APP_RETRY_SAFE);
    f.ipc.death_wait = CLOCK_NS_PER_MS;
    child_up(&w, 'a', 10);
    place("POST", -1);
    close(w.fd); /* the process goes on */
    w.fd = -1;
    CHECK(app_fixture_until(&f, c_is_over));
    CHECK_EQ_INT(c.status, 502);
    finish();
}

TEST(a_response_frame_ends_all_retries)
{
    begin(APP_RETRY_SAFE);
    child_up(&w, 'a', 10);
    place("GET", -1);
    app_link_say(
        &f, &w,
        (struct frame){
            .type = FRAME_RESPONSE, .flags = FRAME_FLAG_INFORMATIONAL, .code = 103, .stream = 1},
        "\x91\xc4\x00", 3);
    app_link_kill(&w, 1);
    CHECK(app_fixture_until(&f, c_is_over));
    CHECK_EQ_INT(c.status, 502);
    CHECK_EQ_INT(c.retries, 0);
    finish();

    begin(APP_RETRY_SAFE); /* the final head has gone out: a cut */
    child_up(&w, 'a', 10);
    place("GET", -1);
    app_link_say(&f, &w, (struct frame){.type = FRAME_RESPONSE, .code = 200, .stream = 1},
                 "\x91\xc4\x00", 3);
    app_link_kill(&w, 1);
    CHECK(app_fixture_until(&f, c_is_over));
    CHECK(c.aborted);
    CHECK_EQ_INT(c.reason, END_WORKER_LOST);
    finish();
}

TEST(a_request_may_cost_two_workers_and_no_third)
{
    int64_t poisonous = metrics_sum(METRIC_requests_poisonous);
    begin(APP_RETRY_SAFE);
    child_up(&w, 'a', 10);
    place("GET", -1);
    app_link_kill(&w, 1);
    CHECK(app_fixture_until(&f, c_is_over_or_waits));
    child_up(&w, 'b', 10);
    CHECK_EQ_INT(app_link_take(&f, &w, FRAME_REQUEST).type, FRAME_REQUEST);
    app_link_kill(&w, 1);
    CHECK(app_fixture_until(&f, c_is_over));
    CHECK_EQ_INT(c.status, 502);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_poisonous) - poisonous, 1);
    finish();
}

TEST(unstarted_losses_cost_no_try)
{
    begin(APP_RETRY_SAFE);
    for (int i = 0; i < 5; i++) {
        child_up(&w, (char)('a' + i), 10);
        if (i == 0) {
            place("POST", -1);
        } else {
            CHECK_EQ_INT(app_link_take(&f, &w, FRAME_REQUEST).type, FRAME_REQUEST);
        }
        app_link_kill(&w, 0);
        CHECK(app_fixture_until(&f, c_is_over_or_waits));
        CHECK(c.exchange != NULL);
    }
    CHECK_EQ_INT(c.exchange->retries, 5);
    app_client_go(&c);
    finish();
}

TEST(the_budget_bounds_started_retries)
{
    static struct app_client many[10];
    int64_t over = metrics_sum(METRIC_retries_over_budget);
    int64_t again = metrics_sum(METRIC_retries_started);
    begin(APP_RETRY_SAFE);
    child_up(&w, 'a', 20);
    for (size_t i = 0; i < 10; i++) {
        app_client_init(&f, &many[i], 0);
        CHECK(app_client_begin(&many[i], "GET", -1));
    }
    app_fixture_turns(&f, 2);
    app_link_kill(&w, 10);
    app_fixture_turns(&f, 3);
    CHECK_EQ_INT(metrics_sum(METRIC_retries_started) - again, 3); /* max(3, 20 % of 10) */
    CHECK_EQ_INT(metrics_sum(METRIC_retries_over_budget) - over, 7);
    for (size_t i = 0; i < 10; i++) {
        CHECK_EQ_INT(many[i].status, i < 3 ? 0 : 502);
        if (many[i].exchange != NULL) {
            app_client_go(&many[i]);
        }
        strbuf_done(&many[i].body);
    }
    finish();
}

/* --- bodies ---------------------------------------------------------------------------------------------------------------- */

TEST(a_body_is_replayed_from_its_beginning)
{
    begin(APP_RETRY_IDEMPOTENT);
    child_up(&w, 'a', 10);
    CHECK(app_client_begin(&c, "PUT", 40000));
    CHECK_EQ_INT(app_client_body(&c, 30000, false), 30000);
    app_fixture_turns(&f, 3);
    app_link_kill(&w, 1);
    CHECK(app_fixture_until(&f, c_is_over_or_waits));
    CHECK_EQ_INT(app_client_body(&c, 10000, true), 10000);
    child_up(&w, 'b', 10);
    struct frame frame = app_link_take(&f, &w, FRAME_REQUEST);
    CHECK_EQ_MEM(frame.payload.data + frame.aux, "body", 4);
    size_t got = frame.length - frame.aux;
    while ((frame = app_link_take(&f, &w, FRAME_DATA)).type == FRAME_DATA) {
        got += frame.length;
    }
    CHECK_EQ_INT(got, 40000);
    app_link_answer(&f, &w, 1, "");
    CHECK(c.complete);
    finish();
}

TEST(a_body_of_more_than_a_window_is_not_replayed)
{
    begin(APP_RETRY_IDEMPOTENT);
    child_up(&w, 'a', 10);
    CHECK(app_client_begin(&c, "PUT", 200000));
    CHECK_EQ_INT(app_client_body(&c, 65536, false), 65536);
    app_fixture_turns(&f, 3);
    app_link_say(&f, &w, (struct frame){.type = FRAME_WINDOW, .stream = 1, .aux = 65000}, NULL, 0);
    CHECK(app_client_body(&c, 65536, false) > 0);
    app_fixture_turns(&f, 3);
    app_link_kill(&w, 1);
    CHECK(app_fixture_until(&f, c_is_over));
    CHECK_EQ_INT(c.status, 502);
    finish();
}

/* --- GOAWAY, refusals ------------------------------------------------------------------------------------------------------- */

TEST(what_is_above_the_last_id_goes_elsewhere)
{
    static struct app_client d;
    int64_t lost = metrics_sum(METRIC_workers_lost);
    begin(APP_RETRY_SAFE);
    app_worker_up(&f, &w, 'a', 10);
    app_client_init(&f, &d, 0);
    place("POST", -1);
    CHECK(app_client_begin(&d, "POST", -1));
    CHECK_EQ_INT(app_link_take(&f, &w, FRAME_REQUEST).stream, 2);
    app_link_say(&f, &w,
                 (struct frame){.type = FRAME_GOAWAY, .code = FRAME_ERROR_DRAINING, .aux = 1}, NULL,
                 0);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 1);
    app_worker_up(&f, &v, 'b', 10);
    struct frame frame = app_link_take(&f, &v, FRAME_REQUEST);
    CHECK_EQ_INT(frame.type, FRAME_REQUEST);
    app_link_answer(&f, &v, frame.stream, "elsewhere");
    CHECK_EQ_STR(strbuf_text(&d.body), "elsewhere");
    app_link_answer(&f, &w, 1, "here"); /* what it has it finishes */
    CHECK_EQ_STR(strbuf_text(&c.body), "here");
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_workers_lost) - lost, 0);
    CHECK_EQ_INT(metrics_sum(METRIC_workers), 1); /* the first has gone in order */
    strbuf_done(&d.body);
    app_link_close(&v);
    finish();
}

static void refuse(struct app_link *link, uint32_t stream)
{
    app_link_say(
        &f, link,
        (struct frame){.type = FRAME_REFUSED, .code = FRAME_ERROR_REFUSED, .stream = stream}, NULL,
        0);
}

TEST(a_refused_request_goes_to_another_worker_at_once)
{
    begin(APP_RETRY_SAFE);
    app_worker_up(&f, &w, 'a', 10);
    place("POST", -1);
    app_worker_up(&f, &v, 'b', 10);
    refuse(&w, 1);
    struct frame frame = app_link_take(&f, &v, FRAME_REQUEST);
    CHECK_EQ_INT(frame.type, FRAME_REQUEST);
    CHECK_EQ_INT(app_link_next(&w, FRAME_REQUEST).type, 0);
    app_link_answer(&f, &v, frame.stream, "");
    CHECK(c.complete);
    app_link_close(&v);
    finish();
}

static struct frame found;

static bool w_has_a_request(void)
{
    found = app_link_next(&w, FRAME_REQUEST);
    return found.type == FRAME_REQUEST;
}

TEST(the_only_worker_is_tried_again_after_a_pause)
{
    begin(APP_RETRY_SAFE);
    app_worker_up(&f, &w, 'a', 10);
    place("POST", -1);
    uint64_t refused_at = clock_now();
    refuse(&w, 1);
    app_fixture_turns(&f, 3);
    CHECK(app_fixture_until(&f, w_has_a_request));
    CHECK(clock_now() - refused_at >= 49 * CLOCK_NS_PER_MS);
    app_link_answer(&f, &w, found.stream, "");
    CHECK(c.complete);
    finish();
}

/* Both refuse for ever: no hot loop between them, and an end. */
TEST(endless_refusals_end_with_the_queue_timeout)
{
    app_fixture_init(&f, 1);
    f.app.queue_timeout = 150 * CLOCK_NS_PER_MS;
    CHECK(app_fixture_start(&f));
    app_client_init(&f, &c, 0);
    app_worker_up(&f, &w, 'a', 10);
    app_worker_up(&f, &v, 'b', 10);
    CHECK(app_client_begin(&c, "GET", -1));
    unsigned refusals = 0;
    uint64_t deadline = clock_now() + 10 * CLOCK_NS_PER_S;
    while (c.exchange != NULL && clock_now() < deadline) {
        struct app_link *links[] = {&w, &v};
        for (int i = 0; i < 2; i++) {
            struct frame frame = app_link_take(&f, links[i], FRAME_REQUEST);
            if (frame.type == FRAME_REQUEST) {
                refusals++;
                refuse(links[i], frame.stream);
            }
        }
    }
    CHECK_EQ_INT(c.status, 503);
    CHECK(refusals >= 2 && refusals <= 12);
    app_link_close(&v);
    finish();
}

TEST(first_byte_does_not_run_in_the_queue_and_begins_anew)
{
    app_fixture_init(&f, 1);
    f.http.first_byte = 60 * CLOCK_NS_PER_S;
    CHECK(app_fixture_start(&f));
    app_client_init(&f, &c, 0);
    child_up(&w, 'a', 10);
    place("GET", -1);
    const struct forward *forward = c.exchange->worker_half;
    uint64_t first = forward->timer.at;
    CHECK(first > 0);
    app_link_kill(&w, 1);
    CHECK(app_fixture_until(&f, c_is_over_or_waits));
    CHECK(!loop_timer_is_set(&forward->timer));
    child_up(&w, 'b', 10);
    CHECK_EQ_INT(app_link_take(&f, &w, FRAME_REQUEST).type, FRAME_REQUEST);
    CHECK(forward->timer.at > first);
    app_client_go(&c);
    finish();
}

CHECK_MAIN
