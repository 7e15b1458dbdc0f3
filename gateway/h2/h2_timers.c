/* SPDX-License-Identifier: MIT */
/*
 * Deadlines of an HTTP/2 connection and its streams ([limits], [http2]). One timer looks around from time to time while something is under
 * way; on an idle connection it is set for the end of the idle time.
 */
#include "base/log.h"
#include "h2/h2_state.h"

/* How long the notice of a graceful end may be on its way when the client does not answer our PING. */
#define NOTICE_TIME CLOCK_NS_PER_S
#define LOOK_MOST CLOCK_NS_PER_S
#define LOOK_LEAST (10 * CLOCK_NS_PER_MS)

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Often enough that no limit is met late by much more than a quarter of it. */
static uint64_t look_interval(const struct h2_conn *h2)
{
    const struct http_settings *http = h2_http_settings(h2);
    uint64_t shortest = least(http->header_timeout, h2->settings->settings_ack_timeout);
    shortest = least(shortest, least(http->body_idle, http->write_stall));
    shortest = least(shortest, http->lingering_close);
    shortest = least(shortest / 4, LOOK_MOST);
    return shortest > LOOK_LEAST ? shortest : LOOK_LEAST;
}

static uint64_t idle_limit(const struct h2_conn *h2)
{
    const struct http_settings *http = h2_http_settings(h2);
    return h2->conn.requests == 0 ? http->header_timeout : http->keep_alive;
}

/* When the timer has to look next. */
static uint64_t next_look(const struct h2_conn *h2, uint64_t now)
{
    bool busy = h2->idle_since == 0 || h2->settings_sent_at != 0 || h2->block_since != 0 ||
                h2->want_write || h2->drain != H2_DRAIN_NONE || h2->phase != H2_PHASE_OPEN;
    if (busy) {
        return look_interval(h2);
    }
    uint64_t passed = now - h2->idle_since;
    uint64_t limit = idle_limit(h2);
    return passed < limit ? limit - passed : 1;
}

void h2_timers_arm(struct h2_conn *h2)
{
    uint64_t now = loop_now(h2->conn.loop);
    if (h2->phase == H2_PHASE_DEAD || h2->phase == H2_PHASE_CLOSING) {
        return;
    }
    uint64_t delay = next_look(h2, now);
    if (loop_timer_is_set(&h2->timer) && h2->timer.at <= now + delay) {
        return; /* it looks earlier, and then again */
    }
    if (loop_timer_set(&h2->timer, delay) != ERROR_NONE) {
        METRIC_INCREMENT(h2_no_memory);
        h2_close_later(h2, END_NO_MEMORY); /* a timer that cannot be set guards nothing */
    }
}

/* --- the socket ---------------------------------------------------------------------------------- */

/* Bytes of ours that the client's system has taken: what only lies in our socket is no progress. */
static uint64_t bytes_taken(const struct h2_conn *h2)
{
    uint64_t queued = transport_queued(h2->transport);
    uint64_t given = h2->transport->bytes_out;
    return given > queued ? given - queued : 0;
}

void h2_timers_write(struct h2_conn *h2, bool blocked)
{
    uint64_t now = loop_now(h2->conn.loop);
    if (!blocked && h2->write_pace.since == 0) {
        return;
    }
    uint64_t taken = bytes_taken(h2);
    uint64_t progress =
        h2->write_pace.since != 0 && taken > h2->write_seen ? taken - h2->write_seen : 0;
    h2->write_seen = taken;
    pace_update(&h2->write_pace, now, blocked, progress);
    h2_timers_arm(h2);
}

static void look_at_socket(struct h2_conn *h2, uint64_t now)
{
    const struct http_settings *http = h2_http_settings(h2);
    const struct pace_limits limits = {http->write_stall, http->min_send_rate,
                                       http->min_send_rate_after};
    if (!h2->want_write) {
        return;
    }
    h2_timers_write(h2, true);
    switch (pace_judge(&h2->write_pace, now, &limits)) {
    case PACE_IDLE:
        METRIC_INCREMENT(limit_write_stall);
        h2_log(h2, "the client took nothing of its responses for limits.write_stall");
        h2_close_later(h2, END_CLIENT_STALLED);
        break;
    case PACE_SLOW:
        METRIC_INCREMENT(limit_min_send_rate);
        h2_log(h2, "the client took its responses slower than limits.min_send_rate");
        h2_close_later(h2, END_CLIENT_STALLED);
        break;
    case PACE_FINE:
        break;
    }
}

/* --- streams ------------------------------------------------------------------------------------- */

/* Whether the client could send body bytes and does not have to wait for us. A tunnel may be silent: [websocket] has its limits. */
static bool body_awaited(const struct h2_stream *stream)
{
    const struct exchange *exchange = stream->exchange;
    nghttp2_session *session = stream->h2->session;
    if (stream->remote_ended || !stream->asked || exchange->request.kind == REQUEST_WEBSOCKET ||
        (exchange->request_body_dropped && exchange->response_state != RESPONSE_NONE)) {
        return false;
    }
    if (exchange->request.expect_continue && !exchange->continue_sent &&
        exchange->request_bytes == 0) {
        return false;
    }
    return nghttp2_session_get_stream_effective_recv_data_length(session, stream->id) <
               nghttp2_session_get_stream_effective_local_window_size(session, stream->id) &&
           nghttp2_session_get_effective_recv_data_length(session) <
               nghttp2_session_get_effective_local_window_size(session);
}

static void look_at_body(struct h2_stream *stream, uint64_t now)
{
    struct h2_conn *h2 = stream->h2;
    const struct http_settings *http = h2_http_settings(h2);
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
    h2_log(h2, text);
    exchange_client_fail(stream->exchange, END_CLIENT_TIMEOUT, slice_from(text));
}

/* Whether response bytes wait because the client has shut a window: the zero-window stall. */
static bool window_awaited(const struct h2_stream *stream)
{
    const struct exchange *exchange = stream->exchange;
    nghttp2_session *session = stream->h2->session;
    return stream->answering && !stream->end_sent && exchange->response_body.unsent > 0 &&
           (nghttp2_session_get_stream_remote_window_size(session, stream->id) <= 0 ||
            nghttp2_session_get_remote_window_size(session) <= 0);
}

static void look_at_window(struct h2_stream *stream, uint64_t now)
{
    struct h2_conn *h2 = stream->h2;
    const struct http_settings *http = h2_http_settings(h2);
    const struct pace_limits limits = {http->write_stall, http->min_send_rate,
                                       http->min_send_rate_after};
    pace_update(&stream->write_pace, now, window_awaited(stream), 0);
    const char *text;
    switch (pace_judge(&stream->write_pace, now, &limits)) {
    case PACE_IDLE:
        METRIC_INCREMENT(limit_write_stall);
        text = "the client opened no window for its response for limits.write_stall";
        break;
    case PACE_SLOW:
        METRIC_INCREMENT(limit_min_send_rate);
        text = "the client took its response slower than limits.min_send_rate";
        break;
    default:
        return;
    }
    h2_log(h2, text);
    exchange_client_fail(stream->exchange, END_CLIENT_STALLED, slice_from(text));
}

/* A tunnel that we have ended: its client has a while to end it too, then nobody waits for him (RFC 9113 8.1). */
static void look_at_tunnel(struct h2_stream *stream, uint64_t now)
{
    const struct exchange *exchange = stream->exchange;
    if (stream->tunnel && exchange->response_state == RESPONSE_FINISHED && !stream->remote_ended &&
        now - exchange->ended_at >= h2_http_settings(stream->h2)->lingering_close) {
        METRIC_INCREMENT(limit_lingering_close);
        h2_stream_reset(stream, NGHTTP2_NO_ERROR, END_COMPLETE);
    }
}

static void look_at_streams(struct h2_conn *h2, uint64_t now)
{
    LIST_EACH(h2_stream_list, &h2->streams, struct h2_stream, stream)
    {
        if (stream->exchange != NULL && !stream->closed && stream->cut_reason == END_NONE) {
            look_at_body(stream, now);
        }
        if (stream->exchange != NULL && !stream->closed && stream->cut_reason == END_NONE) {
            look_at_window(stream, now);
        }
        if (stream->exchange != NULL && !stream->closed && stream->cut_reason == END_NONE) {
            look_at_tunnel(stream, now);
        }
    }
}

/* --- the connection ------------------------------------------------------------------------------ */

static void look_at_idle(struct h2_conn *h2, uint64_t now)
{
    if (h2->idle_since == 0 || now - h2->idle_since < idle_limit(h2)) {
        return;
    }
    if (h2->conn.requests == 0) {
        METRIC_INCREMENT(limit_header_timeout);
        h2_log(h2, "no request came within limits.header_timeout");
    } else {
        METRIC_INCREMENT(limit_keep_alive);
        log_debug("h2", "connection %llu: limits.keep_alive", (unsigned long long)h2->conn.id);
    }
    h2_begin_drain(h2, true);
}

static void look_at_session(struct h2_conn *h2, uint64_t now)
{
    if (h2->settings_sent_at != 0 &&
        now - h2->settings_sent_at >= h2->settings->settings_ack_timeout) {
        METRIC_INCREMENT(h2_settings_timeouts);
        h2_terminate(h2, NGHTTP2_SETTINGS_TIMEOUT, END_CLIENT_TIMEOUT,
                     "our SETTINGS were not acknowledged within http2.settings_ack_timeout");
        return;
    }
    if (h2->block_since != 0 && now - h2->block_since >= h2_http_settings(h2)->header_timeout) {
        METRIC_INCREMENT(limit_header_timeout);
        h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, END_CLIENT_TIMEOUT,
                     "a header block did not come within limits.header_timeout");
        return;
    }
    if (h2->drain == H2_DRAIN_NOTICE && now - h2->notice_at >= NOTICE_TIME) {
        h2_begin_drain(h2, true);
    }
    if (h2->drain != H2_DRAIN_FINAL) {
        look_at_idle(h2, now);
    }
}

static void on_timer(struct loop_timer *timer)
{
    struct h2_conn *h2 = LIST_CONTAINER(timer, struct h2_conn, timer);
    REQUIRE_OBJECT(h2, H2_CONN_MAGIC);
    uint64_t now = loop_now(h2->conn.loop);
    look_at_socket(h2, now);
    if (h2->phase == H2_PHASE_OPEN) {
        look_at_session(h2, now);
    }
    if (h2->phase == H2_PHASE_OPEN) {
        look_at_streams(h2, now);
    }
    if (h2->phase == H2_PHASE_LINGER &&
        now - h2->linger_since >= h2_http_settings(h2)->lingering_close) {
        METRIC_INCREMENT(limit_lingering_close);
        h2_close_later(h2, END_COMPLETE);
    }
    h2_timers_arm(h2);
}

void h2_timers_init(struct h2_conn *h2)
{
    loop_timer_init(&h2->timer, h2->conn.loop, on_timer);
}

void h2_timers_done(struct h2_conn *h2)
{
    loop_timer_clear(&h2->timer);
}
