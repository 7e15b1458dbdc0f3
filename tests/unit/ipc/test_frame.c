/* SPDX-License-Identifier: MIT */
/* Headers and their rules (SPEC R6 to R18), and the reader at every division of its input (R1, R2, R3). */
#include "check.h"

#include <stdlib.h>

#include "base/mem.h"
#include "ipc/frame.h"

#define MAX 65536u

static enum frame_error judge(struct frame frame, enum frame_sender sender)
{
    struct frame_violation violation = {.code = FRAME_ERROR_NO_ERROR, .text = NULL};

    if (frame_check(&frame, sender, MAX, &violation) == ERROR_NONE) {
        return FRAME_ERROR_NO_ERROR;
    }
    CHECK(violation.text != NULL);
    return violation.code;
}

#define WORKER(...) judge((struct frame){__VA_ARGS__}, FRAME_SENDER_WORKER)
#define GATEWAY(...) judge((struct frame){__VA_ARGS__}, FRAME_SENDER_GATEWAY)
#define OK FRAME_ERROR_NO_ERROR
#define PROTOCOL FRAME_ERROR_PROTOCOL
#define SIZE FRAME_ERROR_FRAME_SIZE

TEST(a_header_is_little_endian)
{
    static const uint8_t expected[] = {0x44, 0x33, 0x22, 0x11, 17,   0x19, 0xf4, 0x01,
                                       0x04, 0x03, 0x02, 0x01, 0xdd, 0xcc, 0xbb, 0xaa};
    struct frame frame = {.length = 0x11223344,
                          .type = 17,
                          .flags = 0x19,
                          .code = 500,
                          .stream = 0x01020304,
                          .aux = 0xaabbccdd};
    struct frame back;
    uint8_t bytes[FRAME_HEADER_SIZE];

    frame_encode(bytes, &frame);
    CHECK_EQ_MEM(bytes, expected, sizeof(expected));
    frame_decode(bytes, &back);
    CHECK_EQ_INT(back.length, frame.length);
    CHECK_EQ_INT(back.type, frame.type);
    CHECK_EQ_INT(back.flags, frame.flags);
    CHECK_EQ_INT(back.code, frame.code);
    CHECK_EQ_INT(back.stream, frame.stream);
    CHECK_EQ_INT(back.aux, frame.aux);
}

TEST(names)
{
    CHECK_EQ_STR(frame_type_name(FRAME_REQUEST), "REQUEST");
    CHECK_EQ_STR(frame_type_name(0), "unknown");
    CHECK_EQ_STR(frame_type_name(300), "unknown");
    CHECK_EQ_STR(frame_error_name(FRAME_ERROR_FULL), "FULL");
    CHECK_EQ_STR(frame_error_name(99), "unknown");
    CHECK_EQ_INT(frame_feature_bit(SLICE("files")), FRAME_FEATURE(files));
    CHECK_EQ_INT(frame_feature_bit(SLICE("flies")), 0);
    CHECK_EQ_STR(frame_feature_name(FRAME_FEATURE_INDEX_websocket), "websocket");
}

TEST(lengths)
{
    CHECK_EQ_INT(WORKER(.type = FRAME_DATA, .stream = 1, .length = MAX), OK);
    CHECK_EQ_INT(WORKER(.type = FRAME_DATA, .stream = 1, .length = MAX + 1), SIZE);
    CHECK_EQ_INT(WORKER(.type = FRAME_DONE, .stream = 1, .length = 1), SIZE);
    CHECK_EQ_INT(WORKER(.type = FRAME_HELLO, .length = 16385), SIZE);
    CHECK_EQ_INT(WORKER(.type = FRAME_STATS, .length = 4097), SIZE);
    CHECK_EQ_INT(WORKER(.type = FRAME_HELLO, .length = 0), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .code = 200), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = 200, .length = MAX + 1), SIZE);
}

TEST(types_and_senders)
{
    CHECK_EQ_INT(WORKER(.type = 0), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = 10), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = 127), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = 130, .flags = 255, .code = 9, .stream = 8, .aux = 7), OK);
    CHECK(frame_ignorable(130, FRAME_SENDER_WORKER));
    CHECK(!frame_ignorable(FRAME_STATS, FRAME_SENDER_WORKER));
    CHECK(frame_ignorable(FRAME_STATS, FRAME_SENDER_GATEWAY));
    CHECK_EQ_INT(GATEWAY(.type = FRAME_STATS, .flags = 255, .length = 1), OK);
    static const uint8_t gateway_only[] = {FRAME_HELLO_ACK, FRAME_CONN,       FRAME_CONN_END,
                                           FRAME_REQUEST,   FRAME_DISCONNECT, FRAME_FILE_DONE};
    for (size_t i = 0; i < sizeof(gateway_only); i++) {
        CHECK_EQ_INT(WORKER(.type = gateway_only[i], .stream = 1, .length = 1, .aux = 1), PROTOCOL);
    }
    CHECK_EQ_INT(GATEWAY(.type = FRAME_READY), PROTOCOL);
}

TEST(streams_flags_codes_aux)
{
    CHECK_EQ_INT(WORKER(.type = FRAME_READY, .stream = 1), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_DONE, .stream = 0), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_READY, .flags = 1), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_READY, .flags = 64), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_TRAILERS, .stream = 1, .length = 1), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_TRAILERS, .stream = 1, .length = 1, .flags = 1), OK);
    CHECK_EQ_INT(WORKER(.type = FRAME_DATA, .stream = 1, .length = 1, .code = 1), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESET, .stream = 1, .code = FRAME_ERROR_CANCEL), OK);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESET, .stream = 1, .code = FRAME_ERROR_BODY_ABORTED),
                 PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESET, .stream = 1, .code = 40), PROTOCOL);
    CHECK_EQ_INT(GATEWAY(.type = FRAME_RESET, .stream = 1, .code = FRAME_ERROR_BODY_ABORTED), OK);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .length = 1, .code = 1000), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .length = 1, .code = 999), OK);
    CHECK_EQ_INT(WORKER(.type = FRAME_WS_CLOSE, .stream = 1, .code = 999), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_WS_CLOSE, .stream = 1, .code = 4999), OK);
    CHECK_EQ_INT(WORKER(.type = FRAME_DONE, .stream = 1, .aux = 1), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_WINDOW, .stream = 1), PROTOCOL);
    CHECK_EQ_INT(GATEWAY(.type = FRAME_CONN_END), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .length = 9, .aux = 9, .code = 200),
                 OK);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .length = 9, .aux = 10, .code = 200),
                 PROTOCOL);
}

TEST(combinations)
{
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .length = 1, .code = 200,
                        .flags = FRAME_FLAG_DONE),
                 PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_DATA, .stream = 1, .length = 1, .flags = FRAME_FLAG_DONE),
                 PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .length = 1, .code = 103), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .length = 1, .code = 200,
                        .flags = FRAME_FLAG_INFORMATIONAL),
                 PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .length = 1, .code = 103,
                        .flags = FRAME_FLAG_INFORMATIONAL | 1),
                 PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_RESPONSE, .stream = 1, .length = 2, .code = 103, .aux = 1,
                        .flags = FRAME_FLAG_INFORMATIONAL),
                 PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_DATA, .stream = 1), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_DATA, .stream = 1, .flags = 1), OK);
    CHECK_EQ_INT(GATEWAY(.type = FRAME_REQUEST, .stream = 1, .length = 1, .flags = 33), PROTOCOL);
    CHECK_EQ_INT(GATEWAY(.type = FRAME_REQUEST, .stream = 1, .length = 2, .aux = 1, .flags = 32),
                 PROTOCOL);
    CHECK_EQ_INT(GATEWAY(.type = FRAME_REQUEST, .stream = 1, .length = 16385, .aux = 1), OK);
    CHECK_EQ_INT(GATEWAY(.type = FRAME_REQUEST, .stream = 1, .length = 16386, .aux = 1), PROTOCOL);
    CHECK_EQ_INT(WORKER(.type = FRAME_WS_MSG, .stream = 1, .flags = FRAME_FLAG_MORE), PROTOCOL);
}

TEST(costs)
{
    struct frame data = {.type = FRAME_DATA, .length = 10};
    struct frame head = {.type = FRAME_RESPONSE, .length = 10};
    struct frame body = {.type = FRAME_RESPONSE, .length = 10, .aux = 4};
    struct frame none = {.type = FRAME_RESPONSE, .length = 10, .aux = 10};
    struct frame trailers = {.type = FRAME_TRAILERS, .length = 10};

    CHECK_EQ_INT(frame_cost(&data), 26);
    CHECK_EQ_INT(frame_cost(&head), 0);
    CHECK_EQ_INT(frame_cost(&body), 22);
    CHECK_EQ_INT(frame_cost(&none), 0);
    CHECK_EQ_INT(frame_cost(&trailers), 0);
}

/* --- the reader ---------------------------------------------------------------------------------------------------- */

struct stream {
    uint8_t bytes[4096];
    size_t length;
};

static void add(struct stream *stream, uint8_t type, uint32_t id, uint32_t length)
{
    struct frame frame = {.type = type, .stream = id, .length = length, .flags = length == 0};

    if (type >= FRAME_IGNORABLE_TYPE) {
        frame.flags = 99;
    }
    frame_encode(stream->bytes + stream->length, &frame);
    stream->length += FRAME_HEADER_SIZE;
    for (uint32_t i = 0; i < length; i++) {
        stream->bytes[stream->length++] = (uint8_t)(id + i);
    }
}

/* Reads frames until MORE and checks their content; returns how many. */
static unsigned drain(struct frame_reader *reader, uint32_t *next_id)
{
    struct frame frame;
    struct frame_violation violation;
    unsigned count = 0;

    while (frame_reader_next(reader, &frame, &violation) == FRAME_NEXT_FRAME) {
        count++;
        CHECK_EQ_INT(frame.stream, (*next_id)++);
        for (uint32_t i = 0; i < frame.length; i++) {
            CHECK_EQ_INT((uint8_t)frame.payload.data[i], (uint8_t)(frame.stream + i));
        }
    }
    return count;
}

static void make(struct stream *stream)
{
    stream->length = 0;
    add(stream, FRAME_DATA, 1, 5);
    add(stream, FRAME_DATA, 2, 0);
    add(stream, 200, 3, 33);
    add(stream, FRAME_DATA, 4, 300);
    add(stream, FRAME_DATA, 5, 1);
}

/* Feeds `length` bytes: first into the reader's own room, as a link does, then as input. */
static unsigned feed(struct frame_reader *reader, const uint8_t *bytes, size_t length, bool direct,
                     uint32_t *next_id)
{
    uint8_t *room;
    size_t space = direct ? frame_reader_room(reader, &room) : 0;
    size_t first = space < length ? space : length;

    if (first > 0) {
        memcpy(room, bytes, first);
        frame_reader_filled(reader, first);
    }
    frame_reader_feed(reader, bytes + first, length - first);
    return drain(reader, next_id);
}

TEST(every_division_into_two_reads_gives_the_same_frames)
{
    static struct stream stream;
    uint64_t live = mem_live();

    make(&stream);
    for (int direct = 0; direct < 2; direct++) {
        for (size_t cut = 0; cut <= stream.length; cut++) {
            struct frame_reader reader;
            uint32_t next_id = 1;
            frame_reader_init(&reader, FRAME_SENDER_WORKER, MAX);
            unsigned count = feed(&reader, stream.bytes, cut, direct, &next_id);
            count += feed(&reader, stream.bytes + cut, stream.length - cut, direct, &next_id);
            CHECK_EQ_INT(count, 5);
            CHECK(!frame_reader_partial(&reader));
            frame_reader_done(&reader);
        }
    }
    CHECK_EQ_INT(mem_live(), live);
}

TEST(byte_by_byte_and_every_end)
{
    static struct stream stream;
    static const size_t ends[] = {21, 37, 86, 402, 419};
    uint64_t live = mem_live();

    make(&stream);
    CHECK_EQ_INT(stream.length, 419);
    for (int direct = 0; direct < 2; direct++) {
        struct frame_reader reader;
        uint32_t next_id = 1;
        frame_reader_init(&reader, FRAME_SENDER_WORKER, MAX);
        for (size_t i = 0; i < stream.length; i++) {
            unsigned count = feed(&reader, stream.bytes + i, 1, direct, &next_id);
            bool end = false;
            for (size_t k = 0; k < 5; k++) {
                end = end || ends[k] == i + 1;
            }
            CHECK_EQ_INT(count, end);
            CHECK_EQ_INT(frame_reader_partial(&reader), !end); /* R2: what would be dropped */
        }
        frame_reader_done(&reader);
    }
    CHECK_EQ_INT(mem_live(), live);
}

TEST(a_condemned_header_takes_no_memory)
{
    struct frame frame = {.type = FRAME_DATA, .stream = 1, .length = MAX + 1};
    uint8_t bytes[FRAME_HEADER_SIZE];
    struct frame_violation violation;
    struct frame got;

    frame_encode(bytes, &frame);
    for (size_t cut = 0; cut < FRAME_HEADER_SIZE; cut++) {
        struct frame_reader reader;
        frame_reader_init(&reader, FRAME_SENDER_WORKER, MAX);
        frame_reader_feed(&reader, bytes, cut);
        CHECK_EQ_INT(frame_reader_next(&reader, &got, &violation), FRAME_NEXT_MORE);
        frame_reader_feed(&reader, bytes + cut, FRAME_HEADER_SIZE - cut);
        CHECK_EQ_INT(frame_reader_next(&reader, &got, &violation), FRAME_NEXT_BAD);
        CHECK_EQ_INT(violation.code, FRAME_ERROR_FRAME_SIZE);
        CHECK(reader.tail_capacity <= FRAME_HEADER_SIZE);
        frame_reader_done(&reader);
    }
}

TEST(no_memory_for_a_partial_frame)
{
    static struct stream stream;
    struct frame_violation violation;
    struct frame got;
    struct frame_reader reader;

    stream.length = 0;
    add(&stream, FRAME_DATA, 1, 300);
    frame_reader_init(&reader, FRAME_SENDER_WORKER, MAX);
    frame_reader_feed(&reader, stream.bytes, 100);
    mem_fail_nth(1, 0);
    CHECK_EQ_INT(frame_reader_next(&reader, &got, &violation), FRAME_NEXT_NO_MEMORY);
    mem_fail_nth(0, 0);
    frame_reader_done(&reader);
}

CHECK_MAIN
