/* SPDX-License-Identifier: MIT */
/* loop/loop_io.c: what a watch reports, how it changes, and the half-closed and reset peers that
 * the rule for reading while a response is pending is about. */
#include "check.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "loop/loop_state.h"

static struct loop *loop;
static int ends[2];
static struct loop_io io;
static struct loop_timer timer;
static unsigned seen[8];
static size_t seen_count;

static void on_timer(struct loop_timer *unused)
{
    (void)unused;
    loop_stop(loop);
}

static void on_ready(struct loop_io *watch, unsigned events)
{
    CHECK(watch == &io);
    CHECK(seen_count < 8);
    seen[seen_count++] = events;
    loop_stop(loop);
}

static void open_loop(void)
{
    struct loop_settings settings = {64, 500};

    loop = loop_new(0, &settings);
    CHECK(loop != NULL);
    seen_count = 0;
    loop_timer_init(&timer, loop, on_timer);
}

static void open_pair(void)
{
    open_loop();
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    loop_io_init(&io, loop, ends[0], on_ready);
}

static void close_pair(void)
{
    loop_io_done(&io);
    loop_io_done(&io);
    loop_timer_clear(&timer);
    close(ends[0]);
    close(ends[1]);
    loop_free(loop);
}

/* One turn that ends by an event or, when nothing is ready, by a short timer; returns the events
 * (0: none). */
static unsigned run_once(void)
{
    size_t before = seen_count;

    CHECK_EQ_INT(loop_timer_set(&timer, 20 * CLOCK_NS_PER_MS), ERROR_NONE);
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    loop_timer_clear(&timer);
    return seen_count > before ? seen[seen_count - 1] : 0;
}

TEST(io_level_triggered_tells_until_read)
{
    char byte;

    open_pair();
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ), ERROR_NONE);
    CHECK_EQ_INT(run_once(), 0);
    CHECK_EQ_INT(write(ends[1], "x", 1), 1);
    CHECK_EQ_INT(run_once(), LOOP_READ);
    CHECK_EQ_INT(run_once(), LOOP_READ);
    CHECK_EQ_INT(read(ends[0], &byte, 1), 1);
    CHECK_EQ_INT(run_once(), 0);
    close_pair();
}

TEST(io_changes_what_it_watches)
{
    open_pair();
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ | LOOP_WRITE), ERROR_NONE);
    CHECK_EQ_INT(run_once(), LOOP_WRITE);
    CHECK_EQ_INT(write(ends[1], "x", 1), 1);
    CHECK_EQ_INT(run_once(), LOOP_READ | LOOP_WRITE);
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ), ERROR_NONE);
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ), ERROR_NONE);
    CHECK_EQ_INT(run_once(), LOOP_READ);
    CHECK_EQ_INT(loop_io_set(&io, 0), ERROR_NONE);
    CHECK_EQ_INT(run_once(), 0);
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ), ERROR_NONE);
    CHECK_EQ_INT(run_once(), LOOP_READ);
    close_pair();
}

TEST(io_edge_triggered_tells_once_per_change)
{
    open_pair();
    CHECK_EQ_INT(write(ends[1], "x", 1), 1);
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ | LOOP_CLOSED | LOOP_EDGE), ERROR_NONE);
    CHECK_EQ_INT(run_once(), LOOP_READ);
    CHECK_EQ_INT(run_once(), 0);
    CHECK_EQ_INT(write(ends[1], "y", 1), 1);
    CHECK_EQ_INT(run_once(), LOOP_READ);
    CHECK_EQ_INT(run_once(), 0);
    /* the peer's end is an event of its own though its bytes were not read */
    CHECK_EQ_INT(shutdown(ends[1], SHUT_WR), 0);
    CHECK(run_once() & LOOP_CLOSED);
    CHECK_EQ_INT(run_once(), 0);
    /* back to level: the unread bytes are told of again */
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ), ERROR_NONE);
    CHECK_EQ_INT(run_once(), LOOP_READ);
    CHECK_EQ_INT(run_once(), LOOP_READ);
    close_pair();
}

TEST(io_reset_is_told_once_when_edge_triggered)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    struct linger linger = {1, 0};

    open_loop();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ_INT(bind(listener, (struct sockaddr *)&address, length), 0);
    CHECK_EQ_INT(listen(listener, 1), 0);
    CHECK_EQ_INT(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    ends[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ_INT(connect(ends[1], (struct sockaddr *)&address, length), 0);
    ends[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(ends[0] >= 0);
    CHECK_EQ_INT(write(ends[1], "x", 1), 1);
    loop_io_init(&io, loop, ends[0], on_ready);
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ | LOOP_CLOSED | LOOP_EDGE), ERROR_NONE);
    CHECK(run_once() & LOOP_READ);
    setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(ends[1]); /* an RST */
    CHECK(run_once() & LOOP_READ);
    int error = 0;
    socklen_t error_length = sizeof(error);
    CHECK_EQ_INT(getsockopt(ends[0], SOL_SOCKET, SO_ERROR, &error, &error_length), 0);
    CHECK(error != 0);
    CHECK_EQ_INT(run_once(), 0);
    ends[1] = listener;
    close_pair();
}

static void on_ready_done(struct loop_io *watch, unsigned events)
{
    (void)events;
    seen_count++;
    loop_io_done(watch);
    loop_stop(loop);
}

TEST(io_may_end_itself_in_its_callback)
{
    open_pair();
    io.callback = on_ready_done;
    CHECK_EQ_INT(write(ends[1], "x", 1), 1);
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ), ERROR_NONE);
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_INT(seen_count, 1);
    CHECK_EQ_INT(run_once(), 0);
    close_pair();
}

static struct loop_io other;

static void on_ready_end_both(struct loop_io *watch, unsigned events)
{
    (void)watch;
    (void)events;
    seen_count++;
    loop_io_done(&io);
    loop_io_done(&other);
    loop_stop(loop);
}

TEST(io_ended_by_another_that_is_ready_too_stays_silent)
{
    open_pair();
    io.callback = on_ready_end_both;
    loop_io_init(&other, loop, ends[1], on_ready_end_both);
    CHECK_EQ_INT(write(ends[0], "x", 1), 1);
    CHECK_EQ_INT(write(ends[1], "x", 1), 1);
    CHECK_EQ_INT(loop_io_set(&io, LOOP_READ), ERROR_NONE);
    CHECK_EQ_INT(loop_io_set(&other, LOOP_READ), ERROR_NONE);
    CHECK_EQ_INT(loop_run(loop), ERROR_NONE);
    CHECK_EQ_INT(seen_count, 1);
    close_pair();
}

TEST(io_refuses_what_cannot_be_polled)
{
    struct loop_io zero;

    open_pair();
    memset(&zero, 0, sizeof(zero));
    loop_io_done(&zero);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    close(file);
    loop_io_init(&other, loop, file, on_ready);
    CHECK_EQ_INT(loop_io_set(&other, LOOP_READ), ERROR_IO);
    CHECK_EQ_INT(other.watched, 0);
    loop_io_done(&other);
    close_pair();
}

TEST(io_set_survives_each_failing_allocation)
{
    bool complete = false;

    open_pair();
    for (uint64_t n = 1; !complete; n++) {
        mem_fail_nth(n, 0);
        enum error error = loop_io_set(&io, LOOP_READ);
        mem_fail_nth(0, 0);
        complete = error == ERROR_NONE;
        CHECK(complete || error == ERROR_NO_MEMORY);
        CHECK(complete || io.watched == 0);
        CHECK(n < 20);
    }
    CHECK_EQ_INT(write(ends[1], "x", 1), 1);
    CHECK_EQ_INT(run_once(), LOOP_READ);
    close_pair();
}

CHECK_MAIN
