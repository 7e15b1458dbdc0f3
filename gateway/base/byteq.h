/* SPDX-License-Identifier: MIT */
/*
 * A queue of bytes in chunks with two cursors: `sent` (handed to the socket) and `acked` (may be
 * forgotten). HTTP/1 and HTTP/2 acknowledge what they send at once; HTTP/3 keeps bytes until the
 * peer's ACK. The queue does not bound itself: its user states the bound (credit windows) and
 * REQUIREs it.
 */
#ifndef GATEWAY_BASE_BYTEQ_H
#define GATEWAY_BASE_BYTEQ_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/check.h"
#include "base/chunk.h"
#include "base/error.h"

struct byteq_piece;

struct byteq {
    struct byteq_piece *first, *last; /* unacked pieces */
    struct byteq_piece *send_piece;   /* where the unsent bytes begin; NULL when all is sent */
    size_t send_offset;               /* into send_piece */
    size_t ack_offset;                /* into first */
    size_t size;                      /* bytes held, unacked ones included */
    size_t unsent;
};

/* An empty queue is all zero bytes; this makes one. */
void byteq_init(struct byteq *queue);
/* Drops everything. */
void byteq_done(struct byteq *queue);
/* Appends a copy of the bytes. On ERROR_NO_MEMORY nothing was appended. */
enum error byteq_append(struct byteq *queue, const void *data, size_t length) MUST_CHECK;
/* Appends `length` bytes at `offset` of `chunk`, consuming the caller's reference (on error
 * too). */
enum error byteq_append_take(struct byteq *queue, struct chunk *chunk, size_t offset,
                             size_t length) MUST_CHECK;
/* Appends the next `length` <= unsent bytes of `from` by reference and moves its sent cursor over them: they are held by both until
 * `from` is told byteq_mark_acked. On ERROR_NO_MEMORY a part may have been shared. */
enum error byteq_share(struct byteq *queue, struct byteq *from, size_t length) MUST_CHECK;
/* Fills at most `max` vectors with unsent bytes (at most `limit` bytes); returns how many
 * vectors were filled. */
size_t byteq_peek(const struct byteq *queue, struct iovec *vectors, size_t max, size_t limit);
/* Copies up to `length` unsent bytes out without moving the cursor; returns how many. */
size_t byteq_copy_out(const struct byteq *queue, void *out, size_t length);
/* Moves the sent cursor over `length` <= unsent bytes; they stay held. */
void byteq_mark_sent(struct byteq *queue, size_t length);
/* Forgets the `length` oldest held bytes, which must have been sent. */
void byteq_mark_acked(struct byteq *queue, size_t length);
/* mark_sent and mark_acked in one. REQUIREs that nothing sent is waiting for its ack. */
void byteq_consume(struct byteq *queue, size_t length);
/* Puts the sent cursor back to the acked one: what was sent but not acked will be sent again
 * (request replay). */
void byteq_rewind(struct byteq *queue);

#endif
