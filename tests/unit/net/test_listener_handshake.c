/* SPDX-License-Identifier: MIT */
/* Between accept and user: the PROXY header, the TLS handshake, their bound and their deadline. */
#include "check.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "listener_stage.h"

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

CHECK_MAIN
