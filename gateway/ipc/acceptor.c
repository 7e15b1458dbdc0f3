/* SPDX-License-Identifier: MIT */
/*
 * Accepts workers and reads their HELLO (SPEC section 4). Each pending link has its own deadline and its own small buffer, so a
 * silent or hostile one costs nobody else anything. It owns pending links until they are handed to the user.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/descriptors.h"
#include "ipc/frame.h"
#include "ipc/hello.h"
#include "ipc/hello_wire.h"
#include "ipc/progress.h"

#define ACCEPTOR_MAGIC UINT32_C(0xACCE9708)
#define PENDING_MAGIC UINT32_C(0x9E4D1469)
/* Connections taken per wake-up; the rest is taken in the next turn. */
#define ACCEPT_BUDGET 16
/* A pause after accept() found no descriptor or memory. */
#define ACCEPT_PAUSE (100 * CLOCK_NS_PER_MS)

struct pending {
    uint32_t magic;
    struct ipc_acceptor *acceptor;
    struct ipc_link *link;
    struct list_node in_acceptor;
    struct loop_io io;
    struct loop_timer timer;
    uint8_t *bytes; /* HELLO as far as it has come */
    size_t length, capacity;
    struct loop_grave grave;
};

LIST_DEFINE(pending_list, struct pending, in_acceptor);

struct ipc_acceptor {
    uint32_t magic;
    struct loop *loop;
    struct loop_io io;
    struct loop_timer pause;
    struct ipc_settings settings;
    uid_t *allow_uids;
    size_t allow_uid_count;
    ipc_hello_fn *on_hello;
    void *context;
    struct pending_list pending;
    struct loop_grave grave;
};

/* --- a pending link ---------------------------------------------------------------------------------------------------- */

static void pending_free(struct loop_grave *grave)
{
    struct pending *pending = LIST_CONTAINER(grave, struct pending, grave);

    mem_free(pending->bytes);
    pending->magic = MAGIC_FREED;
    mem_free(pending);
}

/* Takes the link out of it and buries the rest. */
static struct ipc_link *pending_end(struct pending *pending)
{
    struct ipc_link *link = pending->link;

    pending->link = NULL;
    loop_io_done(&pending->io);
    loop_timer_clear(&pending->timer);
    pending_list_remove(&pending->acceptor->pending, pending);
    METRIC_DECREMENT(ipc_handshakes_open);
    loop_bury(pending->acceptor->loop, &pending->grave, pending_free);
    return link;
}

static void pending_refuse(struct pending *pending, enum frame_error code, const char *text)
{
    METRIC_INCREMENT(ipc_handshakes_failed);
    ipc_link_refuse(pending_end(pending), code, text);
}

/* A whole HELLO: the link goes to the user. */
static void pending_hello(struct pending *pending)
{
    struct ipc_link *link = pending->link;
    struct slice payload = {(const char *)pending->bytes + FRAME_HEADER_SIZE,
                            pending->length - FRAME_HEADER_SIZE};
    const char *why = NULL;
    char text[200];
    enum error error = hello_decode(&link->arena, payload, &link->hello, &why);

    if (error == ERROR_NO_MEMORY) {
        pending_refuse(pending, FRAME_ERROR_INTERNAL, "the gateway is out of memory");
        return;
    }
    if (error != ERROR_NONE) { /* R26 */
        (void)snprintf(text, sizeof(text), "malformed HELLO: %s", why);
        pending_refuse(pending, FRAME_ERROR_PROTOCOL, text);
        return;
    }
    if (link->hello.proto_min > FRAME_PROTOCOL_VERSION ||
        link->hello.proto_max < FRAME_PROTOCOL_VERSION) { /* R27 */
        (void)snprintf(text, sizeof(text),
                       "no common protocol version: this gateway speaks %d to %d, the worker %u to "
                       "%u; install matching versions",
                       FRAME_PROTOCOL_VERSION, FRAME_PROTOCOL_VERSION, link->hello.proto_min,
                       link->hello.proto_max);
        pending_refuse(pending, FRAME_ERROR_VERSION, text);
        return;
    }
    struct ipc_acceptor *acceptor = pending->acceptor;
    link = pending_end(pending);
    acceptor->on_hello(acceptor->context, link);
}

/* How many bytes HELLO has, as far as is known: the header's 16 until they are there. */
static size_t pending_needs(const struct pending *pending)
{
    struct frame frame;

    if (pending->length < FRAME_HEADER_SIZE) {
        return FRAME_HEADER_SIZE;
    }
    frame_decode(pending->bytes, &frame);
    return FRAME_HEADER_SIZE + frame.length;
}

/* R3, R23: the header is judged as soon as it is there. False: refused. */
static bool pending_judge(struct pending *pending)
{
    struct frame frame;
    struct frame_violation violation;

    frame_decode(pending->bytes, &frame);
    if (frame.type != FRAME_HELLO) {
        pending_refuse(pending, FRAME_ERROR_PROTOCOL, "the first frame is not HELLO");
        return false;
    }
    if (frame_check(&frame, FRAME_SENDER_WORKER, FRAME_DEFAULT_MAX_FRAME, &violation) !=
        ERROR_NONE) {
        pending_refuse(pending, violation.code, violation.text);
        return false;
    }
    uint8_t *bytes = mem_realloc(pending->bytes, FRAME_HEADER_SIZE + (size_t)frame.length + 1);
    if (bytes == NULL) {
        pending_refuse(pending, FRAME_ERROR_INTERNAL, "the gateway is out of memory");
        return false;
    }
    pending->bytes = bytes;
    pending->capacity =
        FRAME_HEADER_SIZE + (size_t)frame.length + 1; /* one more shows what must not be there */
    return true;
}

static void pending_dropped(struct pending *pending, const char *why)
{
    METRIC_INCREMENT(ipc_handshakes_failed);
    log_info("ipc", "worker %d: its link ended before HELLO: %s", (int)pending->link->pid, why);
    ipc_link_free(pending_end(pending));
}

/* One read; false: nothing more to do now, or the link is gone. */
static bool pending_read(struct pending *pending)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = pending->bytes + pending->length,
                           .iov_len = pending->capacity - pending->length};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t got = recvmsg(pending->link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (got < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            pending_dropped(pending, strerror(errno));
        }
        return false;
    }
    if (ipc_close_descriptors(&message)) { /* R5 */
        pending_refuse(pending, FRAME_ERROR_PROTOCOL, "a descriptor came with HELLO");
        return false;
    }
    if (got == 0) {
        pending_dropped(pending, "closed");
        return false;
    }
    pending->length += (size_t)got;
    return true;
}

static void pending_on_io(struct loop_io *io, unsigned events)
{
    struct pending *pending = LIST_CONTAINER(io, struct pending, io);

    (void)events;
    REQUIRE_OBJECT(pending, PENDING_MAGIC);
    while (pending->link != NULL && pending_read(pending)) {
        if (pending->length == FRAME_HEADER_SIZE && pending->capacity == FRAME_HEADER_SIZE) {
            if (!pending_judge(pending)) {
                return;
            }
        }
        size_t needs = pending_needs(pending);
        if (pending->capacity > FRAME_HEADER_SIZE && pending->length > needs) { /* R24 */
            pending_refuse(pending, FRAME_ERROR_PROTOCOL, "bytes behind HELLO before HELLO_ACK");
            return;
        }
        if (pending->capacity > FRAME_HEADER_SIZE && pending->length == needs) {
            pending_hello(pending);
            return;
        }
    }
}

static void pending_on_timer(struct loop_timer *timer)
{
    struct pending *pending = LIST_CONTAINER(timer, struct pending, timer);

    METRIC_INCREMENT(ipc_handshake_timeouts);
    pending_refuse(pending, FRAME_ERROR_PROTOCOL, "HELLO did not come within hello_timeout");
}

/* --- accepting ----------------------------------------------------------------------------------------------------------- */

/* Takes the link over, on failure too. */
static enum error pending_new(struct ipc_acceptor *acceptor, struct ipc_link *link)
{
    struct pending *pending = mem_calloc(1, sizeof(*pending));

    if (pending == NULL) {
        ipc_link_free(link);
        return ERROR_NO_MEMORY;
    }
    pending->magic = PENDING_MAGIC;
    pending->acceptor = acceptor;
    pending->link = link;
    loop_io_init(&pending->io, acceptor->loop, link->fd, pending_on_io);
    loop_timer_init(&pending->timer, acceptor->loop, pending_on_timer);
    pending_list_append(&acceptor->pending, pending);
    METRIC_INCREMENT(ipc_handshakes_open);
    pending->bytes = mem_alloc(FRAME_HEADER_SIZE);
    pending->capacity = FRAME_HEADER_SIZE;
    if (pending->bytes == NULL ||
        loop_timer_set(&pending->timer, acceptor->settings.hello_timeout) != ERROR_NONE ||
        loop_io_set(&pending->io, LOOP_READ) != ERROR_NONE) {
        ipc_link_free(pending_end(pending));
        return ERROR_NO_MEMORY;
    }
    return ERROR_NONE;
}

static bool uid_allowed(const struct ipc_acceptor *acceptor, uid_t uid)
{
    for (size_t i = 0; i < acceptor->allow_uid_count; i++) {
        if (acceptor->allow_uids[i] == uid) {
            return true;
        }
    }
    return acceptor->allow_uid_count == 0;
}

/* The peer as the kernel knows it. NULL: no memory; the descriptor is closed. */
static struct ipc_link *link_new(int fd)
{
    struct ipc_link *link = mem_calloc(1, sizeof(*link));
    struct ucred peer = {.pid = 0, .uid = (uid_t)-1};
    socklen_t length = sizeof(peer);

    if (link == NULL) {
        close(fd);
        return NULL;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
        peer.pid = 0;
        peer.uid = (uid_t)-1;
    }
    link->fd = fd;
    link->pid = peer.pid;
    link->uid = peer.uid;
    link->pidfd = progress_pidfd(fd, peer.pid);
    arena_init(&link->arena, 1024);
    return link;
}

static enum error acceptor_take(struct ipc_acceptor *acceptor, int fd)
{
    struct ipc_link *link = link_new(fd);
    char text[120];

    if (link == NULL) {
        return ERROR_NO_MEMORY;
    }
    if (!uid_allowed(acceptor, link->uid)) {
        METRIC_INCREMENT(ipc_uids_refused);
        (void)snprintf(text, sizeof(text), "uid %u is not in allow_uids of this app",
                       (unsigned)link->uid);
        ipc_link_refuse(link, FRAME_ERROR_UNKNOWN_APP, text);
        return ERROR_NONE;
    }
    if (metrics_sum(METRIC_ipc_links) + metrics_sum(METRIC_ipc_handshakes_open) >=
        (int64_t)acceptor->settings.max_links) {
        METRIC_INCREMENT(ipc_links_full);
        (void)snprintf(text, sizeof(text), "%u worker links are open: raise ipc.max_links",
                       acceptor->settings.max_links);
        ipc_link_refuse(link, FRAME_ERROR_FULL, text);
        return ERROR_NONE;
    }
    return pending_new(acceptor, link);
}

/* Out of descriptors or memory: accept() would fail again at once, so wait a little. */
static void acceptor_pause(struct ipc_acceptor *acceptor, const char *why)
{
    METRIC_INCREMENT(ipc_accept_paused);
    log_warning("ipc", "accepting workers pauses: %s", why);
    if (loop_timer_set(&acceptor->pause, ACCEPT_PAUSE) != ERROR_NONE ||
        loop_io_set(&acceptor->io, 0) != ERROR_NONE) {
        return; /* it stays armed: the next turn tries again */
    }
}

static void acceptor_on_pause(struct loop_timer *timer)
{
    struct ipc_acceptor *acceptor = LIST_CONTAINER(timer, struct ipc_acceptor, pause);

    if (loop_io_set(&acceptor->io, LOOP_READ) != ERROR_NONE) {
        acceptor_pause(acceptor, "out of memory");
    }
}

static void acceptor_on_io(struct loop_io *io, unsigned events)
{
    struct ipc_acceptor *acceptor = LIST_CONTAINER(io, struct ipc_acceptor, io);

    (void)events;
    REQUIRE_OBJECT(acceptor, ACCEPTOR_MAGIC);
    for (int i = 0; i < ACCEPT_BUDGET; i++) {
        int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                acceptor_pause(acceptor, strerror(errno));
            }
            return; /* EAGAIN, or a connection that is gone already */
        }
        if (acceptor_take(acceptor, fd) != ERROR_NONE) {
            acceptor_pause(acceptor, "out of memory");
            return;
        }
    }
}

static void acceptor_dispose(struct loop_grave *grave)
{
    struct ipc_acceptor *acceptor = LIST_CONTAINER(grave, struct ipc_acceptor, grave);

    mem_free(acceptor->allow_uids);
    acceptor->magic = MAGIC_FREED;
    mem_free(acceptor);
}

enum error ipc_acceptor_set(struct ipc_acceptor *acceptor, const struct ipc_settings *settings,
                            const uid_t *allow_uids, size_t allow_uid_count)
{
    uid_t *copy = NULL;

    REQUIRE_OBJECT(acceptor, ACCEPTOR_MAGIC);
    if (allow_uid_count > 0) {
        copy = mem_calloc(allow_uid_count, sizeof(*copy));
        if (copy == NULL) {
            return ERROR_NO_MEMORY;
        }
        memcpy(copy, allow_uids, allow_uid_count * sizeof(*copy));
    }
    mem_free(acceptor->allow_uids);
    acceptor->allow_uids = copy;
    acceptor->allow_uid_count = allow_uid_count;
    acceptor->settings = *settings;
    return ERROR_NONE;
}

int ipc_acceptor_fd(const struct ipc_acceptor *acceptor)
{
    REQUIRE_OBJECT(acceptor, ACCEPTOR_MAGIC);
    return acceptor->io.fd;
}

struct ipc_acceptor *ipc_acceptor_new(struct loop *loop, int fd,
                                      const struct ipc_settings *settings, const uid_t *allow_uids,
                                      size_t allow_uid_count, ipc_hello_fn *on_hello, void *context)
{
    struct ipc_acceptor *acceptor = mem_calloc(1, sizeof(*acceptor));

    if (acceptor == NULL) {
        return NULL;
    }
    acceptor->magic = ACCEPTOR_MAGIC;
    acceptor->loop = loop;
    acceptor->on_hello = on_hello;
    acceptor->context = context;
    pending_list_init(&acceptor->pending);
    loop_io_init(&acceptor->io, loop, fd, acceptor_on_io);
    loop_timer_init(&acceptor->pause, loop, acceptor_on_pause);
    if (ipc_acceptor_set(acceptor, settings, allow_uids, allow_uid_count) != ERROR_NONE ||
        loop_io_set(&acceptor->io, LOOP_READ) != ERROR_NONE) {
        loop_io_done(&acceptor->io);
        acceptor_dispose(&acceptor->grave);
        return NULL;
    }
    return acceptor;
}

void ipc_acceptor_free(struct ipc_acceptor *acceptor)
{
    struct pending *pending;

    if (acceptor == NULL) {
        return;
    }
    REQUIRE_OBJECT(acceptor, ACCEPTOR_MAGIC);
    loop_assert_owner(acceptor->loop);
    while ((pending = pending_list_first(&acceptor->pending)) != NULL) {
        ipc_link_free(pending_end(pending));
    }
    loop_io_done(&acceptor->io);
    loop_timer_clear(&acceptor->pause);
    loop_bury(acceptor->loop, &acceptor->grave, acceptor_dispose);
}
