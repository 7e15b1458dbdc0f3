/* SPDX-License-Identifier: MIT */
/*
 * The socket of a channel: one recvmsg per wake-up, one sendmsg per flush. It owns the descriptor, the queue of bytes to be
 * written and a partial frame that was read; it knows where frames begin and nothing of what they mean. Belongs to one loop.
 */
#ifndef GATEWAY_IPC_LINK_H
#define GATEWAY_IPC_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "ipc/frame.h"
#include "loop/loop.h"

/* Most bytes read per wake-up: a fair share of a turn, and enough for hundreds of frames. */
#define LINK_READ_BYTES 262144u
/* Descriptors held between a read and its frames: the kernel ends a read behind the bytes that a descriptor came with, so it is one, and
 * a second one when the first one's frame came in pieces. */
#define LINK_FILES 2u

struct link {
    struct loop *loop;
    struct loop_io io;
    int fd; /* -1 once closed */
    struct frame_reader reader;
    /* bytes to be written: out[out_start .. out_end) */
    uint8_t *out;
    size_t out_start, out_end, out_capacity;
    uint64_t queued, written; /* bytes since the link began */
    int first_fd;             /* descriptor for the first byte; -1: none or sent */
    size_t first_length;      /* what may go with it: the first frame */
    bool takes_files;         /* descriptors may come, with FILE frames */
    int files[LINK_FILES];    /* that came and whose FILE was not looked at yet; or _LOST */
    unsigned file_count;
    bool blocked;    /* the socket is full: LOOP_WRITE is armed */
    bool write_dead; /* EPIPE or the like: nothing will be written any more */
};

/* Takes the descriptor over (also on failure) and starts to watch it. `callback` gets the events; its `io` is link.io. */
enum error link_init(struct link *link, struct loop *loop, int fd, uint32_t max_frame,
                     void (*callback)(struct loop_io *io, unsigned events)) MUST_CHECK;
/* Closes the descriptor and stops watching; frames and queue stay until link_done. Allowed twice. */
void link_close(struct link *link);
void link_done(struct link *link);

/* Reads once. NONE: bytes came, get the frames with link_next. AGAIN, CLOSED (end of stream), IO (reset: errno). PROTOCOL: a
 * descriptor came along that nothing may carry; it is closed (SPEC R5). With takes_files it is kept for link_take_file. */
enum error link_receive(struct link *link) MUST_CHECK;
/* The descriptor of the FILE frame that link_next gave, now the caller's; IPC_DESCRIPTOR_NONE or _LOST (ipc/descriptors.h). */
int link_take_file(struct link *link);
/* After link_next said MORE: whether a descriptor is left that belongs to no FILE of which at least the beginning is there (SPEC R5). */
bool link_has_stray_file(const struct link *link);
/* As frame_reader_next. */
enum frame_next link_next(struct link *link, struct frame *ret_frame,
                          struct frame_violation *ret_violation) MUST_CHECK;

/* Queues a frame: header, then `payload`, then `more` (either may be empty); the header's length is set here. On ERROR_NO_MEMORY
 * nothing was queued. The caller bounds the queue (link_queued). */
enum error link_queue(struct link *link, const struct frame *header, struct slice payload,
                      struct slice more) MUST_CHECK;
/* The frame queued next is the first of the link and carries `fd`, which is taken. */
void link_attach(struct link *link, int fd);
/* Forgets what is queued; only while the socket is not full, when the queue begins with a whole frame. */
void link_drop(struct link *link);
size_t link_queued(const struct link *link);
/* Writes once. NONE: all is written. AGAIN: the socket is full and the write event is armed. IO: nothing can be written any more
 * (what the peer sent before can still be read). NO_MEMORY: the event could not be armed. */
enum error link_flush(struct link *link) MUST_CHECK;
/* Gives a large empty queue's memory back. */
void link_trim(struct link *link);

#endif
