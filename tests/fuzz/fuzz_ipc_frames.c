/* SPDX-License-Identifier: MIT */
/*
 * A channel against a worker that does anything: the input is a program of small steps, of the worker (frames, raw bytes), of
 * the users (open, send, release, reset, detach), of the owner and of the loop. Whatever happens: what the gateway sends keeps
 * every rule and the worker's credit, each user is told its end once, each slot is freed once, and nothing is left behind.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "descriptor.h"
#include "input.h"
#include "ipc/channel_state.h"
#include "ipc_ignored.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAMS 64
#define WINDOW 65536u

struct user {
    struct channel_stream *stream; /* NULL: gone or detached */
    uint32_t held, to_send;
    bool send_end, release, told;
    bool websocket, accepted, file;
    enum error answer;
    int64_t credit; /* what the worker has granted of the request's body */
};

static struct {
    struct loop *loop;
    struct channel *channel;
    int fd, file;
    struct user users[STREAMS];
    unsigned opened, freed, closed;
    bool raw; /* raw bytes were sent: they may hold WINDOWs, so the model of credit has ended */
    struct frame_reader reader;
} f;

/* --- users and owner ------------------------------------------------------------------------------------------------- */

static enum error user_answer(struct user *user)
{
    if (user->answer != ERROR_NONE) {
        user->stream = NULL; /* the channel detaches a user that refuses */
        user->told = true;
    }
    return user->answer;
}

static enum error on_head(void *context, unsigned status, struct slice head, bool end)
{
    struct user *user = context;

    REQUIRE(user->stream != NULL && status >= 100 && status <= 999 && head.length > 0);
    (void)end;
    return user_answer(user);
}

static enum error hold(struct user *user, size_t cost)
{
    user->held += (uint32_t)cost;
    REQUIRE(user->held <= WINDOW);
    if (user->release && user->answer == ERROR_NONE) {
        channel_stream_release(user->stream, user->held);
        user->held = 0;
    }
    return user_answer(user);
}

static enum error on_data(void *context, struct slice data, bool end)
{
    struct user *user = context;

    REQUIRE(user->stream != NULL && !user->accepted && (data.length > 0 || end));
    return hold(user, data.length);
}

static enum error on_trailers(void *context, struct slice trailers)
{
    (void)trailers;
    return user_answer(context);
}

static enum error on_accept(void *context, struct slice accept)
{
    struct user *user = context;

    REQUIRE(user->stream != NULL && user->websocket && !user->accepted && accept.length > 0);
    user->accepted = true;
    return user_answer(user);
}

static enum error on_message(void *context, struct slice data, bool text, bool more)
{
    struct user *user = context;

    REQUIRE(user->stream != NULL && user->accepted && (data.length > 0 || !more));
    (void)text;
    return hold(user, data.length + FRAME_DATA_OVERHEAD);
}

static enum error on_close(void *context, unsigned code, struct slice reason)
{
    struct user *user = context;

    REQUIRE(user->stream != NULL && user->accepted);
    REQUIRE(code >= 1000 && code <= 4999 && reason.length <= 123);
    return user_answer(user);
}

static enum error on_file(void *context, int fd, uint64_t offset, uint64_t count, bool end)
{
    struct user *user = context;

    (void)end;
    REQUIRE(user->stream != NULL && !user->file && offset <= 65536 && count <= 65536 - offset);
    if ((count & 1) != 0) {
        return ERROR_LIMIT;
    }
    enum error error = user_answer(user);
    user->file = error == ERROR_NONE;
    if (user->file) {
        close(fd);
    }
    return error;
}

static void send_messages(struct user *user, const char *bytes)
{
    uint32_t room;

    while (user->accepted && user->to_send > 0 && channel_stream_may_send(user->stream, &room)) {
        uint32_t length = user->to_send < room ? user->to_send : room;
        bool more = length > 0 && length < user->to_send;
        REQUIRE(channel_stream_send_message(user->stream, (struct slice){bytes, length}, false,
                                            more) == ERROR_NONE);
        user->to_send = more ? user->to_send - length : 0;
    }
}

static void on_sendable(void *context, uint32_t room)
{
    static const char zeros[16384];
    struct user *user = context;
    uint32_t length = user->to_send < room ? user->to_send : room;
    bool end = user->send_end && length == user->to_send;

    REQUIRE(user->stream != NULL && room <= sizeof(zeros));
    if (user->websocket) {
        send_messages(user, zeros);
    } else if (length > 0 || end) {
        REQUIRE(channel_stream_send(user->stream, (struct slice){zeros, length}, end) ==
                ERROR_NONE);
        user->to_send -= length;
        user->send_end = user->send_end && !end;
    }
}

static void on_credit(void *context)
{
    struct user *user = context;

    channel_stream_want_send(user->stream);
}

static void on_gone(void *context, const struct channel_gone *gone)
{
    struct user *user = context;

    REQUIRE(user->stream != NULL && !user->told && gone->end <= CHANNEL_END_LOST);
    user->told = true;
    user->stream = NULL;
}

static const struct channel_user_ops user_ops = {
    .on_head = on_head,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_accept = on_accept,
    .on_message = on_message,
    .on_close = on_close,
    .on_file = on_file,
    .on_sendable = on_sendable,
    .on_credit = on_credit,
    .on_gone = on_gone,
};

static void on_ready(struct channel *channel, void *owner)
{
    (void)owner;
    REQUIRE(channel_is_ready(channel));
}

static void on_goaway(struct channel *channel, void *owner, enum frame_error code)
{
    (void)owner;
    (void)code;
    REQUIRE(!channel_can_open(channel));
}

static void on_slot_free(struct channel *channel, void *owner)
{
    (void)channel;
    (void)owner;
    f.freed++;
    REQUIRE(f.freed <= f.opened);
}

static void on_closed(struct channel *channel, void *owner, bool orderly, const char *text)
{
    (void)channel;
    (void)owner;
    REQUIRE(text != NULL && (!orderly || f.freed == f.opened));
    f.closed++;
    f.channel = NULL;
}

static const struct channel_owner_ops owner_ops = {on_ready, on_goaway,     on_slot_free, on_lag,
                                                   on_stats, on_error_text, on_closed};

/* --- the loop and the worker's end ------------------------------------------------------------------------------------- */

static void stop_loop(struct loop_resume *resume)
{
    (void)resume;
    loop_stop(f.loop);
}

static void turn(void)
{
    struct loop_resume resume;

    loop_resume_init(&resume, stop_loop);
    loop_resume_later(f.loop, &resume);
    REQUIRE(loop_run(f.loop) == ERROR_NONE);
}

/* SPEC, seen by the worker: the gateway never overdraws its credit. */
static void judge(const struct frame *frame)
{
    if (f.raw || (frame->type != FRAME_REQUEST && frame->type != FRAME_DATA &&
                  frame->type != FRAME_WS_MSG)) {
        return;
    }
    REQUIRE(frame->stream >= 1 && frame->stream <= f.opened);
    struct user *user = &f.users[frame->stream - 1];
    if (frame->type == FRAME_REQUEST && (frame->flags & FRAME_FLAG_EXPECT) != 0) {
        user->credit -= WINDOW; /* starts at 0 */
    }
    user->credit -= frame_cost(frame);
    REQUIRE(user->credit >= 0);
}

static void drain(void)
{
    static char bytes[1 << 17];
    struct frame frame;
    struct frame_violation violation;
    ssize_t got;

    while ((got = recv(f.fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        enum frame_next next;
        frame_reader_feed(&f.reader, bytes, (size_t)got);
        while ((next = frame_reader_next(&f.reader, &frame, &violation)) == FRAME_NEXT_FRAME) {
            judge(&frame);
        }
        REQUIRE(next == FRAME_NEXT_MORE);
    }
}

static void put(const void *bytes, size_t length)
{
    const char *at = bytes;

    for (int tries = 0; length > 0 && tries < 50; tries++) {
        ssize_t sent = send(f.fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            return;
        }
        if (sent > 0) {
            at += sent;
            length -= (size_t)sent;
        }
        if (length > 0) {
            turn();
            drain();
        }
    }
}

/* A frame that is often right, because it is made of what its type allows. */
static void put_frame(struct input *in)
{
    static const uint8_t types[] = {
        FRAME_RESPONSE, FRAME_DATA,   FRAME_TRAILERS,  FRAME_WINDOW,        FRAME_RESET,
        FRAME_REFUSED,  FRAME_DONE,   FRAME_PING,      FRAME_PONG,          FRAME_GOAWAY,
        FRAME_STATS,    FRAME_LOG,    FRAME_READY,     FRAME_CHANNEL_ERROR, 200,
        FRAME_FILE,     FRAME_WS_MSG, FRAME_WS_ACCEPT, FRAME_WS_CLOSE};
    static uint8_t bytes[FRAME_HEADER_SIZE + 65536];
    struct frame frame = {.type = types[take(in) % sizeof(types)]};
    const struct frame_rule *rule = frame_rule(frame.type);
    uint8_t shape = take(in);

    frame.stream = rule != NULL && rule->stream == FRAME_STREAM_ID ? take(in) % (f.opened + 2) : 0;
    frame.flags = take(in) & (rule != NULL ? rule->worker_flags : 255);
    frame.code = rule == NULL ? 0
                 : rule->code == FRAME_CODE_STATUS
                     ? (uint16_t)((frame.flags & FRAME_FLAG_INFORMATIONAL) != 0 ? 103 : 200)
                 : rule->code == FRAME_CODE_ERROR ? take(in) % 24
                 : rule->code == FRAME_CODE_CLOSE ? 1000
                                                  : 0;
    frame.length = rule != NULL && rule->max == 0 ? 0 : take_u16(in);
    frame.aux = (shape & 1) != 0 ? take_u16(in) : 0;
    if ((shape & 0xf0) == 0xf0) { /* sometimes anything at all */
        frame.flags = take(in);
        frame.code = (uint16_t)take_u16(in);
        frame.aux = take_u16(in) << (take(in) % 17);
    }
    frame_encode(bytes, &frame);
    size_t copied = frame.length < in->left ? frame.length : in->left;
    if ((shape & 2) != 0 && copied > 0) {
        memcpy(bytes + FRAME_HEADER_SIZE, in->at, copied);
    }
    if (frame.type == FRAME_WINDOW && frame.stream >= 1 && frame.stream <= STREAMS) {
        f.users[frame.stream - 1].credit += frame.aux;
    }
    size_t length = FRAME_HEADER_SIZE + frame.length;
    size_t sent = 0;
    if (frame.type == FRAME_FILE && (shape & 8) == 0) { /* with our file, or the socket */
        ssize_t count = send_with_descriptor(f.fd, bytes, (shape & 4) != 0 ? 1 : length,
                                             (shape & 0x40) != 0 ? f.fd : f.file);
        sent = count > 0 ? (size_t)count : length;
        turn();
    }
    if (sent > 0) {
        put(bytes + sent, length - sent);
    } else if ((shape & 4) != 0) { /* in two writes */
        size_t cut = take_u16(in) % length;
        put(bytes, cut);
        turn();
        put(bytes + cut, length - cut);
    } else {
        put(bytes, length);
    }
}

/* --- steps ------------------------------------------------------------------------------------------------------------- */

static void open_stream(struct input *in)
{
    static const char body[FRAME_MAX_INLINE_BODY];
    uint8_t shape = take(in);

    if (f.channel == NULL || !channel_can_open(f.channel) || f.opened == STREAMS) {
        return;
    }
    struct user *user = &f.users[f.opened];
    bool websocket = (shape & 8) != 0, expect = !websocket && (shape & 1) != 0;
    struct channel_request request = {
        .head = SLICE("\x91\xc4"),
        .body = {body, expect || websocket ? 0 : take_u16(in) % (sizeof(body) + 1)},
        .end = !expect && !websocket && (shape & 2) != 0,
        .expect = expect,
        .websocket = websocket};
    *user = (struct user){.websocket = websocket,
                          .release = (shape & 4) != 0,
                          .answer = (shape & 0x70) == 0x70 ? ERROR_PROTOCOL : ERROR_NONE,
                          .credit = user->credit + WINDOW}; /* a WINDOW may have come before */
    user->stream = channel_open(f.channel, &request, &user_ops, user);
    REQUIRE(user->stream != NULL);
    f.opened++;
}

static void use_stream(struct input *in)
{
    uint8_t what = take(in);
    uint32_t amount = take_u16(in);
    struct user *user = f.opened > 0 ? &f.users[take(in) % f.opened] : NULL;

    if (user == NULL || user->stream == NULL) {
        return;
    }
    switch (what % 8) {
    case 0:
        amount = amount < user->held ? amount : user->held;
        user->held -= amount;
        channel_stream_release(user->stream, amount);
        break;
    case 1:
        channel_stream_detach(user->stream);
        user->stream = NULL;
        break;
    case 2:
        channel_stream_reset(user->stream, FRAME_ERROR_CANCEL);
        user->stream = NULL;
        break;
    case 3:
        channel_stream_disconnect(user->stream, (amount & 1) != 0 && !user->websocket
                                                    ? FRAME_ERROR_CLIENT_EOF
                                                    : FRAME_ERROR_CLIENT_GONE);
        break;
    case 4:
        if (user->accepted) {
            channel_stream_close_websocket(user->stream, 1000 + amount % 4000, SLICE("bye"));
            user->stream = NULL;
        } else {
            channel_stream_abort_body(user->stream);
        }
        break;
    case 7:
        if (user->file) {
            user->file = false;
            channel_stream_file_done(user->stream);
        }
        break;
    default:
        user->to_send += amount;
        user->send_end = (what & 8) != 0;
        channel_stream_want_send(user->stream);
        break;
    }
}

static void use_channel(struct input *in)
{
    uint8_t what = take(in);

    if (f.channel == NULL) {
        return;
    }
    switch (what % 8) {
    case 0:
        channel_goaway(f.channel, FRAME_ERROR_DRAINING);
        break;
    case 1:
        channel_close(f.channel, FRAME_ERROR_WORKER_LOST, "the input says so");
        break;
    case 2:
        (void)!channel_conn(f.channel, 1u + what / 8, SLICE("\x80"));
        break;
    case 3:
        channel_conn_end(f.channel, 1u + what / 8);
        break;
    default:
        break;
    }
}

/* What the worker's end of the socket does besides frames. */
static void use_socket(struct input *in)
{
    if (take(in) % 4 == 0) {
        shutdown(f.fd, SHUT_WR);
    } else {
        send_descriptor(f.fd, take(in)); /* SPEC R5: no frame but FILE may bring one */
        f.raw = true;
    }
}

static void step(struct input *in)
{
    uint8_t what = take(in);

    if (what >= 0xf0) {
        use_socket(in);
        return;
    }
    switch (what % 12) {
    case 0: {
        size_t length = take(in);
        length = length < in->left ? length : in->left;
        put(in->at, length);
        in->at += length;
        in->left -= length;
        f.raw = true;
        break;
    }
    case 1:
    case 2:
    case 3:
        open_stream(in);
        break;
    case 4:
    case 5:
        use_stream(in);
        break;
    case 6:
        use_channel(in);
        break;
    case 7:
        drain();
        break;
    default:
        put_frame(in);
        break;
    }
}

/* --- one input --------------------------------------------------------------------------------------------------------- */

static void begin(void)
{
    static const struct ipc_settings settings = {.max_frame = 65536,
                                                 .window = WINDOW,
                                                 .ws_max_message = 1024,
                                                 .max_links = 16,
                                                 .link_queue = 100000,
                                                 .hello_timeout = 3600 * CLOCK_NS_PER_S,
                                                 .start_timeout = 3600 * CLOCK_NS_PER_S,
                                                 .ping_interval = 3600 * CLOCK_NS_PER_S,
                                                 .unresponsive_after = 3600 * CLOCK_NS_PER_S,
                                                 .death_wait = 0};
    struct hello_ack ack = {.proto = 1,
                            .channels = 1,
                            .features = FRAME_FEATURE(websocket) | FRAME_FEATURE(files),
                            .token = SLICE("0123456789abcdef")};
    struct ipc_link link = {.pidfd = -1, .pid = 1, .hello.features = ack.features};
    uint8_t header[FRAME_HEADER_SIZE];
    int fds[2];

    f.file = f.file > 0 ? f.file : new_file(65536);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    link.fd = fds[0];
    f.fd = fds[1];
    f.opened = f.freed = f.closed = 0;
    f.raw = false;
    memset(f.users, 0, sizeof(f.users));
    frame_reader_init(&f.reader, FRAME_SENDER_GATEWAY, 65536);
    f.channel = channel_new(f.loop, &link, &ack, &settings, &owner_ops, NULL);
    REQUIRE(f.channel != NULL);
    frame_encode(header, &(struct frame){.type = FRAME_READY});
    put(header, sizeof(header));
    turn();
    REQUIRE(channel_is_ready(f.channel));
}

static void check_credit(void)
{
    for (unsigned i = 0; f.channel != NULL && i < f.opened; i++) {
        const struct channel_stream *stream = f.users[i].stream;
        if (stream != NULL) {
            const struct credit_in *c = &stream->in;
            REQUIRE((uint64_t)c->available + c->consumed + c->held + c->overhead == c->window);
            REQUIRE(c->held == f.users[i].held && stream->out.available <= WINDOW);
        }
    }
}

static void end(void)
{
    if (f.channel != NULL) {
        channel_close(f.channel, FRAME_ERROR_NO_ERROR, "the input has ended");
    }
    for (int i = 0; i < 100 && f.closed == 0; i++) {
        turn();
    }
    turn();
    REQUIRE(f.closed == 1 && f.freed == f.opened);
    for (unsigned i = 0; i < f.opened; i++) {
        REQUIRE(f.users[i].stream == NULL);
    }
    close(f.fd);
    frame_reader_done(&f.reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64, .turn_time_us = 1000};
    struct input in = {.at = data, .left = size};

    if (f.loop == NULL) {
        const char *text = NULL;
        const struct log_settings log = {.level = LOG_WARNING, .error = SLICE("/dev/null")};
        REQUIRE(log_open(&log, &text) == ERROR_NONE); /* formatted, not shown */
        f.loop = loop_new(0, &loop_settings);
        REQUIRE(f.loop != NULL);
        turn();
    }
    begin();
    while (in.left > 0) {
        uint8_t turns = *in.at & 1;
        step(&in);
        if (turns != 0) {
            turn();
        }
        check_credit();
    }
    drain();
    end();
    return 0;
}
