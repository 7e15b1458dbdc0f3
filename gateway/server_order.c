/* SPDX-License-Identifier: MIT */
/* The main thread's side of orders: each is posted to every loop and waited for. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server_loop.h"

/* A loop that does not answer an order for so long hangs: a bug, which must not keep the process
 * alive. */
#define ANSWER_TIMEOUT_S 10

_Noreturn void server_give_up(const char *why)
{
    log_error("server", "%s: ending without clean-up", why);
    log_stop();
    _exit(EXIT_FAILURE);
}

void server_wake(struct server *server)
{
    uint64_t one = 1;

    while (write(server->answer_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

static void begin(struct server *server, enum server_order order)
{
    atomic_store(&server->unanswered, server->loop_count);
    for (unsigned i = 0; i < server->loop_count; i++) {
        server_loop_order(&server->loops[i], order);
    }
}

static void await_answers(struct server *server)
{
    uint64_t deadline = clock_now() + ANSWER_TIMEOUT_S * CLOCK_NS_PER_S;
    uint64_t count;

    while (atomic_load(&server->unanswered) > 0) {
        struct pollfd answer = {.fd = server->answer_fd, .events = POLLIN};
        if (clock_now() > deadline) {
            server_give_up("a loop does not answer");
        }
        (void)poll(&answer, 1, 1000);
        ssize_t got = read(server->answer_fd, &count, sizeof(count));
        (void)got;
        if (atomic_load(&server->thread_failed)) {
            server_give_up("out of memory while a loop started");
        }
    }
    for (int i = 0; i < CONTROL_WISHES; i++) {
        if (atomic_load(&server->wishes[i]) != server->passed_on[i]) {
            server_wake(server); /* told by the same descriptor, and still to be looked at */
        }
    }
}

void server_order_all(struct server *server, enum server_order order)
{
    begin(server, order);
    await_answers(server);
}

void server_order_parked(struct server *server, enum server_order order,
                         void (*change)(struct server *server))
{
    struct timespec deadline;

    server->parking = true;
    begin(server, order);
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += ANSWER_TIMEOUT_S;
    pthread_mutex_lock(&server->park_lock);
    while (server->parked < server->loop_count) {
        if (pthread_cond_timedwait(&server->parked_changed, &server->park_lock, &deadline) ==
            ETIMEDOUT) {
            server_give_up("a loop does not answer");
        }
    }
    change(server);
    server->parking = false;
    server->parked = 0;
    pthread_cond_broadcast(&server->parked_changed);
    pthread_mutex_unlock(&server->park_lock);
    await_answers(server);
}

void server_park(struct server *server)
{
    pthread_mutex_lock(&server->park_lock);
    server->parked++;
    pthread_cond_broadcast(&server->parked_changed);
    while (server->parking) {
        pthread_cond_wait(&server->parked_changed, &server->park_lock);
    }
    pthread_mutex_unlock(&server->park_lock);
}
