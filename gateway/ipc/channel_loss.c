/* SPDX-License-Identifier: MIT */
/*
 * The end of a channel: who is told what. A dead link is not a dead worker: only when the process is known to be dead does
 * its progress page say what it had begun (SPEC section 15); until then a stream whose fate is open waits, at most
 * death_wait and without blocking the loop.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "ipc/channel.h"
#include "ipc/channel_state.h"
#include "ipc/progress.h"

static void channel_free(struct loop_grave *grave)
{
    struct channel *channel = LIST_CONTAINER(grave, struct channel, grave);

    REQUIRE(stream_list_empty(&channel->streams));
    channel_dispose(channel);
}

static void finish_closed(struct channel *channel)
{
    loop_timer_clear(&channel->wait);
    loop_io_done(&channel->death);
    channel_set_state(channel, CHANNEL_CLOSED);
    loop_unmark_dirty(channel->loop, &channel->dirty);
    channel->ops->on_closed(channel, channel->owner, channel->end_orderly, channel->end_text);
    loop_bury(channel->loop, &channel->grave, channel_free);
}

static void lose(struct channel_stream *stream, enum channel_fate fate)
{
    static const enum metric metrics[] = {[CHANNEL_FATE_UNWRITTEN] = METRIC_ipc_lost_unwritten,
                                          [CHANNEL_FATE_NOT_STARTED] = METRIC_ipc_lost_not_started,
                                          [CHANNEL_FATE_STARTED] = METRIC_ipc_lost_started};
    struct channel_gone gone = {
        .end = CHANNEL_END_LOST, .code = FRAME_ERROR_WORKER_LOST, .fate = fate};

    if (stream->ops != NULL) {
        metric_add(metrics[fate], 1);
    }
    channel_stream_tell(stream, &gone);
    channel_stream_close(stream);
}

/* Calls for every stream whose fate is decided; returns how many are left. `started`: the last id that was begun; UINT32_MAX when
 * that is not known. `last` decides the rest, too. */
static size_t lose_streams(struct channel *channel, uint32_t started, bool last)
{
    struct channel_stream *next;

    for (struct channel_stream *stream = stream_list_first(&channel->streams); stream != NULL;
         stream = next) {
        next = stream_list_next(&channel->streams, stream);
        if (stream->request_end > channel->end_written) {
            lose(stream, CHANNEL_FATE_UNWRITTEN);
        } else if (stream->worker_spoke || stream->ops == NULL || (last && stream->id <= started)) {
            lose(stream, CHANNEL_FATE_STARTED);
        } else if (last) {
            lose(stream, CHANNEL_FATE_NOT_STARTED);
        }
    }
    return channel->streams.length;
}

/* The process is dead: its page decides. */
static void decide_by_page(struct channel *channel)
{
    uint32_t started = progress_started(channel->page_fd);

    if (started > channel->last_id) {
        started = UINT32_MAX; /* R109: an id that was never sent */
    }
    (void)lose_streams(channel, started, true);
    finish_closed(channel);
}

void channel_on_death(struct loop_io *io, unsigned events)
{
    struct channel *channel = LIST_CONTAINER(io, struct channel, death);

    (void)events;
    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    if (channel->state == CHANNEL_WAITING) {
        decide_by_page(channel);
    }
}

/* S9: it lives, or nobody knows; it may still start what lies in its buffers. */
static void decide_started(struct channel *channel)
{
    (void)lose_streams(channel, UINT32_MAX, true);
    finish_closed(channel);
}

void channel_on_wait(struct loop_timer *timer)
{
    struct channel *channel = LIST_CONTAINER(timer, struct channel, wait);

    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    if (channel_is_open(channel)) { /* the socket took nothing any more and had no end either */
        channel_end(channel, FRAME_ERROR_NO_ERROR, false, "cannot be written to");
    } else if (channel->state == CHANNEL_WAITING) {
        decide_started(channel);
    }
}

void channel_give_up(struct channel *channel)
{
    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    loop_assert_owner(channel->loop);
    if (channel->state == CHANNEL_WAITING &&
        loop_timer_set(&channel->wait, 0) != ERROR_NONE) { /* it is set already: nothing can fail */
        decide_started(channel);
    }
}

/* The last words, if the socket takes them at once. What else is queued begins with a whole frame, because the socket is not full:
 * it is dropped, so that no REQUEST goes to a worker that is being sent away. */
static void say_why(struct channel *channel)
{
    struct link *link = &channel->link;
    struct frame frame = {.type = FRAME_CHANNEL_ERROR, .code = (uint16_t)channel->end_code};

    if (channel->end_code == FRAME_ERROR_NO_ERROR || link->blocked || link->write_dead) {
        return;
    }
    link_drop(link);
    if (link_queue(link, &frame, slice_from(channel->end_text), (struct slice){NULL, 0}) ==
            ERROR_NONE &&
        link_flush(link) != ERROR_NONE) {
        log_debug("ipc", "worker %d: link %u was not told why it ends", (int)channel->pid,
                  channel->index);
    }
}

void channel_finish(struct channel *channel)
{
    channel->end_written = channel->link.written;
    say_why(channel);
    link_close(&channel->link);
    loop_timer_clear(&channel->tick);
    loop_timer_clear(&channel->wait);
    METRIC_DECREMENT(ipc_links);
    channel_set_state(channel, CHANNEL_WAITING);
    if (lose_streams(channel, UINT32_MAX, false) == 0) {
        finish_closed(channel);
        return;
    }
    if (progress_is_dead(channel->pidfd)) {
        decide_by_page(channel);
        return;
    }
    if (channel->pidfd < 0 || loop_io_set(&channel->death, LOOP_READ) != ERROR_NONE ||
        loop_timer_set(&channel->wait, channel->settings.death_wait) != ERROR_NONE) {
        decide_started(channel);
    }
}
