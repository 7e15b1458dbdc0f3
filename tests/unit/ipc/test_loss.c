/* SPDX-License-Identifier: MIT */
/* Lost links: who is told what (SPEC section 15). A child process holds the worker's end and dies, or does not. */
#include "check.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "ipc/channel_state.h"
#include "ipc/progress.h"
#include "script.h"

static struct script s;
static struct script_user users[8];
static pid_t child;

#define END FRAME_FLAG_END_STREAM
#define DONE FRAME_FLAG_DONE

/* A ready link whose worker end is also held by a child that only waits to be killed. The test speaks for it; closing the test's
 * own copy leaves the link alive until the child dies. */
static void start(uint64_t death_wait, bool with_pidfd)
{
    struct ipc_settings settings = script_settings();
    int fds[2];

    memset(users, 0, sizeof(users));
    settings.death_wait = death_wait;
    CHECK_EQ_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(fds[0]);
        for (;;) {
            pause();
        }
    }
    int pidfd = with_pidfd ? (int)syscall(SYS_pidfd_open, child, 0) : -1;
    CHECK(!with_pidfd || pidfd >= 0);
    CHECK(script_start_with(&s, &settings, fds[0], fds[1], pidfd));
    script_ready(&s);
}

static void open_streams(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        CHECK(script_open(&s, &users[i], "", true, false));
    }
    script_turns(&s, 2);
    script_read(&s);
}

static void started(uint32_t id)
{
    CHECK_EQ_INT(pwrite(s.page_fd, &id, sizeof(id), 0), sizeof(id));
}

static void leave(void)
{
    close(s.fd);
    s.fd = -1;
}

static void kill_child(void)
{
    kill(child, SIGKILL);
}

static void end(void)
{
    int status;

    kill(child, SIGKILL);
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK(script_end(&s));
}

static void check_fate(unsigned user, enum channel_fate fate)
{
    CHECK_EQ_INT(users[user].gones, 1);
    CHECK_EQ_INT(users[user].gone.end, CHANNEL_END_LOST);
    CHECK_EQ_INT(users[user].gone.fate, fate);
}

TEST(the_page_of_a_dead_worker_decides)
{
    start(30 * CLOCK_NS_PER_S, true);
    open_streams(5);
    started(2);
    kill_child();
    leave();
    CHECK(script_until(&s, &s.closed));
    check_fate(0, CHANNEL_FATE_STARTED);
    check_fate(1, CHANNEL_FATE_STARTED);
    check_fate(2, CHANNEL_FATE_NOT_STARTED);
    check_fate(3, CHANNEL_FATE_NOT_STARTED);
    check_fate(4, CHANNEL_FATE_NOT_STARTED);
    CHECK_EQ_INT(s.slots_freed, 5);
    CHECK(!s.orderly);
    end();
}

TEST(an_untouched_page_says_nothing_was_started)
{
    start(30 * CLOCK_NS_PER_S, true);
    open_streams(1);
    kill_child();
    leave();
    CHECK(script_until(&s, &s.closed));
    check_fate(0, CHANNEL_FATE_NOT_STARTED);
    end();
}

TEST(a_page_with_an_id_that_was_never_sent)
{
    start(30 * CLOCK_NS_PER_S, true);
    open_streams(2);
    started(3);
    kill_child();
    leave();
    CHECK(script_until(&s, &s.closed));
    check_fate(0, CHANNEL_FATE_STARTED); /* R109 */
    check_fate(1, CHANNEL_FATE_STARTED);
    end();
}

TEST(a_dead_link_is_not_a_dead_worker)
{
    start(50 * CLOCK_NS_PER_MS, true);
    open_streams(2);
    shutdown(s.fd, SHUT_RDWR); /* the link ends, the process lives */
    leave();
    script_turns(&s, 3);
    CHECK_EQ_INT(users[0].gones, 0); /* the loop is not held up meanwhile */
    CHECK(script_until(&s, &s.closed));
    check_fate(0, CHANNEL_FATE_STARTED);
    check_fate(1, CHANNEL_FATE_STARTED);
    end();
}

TEST(without_a_pidfd_everything_written_may_have_started)
{
    start(30 * CLOCK_NS_PER_S, false);
    open_streams(1);
    kill_child();
    leave();
    CHECK(script_until(&s, &s.closed));
    check_fate(0, CHANNEL_FATE_STARTED);
    end();
}

TEST(what_was_answered_is_told_at_once)
{
    start(30 * CLOCK_NS_PER_S, true);
    open_streams(3);
    started(1);
    script_say(&s, (struct frame){.type = FRAME_RESPONSE, .stream = 1, .code = 200}, "\x91\xc4", 3);
    shutdown(s.fd, SHUT_RDWR);
    leave();
    CHECK(script_until(&s, &users[0].gones));
    check_fate(0, CHANNEL_FATE_STARTED);
    CHECK_EQ_INT(users[1].gones, 0); /* these wait for the death */
    CHECK_EQ_INT(channel_counts(s.channel).open, 2);
    kill_child();
    CHECK(script_until(&s, &s.closed));
    check_fate(1, CHANNEL_FATE_NOT_STARTED);
    end();
}

TEST(what_was_not_written_was_not_started)
{
    static char body[16385];
    struct script_user many[64] = {{0}};
    unsigned opened = 0;

    memset(body, 'x', 16384);
    start(30 * CLOCK_NS_PER_S, true);
    while (!s.channel->link.blocked) { /* nobody reads: the socket fills */
        CHECK(opened < 60);
        CHECK(script_open(&s, &many[opened++], body, true, false));
        script_turns(&s, 1);
    }
    CHECK(script_open(&s, &many[opened++], "", true, false)); /* wholly in the queue */
    started(opened);
    kill_child();
    leave();
    CHECK(script_until(&s, &s.closed));
    CHECK_EQ_INT(many[0].gone.fate, CHANNEL_FATE_STARTED);
    CHECK_EQ_INT(many[opened - 2].gone.fate, CHANNEL_FATE_UNWRITTEN); /* in part */
    CHECK_EQ_INT(many[opened - 1].gone.fate, CHANNEL_FATE_UNWRITTEN);
    end();
}

TEST(what_it_had_sent_is_read_first)
{
    struct frame response = {.type = FRAME_RESPONSE, .stream = 1, .code = 200, .flags = END | DONE};
    uint8_t partial[FRAME_HEADER_SIZE + 1] = {0};

    start(30 * CLOCK_NS_PER_S, true);
    open_streams(2);
    int64_t cut = metrics_sum(METRIC_ipc_frames_cut);
    script_send(&s, response, "\x91\xc4", 3);
    response.stream = 2;
    response.length = 3;
    frame_encode(partial, &response);
    script_write(&s, partial, sizeof(partial)); /* R2: a partial last frame */
    kill_child();
    leave();
    CHECK(script_until(&s, &s.closed));
    CHECK_EQ_INT(users[0].gone.end, CHANNEL_END_DONE);
    CHECK_EQ_INT(users[0].status, 200);
    check_fate(1, CHANNEL_FATE_NOT_STARTED);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_frames_cut) - cut, 1);
    end();
}

TEST(a_write_error_does_not_hide_what_was_sent)
{
    struct frame response = {.type = FRAME_RESPONSE, .stream = 1, .code = 200, .flags = END | DONE};

    start(30 * CLOCK_NS_PER_S, true);
    open_streams(1);
    script_send(&s, response, "\x91\xc4", 3);
    kill_child();
    int status;
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    leave();
    /* The first thing that the gateway does is to write: EPIPE. */
    CHECK(script_open(&s, &users[1], "", true, false));
    channel_flush(&s.channel->dirty);
    CHECK(s.channel->link.write_dead);
    CHECK(!channel_can_open(s.channel));
    CHECK(script_until(&s, &s.closed));
    CHECK_EQ_INT(users[0].gone.end, CHANNEL_END_DONE);
    check_fate(1, CHANNEL_FATE_UNWRITTEN);
    child = fork(); /* for end() */
    if (child == 0) {
        pause();
        _exit(0);
    }
    end();
}

TEST(a_socket_that_takes_nothing_and_has_no_end)
{
    start(20 * CLOCK_NS_PER_MS, true);
    open_streams(1);
    shutdown(s.fd, SHUT_RD); /* writing fails, reading goes on */
    CHECK(script_open(&s, &users[1], "", true, false));
    CHECK(script_until(&s, &s.closed));
    check_fate(1, CHANNEL_FATE_UNWRITTEN);
    check_fate(0, CHANNEL_FATE_STARTED);
    end();
}

TEST(our_own_close_writes_no_request_any_more)
{
    start(30 * CLOCK_NS_PER_S, true);
    open_streams(1);
    CHECK(script_open(&s, &users[1], "", true, false)); /* queued in the turn that ends the link */
    channel_close(s.channel, FRAME_ERROR_WORKER_LOST, "another link was lost");
    channel_close(s.channel, FRAME_ERROR_INTERNAL, "not twice");
    struct frame frame = script_take(&s);
    while (frame.type == FRAME_REQUEST && frame.stream == 1) {
        frame = script_take(&s);
    }
    CHECK_EQ_INT(frame.type, FRAME_CHANNEL_ERROR);
    CHECK_EQ_INT(frame.code, FRAME_ERROR_WORKER_LOST);
    check_fate(1, CHANNEL_FATE_UNWRITTEN);
    CHECK_EQ_INT(users[0].gones, 0); /* it lives still: it may start what lies in its buffer */
    kill_child();
    CHECK(script_until(&s, &s.closed));
    check_fate(0, CHANNEL_FATE_NOT_STARTED);
    end();
}

TEST(detached_streams_only_free_their_slots)
{
    start(30 * CLOCK_NS_PER_S, true);
    open_streams(2);
    channel_stream_detach(users[0].stream);
    kill_child();
    leave();
    CHECK(script_until(&s, &s.closed));
    CHECK_EQ_INT(users[0].gones, 0);
    check_fate(1, CHANNEL_FATE_NOT_STARTED);
    CHECK_EQ_INT(s.slots_freed, 2);
    end();
}

TEST(a_user_may_leave_while_the_fate_is_open)
{
    start(30 * CLOCK_NS_PER_S, true);
    open_streams(3);
    shutdown(s.fd, SHUT_RDWR);
    leave();
    script_turns(&s, 3);
    channel_stream_detach(users[0].stream);
    channel_stream_reset(users[1].stream, FRAME_ERROR_DEADLINE);
    channel_stream_want_send(users[2].stream);
    channel_stream_disconnect(users[2].stream, FRAME_ERROR_CLIENT_GONE);
    kill_child();
    CHECK(script_until(&s, &s.closed));
    CHECK_EQ_INT(users[0].gones + users[1].gones, 0);
    CHECK_EQ_INT(users[2].gones, 1);
    CHECK_EQ_INT(s.slots_freed, 3);
    end();
}

TEST(goaway_makes_an_end_orderly)
{
    start(30 * CLOCK_NS_PER_S, true);
    channel_goaway(s.channel, FRAME_ERROR_RETIRED);
    CHECK(script_until(&s, &s.closed));
    CHECK(s.orderly);
    end();
}

TEST(no_ready_within_start_timeout)
{
    struct ipc_settings settings = script_settings();

    settings.start_timeout = 1 * CLOCK_NS_PER_MS;
    CHECK(script_start(&s, &settings));
    CHECK(script_until(&s, &s.closed));
    struct frame frame = script_take_type(&s, FRAME_CHANNEL_ERROR);
    CHECK_EQ_INT(frame.code, FRAME_ERROR_STARTUP_FAILED);
    CHECK(script_end(&s));
}

TEST(no_pong_is_told_once_and_recovers)
{
    struct ipc_settings settings = script_settings();

    settings.ping_interval = 1 * CLOCK_NS_PER_MS;
    settings.unresponsive_after = 3 * CLOCK_NS_PER_MS;
    CHECK(script_start(&s, &settings));
    script_ready(&s);
    CHECK(script_until(&s, &s.lates));
    for (int i = 0; i < 20; i++) {
        usleep(1000);
        script_turns(&s, 1);
    }
    CHECK_EQ_INT(s.lates, 1); /* once, however long it lasts */
    struct frame ping = script_take_type(&s, FRAME_PING);
    CHECK_EQ_INT(ping.type, FRAME_PING);
    script_say(&s, (struct frame){.type = FRAME_PONG, .aux = ping.aux}, NULL, 0);
    CHECK(s.lags >= 2);
    CHECK(script_end(&s));
}

TEST(the_page_and_the_pidfd)
{
    int fd;
    uint32_t words[2] = {7, 9};
    uint32_t beat = 0;

    CHECK_EQ_INT(progress_page_new(&fd), ERROR_NONE);
    CHECK_EQ_INT(progress_started(fd), 0);
    CHECK_EQ_INT(pwrite(fd, words, sizeof(words), 0), sizeof(words));
    CHECK_EQ_INT(progress_started(fd), 7);
    CHECK(progress_heartbeat(fd, &beat));
    CHECK_EQ_INT(beat, 9);
    close(fd);
    CHECK(progress_started(-1) == UINT32_MAX);
    CHECK(!progress_heartbeat(-1, &beat));
    CHECK(!progress_is_dead(-1));
    int self = progress_pidfd(-1, getpid());
    CHECK(self >= 0);
    CHECK(!progress_is_dead(self));
    close(self);
    CHECK_EQ_INT(progress_pidfd(-1, 0), -1);
}

CHECK_MAIN
