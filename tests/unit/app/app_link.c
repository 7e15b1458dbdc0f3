/* SPDX-License-Identifier: MIT */
/* The scripted worker: HELLO by hand, frames in and out. It owns its sockets and what it has read. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app_fixture.h"
#include "ipc/pack.h"

/* --- frames ------------------------------------------------------------------------------------------------------------ */

void app_link_send(struct app_link *link, struct frame frame, const void *payload, size_t length)
{
    uint8_t header[FRAME_HEADER_SIZE];
    REQUIRE(link->fd >= 0);
    frame.length = (uint32_t)length;
    frame_encode(header, &frame);
    char *bytes = malloc(sizeof header + length);
    REQUIRE(bytes != NULL);
    memcpy(bytes, header, sizeof header);
    if (length > 0) {
        memcpy(bytes + sizeof header, payload, length);
    }
    ssize_t sent = send(link->fd, bytes, sizeof header + length, MSG_NOSIGNAL);
    /* Tests send less than a socket holds; a closed one is theirs to see. */
    REQUIRE(sent == (ssize_t)(sizeof header + length) || sent < 0);
    free(bytes);
}

void app_link_say(struct app_fixture *fixture, struct app_link *link, struct frame frame,
                  const void *payload, size_t length)
{
    app_link_send(link, frame, payload, length);
    app_fixture_turns(fixture, 2);
}

static void keep_frames(struct app_link *link)
{
    struct frame frame;
    struct frame_violation violation;
    enum frame_next next;
    while ((next = frame_reader_next(&link->reader, &frame, &violation)) == FRAME_NEXT_FRAME) {
        REQUIRE(link->count < LINK_FRAMES);
        link->frames[link->count] = frame;
        /* the offset for now: the buffer moves while it grows */
        link->frames[link->count].payload = (struct slice){NULL, link->payloads.length};
        strbuf_append_slice(&link->payloads, frame.payload);
        link->count++;
    }
    REQUIRE(next == FRAME_NEXT_MORE);
}

static void link_read(struct app_link *link)
{
    static _Thread_local char bytes[1 << 18];
    while (link->fd >= 0 && !link->ended) {
        union {
            struct cmsghdr align;
            char data[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec vector = {.iov_base = bytes, .iov_len = sizeof bytes};
        struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = control.data,
                                 .msg_controllen = sizeof control.data};
        ssize_t got = recvmsg(link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got <= 0) {
            link->ended = got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
            return;
        }
        const struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        if (c != NULL && c->cmsg_type == SCM_RIGHTS) {
            memcpy(&link->page_fd, CMSG_DATA(c), sizeof(int));
        }
        link->reads++;
        frame_reader_feed(&link->reader, bytes, (size_t)got);
        keep_frames(link);
    }
}

struct frame app_link_next(struct app_link *link, unsigned type)
{
    link_read(link);
    while (link->next < link->count) {
        struct frame frame = link->frames[link->next++];
        if (type == 0 || frame.type == type) {
            frame.payload =
                (struct slice){strbuf_text(&link->payloads) + frame.payload.length, frame.length};
            return frame;
        }
    }
    return (struct frame){.type = 0};
}

struct frame app_link_take(struct app_fixture *fixture, struct app_link *link, unsigned type)
{
    app_fixture_turns(fixture, 3);
    return app_link_next(link, type);
}

void app_link_answer(struct app_fixture *fixture, struct app_link *link, uint32_t stream,
                     const char *body)
{
    char payload[1024] = "\x91\xc4\x00"; /* an array of one empty bin */
    size_t length = strlen(body);
    REQUIRE(length < sizeof payload - 3);
    memcpy(payload + 3, body, length);
    app_link_say(fixture, link,
                 (struct frame){.type = FRAME_RESPONSE,
                                .flags = FRAME_FLAG_END_STREAM | FRAME_FLAG_DONE,
                                .code = 200,
                                .stream = stream,
                                .aux = 3},
                 payload, 3 + length);
}

/* --- dialling ------------------------------------------------------------------------------------------------------------ */

static void pack_pair(struct strbuf *out, const char *key, uint64_t value)
{
    pack_text(out, slice_from(key));
    pack_uint(out, value);
}

static void pack_pair_text(struct strbuf *out, const char *key, const char *value)
{
    pack_text(out, slice_from(key));
    pack_text(out, slice_from(value));
}

static void send_hello(struct app_link *link, char instance, unsigned channel, const char *token,
                       unsigned capacity)
{
    char id[16];
    struct strbuf out;
    memset(id, instance, sizeof id);
    strbuf_init(&out);
    pack_map(&out, 12);
    pack_pair(&out, "proto_min", 1);
    pack_pair(&out, "proto_max", 1);
    pack_text(&out, SLICE("features"));
    pack_array(&out, 0);
    pack_pair_text(&out, "app", instance == '!' ? "other" : "");
    pack_text(&out, SLICE("instance"));
    pack_bin(&out, (struct slice){id, sizeof id});
    pack_pair_text(&out, "generation", "g1");
    pack_pair(&out, "pid", 1);
    pack_pair_text(&out, "python", "CPython 3.13.5");
    pack_pair_text(&out, "worker_version", "test");
    pack_pair(&out, "max_concurrency", capacity);
    pack_pair(&out, "channel_index", channel);
    pack_text(&out, SLICE("token"));
    pack_bin(&out, (struct slice){token, token == NULL ? 0 : 16});
    REQUIRE(!out.failed);
    app_link_send(link, (struct frame){.type = FRAME_HELLO}, out.data, out.length);
    strbuf_done(&out);
}

static void link_init(struct app_link *link)
{
    *link = (struct app_link){.page_fd = -1};
    strbuf_init(&link->payloads);
    frame_reader_init(&link->reader, FRAME_SENDER_GATEWAY, FRAME_MAX_MAX_FRAME);
    link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(link->fd >= 0);
}

static int link_connect(const struct app_fixture *fixture, const struct app_link *link)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, fixture->path, sizeof fixture->path);
    return connect(link->fd, (struct sockaddr *)&address, sizeof address);
}

static struct frame take_answer(struct app_fixture *fixture, struct app_link *link)
{
    struct frame frame = {.type = 0};
    for (unsigned i = 0; i < 10000 && frame.type == 0 && !link->ended; i++) {
        frame = app_link_take(fixture, link, 0);
    }
    if (frame.type == FRAME_HELLO_ACK) {
        struct arena arena;
        struct pack_value map;
        arena_init(&arena, 1024);
        REQUIRE(pack_decode(&arena, frame.payload, &map) == ERROR_NONE);
        memcpy(link->token, pack_get(&map, "token")->bytes.data, sizeof link->token);
        arena_done(&arena);
    }
    return frame;
}

struct frame app_link_dial(struct app_fixture *fixture, struct app_link *link, char instance,
                           unsigned channel, const char *token, unsigned capacity)
{
    link_init(link);
    REQUIRE(link_connect(fixture, link) == 0);
    send_hello(link, instance, channel, token, capacity);
    return take_answer(fixture, link);
}

struct frame app_link_dial_child(struct app_fixture *fixture, struct app_link *link, char instance,
                                 unsigned capacity)
{
    int told[2];
    char answer;
    link_init(link);
    REQUIRE(pipe(told) == 0);
    link->child = fork();
    REQUIRE(link->child >= 0);
    if (link->child == 0) { /* the socket is shared: its peer is the process that connects it */
        ssize_t written = link_connect(fixture, link) == 0 ? write(told[1], "c", 1) : 0;
        close(link->fd);
        close(told[1]);
        if (written == 1) {
            pause(); /* until it is killed */
        }
        _exit(1);
    }
    close(told[1]);
    REQUIRE(read(told[0], &answer, 1) == 1);
    close(told[0]);
    send_hello(link, instance, 0, NULL, capacity);
    return take_answer(fixture, link);
}

void app_worker_up(struct app_fixture *fixture, struct app_link links[], char instance,
                   unsigned capacity)
{
    for (unsigned i = 0; i < fixture->loop_count; i++) {
        struct frame frame = app_link_dial(fixture, &links[i], instance, i,
                                           i == 0 ? NULL : links[0].token, capacity);
        REQUIRE(frame.type == FRAME_HELLO_ACK);
    }
    for (unsigned i = 0; i < fixture->loop_count; i++) {
        app_link_say(fixture, &links[i], (struct frame){.type = FRAME_READY}, NULL, 0);
    }
}

void app_link_close(struct app_link *link)
{
    if (link->child > 0) {
        kill(link->child, SIGKILL);
        waitpid(link->child, NULL, 0);
        link->child = 0;
    }
    if (link->fd >= 0) {
        close(link->fd);
    }
    if (link->page_fd >= 0) {
        close(link->page_fd);
    }
    link->fd = link->page_fd = -1;
    strbuf_done(&link->payloads);
    frame_reader_done(&link->reader);
}

void app_link_kill(struct app_link *link, uint32_t started)
{
    if (started > 0) {
        REQUIRE(pwrite(link->page_fd, &started, sizeof started, 0) == (ssize_t)sizeof started);
    }
    app_link_close(link);
}
