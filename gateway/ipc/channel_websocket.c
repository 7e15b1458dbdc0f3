/* SPDX-License-Identifier: MIT */
/*
 * What a worker sends on the stream of a WebSocket (SPEC section 11): the order of its frames is checked here, their content by
 * the stream's user.
 */
#include "base/metrics.h"
#include "ipc/channel.h"
#include "ipc/channel_state.h"

static void breach(struct channel_stream *stream, const char *text, const struct frame *frame)
{
    channel_violation(stream->channel, FRAME_ERROR_PROTOCOL, text, frame);
}

/* R51, R83. False: the link ends. */
static bool in_order(struct channel_stream *stream, const struct frame *frame)
{
    const char *text = NULL;

    if (!stream->websocket) {
        text = "a WebSocket frame on a stream of HTTP";
    } else if (stream->remote_ended) {
        text = "a WebSocket frame after the worker's side has ended";
    } else if (frame->type == FRAME_WS_ACCEPT && stream->accepted) {
        text = "a second WS_ACCEPT";
    } else if (frame->type == FRAME_WS_ACCEPT && stream->head_seen) {
        text = "WS_ACCEPT after a final RESPONSE";
    } else if (frame->type != FRAME_WS_ACCEPT && !stream->accepted) {
        text = "WS_MSG or WS_CLOSE before WS_ACCEPT";
    }
    if (text != NULL) {
        breach(stream, text, frame);
    }
    return text == NULL;
}

static void on_accept(struct channel_stream *stream, const struct frame *frame)
{
    stream->accepted = true;
    if (!channel_stream_wanted(stream)) {
        return;
    }
    enum error error = stream->ops->on_accept(stream->user, frame->payload);
    if (error != ERROR_NONE) {
        channel_stream_fail(stream, channel_refusal(error, FRAME_ERROR_HEADER_INVALID));
    }
}

static void on_message(struct channel_stream *stream, const struct frame *frame)
{
    bool text = (frame->flags & FRAME_FLAG_TEXT) != 0;
    bool more = (frame->flags & FRAME_FLAG_MORE) != 0;

    if (stream->in_message && stream->text != text) { /* R85 */
        breach(stream, "the TEXT flag changes within a message", frame);
        return;
    }
    if (!channel_stream_pay(stream, frame, frame->length)) {
        return;
    }
    stream->in_message = more;
    stream->text = text;
    if (!channel_stream_wanted(stream)) {
        channel_stream_discard(stream, frame->length + FRAME_DATA_OVERHEAD);
        return;
    }
    enum error error = stream->ops->on_message(stream->user, frame->payload, text, more);
    if (error != ERROR_NONE) {
        channel_stream_fail(stream, channel_refusal(error, FRAME_ERROR_PROTOCOL));
    }
}

static void on_close(struct channel_stream *stream, const struct frame *frame)
{
    stream->remote_ended = (frame->flags & FRAME_FLAG_DONE) != 0;
    if (channel_stream_wanted(stream)) {
        enum error error = stream->ops->on_close(stream->user, frame->code, frame->payload);
        if (error !=
            ERROR_NONE) { /* R87: the worker is told, although its side ends with this frame */
            channel_stream_fail(stream, channel_refusal(error, FRAME_ERROR_PROTOCOL));
        }
    }
    stream->remote_ended = true;
}

void channel_on_websocket(struct channel_stream *stream, const struct frame *frame)
{
    if (!in_order(stream, frame)) {
        return;
    }
    switch (frame->type) {
    case FRAME_WS_ACCEPT:
        on_accept(stream, frame);
        break;
    case FRAME_WS_MSG:
        on_message(stream, frame);
        break;
    default:
        on_close(stream, frame);
        break;
    }
}
