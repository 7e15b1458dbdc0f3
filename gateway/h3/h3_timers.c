/* SPDX-License-Identifier: MIT */
/*
 * Deadlines of an HTTP/3 connection and its requests ([limits]); those of packets and of silence are the transport's. One timer looks
 * around from time to time while something is under way; on an idle connection it is set for the end of the idle time.
 */
#include "base/log.h"
#include "h3/h3_state.h"

#define LOOK_MOST CLOCK_NS_PER_S
#define LOOK_LEAST (10 * CLOCK_NS_PER_MS)

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How long each step of a graceful end waits for what may be on its way (RFC 9114 5.2): three times what the transport waits for an
 * acknowledgement. */
static uint64_t drain_step(const struct h3_conn *h3)
{
    return least(3 * quic_conn_pto(h3->quic), LOOK_MOST);
}

/* Often enough that no limit is met late by much more than a quarter of it. */
static uint64_t look_interval(const struct h3_conn *h3)
{
    const struct http_settings *http = h3_http_settings(h3);
    uint64_t shortest = least(http->header_timeout, least(http->body_idle, http->write_stall));
    shortest = least(shortest / 4, LOOK_MOST);
    if (h3->drain != H3_DRAIN_NONE) {
        shortest = least(shortest, drain_step(h3));
    }
    return shortest > LOOK_LEAST ? shortest : LOOK_LEAST;
}

static uint64_t idle_limit(const struct h3_conn *h3)
{
    const struct http_settings *http = h3_http_settings(h3);
    return h3->conn.requests == 0 ? http->header_timeout : http->keep_alive;
}

/* When the timer has to look next. */
static uint64_t next_look(const struct h3_conn *h3, uint64_t now)
{
    if (h3->idle_since == 0 || h3->drain != H3_DRAIN_NONE) {
        return look_interval(h3);
    }
    uint64_t passed = now - h3->idle_since;
    uint64_t limit = idle_limit(h3);
    return passed < limit ? limit - passed : 1;
}

void h3_timers_arm(struct h3_conn *h3)
{
    uint64_t now = loop_now(h3->conn.loop);
    if (h3->phase != H3_PHASE_OPEN) {
        return;
    }
    uint64_t delay = next_look(h3, now);
    if (loop_timer_is_set(&h3->timer) && h3->timer.at <= now + delay) {
        return; /* it looks earlier, and then again */
    }
    if (loop_timer_set(&h3->timer, delay) != ERROR_NONE) {
        h3_no_memory(h3); /* a timer that cannot be set guards nothing */
    }
}

/* --- streams ------------------------------------------------------------------------------------- */

/* A request whose head does not come to its end. */
static void look_at_head(struct h3_stream *stream, uint64_t now)
{
    struct h3_conn *h3 = stream->h3;
    if (stream->begun_at == 0 || now - stream->begun_at < h3_http_settings(h3)->header_timeout) {
        return;
    }
    METRIC_INCREMENT(limit_header_timeout);
    h3_log(h3, "a request head did not come within limits.header_timeout");
    h3_stream_reset(stream, NGHTTP3_H3_REQUEST_INCOMPLETE, END_CLIENT_TIMEOUT);
}

/* Whether the client could send body bytes and does not have to wait for us: more than half of both windows is open. */
static bool body_awaited(const struct h3_stream *stream)
{
    const struct exchange *exchange = stream->exchange;
    const struct h3_conn *h3 = stream->h3;
    uint64_t window = least(h3->settings->stream_window, h3_http_settings(h3)->window);
    if (stream->remote_ended || stream->stopped || !stream->asked ||
        exchange->request.kind == REQUEST_WEBSOCKET ||
        (exchange->request_body_dropped && exchange->response_state != RESPONSE_NONE)) {
        return false;
    }
    if (exchange->request.expect_continue && !exchange->continue_sent &&
        exchange->request_bytes == 0) {
        return false;
    }
    return stream->unconsumed < window / 2 && h3->unconsumed < h3->settings->connection_window / 2;
}

static void look_at_body(struct h3_stream *stream, uint64_t now)
{
    struct h3_conn *h3 = stream->h3;
    const struct http_settings *http = h3_http_settings(h3);
    const struct pace_limits limits = {http->body_idle, http->body_min_rate,
                                       http->body_min_rate_after};
    pace_update(&stream->body_pace, now, body_awaited(stream), 0);
    const char *text;
    switch (pace_judge(&stream->body_pace, now, &limits)) {
    case PACE_IDLE:
        METRIC_INCREMENT(limit_body_idle);
        text = "no byte of the request body came within limits.body_idle";
        break;
    case PACE_SLOW:
        METRIC_INCREMENT(limit_body_min_rate);
        text = "the request body came slower than limits.body_min_rate";
        break;
    default:
        return;
    }
    h3_log(h3, text);
    exchange_client_fail(stream->exchange, END_CLIENT_TIMEOUT, slice_from(text));
}

/* Whether response bytes wait for the client: for a window, or for its acknowledgements. What waits for its turn behind other streams, or for a bad
 * network, does not. */
static bool client_awaited(const struct h3_stream *stream)
{
    bool unsent = stream->exchange != NULL && stream->answering && !stream->end_sent &&
                  stream->exchange->response_body.unsent > 0 &&
                  quic_conn_stream_blocked(stream->h3->quic, stream->id);
    return !stream->reset_out && (stream->kept.size > 0 || unsent);
}

static void look_at_acks(struct h3_stream *stream, uint64_t now)
{
    struct h3_conn *h3 = stream->h3;
    const struct http_settings *http = h3_http_settings(h3);
    const struct pace_limits limits = {http->write_stall, http->min_send_rate,
                                       http->min_send_rate_after};
    pace_update(&stream->write_pace, now, client_awaited(stream), 0);
    const char *text;
    switch (pace_judge(&stream->write_pace, now, &limits)) {
    case PACE_IDLE:
        METRIC_INCREMENT(limit_write_stall);
        text = "the client took nothing of its response for limits.write_stall";
        break;
    case PACE_SLOW:
        METRIC_INCREMENT(limit_min_send_rate);
        text = "the client took its response slower than limits.min_send_rate";
        break;
    default:
        return;
    }
    h3_log(h3, text);
    if (stream->exchange != NULL && stream->exchange->response_state != RESPONSE_FINISHED) {
        exchange_client_fail(stream->exchange, END_CLIENT_STALLED, slice_from(text));
    } else {
        h3_stream_reset(stream, NGHTTP3_H3_REQUEST_CANCELLED, END_CLIENT_STALLED);
    }
}

/* A tunnel that we have ended: its client has a while to end it too, then nobody waits for him (RFC 9114 4.4). */
static void look_at_tunnel(struct h3_stream *stream, uint64_t now)
{
    const struct exchange *exchange = stream->exchange;
    if (stream->tunnel && exchange->response_state == RESPONSE_FINISHED && !stream->remote_ended &&
        !stream->stopped &&
        now - exchange->ended_at >= h3_http_settings(stream->h3)->lingering_close) {
        METRIC_INCREMENT(limit_lingering_close);
        h3_stream_stop(stream, NGHTTP3_H3_NO_ERROR);
        h3_stream_work(stream);
    }
}

static void look_at_streams(struct h3_conn *h3, uint64_t now)
{
    LIST_EACH(h3_stream_list, &h3->streams, struct h3_stream, stream)
    {
        if (!stream->closed && stream->cut_reason == END_NONE) {
            look_at_head(stream, now);
        }
        if (!stream->closed && stream->cut_reason == END_NONE && stream->exchange != NULL) {
            look_at_body(stream, now);
        }
        if (!stream->closed && stream->cut_reason == END_NONE) {
            look_at_acks(stream, now);
        }
        if (!stream->closed && stream->cut_reason == END_NONE && stream->exchange != NULL) {
            look_at_tunnel(stream, now);
        }
    }
}

/* --- the connection ------------------------------------------------------------------------------ */

static void look_at_idle(struct h3_conn *h3, uint64_t now)
{
    if (h3->idle_since == 0 || h3->drain != H3_DRAIN_NONE ||
        now - h3->idle_since < idle_limit(h3)) {
        return;
    }
    if (h3->conn.requests == 0) {
        METRIC_INCREMENT(limit_header_timeout);
        h3_log(h3, "no request came within limits.header_timeout");
    } else {
        METRIC_INCREMENT(limit_keep_alive);
        log_debug("h3", "connection %llu: limits.keep_alive", (unsigned long long)h3->conn.id);
    }
    h3_begin_drain(h3, true);
}

static void look_at_drain(struct h3_conn *h3, uint64_t now)
{
    if (h3->drain == H3_DRAIN_NOTICE && now - h3->notice_at >= drain_step(h3)) {
        h3_begin_drain(h3, true);
    }
    if (h3->drain == H3_DRAIN_FINAL && now - h3->final_at >= drain_step(h3)) {
        h3->close_idle = true; /* what was on its way has come */
        h3_look_for_end(h3);
    }
}

static void on_timer(struct loop_timer *timer)
{
    struct h3_conn *h3 = LIST_CONTAINER(timer, struct h3_conn, timer);
    REQUIRE_OBJECT(h3, H3_CONN_MAGIC);
    uint64_t now = loop_now(h3->conn.loop);
    if (h3_is_open(h3)) {
        look_at_streams(h3, now);
        h3_settle(h3);
    }
    if (h3->phase == H3_PHASE_OPEN) {
        look_at_idle(h3, now);
        look_at_drain(h3, now);
    }
    h3_timers_arm(h3);
}

void h3_timers_init(struct h3_conn *h3)
{
    loop_timer_init(&h3->timer, h3->conn.loop, on_timer);
}

void h3_timers_done(struct h3_conn *h3)
{
    loop_timer_clear(&h3->timer);
}
