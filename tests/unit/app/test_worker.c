/* SPDX-License-Identifier: MIT */
/* app/worker.c: slots under contention, states, references, load. */
#include "check.h"

#include <pthread.h>

#include "app/app.h"
#include "app/worker.h"
#include "base/mem.h"
#include "base/metrics.h"

#define THREADS 4
#define ROUNDS 20000

static struct app app;
static struct worker *worker;
static _Atomic uint32_t taken, most, reserved;

static void make(uint32_t capacity)
{
    struct ipc_link link = {.pid = 0};
    atomic_store(&app.review_posted, true); /* there is no loop to be told */
    link.hello.pid = 77;
    link.hello.max_concurrency = capacity;
    link.hello.generation = SLICE("g1");
    memset(link.hello.instance, 7, sizeof link.hello.instance);
    worker = worker_new(&app, &link, 0, 2, 5);
    CHECK(worker != NULL);
}

static void *take_slots(void *unused)
{
    REQUIRE(metrics_register_thread() == ERROR_NONE);
    for (int i = 0; i < ROUNDS; i++) {
        if (!worker_reserve(worker)) {
            continue;
        }
        uint32_t now = atomic_fetch_add(&taken, 1) + 1;
        uint32_t before = atomic_load(&most);
        while (now > before && !atomic_compare_exchange_weak(&most, &before, now)) {
        }
        atomic_fetch_add(&reserved, 1);
        atomic_fetch_sub(&taken, 1);
        worker_release(worker);
    }
    return unused;
}

TEST(slots_are_never_more_than_its_capacity)
{
    pthread_t threads[THREADS];
    make(2);
    worker_set_state(worker, WORKER_READY);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, take_slots, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atomic_load(&most) <= 2);
    CHECK(atomic_load(&reserved) > 0);
    CHECK_EQ_INT(worker->in_flight, 0);
    CHECK_EQ_INT(metrics_sum(METRIC_slots_taken), 0);
    worker_set_state(worker, WORKER_GONE);
    worker_unref(worker);
}

TEST(only_a_ready_worker_gives_slots)
{
    make(1);
    CHECK(!worker_reserve(worker));
    worker_set_state(worker, WORKER_READY);
    CHECK(worker_reserve(worker));
    CHECK(!worker_reserve(worker));
    worker_set_state(worker, WORKER_DRAINING);
    worker_release(worker);
    CHECK(!worker_reserve(worker));
    worker_set_state(worker, WORKER_GONE);
    worker_unref(worker);
}

TEST(states_only_go_on_and_are_counted)
{
    make(1);
    CHECK_EQ_INT(worker_set_state(worker, WORKER_READY), WORKER_STARTING);
    CHECK_EQ_INT(app.deploy.slots[0].ready, 1);
    CHECK_EQ_INT(metrics_sum(METRIC_workers_ready), 1);
    CHECK_EQ_INT(worker_set_state(worker, WORKER_DRAINING), WORKER_READY);
    CHECK_EQ_INT(app.deploy.slots[0].ready, 0);
    CHECK_EQ_INT(worker_set_state(worker, WORKER_READY), WORKER_DRAINING);
    CHECK_EQ_INT(worker_get_state(worker), WORKER_DRAINING);
    CHECK_EQ_INT(worker_set_state(worker, WORKER_GONE), WORKER_DRAINING);
    CHECK_EQ_INT(worker_set_state(worker, WORKER_READY), WORKER_GONE);
    CHECK_EQ_INT(worker_get_state(worker), WORKER_GONE);
    CHECK_EQ_INT(metrics_sum(METRIC_workers_ready), 0);
    CHECK_EQ_STR(worker_state_name(WORKER_GONE), "gone");
    worker_unref(worker);
}

TEST(references_keep_it)
{
    uint64_t live = mem_live();
    make(1);
    CHECK_EQ_INT(metrics_sum(METRIC_workers), 1);
    CHECK(worker_ref(worker) == worker);
    worker_unref(worker);
    CHECK_EQ_INT(metrics_sum(METRIC_workers), 1);
    worker_unref(worker);
    CHECK_EQ_INT(metrics_sum(METRIC_workers), 0);
    CHECK_EQ_INT(mem_live(), live);
}

TEST(load_is_a_share_of_its_capacity_and_lag_adds_to_it)
{
    make(10);
    worker_set_state(worker, WORKER_READY);
    CHECK_EQ_INT(worker_load(worker), 0);
    CHECK(worker_reserve(worker));
    CHECK_EQ_INT(worker_load(worker), 100);
    atomic_store(&worker->lag_ns, UINT64_C(25000000)); /* 25 ms are two requests */
    CHECK_EQ_INT(worker_load(worker), 300);
    worker_release(worker);
    worker_set_state(worker, WORKER_GONE);
    worker_unref(worker);
}

TEST(what_a_worker_claims_is_bounded_and_marked)
{
    make(1);
    CHECK_EQ_INT(worker->pid, 77);
    CHECK(!worker->pid_from_kernel);
    CHECK_EQ_STR(worker->generation, "g1");
    CHECK_EQ_STR(worker->python, "");
    worker_unref(worker);
}

CHECK_MAIN
