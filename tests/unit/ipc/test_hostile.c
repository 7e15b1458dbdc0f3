/* SPDX-License-Identifier: MIT */
/* What a hostile worker may try: each breach of framing, ids, order or credit ends its link with CHANNEL_ERROR and a counter, and
 * leaves nothing behind. */
#include "check.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/channel_state.h"
#include "script.h"

static struct script s;
static struct script_user users[4];
static int64_t violations[3];

#define END FRAME_FLAG_END_STREAM
#define DONE FRAME_FLAG_DONE
#define INFO FRAME_FLAG_INFORMATIONAL

static int64_t counted(enum frame_error code)
{
    return metrics_sum(code == FRAME_ERROR_FLOW_CONTROL ? METRIC_ipc_violations_flow_control
                       : code == FRAME_ERROR_FRAME_SIZE ? METRIC_ipc_violations_frame_size
                                                        : METRIC_ipc_violations_protocol);
}

/* A ready link with two open streams: 1 (untouched) and 2. */
static void start(void)
{
    struct ipc_settings settings = script_settings();

    memset(users, 0, sizeof(users));
    CHECK(script_start(&s, &settings));
    script_ready(&s);
    CHECK(script_open(&s, &users[0], "", true, false));
    CHECK(script_open(&s, &users[1], "", false, false));
    (void)script_take(&s);
    (void)script_take(&s);
    violations[0] = counted(FRAME_ERROR_PROTOCOL);
    violations[1] = counted(FRAME_ERROR_FLOW_CONTROL);
    violations[2] = counted(FRAME_ERROR_FRAME_SIZE);
}

/* The link has ended with this code, everybody was told once, and nothing is left. */
static void expect_end(enum frame_error code)
{
    int64_t before = code == FRAME_ERROR_FLOW_CONTROL ? violations[1]
                     : code == FRAME_ERROR_FRAME_SIZE ? violations[2]
                                                      : violations[0];
    script_turns(&s, 2);
    struct frame frame = script_take_type(&s, FRAME_CHANNEL_ERROR);
    CHECK_EQ_INT(frame.type, FRAME_CHANNEL_ERROR);
    CHECK_EQ_INT(frame.code, code);
    CHECK(frame.length > 10);
    CHECK(s.ended);
    CHECK_EQ_INT(s.closed, 1);
    CHECK(!s.orderly);
    CHECK_EQ_INT(counted(code) - before, 1);
    CHECK_EQ_INT(s.slots_freed, 2);
    for (int i = 0; i < 2; i++) {
        CHECK(users[i].gones <= 1);
        CHECK(users[i].stream == NULL || users[i].answer != ERROR_NONE);
    }
    CHECK(script_end(&s));
}

struct attack {
    const char *what;
    struct frame frame;
    uint32_t length;
    enum frame_error code;
};

#define PROTOCOL FRAME_ERROR_PROTOCOL
#define FLOW FRAME_ERROR_FLOW_CONTROL
#define SIZE FRAME_ERROR_FRAME_SIZE
#define HEAD {.type = FRAME_RESPONSE, .stream = 1, .code = 200}

TEST(one_frame_attacks)
{
    static const struct attack attacks[] = {
        {"R7 over max_frame", {.type = FRAME_DATA, .stream = 1}, 65537, SIZE},
        {"R8 unknown type", {.type = 99}, 0, PROTOCOL},
        {"R8 type 0", {.type = 0}, 0, PROTOCOL},
        {"R9 not the worker's", {.type = FRAME_REQUEST, .stream = 3}, 1, PROTOCOL},
        {"R10 stream 0", {.type = FRAME_DONE}, 0, PROTOCOL},
        {"R11 flag", {.type = FRAME_DONE, .stream = 1, .flags = 1}, 0, PROTOCOL},
        {"R12 code", {.type = FRAME_RESET, .stream = 1, .code = 20}, 0, PROTOCOL},
        {"R13 aux", {.type = FRAME_WINDOW, .stream = 1}, 0, PROTOCOL},
        {"R14 aux", {.type = FRAME_RESPONSE, .stream = 1, .code = 200, .aux = 9}, 3, PROTOCOL},
        {"R16 101 unmarked", {.type = FRAME_RESPONSE, .stream = 1, .code = 101}, 3, PROTOCOL},
        {"R18 empty DATA", {.type = FRAME_DATA, .stream = 1}, 0, PROTOCOL},
        {"R20 idle id", {.type = FRAME_DONE, .stream = 3}, 0, PROTOCOL},
        {"R20 RESPONSE to nothing",
         {.type = FRAME_RESPONSE, .stream = 77, .code = 200},
         3,
         PROTOCOL},
        {"R25 second HELLO", {.type = FRAME_HELLO}, 5, PROTOCOL},
        {"R28 FILE", {.type = FRAME_FILE, .stream = 1}, 16, PROTOCOL},
        {"R28 WS_ACCEPT", {.type = FRAME_WS_ACCEPT, .stream = 1}, 3, PROTOCOL},
        {"R28 WS_MSG", {.type = FRAME_WS_MSG, .stream = 1}, 3, PROTOCOL},
        {"R28 WS_CLOSE", {.type = FRAME_WS_CLOSE, .stream = 1, .code = 1000}, 0, PROTOCOL},
        {"R32 second READY", {.type = FRAME_READY}, 0, PROTOCOL},
        {"R50 DATA first", {.type = FRAME_DATA, .stream = 1}, 3, PROTOCOL},
        {"R50 TRAILERS first", {.type = FRAME_TRAILERS, .stream = 1, .flags = END}, 3, PROTOCOL},
        {"R67 body above credit",
         {.type = FRAME_RESPONSE, .stream = 1, .code = 200, .aux = 1},
         65536,
         FLOW},
        {"R69 more than the window", {.type = FRAME_WINDOW, .stream = 2, .aux = 1}, 0, FLOW},
        {"R69 overflow", {.type = FRAME_WINDOW, .stream = 2, .aux = UINT32_MAX}, 0, FLOW},
    };
    static char payload[65537];

    start(); /* what is made once per thread */
    CHECK(script_end(&s));
    for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
        uint64_t live = mem_live();
        printf("# %s\n", attacks[i].what);
        start();
        script_send(&s, attacks[i].frame, payload, attacks[i].length);
        expect_end(attacks[i].code);
        CHECK_EQ_INT(mem_live(), live);
    }
}

/* A prologue of frames, then the breach. */
static void after(const struct frame *frames, size_t count, struct frame breach, uint32_t length,
                  enum frame_error code)
{
    static char payload[65536] = "\x91\xc4";

    start();
    for (size_t i = 0; i < count; i++) {
        bool empty = frames[i].type == FRAME_DONE || frames[i].type == FRAME_RESET ||
                     frames[i].type == FRAME_WINDOW || frames[i].type == FRAME_GOAWAY;
        script_say(&s, frames[i], payload, empty ? 0 : 3);
        CHECK(s.channel != NULL);
    }
    script_send(&s, breach, payload, length);
    expect_end(code);
}

TEST(order_of_a_response)
{
    struct frame head = HEAD;
    struct frame ended = HEAD;
    struct frame data = {.type = FRAME_DATA, .stream = 1};
    struct frame reset = {.type = FRAME_RESET, .stream = 1, .code = FRAME_ERROR_APP_EXCEPTION};
    struct frame info = {.type = FRAME_RESPONSE, .stream = 1, .code = 103, .flags = INFO};
    struct frame refused = {.type = FRAME_REFUSED, .stream = 1, .code = FRAME_ERROR_REFUSED};
    struct frame infos[8] = {info, info, info, info, info, info, info, info};

    ended.flags = END;
    after(&head, 1, head, 3, PROTOCOL);  /* a second final RESPONSE */
    after(&head, 1, info, 3, PROTOCOL);  /* 1xx behind it */
    after(infos, 8, info, 3, PROTOCOL);  /* the ninth */
    after(&ended, 1, data, 3, PROTOCOL); /* R51 */
    after(&ended, 1, head, 3, PROTOCOL);
    after(&ended, 1, reset, 0, PROTOCOL);
    after(&reset, 1, reset, 0, PROTOCOL);
    after(&reset, 1, data, 3, PROTOCOL);
    after(&head, 1, refused, 0, PROTOCOL); /* R48 */
}

TEST(a_later_goaway_goes_up)
{
    struct frame goaway = {.type = FRAME_GOAWAY, .code = FRAME_ERROR_DRAINING, .aux = 2};
    struct frame higher = goaway;

    higher.aux = 3;
    after(&goaway, 1, higher, 0, PROTOCOL);
}

TEST(credit_is_checked_on_streams_that_we_ended)
{
    static char payload[65536];

    start();
    channel_stream_reset(users[0].stream, FRAME_ERROR_DEADLINE);
    users[0].stream = NULL;
    script_say(&s, (struct frame)HEAD, "\x91\xc4", 3);
    script_say(&s, (struct frame){.type = FRAME_DATA, .stream = 1}, payload, 40000);
    CHECK(s.channel != NULL);
    script_send(&s, (struct frame){.type = FRAME_DATA, .stream = 1}, payload, 40000);
    expect_end(FLOW);
}

TEST(credit_counts_the_overhead)
{
    static char payload[65536];

    start();
    users[0].hold = true;
    script_say(&s, (struct frame)HEAD, "\x91\xc4", 3);
    script_say(&s, (struct frame){.type = FRAME_DATA, .stream = 1}, payload, 65536 - 16);
    CHECK(s.channel != NULL);
    script_send(&s, (struct frame){.type = FRAME_DATA, .stream = 1, .flags = END}, payload, 0);
    expect_end(FLOW);
}

TEST(a_descriptor_without_a_file_is_closed)
{
    for (unsigned count = 1; count <= 3; count++) {
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(3 * sizeof(int))];
        } control = {.bytes = {0}};
        uint8_t header[FRAME_HEADER_SIZE];
        int pipe_fds[2];

        start();
        CHECK_EQ_INT(pipe(pipe_fds), 0);
        frame_encode(header, &(struct frame){.type = FRAME_PING});
        struct iovec vector = {.iov_base = header, .iov_len = sizeof(header)};
        struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = CMSG_SPACE(count * sizeof(int))};
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        for (unsigned i = 0; i < count; i++) {
            memcpy(CMSG_DATA(c) + i * sizeof(int), &pipe_fds[1], sizeof(int));
        }
        CHECK_EQ_INT(sendmsg(s.fd, &message, 0), FRAME_HEADER_SIZE);
        close(pipe_fds[1]);
        expect_end(PROTOCOL);
        char byte;
        CHECK_EQ_INT(read(pipe_fds[0], &byte, 1), 0); /* no copy of it lives in the gateway */
        close(pipe_fds[0]);
    }
}

TEST(a_flood_without_effect)
{
    uint8_t header[FRAME_HEADER_SIZE];
    int64_t floods = metrics_sum(METRIC_ipc_floods);

    start();
    script_say(
        &s, (struct frame){.type = FRAME_RESPONSE, .stream = 1, .code = 200, .flags = END | DONE},
        "\x91\xc4", 3);
    frame_encode(header, &(struct frame){.type = FRAME_DONE, .stream = 1});
    for (unsigned i = 0; i < FRAME_FLOOD_FRAMES - 1; i++) {
        script_write(&s, header, sizeof(header));
        if (i % 100 == 0) {
            script_turns(&s, 1);
        }
    }
    script_turns(&s, 2);
    CHECK(s.channel != NULL);
    script_write(&s, header, sizeof(header));
    script_turns(&s, 2);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_floods) - floods, 1);
    expect_end(PROTOCOL);
}

TEST(what_is_only_dropped)
{
    start();
    int64_t ignored = metrics_sum(METRIC_ipc_frames_ignored);
    script_say(&s, (struct frame){.type = 222, .flags = 255, .code = 7, .stream = 9}, "x", 1);
    script_say(&s, (struct frame){.type = FRAME_PONG, .aux = 5}, NULL, 0);                /* R76 */
    script_say(&s, (struct frame){.type = FRAME_WINDOW, .stream = 1, .aux = 5}, NULL, 0); /* R74 */
    script_say(&s, (struct frame){.type = FRAME_STATS}, "\xdd\x01\x00\x00\x00", 5);       /* R38 */
    script_say(&s, (struct frame){.type = FRAME_LOG}, "\x80", 1);
    CHECK_EQ_INT(metrics_sum(METRIC_ipc_frames_ignored) - ignored, 5);
    CHECK_EQ_INT(s.stats, 0);
    CHECK(s.channel != NULL);
    CHECK(script_end(&s));
}

TEST(stats_and_ping_are_bounded)
{
    static const char stats[] = "\x83\xa3rss\x01\xa9in_flight\x02\xa5tasks\x03";

    start();
    script_say(&s, (struct frame){.type = FRAME_STATS}, stats, sizeof(stats) - 1);
    script_say(&s, (struct frame){.type = FRAME_STATS}, stats, sizeof(stats) - 1); /* R79 */
    CHECK_EQ_INT(s.stats, 1);
    CHECK_EQ_INT(s.last_stats.in_flight, 2);
    for (uint32_t i = 1; i <= 50; i++) { /* one read, one PONG: the newest (R75) */
        script_send(&s, (struct frame){.type = FRAME_PING, .aux = i}, NULL, 0);
    }
    struct frame frame = script_take_type(&s, FRAME_PONG);
    CHECK_EQ_INT(frame.aux, 50);
    CHECK_EQ_INT(script_take(&s).type, 0);
    CHECK(script_end(&s));
}

TEST(frames_behind_a_breach_are_not_read)
{
    start();
    script_send(&s, (struct frame){.type = 99}, NULL, 0);
    script_send(&s, (struct frame)HEAD, "\x91\xc4", 3);
    script_turns(&s, 3);
    CHECK_EQ_INT(users[0].heads, 0);
    expect_end(PROTOCOL);
}

TEST(channel_error_is_shown_and_not_answered)
{
    struct ipc_settings settings = script_settings();

    CHECK(script_start(&s, &settings));
    (void)script_take(&s);
    script_say(&s, (struct frame){.type = FRAME_CHANNEL_ERROR, .code = FRAME_ERROR_STARTUP_FAILED},
               "Traceback: no module", 20);
    CHECK_EQ_INT(s.errors, 1);
    CHECK_EQ_INT(s.error_code, FRAME_ERROR_STARTUP_FAILED);
    CHECK_EQ_STR(s.text, "Traceback: no module");
    CHECK_EQ_INT(s.closed, 1);
    CHECK(!s.orderly);
    CHECK_EQ_INT(script_take(&s).type, 0);
    CHECK(s.ended);
    CHECK(script_end(&s));
}

TEST(a_worker_that_does_not_read_is_bounded)
{
    struct script_user many[3] = {{0}};
    static char body[16385];
    unsigned opened = 0;

    start();
    memset(body, 'x', 16384);
    while (channel_can_open(s.channel) && opened < 1000) {
        CHECK(script_open(&s, &many[0], body, true, false));
        opened++;
        script_turns(&s, 1);
    }
    CHECK(opened < 1000);
    CHECK(link_queued(&s.channel->link) < 262144 + 16384 + 64);
    /* its WINDOWs are held as numbers, its data as its window */
    CHECK(s.channel->link.blocked);
    script_say(&s, (struct frame){.type = FRAME_PING, .aux = 1}, NULL, 0);
    script_say(&s, (struct frame){.type = FRAME_PING, .aux = 2}, NULL, 0);
    script_read(&s); /* it reads again: all comes */
    while (s.count < opened + 4 && script_take(&s).type != 0) {
    }
    CHECK(channel_can_open(s.channel));
    struct frame last = s.frames[s.count - 1];
    CHECK_EQ_INT(last.type, FRAME_PONG);
    CHECK_EQ_INT(last.aux, 2);
    CHECK(script_end(&s));
}

CHECK_MAIN
