/* SPDX-License-Identifier: MIT */
/*
 * Frames without input and output: the header's 16 bytes, the rules that a header must keep (protocol/frames.toml by way of
 * frame_rules.h) and a reader that finds frames in a stream of bytes. It owns only the bytes of a partial frame; it knows
 * nothing of streams, credit or sockets.
 */
#ifndef GATEWAY_IPC_FRAME_H
#define GATEWAY_IPC_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"
#include "ipc/frame_defs.h"
#include "ipc/frame_rules.h"

/* Optional parts of the protocol as bits, in the order of FRAME_FEATURES (the wire has names, never these numbers). */
enum frame_feature_index {
#define X(name) FRAME_FEATURE_INDEX_##name,
    FRAME_FEATURES(X)
#undef X
        FRAME_FEATURE_COUNT
};
#define FRAME_FEATURE(name) (UINT64_C(1) << FRAME_FEATURE_INDEX_##name)

struct frame {
    uint8_t type; /* enum frame_type, or an unknown one from FRAME_IGNORABLE_TYPE on */
    uint8_t flags;
    uint16_t code;
    uint32_t stream;
    uint32_t aux;
    uint32_t length;      /* of the payload, as the header says */
    struct slice payload; /* borrowed; empty after frame_decode */
};

/* One row of frames.toml. */
struct frame_rule {
    const char *name; /* "REQUEST" */
    enum frame_sender senders;
    enum frame_stream stream;
    uint8_t gateway_flags, worker_flags, need;
    bool credited;
    uint32_t min, max; /* max FRAME_ANY: the link's max_frame */
    enum frame_code code;
    uint32_t gateway_codes, worker_codes;
    enum frame_aux aux;
    enum frame_on idle, closed;
};

/* What a peer did wrong, for CHANNEL_ERROR and the log. */
struct frame_violation {
    enum frame_error code;
    const char *text; /* a static sentence */
};

/* The row of a type, NULL when the type is unknown. */
const struct frame_rule *frame_rule(unsigned type);
/* Names for logs, static strings; "unknown" when there is none. */
const char *frame_type_name(unsigned type);
const char *frame_error_name(unsigned code);
/* The name of a feature by its index, and the bit of a name (0: unknown). */
const char *frame_feature_name(unsigned index);
uint64_t frame_feature_bit(struct slice name);

/* Writes the header of `frame` with `length` as its payload length (SPEC R6). */
void frame_encode(uint8_t out[FRAME_HEADER_SIZE], const struct frame *frame);
/* Reads a header; checks nothing. */
void frame_decode(const uint8_t in[FRAME_HEADER_SIZE], struct frame *ret_frame);
/* Checks a header by itself: SPEC R7 to R18. `sender` is the side that sent it. ERROR_PROTOCOL fills `ret_violation`. Frames that
 * the receiver must skip (unknown or not for this direction, from type 128 on) pass; frame_ignorable tells them. */
enum error frame_check(const struct frame *frame, enum frame_sender sender, uint32_t max_frame,
                       struct frame_violation *ret_violation) MUST_CHECK;
/* Whether the receiver drops a frame of this type without looking into it (SPEC R8, R9). */
bool frame_ignorable(unsigned type, enum frame_sender sender);
/* How many payload bytes are body rather than head (types whose aux is HEAD; SPEC R14). */
uint32_t frame_body_length(const struct frame *frame);
/* What the frame costs of its stream's credit (SPEC R65). */
uint32_t frame_cost(const struct frame *frame);

/* --- the reader ------------------------------------------------------------------------------------------------------ */

enum frame_next {
    FRAME_NEXT_FRAME, /* *ret_frame; its payload is valid until the next call on the reader */
    FRAME_NEXT_MORE,  /* all input is used up; a partial frame was kept */
    FRAME_NEXT_BAD, /* a header broke a rule: *ret_violation; the reader must not be used any more */
    FRAME_NEXT_NO_MEMORY /* a partial frame could not be kept; as BAD */
};

struct frame_reader {
    enum frame_sender sender;
    uint32_t max_frame;
    const uint8_t *input; /* borrowed, not yet used up */
    size_t input_length;
    uint8_t *tail; /* a frame that did not come in one piece; owned */
    size_t tail_length, tail_capacity;
    bool tail_given; /* the tail was handed out and is dropped by the next call */
};

/* A reader for what `sender` sends. Memory: at most one frame of max_frame. */
void frame_reader_init(struct frame_reader *reader, enum frame_sender sender, uint32_t max_frame);
void frame_reader_done(struct frame_reader *reader);
/* Room for the rest of a partial frame whose header is known, so that a read can put it where it belongs; 0 when there is none. */
size_t frame_reader_room(struct frame_reader *reader, uint8_t **ret_room);
/* `length` bytes were put into that room. */
void frame_reader_filled(struct frame_reader *reader, size_t length);
/* Gives bytes, borrowed until frame_reader_next said MORE. The input before must be used up. */
void frame_reader_feed(struct frame_reader *reader, const void *data, size_t length);
enum frame_next frame_reader_next(struct frame_reader *reader, struct frame *ret_frame,
                                  struct frame_violation *ret_violation) MUST_CHECK;
/* Whether part of a frame is held that is of this type, or has not shown its type yet. */
bool frame_reader_may_hold(const struct frame_reader *reader, unsigned type);
/* Whether part of a frame is held: the end of the stream would cut it (SPEC R2). */
bool frame_reader_partial(const struct frame_reader *reader);

#endif
