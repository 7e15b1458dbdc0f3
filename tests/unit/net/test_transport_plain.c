/* SPDX-License-Identifier: MIT */
/* The plain transport: partial writes, the kinds of end, and that watching neither spins nor sleeps through a reset. */
#include "check.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/transport.h"
#include "support.h"

struct user {
    struct bench bench;
    struct transport *transport;
    int client;
    unsigned calls, events; /* since the last reset of the two */
    bool stop;              /* loop_stop in the next call */
};

static void user_on_ready(void *context, unsigned events)
{
    struct user *user = context;
    user->calls++;
    user->events |= events;
    if (user->stop) {
        loop_stop(user->bench.loop);
    }
}

static void user_start(struct user *user)
{
    int fds[2];
    memset(user, 0, sizeof(*user));
    bench_init(&user->bench);
    tcp_pair(fds);
    user->client = fds[1];
    user->transport = transport_plain_new(user->bench.loop, fds[0], &no_addr, &no_addr);
    CHECK(user->transport != NULL);
    user->transport->on_ready = user_on_ready;
    user->transport->user = user;
}

static void user_end(struct user *user)
{
    transport_destroy(user->transport, false);
    close(user->client);
    bench_done(&user->bench);
}

/* Runs until on_ready is called. */
static void wait_call(struct user *user)
{
    user->calls = user->events = 0;
    user->stop = true;
    CHECK(bench_run(&user->bench));
    user->stop = false;
    CHECK_EQ_INT(user->calls, 1);
}

/* How often on_ready is called in `turns` turns. */
static unsigned count_calls(struct user *user, unsigned turns)
{
    user->calls = user->events = 0;
    bench_turns(&user->bench, turns);
    return user->calls;
}

static void reset_from_client(struct user *user)
{
    struct linger now = {1, 0};
    setsockopt(user->client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(user->client);
    user->client = -1;
}

TEST(plain_reads_and_writes)
{
    struct user user;
    user_start(&user);
    char buffer[16];
    size_t length = 0;
    CHECK_EQ_INT(transport_read(user.transport, buffer, sizeof(buffer), &length), ERROR_AGAIN);
    CHECK_EQ_INT(transport_want(user.transport, TRANSPORT_READ_ON, false), ERROR_NONE);
    CHECK_EQ_INT(write(user.client, "hello", 5), 5);
    wait_call(&user);
    CHECK_EQ_INT(user.events, LOOP_READ);
    CHECK_EQ_INT(transport_read(user.transport, buffer, 3, &length), ERROR_NONE);
    CHECK_EQ_INT(length, 3);
    CHECK_EQ_MEM(buffer, "hel", 3);
    wait_call(&user); /* level-triggered: the rest is told again */
    CHECK_EQ_INT(transport_read(user.transport, buffer, sizeof(buffer), &length), ERROR_NONE);
    CHECK_EQ_INT(length, 2);
    CHECK(!transport_buffered(user.transport));

    const struct iovec vectors[] = {
        {(void *)(uintptr_t)"ab", 2}, {NULL, 0}, {(void *)(uintptr_t)"cde", 3}};
    CHECK_EQ_INT(transport_writev(user.transport, vectors, 3, &length), ERROR_NONE);
    CHECK_EQ_INT(length, 5);
    CHECK_EQ_INT(read(user.client, buffer, sizeof(buffer)), 5);
    CHECK_EQ_MEM(buffer, "abcde", 5);
    CHECK_EQ_INT(user.transport->bytes_in, 5);
    CHECK_EQ_INT(user.transport->bytes_out, 5);
    user_end(&user);
}

TEST(plain_partial_write_goes_on_when_writable)
{
    struct user user;
    user_start(&user);
    shrink_buffers(user.transport->io.fd);
    size_t size = 1u << 19, sent = 0, got = 0;
    char *data = malloc(size), *back = malloc(size);
    for (size_t i = 0; i < size; i++) {
        data[i] = (char)(i * 7 + (i >> 11));
    }
    unsigned waits = 0;
    while (sent < size) {
        size_t length = 0;
        struct iovec vector = {data + sent, size - sent};
        enum error error = transport_writev(user.transport, &vector, 1, &length);
        if (error == ERROR_NONE) {
            CHECK(length > 0 && length <= size - sent);
            sent += length;
            continue;
        }
        CHECK_EQ_INT(error, ERROR_AGAIN);
        ssize_t taken;
        while ((taken = read(user.client, back + got, size - got)) > 0) {
            got += (size_t)taken;
        }
        CHECK_EQ_INT(transport_want(user.transport, TRANSPORT_READ_ON, true), ERROR_NONE);
        wait_call(&user);
        CHECK_EQ_INT(user.events, LOOP_WRITE);
        waits++;
    }
    CHECK(waits > 0);
    CHECK_EQ_INT(transport_want(user.transport, TRANSPORT_READ_ON, false), ERROR_NONE);
    CHECK_EQ_INT(transport_shutdown(user.transport), ERROR_NONE);
    ssize_t taken;
    while ((taken = read(user.client, back + got, size - got)) > 0) {
        got += (size_t)taken;
    }
    CHECK_EQ_INT(got, size);
    CHECK_EQ_MEM(back, data, size);
    CHECK_EQ_INT(user.transport->bytes_out, size);
    free(data);
    free(back);
    user_end(&user);
}

TEST(plain_end_and_reset_are_told_apart)
{
    struct user user;
    char buffer[16];
    size_t length = 0;

    user_start(&user);
    CHECK_EQ_INT(transport_want(user.transport, TRANSPORT_READ_ON, false), ERROR_NONE);
    CHECK_EQ_INT(transport_peer_state(user.transport), ERROR_NONE);
    CHECK_EQ_INT(shutdown(user.client, SHUT_WR), 0);
    wait_call(&user);
    CHECK_EQ_INT(transport_peer_state(user.transport), ERROR_CLOSED);
    CHECK_EQ_INT(transport_read(user.transport, buffer, sizeof(buffer), &length), ERROR_CLOSED);
    CHECK(transport_clean_end(user.transport));
    /* A FIN is readable for ever; still wishing to read must not spin, and the answer can still be written. */
    CHECK(count_calls(&user, 50) <= 1);
    struct iovec vector = {(void *)(uintptr_t)"x", 1};
    CHECK_EQ_INT(transport_writev(user.transport, &vector, 1, &length), ERROR_NONE);
    CHECK_EQ_INT(transport_shutdown(user.transport), ERROR_NONE);
    CHECK_EQ_INT(read(user.client, buffer, sizeof(buffer)), 1);
    CHECK_EQ_INT(read(user.client, buffer, sizeof(buffer)), 0);
    user_end(&user);

    user_start(&user);
    CHECK_EQ_INT(transport_want(user.transport, TRANSPORT_READ_ON, false), ERROR_NONE);
    reset_from_client(&user);
    wait_call(&user);
    CHECK_EQ_INT(transport_peer_state(user.transport), ERROR_IO);
    CHECK_EQ_INT(transport_peer_state(user.transport),
                 ERROR_IO); /* asking does not take the error */
    CHECK_EQ_INT(transport_read(user.transport, buffer, sizeof(buffer), &length), ERROR_IO);
    CHECK_EQ_INT(transport_peer_state(user.transport), ERROR_IO);
    user_end(&user);
}

TEST(plain_watch_tells_new_bytes_once)
{
    struct user user;
    user_start(&user);
    CHECK_EQ_INT(transport_want(user.transport, TRANSPORT_READ_WATCH, false), ERROR_NONE);
    CHECK_EQ_INT(write(user.client, "one", 3), 3);
    wait_call(&user);
    CHECK_EQ_INT(user.events, LOOP_READ);
    CHECK_EQ_INT(count_calls(&user, 50), 0); /* unread, and yet silent */
    CHECK_EQ_INT(write(user.client, "two", 3), 3);
    wait_call(&user);
    CHECK_EQ_INT(user.events, LOOP_READ);

    CHECK_EQ_INT(shutdown(user.client, SHUT_WR), 0);
    wait_call(&user);
    CHECK(user.events & LOOP_CLOSED);
    CHECK_EQ_INT(transport_peer_state(user.transport), ERROR_CLOSED);
    CHECK_EQ_INT(count_calls(&user, 50), 0);

    reset_from_client(&user); /* a half-closed client gives up: unread bytes, then RST */
    wait_call(&user);
    CHECK(user.events & LOOP_CLOSED);
    CHECK_EQ_INT(transport_peer_state(user.transport), ERROR_IO);
    CHECK_EQ_INT(count_calls(&user, 50), 0);
    user_end(&user);
}

TEST(plain_watch_tells_a_reset_while_bytes_wait)
{
    struct user user;
    user_start(&user);
    CHECK_EQ_INT(write(user.client, "request", 7), 7);
    CHECK_EQ_INT(transport_want(user.transport, TRANSPORT_READ_WATCH, false), ERROR_NONE);
    wait_call(&user);
    reset_from_client(&user);
    wait_call(&user);
    CHECK(user.events & LOOP_CLOSED);
    CHECK(!(user.events & LOOP_WRITE)); /* EPOLLERR wakes writers; nobody writes here */
    CHECK_EQ_INT(transport_peer_state(user.transport), ERROR_IO);
    CHECK_EQ_INT(count_calls(&user, 50), 0);
    user_end(&user);
}

TEST(plain_watch_and_writing_go_together)
{
    struct user user;
    user_start(&user);
    shrink_buffers(user.transport->io.fd);
    static char block[65536];
    struct iovec vector = {block, sizeof(block)};
    size_t length = 0, total = 0;
    enum error error;
    while ((error = transport_writev(user.transport, &vector, 1, &length)) == ERROR_NONE) {
        total += length;
    }
    CHECK_EQ_INT(error, ERROR_AGAIN);
    CHECK_EQ_INT(transport_want(user.transport, TRANSPORT_READ_WATCH, true), ERROR_NONE);
    CHECK_EQ_INT(count_calls(&user, 20), 0);
    char *drain = malloc(total);
    size_t got = 0;
    user.stop = true;
    while (got < total) {
        ssize_t part = read(user.client, drain, total - got);
        CHECK(part > 0 || got > 0);
        if (part <= 0) {
            break;
        }
        got += (size_t)part;
    }
    free(drain);
    wait_call(&user);
    CHECK(user.events & LOOP_WRITE);
    CHECK_EQ_INT(transport_writev(user.transport, &vector, 1, &length), ERROR_NONE);
    user_end(&user);
}

TEST(plain_write_to_a_reset_peer_fails_without_a_signal)
{
    struct user user;
    user_start(&user);
    CHECK_EQ_INT(transport_want(user.transport, TRANSPORT_READ_ON, false), ERROR_NONE);
    reset_from_client(&user);
    wait_call(&user);
    struct iovec vector = {(void *)(uintptr_t)"x", 1};
    size_t length = 0;
    CHECK_EQ_INT(transport_writev(user.transport, &vector, 1, &length), ERROR_IO);
    CHECK_EQ_INT(transport_peer_state(user.transport), ERROR_IO);
    user_end(&user);
}

TEST(plain_destroy_resets_when_asked)
{
    struct user user;
    char byte;
    user_start(&user);
    transport_destroy(user.transport, true);
    CHECK_EQ_INT(read(user.client, &byte, 1), -1); /* ECONNRESET */
    close(user.client);
    bench_done(&user.bench);

    user_start(&user);
    transport_destroy(user.transport, false);
    CHECK_EQ_INT(read(user.client, &byte, 1), 0);
    close(user.client);
    bench_done(&user.bench);
}

TEST(plain_without_memory_closes_the_descriptor)
{
    struct bench bench;
    int fds[2];
    char byte;
    bench_init(&bench);
    tcp_pair(fds);
    uint64_t before = mem_live();
    mem_fail_nth(1, 0);
    CHECK(transport_plain_new(bench.loop, fds[0], &no_addr, &no_addr) == NULL);
    mem_fail_nth(0, 0);
    CHECK_EQ_INT(read(fds[1], &byte, 1), 0);
    CHECK_EQ_INT(mem_live(), before);
    close(fds[1]);
    bench_done(&bench);
}

CHECK_MAIN
