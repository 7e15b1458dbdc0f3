/* SPDX-License-Identifier: MIT */
/* app/pool.c and pool_links.c: choosing, the queue and its bounds, several loops, workers that come and go. */
#include "check.h"

#include <unistd.h>

#include "app/pool_links.h"
#include "app_fixture.h"
#include "base/clock.h"
#include "base/metrics.h"

#define CLIENTS 300

static struct app_fixture f;
static struct app_link w[APP_LOOPS], v[APP_LOOPS];
static struct app_client clients[CLIENTS];
static unsigned loops;

static void begin(unsigned loop_count)
{
    loops = loop_count;
    app_fixture_init(&f, loop_count);
    for (unsigned i = 0; i < loops; i++) {
        w[i].fd = w[i].page_fd = v[i].fd = v[i].page_fd = -1;
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        app_client_init(&f, &clients[i], 0);
    }
}

static void start(void)
{
    CHECK(app_fixture_start(&f));
}

static void finish(void)
{
    for (unsigned i = 0; i < loops; i++) {
        app_link_close(&w[i]);
        app_link_close(&v[i]);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        strbuf_done(&clients[i].body);
    }
    app_fixture_done(&f);
}

static void ask(size_t index, unsigned loop)
{
    clients[index].loop = loop;
    CHECK(app_client_begin(&clients[index], "GET", -1));
}

static unsigned requests_at(struct app_link *link)
{
    unsigned count = 0;
    while (app_link_next(link, FRAME_REQUEST).type == FRAME_REQUEST) {
        count++;
    }
    return count;
}

static void done(struct app_link *link, uint32_t stream)
{
    app_link_say(&f, link, (struct frame){.type = FRAME_DONE, .stream = stream}, NULL, 0);
}

/* --- one loop -------------------------------------------------------------------------------------------------------------- */

TEST(all_requests_of_a_turn_leave_in_one_write)
{
    begin(1);
    start();
    app_worker_up(&f, w, 'a', 100);
    (void)app_link_next(&w[0], 0);
    int64_t writes = metrics_sum(METRIC_ipc_writes);
    for (size_t i = 0; i < 20; i++) {
        ask(i, 0);
    }
    app_fixture_turns(&f, 1);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_writes) - writes, 1);
    CHECK_EQ_INT(requests_at(&w[0]), 20);
    finish();
}

TEST(the_least_loaded_worker_is_chosen)
{
    begin(1);
    start();
    app_worker_up(&f, w, 'a', 10);
    app_worker_up(&f, v, 'b', 30);
    for (size_t i = 0; i < 20; i++) {
        ask(i, 0);
        app_fixture_turns(&f, 1);
    }
    unsigned first = requests_at(&w[0]), second = requests_at(&v[0]);
    CHECK_EQ_INT(first + second, 20);
    CHECK(first >= 4 && first <= 6); /* by the share of its capacity that is taken */
    finish();
}

TEST(the_queue_is_bounded_and_told)
{
    begin(1);
    f.app.queue_max = 3;
    start();
    int64_t full = metrics_sum(METRIC_queue_full);
    for (size_t i = 0; i < 5; i++) {
        ask(i, 0);
    }
    app_fixture_turns(&f, 1);
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQ_INT(clients[i].status, i < 3 ? 0 : 503); /* the last ones have no place */
    }
    CHECK_EQ_INT(clients[4].reason, END_QUEUE_FULL);
    CHECK_EQ_INT(metrics_sum(METRIC_queue_full) - full, 2);
    finish();
}

static bool first_is_over(void)
{
    return clients[0].exchange == NULL;
}

TEST(waiting_ends_at_queue_timeout)
{
    begin(1);
    f.app.queue_timeout = CLOCK_NS_PER_MS;
    start();
    ask(0, 0);
    CHECK(app_fixture_until(&f, first_is_over));
    CHECK_EQ_INT(clients[0].status, 503);
    CHECK_EQ_INT(clients[0].reason, END_NO_WORKER);
    finish();

    begin(1);
    f.app.queue_timeout = CLOCK_NS_PER_MS;
    start();
    app_worker_up(&f, w, 'a', 1);
    ask(1, 0);
    app_fixture_turns(&f, 1);
    ask(0, 0);
    CHECK(app_fixture_until(&f, first_is_over));
    CHECK_EQ_INT(clients[0].reason, END_QUEUE_TIMEOUT); /* a worker is there, but busy */
    finish();
}

TEST(waiters_are_served_in_the_order_in_which_they_came)
{
    begin(1);
    start();
    app_worker_up(&f, w, 'a', 1);
    for (size_t i = 0; i < 5; i++) {
        ask(i, 0);
        app_fixture_turns(&f, 1);
    }
    for (uint32_t i = 0; i < 5; i++) {
        char text[2] = {(char)('0' + (char)i), '\0'};
        CHECK_EQ_INT(requests_at(&w[0]), 1);
        app_link_answer(&f, &w[0], i + 1, text);
        CHECK(clients[i].complete);
        CHECK_EQ_STR(strbuf_text(&clients[i].body), text);
    }
    finish();
}

/* A worker with three requests is lost: they come back before what waited, in their order. */
TEST(lost_requests_go_by_their_age)
{
    begin(1);
    start();
    CHECK_EQ_INT(app_link_dial_child(&f, &w[0], 'a', 3).type, FRAME_HELLO_ACK);
    app_link_say(&f, &w[0], (struct frame){.type = FRAME_READY}, NULL, 0);
    for (size_t i = 0; i < 5; i++) {
        ask(i, 0);
        app_fixture_turns(&f, 1);
    }
    app_link_kill(&w[0], 0);
    app_fixture_turns(&f, 3);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 5);
    app_worker_up(&f, v, 'b', 1);
    for (uint32_t i = 0; i < 5; i++) {
        app_link_answer(&f, &v[0], i + 1, "");
        CHECK(clients[i].complete);
        CHECK(i == 4 || !clients[i + 1].complete);
    }
    finish();
}

TEST(who_was_with_a_worker_has_a_place_in_a_full_queue)
{
    begin(1);
    f.app.queue_max = 1;
    start();
    CHECK_EQ_INT(app_link_dial_child(&f, &w[0], 'a', 2).type, FRAME_HELLO_ACK);
    app_link_say(&f, &w[0], (struct frame){.type = FRAME_READY}, NULL, 0);
    for (size_t i = 0; i < 3; i++) {
        ask(i, 0);
        app_fixture_turns(&f, 1);
    }
    app_link_kill(&w[0], 0);
    app_fixture_turns(&f, 3);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 3);
    finish();
}

TEST(an_unresponsive_worker_gets_nothing_until_it_answers)
{
    begin(1);
    f.ipc.ping_interval = CLOCK_NS_PER_MS;
    f.ipc.unresponsive_after = 1;
    start();
    app_worker_up(&f, w, 'a', 10);
    struct frame ping = {.type = 0};
    int64_t late = metrics_sum(METRIC_ipc_unresponsive);
    uint64_t deadline = clock_now() + 10 * CLOCK_NS_PER_S;
    while (metrics_sum(METRIC_ipc_unresponsive) == late && clock_now() < deadline) {
        struct frame frame = app_link_take(&f, &w[0], FRAME_PING);
        ping = frame.type == FRAME_PING ? frame : ping;
    }
    ask(0, 0);
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_REQUEST).type, 0);
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 1);
    f.ipc.unresponsive_after = 60 * CLOCK_NS_PER_S;
    app_link_say(&f, &w[0], (struct frame){.type = FRAME_PONG, .aux = ping.aux}, NULL, 0);
    CHECK_EQ_INT(app_link_take(&f, &w[0], FRAME_REQUEST).type, FRAME_REQUEST);
    finish();
}

/* --- several loops ----------------------------------------------------------------------------------------------------------- */

TEST(a_worker_is_ready_when_each_loop_has_its_link)
{
    begin(3);
    start();
    for (unsigned i = 0; i < 3; i++) {
        struct frame frame = app_link_dial(&f, &w[i], 'a', i, i == 0 ? NULL : w[0].token, 10);
        CHECK_EQ_INT(frame.type, FRAME_HELLO_ACK);
    }
    ask(0, 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ_INT(metrics_sum(METRIC_workers_ready), 0);
        CHECK_EQ_INT(requests_at(&w[0]), 0);
        app_link_say(&f, &w[i], (struct frame){.type = FRAME_READY}, NULL, 0);
    }
    CHECK_EQ_INT(metrics_sum(METRIC_workers_ready), 1);
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(requests_at(&w[0]), 1);
    ask(1, 2);
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(requests_at(&w[2]), 1); /* each loop over its own link */
    finish();
}

TEST(a_free_slot_goes_to_the_loop_that_waits_longest)
{
    begin(3);
    start();
    app_worker_up(&f, w, 'a', 1);
    ask(0, 0);
    app_fixture_turns(&f, 1);
    CHECK_EQ_INT(requests_at(&w[0]), 1);
    static const unsigned order[] = {2, 1, 0, 2, 1};
    uint32_t next[3] = {2, 1, 1};
    for (size_t i = 0; i < 5; i++) {
        ask(i + 1, order[i]);
        app_fixture_turns(&f, 1);
    }
    CHECK_EQ_INT(metrics_sum(METRIC_requests_waiting), 5);
    app_link_answer(&f, &w[0], 1, "");
    for (size_t i = 0; i < 5; i++) {
        app_fixture_turns(&f, 3);
        unsigned loop = order[i];
        CHECK_EQ_INT(requests_at(&w[loop]), 1);
        app_link_answer(&f, &w[loop], next[loop]++, "");
        CHECK(clients[i + 1].complete);
    }
    finish();
}

/* Two slots for two loops that both wait: whoever looks first must not keep the other asleep. */
TEST(free_slots_reach_all_loops_that_wait)
{
    for (unsigned capacity = 1; capacity <= 4; capacity++) {
        begin(2);
        start();
        for (size_t i = 0; i < 8; i++) {
            ask(i, i % 3 == 0);
            app_fixture_turns(&f, 1);
        }
        app_worker_up(&f, w, 'a', capacity);
        app_fixture_turns(&f, 4);
        CHECK_EQ_INT(requests_at(&w[0]) + requests_at(&w[1]), capacity);
        CHECK_EQ_INT(metrics_sum(METRIC_slots_taken), capacity);
        finish();
    }
}

static bool second_has_its_request(void)
{
    return requests_at(&w[1]) > 0;
}

/* The oldest expires: those who gave way to it must hear of it. */
TEST(a_waiter_that_gives_up_lets_other_loops_go_on)
{
    begin(2);
    start();
    app_worker_up(&f, w, 'a', 1);
    ask(0, 1);
    app_fixture_turns(&f, 1);
    CHECK_EQ_INT(requests_at(&w[1]), 1);
    ask(1, 0);
    app_fixture_turns(&f, 1);
    ask(2, 1);
    app_fixture_turns(&f, 1);
    app_client_go(&clients[1]); /* in the same moment the slot is free, and loop 1 sees it first */
    done(&w[1], 1);
    CHECK(app_fixture_until(&f, second_has_its_request));
    finish();
}

/* A loop that lost its own link to a worker must not hold up those that have theirs. */
TEST(a_loop_without_a_usable_link_does_not_hold_others_back)
{
    begin(2);
    start();
    app_worker_up(&f, w, 'a', 10);
    struct pool *pool = f.apps->apps[0]->pools[0];
    struct pool_link *link = pool_link_list_first(&pool->links);
    channel_goaway(link->channel, FRAME_ERROR_RECONNECT); /* as when its ids are used up */
    atomic_store(&link->worker->in_loop[0].replaceable, true);
    app_fixture_turns(&f, 2);
    CHECK(pool_link_list_empty(&pool->links)); /* closed in order: no stream was open */
    CHECK_EQ_INT(metrics_sum(METRIC_workers_ready), 1);
    ask(0, 0); /* older, and without a way to the worker */
    app_fixture_turns(&f, 1);
    ask(1, 1);
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(requests_at(&w[1]), 1);
    struct frame frame = app_link_dial(&f, &v[0], 'a', 0, w[0].token, 10);
    CHECK_EQ_INT(frame.type, FRAME_HELLO_ACK);
    app_link_say(&f, &v[0], (struct frame){.type = FRAME_READY}, NULL, 0);
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(requests_at(&v[0]), 1); /* its waiter is woken by the new link */
    finish();
}

TEST(a_worker_lost_in_one_loop_is_lost_in_all)
{
    begin(4);
    start();
    app_worker_up(&f, w, 'a', 10);
    int64_t lost = metrics_sum(METRIC_workers_lost);
    ask(0, 3);
    app_fixture_turns(&f, 2);
    app_link_close(&w[1]);
    app_fixture_turns(&f, 4);
    CHECK_EQ_INT(metrics_sum(METRIC_workers_lost) - lost, 1);
    struct frame frame = app_link_next(&w[3], FRAME_CHANNEL_ERROR);
    CHECK_EQ_INT(frame.code, FRAME_ERROR_WORKER_LOST);
    CHECK(app_link_next(&w[0], FRAME_CHANNEL_ERROR).type == FRAME_CHANNEL_ERROR);
    CHECK_EQ_INT(metrics_sum(METRIC_workers_ready), 0);
    finish();
}

/* --- hellos -------------------------------------------------------------------------------------------------------------------- */

static enum frame_error refusal(struct app_link *link, char instance, unsigned channel,
                                const char *token)
{
    struct frame frame = app_link_dial(&f, link, instance, channel, token, 10);
    enum frame_error code =
        frame.type == FRAME_CHANNEL_ERROR ? (enum frame_error)frame.code : FRAME_ERROR_NO_ERROR;
    app_link_close(link);
    app_fixture_turns(&f, 3);
    return code;
}

TEST(hellos_are_judged)
{
    begin(2);
    start();
    CHECK_EQ_INT(refusal(&v[0], '!', 0, NULL), FRAME_ERROR_UNKNOWN_APP);
    CHECK_EQ_INT(refusal(&v[0], 'a', 2, "0123456789abcdef"), FRAME_ERROR_PROTOCOL);
    CHECK_EQ_INT(refusal(&v[0], 'a', 1, "0123456789abcdef"), FRAME_ERROR_RECONNECT);
    CHECK_EQ_INT(refusal(&v[0], 'b', 0, "0123456789abcdef"), FRAME_ERROR_NO_ERROR); /* R31 */
    app_worker_up(&f, w, 'a', 10);
    CHECK_EQ_INT(refusal(&v[0], 'a', 0, NULL), FRAME_ERROR_DUPLICATE);
    CHECK_EQ_INT(refusal(&v[0], 'a', 0, w[0].token), FRAME_ERROR_DUPLICATE);
    CHECK_EQ_INT(refusal(&v[0], 'a', 1, w[0].token), FRAME_ERROR_DUPLICATE);
    CHECK_EQ_INT(refusal(&v[0], 'a', 1, "0123456789abcdef"), FRAME_ERROR_RECONNECT);
    CHECK_EQ_INT(metrics_sum(METRIC_workers), 1);
    CHECK_EQ_INT(metrics_sum(METRIC_workers_ready), 1);
    finish();
}

TEST(a_lost_instance_begins_again)
{
    begin(2);
    start();
    app_worker_up(&f, w, 'a', 10);
    char token[16];
    memcpy(token, w[0].token, sizeof token);
    app_link_close(&w[0]);
    app_fixture_turns(&f, 4);
    app_link_close(&w[1]);
    CHECK_EQ_INT(metrics_sum(METRIC_workers), 0);
    CHECK_EQ_INT(refusal(&v[0], 'a', 1, token), FRAME_ERROR_RECONNECT);
    app_worker_up(&f, w, 'a', 10);
    CHECK_EQ_INT(metrics_sum(METRIC_workers_ready), 1);
    CHECK(memcmp(token, w[0].token, sizeof token) != 0);
    finish();
}

TEST(links_are_bounded)
{
    begin(1);
    f.ipc.max_links = 1;
    start();
    app_worker_up(&f, w, 'a', 10);
    CHECK_EQ_INT(refusal(&v[0], 'b', 0, NULL), FRAME_ERROR_FULL);
    finish();
}

/* --- the end ------------------------------------------------------------------------------------------------------------------- */

/* A link that is lost while the process lives waits for its death: a stop must not wait for that. */
TEST(a_stop_ends_links_that_wait_for_a_death)
{
    begin(2);
    start();
    CHECK_EQ_INT(app_link_dial_child(&f, &w[0], 'a', 10).type, FRAME_HELLO_ACK);
    CHECK_EQ_INT(app_link_dial(&f, &w[1], 'a', 1, w[0].token, 10).type, FRAME_HELLO_ACK);
    app_link_say(&f, &w[0], (struct frame){.type = FRAME_READY}, NULL, 0);
    app_link_say(&f, &w[1], (struct frame){.type = FRAME_READY}, NULL, 0);
    ask(0, 0);
    app_fixture_turns(&f, 2);
    close(w[0].fd);
    w[0].fd = -1;
    app_fixture_turns(&f, 2);
    CHECK(clients[0].exchange != NULL); /* undecided, for 10 seconds */
    finish();
}

TEST(a_worker_in_the_middle_of_its_hellos_is_dropped_by_a_stop)
{
    begin(4);
    start();
    for (unsigned i = 0; i < 3; i++) {
        (void)app_link_dial(&f, &w[i], 'a', i, i == 0 ? NULL : w[0].token, 10);
    }
    ask(0, 3);
    finish();
}

TEST(requests_after_the_stop_are_told)
{
    begin(1);
    start();
    apps_stop_loop(f.apps, 0);
    ask(0, 0);
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(clients[0].status, 503);
    CHECK_EQ_INT(clients[0].reason, END_SHUTDOWN);
    finish();
}

CHECK_MAIN
