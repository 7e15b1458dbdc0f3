/* SPDX-License-Identifier: MIT */
/* The shared record of a worker process: references, state, slots. It must not know links or loops. */
#include "app/worker.h"

#include "app/app.h"
#include "app/app_deploy.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/metrics.h"

#define WORKER_MAGIC UINT32_C(0x574f524b)
#define LAG_PER_REQUEST_NS UINT64_C(10000000)

static _Atomic uint64_t last_serial;

static void copy_text(char *out, size_t size, struct slice text)
{
    size_t length = text.length < size - 1 ? text.length : size - 1;
    if (length > 0) {
        memcpy(out, text.data, length);
    }
    out[length] = '\0';
}

struct worker *worker_new(struct app *app, const struct ipc_link *link, uint32_t slot,
                          unsigned loops, uint64_t now)
{
    struct worker *worker = mem_calloc(1, sizeof *worker + loops * sizeof worker->in_loop[0]);
    if (worker == NULL) {
        return NULL;
    }
    worker->magic = WORKER_MAGIC;
    worker->serial = atomic_fetch_add_explicit(&last_serial, 1, memory_order_relaxed) + 1;
    atomic_init(&worker->references, 1);
    worker->app = app;
    memcpy(worker->instance, link->hello.instance, sizeof worker->instance);
    random_bytes(worker->token, sizeof worker->token);
    worker->pid_from_kernel = link->pid > 0;
    worker->pid = link->pid > 0 ? link->pid : (pid_t)link->hello.pid;
    worker->uid = link->uid;
    worker->capacity = link->hello.max_concurrency;
    worker->connected_at = now;
    worker->slot = slot;
    copy_text(worker->generation, sizeof worker->generation, link->hello.generation);
    copy_text(worker->python, sizeof worker->python, link->hello.python);
    copy_text(worker->version, sizeof worker->version, link->hello.worker_version);
    METRIC_INCREMENT(workers);
    return worker;
}

struct worker *worker_ref(struct worker *worker)
{
    REQUIRE_OBJECT(worker, WORKER_MAGIC);
    atomic_fetch_add_explicit(&worker->references, 1, memory_order_relaxed);
    return worker;
}

void worker_unref(struct worker *worker)
{
    REQUIRE_OBJECT(worker, WORKER_MAGIC);
    if (atomic_fetch_sub_explicit(&worker->references, 1, memory_order_acq_rel) == 1) {
        worker->magic = MAGIC_FREED;
        METRIC_DECREMENT(workers);
        mem_free(worker->last_error);
        mem_free(worker);
    }
}

enum worker_state worker_set_state(struct worker *worker, enum worker_state state)
{
    REQUIRE_OBJECT(worker, WORKER_MAGIC);
    _Atomic uint32_t *ready = &worker->app->deploy.slots[worker->slot].ready;
    int before = atomic_load_explicit(&worker->state, memory_order_acquire);
    do {
        if (before == WORKER_GONE || (before == WORKER_DRAINING && state != WORKER_GONE)) {
            return (enum worker_state)before;
        }
    } while (!atomic_compare_exchange_weak_explicit(&worker->state, &before, (int)state,
                                                    memory_order_acq_rel, memory_order_acquire));
    if (before != WORKER_READY && state == WORKER_READY) {
        METRIC_INCREMENT(workers_ready);
        atomic_fetch_add_explicit(ready, 1, memory_order_relaxed);
    } else if (before == WORKER_READY && state != WORKER_READY) {
        METRIC_DECREMENT(workers_ready);
        atomic_fetch_sub_explicit(ready, 1, memory_order_relaxed);
    }
    if (before != (int)state) {
        app_deploy_look(worker->app);
    }
    return (enum worker_state)before;
}

const char *worker_state_name(enum worker_state state)
{
    static const char *const names[] = {"starting", "ready", "draining", "gone"};
    REQUIRE((unsigned)state < sizeof names / sizeof names[0]);
    return names[state];
}

const char *worker_condition(const struct worker *worker)
{
    enum worker_state state = worker_get_state(worker);
    const struct app *app = worker->app;
    if (state == WORKER_READY &&
        (atomic_load(&worker->unresponsive) ||
         health_is_clogged(atomic_load(&worker->abandoned), worker->capacity))) {
        return "unresponsive";
    }
    if (state == WORKER_READY && health_is_ejected(&worker->health, clock_now())) {
        return "ejected";
    }
    if (state == WORKER_READY &&
        (atomic_load(&app->paused) || worker->slot != atomic_load(&app->deploy.serving))) {
        return "paused";
    }
    return worker_state_name(state);
}

bool worker_reserve(struct worker *worker)
{
    return worker_reserve_below(worker, worker->capacity);
}

bool worker_reserve_below(struct worker *worker, uint32_t most)
{
    if (worker_get_state(worker) != WORKER_READY) {
        return false;
    }
    uint32_t taken = atomic_load_explicit(&worker->in_flight, memory_order_relaxed);
    do {
        if (taken >= most) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&worker->in_flight, &taken, taken + 1,
                                                    memory_order_acq_rel, memory_order_relaxed));
    METRIC_INCREMENT(slots_taken);
    return true;
}

void worker_take_slot(struct worker *worker)
{
    atomic_fetch_add_explicit(&worker->in_flight, 1, memory_order_acq_rel);
    METRIC_INCREMENT(slots_taken);
}

void worker_release(struct worker *worker)
{
    /* Sequentially consistent: publish_oldest in pool.c says why. */
    uint32_t before = atomic_fetch_sub(&worker->in_flight, 1);
    REQUIRE(before > 0);
    METRIC_DECREMENT(slots_taken);
}

uint64_t worker_load(const struct worker *worker)
{
    uint64_t in_flight = atomic_load_explicit(&worker->in_flight, memory_order_relaxed);
    uint64_t lag = atomic_load_explicit(&worker->lag_ns, memory_order_relaxed);
    return (in_flight + lag / LAG_PER_REQUEST_NS) * 1000 / worker->capacity;
}
