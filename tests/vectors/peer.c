/* SPDX-License-Identifier: MIT */
/*
 * See peer.h. Bytes on a Unix socket are there as soon as write() returns, so a few turns of the loop after each write show
 * all that the gateway makes of them; no time is waited for.
 */
#include "vectors/peer.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define TURNS 4

_Noreturn static void fail(const char *what)
{
    printf("Bail out! %s: %s\n", what, strerror(errno));
    exit(2);
}

static void on_turn(struct loop_resume *resume)
{
    struct peer *peer = (struct peer *)((char *)resume - offsetof(struct peer, resume));

    if (--peer->turns == 0) {
        loop_stop(peer->loop);
    } else {
        loop_resume_later(peer->loop, resume);
    }
}

void peer_open(struct peer *peer)
{
    struct loop_settings settings = {.turn_callbacks = 64, .turn_time_us = 500};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/gatewayd-transcripts-XXXXXX";

    *peer = (struct peer){.listener = -1, .fd = -1, .page_fd = -1};
    peer->loop = loop_new(0, &settings);
    if (peer->loop == NULL || mkdtemp(folder) == NULL) {
        fail("loop or folder");
    }
    loop_resume_init(&peer->resume, on_turn);
    (void)snprintf(peer->path, sizeof(peer->path), "%s/s", folder);
    memcpy(address.sun_path, peer->path, sizeof(peer->path));
    peer->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (peer->listener < 0 ||
        bind(peer->listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(peer->listener, 8) != 0) {
        fail("listening socket");
    }
}

void peer_dial(struct peer *peer)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, peer->path, sizeof(peer->path));
    peer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (peer->fd < 0 || connect(peer->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        fail("connect");
    }
    peer_settle(peer);
}

void peer_close(struct peer *peer)
{
    peer_kill(peer);
    int descriptors[] = {peer->fd, peer->page_fd, peer->listener};
    for (size_t i = 0; i < 3; i++) {
        if (descriptors[i] >= 0) {
            close(descriptors[i]);
        }
    }
    loop_free(peer->loop);
    unlink(peer->path);
    *strrchr(peer->path, '/') = 0;
    rmdir(peer->path);
    note_done(&peer->in);
}

static void turns(struct peer *peer)
{
    peer->turns = TURNS;
    loop_resume_later(peer->loop, &peer->resume);
    if (loop_run(peer->loop) != ERROR_NONE) {
        fail("loop_run");
    }
}

/* Reads what is there; true when there was something. */
static bool receive(struct peer *peer)
{
    static uint8_t buffer[256 * 1024];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = buffer, .iov_len = sizeof(buffer)};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t got = peer->ended ? 0 : recvmsg(peer->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (got <= 0) {
        peer->ended |= got == 0 || (errno != EAGAIN && errno != EINTR);
        return false;
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_type == SCM_RIGHTS && peer->page_fd < 0) {
        memcpy(&peer->page_fd, CMSG_DATA(header), sizeof(int));
    }
    note_append(&peer->in, buffer, (size_t)got);
    return true;
}

void peer_settle(struct peer *peer)
{
    do {
        turns(peer);
    } while (receive(peer));
}

void peer_wait(struct peer *peer, const bool *flag)
{
    for (int i = 0; i < 5000 && !*flag; i++) {
        (void)poll(NULL, 0, 1);
        peer_settle(peer);
    }
}

static ssize_t write_some(struct peer *peer, const uint8_t *data, size_t length, int descriptor)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};

    if (descriptor >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    return sendmsg(peer->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void peer_write(struct peer *peer, const uint8_t *data, size_t length, int descriptor)
{
    while (length > 0 && !peer->ended) {
        ssize_t sent = write_some(peer, data, length, descriptor);
        if (sent < 0 && errno != EAGAIN) {
            break; /* the gateway has closed; the next read shows it */
        }
        if (sent > 0) {
            data += sent;
            length -= (size_t)sent;
            descriptor = -1;
        }
        peer_settle(peer);
    }
    peer_settle(peer);
}

bool peer_next(struct peer *peer, struct note_frame *ret_frame)
{
    const uint8_t *bytes = peer->in.data;

    if (peer->in.length < 16) {
        return false;
    }
    size_t length = bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16;
    if (peer->in.length < 16 + length) {
        return false;
    }
    *ret_frame = (struct note_frame){
        .type = bytes[4], .flags = bytes[5], .code = (unsigned)(bytes[6] | bytes[7] << 8)};
    for (unsigned i = 0; i < 4; i++) {
        ret_frame->stream |= (uint32_t)bytes[8 + i] << (8 * i);
        ret_frame->aux |= (uint32_t)bytes[12 + i] << (8 * i);
    }
    note_append(&ret_frame->payload, bytes + 16, length);
    peer->in.length -= 16 + length;
    memmove(peer->in.data, bytes + 16 + length, peer->in.length);
    return true;
}

int peer_spawn(struct peer *peer)
{
    peer->child = fork();
    if (peer->child == 0) {
        for (;;) {
            pause();
        }
    }
    int pidfd = (int)syscall(SYS_pidfd_open, peer->child, 0);
    if (peer->child < 0 || pidfd < 0) {
        fail("a process and its pidfd");
    }
    return pidfd;
}

void peer_kill(struct peer *peer)
{
    if (peer->child > 0) {
        kill(peer->child, SIGKILL);
        (void)waitpid(peer->child, NULL, 0);
        peer->child = 0;
    }
}
