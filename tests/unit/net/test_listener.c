/* SPDX-License-Identifier: MIT */
/* Accepting: each bound, the handshake's deadline, the PROXY header, draining, and clients dealt out to loops. */
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
#include "net/listener.h"
#include "net/tls_context.h"
#include "support.h"

#define CLIENTS 16

/* A listener on loopback and what it gave. */
struct stage {
    struct bench bench;
    struct listener_settings settings;
    struct listener_limits limits;
    struct listener_socket socket;
    struct listener *listener;
    struct tls_context *tls;
    struct transport *accepted[CLIENTS];
    unsigned count, stop_at;
    struct loop_timer timer; /* of run_for */
    char received[64];       /* by the last transport */
    size_t received_length;
};

static void stage_on_ready(void *user, unsigned events)
{
    struct stage *stage = user;
    (void)events;
    struct transport *transport = stage->accepted[stage->count - 1];
    size_t length = 0;
    if (transport_read(transport, stage->received + stage->received_length,
                       sizeof(stage->received) - stage->received_length, &length) == ERROR_NONE) {
        stage->received_length += length;
        if (stage->stop_at == 0) {
            loop_stop(stage->bench.loop);
        }
    }
}

static void stage_on_accept(void *context, struct transport *transport,
                            const struct listener_settings *settings)
{
    struct stage *stage = context;
    CHECK(settings == &stage->settings);
    stage->accepted[stage->count++] = transport;
    transport->on_ready = stage_on_ready;
    transport->user = stage;
    CHECK_EQ_INT(transport_want(transport, TRANSPORT_READ_ON, false), ERROR_NONE);
    if (stage->count == stage->stop_at) {
        loop_stop(stage->bench.loop);
    }
}

/* A stage with wide limits, which a test narrows before stage_start. */
static void stage_init(struct stage *stage)
{
    memset(stage, 0, sizeof(*stage));
    bench_init(&stage->bench);
    stage->settings = (struct listener_settings){.bind = SLICE("127.0.0.1:0"), .h1 = true};
    stage->limits.max_connections = 100;
    stage->limits.max_handshakes = 100;
    stage->limits.handshake_timeout_ns = 20 * CLOCK_NS_PER_S;
}

static void stage_use_tls(struct stage *stage)
{
    char cert[128], key[128], text[256];
    support_pair("main", &(struct wish){"main", "DNS:localhost", KEY_EC, 0, 0, 0}, NULL);
    snprintf(cert, sizeof(cert), "%s/main.pem", support_directory());
    snprintf(key, sizeof(key), "%s/main.key", support_directory());
    struct tls_certificate_settings pair = {.cert = slice_from(cert), .key = slice_from(key)};
    struct tls_settings settings = {.certificates = &pair,
                                    .certificate_count = 1,
                                    .min_version = 0x0303,
                                    .ticket_key_life_ns = CLOCK_NS_PER_S,
                                    .ticket_keys_kept = 2,
                                    .key_updates_per_second = 100};
    CHECK_EQ_INT(tls_context_new(&settings, NULL, &stage->tls, text, sizeof(text)), ERROR_NONE);
    stage->settings.tls = true;
}

static void stage_start(struct stage *stage)
{
    char text[256];
    size_t count = 0;
    CHECK_EQ_INT(listener_limits_init(&stage->limits), ERROR_NONE);
    CHECK_EQ_INT(
        listener_bind(&stage->settings, 0, 1, &stage->socket, 1, &count, text, sizeof(text)),
        ERROR_NONE);
    stage->listener = listener_new(stage->bench.loop, &stage->socket, &stage->settings,
                                   &stage->limits, stage->tls, stage_on_accept, stage);
    CHECK(stage->listener != NULL);
}

static void stage_close(struct stage *stage, unsigned index)
{
    struct addr peer = stage->accepted[index]->peer;
    transport_destroy(stage->accepted[index], false);
    stage->accepted[index] = NULL;
    listener_connection_closed(&stage->limits, &peer);
}

static void stage_end(struct stage *stage)
{
    for (unsigned i = 0; i < stage->count; i++) {
        if (stage->accepted[i] != NULL) {
            stage_close(stage, i);
        }
    }
    listener_free(stage->listener);
    bench_done(&stage->bench);
    tls_context_unref(stage->tls);
    CHECK_EQ_INT(stage->limits.connections, 0);
    CHECK_EQ_INT(stage->limits.handshakes, 0);
    CHECK_EQ_INT(metrics_sum(METRIC_conns), 0);
    CHECK_EQ_INT(metrics_sum(METRIC_tls_handshakes_open), 0);
    listener_limits_done(&stage->limits);
}

static void stop_on_timer(struct loop_timer *timer)
{
    loop_stop(timer->loop);
}

static void run_for(struct stage *stage, uint64_t time_ns)
{
    loop_timer_init(&stage->timer, stage->bench.loop, stop_on_timer);
    CHECK_EQ_INT(loop_timer_set(&stage->timer, time_ns), ERROR_NONE);
    CHECK(bench_run(&stage->bench));
    loop_timer_clear(&stage->timer);
}

static void run_until_accepted(struct stage *stage, unsigned count)
{
    stage->stop_at = count;
    if (stage->count < count) {
        CHECK(bench_run(&stage->bench));
    }
    stage->stop_at = 0;
    CHECK_EQ_INT(stage->count, count);
}

static int dial(const struct addr *addr)
{
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    CHECK(fd >= 0);
    CHECK_EQ_INT(connect(fd, &addr->sa, addr->length), 0);
    if (!addr_is_unix(addr)) {
        CHECK_EQ_INT(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    }
    return fd;
}

/* Whether the server closed the connection (waits for it in loop turns). */
static void wait_closed(struct stage *stage, int fd)
{
    char byte;
    ssize_t got;
    CHECK_EQ_INT(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    for (int i = 0; (got = read(fd, &byte, 1)) < 0 && errno == EAGAIN; i++) {
        CHECK(i < 1000);
        run_for(stage, CLOCK_NS_PER_MS);
    }
    CHECK(got <= 0);
    close(fd);
}

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

TEST(listener_bounds_handshakes_and_their_time)
{
    struct stage stage;
    stage_init(&stage);
    stage_use_tls(&stage);
    stage.limits.max_handshakes = 1;
    stage.limits.handshake_timeout_ns = 300 * CLOCK_NS_PER_MS;
    stage_start(&stage);
    int64_t refused = metrics_sum(METRIC_tls_handshakes_refused);
    int64_t timeouts = metrics_sum(METRIC_tls_handshake_timeouts);
    int silent = dial(&stage.socket.addr), second = dial(&stage.socket.addr);
    wait_closed(&stage, second);
    CHECK_EQ_INT(metrics_sum(METRIC_tls_handshakes_refused), refused + 1);
    CHECK_EQ_INT(listener_pending(stage.listener), 1);
    /* A byte now and then does not stretch the deadline. */
    CHECK_EQ_INT(write(silent, "\x16", 1), 1);
    wait_closed(&stage, silent);
    CHECK_EQ_INT(metrics_sum(METRIC_tls_handshake_timeouts), timeouts + 1);
    CHECK_EQ_INT(stage.count, 0);
    CHECK_EQ_INT(listener_pending(stage.listener), 0);
    stage_end(&stage);
}

/* The client's Finished and its first request in one segment: no event tells of the request. */
TEST(listener_hands_over_what_came_with_the_handshake)
{
    struct stage stage;
    stage_init(&stage);
    stage_use_tls(&stage);
    stage_start(&stage);
    SSL_CTX *context = support_client_context();
    int fd = dial(&stage.socket.addr);
    SSL *ssl = SSL_new(context);
    CHECK_EQ_INT(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    BIO *buffered = BIO_new(BIO_f_buffer());
    SSL_set_fd(ssl, fd);
    SSL_set0_wbio(ssl, BIO_push(buffered, BIO_new_socket(fd, BIO_NOCLOSE)));
    while (SSL_connect(ssl) != 1) {
        CHECK_EQ_INT(SSL_get_error(ssl, -1), SSL_ERROR_WANT_READ);
        (void)BIO_flush(buffered);
        run_for(&stage, CLOCK_NS_PER_MS);
        if (SSL_in_init(ssl) == 0) {
            break;
        }
    }
    CHECK_EQ_INT(SSL_write(ssl, "GET /", 5), 5);
    CHECK_EQ_INT(BIO_flush(buffered), 1);
    while (stage.received_length < 5) {
        CHECK(bench_run(&stage.bench));
    }
    CHECK_EQ_MEM(stage.received, "GET /", 5);
    CHECK_EQ_INT(stage.count, 1);
    CHECK_EQ_INT(stage.accepted[0]->tls->version, 0x0304);
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    stage_end(&stage);
}

TEST(listener_free_ends_handshakes)
{
    struct stage stage;
    stage_init(&stage);
    stage_use_tls(&stage);
    stage_start(&stage);
    int fd = dial(&stage.socket.addr);
    while (listener_pending(stage.listener) == 0) {
        run_for(&stage, CLOCK_NS_PER_MS);
    }
    listener_free(stage.listener);
    stage.listener = NULL;
    wait_closed(&stage, fd);
    stage_end(&stage);
}

TEST(listener_reads_the_proxy_header)
{
    static const char header[] = "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\nGET /";
    struct stage stage;
    char text[ADDR_TEXT_SIZE];
    stage_init(&stage);
    stage.settings.proxy_protocol = PROXY_PROTOCOL_ANY;
    stage.limits.max_connections_per_ip = 1; /* of the address in the header */
    stage_start(&stage);
    int fd = dial(&stage.socket.addr);
    int64_t turns = metrics_sum(METRIC_loop_turns);
    CHECK_EQ_INT(write(fd, header, 20), 20);
    run_for(&stage, 100 * CLOCK_NS_PER_MS);
    CHECK(metrics_sum(METRIC_loop_turns) - turns < 50); /* half a header does not spin */
    CHECK_EQ_INT(stage.count, 0);
    CHECK_EQ_INT(write(fd, header + 20, sizeof(header) - 21), sizeof(header) - 21);
    while (stage.received_length < 5) {
        CHECK(bench_run(&stage.bench));
    }
    CHECK_EQ_MEM(stage.received, "GET /", 5);
    addr_format(&stage.accepted[0]->peer, text);
    CHECK_EQ_STR(text, "192.0.2.7:1234");
    addr_format(&stage.accepted[0]->local, text);
    CHECK_EQ_STR(text, "198.51.100.1:443");

    int same = dial(&stage.socket.addr), wrong = dial(&stage.socket.addr);
    CHECK_EQ_INT(write(same, header, sizeof(header) - 1), sizeof(header) - 1);
    wait_closed(&stage, same);
    int64_t errors = metrics_sum(METRIC_proxy_protocol_errors);
    CHECK_EQ_INT(write(wrong, "GET / HTTP/1.1\r\n", 16), 16);
    wait_closed(&stage, wrong);
    CHECK_EQ_INT(metrics_sum(METRIC_proxy_protocol_errors), errors + 1);
    CHECK_EQ_INT(stage.count, 1);
    close(fd);
    stage_end(&stage);
}

TEST(listener_reads_the_proxy_header_before_tls)
{
    struct stage stage;
    char text[ADDR_TEXT_SIZE];
    stage_init(&stage);
    stage_use_tls(&stage);
    stage.settings.proxy_protocol = PROXY_PROTOCOL_V2;
    stage_start(&stage);
    SSL_CTX *context = support_client_context();
    int fd = dial(&stage.socket.addr);
    CHECK_EQ_INT(write(fd,
                       "\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x09\xc0\x00\x02\x02"
                       "\x00\x50\x01\xbb",
                       28),
                 28);
    CHECK_EQ_INT(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    struct tls_client client;
    tls_client_start(&client, stage.bench.loop, context, fd, NULL, NULL, NULL);
    run_until_accepted(&stage, 1);
    addr_format(&stage.accepted[0]->peer, text);
    CHECK_EQ_STR(text, "192.0.2.9:80");
    CHECK(stage.accepted[0]->tls != NULL);
    tls_client_done(&client);
    SSL_CTX_free(context);
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
