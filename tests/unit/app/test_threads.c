/* SPDX-License-Identifier: MIT */
/*
 * Four loops in threads of their own, few slots that all of them want, workers that answer at once and one that dies: every
 * request has an answer, no wake-up is lost, nothing is left. Under ThreadSanitizer this is the test of what loops share.
 */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "app_fixture.h"
#include "base/clock.h"
#include "base/metrics.h"

#define WORKERS 3
#define AT_ONCE 8

static struct app_fixture f;
static struct app_link links[WORKERS][APP_LOOPS];
static _Atomic bool ending;
static _Atomic unsigned drivers_done;
static unsigned requests_each;

/* --- clients: one driver per loop ---------------------------------------------------------------------------------------- */

struct driver {
    struct loop_timer timer; /* looks after the clients */
    unsigned loop, begun, over, answered, failed;
    struct app_client clients[AT_ONCE];
};

static struct driver drivers[APP_LOOPS];

static void look_after(struct driver *driver, struct app_client *client)
{
    if (client->exchange != NULL) {
        app_client_take(client);
    }
    if (client->exchange == NULL && client->fixture != NULL) {
        driver->over++;
        driver->answered += client->status == 200;
        driver->failed += client->status != 200;
        strbuf_done(&client->body);
        client->fixture = NULL;
    }
    if (client->fixture == NULL && driver->begun < requests_each) {
        app_client_init(&f, client, driver->loop);
        driver->begun++;
        REQUIRE(app_client_begin(client, "GET", -1));
    }
}

static void drive(struct loop_timer *timer)
{
    struct driver *driver = LIST_CONTAINER(timer, struct driver, timer);
    for (size_t i = 0; i < AT_ONCE; i++) {
        look_after(driver, &driver->clients[i]);
    }
    if (driver->over < requests_each) {
        REQUIRE(loop_timer_set(timer, CLOCK_NS_PER_MS / 5) == ERROR_NONE);
    } else {
        atomic_fetch_add(&drivers_done, 1);
    }
}

/* --- workers --------------------------------------------------------------------------------------------------------------- */

struct answerer {
    unsigned index, mortal; /* mortal: dies after so many answers, 0: never */
    unsigned answers;
};

static void answer_all(struct answerer *answerer, struct app_link *link)
{
    struct frame frame;
    while ((frame = app_link_next(link, FRAME_REQUEST)).type == FRAME_REQUEST) {
        app_link_send(link,
                      (struct frame){.type = FRAME_RESPONSE,
                                     .flags = FRAME_FLAG_END_STREAM | FRAME_FLAG_DONE,
                                     .code = 200,
                                     .stream = frame.stream,
                                     .aux = 3},
                      "\x91\xc4\x00ok", 5);
        answerer->answers++;
    }
    link->count = link->next = 0;
    strbuf_clear(&link->payloads);
}

static void *run_worker(void *argument)
{
    struct answerer *answerer = argument;
    struct app_link *mine = links[answerer->index];
    REQUIRE(metrics_register_thread() == ERROR_NONE);
    while (!atomic_load(&ending) &&
           (answerer->mortal == 0 || answerer->answers < answerer->mortal)) {
        struct pollfd polls[APP_LOOPS];
        for (unsigned i = 0; i < f.loop_count; i++) {
            polls[i] = (struct pollfd){.fd = mine[i].fd, .events = POLLIN};
        }
        if (poll(polls, f.loop_count, 10) > 0) {
            for (unsigned i = 0; i < f.loop_count; i++) {
                answer_all(answerer, &mine[i]);
            }
        }
    }
    if (answerer->mortal != 0) {
        app_link_close(&mine[0]); /* the others are closed by the gateway */
    }
    return NULL;
}

/* --- orders to loops, as the server gives them ----------------------------------------------------------------------------- */

static struct mail orders[APP_LOOPS];
static _Atomic unsigned carried_out;

static void deliver_start(struct mail *mail, struct loop *loop)
{
    struct driver *driver = &drivers[loop_index(loop)];
    (void)mail;
    loop_timer_init(&driver->timer, loop, drive);
    drive(&driver->timer);
    atomic_fetch_add(&carried_out, 1);
}

static void deliver_stop(struct mail *mail, struct loop *loop)
{
    (void)mail;
    apps_stop_loop(f.apps, loop_index(loop));
    atomic_fetch_add(&carried_out, 1);
}

static void deliver_nothing(struct mail *mail, struct loop *loop)
{
    (void)mail;
    (void)loop;
    atomic_fetch_add(&carried_out, 1);
}

static void discard_order(struct mail *mail)
{
    (void)mail;
}

static void wait_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* Gives every loop the order and waits until all have carried it out. */
static void order(void (*deliver)(struct mail *mail, struct loop *loop))
{
    atomic_store(&carried_out, 0);
    for (unsigned i = 0; i < f.loop_count; i++) {
        orders[i] = (struct mail){.deliver = deliver, .discard = discard_order};
        mailbox_post(f.loops[i], &orders[i]);
    }
    while (atomic_load(&carried_out) < f.loop_count) {
        wait_a_moment();
    }
}

/* --- together --------------------------------------------------------------------------------------------------------------- */

static bool all_done_in_time(void)
{
    uint64_t deadline = clock_now() + 120 * CLOCK_NS_PER_S;
    while (atomic_load(&drivers_done) < f.loop_count && clock_now() < deadline) {
        wait_a_moment();
    }
    return atomic_load(&drivers_done) == f.loop_count;
}

static void *run_loop(void *loop)
{
    REQUIRE(loop_run(loop) == ERROR_NONE);
    return NULL;
}

static void stop_all(pthread_t threads[])
{
    order(deliver_stop);
    order(deliver_nothing);
    order(deliver_stop);
    order(deliver_nothing);
    order(deliver_nothing);
    for (unsigned i = 0; i < f.loop_count; i++) {
        loop_stop(f.loops[i]);
        pthread_join(threads[i], NULL);
    }
    f.threaded = false;
}

static void run(unsigned loops, unsigned each, unsigned capacity, unsigned mortal)
{
    pthread_t loop_threads[APP_LOOPS], worker_threads[WORKERS];
    static struct answerer answerers[WORKERS];
    app_fixture_init(&f, loops);
    f.ipc.death_wait = CLOCK_NS_PER_MS;
    requests_each = each;
    atomic_store(&ending, false);
    atomic_store(&drivers_done, 0);
    REQUIRE(app_fixture_start(&f));
    f.threaded = true;
    for (unsigned i = 0; i < loops; i++) {
        drivers[i] = (struct driver){.loop = i};
        REQUIRE(pthread_create(&loop_threads[i], NULL, run_loop, f.loops[i]) == 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        app_worker_up(&f, links[i], (char)('a' + (char)i), capacity);
        answerers[i] = (struct answerer){.index = i, .mortal = i == 0 ? mortal : 0};
        REQUIRE(pthread_create(&worker_threads[i], NULL, run_worker, &answerers[i]) == 0);
    }
    order(deliver_start);
    bool in_time = all_done_in_time();
    atomic_store(&ending, true);
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(worker_threads[i], NULL);
    }
    CHECK(in_time);
    stop_all(loop_threads);
    for (unsigned i = 0; i < WORKERS; i++) {
        for (unsigned k = 0; k < loops; k++) {
            app_link_close(&links[i][k]);
        }
    }
}

static void count(unsigned loops, unsigned each, unsigned lost_at_most)
{
    for (unsigned i = 0; i < loops; i++) {
        CHECK_EQ_INT(drivers[i].answered + drivers[i].failed, each);
        CHECK(drivers[i].failed <= lost_at_most);
    }
    f.live = 0; /* each thread's metrics shard stays */
}

TEST(every_request_of_every_loop_is_answered)
{
    run(4, 800, 1, 0);
    count(4, 800, 0);
    app_fixture_done(&f);
}

TEST(a_worker_that_dies_costs_at_most_what_it_had)
{
    run(4, 500, 2, 300);
    count(4, 500, 2);
    app_fixture_done(&f);
}

CHECK_MAIN
