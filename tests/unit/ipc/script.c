/* SPDX-License-Identifier: MIT */
/* The scripted worker. It owns its end of the socket and the frames that it has read. */
#include "script.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"

/* --- users ----------------------------------------------------------------------------------------------------------- */

static void user_got(struct script_user *user, struct slice data)
{
    user->bytes += data.length;
    if (user->hold) {
        user->held += (uint32_t)data.length;
    } else if (user->answer == ERROR_NONE) {
        channel_stream_release(user->stream, (uint32_t)data.length);
    }
}

static enum error on_head(void *context, unsigned status, struct slice head, bool end)
{
    struct script_user *user = context;

    (void)head;
    user->heads++;
    user->status = status;
    user->end = user->end || end;
    return user->answer;
}

static enum error on_data(void *context, struct slice data, bool end)
{
    struct script_user *user = context;

    user->datas++;
    user->end = user->end || end;
    user_got(user, data);
    return user->answer;
}

static enum error on_trailers(void *context, struct slice trailers)
{
    struct script_user *user = context;

    (void)trailers;
    user->trailers++;
    return user->answer;
}

static enum error on_file(void *context, int fd, uint64_t offset, uint64_t count, bool end)
{
    struct script_user *user = context;

    (void)offset;
    user->files++;
    user->bytes += count;
    user->end = user->end || end;
    if (user->answer == ERROR_NONE) {
        close(fd);
    }
    return user->answer;
}

static void on_sendable(void *context, uint32_t room)
{
    static const char zeros[65536];
    struct script_user *user = context;
    uint32_t length = user->to_send < room ? (uint32_t)user->to_send : room;
    bool end = user->send_end && user->to_send == length;

    user->sendables++;
    if (length == 0 && !end) {
        return;
    }
    if (channel_stream_send(user->stream, (struct slice){zeros, length}, end) == ERROR_NONE) {
        user->to_send -= length;
        user->send_end = user->send_end && !end;
    }
}

static void on_credit(void *context)
{
    ((struct script_user *)context)->credits++;
}

static void on_gone(void *context, const struct channel_gone *gone)
{
    struct script_user *user = context;

    user->gones++;
    user->gone = *gone;
    user->stream = NULL;
}

const struct channel_user_ops script_user_ops = {
    .on_head = on_head,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_file = on_file,
    .on_sendable = on_sendable,
    .on_credit = on_credit,
    .on_gone = on_gone,
};

/* --- the owner --------------------------------------------------------------------------------------------------------- */

static void on_ready(struct channel *channel, void *owner)
{
    (void)channel;
    ((struct script *)owner)->ready++;
}

static void on_goaway(struct channel *channel, void *owner, enum frame_error code)
{
    (void)channel;
    (void)code;
    ((struct script *)owner)->goaways++;
}

static void on_slot_free(struct channel *channel, void *owner)
{
    (void)channel;
    ((struct script *)owner)->slots_freed++;
}

static void on_lag(struct channel *channel, void *owner, uint64_t lag)
{
    struct script *script = owner;

    (void)channel;
    script->lags++;
    script->lates += lag == UINT64_MAX;
}

static void on_stats(struct channel *channel, void *owner, const struct worker_stats *stats)
{
    struct script *script = owner;

    (void)channel;
    script->stats++;
    script->last_stats = *stats;
}

static void on_error_text(struct channel *channel, void *owner, enum frame_error code,
                          struct slice text)
{
    struct script *script = owner;

    (void)channel;
    script->errors++;
    script->error_code = code;
    snprintf(script->text, sizeof(script->text), "%.*s", SLICE_PRINT(text));
}

static void on_closed(struct channel *channel, void *owner, bool orderly, const char *text)
{
    struct script *script = owner;

    (void)channel;
    script->closed++;
    script->orderly = orderly;
    script->channel = NULL;
    if (script->errors == 0) {
        snprintf(script->text, sizeof(script->text), "%s", text);
    }
}

static const struct channel_owner_ops owner_ops = {
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_slot_free = on_slot_free,
    .on_lag = on_lag,
    .on_stats = on_stats,
    .on_error_text = on_error_text,
    .on_closed = on_closed,
};

/* --- life -------------------------------------------------------------------------------------------------------------- */

struct ipc_settings script_settings(void)
{
    return (struct ipc_settings){.max_frame = 65536,
                                 .window = 65536,
                                 .ws_max_message = 1 << 20,
                                 .max_links = 64,
                                 .link_queue = 262144,
                                 .hello_timeout = 60 * CLOCK_NS_PER_S,
                                 .start_timeout = 60 * CLOCK_NS_PER_S,
                                 .ping_interval = 60 * CLOCK_NS_PER_S,
                                 .unresponsive_after = 60 * CLOCK_NS_PER_S,
                                 .death_wait = 10 * CLOCK_NS_PER_S};
}

bool script_start_with(struct script *script, const struct ipc_settings *settings, int gateway_fd,
                       int worker_fd, int pidfd)
{
    static const struct loop_settings loop_settings = {.turn_callbacks = 64,
                                                       .turn_time_us = 1000000};
    *script = (struct script){.settings = *settings, .fd = worker_fd, .page_fd = -1};
    strbuf_init(&script->payloads);
    frame_reader_init(&script->reader, FRAME_SENDER_GATEWAY, settings->max_frame);
    struct ipc_link *link = mem_calloc(1, sizeof(*link));
    if (link == NULL) {
        close(gateway_fd);
        return false;
    }
    *link = (struct ipc_link){.fd = gateway_fd, .pidfd = pidfd, .pid = getpid(), .uid = getuid()};
    arena_init(&link->arena, 1024);
    struct hello_ack ack = {.proto = 1, .channels = 1, .token = SLICE("0123456789abcdef")};
    script->loop = loop_new(0, &loop_settings);
    if (script->loop == NULL) {
        ipc_link_free(link);
        return false;
    }
    script->channel = channel_new(script->loop, link, &ack, settings, &owner_ops, script);
    ipc_link_free(link);
    return script->channel != NULL;
}

bool script_start(struct script *script, const struct ipc_settings *settings)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return false;
    }
    return script_start_with(script, settings, fds[0], fds[1], -1);
}

void script_ready(struct script *script)
{
    (void)script_take_type(script, FRAME_HELLO_ACK);
    script_say(script, (struct frame){.type = FRAME_READY}, NULL, 0);
}

bool script_end(struct script *script)
{
    bool clean;

    if (script->channel != NULL) {
        channel_close(script->channel, FRAME_ERROR_NO_ERROR, "the test is over");
        (void)script_until(script, &script->closed);
    }
    if (script->fd >= 0) {
        close(script->fd);
    }
    if (script->page_fd >= 0) {
        close(script->page_fd);
    }
    if (script->loop != NULL) {
        script_turns(script, 2);
        loop_free(script->loop);
    }
    strbuf_done(&script->payloads);
    frame_reader_done(&script->reader);
    clean = metrics_sum(METRIC_ipc_links) == 0 && metrics_sum(METRIC_ipc_streams) == 0;
    return clean;
}

/* --- turns ------------------------------------------------------------------------------------------------------------- */

struct stopper {
    struct loop_resume resume;
    struct loop *loop;
};

static void stop_loop(struct loop_resume *resume)
{
    loop_stop(LIST_CONTAINER(resume, struct stopper, resume)->loop);
}

void script_turns(struct script *script, unsigned turns)
{
    struct stopper stopper = {.loop = script->loop};

    loop_resume_init(&stopper.resume, stop_loop);
    for (unsigned i = 0; i < turns; i++) {
        loop_resume_later(script->loop, &stopper.resume);
        if (loop_run(script->loop) != ERROR_NONE) {
            abort();
        }
    }
}

bool script_until(struct script *script, const unsigned *flag)
{
    uint64_t deadline = clock_now() + 10 * CLOCK_NS_PER_S;

    while (*flag == 0 && clock_now() < deadline) {
        script_turns(script, 1);
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    return *flag != 0;
}

/* --- frames ------------------------------------------------------------------------------------------------------------ */

void script_write(struct script *script, const void *bytes, size_t length)
{
    const char *at = bytes;

    for (unsigned idle = 0; length > 0 && idle < 1000;) {
        ssize_t sent = send(script->fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            return; /* the gateway has closed: tests look at what it said */
        }
        if (sent < 0) {
            idle++;
            script_turns(script, 1);
            continue;
        }
        at += sent;
        length -= (size_t)sent;
    }
}

void script_send(struct script *script, struct frame frame, const void *payload, size_t length)
{
    uint8_t *bytes = malloc(FRAME_HEADER_SIZE + length);

    if (bytes == NULL) {
        abort();
    }
    frame.length = (uint32_t)length;
    frame_encode(bytes, &frame);
    if (length > 0) {
        memcpy(bytes + FRAME_HEADER_SIZE, payload, length);
    }
    script_write(script, bytes, FRAME_HEADER_SIZE + length);
    free(bytes);
}

void script_say(struct script *script, struct frame frame, const void *payload, size_t length)
{
    script_send(script, frame, payload, length);
    script_turns(script, 2);
}

static void keep_descriptor(struct script *script, struct msghdr *message)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(message);

    if (c != NULL && c->cmsg_type == SCM_RIGHTS) {
        memcpy(&script->page_fd, CMSG_DATA(c), sizeof(int));
    }
}

static void keep_frames(struct script *script)
{
    struct frame frame;
    struct frame_violation violation;
    enum frame_next next;

    while ((next = frame_reader_next(&script->reader, &frame, &violation)) == FRAME_NEXT_FRAME) {
        if (script->count == SCRIPT_FRAMES) {
            fprintf(stderr, "more than %d frames\n", SCRIPT_FRAMES);
            abort();
        }
        script->frames[script->count] = frame;
        /* the offset for now: the buffer moves while it grows */
        script->frames[script->count].payload.data = NULL;
        script->frames[script->count].payload.length = script->payloads.length;
        strbuf_append_slice(&script->payloads, frame.payload);
        script->count++;
    }
    if (next == FRAME_NEXT_BAD) {
        fprintf(stderr, "the gateway broke a rule: %s\n", violation.text);
        abort();
    }
}

void script_read(struct script *script)
{
    static char bytes[1 << 18];

    while (script->fd >= 0 && !script->ended) {
        union {
            struct cmsghdr align;
            char data[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec vector = {.iov_base = bytes, .iov_len = sizeof(bytes)};
        struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = control.data,
                                 .msg_controllen = sizeof(control.data)};
        ssize_t got = recvmsg(script->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got <= 0) {
            script->ended = got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
            return;
        }
        keep_descriptor(script, &message);
        frame_reader_feed(&script->reader, bytes, (size_t)got);
        keep_frames(script);
    }
}

struct frame script_take(struct script *script)
{
    if (script->next == script->count) {
        script_turns(script, 2);
        script_read(script);
    }
    if (script->next == script->count) {
        return (struct frame){.type = 0};
    }
    struct frame frame = script->frames[script->next++];
    frame.payload =
        (struct slice){strbuf_text(&script->payloads) + frame.payload.length, frame.length};
    return frame;
}

struct frame script_take_type(struct script *script, unsigned type)
{
    struct frame frame;

    do {
        frame = script_take(script);
    } while (frame.type != 0 && frame.type != type);
    return frame;
}

bool script_open(struct script *script, struct script_user *user, const char *body, bool end,
                 bool expect)
{
    struct channel_request request = {
        .head = SLICE("\x91\xc4"), .body = slice_from(body), .end = end, .expect = expect};

    user->script = script;
    if (!channel_can_open(script->channel)) {
        return false;
    }
    user->stream = channel_open(script->channel, &request, &script_user_ops, user);
    return user->stream != NULL;
}
