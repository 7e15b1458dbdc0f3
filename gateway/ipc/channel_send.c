/* SPDX-License-Identifier: MIT */
/*
 * The flush of a channel: control first, then DATA of its streams in turn (SPEC R78), all in one write. DATA is pulled from
 * users only while the socket takes it, so that a link's queue holds heads, control and one batch.
 */
#include "base/metrics.h"
#include "ipc/channel.h"
#include "ipc/channel_state.h"

/* One stream's share of a round, and what is put into one write. */
#define SEND_SLICE 16384u
#define SEND_BATCH 131072u

static const struct slice no_bytes = {NULL, 0};

/* What is written as late as possible: only its newest state counts. */
static void emit_control(struct channel *channel)
{
    struct channel_stream *stream;

    if (channel->pong_queued) {
        channel->pong_queued = false;
        channel_queue(channel, &(struct frame){.type = FRAME_PONG, .aux = channel->pong_nonce},
                      no_bytes);
    }
    while (channel_is_open(channel) && (stream = window_list_pop(&channel->windows)) != NULL) {
        channel_queue(channel,
                      &(struct frame){.type = FRAME_WINDOW,
                                      .stream = stream->id,
                                      .aux = credit_in_grant(&stream->in)},
                      no_bytes);
    }
}

/* One stream's turn. It stays among the senders when it filled its slice and can go on. */
static void pull_from(struct channel *channel, struct channel_stream *stream)
{
    uint32_t room = credit_out_room(&stream->out, SEND_SLICE);
    uint32_t before = stream->out.available;

    if (room > channel->settings.max_frame) {
        room = channel->settings.max_frame;
    }
    channel->sending = stream;
    channel->sending_room = room;
    stream->want_send = false;
    stream->ops->on_sendable(stream->user, room);
    channel->sending = NULL;
    if (!channel_is_open(channel) || stream->local_ended || stream->ops == NULL) {
        return;
    }
    uint32_t paid = before - stream->out.available;
    /* With no room for a byte the user could only have ended; what it has waits for credit. */
    if (room == 0 || (paid > 0 && channel->sending_room == 0)) {
        stream->want_send = true;
    }
    if (paid > 0) {
        channel_stream_schedule(stream);
    }
}

static void pull_data(struct channel *channel)
{
    struct channel_stream *stream;

    while (channel_is_open(channel) && link_queued(&channel->link) < SEND_BATCH &&
           (stream = sender_list_pop(&channel->senders)) != NULL) {
        pull_from(channel, stream);
    }
}

/* Nothing can be written any more. What the worker had sent can still be read (S10): the link ends when that has an end, or after
 * death_wait. */
static void write_failed(struct channel *channel)
{
    if (loop_timer_is_set(&channel->wait)) {
        return;
    }
    if (loop_timer_set(&channel->wait, channel->settings.death_wait) != ERROR_NONE) {
        channel_end(channel, FRAME_ERROR_NO_ERROR, false, "cannot be written to");
    }
}

/* R94: the side that finds no open stream closes, once its last frame is written. */
static bool is_drained(const struct channel *channel)
{
    return (channel->goaway_sent || channel->goaway_received) &&
           stream_list_empty(&channel->streams) && link_queued(&channel->link) == 0;
}

/* Writes what there is. True: there is more that the socket may take. */
static bool channel_write(struct channel *channel)
{
    if (channel->link.blocked && !channel->writable) {
        return false;
    }
    channel->writable = false;
    if (!channel->link.blocked && !channel->link.write_dead) {
        emit_control(channel);
        pull_data(channel);
    }
    if (!channel_is_open(channel)) {
        return false;
    }
    bool was_blocked = channel->link.blocked;
    switch (link_flush(&channel->link)) {
    case ERROR_NONE:
        return was_blocked || !sender_list_empty(&channel->senders);
    case ERROR_AGAIN:
        return false;
    case ERROR_IO:
        write_failed(channel);
        return false;
    default:
        channel_end(channel, FRAME_ERROR_NO_ERROR, false, "out of memory for an event");
        return false;
    }
}

enum loop_flush channel_flush(struct loop_dirty *dirty)
{
    struct channel *channel = LIST_CONTAINER(dirty, struct channel, dirty);

    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    bool more = channel_is_open(channel) && channel_write(channel);
    if (channel_is_open(channel) && is_drained(channel)) {
        channel_end(channel, FRAME_ERROR_NO_ERROR, true, "no stream is open after GOAWAY");
    }
    if (channel->state == CHANNEL_ENDING) {
        channel_finish(channel);
        loop_unmark_dirty(channel->loop, dirty);
        return LOOP_FLUSH_CLEAN;
    }
    if (channel_is_open(channel) && stream_list_empty(&channel->streams)) {
        link_trim(&channel->link);
    }
    return more ? LOOP_FLUSH_MORE : LOOP_FLUSH_CLEAN;
}
