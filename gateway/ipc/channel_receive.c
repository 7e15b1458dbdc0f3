/* SPDX-License-Identifier: MIT */
/*
 * What a worker sends on streams: each frame is checked against its stream's state (SPEC sections 3, 7, 8 and 9) and handed
 * to the stream's user. Framing, credit and id faults end the link; bad content ends one stream.
 */
#include <errno.h>
#include <string.h>

#include "base/metrics.h"
#include "ipc/channel.h"
#include "ipc/channel_state.h"

void channel_no_effect(struct channel *channel)
{
    uint64_t now = loop_now(channel->loop);

    if (now - channel->flood_since > FRAME_FLOOD_SECONDS * UINT64_C(1000000000)) {
        channel->flood_since = now;
        channel->flood_count = 0;
    }
    if (++channel->flood_count >= FRAME_FLOOD_FRAMES && channel_is_open(channel)) {
        METRIC_INCREMENT(ipc_floods);
        channel_violation(channel, FRAME_ERROR_PROTOCOL,
                          "10000 frames without effect within 10 seconds", NULL);
    }
}

static void protocol_error(struct channel *channel, const char *text, const struct frame *frame)
{
    channel_violation(channel, FRAME_ERROR_PROTOCOL, text, frame);
}

enum frame_error channel_refusal(enum error error, enum frame_error content)
{
    return error == ERROR_NO_MEMORY ? FRAME_ERROR_INTERNAL
           : error == ERROR_LIMIT   ? FRAME_ERROR_OVERLOADED
                                    : content;
}

bool channel_stream_wanted(const struct channel_stream *stream)
{
    return stream->ops != NULL && !stream->gateway_ended;
}

/* DONE: by itself, or as the flag of the worker's last frame. */
static void stream_done(struct channel_stream *stream)
{
    bool complete = stream->remote_ended || stream->gateway_ended;
    struct channel_gone gone = {.end = complete ? CHANNEL_END_DONE : CHANNEL_END_RESET,
                                .code = complete ? FRAME_ERROR_NO_ERROR
                                                 : FRAME_ERROR_APP_INCOMPLETE, /* R58 */
                                .fate = CHANNEL_FATE_STARTED};

    stream->remote_ended = true;
    channel_stream_tell(stream, &gone);
    channel_stream_close(stream);
}

/* Body bytes, already paid for. */
static void deliver_data(struct channel_stream *stream, struct slice data, bool end)
{
    if (!channel_stream_wanted(stream)) {
        channel_stream_discard(stream, (uint32_t)data.length);
        return;
    }
    enum error error = stream->ops->on_data(stream->user, data, end);
    if (error != ERROR_NONE) {
        channel_stream_fail(stream, channel_refusal(error, FRAME_ERROR_PROTOCOL));
    }
}

/* R67: credit is checked on streams that have ended, too. */
bool channel_stream_pay(struct channel_stream *stream, const struct frame *frame, uint32_t payload)
{
    bool whole =
        frame->type == FRAME_WS_MSG; /* what an empty message costs comes back no earlier */
    if (whole ? credit_in_take_whole(&stream->in, payload) : credit_in_take(&stream->in, payload)) {
        return true;
    }
    channel_violation(stream->channel, FRAME_ERROR_FLOW_CONTROL, "more than its credit allows",
                      frame);
    return false;
}

/* --- RESPONSE, DATA, TRAILERS ---------------------------------------------------------------------------------------------- */

/* R50, R51. False: the link ends. */
static bool response_in_order(struct channel_stream *stream, const struct frame *frame)
{
    if (stream->remote_ended) {
        protocol_error(stream->channel, "RESPONSE after the worker's side has ended", frame);
        return false;
    }
    if (stream->accepted) { /* R83 */
        protocol_error(stream->channel, "RESPONSE after WS_ACCEPT", frame);
        return false;
    }
    if (stream->head_seen) {
        protocol_error(stream->channel, "RESPONSE after the final RESPONSE", frame);
        return false;
    }
    if ((frame->flags & FRAME_FLAG_INFORMATIONAL) != 0 &&
        ++stream->informational > FRAME_MAX_INFORMATIONAL) {
        protocol_error(stream->channel, "more than 8 informational RESPONSEs", frame);
        return false;
    }
    return true;
}

static void deliver_head(struct channel_stream *stream, const struct frame *frame,
                         struct slice head, bool end)
{
    if (!channel_stream_wanted(stream)) {
        return;
    }
    if (frame->code == 100 || frame->code == 101) { /* R52 */
        struct channel_gone gone = {.end = CHANNEL_END_RESET,
                                    .code = FRAME_ERROR_HEADER_INVALID,
                                    .fate = CHANNEL_FATE_STARTED};
        channel_stream_tell(stream, &gone);
        channel_stream_fail(stream, FRAME_ERROR_HEADER_INVALID);
        return;
    }
    enum error error = stream->ops->on_head(stream->user, frame->code, head, end);
    if (error != ERROR_NONE) {
        channel_stream_fail(stream, channel_refusal(error, FRAME_ERROR_HEADER_INVALID));
    }
}

static void on_response(struct channel_stream *stream, const struct frame *frame)
{
    uint32_t body_length = frame_body_length(frame);
    bool end = (frame->flags & FRAME_FLAG_END_STREAM) != 0;
    struct slice head = {frame->payload.data, frame->length - body_length};
    struct slice body = {frame->payload.data + head.length, body_length};

    if (!response_in_order(stream, frame) ||
        (body_length > 0 && !channel_stream_pay(stream, frame, body_length))) {
        return;
    }
    if ((frame->flags & FRAME_FLAG_INFORMATIONAL) == 0) {
        stream->head_seen = true;
        stream->remote_ended = end;
    }
    deliver_head(stream, frame, head, end && body_length == 0);
    if (body_length > 0) {
        deliver_data(stream, body, end);
    }
}

bool channel_body_in_order(struct channel_stream *stream, const struct frame *frame)
{
    if (stream->remote_ended) {
        protocol_error(stream->channel, "body or trailers after the worker's side has ended",
                       frame);
        return false;
    }
    if (!stream->head_seen) {
        protocol_error(stream->channel, "body or trailers before the final RESPONSE", frame);
        return false;
    }
    if (stream->file_pending) {
        protocol_error(stream->channel, "body or trailers before FILE_DONE", frame);
        return false;
    }
    return true;
}

static void on_data(struct channel_stream *stream, const struct frame *frame)
{
    bool end = (frame->flags & FRAME_FLAG_END_STREAM) != 0;

    if (!channel_body_in_order(stream, frame) ||
        !channel_stream_pay(stream, frame, frame->length)) {
        return;
    }
    stream->remote_ended = end;
    deliver_data(stream, frame->payload, end);
}

static void on_trailers(struct channel_stream *stream, const struct frame *frame)
{
    if (!channel_body_in_order(stream, frame)) {
        return;
    }
    stream->remote_ended = true;
    if (!channel_stream_wanted(stream)) {
        return;
    }
    enum error error = stream->ops->on_trailers(stream->user, frame->payload);
    if (error != ERROR_NONE) {
        channel_stream_fail(stream, channel_refusal(error, FRAME_ERROR_HEADER_INVALID));
    }
}

/* --- WINDOW, RESET, REFUSED ------------------------------------------------------------------------------------------------ */

static void on_window(struct channel_stream *stream, const struct frame *frame)
{
    struct channel *channel = stream->channel;

    if (stream->local_ended) { /* R74 */
        METRIC_INCREMENT(ipc_frames_ignored);
        channel_no_effect(channel);
        return;
    }
    if (!credit_out_grant(&stream->out, frame->aux)) { /* R69 */
        channel_violation(channel, FRAME_ERROR_FLOW_CONTROL, "grants more credit than the window",
                          frame);
        return;
    }
    channel_stream_schedule(stream);
    if (channel_stream_wanted(stream)) {
        stream->ops->on_credit(stream->user);
    }
}

static void on_reset(struct channel_stream *stream, const struct frame *frame)
{
    struct channel_gone gone = {.end = CHANNEL_END_RESET,
                                .code = (enum frame_error)frame->code,
                                .fate = CHANNEL_FATE_STARTED};

    if (stream->remote_ended) { /* R51 */
        protocol_error(stream->channel, "RESET after the worker's side has ended", frame);
        return;
    }
    stream->remote_ended = true;
    channel_stream_tell(stream, &gone);
}

static void on_refused(struct channel_stream *stream, const struct frame *frame)
{
    struct channel_gone gone = {.end = CHANNEL_END_REFUSED,
                                .code = (enum frame_error)frame->code,
                                .fate = CHANNEL_FATE_NOT_STARTED};

    if (stream->worker_spoke) { /* R48 */
        protocol_error(stream->channel, "REFUSED is not the worker's first frame on the stream",
                       frame);
        return;
    }
    METRIC_INCREMENT(ipc_refused);
    channel_stream_tell(stream, &gone);
    channel_stream_close(stream);
}

/* --- all frames ------------------------------------------------------------------------------------------------------------ */

static void on_stream_frame(struct channel_stream *stream, const struct frame *frame)
{
    struct channel *channel = stream->channel;

    switch (frame->type) {
    case FRAME_RESPONSE:
        on_response(stream, frame);
        break;
    case FRAME_DATA:
        on_data(stream, frame);
        break;
    case FRAME_TRAILERS:
        on_trailers(stream, frame);
        break;
    case FRAME_FILE:
        channel_on_file(stream, frame);
        break;
    case FRAME_WS_ACCEPT:
    case FRAME_WS_MSG:
    case FRAME_WS_CLOSE:
        channel_on_websocket(stream, frame);
        break;
    case FRAME_WINDOW:
        on_window(stream, frame);
        break;
    case FRAME_RESET:
        on_reset(stream, frame);
        break;
    case FRAME_REFUSED:
        on_refused(stream, frame);
        return; /* closed, or the link ends */
    case FRAME_DONE:
        stream_done(stream);
        return;
    default:
        REQUIRE(false && "a stream frame that the rules let through");
    }
    stream->worker_spoke = true;
    if ((frame->flags & FRAME_FLAG_DONE) != 0 && channel_is_open(channel)) {
        stream_done(stream);
    }
}

/* R28: the feature that a type belongs to, 0: none. */
static uint64_t feature_of(unsigned type)
{
    switch (type) {
    case FRAME_FILE:
        return FRAME_FEATURE(files);
    case FRAME_WS_ACCEPT:
    case FRAME_WS_MSG:
    case FRAME_WS_CLOSE:
        return FRAME_FEATURE(websocket);
    default:
        return 0;
    }
}

static void on_frame(struct channel *channel, const struct frame *frame)
{
    METRIC_INCREMENT(ipc_frames_in);
    if (frame_ignorable(frame->type, FRAME_SENDER_WORKER)) { /* R8, R9 */
        METRIC_INCREMENT(ipc_frames_ignored);
        channel_no_effect(channel);
        return;
    }
    if (frame->stream == 0) {
        channel_on_control(channel, frame);
        return;
    }
    channel->traffic = true;
    if ((feature_of(frame->type) & ~channel->features) != 0) {
        protocol_error(channel, "a frame of a feature that HELLO_ACK does not name", frame);
        return;
    }
    if (frame->stream > channel->last_id) { /* R20 */
        protocol_error(channel, "a frame on a stream that was never opened", frame);
        return;
    }
    struct channel_stream *stream = idmap_get(&channel->streams_by_id, frame->stream);
    if (stream == NULL) { /* R21 */
        METRIC_INCREMENT(ipc_late_frames);
        channel_no_effect(channel);
        if (frame->type == FRAME_FILE) {
            channel_drop_file(channel);
        }
        return;
    }
    on_stream_frame(stream, frame);
}

static const char no_frame_for_it[] = "a descriptor that no frame announced";

/* --- reading --------------------------------------------------------------------------------------------------------------- */

static void read_frames(struct channel *channel)
{
    struct frame frame = {0};
    struct frame_violation violation;

    while (channel_is_open(channel)) {
        switch (link_next(&channel->link, &frame, &violation)) {
        case FRAME_NEXT_FRAME:
            on_frame(channel, &frame);
            break;
        case FRAME_NEXT_MORE:
            if (link_has_stray_file(&channel->link)) { /* R5 */
                METRIC_INCREMENT(ipc_descriptors_refused);
                protocol_error(channel, no_frame_for_it, NULL);
            }
            return;
        case FRAME_NEXT_BAD:
            channel_violation(channel, violation.code, violation.text, &frame);
            return;
        case FRAME_NEXT_NO_MEMORY:
            channel_end(channel, FRAME_ERROR_INTERNAL, false,
                        "out of memory for a frame of %u bytes", frame.length);
            return;
        }
    }
}

/* The worker's end of the link: what it had sent was read before (R2, S10). */
static void read_ended(struct channel *channel, enum error error, int saved_errno)
{
    bool orderly =
        (channel->goaway_sent || channel->goaway_received) && stream_list_empty(&channel->streams);

    if (frame_reader_partial(&channel->link.reader)) {
        METRIC_INCREMENT(ipc_frames_cut);
    }
    channel_end(channel, FRAME_ERROR_NO_ERROR, orderly, "the worker's end of the link: %s",
                error == ERROR_CLOSED ? "closed" : strerror(saved_errno));
}

static void channel_read(struct channel *channel)
{
    enum error error = link_receive(&channel->link);
    int saved_errno = errno;

    switch (error) {
    case ERROR_NONE:
        read_frames(channel);
        return;
    case ERROR_AGAIN:
        return;
    case ERROR_PROTOCOL: /* R5 */
        protocol_error(channel, no_frame_for_it, NULL);
        return;
    default:
        read_ended(channel, error, saved_errno);
        return;
    }
}

void channel_on_io(struct loop_io *io, unsigned events)
{
    struct link *link = LIST_CONTAINER(io, struct link, io);
    struct channel *channel = LIST_CONTAINER(link, struct channel, link);

    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    if ((events & LOOP_WRITE) != 0) {
        channel->writable = true;
        loop_mark_dirty(channel->loop, &channel->dirty);
    }
    if ((events & (LOOP_READ | LOOP_CLOSED)) != 0 && channel_is_open(channel)) {
        channel_read(channel);
    }
}
