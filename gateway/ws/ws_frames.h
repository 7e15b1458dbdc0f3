/* SPDX-License-Identifier: MIT */
/*
 * WebSocket frames (RFC 6455 section 5), without input or output: wslay takes the client's bytes apart, in any division, and unmasks
 * them; headers of our own frames, which are never masked, are written here. It knows no messages: what a sequence of
 * frames means is ws_session's.
 */
#ifndef GATEWAY_WS_WS_FRAMES_H
#define GATEWAY_WS_WS_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10
};

#define WS_CONTROL_MAX 125 /* payload bytes of a control frame */
#define WS_HEADER_MAX 10   /* bytes before the payload of a frame of ours */

/* A piece of a frame: its header's fields, and some of its payload. */
struct ws_piece {
    unsigned opcode;
    bool fin, rsv1, rsv23, masked;
    uint64_t length;   /* of the whole frame's payload */
    bool first, last;  /* of the frame */
    struct slice data; /* unmasked; valid until the next call */
};

enum ws_next {
    WS_NEXT_PIECE,
    WS_NEXT_MORE, /* the input is used up */
    WS_NEXT_BAD, /* no legal frame (length, fragmented or long control frame); takes nothing more */
    WS_NEXT_NO_MEMORY
};

struct wslay_frame_context;

struct ws_frames {
    struct wslay_frame_context *context; /* only while part of a frame is held */
    struct slice *input;                 /* of the call under way */
    uint64_t given, used; /* bytes given to the context; bytes of frames that came out */
    uint64_t left;        /* payload of the present frame that has not come out */
    bool within;          /* a frame has begun */
    bool bad;
};

/* All zero bytes are a reader as well. */
void ws_frames_init(struct ws_frames *frames);
void ws_frames_done(struct ws_frames *frames);
/* Goes on with `input`, which is advanced over what was taken. Call until it says MORE: bytes may be inside. */
enum ws_next ws_frames_next(struct ws_frames *frames, struct slice *input,
                            struct ws_piece *ret_piece) MUST_CHECK;
/* Writes the header of a frame of ours; returns its length. */
size_t ws_frame_header(uint8_t out[WS_HEADER_MAX], unsigned opcode, bool fin, bool rsv1,
                       uint64_t length);

#endif
