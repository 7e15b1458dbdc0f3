/* SPDX-License-Identifier: MIT */
/*
 * A channel's life: made of a link, asked about, sent away. It owns the channel object until the graveyard has it.
 */
#include "ipc/channel.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/channel_state.h"
#include "ipc/hello_wire.h"
#include "ipc/progress.h"

void channel_set_state(struct channel *channel, enum channel_state state)
{
    REQUIRE(state > channel->state);
    channel->state = state;
}

/* Also of what channel_new had made so far. */
void channel_dispose(struct channel *channel)
{
    link_done(&channel->link);
    loop_timer_clear(&channel->tick);
    loop_timer_clear(&channel->wait);
    loop_io_done(&channel->death);
    loop_unmark_dirty(channel->loop, &channel->dirty);
    idmap_done(&channel->streams_by_id);
    idmap_done(&channel->conns);
    if (channel->page_fd >= 0) {
        close(channel->page_fd);
    }
    if (channel->pidfd >= 0) {
        close(channel->pidfd);
    }
    channel->magic = MAGIC_FREED;
    mem_free(channel);
}

static struct channel *channel_alloc(struct loop *loop, struct ipc_link *link,
                                     const struct ipc_settings *settings)
{
    struct channel *channel = mem_calloc(1, sizeof(*channel));

    if (channel == NULL) {
        return NULL;
    }
    channel->magic = CHANNEL_MAGIC;
    channel->loop = loop;
    channel->settings = *settings;
    channel->pid = link->pid;
    channel->index = link->hello.channel_index;
    channel->page_fd = -1;
    channel->pidfd = link->pidfd;
    link->pidfd = -1;
    idmap_init(&channel->streams_by_id);
    idmap_init(&channel->conns);
    stream_list_init(&channel->streams);
    sender_list_init(&channel->senders);
    window_list_init(&channel->windows);
    loop_dirty_init(&channel->dirty, LOOP_STAGE_LINK, channel_flush);
    loop_timer_init(&channel->tick, loop, channel_on_tick);
    loop_timer_init(&channel->wait, loop, channel_on_wait);
    loop_io_init(&channel->death, loop, channel->pidfd, channel_on_death);
    return channel;
}

/* The link, the page and HELLO_ACK with the page's descriptor. */
static enum error channel_greet(struct channel *channel, int fd, const struct hello_ack *ack)
{
    enum error error =
        link_init(&channel->link, channel->loop, fd, channel->settings.max_frame, channel_on_io);
    if (error != ERROR_NONE) {
        return error;
    }
    error = progress_page_new(&channel->page_fd);
    if (error != ERROR_NONE) {
        return error;
    }
    int copy = dup(channel->page_fd);
    if (copy < 0) {
        return ERROR_IO;
    }
    link_attach(&channel->link, copy);
    struct strbuf map;
    strbuf_init(&map);
    hello_ack_encode(&map, ack, &channel->settings);
    if (map.failed) {
        error = ERROR_NO_MEMORY;
    } else {
        error = link_queue(&channel->link, &(struct frame){.type = FRAME_HELLO_ACK},
                           (struct slice){map.data, map.length}, (struct slice){NULL, 0});
    }
    strbuf_done(&map);
    return error;
}

struct channel *channel_new(struct loop *loop, struct ipc_link *link, const struct hello_ack *ack,
                            const struct ipc_settings *settings,
                            const struct channel_owner_ops *ops, void *owner)
{
    loop_assert_owner(loop);
    REQUIRE(settings->window >= settings->max_frame && settings->window <= FRAME_MAX_WINDOW &&
            settings->max_frame <= FRAME_MAX_MAX_FRAME);
    int fd = link->fd;
    struct channel *channel = channel_alloc(loop, link, settings);

    link->fd = -1;
    if (channel == NULL) {
        close(fd);
        if (link->pidfd >= 0) {
            close(link->pidfd);
            link->pidfd = -1;
        }
        return NULL;
    }
    channel->ops = ops;
    channel->owner = owner;
    channel->features = ack->features;
    REQUIRE((ack->features & ~link->hello.features) == 0); /* R28 */
    if (channel_greet(channel, fd, ack) != ERROR_NONE ||
        loop_timer_set(&channel->tick, settings->start_timeout) != ERROR_NONE) {
        channel_dispose(channel);
        return NULL;
    }
    channel->link.takes_files = channel_offers(channel, FRAME_FEATURE(files));
    METRIC_INCREMENT(ipc_links);
    loop_mark_dirty(loop, &channel->dirty);
    return channel;
}

/* --- the end, begun ---------------------------------------------------------------------------------------------------- */

void channel_end(struct channel *channel, enum frame_error code, bool orderly, const char *format,
                 ...)
{
    if (!channel_is_open(channel)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(channel->end_text, sizeof(channel->end_text), format, arguments);
    va_end(arguments);
    channel->end_code = code;
    channel->end_orderly = orderly;
    channel_set_state(channel, CHANNEL_ENDING);
    if (orderly) {
        log_info("ipc", "worker %d: link %u ended in order: %s", (int)channel->pid, channel->index,
                 channel->end_text);
    } else {
        METRIC_INCREMENT(ipc_links_lost);
        log_at(channel->end_told ? LOG_DEBUG : LOG_WARNING, "ipc",
               "worker %d: link %u lost with %zu streams open: %s", (int)channel->pid,
               channel->index, channel->streams.length, channel->end_text);
    }
    loop_mark_dirty(channel->loop, &channel->dirty);
}

void channel_violation(struct channel *channel, enum frame_error code, const char *text,
                       const struct frame *frame)
{
    if (!channel_is_open(channel)) {
        return;
    }
    switch (code) {
    case FRAME_ERROR_FLOW_CONTROL:
        METRIC_INCREMENT(ipc_violations_flow_control);
        break;
    case FRAME_ERROR_FRAME_SIZE:
        METRIC_INCREMENT(ipc_violations_frame_size);
        break;
    default:
        METRIC_INCREMENT(ipc_violations_protocol);
        break;
    }
    if (frame == NULL) {
        channel_end(channel, code, false, "%s: %s", frame_error_name(code), text);
        return;
    }
    channel_end(channel, code, false,
                "%s: %s (type %u %s, flags 0x%02x, code %u, stream %u, aux %u, length %u)",
                frame_error_name(code), text, frame->type, frame_type_name(frame->type),
                frame->flags, frame->code, frame->stream, frame->aux, frame->length);
}

void channel_queue(struct channel *channel, const struct frame *frame, struct slice payload)
{
    if (!channel_is_open(channel)) {
        return;
    }
    if (link_queue(&channel->link, frame, payload, (struct slice){NULL, 0}) != ERROR_NONE) {
        channel_end(channel, FRAME_ERROR_INTERNAL, false, "out of memory for a %s frame",
                    frame_type_name(frame->type));
        return;
    }
    loop_mark_dirty(channel->loop, &channel->dirty);
}

void channel_close(struct channel *channel, enum frame_error code, const char *text)
{
    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    loop_assert_owner(channel->loop);
    REQUIRE(code == FRAME_ERROR_NO_ERROR ||
            ((frame_rule(FRAME_CHANNEL_ERROR)->gateway_codes >> code) & 1) != 0);
    channel_end(channel, code, false, "%s", text);
}

void channel_goaway(struct channel *channel, enum frame_error code)
{
    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    loop_assert_owner(channel->loop);
    REQUIRE(((frame_rule(FRAME_GOAWAY)->gateway_codes >> code) & 1) != 0);
    if (!channel_is_open(channel)) {
        return;
    }
    channel->goaway_sent = true;
    channel_queue(
        channel,
        &(struct frame){.type = FRAME_GOAWAY, .code = (uint16_t)code, .aux = channel->last_id},
        (struct slice){NULL, 0});
}

void channel_announce(struct channel *channel)
{
    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    loop_assert_owner(channel->loop);
    if (channel_is_open(channel) && !channel->goaway_sent) {
        channel_queue(channel,
                      &(struct frame){.type = FRAME_GOAWAY,
                                      .code = FRAME_ERROR_RECONNECT,
                                      .aux = FRAME_GOAWAY_ANNOUNCED},
                      (struct slice){NULL, 0});
    }
}

/* --- connections ------------------------------------------------------------------------------------------------------- */

enum error channel_conn(struct channel *channel, uint32_t conn_id, struct slice map)
{
    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    loop_assert_owner(channel->loop);
    REQUIRE(conn_id != 0);
    if (idmap_get(&channel->conns, conn_id) != NULL) {
        return ERROR_NONE;
    }
    /* A worker that does not read must not make us hold its CONNs without bound: they count as heads do. A client chooses the
     * length of its chain, so one that the caller did not cut (R105) is no bug of ours to die of. */
    if (!channel_is_open(channel) || map.length > channel->settings.max_frame ||
        channel->conns.length >= FRAME_MAX_CONNS ||
        link_queued(&channel->link) >= channel->settings.link_queue) {
        return ERROR_LIMIT;
    }
    enum error error = idmap_put(&channel->conns, conn_id, channel);
    if (error != ERROR_NONE) {
        return error;
    }
    error = link_queue(&channel->link, &(struct frame){.type = FRAME_CONN, .aux = conn_id}, map,
                       (struct slice){NULL, 0});
    if (error != ERROR_NONE) {
        (void)idmap_remove(&channel->conns, conn_id);
        return error;
    }
    loop_mark_dirty(channel->loop, &channel->dirty);
    return ERROR_NONE;
}

bool channel_knows_conn(const struct channel *channel, uint32_t conn_id)
{
    return idmap_get(&channel->conns, conn_id) != NULL;
}

void channel_conn_end(struct channel *channel, uint32_t conn_id)
{
    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    loop_assert_owner(channel->loop);
    if (idmap_remove(&channel->conns, conn_id) != NULL) {
        channel_queue(channel, &(struct frame){.type = FRAME_CONN_END, .aux = conn_id},
                      (struct slice){NULL, 0});
    }
}

/* --- questions --------------------------------------------------------------------------------------------------------- */

struct channel_counts channel_counts(const struct channel *channel)
{
    return (struct channel_counts){.open = (unsigned)channel->streams.length,
                                   .attached = channel->attached,
                                   .last_id = channel->last_id};
}

void channel_watch(struct channel *channel, _Atomic uint32_t *abandoned, _Atomic uint64_t *lag)
{
    REQUIRE(channel->abandoned == NULL && stream_list_empty(&channel->streams));
    channel->abandoned = abandoned;
    channel->lag = lag;
}

bool channel_is_ready(const struct channel *channel)
{
    return channel->state == CHANNEL_READY;
}

bool channel_offers(const struct channel *channel, uint64_t features)
{
    return (features & ~channel->features) == 0;
}

pid_t channel_pid(const struct channel *channel)
{
    return channel->pid;
}

enum frame_error channel_end_code(const struct channel *channel)
{
    return channel->end_code;
}

void channel_dump(const struct channel *channel, struct strbuf *out)
{
    static const char *const states[] = {"starting", "ready", "ending", "waiting", "closed"};

    if (channel->magic != CHANNEL_MAGIC) {
        strbuf_printf(out, "channel %p: wrong magic 0x%08x\n", (const void *)channel,
                      channel->magic);
        return;
    }
    strbuf_printf(out,
                  "channel of worker %d, link %u: %s%s%s, streams %zu (attached %u), last id %u, "
                  "queued %zu bytes%s, conns %zu\n",
                  (int)channel->pid, channel->index, states[channel->state],
                  channel->goaway_sent ? ", goaway sent" : "",
                  channel->goaway_received ? ", goaway received" : "", channel->streams.length,
                  channel->attached, channel->last_id, link_queued(&channel->link),
                  channel->link.blocked ? " (socket full)" : "", channel->conns.length);
    for (const struct channel_stream *s = stream_list_first(&channel->streams); s != NULL;
         s = stream_list_next(&channel->streams, s)) {
        strbuf_printf(out, "  stream %u:%s%s%s%s%s credit %u, peer's credit %u, held %u\n", s->id,
                      s->ops == NULL ? " detached" : "", s->local_ended ? " sent" : "",
                      s->head_seen ? " head" : "", s->remote_ended ? " received" : "",
                      s->gateway_ended ? " ended-by-us" : "", s->out.available, s->in.available,
                      s->in.held);
    }
}
