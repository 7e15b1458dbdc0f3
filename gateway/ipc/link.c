/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing a worker's socket. Reads go into a scratch buffer shared by the links of a thread; only the rest of a
 * frame that did not come in one piece is kept per link. It owns the scratch buffer while a link of the thread lives.
 */
#include "ipc/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/descriptors.h"

#define OUT_FIRST_CAPACITY 4096u
#define OUT_KEPT 16384u

/* One per thread, because a loop is a thread; made with its first link and freed with its last. */
static _Thread_local struct {
    uint8_t *bytes;
    unsigned links;
} scratch;

static bool scratch_ref(void)
{
    if (scratch.links == 0) {
        scratch.bytes = mem_alloc(LINK_READ_BYTES);
        if (scratch.bytes == NULL) {
            return false;
        }
    }
    scratch.links++;
    return true;
}

static void scratch_unref(void)
{
    REQUIRE(scratch.links > 0);
    if (--scratch.links == 0) {
        mem_free(scratch.bytes);
        scratch.bytes = NULL;
    }
}

enum error link_init(struct link *link, struct loop *loop, int fd, uint32_t max_frame,
                     void (*callback)(struct loop_io *io, unsigned events))
{
    *link = (struct link){.loop = loop, .fd = fd, .first_fd = -1};
    frame_reader_init(&link->reader, FRAME_SENDER_WORKER, max_frame);
    loop_io_init(&link->io, loop, fd, callback);
    if (!scratch_ref()) {
        close(fd);
        link->loop = NULL;
        return ERROR_NO_MEMORY;
    }
    enum error error = loop_io_set(&link->io, LOOP_READ);
    if (error != ERROR_NONE) {
        link_done(link);
    }
    return error;
}

void link_close(struct link *link)
{
    loop_io_done(&link->io);
    if (link->fd >= 0) {
        close(link->fd);
        link->fd = -1;
    }
    if (link->first_fd >= 0) {
        close(link->first_fd);
        link->first_fd = -1;
    }
    while (link->file_count > 0) {
        int fd = link_take_file(link);
        if (fd >= 0) {
            close(fd);
        }
    }
}

void link_done(struct link *link)
{
    if (link->loop == NULL) {
        return;
    }
    link_close(link);
    frame_reader_done(&link->reader);
    mem_free(link->out);
    link->out = NULL;
    link->loop = NULL;
    scratch_unref();
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

/* What came along with the bytes. False: it may not (SPEC R5). */
static bool keep_files(struct link *link, struct msghdr *message)
{
    if (!link->takes_files) {
        return !ipc_close_descriptors(message);
    }
    int fd = ipc_take_descriptor(message);
    if (fd == IPC_DESCRIPTOR_NONE) {
        return true;
    }
    if (fd == IPC_DESCRIPTOR_MANY) {
        return false;
    }
    if (link->file_count == LINK_FILES) {
        if (fd >= 0) {
            close(fd);
            METRIC_INCREMENT(ipc_descriptors_refused);
        }
        return false;
    }
    link->files[link->file_count++] = fd;
    return true;
}

int link_take_file(struct link *link)
{
    if (link->file_count == 0) {
        return IPC_DESCRIPTOR_NONE;
    }
    int fd = link->files[0];
    link->files[0] = link->files[1];
    link->file_count--;
    return fd;
}

bool link_has_stray_file(const struct link *link)
{
    return link->file_count > (frame_reader_may_hold(&link->reader, FRAME_FILE) ? 1u : 0u);
}

enum error link_receive(struct link *link)
{
    /* CMSG_LEN, not CMSG_SPACE: the padding of the latter is room for a second descriptor. */
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    uint8_t *room = NULL;
    size_t direct = frame_reader_room(&link->reader, &room);
    struct iovec vectors[2] = {{.iov_base = room, .iov_len = direct},
                               {.iov_base = scratch.bytes, .iov_len = LINK_READ_BYTES}};
    unsigned first = direct > 0 ? 0 : 1;
    struct msghdr message = {.msg_iov = vectors + first,
                             .msg_iovlen = 2 - first,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t got;

    do {
        got = recvmsg(link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    METRIC_INCREMENT(ipc_reads);
    if (got < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK ? ERROR_AGAIN : ERROR_IO;
    }
    if (!keep_files(link, &message)) {
        return ERROR_PROTOCOL;
    }
    if (got == 0) {
        return ERROR_CLOSED;
    }
    metric_add(METRIC_ipc_bytes_in, got);
    size_t length = (size_t)got;
    size_t filled = length < direct ? length : direct;
    frame_reader_filled(&link->reader, filled);
    frame_reader_feed(&link->reader, scratch.bytes, length - filled);
    return ERROR_NONE;
}

enum frame_next link_next(struct link *link, struct frame *ret_frame,
                          struct frame_violation *ret_violation)
{
    return frame_reader_next(&link->reader, ret_frame, ret_violation);
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

/* Room for `length` bytes at the end of the queue: by moving what is queued to the front, or by a larger block. */
static bool out_reserve(struct link *link, size_t length)
{
    size_t queued = link_queued(link);

    if (length <= link->out_capacity - link->out_end) {
        return true;
    }
    size_t needed = queued + length;
    /* Moving at most half a block for at least half a block of room keeps the cost per byte constant. */
    if (needed <= link->out_capacity && queued <= link->out_capacity / 2) {
        memmove(link->out, link->out + link->out_start, queued);
    } else {
        size_t capacity = link->out_capacity > 0 ? link->out_capacity : OUT_FIRST_CAPACITY;
        while (capacity < needed) {
            capacity *= 2;
        }
        capacity = capacity == link->out_capacity ? 2 * capacity : capacity;
        uint8_t *out = mem_alloc(capacity);
        if (out == NULL) {
            return false;
        }
        if (queued > 0) {
            memcpy(out, link->out + link->out_start, queued);
        }
        mem_free(link->out);
        link->out = out;
        link->out_capacity = capacity;
    }
    link->out_start = 0;
    link->out_end = queued;
    return true;
}

static void out_append(struct link *link, const void *data, size_t length)
{
    if (length > 0) {
        memcpy(link->out + link->out_end, data, length);
        link->out_end += length;
        link->queued += length;
    }
}

enum error link_queue(struct link *link, const struct frame *header, struct slice payload,
                      struct slice more)
{
    struct frame frame = *header;
    uint8_t bytes[FRAME_HEADER_SIZE];
    size_t length = payload.length + more.length;

    REQUIRE(length <= FRAME_MAX_MAX_FRAME);
    if (link->write_dead) {
        return ERROR_NONE; /* nobody will read it; the end of the link is under way */
    }
    if (!out_reserve(link, FRAME_HEADER_SIZE + length)) {
        return ERROR_NO_MEMORY;
    }
    frame.length = (uint32_t)length;
    frame_encode(bytes, &frame);
    if (link->first_fd >= 0 && link->queued == 0) {
        link->first_length = FRAME_HEADER_SIZE + length;
    }
    out_append(link, bytes, sizeof(bytes));
    out_append(link, payload.data, payload.length);
    out_append(link, more.data, more.length);
    METRIC_INCREMENT(ipc_frames_out);
    return ERROR_NONE;
}

void link_attach(struct link *link, int fd)
{
    REQUIRE(link->queued == 0 && link->first_fd < 0);
    link->first_fd = fd;
}

void link_drop(struct link *link)
{
    REQUIRE(!link->blocked);
    link->out_start = link->out_end = 0;
    if (link->first_fd >= 0) {
        close(link->first_fd);
        link->first_fd = -1;
    }
}

size_t link_queued(const struct link *link)
{
    return link->out_end - link->out_start;
}

/* One sendmsg; the first carries the descriptor and nothing behind its frame (SPEC S3). Returns as sendmsg. */
static ssize_t link_send(struct link *link)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec vector = {.iov_base = link->out + link->out_start, .iov_len = link_queued(link)};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    ssize_t sent;

    if (link->first_fd >= 0) {
        vector.iov_len = link->first_length;
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &link->first_fd, sizeof(int));
    }
    do {
        sent = sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    METRIC_INCREMENT(ipc_writes);
    return sent;
}

static void link_sent(struct link *link, size_t length)
{
    metric_add(METRIC_ipc_bytes_out, (int64_t)length);
    link->written += length;
    link->out_start += length;
    if (link->out_start == link->out_end) {
        link->out_start = link->out_end = 0;
    }
    if (link->first_fd >= 0) {
        close(link->first_fd);
        link->first_fd = -1;
    }
}

static enum error link_block(struct link *link)
{
    link->blocked = true;
    enum error error = loop_io_set(&link->io, LOOP_READ | LOOP_WRITE);
    return error == ERROR_NONE ? ERROR_AGAIN : error;
}

static enum error link_unblock(struct link *link)
{
    if (!link->blocked) {
        return ERROR_NONE;
    }
    link->blocked = false;
    return loop_io_set(&link->io, LOOP_READ);
}

enum error link_flush(struct link *link)
{
    while (link_queued(link) > 0 && !link->write_dead) {
        size_t tried = link->first_fd >= 0 ? link->first_length : link_queued(link);
        ssize_t sent = link_send(link);
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            link->write_dead = true;
            link->out_start = link->out_end = 0;
            break;
        }
        if (sent > 0) {
            link_sent(link, (size_t)sent);
        }
        if (sent < 0 || (size_t)sent < tried) {
            return link_block(link);
        }
    }
    enum error error = link_unblock(link);
    return link->write_dead ? ERROR_IO : error;
}

void link_trim(struct link *link)
{
    if (link_queued(link) == 0 && link->out_capacity > OUT_KEPT) {
        mem_free(link->out);
        link->out = NULL;
        link->out_capacity = link->out_start = link->out_end = 0;
    }
}
