/* SPDX-License-Identifier: MIT */
/* A listener on loopback for its tests. What fails here ends the program. */
#include "listener_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metrics.h"

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

void stage_on_accept(void *context, struct transport *transport,
                     const struct listener_settings *settings)
{
    struct stage *stage = context;
    REQUIRE(settings->tls == stage->settings.tls && settings->h2 == stage->settings.h2 &&
            settings->proxy_protocol == stage->settings.proxy_protocol);
    stage->accepted[stage->count++] = transport;
    transport->on_ready = stage_on_ready;
    transport->user = stage;
    REQUIRE(transport_want(transport, TRANSPORT_READ_ON, false) == ERROR_NONE);
    if (stage->count == stage->stop_at) {
        loop_stop(stage->bench.loop);
    }
}

/* A stage with wide limits, which a test narrows before stage_start. */
void stage_init(struct stage *stage)
{
    memset(stage, 0, sizeof(*stage));
    bench_init(&stage->bench);
    stage->settings = (struct listener_settings){.bind = SLICE("127.0.0.1:0"), .h1 = true};
    stage->limits.max_connections = 100;
    stage->limits.max_handshakes = 100;
    stage->limits.handshake_timeout_ns = 20 * CLOCK_NS_PER_S;
}

void stage_use_tls(struct stage *stage)
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
    REQUIRE(tls_context_new(&settings, NULL, &stage->tls, text, sizeof(text)) == ERROR_NONE);
    stage->settings.tls = true;
}

void stage_start(struct stage *stage)
{
    char text[256];
    size_t count = 0;
    REQUIRE(listener_limits_init(&stage->limits) == ERROR_NONE);
    REQUIRE(listener_bind(&stage->settings, 0, 1, &stage->socket, 1, &count, text, sizeof(text)) ==
            ERROR_NONE);
    stage->listener = listener_new(stage->bench.loop, &stage->socket, &stage->settings,
                                   &stage->limits, stage->tls, stage_on_accept, stage);
    REQUIRE(stage->listener != NULL);
}

void stage_close(struct stage *stage, unsigned index)
{
    struct addr peer = stage->accepted[index]->peer;
    transport_destroy(stage->accepted[index], false);
    stage->accepted[index] = NULL;
    listener_connection_closed(&stage->limits, &peer);
}

void stage_end(struct stage *stage)
{
    for (unsigned i = 0; i < stage->count; i++) {
        if (stage->accepted[i] != NULL) {
            stage_close(stage, i);
        }
    }
    listener_free(stage->listener);
    bench_done(&stage->bench);
    tls_context_unref(stage->tls);
    REQUIRE(stage->limits.connections == 0);
    REQUIRE(stage->limits.handshakes == 0);
    REQUIRE(metrics_sum(METRIC_conns) == 0);
    REQUIRE(metrics_sum(METRIC_tls_handshakes_open) == 0);
    listener_limits_done(&stage->limits);
}

static void stop_on_timer(struct loop_timer *timer)
{
    loop_stop(timer->loop);
}

void run_for(struct stage *stage, uint64_t time_ns)
{
    loop_timer_init(&stage->timer, stage->bench.loop, stop_on_timer);
    REQUIRE(loop_timer_set(&stage->timer, time_ns) == ERROR_NONE);
    REQUIRE(bench_run(&stage->bench));
    loop_timer_clear(&stage->timer);
}

void run_until_accepted(struct stage *stage, unsigned count)
{
    stage->stop_at = count;
    if (stage->count < count) {
        REQUIRE(bench_run(&stage->bench));
    }
    stage->stop_at = 0;
    REQUIRE(stage->count == count);
}

int dial(const struct addr *addr)
{
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    REQUIRE(fd >= 0);
    REQUIRE(connect(fd, &addr->sa, addr->length) == 0);
    if (!addr_is_unix(addr)) {
        REQUIRE(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
    }
    return fd;
}

/* Whether the server closed the connection (waits for it in loop turns). */
void wait_closed(struct stage *stage, int fd)
{
    char byte;
    ssize_t got;
    REQUIRE(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    for (int i = 0; (got = read(fd, &byte, 1)) < 0 && errno == EAGAIN; i++) {
        REQUIRE(i < 1000);
        run_for(stage, CLOCK_NS_PER_MS);
    }
    REQUIRE(got <= 0);
    close(fd);
}
