/* SPDX-License-Identifier: MIT */
/*
 * The streams of a channel from their user's side: opened, fed, released, ended. A stream lives until the worker's DONE (or
 * the link's end), whether its user has detached or not.
 */
#include "ipc/channel.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/channel_state.h"

static const struct slice no_bytes = {NULL, 0};

static void stream_free(struct loop_grave *grave)
{
    struct channel_stream *stream = LIST_CONTAINER(grave, struct channel_stream, grave);

    stream->magic = MAGIC_FREED;
    mem_free(stream);
}

bool channel_can_open(const struct channel *channel)
{
    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    return channel->state == CHANNEL_READY && !channel->goaway_sent && !channel->goaway_received &&
           !channel->link.write_dead && channel->last_id < FRAME_MAX_STREAM_ID &&
           link_queued(&channel->link) < channel->settings.link_queue;
}

/* The frame of a REQUEST, queued. */
static enum error stream_request(struct channel_stream *stream,
                                 const struct channel_request *request)
{
    struct channel *channel = stream->channel;
    struct frame frame = {.type = FRAME_REQUEST,
                          .stream = stream->id,
                          .flags = (uint8_t)((request->end ? FRAME_FLAG_END_STREAM : 0) |
                                             (request->expect ? FRAME_FLAG_EXPECT : 0))};

    if (request->body.length > 0) {
        frame.aux = (uint32_t)request->head.length;
        credit_out_pay(&stream->out, FRAME_DATA_OVERHEAD + (uint32_t)request->body.length);
    }
    enum error error = link_queue(&channel->link, &frame, request->head, request->body);
    stream->request_end = channel->link.queued;
    return error;
}

struct channel_stream *channel_open(struct channel *channel, const struct channel_request *request,
                                    const struct channel_user_ops *ops, void *user)
{
    loop_assert_owner(channel->loop);
    REQUIRE(channel_can_open(channel));
    size_t length = request->head.length + request->body.length;
    REQUIRE(request->head.length > 0 && length <= channel->settings.max_frame);
    REQUIRE(request->body.length <= FRAME_MAX_INLINE_BODY);
    REQUIRE(!request->expect || (!request->end && request->body.length == 0));
    REQUIRE(!request->websocket ||
            (!request->end && !request->expect && request->body.length == 0 &&
             channel_offers(channel, FRAME_FEATURE(websocket))));
    struct channel_stream *stream = mem_calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return NULL;
    }
    stream->magic = CHANNEL_STREAM_MAGIC;
    stream->channel = channel;
    stream->id = channel->last_id + 1;
    stream->ops = ops;
    stream->user = user;
    stream->local_ended = request->end;
    stream->websocket = request->websocket;
    credit_out_init(&stream->out, request->expect ? 0 : channel->settings.window,
                    channel->settings.window);
    credit_in_init(&stream->in, channel->settings.window);
    if (idmap_put(&channel->streams_by_id, stream->id, stream) != ERROR_NONE) {
        mem_free(stream);
        return NULL;
    }
    if (stream_request(stream, request) != ERROR_NONE) {
        (void)idmap_remove(&channel->streams_by_id, stream->id);
        mem_free(stream);
        return NULL;
    }
    channel->last_id = stream->id;
    channel->attached++;
    stream_list_append(&channel->streams, stream);
    METRIC_INCREMENT(ipc_streams);
    if (link_queued(&channel->link) >= channel->settings.link_queue) {
        METRIC_INCREMENT(ipc_queue_full);
    }
    loop_mark_dirty(channel->loop, &channel->dirty);
    if (channel->last_id == FRAME_MAX_STREAM_ID) { /* R22 */
        METRIC_INCREMENT(ipc_ids_used_up);
        channel_goaway(channel, FRAME_ERROR_RECONNECT);
    }
    return stream;
}

/* --- sending ------------------------------------------------------------------------------------------------------------- */

void channel_stream_schedule(struct channel_stream *stream)
{
    struct channel *channel = stream->channel;

    if (!stream->want_send || stream->local_ended || stream->ops == NULL ||
        stream->out.available < FRAME_DATA_OVERHEAD || sender_list_linked(stream) ||
        !channel_is_open(channel)) {
        return;
    }
    sender_list_append(&channel->senders, stream);
    loop_mark_dirty(channel->loop, &channel->dirty);
}

void channel_stream_want_send(struct channel_stream *stream)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    stream->want_send = true;
    if (stream->channel->sending !=
        stream) { /* its turn is running: the flush looks again behind it */
        channel_stream_schedule(stream);
    }
}

static void stream_queue(struct channel_stream *stream, unsigned type, enum frame_error code)
{
    channel_queue(
        stream->channel,
        &(struct frame){.type = (uint8_t)type, .code = (uint16_t)code, .stream = stream->id},
        no_bytes);
}

/* Our side has ended: nothing is sent any more, and a CLIENT_EOF that waited for this goes out. */
static void stream_end_local(struct channel_stream *stream)
{
    stream->local_ended = true;
    stream->want_send = false;
    if (sender_list_linked(stream)) {
        sender_list_remove(&stream->channel->senders, stream);
    }
    if (stream->eof_waits && !stream->gateway_ended) {
        stream->eof_waits = false;
        stream->eof_told = true;
        stream_queue(stream, FRAME_DISCONNECT, FRAME_ERROR_CLIENT_EOF);
    }
}

enum error channel_stream_send(struct channel_stream *stream, struct slice data, bool end)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    struct channel *channel = stream->channel;

    REQUIRE(channel->sending == stream && !stream->local_ended && !stream->websocket);
    REQUIRE(data.length <= channel->sending_room);
    if (data.length == 0 && !end) {
        return ERROR_NONE; /* an empty DATA says nothing (R18) */
    }
    enum error error = link_queue(&channel->link,
                                  &(struct frame){.type = FRAME_DATA,
                                                  .stream = stream->id,
                                                  .flags = end ? FRAME_FLAG_END_STREAM : 0},
                                  data, no_bytes);
    if (error != ERROR_NONE) {
        return error;
    }
    credit_out_pay(&stream->out, FRAME_DATA_OVERHEAD + (uint32_t)data.length);
    channel->sending_room -= (uint32_t)data.length;
    uint32_t room = credit_out_room(&stream->out, channel->sending_room);
    channel->sending_room = room;
    if (end) {
        stream_end_local(stream);
    }
    return ERROR_NONE;
}

bool channel_stream_may_send(const struct channel_stream *stream, uint32_t *ret_room)
{
    const struct channel *channel = stream->channel;

    REQUIRE(channel->sending == stream);
    *ret_room = channel->sending_room;
    return channel_is_open(channel) && !stream->local_ended &&
           stream->out.available >= FRAME_DATA_OVERHEAD;
}

enum error channel_stream_send_message(struct channel_stream *stream, struct slice data, bool text,
                                       bool more)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    struct channel *channel = stream->channel;
    unsigned flags = (more ? FRAME_FLAG_MORE : 0u) | (text ? FRAME_FLAG_TEXT : 0u);

    REQUIRE(channel->sending == stream && !stream->local_ended && stream->accepted);
    REQUIRE(data.length <= channel->sending_room && (data.length > 0 || !more)); /* R18 */
    enum error error = link_queue(
        &channel->link,
        &(struct frame){.type = FRAME_WS_MSG, .stream = stream->id, .flags = (uint8_t)flags}, data,
        no_bytes);
    if (error != ERROR_NONE) {
        return error;
    }
    credit_out_pay(&stream->out, FRAME_DATA_OVERHEAD + (uint32_t)data.length);
    channel->sending_room =
        credit_out_room(&stream->out, channel->sending_room - (uint32_t)data.length);
    return ERROR_NONE;
}

uint32_t channel_stream_credit(const struct channel_stream *stream)
{
    return stream->local_ended ? 0 : credit_out_room(&stream->out, UINT32_MAX);
}

/* --- releasing ----------------------------------------------------------------------------------------------------------- */

/* R61: a stream that we ended gets no credit back; a worker that ended its side needs none. */
static void stream_check_window(struct channel_stream *stream)
{
    struct channel *channel = stream->channel;

    if (stream->remote_ended || stream->gateway_ended || !channel_is_open(channel) ||
        window_list_linked(stream) || credit_in_due(&stream->in) == 0) {
        return;
    }
    window_list_append(&channel->windows, stream);
    loop_mark_dirty(channel->loop, &channel->dirty);
}

void channel_stream_release(struct channel_stream *stream, uint32_t length)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    credit_in_release(&stream->in, length);
    stream_check_window(stream);
}

void channel_stream_discard(struct channel_stream *stream, uint32_t length)
{
    if (length > 0) {
        metric_add(METRIC_ipc_late_bytes, length);
    }
    credit_in_release(&stream->in, length);
    stream_check_window(stream);
}

/* --- ending -------------------------------------------------------------------------------------------------------------- */

void channel_stream_abort_body(struct channel_stream *stream)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    if (stream->local_ended || stream->websocket) { /* R62: a WebSocket has no body to abort */
        return;
    }
    stream_queue(stream, FRAME_RESET, FRAME_ERROR_BODY_ABORTED);
    stream_end_local(stream);
}

/* R60: the whole stream is over for us; its slot stays taken until DONE. */
static void stream_end_gateway(struct channel_stream *stream)
{
    if (!stream->gateway_ended) {
        stream->gateway_ended = true;
        METRIC_INCREMENT(ipc_streams_abandoned);
        if (stream->channel->abandoned != NULL) {
            atomic_fetch_add_explicit(stream->channel->abandoned, 1, memory_order_relaxed);
        }
    }
    stream_end_local(stream);
    if (window_list_linked(stream)) {
        window_list_remove(&stream->channel->windows, stream);
    }
}

void channel_stream_disconnect(struct channel_stream *stream, enum frame_error code)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    REQUIRE(code == FRAME_ERROR_CLIENT_EOF || code == FRAME_ERROR_CLIENT_GONE);
    if (stream->gateway_ended || (code == FRAME_ERROR_CLIENT_EOF && stream->eof_told)) {
        return;
    }
    if (code == FRAME_ERROR_CLIENT_GONE) {
        stream_queue(stream, FRAME_DISCONNECT, code);
        stream_end_gateway(stream);
        return;
    }
    stream->eof_waits = true;
    if (stream->local_ended) {
        stream_end_local(stream);
    }
}

static void stream_send_reset(struct channel_stream *stream, enum frame_error code)
{
    if (!stream->reset_sent) {
        stream->reset_sent = true;
        stream_queue(stream, FRAME_RESET, code);
    }
    stream_end_gateway(stream);
}

static void stream_forget_user(struct channel_stream *stream)
{
    REQUIRE(stream->ops != NULL && stream->channel->attached > 0);
    stream->ops = NULL;
    stream->user = NULL;
    stream->want_send = false;
    stream->channel->attached--;
    if (sender_list_linked(stream)) {
        sender_list_remove(&stream->channel->senders, stream);
    }
}

void channel_stream_reset(struct channel_stream *stream, enum frame_error code)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    REQUIRE(code != FRAME_ERROR_BODY_ABORTED &&
            ((frame_rule(FRAME_RESET)->gateway_codes >> code) & 1) != 0);
    stream_forget_user(stream);
    stream_send_reset(stream, code);
}

void channel_stream_close_websocket(struct channel_stream *stream, unsigned code,
                                    struct slice reason)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    REQUIRE(stream->accepted && code >= 1000 && code < 5000 && reason.length <= 123);
    if (!stream->gateway_ended && !stream->remote_ended) {
        channel_queue(
            stream->channel,
            &(struct frame){.type = FRAME_WS_CLOSE, .code = (uint16_t)code, .stream = stream->id},
            reason);
        stream_end_gateway(stream);
    }
    channel_stream_detach(stream);
}

void channel_stream_fail(struct channel_stream *stream, enum frame_error code)
{
    METRIC_INCREMENT(ipc_stream_errors);
    log_info("ipc", "worker %d: stream %u: response refused: %s", (int)stream->channel->pid,
             stream->id, frame_error_name(code));
    if (stream->ops != NULL) {
        stream_forget_user(stream);
    }
    /* When its side has ended there is nothing left to stop (R54), and what it holds of credit does not matter any more. */
    if (!stream->remote_ended || stream->file_pending) { /* R100: it waits for FILE_DONE */
        stream_send_reset(stream, code);
    }
}

void channel_stream_detach(struct channel_stream *stream)
{
    REQUIRE_OBJECT(stream, CHANNEL_STREAM_MAGIC);
    stream_forget_user(stream);
    /* The app's send() must not hang on bytes that nobody will take. */
    channel_stream_discard(stream, stream->in.held);
    if (stream->file_pending) {
        channel_stream_file_done(stream);
    }
}

void channel_stream_tell(struct channel_stream *stream, const struct channel_gone *gone)
{
    const struct channel_user_ops *ops = stream->ops;
    void *user = stream->user;

    if (ops != NULL) {
        stream_forget_user(stream);
        ops->on_gone(user, gone);
    }
}

void channel_stream_close(struct channel_stream *stream)
{
    struct channel *channel = stream->channel;

    REQUIRE(stream->ops == NULL);
    REQUIRE(idmap_remove(&channel->streams_by_id, stream->id) == stream);
    stream_list_remove(&channel->streams, stream);
    if (window_list_linked(stream)) {
        window_list_remove(&channel->windows, stream);
    }
    METRIC_DECREMENT(ipc_streams);
    if (stream->gateway_ended) {
        METRIC_DECREMENT(ipc_streams_abandoned);
        if (channel->abandoned != NULL) {
            atomic_fetch_sub_explicit(channel->abandoned, 1, memory_order_relaxed);
        }
    }
    loop_bury(channel->loop, &stream->grave, stream_free);
    if (stream_list_empty(&channel->streams) && channel_is_open(channel)) {
        loop_mark_dirty(channel->loop,
                        &channel->dirty); /* a link that is going away may close now */
    }
    channel->ops->on_slot_free(channel, channel->owner);
}

uint32_t channel_stream_id(const struct channel_stream *stream)
{
    return stream->id;
}
