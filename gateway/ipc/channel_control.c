/* SPDX-License-Identifier: MIT */
/*
 * What a worker sends on the channel itself: READY, GOAWAY, PING and PONG, its figures, its log lines and its last words;
 * and the tick that guards the start and measures the loop lag.
 */
#include <inttypes.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "ipc/channel.h"
#include "ipc/channel_state.h"
#include "ipc/map_rules.h"
#include "ipc/progress.h"

static const struct slice no_bytes = {NULL, 0};

static void ignore(struct channel *channel)
{
    METRIC_INCREMENT(ipc_frames_ignored);
    channel_no_effect(channel);
}

static void set_tick(struct channel *channel, uint64_t delay)
{
    if (loop_timer_set(&channel->tick, delay) != ERROR_NONE) {
        channel_end(channel, FRAME_ERROR_INTERNAL, false, "out of memory for a timer");
    }
}

static void on_ready(struct channel *channel, const struct frame *frame)
{
    if (channel->state != CHANNEL_STARTING) { /* R32 */
        channel_violation(channel, FRAME_ERROR_PROTOCOL, "a second READY", frame);
        return;
    }
    channel_set_state(channel, CHANNEL_READY);
    set_tick(channel, channel->settings.ping_interval);
    if (channel_is_open(channel)) {
        channel->ops->on_ready(channel, channel->owner);
    }
}

/* R92: streams above the last id were not and will not be served. One that the worker has spoken on all the same was started. */
static void refuse_above(struct channel *channel, uint32_t last_id)
{
    struct channel_stream *next;

    for (struct channel_stream *stream = stream_list_first(&channel->streams); stream != NULL;
         stream = next) {
        next = stream_list_next(&channel->streams, stream);
        if (stream->id <= last_id) {
            continue;
        }
        struct channel_gone gone = {
            .end = stream->worker_spoke ? CHANNEL_END_RESET : CHANNEL_END_REFUSED,
            .code = FRAME_ERROR_DRAINING,
            .fate = stream->worker_spoke ? CHANNEL_FATE_STARTED : CHANNEL_FATE_NOT_STARTED};
        METRIC_INCREMENT(ipc_refused);
        channel_stream_tell(stream, &gone);
        channel_stream_close(stream);
    }
}

static void on_goaway(struct channel *channel, const struct frame *frame)
{
    bool repeated = channel->goaway_received;

    if (repeated && frame->aux > channel->goaway_last) { /* R93 */
        channel_violation(channel, FRAME_ERROR_PROTOCOL, "a later GOAWAY with a greater last id",
                          frame);
        return;
    }
    if (repeated && frame->aux == channel->goaway_last) {
        ignore(channel);
        return;
    }
    channel->goaway_received = true;
    channel->goaway_last = frame->aux;
    refuse_above(channel, frame->aux);
    if (!repeated) {
        log_info("ipc", "worker %d: link %u: GOAWAY %s%s%.*s", (int)channel->pid, channel->index,
                 frame_error_name(frame->code), frame->length > 0 ? ": " : "",
                 SLICE_PRINT(frame->payload));
        channel->ops->on_goaway(channel, channel->owner, (enum frame_error)frame->code);
    }
    loop_mark_dirty(channel->loop, &channel->dirty);
}

static void on_ping(struct channel *channel, const struct frame *frame)
{
    if (channel->pong_queued) { /* R75, R77 */
        ignore(channel);
    }
    channel->pong_queued = true;
    channel->pong_nonce = frame->aux;
    loop_mark_dirty(channel->loop, &channel->dirty);
}

static void on_pong(struct channel *channel, const struct frame *frame)
{
    if (!channel->ping_open || frame->aux != channel->ping_nonce) { /* R76 */
        ignore(channel);
        return;
    }
    channel->ping_open = false;
    channel->ping_told = false;
    channel->pong_at = loop_now(channel->loop);
    channel->ops->on_lag(channel, channel->owner, loop_now(channel->loop) - channel->ping_at);
}

static void on_channel_error(struct channel *channel, const struct frame *frame)
{
    channel->ops->on_error_text(channel, channel->owner, (enum frame_error)frame->code,
                                frame->payload);
    channel->end_told = true;
    /* The beginning is enough for status; the owner has logged the whole text. */
    int shown = frame->payload.length < 160 ? (int)frame->payload.length : 160;
    channel_end(channel, FRAME_ERROR_NO_ERROR, false, "the worker says %s: %.*s",
                frame_error_name(frame->code), shown,
                frame->payload.data != NULL ? frame->payload.data : "");
}

/* --- figures and log lines ------------------------------------------------------------------------------------------------- */

static void on_stats(struct channel *channel, const struct frame *frame)
{
    uint64_t now = loop_now(channel->loop);
    struct arena arena;
    struct pack_value map;
    const char *text;

    if (channel->stats_at != 0 && now - channel->stats_at < CLOCK_NS_PER_S) { /* R79 */
        ignore(channel);
        return;
    }
    channel->stats_at = now;
    arena_init(&arena, 1024);
    if (map_decode(MAP_STATS, &arena, frame->payload, &map, &text) == ERROR_NONE) {
        struct worker_stats stats = {.rss = map_value(&map, "rss")->number,
                                     .in_flight = map_value(&map, "in_flight")->number,
                                     .tasks = map_value(&map, "tasks")->number};
        channel->ops->on_stats(channel, channel->owner, &stats);
    } else { /* R80 */
        METRIC_INCREMENT(ipc_frames_ignored);
    }
    arena_done(&arena);
}

static enum log_level worker_level(struct slice name)
{
    enum log_level level;

    if (slice_equal(name, SLICE("critical"))) {
        return LOG_ERROR;
    }
    return log_level_parse(name, &level) ? level : LOG_INFO;
}

static void on_log(struct channel *channel, const struct frame *frame)
{
    uint64_t now = loop_now(channel->loop);
    struct arena arena;
    struct pack_value map;
    const char *text;

    if (now - channel->log_since >= CLOCK_NS_PER_S) {
        channel->log_since = now;
        channel->log_count = 0;
    }
    if (++channel->log_count > FRAME_LOG_PER_SECOND) { /* R79 */
        ignore(channel);
        return;
    }
    arena_init(&arena, 1024);
    if (map_decode(MAP_LOG, &arena, frame->payload, &map, &text) == ERROR_NONE) {
        struct slice logger = map_bytes(&map, "logger");
        log_at(worker_level(map_bytes(&map, "level")), "worker", "%d: %.*s%s%.*s",
               (int)channel->pid, SLICE_PRINT(logger), logger.length > 0 ? ": " : "",
               SLICE_PRINT(map_bytes(&map, "message")));
    } else {
        METRIC_INCREMENT(ipc_frames_ignored);
    }
    arena_done(&arena);
}

void channel_on_control(struct channel *channel, const struct frame *frame)
{
    switch (frame->type) {
    case FRAME_HELLO: /* R25 */
        channel_violation(channel, FRAME_ERROR_PROTOCOL, "a second HELLO", frame);
        break;
    case FRAME_READY:
        on_ready(channel, frame);
        break;
    case FRAME_GOAWAY:
        on_goaway(channel, frame);
        break;
    case FRAME_PING:
        on_ping(channel, frame);
        break;
    case FRAME_PONG:
        on_pong(channel, frame);
        break;
    case FRAME_CHANNEL_ERROR:
        on_channel_error(channel, frame);
        break;
    case FRAME_STATS:
        on_stats(channel, frame);
        break;
    case FRAME_LOG:
        on_log(channel, frame);
        break;
    default:
        REQUIRE(false && "a channel frame that the rules let through");
    }
}

/* --- the tick -------------------------------------------------------------------------------------------------------------- */

static void send_ping(struct channel *channel)
{
    channel->ping_open = true;
    channel->ping_told = false;
    channel->ping_nonce++;
    channel->ping_at = loop_now(channel->loop);
    channel->beat_known = progress_heartbeat(channel->page_fd, &channel->beat);
    channel_queue(channel, &(struct frame){.type = FRAME_PING, .aux = channel->ping_nonce},
                  no_bytes);
}

/* R108: what a late PONG means. */
static const char *why_late(const struct channel *channel)
{
    uint32_t beat;

    if (!channel->beat_known || !progress_heartbeat(channel->page_fd, &beat)) {
        return "unresponsive";
    }
    return beat != channel->beat ? "its event loop is blocked (the heartbeat goes on)"
                                 : "the process is stuck or stopped (the heartbeat stands)";
}

/* When an unanswered PING makes the worker unresponsive: unresponsive_after since it was last heard of, be it the PONG before. Thus a
 * worker that stops right after a PONG is not given the pause between two PINGs on top. */
static uint64_t lag_deadline(const struct channel *channel)
{
    const struct ipc_settings *settings = &channel->settings;
    uint64_t since =
        channel->ping_at > settings->ping_interval ? channel->ping_at - settings->ping_interval : 0;
    uint64_t heard = channel->pong_at > since ? channel->pong_at : since;
    uint64_t end = heard + settings->unresponsive_after;
    uint64_t least = channel->ping_at + settings->unresponsive_after / 2;
    return end > least ? end : least;
}

/* Told once, until a PONG comes. */
static void check_lag(struct channel *channel)
{
    uint64_t now = loop_now(channel->loop);

    /* What has waited so long already is no shorter when it comes: dispatch need not wait for it. */
    if (channel->lag != NULL) {
        atomic_store_explicit(channel->lag, now - channel->ping_at, memory_order_relaxed);
    }
    if (channel->ping_told || now < lag_deadline(channel)) {
        return;
    }
    channel->ping_told = true;
    METRIC_INCREMENT(ipc_unresponsive);
    log_warning("ipc", "worker %d: link %u: no PONG for %" PRIu64 " ms: %s", (int)channel->pid,
                channel->index, (now - channel->ping_at) / CLOCK_NS_PER_MS, why_late(channel));
    channel->ops->on_lag(channel, channel->owner, UINT64_MAX);
}

/* The next look: ping_interval, or sooner when a PING will be too old then. */
static uint64_t next_tick(const struct channel *channel)
{
    uint64_t now = loop_now(channel->loop);
    uint64_t interval = channel->settings.ping_interval;
    if (!channel->ping_open || channel->ping_told) {
        return interval;
    }
    uint64_t deadline = lag_deadline(channel);
    uint64_t left = deadline > now ? deadline - now : 0;
    return left < interval ? left : interval;
}

void channel_on_tick(struct loop_timer *timer)
{
    struct channel *channel = LIST_CONTAINER(timer, struct channel, tick);

    REQUIRE_OBJECT(channel, CHANNEL_MAGIC);
    if (!channel_is_open(channel)) {
        return;
    }
    if (channel->state == CHANNEL_STARTING) { /* R33 */
        METRIC_INCREMENT(ipc_start_timeouts);
        channel_end(channel, FRAME_ERROR_STARTUP_FAILED, false,
                    "READY did not come within start_timeout (%" PRIu64
                    " s); is the application's start-up waiting for something?",
                    channel->settings.start_timeout / CLOCK_NS_PER_S);
        return;
    }
    if (channel->ping_open) {
        check_lag(channel);
    } else if (channel->index == 0 || channel->traffic) {
        send_ping(channel);
    }
    /* A worker that reads nothing any more cannot take the last bytes of a link that is going away. */
    if (channel->ping_told && stream_list_empty(&channel->streams) &&
        (channel->goaway_sent || channel->goaway_received)) {
        channel_end(channel, FRAME_ERROR_NO_ERROR, false,
                    "went away without reading our last frames");
        return;
    }
    channel->traffic = false;
    if (channel_is_open(channel)) {
        set_tick(channel, next_tick(channel));
    }
}
