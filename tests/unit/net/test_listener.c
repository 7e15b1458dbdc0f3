/* SPDX-License-Identifier: MIT */
/* Accepting: each bound, draining, and clients dealt out to loops. */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "listener_stage.h"

TEST(listener_accepts_plain_clients)
{
    struct stage stage;
    stage_init(&stage);
    stage.settings.bind = SLICE("0.0.0.0:0");
    stage_start(&stage);
    struct addr target;
    CHECK_EQ_INT(addr_parse(SLICE("127.0.0.1"), addr_port(&stage.socket.addr), &target),
                 ERROR_NONE);
    int fd = dial(&target);
    run_until_accepted(&stage, 1);
    struct transport *transport = stage.accepted[0];
    char text[ADDR_TEXT_SIZE], expected[ADDR_TEXT_SIZE];
    struct addr own = {.length = sizeof(own.storage)};
    CHECK_EQ_INT(getsockname(fd, &own.sa, &own.length), 0);
    addr_format(&own, expected);
    addr_format(&transport->peer, text);
    CHECK_EQ_STR(text, expected);
    addr_format(&target, expected);
    addr_format(&transport->local, text); /* not the wildcard that it was bound to */
    CHECK_EQ_STR(text, expected);
    CHECK(transport->tls == NULL);
    int no_delay = 0;
    socklen_t length = sizeof(no_delay);
    CHECK_EQ_INT(getsockopt(transport->io.fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &length), 0);
    CHECK(no_delay != 0);
    CHECK(fcntl(transport->io.fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(transport->io.fd, F_GETFL) & O_NONBLOCK);
    CHECK_EQ_INT(metrics_sum(METRIC_conns), 1);
    CHECK_EQ_INT(write(fd, "hello", 5), 5);
    CHECK(bench_run(&stage.bench));
    CHECK_EQ_MEM(stage.received, "hello", 5);
    close(fd);
    stage_end(&stage);
}

TEST(listener_pauses_at_max_connections)
{
    struct stage stage;
    int fds[4];
    stage_init(&stage);
    stage.limits.max_connections = 2;
    stage_start(&stage);
    int64_t paused = metrics_sum(METRIC_accept_paused), turns;
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(&stage.socket.addr); /* the kernel's queue takes them */
    }
    run_until_accepted(&stage, 2);
    turns = metrics_sum(METRIC_loop_turns);
    run_for(&stage, 200 * CLOCK_NS_PER_MS);
    CHECK_EQ_INT(stage.count, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_accept_paused), paused + 1);
    CHECK(metrics_sum(METRIC_loop_turns) - turns < 100); /* 20 timers, no spin */
    CHECK_EQ_INT(stage.limits.connections, 2);
    stage_close(&stage, 0);
    run_until_accepted(&stage, 3);
    stage_close(&stage, 1);
    run_until_accepted(&stage, 4);
    CHECK_EQ_INT(stage.limits.connections, 2);
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
    stage_end(&stage);
}

TEST(listener_bounds_connections_per_address)
{
    struct stage stage;
    int fds[3];
    stage_init(&stage);
    stage.limits.max_connections_per_ip = 2;
    stage_start(&stage);
    int64_t refused = metrics_sum(METRIC_conns_refused_per_ip);
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(&stage.socket.addr);
    }
    wait_closed(&stage, fds[2]);
    CHECK_EQ_INT(stage.count, 2);
    CHECK_EQ_INT(stage.limits.connections, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_conns_refused_per_ip), refused + 1);
    stage_close(&stage, 0);
    fds[2] = dial(&stage.socket.addr);
    run_until_accepted(&stage, 3);
    for (int i = 0; i < 3; i++) {
        close(fds[i]);
    }
    stage_end(&stage);
}

TEST(listener_never_bounds_trusted_peers)
{
    struct stage stage;
    struct addr_network trusted;
    int fds[5];
    stage_init(&stage);
    CHECK_EQ_INT(addr_network_parse(SLICE("127.0.0.0/8"), &trusted), ERROR_NONE);
    stage.limits.max_connections_per_ip = 1;
    stage.limits.trusted = &trusted;
    stage.limits.trusted_count = 1;
    stage_start(&stage);
    for (int i = 0; i < 5; i++) {
        fds[i] = dial(&stage.socket.addr);
    }
    run_until_accepted(&stage, 5);
    for (int i = 0; i < 5; i++) {
        close(fds[i]);
    }
    stage_end(&stage);
}

TEST(listener_waits_for_descriptors)
{
    struct stage stage;
    struct rlimit limit, lower;
    stage_init(&stage);
    stage_start(&stage);
    int fd = dial(&stage.socket.addr);
    int free_one = dup(0);
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    close(free_one);
    lower = limit;
    lower.rlim_cur = (rlim_t)free_one; /* the next descriptor is the first that may not be */
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &lower), 0);
    int64_t paused = metrics_sum(METRIC_accept_paused), turns = metrics_sum(METRIC_loop_turns);
    run_for(&stage, 350 * CLOCK_NS_PER_MS);
    int64_t turned = metrics_sum(METRIC_loop_turns) - turns;
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ_INT(stage.count, 0);
    CHECK_EQ_INT(metrics_sum(METRIC_accept_paused), paused + 1);
    CHECK(turned < 50);
    run_until_accepted(&stage, 1);
    close(fd);
    stage_end(&stage);
}

TEST(listener_drains_the_kernels_queue)
{
    struct stage stage;
    int fds[3];
    stage_init(&stage);
    stage_start(&stage);
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(&stage.socket.addr);
    }
    listener_drain(stage.listener);
    bench_turns(&stage.bench, 10);
    CHECK_EQ_INT(stage.count, 3);
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ_INT(connect(late, &stage.socket.addr.sa, stage.socket.addr.length), -1);
    close(late);
    for (int i = 0; i < 3; i++) {
        close(fds[i]);
    }
    stage_end(&stage);
}

TEST(listener_drain_waits_at_max_connections)
{
    struct stage stage;
    int fds[3];
    stage_init(&stage);
    stage.limits.max_connections = 2;
    stage_start(&stage);
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(&stage.socket.addr);
    }
    run_until_accepted(&stage, 2);
    listener_drain(stage.listener);
    bench_turns(&stage.bench, 10);
    stage_close(&stage, 0);
    run_until_accepted(&stage, 3); /* and the drain goes on: */
    stage_close(&stage, 1);
    stage_close(&stage, 2);
    for (int i = 0;; i++) {
        int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int refused = connect(late, &stage.socket.addr.sa, stage.socket.addr.length);
        close(late);
        if (refused != 0) {
            break;
        }
        CHECK(i < 10);
        run_for(&stage, 30 * CLOCK_NS_PER_MS);
    }
    for (int i = 0; i < 3; i++) {
        close(fds[i]);
    }
    stage.count = stage.count < CLIENTS ? stage.count : CLIENTS;
    stage_end(&stage);
}

static void free_on_accept(void *context, struct transport *transport,
                           const struct listener_settings *settings)
{
    struct stage *stage = context;
    stage_on_accept(context, transport, settings);
    listener_free(stage->listener);
    stage->listener = NULL;
    loop_stop(stage->bench.loop);
}

TEST(listener_may_be_freed_by_its_user)
{
    struct stage stage;
    char text[256];
    size_t count = 0;
    stage_init(&stage);
    CHECK_EQ_INT(listener_limits_init(&stage.limits), ERROR_NONE);
    CHECK_EQ_INT(listener_bind(&stage.settings, 0, 1, &stage.socket, 1, &count, text, sizeof(text)),
                 ERROR_NONE);
    stage.listener = listener_new(stage.bench.loop, &stage.socket, &stage.settings, &stage.limits,
                                  NULL, free_on_accept, &stage);
    int first = dial(&stage.socket.addr), second = dial(&stage.socket.addr);
    CHECK(bench_run(&stage.bench));
    CHECK_EQ_INT(stage.count, 1);
    close(first);
    close(second);
    stage_end(&stage);
}

/* --- several loops -------------------------------------------------------------------------------------------------- */

struct worker_loop {
    struct stage *stage;
    struct loop *loop;
    pthread_t thread;
    _Atomic unsigned count;
};

static void worker_on_accept(void *context, struct transport *transport,
                             const struct listener_settings *settings)
{
    struct worker_loop *worker = context;
    (void)settings;
    struct addr peer = transport->peer;
    loop_assert_owner(worker->loop);
    transport_destroy(transport, false);
    listener_connection_closed(&worker->stage->limits, &peer);
    worker->count++;
}

static void *worker_run(void *argument)
{
    struct worker_loop *worker = argument;
    return loop_run(worker->loop) == ERROR_NONE ? NULL : worker;
}

static void deal_out(bool tls)
{
    struct stage stage;
    char text[256], bind_text[160];
    size_t count = 0;
    stage_init(&stage);
    const struct loop_settings loop_settings = {.turn_callbacks = 64, .turn_time_us = 500};
    snprintf(bind_text, sizeof(bind_text), "unix:%s/deal.sock", support_directory());
    stage.settings.bind = slice_from(bind_text);
    stage.settings.unix_mode = 0600;
    if (tls) {
        stage_use_tls(&stage);
    }
    CHECK_EQ_INT(listener_limits_init(&stage.limits), ERROR_NONE);
    CHECK_EQ_INT(listener_bind(&stage.settings, 0, 2, &stage.socket, 1, &count, text, sizeof(text)),
                 ERROR_NONE);
    struct worker_loop workers[2] = {{.stage = &stage, .loop = stage.bench.loop},
                                     {.stage = &stage, .loop = loop_new(1, &loop_settings)}};
    struct loop *loops[2] = {workers[0].loop, workers[1].loop};
    void *contexts[2] = {&workers[0], &workers[1]};
    stage.listener = listener_new(stage.bench.loop, &stage.socket, &stage.settings, &stage.limits,
                                  stage.tls, worker_on_accept, NULL);
    CHECK_EQ_INT(listener_deal(stage.listener, loops, contexts, 2), ERROR_NONE);
    CHECK_EQ_INT(pthread_create(&workers[1].thread, NULL, worker_run, &workers[1]), 0);
    int fds[10];
    for (int i = 0; i < 10; i++) {
        fds[i] = dial(&stage.socket.addr);
    }
    /* Plain: all come and go, half of them in each loop. TLS: all wait for a ClientHello that never comes. */
    for (int i = 0; tls ? stage.limits.handshakes < 10 : workers[0].count + workers[1].count < 10;
         i++) {
        CHECK(i < 5000);
        run_for(&stage, CLOCK_NS_PER_MS);
    }
    CHECK_EQ_INT(workers[0].count, tls ? 0 : 5);
    CHECK_EQ_INT(workers[1].count, tls ? 0 : 5);
    listener_free(stage.listener);
    stage.listener = NULL;
    for (int i = 0; stage.limits.connections > 0; i++) {
        CHECK(i < 5000);
        run_for(&stage, CLOCK_NS_PER_MS);
    }
    loop_stop(workers[1].loop);
    pthread_join(workers[1].thread, NULL);
    loop_free(workers[1].loop);
    for (int i = 0; i < 10; i++) {
        close(fds[i]);
    }
    stage_end(&stage);
}

TEST(listener_deals_clients_out_to_loops)
{
    deal_out(false);
}

TEST(listener_free_reaches_handshakes_in_other_loops)
{
    deal_out(true);
}

TEST(listener_leaves_no_memory)
{
    uint64_t live = mem_live();
    struct stage stage;
    stage_init(&stage);
    stage.limits.max_connections_per_ip = 10;
    stage_start(&stage);
    int fd = dial(&stage.socket.addr);
    run_until_accepted(&stage, 1);
    close(fd);
    stage_end(&stage);
    CHECK_EQ_INT(mem_live(), live);
}

CHECK_MAIN
