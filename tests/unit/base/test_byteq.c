/* SPDX-License-Identifier: MIT */
/* base/byteq.c and chunk.c: directed cases, a comparison with a model, and a walk over every
 * failing allocation. */
#include "check.h"

#include "base/byteq.h"
#include "base/hash.h"
#include "base/mem.h"

static struct chunk *chunk_of(const char *text)
{
    size_t length = strlen(text);
    struct chunk *chunk = chunk_new(length);

    CHECK(chunk != NULL);
    memcpy(chunk->data, text, length);
    chunk->length = (uint32_t)length;
    return chunk;
}

static void check_unsent(const struct byteq *queue, const char *text)
{
    char out[256];
    size_t length = byteq_copy_out(queue, out, sizeof(out));

    CHECK_EQ_INT(queue->unsent, strlen(text));
    CHECK_EQ_INT(length, strlen(text));
    CHECK_EQ_MEM(out, text, length);
}

TEST(chunk_lives_as_long_as_its_references)
{
    uint64_t live = mem_live();
    struct chunk *chunk = chunk_of("abc");

    CHECK(chunk_ref(chunk) == chunk);
    chunk_unref(chunk);
    CHECK_EQ_MEM(chunk->data, "abc", 3);
    chunk_unref(chunk);
    chunk_unref(NULL);
    CHECK_EQ_INT(mem_live(), live);
}

TEST(byteq_sends_acks_and_rewinds)
{
    uint64_t live = mem_live();
    struct byteq queue;

    byteq_init(&queue);
    CHECK_EQ_INT(byteq_append(&queue, "hello ", 6), ERROR_NONE);
    CHECK_EQ_INT(byteq_append_take(&queue, chunk_of("[world]"), 1, 5), ERROR_NONE);
    check_unsent(&queue, "hello world");
    byteq_mark_sent(&queue, 8);
    check_unsent(&queue, "rld");
    byteq_mark_acked(&queue, 3);
    CHECK_EQ_INT(queue.size, 8);
    byteq_rewind(&queue);
    check_unsent(&queue, "lo world");
    byteq_mark_sent(&queue, 8);
    check_unsent(&queue, "");
    CHECK(queue.send_piece == NULL);
    CHECK_EQ_INT(byteq_append(&queue, "!", 1), ERROR_NONE);
    check_unsent(&queue, "!");
    byteq_mark_acked(&queue, 8);
    byteq_consume(&queue, 1);
    CHECK(queue.first == NULL && queue.last == NULL && queue.size == 0);
    CHECK_EQ_INT(mem_live(), live);
    byteq_done(&queue);
}

TEST(byteq_append_after_all_was_sent_but_not_acked)
{
    struct byteq queue;
    char big[3000];

    memset(big, 'x', sizeof(big));
    byteq_init(&queue);
    CHECK_EQ_INT(byteq_append(&queue, "abc", 3), ERROR_NONE);
    byteq_mark_sent(&queue, 3);
    /* fills the tail of the sent piece and goes on in a new one */
    CHECK_EQ_INT(byteq_append(&queue, big, sizeof(big)), ERROR_NONE);
    CHECK_EQ_INT(queue.unsent, sizeof(big));
    struct iovec vectors[4];
    CHECK_EQ_INT(byteq_peek(&queue, vectors, 4, SIZE_MAX), 2);
    CHECK_EQ_INT(vectors[0].iov_len + vectors[1].iov_len, sizeof(big));
    CHECK_EQ_MEM(vectors[0].iov_base, "xxxx", 4);
    byteq_rewind(&queue);
    char out[4];
    CHECK_EQ_INT(byteq_copy_out(&queue, out, 4), 4);
    CHECK_EQ_MEM(out, "abcx", 4);
    byteq_done(&queue);
}

TEST(byteq_peek_keeps_to_max_and_limit)
{
    struct byteq queue;
    struct iovec vectors[3];

    byteq_init(&queue);
    CHECK_EQ_INT(byteq_peek(&queue, vectors, 3, 100), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ_INT(byteq_append_take(&queue, chunk_of("0123456789"), 0, 10), ERROR_NONE);
    }
    CHECK_EQ_INT(byteq_peek(&queue, vectors, 2, 100), 2);
    CHECK_EQ_INT(byteq_peek(&queue, vectors, 3, 100), 3);
    CHECK_EQ_INT(byteq_peek(&queue, vectors, 3, 15), 2);
    CHECK_EQ_INT(vectors[1].iov_len, 5);
    CHECK_EQ_INT(byteq_peek(&queue, vectors, 3, 0), 0);
    byteq_done(&queue);
}

TEST(byteq_never_writes_into_a_shared_chunk)
{
    struct byteq queue;
    struct chunk *chunk = chunk_new(100);

    CHECK(chunk != NULL);
    memcpy(chunk->data, "abc", 3);
    chunk->length = 3;
    byteq_init(&queue);
    CHECK_EQ_INT(byteq_append_take(&queue, chunk_ref(chunk), 0, 3), ERROR_NONE);
    CHECK_EQ_INT(byteq_append(&queue, "def", 3), ERROR_NONE);
    CHECK_EQ_INT(chunk->length, 3);
    check_unsent(&queue, "abcdef");
    byteq_done(&queue);
    CHECK_EQ_INT(chunk->references, 1);
    chunk_unref(chunk);
}

TEST(byteq_joins_neighbours_of_one_chunk)
{
    struct byteq queue;
    struct iovec vectors[2];
    struct chunk *chunk = chunk_of("abcdef");

    byteq_init(&queue);
    CHECK_EQ_INT(byteq_append_take(&queue, chunk_ref(chunk), 0, 2), ERROR_NONE);
    byteq_mark_sent(&queue, 2);
    CHECK_EQ_INT(byteq_append_take(&queue, chunk_ref(chunk), 2, 3), ERROR_NONE);
    CHECK_EQ_INT(byteq_append_take(&queue, chunk_ref(chunk), 5, 0), ERROR_NONE);
    CHECK_EQ_INT(byteq_peek(&queue, vectors, 2, 100), 1);
    CHECK_EQ_MEM(vectors[0].iov_base, "cde", 3);
    CHECK_EQ_INT(chunk->references, 2);
    byteq_done(&queue);
    chunk_unref(chunk);
}

/* The queue against three numbers: byte i of the stream is pattern(i); held are [acked, end),
 * sent are [acked, sent). */
static uint8_t pattern(size_t position)
{
    return (uint8_t)(position * 31 + position / 251);
}

static void model_append(struct byteq *queue, size_t *end)
{
    uint8_t bytes[5000];
    size_t length = random_cheap() % (random_cheap() % 4 == 0 ? sizeof(bytes) : 300);

    for (size_t i = 0; i < length; i++) {
        bytes[i] = pattern(*end + i);
    }
    if (random_cheap() % 2 == 0) {
        CHECK_EQ_INT(byteq_append(queue, bytes, length), ERROR_NONE);
    } else {
        struct chunk *chunk = chunk_new(length + 7);
        CHECK(chunk != NULL);
        memcpy(chunk->data + 7, bytes, length);
        chunk->length = (uint32_t)length + 7;
        CHECK_EQ_INT(byteq_append_take(queue, chunk, 7, length), ERROR_NONE);
    }
    *end += length;
}

TEST(byteq_agrees_with_a_model)
{
    uint64_t live = mem_live();
    struct byteq queue;
    size_t acked = 0, sent = 0, end = 0;

    byteq_init(&queue);
    for (int step = 0; step < 20000; step++) {
        switch (random_cheap() % 5) {
        case 0:
            if (end - acked < 40000) {
                model_append(&queue, &end);
            }
            break;
        case 1:
        case 2: {
            size_t length = random_cheap() % (end - sent + 1);
            byteq_mark_sent(&queue, length);
            sent += length;
            break;
        }
        case 3: {
            size_t length = random_cheap() % (sent - acked + 1);
            byteq_mark_acked(&queue, length);
            acked += length;
            break;
        }
        default:
            if (random_cheap() % 8 == 0) {
                byteq_rewind(&queue);
                sent = acked;
            }
        }
        CHECK_EQ_INT(queue.size, end - acked);
        CHECK_EQ_INT(queue.unsent, end - sent);
        CHECK((queue.send_piece == NULL) == (queue.unsent == 0));
        uint8_t out[64];
        size_t length = byteq_copy_out(&queue, out, sizeof(out));
        CHECK_EQ_INT(length, end - sent < 64 ? end - sent : 64);
        for (size_t i = 0; i < length; i++) {
            CHECK_EQ_INT(out[i], pattern(sent + i));
        }
    }
    byteq_done(&queue);
    CHECK_EQ_INT(mem_live(), live);
}

TEST(byteq_survives_each_failing_allocation)
{
    uint64_t live = mem_live();
    bool complete = false;
    char big[3000];

    memset(big, 'y', sizeof(big));
    for (uint64_t n = 1; !complete; n++) {
        struct byteq queue;
        byteq_init(&queue);
        struct chunk *chunk = chunk_of("taken");
        mem_fail_nth(n, 0);
        bool first = byteq_append(&queue, "abc", 3) == ERROR_NONE;
        size_t before = queue.size;
        bool second = byteq_append(&queue, big, sizeof(big)) == ERROR_NONE;
        size_t middle = queue.size;
        bool third = byteq_append_take(&queue, chunk, 0, 5) == ERROR_NONE;
        mem_fail_nth(0, 0);
        CHECK_EQ_INT(before, first ? 3 : 0);
        CHECK_EQ_INT(middle, before + (second ? sizeof(big) : 0));
        CHECK_EQ_INT(queue.size, middle + (third ? 5 : 0));
        CHECK_EQ_INT(queue.unsent, queue.size);
        complete = first && second && third;
        byteq_done(&queue);
        CHECK_EQ_INT(mem_live(), live);
        CHECK(n < 20);
    }
}

CHECK_MAIN
