/* SPDX-License-Identifier: MIT */
/* app/pool_choose.c: two at random above 16 workers, the ramp of new ones, and who is a last resort. */
#include "check.h"

#include "app/pool_links.h"
#include "app_fixture.h"
#include "base/clock.h"
#include "base/metrics.h"

#define WORKERS 24
#define CLIENTS 300

static struct app_fixture f;
static struct app_link links[WORKERS];
static struct app_client clients[CLIENTS];
static size_t asked;

static void begin(uint64_t slow_start)
{
    app_fixture_init(&f, 1);
    f.app.slow_start = slow_start;
    f.app.queue_max = CLIENTS;
    asked = 0;
    for (size_t i = 0; i < WORKERS; i++) {
        links[i].fd = links[i].page_fd = -1;
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        app_client_init(&f, &clients[i], 0);
    }
    CHECK(app_fixture_start(&f));
}

static void finish(void)
{
    for (size_t i = 0; i < WORKERS; i++) {
        app_link_close(&links[i]);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        strbuf_done(&clients[i].body);
    }
    app_fixture_done(&f);
}

static void ask(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        CHECK(app_client_begin(&clients[asked++], "GET", -1));
        app_fixture_turns(&f, 1);
    }
}

static unsigned take_requests(struct app_link *link)
{
    unsigned count = 0;
    while (app_link_next(link, FRAME_REQUEST).type == FRAME_REQUEST) {
        count++;
    }
    return count;
}

/* The worker behind a link of the script. */
static struct worker *worker_of(char instance)
{
    LIST_EACH(worker_list, &f.apps->apps[0]->workers, struct worker, worker)
    {
        if (worker->instance[0] == (uint8_t)instance) {
            return worker;
        }
    }
    CHECK(false);
    return NULL;
}

TEST(above_sixteen_the_better_of_two)
{
    unsigned most = 0, least = UINT32_MAX, sum = 0;
    begin(0);
    for (size_t i = 0; i < WORKERS; i++) {
        app_worker_up(&f, &links[i], (char)('a' + i), 1000);
    }
    ask(240);
    for (size_t i = 0; i < WORKERS; i++) {
        unsigned count = take_requests(&links[i]);
        most = count > most ? count : most;
        least = count < least ? count : least;
        sum += count;
    }
    CHECK_EQ_INT(sum, 240);
    CHECK(most <= 20 && least >= 2); /* 10 on average; at random it would be 20 and more */
    app_link_close(&links[3]);       /* the table closes the gap */
    app_fixture_turns(&f, 3);
    ask(20);
    finish();
}

TEST(the_last_slot_of_many_workers_is_found)
{
    begin(0);
    for (size_t i = 0; i < WORKERS; i++) {
        app_worker_up(&f, &links[i], (char)('a' + i), 1);
    }
    ask(WORKERS);
    for (size_t i = 0; i < WORKERS; i++) {
        CHECK_EQ_INT(take_requests(&links[i]), 1);
    }
    ask(1);
    CHECK_EQ_INT(f.apps->apps[0]->waiting, 1);
    finish();
}

TEST(a_new_worker_beside_a_steady_one)
{
    begin(3600 * CLOCK_NS_PER_S);
    app_worker_up(&f, &links[0], 'a', 100);
    ask(10);
    CHECK_EQ_INT(take_requests(&links[0]), 10); /* alone it is given all */
    worker_of('a')->ready_at -= 3600 * CLOCK_NS_PER_S;
    app_worker_up(&f, &links[1], 'b', 100);
    ask(20);
    CHECK_EQ_INT(take_requests(&links[1]), 1);
    worker_of('b')->ready_at -= 1800 * CLOCK_NS_PER_S; /* half an hour later */
    ask(100);
    CHECK_EQ_INT(take_requests(&links[1]), 49);
    finish();
}

TEST(nobody_waits_because_a_worker_is_new)
{
    begin(3600 * CLOCK_NS_PER_S);
    app_worker_up(&f, &links[0], 'a', 2);
    worker_of('a')->ready_at -= 3600 * CLOCK_NS_PER_S;
    app_worker_up(&f, &links[1], 'b', 100);
    ask(10);
    CHECK_EQ_INT(take_requests(&links[0]), 2);
    CHECK_EQ_INT(take_requests(&links[1]), 8);
    finish();
}

TEST(two_new_ones_are_given_all)
{
    begin(3600 * CLOCK_NS_PER_S);
    app_worker_up(&f, &links[0], 'a', 10);
    app_worker_up(&f, &links[1], 'b', 10);
    ask(20);
    CHECK_EQ_INT(take_requests(&links[0]) + take_requests(&links[1]), 20);
    finish();
}

/* A head that is no msgpack costs the request only. */
static void answer_badly(struct app_link *link)
{
    struct frame request = app_link_take(&f, link, FRAME_REQUEST);
    CHECK_EQ_INT(request.type, FRAME_REQUEST);
    app_link_say(&f, link,
                 (struct frame){.type = FRAME_RESPONSE,
                                .flags = FRAME_FLAG_END_STREAM | FRAME_FLAG_DONE,
                                .code = 200,
                                .stream = request.stream},
                 "\x91\xc4\x05xx", 5);
}

static bool first_has_one(void)
{
    return worker_of('a')->in_flight == 1;
}

TEST(five_bad_answers_eject)
{
    begin(0);
    app_worker_up(&f, &links[0], 'a', 100);
    for (unsigned i = 0; i < 6; i++) {
        ask(1);
        answer_badly(&links[0]);
        CHECK_EQ_INT(clients[asked - 1].status, 502);
    }
    CHECK_EQ_INT(worker_of('a')->health.ejections, 0); /* never the last one */
    app_worker_up(&f, &links[1], 'b', 1);
    worker_of('b')->in_flight = 1; /* so that the next one goes to the first */
    ask(1);
    worker_of('b')->in_flight = 0;
    int64_t ejected = metrics_sum(METRIC_workers_ejected);
    answer_badly(&links[0]);
    CHECK_EQ_INT(metrics_sum(METRIC_workers_ejected) - ejected, 1);
    CHECK_EQ_STR(worker_condition(worker_of('a')), "ejected");
    ask(2);
    CHECK_EQ_INT(take_requests(&links[1]), 1);
    CHECK_EQ_INT(take_requests(&links[0]), 0); /* one waits rather than going there */
    app_link_close(&links[1]);
    CHECK(app_fixture_until(&f, first_has_one)); /* the only one is better than none */
    finish();
}

TEST(an_ejection_ends_by_itself)
{
    begin(0);
    app_worker_up(&f, &links[0], 'a', 100);
    app_worker_up(&f, &links[1], 'b', 1);
    worker_of('a')->health.until = UINT64_MAX;
    ask(2);
    CHECK_EQ_INT(f.apps->apps[0]->waiting, 1);
    worker_of('a')->health.until = 1;
    CHECK(app_fixture_until(&f, first_has_one));
    finish();
}

TEST(abandoned_streams_make_a_last_resort)
{
    begin(0);
    app_worker_up(&f, &links[0], 'a', 4);
    ask(2);
    CHECK_EQ_INT(take_requests(&links[0]), 2);
    app_client_go(&clients[0]);
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(worker_of('a')->abandoned, 1);
    CHECK_EQ_STR(worker_condition(worker_of('a')), "ready");
    app_client_go(&clients[1]);
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(worker_of('a')->abandoned, 2);
    CHECK_EQ_STR(worker_condition(worker_of('a')), "unresponsive");
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_streams_abandoned), 2);
    ask(1);
    CHECK_EQ_INT(take_requests(&links[0]), 1); /* nobody else is there */
    app_worker_up(&f, &links[1], 'b', 1);
    ask(2);
    CHECK_EQ_INT(take_requests(&links[1]), 1);
    CHECK_EQ_INT(take_requests(&links[0]), 0);
    app_link_say(&f, &links[0], (struct frame){.type = FRAME_DONE, .stream = 1}, NULL, 0);
    CHECK_EQ_INT(worker_of('a')->abandoned, 1);
    app_fixture_turns(&f, 2);
    CHECK_EQ_INT(take_requests(&links[0]), 1); /* its task has ended: it is as good as any */
    finish();
}

CHECK_MAIN
