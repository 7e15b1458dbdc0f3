/* SPDX-License-Identifier: MIT */
/* HELLO, the acceptor and the socket's file: what is taken, what is refused and with which words (SPEC section 4). */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/frame.h"
#include "ipc/hello.h"
#include "ipc/hello_wire.h"
#include "ipc/pack.h"
#include "script.h"

static struct script s; /* only its loop and turns */
static char directory[64];
static char path[100];
static char text[256];
static int listener;
static struct ipc_acceptor *acceptor;
static struct ipc_link *taken;
static unsigned taken_count;

static void on_hello(void *context, struct ipc_link *link)
{
    CHECK(context == &s);
    taken = link;
    taken_count++;
}

struct hello_keys {
    unsigned proto_min, proto_max;
    const char *skip;  /* a key that is left out */
    const char *extra; /* a key that nobody knows */
    uint64_t max_concurrency;
    size_t instance;
};

#define GOOD_KEYS {.proto_min = 1, .proto_max = 1, .max_concurrency = 1000, .instance = 16}

static void key(struct strbuf *out, const char *name)
{
    pack_text(out, slice_from(name));
}

static void make_hello(struct strbuf *out, const struct hello_keys *keys)
{
    bool skip_app = keys->skip != NULL;

    pack_map(out, 12u - skip_app + (keys->extra != NULL));
    key(out, "proto_min");
    pack_uint(out, keys->proto_min);
    key(out, "proto_max");
    pack_uint(out, keys->proto_max);
    key(out, "features");
    pack_array(out, 2);
    key(out, "files");
    key(out, "time-travel");
    if (!skip_app) {
        key(out, "app");
        key(out, "main");
    }
    key(out, "instance");
    pack_bin(out, (struct slice){"0123456789abcdef0", keys->instance});
    key(out, "generation");
    key(out, "g1");
    key(out, "pid");
    pack_uint(out, 77);
    key(out, "python");
    key(out, "CPython 3.13");
    key(out, "worker_version");
    key(out, "test 1");
    key(out, "max_concurrency");
    pack_uint(out, keys->max_concurrency);
    key(out, "channel_index");
    pack_uint(out, 3);
    key(out, "token");
    pack_bin(out, SLICE("tok"));
    if (keys->extra != NULL) {
        key(out, keys->extra);
        pack_nil(out);
    }
}

/* --- the payload ----------------------------------------------------------------------------------------------------- */

static enum error decode(const struct hello_keys *keys, struct arena *arena, struct hello *hello,
                         const char **why)
{
    struct strbuf out;

    strbuf_init(&out);
    make_hello(&out, keys);
    enum error error = hello_decode(arena, (struct slice){out.data, out.length}, hello, why);
    memset(out.data, '!', out.length); /* the slices are copies */
    strbuf_done(&out);
    return error;
}

TEST(a_hello_is_decoded)
{
    struct hello_keys keys = GOOD_KEYS;
    struct hello hello;
    struct arena arena;
    const char *why;

    keys.extra = "later";
    arena_init(&arena, 1024);
    CHECK_EQ_INT(decode(&keys, &arena, &hello, &why), ERROR_NONE);
    CHECK(slice_equal(hello.app, SLICE("main")));
    CHECK(slice_equal(hello.python, SLICE("CPython 3.13")));
    CHECK(slice_equal(hello.token, SLICE("tok")));
    CHECK_EQ_INT(hello.features, FRAME_FEATURE(files)); /* R28: the other name is skipped */
    CHECK_EQ_INT(hello.channel_index, 3);
    CHECK_EQ_INT(hello.max_concurrency, 1000);
    CHECK_EQ_INT(hello.pid, 77);
    CHECK_EQ_MEM(hello.instance, "0123456789abcdef", 16);
    CHECK_EQ_INT(hello.target.length, 0);
    arena_done(&arena);
}

TEST(a_malformed_hello_names_its_key)
{
    struct hello_keys keys[] = {GOOD_KEYS, GOOD_KEYS, GOOD_KEYS, GOOD_KEYS, GOOD_KEYS};
    static const char *const expected[] = {"app", "max_concurrency", "instance", "proto_min",
                                           "proto_min is greater than proto_max"};
    struct hello hello;
    struct arena arena;
    const char *why;

    keys[0].skip = "app";
    keys[1].max_concurrency = 0;
    keys[2].instance = 15;
    keys[3].proto_min = 0;
    keys[4].proto_min = 2;
    arena_init(&arena, 1024);
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQ_INT(decode(&keys[i], &arena, &hello, &why), ERROR_PROTOCOL);
        CHECK_EQ_STR(why, expected[i]);
    }
    arena_done(&arena);
}

/* --- the acceptor ------------------------------------------------------------------------------------------------------ */

static void start_with(struct ipc_settings settings, const uid_t *uids, size_t count)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64,
                                                       .turn_time_us = 1000000};

    s = (struct script){.loop = loop_new(0, &loop_settings), .fd = -1};
    CHECK(s.loop != NULL);
    taken = NULL;
    taken_count = 0;
    snprintf(directory, sizeof(directory), "/tmp/gatewayd-test-XXXXXX");
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof(path), "%s/run/app.sock", directory);
    CHECK_EQ_INT(ipc_socket_bind(path, (gid_t)-1, &listener, text, sizeof(text)), ERROR_NONE);
    acceptor = ipc_acceptor_new(s.loop, listener, &settings, uids, count, on_hello, &s);
    CHECK(acceptor != NULL);
}

static void start(void)
{
    start_with(script_settings(), NULL, 0);
}

static void end(void)
{
    ipc_link_free(taken);
    ipc_acceptor_free(acceptor);
    script_turns(&s, 2);
    loop_free(s.loop);
    close(listener);
    unlink(path);
    path[strlen(path) - strlen("/app.sock")] = '\0';
    rmdir(path);
    rmdir(directory);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_handshakes_open), 0);
}

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    CHECK(fd >= 0);
    CHECK_EQ_INT(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* HELLO as a frame, appended. */
static void frame_hello(struct strbuf *out, const struct hello_keys *keys)
{
    struct frame frame = {.type = FRAME_HELLO};
    uint8_t header[FRAME_HEADER_SIZE];
    struct strbuf map;

    strbuf_init(&map);
    make_hello(&map, keys);
    frame.length = (uint32_t)map.length;
    frame_encode(header, &frame);
    strbuf_append(out, header, sizeof(header));
    strbuf_append(out, map.data, map.length);
    strbuf_done(&map);
}

static void send_all(int fd, struct slice data)
{
    CHECK_EQ_INT(send(fd, data.data, data.length, MSG_NOSIGNAL), data.length);
}

/* The code of the CHANNEL_ERROR that came, its text in `text`; then the end of the stream. Closes the descriptor. */
static enum frame_error refused(int fd)
{
    uint8_t bytes[2048];
    struct frame frame;

    script_turns(&s, 3);
    ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    CHECK(got >= (ssize_t)FRAME_HEADER_SIZE);
    frame_decode(bytes, &frame);
    CHECK_EQ_INT(frame.type, FRAME_CHANNEL_ERROR);
    CHECK_EQ_INT(got, FRAME_HEADER_SIZE + frame.length);
    snprintf(text, sizeof(text), "%.*s", (int)frame.length, (char *)bytes + FRAME_HEADER_SIZE);
    got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    CHECK(got == 0 || (got < 0 && errno == ECONNRESET)); /* reset when it had not read all */
    close(fd);
    return (enum frame_error)frame.code;
}

TEST(hello_comes_in_any_pieces)
{
    struct hello_keys keys = GOOD_KEYS;
    struct strbuf out;

    strbuf_init(&out);
    frame_hello(&out, &keys);
    for (size_t cut = 0; cut < out.length; cut += 7) {
        start();
        int fd = dial();
        send_all(fd, (struct slice){out.data, cut});
        script_turns(&s, 2);
        CHECK_EQ_INT(taken_count, 0);
        send_all(fd, (struct slice){out.data + cut, out.length - cut});
        script_turns(&s, 2);
        CHECK_EQ_INT(taken_count, 1);
        CHECK_EQ_INT(taken->pid, getpid()); /* the kernel's, not the claimed one */
        CHECK_EQ_INT(taken->uid, getuid());
        CHECK(taken->pidfd >= 0);
        CHECK(slice_equal(taken->hello.app, SLICE("main")));
        close(fd);
        end();
    }
    strbuf_done(&out);
}

TEST(wrong_hellos_are_refused_with_words)
{
    struct hello_keys good = GOOD_KEYS, old = GOOD_KEYS, bad = GOOD_KEYS;
    struct strbuf out;
    uint8_t header[FRAME_HEADER_SIZE];

    start();
    strbuf_init(&out);
    frame_hello(&out, &good);
    strbuf_append(&out, "x", 1);
    int fd = dial();
    send_all(fd, (struct slice){out.data, out.length});
    CHECK_EQ_INT(refused(fd), FRAME_ERROR_PROTOCOL); /* R24 */
    CHECK(strstr(text, "behind HELLO") != NULL);

    old.proto_min = 7;
    old.proto_max = 9;
    strbuf_clear(&out);
    frame_hello(&out, &old);
    fd = dial();
    send_all(fd, (struct slice){out.data, out.length});
    CHECK_EQ_INT(refused(fd), FRAME_ERROR_VERSION);
    CHECK(strstr(text, "1 to 1") != NULL && strstr(text, "7 to 9") != NULL); /* R27 */

    bad.max_concurrency = 0;
    strbuf_clear(&out);
    frame_hello(&out, &bad);
    fd = dial();
    send_all(fd, (struct slice){out.data, out.length});
    CHECK_EQ_INT(refused(fd), FRAME_ERROR_PROTOCOL);
    CHECK(strstr(text, "max_concurrency") != NULL);
    strbuf_done(&out);

    fd = dial();
    frame_encode(header, &(struct frame){.type = FRAME_READY});
    send_all(fd, (struct slice){(char *)header, sizeof(header)});
    CHECK_EQ_INT(refused(fd), FRAME_ERROR_PROTOCOL); /* R23 */
    fd = dial();
    frame_encode(header, &(struct frame){.type = 200});
    send_all(fd, (struct slice){(char *)header, sizeof(header)});
    CHECK_EQ_INT(refused(fd), FRAME_ERROR_PROTOCOL); /* ignorable types included */
    fd = dial();
    frame_encode(header, &(struct frame){.type = FRAME_HELLO, .length = 16385});
    send_all(fd, (struct slice){(char *)header, sizeof(header)});
    CHECK_EQ_INT(refused(fd), FRAME_ERROR_FRAME_SIZE); /* R7, before its payload */
    fd = dial();
    send_all(fd, SLICE("GET / HTTP/1.1\r\n\r\n"));
    CHECK_EQ_INT(refused(fd), FRAME_ERROR_PROTOCOL);
    CHECK_EQ_INT(taken_count, 0);
    end();
}

TEST(a_silent_link_is_dropped_and_blocks_nobody)
{
    struct ipc_settings settings = script_settings();
    struct hello_keys keys = GOOD_KEYS;
    struct strbuf out;
    unsigned passed = 0;

    settings.hello_timeout = 20 * CLOCK_NS_PER_MS;
    start_with(settings, NULL, 0);
    int silent = dial();
    int quick = dial();
    strbuf_init(&out);
    frame_hello(&out, &keys);
    send_all(quick, (struct slice){out.data, out.length});
    strbuf_done(&out);
    script_turns(&s, 3);
    CHECK_EQ_INT(taken_count, 1);
    uint64_t deadline = clock_now() + 10 * CLOCK_NS_PER_S;
    int64_t timeouts = metrics_sum(METRIC_ipc_handshake_timeouts);
    while (passed == 0 && clock_now() < deadline) {
        script_turns(&s, 1);
        passed = metrics_sum(METRIC_ipc_handshake_timeouts) > timeouts;
    }
    CHECK_EQ_INT(refused(silent), FRAME_ERROR_PROTOCOL);
    CHECK(strstr(text, "hello_timeout") != NULL);
    close(quick);
    end();
}

TEST(links_end_before_hello)
{
    start();
    int fd = dial();
    script_turns(&s, 2);
    send_all(fd, SLICE("abc"));
    close(fd);
    script_turns(&s, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_handshakes_open), 0);
    fd = dial();
    script_turns(&s, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_handshakes_open), 1); /* end() drops it */
    end();
    close(fd);
}

TEST(uids_and_the_number_of_links)
{
    struct ipc_settings settings = script_settings();
    uid_t nobody = getuid() + 12345;

    start_with(settings, &nobody, 1);
    CHECK_EQ_INT(refused(dial()), FRAME_ERROR_UNKNOWN_APP);
    CHECK(strstr(text, "allow_uids") != NULL);
    end();
    uid_t self = getuid();
    settings.max_links = 2;
    start_with(settings, &self, 1);
    int fds[2] = {dial(), dial()};
    script_turns(&s, 2);
    CHECK_EQ_INT(refused(dial()), FRAME_ERROR_FULL);
    CHECK(strstr(text, "max_links") != NULL);
    close(fds[0]);
    close(fds[1]);
    end();
}

TEST(a_descriptor_with_hello_is_refused)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    int pipe_fds[2];

    start();
    int fd = dial();
    CHECK_EQ_INT(pipe(pipe_fds), 0);
    char byte = 'x';
    struct iovec vector = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &pipe_fds[1], sizeof(int));
    CHECK_EQ_INT(sendmsg(fd, &message, 0), 1);
    close(pipe_fds[1]);
    CHECK_EQ_INT(refused(fd), FRAME_ERROR_PROTOCOL);
    CHECK_EQ_INT(read(pipe_fds[0], &byte, 1), 0);
    close(pipe_fds[0]);
    end();
}

TEST(no_memory_while_accepting)
{
    struct hello_keys keys = GOOD_KEYS;
    struct strbuf out;

    start();
    strbuf_init(&out);
    frame_hello(&out, &keys);
    for (uint64_t n = 1; n < 40; n++) {
        uint64_t live = mem_live();
        int fd = dial();
        send_all(fd, (struct slice){out.data, out.length});
        mem_fail_nth(n, 0);
        script_turns(&s, 4);
        mem_fail_nth(0, 0);
        close(fd);
        ipc_link_free(taken);
        taken = NULL;
        script_turns(&s, 4);
        CHECK(mem_live() <= live + 1); /* the pause's timer may be set */
    }
    strbuf_done(&out);
    end();
}

/* --- the socket's file --------------------------------------------------------------------------------------------------- */

TEST(the_socket_has_its_modes)
{
    struct stat status;

    start();
    CHECK_EQ_INT(stat(path, &status), 0);
    CHECK(S_ISSOCK(status.st_mode));
    CHECK_EQ_INT(status.st_mode & 0777, 0660);
    char parent[100];
    snprintf(parent, sizeof(parent), "%s/run", directory);
    CHECK_EQ_INT(stat(parent, &status), 0);
    CHECK_EQ_INT(status.st_mode & 0777, 0750);
    end();
}

TEST(a_live_socket_is_refused_a_stale_one_replaced)
{
    int fd = -1;

    start();
    CHECK_EQ_INT(ipc_socket_bind(path, (gid_t)-1, &fd, text, sizeof(text)), ERROR_LIMIT);
    CHECK(strstr(text, "another process listens") != NULL);
    CHECK_EQ_INT(fd, -1);
    ipc_acceptor_free(acceptor);
    script_turns(&s, 1);
    close(listener); /* its file stays */
    CHECK_EQ_INT(ipc_socket_bind(path, (gid_t)-1, &fd, text, sizeof(text)), ERROR_NONE);
    listener = fd;
    struct ipc_settings settings = script_settings();
    acceptor = ipc_acceptor_new(s.loop, listener, &settings, NULL, 0, on_hello, &s);
    CHECK(acceptor != NULL);
    close(dial());
    end();
}

TEST(what_is_no_socket_is_left_alone)
{
    char file[64] = "/tmp/gatewayd-test-XXXXXX";
    char longer[200];
    int fd = mkstemp(file);
    int socket_fd = -1;

    CHECK(fd >= 0);
    close(fd);
    CHECK_EQ_INT(ipc_socket_bind(file, (gid_t)-1, &socket_fd, text, sizeof(text)), ERROR_INVALID);
    CHECK(strstr(text, "not a socket") != NULL);
    CHECK_EQ_INT(access(file, F_OK), 0);
    unlink(file);
    memset(longer, 'a', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    CHECK_EQ_INT(ipc_socket_bind(longer, (gid_t)-1, &socket_fd, text, sizeof(text)), ERROR_INVALID);
    CHECK(strstr(text, "shorter") != NULL);
    CHECK_EQ_INT(ipc_socket_bind("relative", (gid_t)-1, &socket_fd, text, sizeof(text)),
                 ERROR_INVALID);
    CHECK_EQ_INT(ipc_socket_bind("/nonexistent/x/y", (gid_t)-1, &socket_fd, text, sizeof(text)),
                 ERROR_IO);
    CHECK(strstr(text, "/nonexistent/x") != NULL);
}

CHECK_MAIN
