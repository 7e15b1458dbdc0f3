/* SPDX-License-Identifier: MIT */
/* See fixture.h. */
#include "fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "loop/mailbox.h"

static uint64_t live_before;

static void row(enum admin_view view, unsigned index, struct admin_table *table)
{
    for (size_t i = 0; i < table->column_count; i++) {
        if (table->columns[i].kind == ADMIN_TEXT || table->columns[i].kind == ADMIN_LINES) {
            admin_table_text(table, slice_from(i == 0 ? "main" : "te\"xt\x1b[31m"));
        } else if (i == 3 && view == ADMIN_REQUESTS) {
            admin_table_none(table);
        } else {
            admin_table_number(table, 1000 * (index + 1) + i);
        }
    }
}

static void rows(void *context, enum admin_view view, unsigned index, struct admin_table *table)
{
    struct fixture *fixture = context;

    if (index == 1) {
        atomic_fetch_or(&fixture->asked, 1u << view);
        if (atomic_load(&fixture->hold)) {
            sem_post(&fixture->held);
            sem_wait(&fixture->release);
        }
    }
    row(view, index, table);
}

static uint32_t wish(void *context, enum admin_wish wished)
{
    (void)context;
    (void)wished;
    return 1;
}

static bool is_ready(void *context, struct strbuf *why)
{
    struct fixture *fixture = context;

    if (!atomic_load(&fixture->ready)) {
        strbuf_append_text(why, "app main has no ready worker\n");
    }
    return atomic_load(&fixture->ready);
}

static enum admin_verdict order(void *context, struct slice command, const struct slice *words,
                                size_t count, struct strbuf *text)
{
    struct fixture *fixture = context;

    strbuf_printf(text, "%.*s", SLICE_PRINT(command));
    for (size_t i = 0; i < count; i++) {
        strbuf_printf(text, " <%.*s>", SLICE_PRINT(words[i]));
    }
    return fixture->verdict;
}

static void *run(void *loop)
{
    enum error error = loop_run(loop);
    REQUIRE(error == ERROR_NONE);
    return NULL;
}

static void listen_on(struct fixture *fixture)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/gatewayd-admin-XXXXXX");
    REQUIRE(mkdtemp(fixture->directory) != NULL);
    snprintf(fixture->path, sizeof(fixture->path), "%s/admin.sock", fixture->directory);
    memcpy(path.sun_path, fixture->path, strlen(fixture->path) + 1);
    fixture->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    REQUIRE(bind(fixture->socket, (struct sockaddr *)&path, sizeof(path)) == 0);
    REQUIRE(listen(fixture->socket, 64) == 0);
    fixture->http = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    REQUIRE(bind(fixture->http, (struct sockaddr *)&address, sizeof(address)) == 0);
    REQUIRE(listen(fixture->http, 64) == 0);
    REQUIRE(getsockname(fixture->http, (struct sockaddr *)&address, &length) == 0);
    fixture->port = ntohs(address.sin_port);
}

void fixture_start(struct fixture *fixture, unsigned max_connections, uint64_t timeout_ms)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64, .turn_time_us = 500};
    static bool first = true;

    *fixture = (struct fixture){0};
    if (first) { /* what libevent and the threads' metrics keep is not a leak */
        first = false;
        struct fixture warm_up;
        fixture_start(&warm_up, 1, 1000);
        fixture_stop(&warm_up);
        *fixture = (struct fixture){0};
    }
    live_before = mem_live();
    atomic_init(&fixture->ready, true);
    sem_init(&fixture->held, 0, 0);
    sem_init(&fixture->release, 0, 0);
    listen_on(fixture);
    for (unsigned i = 0; i < 2; i++) {
        fixture->loops[i] = loop_new(i, &loop_settings);
        REQUIRE(fixture->loops[i] != NULL);
    }
    const struct admin_settings settings = {.loop = fixture->loops[0],
                                            .loops = fixture->loops,
                                            .loop_count = 2,
                                            .socket = fixture->socket,
                                            .http = fixture->http,
                                            .max_connections = max_connections,
                                            .timeout = timeout_ms * CLOCK_NS_PER_MS,
                                            .sources = {fixture, rows, is_ready, order, wish}};
    fixture->admin = admin_new(&settings);
    REQUIRE(fixture->admin != NULL);
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(pthread_create(&fixture->threads[i], NULL, run, fixture->loops[i]) == 0);
    }
}

struct ending {
    struct mail mail;
    struct fixture *fixture;
};

static void end(struct mail *mail, struct loop *loop)
{
    admin_free(LIST_CONTAINER(mail, struct ending, mail)->fixture->admin);
    loop_stop(loop);
}

static void never(struct mail *mail)
{
    (void)mail;
}

void fixture_stop(struct fixture *fixture)
{
    struct ending ending = {.mail = {.deliver = end, .discard = never}, .fixture = fixture};

    mailbox_post(fixture->loops[0], &ending.mail);
    pthread_join(fixture->threads[0], NULL);
    loop_stop(fixture->loops[1]);
    pthread_join(fixture->threads[1], NULL);
    loop_free(fixture->loops[0]);
    loop_free(fixture->loops[1]);
    close(fixture->socket);
    close(fixture->http);
    unlink(fixture->path);
    rmdir(fixture->directory);
    sem_destroy(&fixture->held);
    sem_destroy(&fixture->release);
    REQUIRE(metrics_sum(METRIC_admin_connections) == 0);
    if (live_before != 0) {
        REQUIRE(mem_live() <= live_before + 2); /* the metrics of two new threads */
    }
}

int fixture_connect(const struct fixture *fixture, bool http)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)fixture->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(http ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(path.sun_path, fixture->path, strlen(fixture->path) + 1);
    REQUIRE(fd >= 0);
    REQUIRE(connect(fd, http ? (struct sockaddr *)&address : (struct sockaddr *)&path,
                    http ? sizeof(address) : sizeof(path)) == 0);
    return fd;
}

size_t fixture_read(int fd, char *answer, size_t size)
{
    size_t length = 0;

    for (;;) {
        ssize_t got = recv(fd, answer + length, size - 1 - length, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        length += (size_t)got;
        REQUIRE(length < size - 1);
    }
    answer[length] = '\0';
    close(fd);
    return length;
}

size_t fixture_ask(const struct fixture *fixture, bool http, const char *request, char *answer,
                   size_t size)
{
    int fd = fixture_connect(fixture, http);
    ssize_t sent = send(fd, request, strlen(request), MSG_NOSIGNAL);

    (void)sent; /* a refusal may have come first */
    return fixture_read(fd, answer, size);
}
