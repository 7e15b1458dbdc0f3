/* SPDX-License-Identifier: MIT */
/*
 * wslay behind a pull function. Its context (4 KiB) is made when bytes come and freed when they end with a frame, so that an idle
 * WebSocket holds none.
 */
#include "ws/ws_frames.h"

#include <string.h>
#include <wslay/wslay.h>

void ws_frames_init(struct ws_frames *frames)
{
    *frames = (struct ws_frames){.context = NULL};
}

void ws_frames_done(struct ws_frames *frames)
{
    if (frames->context != NULL) {
        wslay_frame_context_free(frames->context);
        frames->context = NULL;
    }
}

static ssize_t on_recv(uint8_t *buffer, size_t room, int flags, void *user)
{
    struct ws_frames *frames = user;
    struct slice *input = frames->input;
    size_t length = input->length < room ? input->length : room;
    (void)flags;
    if (length == 0) {
        return -1; /* wslay says WANT_READ */
    }
    memcpy(buffer, input->data, length);
    *input = slice_skip(*input, length);
    frames->given += length;
    return (ssize_t)length;
}

static bool make_context(struct ws_frames *frames)
{
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = on_recv};
    frames->given = frames->used = 0;
    return wslay_frame_context_init(&frames->context, &callbacks, frames) == 0;
}

/* Bytes before the payload of a masked frame (RFC 6455 5.2). */
static uint64_t header_size(uint64_t length, bool masked)
{
    return 2 + (length > UINT16_MAX ? 8u : length > WS_CONTROL_MAX ? 2u : 0u) + (masked ? 4u : 0u);
}

static void fill_piece(struct ws_frames *frames, const struct wslay_frame_iocb *iocb, size_t length,
                       struct ws_piece *piece)
{
    *piece = (struct ws_piece){
        .opcode = iocb->opcode,
        .fin = iocb->fin != 0,
        .rsv1 = wslay_get_rsv1(iocb->rsv) != 0,
        .rsv23 = (iocb->rsv & (WSLAY_RSV2_BIT | WSLAY_RSV3_BIT)) != 0,
        .masked = iocb->mask != 0,
        .length = iocb->payload_length,
        .first = !frames->within,
        .data = {length > 0 ? (const char *)iocb->data : NULL, length},
    };
    if (piece->first) {
        frames->left = iocb->payload_length;
        frames->used += header_size(iocb->payload_length, piece->masked);
    }
    frames->used += length;
    frames->left -= length;
    frames->within = frames->left > 0;
    piece->last = !frames->within;
}

enum ws_next ws_frames_next(struct ws_frames *frames, struct slice *input,
                            struct ws_piece *ret_piece)
{
    struct wslay_frame_iocb iocb;
    if (frames->bad) {
        return WS_NEXT_BAD;
    }
    if (frames->context == NULL) {
        if (input->length == 0) {
            return WS_NEXT_MORE;
        }
        if (!make_context(frames)) {
            frames->context = NULL;
            return WS_NEXT_NO_MEMORY;
        }
    }
    frames->input = input;
    memset(&iocb, 0, sizeof iocb);
    ssize_t result = wslay_frame_recv(frames->context, &iocb);
    frames->input = NULL;
    if (result == WSLAY_ERR_WANT_READ) {
        if (!frames->within && frames->given == frames->used) {
            ws_frames_done(frames);
        }
        return WS_NEXT_MORE;
    }
    if (result < 0) {
        frames->bad = true;
        return WS_NEXT_BAD;
    }
    fill_piece(frames, &iocb, (size_t)result, ret_piece);
    return WS_NEXT_PIECE;
}

size_t ws_frame_header(uint8_t out[WS_HEADER_MAX], unsigned opcode, bool fin, bool rsv1,
                       uint64_t length)
{
    out[0] = (uint8_t)((fin ? 0x80u : 0u) | (rsv1 ? 0x40u : 0u) | opcode);
    if (length <= WS_CONTROL_MAX) {
        out[1] = (uint8_t)length;
        return 2;
    }
    size_t bytes = length <= UINT16_MAX ? 2 : 8;
    out[1] = bytes == 2 ? 126 : 127;
    for (size_t i = 0; i < bytes; i++) {
        out[2 + i] = (uint8_t)(length >> (8 * (bytes - 1 - i)));
    }
    return 2 + bytes;
}
