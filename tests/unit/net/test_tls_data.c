/* SPDX-License-Identifier: MIT */
/* TLS after the handshake: data, records, ends, KeyUpdates; and plain HTTP instead of TLS. */
#include "check.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "net/transport_tls.h"
#include "tls_link.h"

static struct tls_context *simple_context(unsigned updates)
{
    make_certificates();
    struct tls_certificate_settings pairs[] = {pair("main")};
    struct tls_settings settings = settings_with(pairs, 1);
    settings.key_updates_per_second = updates;
    return context_of(&settings, NULL);
}

TEST(tls_carries_data_through_a_full_socket)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    struct link link;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    REQUIRE(loop_io_set(&link.client.io, 0) == ERROR_NONE); /* read by hand below */
    struct transport *transport = link.server.transport;
    shrink_buffers(transport->io.fd);
    size_t size = 1u << 20, sent = 0, got = 0;
    uint8_t *data = malloc(size), *back = malloc(size);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 31 + (i >> 9));
    }
    unsigned waits = 0;
    while (sent < size || got < size) {
        /* Many small vectors, as a queue of chunks gives; some of them empty. */
        struct iovec vectors[40];
        size_t at = sent, count = 0, length = 0;
        for (; count < 40 && at < size; count++) {
            size_t part = count % 7 == 3 ? 0 : 1 + count * 997 % 3000;
            part = part < size - at ? part : size - at;
            vectors[count] = (struct iovec){data + at, part};
            at += part;
        }
        enum error error =
            at > sent ? transport_writev(transport, vectors, count, &length) : ERROR_AGAIN;
        if (error == ERROR_NONE) {
            CHECK(length > 0 && length <= at - sent);
            sent += length;
            continue;
        }
        CHECK_EQ_INT(error, ERROR_AGAIN);
        waits++;
        size_t part = 0;
        while (got < size && SSL_read_ex(link.client.ssl, back + got, size - got, &part) == 1) {
            got += part;
        }
        if (sent < size) {
            link.server.stop_when_ready = true;
            link.server.events = 0;
            CHECK_EQ_INT(transport_want(transport, TRANSPORT_READ_ON, true), ERROR_NONE);
            CHECK(bench_run(&link.bench));
            CHECK_EQ_INT(link.server.events, LOOP_WRITE);
        }
    }
    CHECK(waits > 1);
    CHECK_EQ_MEM(back, data, size);
    CHECK_EQ_INT(transport->bytes_out, size);
    free(data);
    free(back);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

static size_t record_sizes[512], record_count;

static void note_record(int written, int version, int type, const void *bytes, size_t length,
                        SSL *ssl, void *argument)
{
    (void)version, (void)ssl, (void)argument;
    const uint8_t *data = bytes;
    if (!written && type == SSL3_RT_HEADER && length >= 5 && data[0] == 23 && record_count < 512) {
        record_sizes[record_count++] = (size_t)data[3] << 8 | data[4];
    }
}

TEST(tls_records_grow)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    SSL_CTX_set_msg_callback(client, note_record);
    struct link link;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    REQUIRE(loop_io_set(&link.client.io, 0) == ERROR_NONE);
    static uint8_t block[65536 + 4 * 16384];
    size_t sent = 0, got = 0, part = 0;
    static uint8_t scratch[16384];
    record_count = 0;
    while (got < sizeof(block)) {
        struct iovec vector = {block + sent, sizeof(block) - sent};
        if (sent < sizeof(block) &&
            transport_writev(link.server.transport, &vector, 1, &part) == ERROR_NONE) {
            sent += part;
        }
        while (SSL_read_ex(link.client.ssl, scratch, sizeof(scratch), &part) == 1) {
            got += part;
        }
    }
    CHECK_EQ_INT(record_count, 16 + 4);
    for (size_t i = 0; i < record_count; i++) {
        size_t payload = i < 16 ? 4096 : 16384;
        CHECK(record_sizes[i] > payload && record_sizes[i] <= payload + 32);
    }
    /* Small pieces are gathered into one record. */
    record_count = 0;
    struct iovec pieces[100];
    for (size_t i = 0; i < 100; i++) {
        pieces[i] = (struct iovec){block, 100};
    }
    CHECK_EQ_INT(transport_writev(link.server.transport, pieces, 100, &part), ERROR_NONE);
    CHECK_EQ_INT(part, 10000);
    got = 0;
    while (got < 10000) {
        if (SSL_read_ex(link.client.ssl, scratch, sizeof(scratch), &part) == 1) {
            got += part;
        }
    }
    CHECK_EQ_INT(record_count, 1);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_says_what_may_be_buffered)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    struct link link;
    char buffer[64];
    size_t length = 0;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    struct transport *transport = link.server.transport;
    CHECK(!transport_buffered(transport));
    CHECK_EQ_INT(SSL_write(link.client.ssl, "abcdef", 6), 6);
    CHECK_EQ_INT(SSL_write(link.client.ssl, "ghi", 3), 3);
    link.server.stop_when_ready = true;
    CHECK(bench_run(&link.bench));
    CHECK_EQ_INT(transport_read(transport, buffer, 4, &length), ERROR_NONE);
    CHECK_EQ_INT(length, 4);
    CHECK(
        transport_buffered(transport)); /* "ef" and "ghi" are inside OpenSSL, the socket is empty */
    size_t got = 4;
    while (transport_read(transport, buffer + got, sizeof(buffer) - got, &length) == ERROR_NONE) {
        got += length;
    }
    CHECK_EQ_INT(got, 9);
    CHECK_EQ_MEM(buffer, "abcdefghi", 9);
    CHECK(!transport_buffered(transport));
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_ends_clean_or_not)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    for (int clean = 0; clean < 2; clean++) {
        struct link link;
        char byte;
        size_t length = 0;
        link_start(&link, context, client, NULL, NULL, NULL);
        link_shake(&link);
        if (clean) {
            CHECK_EQ_INT(SSL_shutdown(link.client.ssl), 0);
        }
        shutdown(link.client.io.fd, SHUT_WR);
        link.server.stop_when_ready = true;
        CHECK(bench_run(&link.bench));
        CHECK_EQ_INT(transport_read(link.server.transport, &byte, 1, &length), ERROR_CLOSED);
        CHECK_EQ_INT(transport_clean_end(link.server.transport), clean);
        link_end(&link);
    }
    struct link link;
    char byte;
    size_t length = 0;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    CHECK_EQ_INT(transport_want(link.server.transport, TRANSPORT_READ_WATCH, false), ERROR_NONE);
    struct linger now = {1, 0};
    setsockopt(link.client.io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    int fd = link.client.io.fd;
    loop_io_done(&link.client.io);
    close(fd);
    link.client.io.fd = -1;
    link.server.stop_when_ready = true;
    link.server.events = 0;
    CHECK(bench_run(&link.bench));
    CHECK(link.server.events & LOOP_CLOSED);
    CHECK_EQ_INT(transport_peer_state(link.server.transport), ERROR_IO);
    CHECK_EQ_INT(transport_read(link.server.transport, &byte, 1, &length), ERROR_IO);
    CHECK_EQ_INT(transport_shutdown(link.server.transport), ERROR_IO);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_bounds_key_updates)
{
    struct tls_context *context = simple_context(20);
    SSL_CTX *client = client_of_version(TLS1_3_VERSION);
    int64_t before = metrics_sum(METRIC_tls_message_floods);
    struct link link;
    char buffer[64];
    size_t length = 0;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    enum error error = ERROR_AGAIN;
    unsigned updates = 0;
    for (; updates < 200 && error == ERROR_AGAIN; updates++) {
        CHECK_EQ_INT(SSL_key_update(link.client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        CHECK_EQ_INT(SSL_do_handshake(link.client.ssl), 1);
        error = transport_read(link.server.transport, buffer, sizeof(buffer), &length);
    }
    CHECK_EQ_INT(error, ERROR_IO);
    CHECK(updates > 20 && updates <= 40); /* a second may end in between */
    CHECK_EQ_STR(transport_tls_failure(link.server.transport), "too many KeyUpdate messages");
    CHECK_EQ_INT(metrics_sum(METRIC_tls_message_floods), before + 1);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_takes_some_key_updates)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = client_of_version(TLS1_3_VERSION);
    struct link link;
    char buffer[64];
    size_t length = 0;
    link_start(&link, context, client, NULL, NULL, NULL);
    link_shake(&link);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ_INT(SSL_key_update(link.client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        CHECK_EQ_INT(SSL_write(link.client.ssl, "x", 1), 1);
        enum error error;
        do {
            error = transport_read(link.server.transport, buffer, sizeof(buffer), &length);
        } while (error == ERROR_AGAIN);
        CHECK_EQ_INT(error, ERROR_NONE);
        struct iovec vector = {(void *)(uintptr_t)"y", 1};
        CHECK_EQ_INT(transport_writev(link.server.transport, &vector, 1, &length), ERROR_NONE);
    }
    link.client.stop_after = 10;
    CHECK(bench_run(&link.bench));
    CHECK_EQ_MEM(link.client.received, "yyyyyyyyyy", 10);
    link_end(&link);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

TEST(tls_answers_plain_http)
{
    struct tls_context *context = simple_context(100);
    struct bench bench;
    struct server server;
    int fds[2];
    char answer[512] = "";
    bench_init(&bench);
    tcp_pair(fds);
    server_start(&server, &bench, context, fds[0], true, false);
    server.stop_when_done = true;
    CHECK_EQ_INT(write(fds[1], "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27), 27);
    CHECK(bench_run(&bench));
    CHECK_EQ_INT(server.handshake, ERROR_PROTOCOL);
    CHECK_EQ_STR(transport_tls_failure(server.transport), "plain HTTP sent to a TLS port");
    transport_destroy(server.transport, false);
    ssize_t length = read(fds[1], answer, sizeof(answer) - 1);
    CHECK(length > 0);
    const char *body = strstr(answer, "\r\n\r\n");
    CHECK(strncmp(answer, "HTTP/1.1 400 ", 13) == 0 && body != NULL);
    CHECK_EQ_INT(atoi(strstr(answer, "Content-Length: ") + 16), strlen(body + 4));
    close(fds[1]);
    bench_done(&bench);
    tls_context_unref(context);
}

/* Every allocation of ours on the way of a connection fails once: the handshake fails or goes on, and nothing is lost. */
TEST(tls_survives_failing_allocations)
{
    struct tls_context *context = simple_context(100);
    SSL_CTX *client = support_client_context();
    struct link first; /* what OpenSSL keeps for good is made now */
    link_start(&first, context, client, "localhost", NULL, NULL);
    link_shake(&first);
    link_end(&first);
    uint64_t live = mem_live();
    bool reached_end = false;
    for (uint64_t n = 1; n < 20 && !reached_end; n++) {
        struct bench bench;
        int fds[2];
        bench_init(&bench);
        tcp_pair(fds);
        mem_fail_nth(n, 0);
        uint64_t made = mem_made();
        struct transport *transport =
            transport_tls_new(bench.loop, fds[0], &no_addr, &no_addr, context, true, true);
        reached_end = mem_made() - made < n;
        mem_fail_nth(0, 0);
        if (transport != NULL) {
            transport_destroy(transport, false);
        } else {
            char byte;
            CHECK_EQ_INT(read(fds[1], &byte, 1), 0);
        }
        close(fds[1]);
        bench_done(&bench);
    }
    CHECK(reached_end);
    CHECK_EQ_INT(mem_live(), live);
    SSL_CTX_free(client);
    tls_context_unref(context);
}

CHECK_MAIN
