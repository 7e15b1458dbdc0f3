/* SPDX-License-Identifier: MIT */
/*
 * The byte queue: a list of pieces, each a window into a chunk. It owns a reference to each chunk.
 * Invariants: size >= unsent; send_piece is NULL exactly when unsent is 0; ack_offset <
 * first->length whenever there is a piece.
 */
#include "base/byteq.h"

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

/* Room of a chunk made for copied bytes: a response head and a small body fit, an allocation
 * stays within 2 KiB. */
#define BYTEQ_CHUNK (2048 - sizeof(struct chunk))

struct byteq_piece {
    struct byteq_piece *next;
    struct chunk *chunk;
    size_t offset, length; /* the window into chunk->data */
};

void byteq_init(struct byteq *queue)
{
    *queue = (struct byteq){0};
}

static void piece_free(struct byteq_piece *piece)
{
    chunk_unref(piece->chunk);
    mem_free(piece);
}

void byteq_done(struct byteq *queue)
{
    while (queue->first != NULL) {
        struct byteq_piece *piece = queue->first;
        queue->first = piece->next;
        piece_free(piece);
    }
    byteq_init(queue);
}

/* Accounts for `length` bytes that the last piece has gained behind `old_length`. */
static void byteq_grown(struct byteq *queue, size_t old_length, size_t length)
{
    if (queue->send_piece == NULL) {
        queue->send_piece = queue->last;
        queue->send_offset = old_length;
    }
    queue->size += length;
    queue->unsent += length;
}

/* Appends a new piece; consumes `chunk` on success only. */
static enum error byteq_add_piece(struct byteq *queue, struct chunk *chunk, size_t offset,
                                  size_t length)
{
    struct byteq_piece *piece = mem_alloc(sizeof(*piece));

    if (piece == NULL) {
        return ERROR_NO_MEMORY;
    }
    *piece = (struct byteq_piece){.chunk = chunk, .offset = offset, .length = length};
    if (queue->last == NULL) {
        queue->first = piece;
    } else {
        queue->last->next = piece;
    }
    queue->last = piece;
    byteq_grown(queue, 0, length);
    return ERROR_NONE;
}

/* How many bytes fit behind the last piece in its own chunk: only where nobody else sees the
 * chunk. */
static size_t byteq_tail_room(const struct byteq *queue)
{
    const struct byteq_piece *last = queue->last;

    if (last == NULL || last->chunk->references != 1 ||
        last->offset + last->length != last->chunk->length) {
        return 0;
    }
    return last->chunk->capacity - last->chunk->length;
}

static void chunk_fill(struct chunk *chunk, const void *data, size_t length)
{
    REQUIRE(length <= chunk->capacity - chunk->length);
    memcpy(chunk->data + chunk->length, data, length);
    chunk->length += (uint32_t)length;
}

enum error byteq_append(struct byteq *queue, const void *data, size_t length)
{
    size_t room = byteq_tail_room(queue);
    size_t head = length < room ? length : room;
    size_t rest = length - head;
    struct byteq_piece *tail = queue->last;

    if (rest > 0) {
        /* What can fail comes first, so that a failure leaves nothing appended. */
        struct chunk *chunk = chunk_new(rest > BYTEQ_CHUNK ? rest : BYTEQ_CHUNK);
        if (chunk == NULL) {
            return ERROR_NO_MEMORY;
        }
        chunk_fill(chunk, (const uint8_t *)data + head, rest);
        enum error error = byteq_add_piece(queue, chunk, 0, rest);
        if (error != ERROR_NONE) {
            chunk_unref(chunk);
            return error;
        }
    }
    if (head > 0) {
        size_t old_length = tail->length;
        bool all_was_sent = queue->unsent == rest;
        chunk_fill(tail->chunk, data, head);
        tail->length += head;
        queue->size += head;
        queue->unsent += head;
        if (all_was_sent) {
            queue->send_piece = tail;
            queue->send_offset = old_length;
        }
    }
    return ERROR_NONE;
}

enum error byteq_append_take(struct byteq *queue, struct chunk *chunk, size_t offset, size_t length)
{
    struct byteq_piece *last = queue->last;

    REQUIRE(offset <= chunk->length && length <= chunk->length - offset);
    if (length == 0) {
        chunk_unref(chunk);
        return ERROR_NONE;
    }
    if (last != NULL && last->chunk == chunk && last->offset + last->length == offset) {
        /* It continues the last piece: one reference is enough for both. */
        size_t old_length = last->length;
        last->length += length;
        byteq_grown(queue, old_length, length);
        chunk_unref(chunk);
        return ERROR_NONE;
    }
    enum error error = byteq_add_piece(queue, chunk, offset, length);
    if (error != ERROR_NONE) {
        chunk_unref(chunk);
    }
    return error;
}

size_t byteq_peek(const struct byteq *queue, struct iovec *vectors, size_t max, size_t limit)
{
    const struct byteq_piece *piece = queue->send_piece;
    size_t offset = queue->send_offset;
    size_t count = 0;

    for (; piece != NULL && count < max && limit > 0; piece = piece->next, offset = 0) {
        size_t length = piece->length - offset;
        if (length > limit) {
            length = limit;
        }
        vectors[count].iov_base = piece->chunk->data + piece->offset + offset;
        vectors[count].iov_len = length;
        count++;
        limit -= length;
    }
    return count;
}

size_t byteq_copy_out(const struct byteq *queue, void *out, size_t length)
{
    const struct byteq_piece *piece = queue->send_piece;
    size_t offset = queue->send_offset;
    size_t copied = 0;

    for (; piece != NULL && copied < length; piece = piece->next, offset = 0) {
        size_t part = piece->length - offset;
        if (part > length - copied) {
            part = length - copied;
        }
        memcpy((uint8_t *)out + copied, piece->chunk->data + piece->offset + offset, part);
        copied += part;
    }
    return copied;
}

void byteq_mark_sent(struct byteq *queue, size_t length)
{
    REQUIRE(length <= queue->unsent);
    queue->unsent -= length;
    while (length > 0) {
        struct byteq_piece *piece = queue->send_piece;
        REQUIRE(piece != NULL);
        size_t part = piece->length - queue->send_offset;
        if (length < part) {
            queue->send_offset += length;
            break;
        }
        length -= part;
        queue->send_piece = piece->next;
        queue->send_offset = 0;
    }
}

enum error byteq_share(struct byteq *queue, struct byteq *from, size_t length)
{
    REQUIRE(queue != from && length <= from->unsent);
    while (length > 0) {
        const struct byteq_piece *piece = from->send_piece;
        size_t part = piece->length - from->send_offset;
        if (part > length) {
            part = length;
        }
        enum error error = byteq_append_take(queue, chunk_ref(piece->chunk),
                                             piece->offset + from->send_offset, part);
        if (error != ERROR_NONE) {
            return error;
        }
        byteq_mark_sent(from, part);
        length -= part;
    }
    return ERROR_NONE;
}

void byteq_mark_acked(struct byteq *queue, size_t length)
{
    REQUIRE(length <= queue->size - queue->unsent);
    queue->size -= length;
    while (length > 0) {
        struct byteq_piece *piece = queue->first;
        REQUIRE(piece != NULL);
        size_t part = piece->length - queue->ack_offset;
        if (length < part) {
            queue->ack_offset += length;
            break;
        }
        length -= part;
        queue->first = piece->next;
        queue->ack_offset = 0;
        if (queue->first == NULL) {
            queue->last = NULL;
        }
        piece_free(piece);
    }
}

void byteq_consume(struct byteq *queue, size_t length)
{
    REQUIRE(queue->size == queue->unsent);
    byteq_mark_sent(queue, length);
    byteq_mark_acked(queue, length);
}

void byteq_rewind(struct byteq *queue)
{
    queue->send_piece = queue->first;
    queue->send_offset = queue->ack_offset;
    queue->unsent = queue->size;
}
