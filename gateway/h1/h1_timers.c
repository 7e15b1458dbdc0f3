/* SPDX-License-Identifier: MIT */
/*
 * Deadlines of an HTTP/1.1 connection ([limits]). One timer serves what is read, by phase; the other what is written. Waits for
 * bodies and for the socket have two bounds: an idle one, and a least rate over all the time that we waited for the client, so
 * that a byte now and then does not stretch them for ever.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "h1/h1_state.h"

/* A timer that cannot be set guards nothing: then the connection ends. */
static void set_timer(struct h1_conn *h1, struct loop_timer *timer, uint64_t delay)
{
    if (loop_timer_set(timer, delay > 0 ? delay : 1) != ERROR_NONE) {
        METRIC_INCREMENT(h1_no_memory);
        h1_close_later(h1, END_NO_MEMORY);
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- a pace --------------------------------------------------------------------------------------- */

static void pace_stop(struct h1_pace *pace, uint64_t now)
{
    if (pace->since != 0) {
        pace->waited += now - pace->since;
        pace->since = 0;
    }
}

static void pace_go_on(struct h1_pace *pace, uint64_t now)
{
    pace_stop(pace, now);
    pace->since = now;
}

/* Whether all the waiting gave less than `rate` bytes per second; not asked before `after` ns of waiting. */
static bool pace_too_slow(const struct h1_pace *pace, uint64_t now, uint64_t rate, uint64_t after)
{
    uint64_t waited = pace->waited + (pace->since != 0 ? now - pace->since : 0);
    return rate > 0 && waited >= after && pace->bytes < waited / CLOCK_NS_PER_MS * rate / 1000;
}

/* When a pace must be looked at again: at the idle limit, or when its rate can be judged. */
static uint64_t pace_next_look(const struct h1_pace *pace, uint64_t now, uint64_t idle,
                               uint64_t rate, uint64_t after)
{
    uint64_t idle_left = idle - least(idle, now - pace->since);
    uint64_t waited = pace->waited + (now - pace->since);
    if (rate == 0) {
        return idle_left;
    }
    return least(idle_left, waited < after ? after - waited : CLOCK_NS_PER_S);
}

/* --- reading -------------------------------------------------------------------------------------- */

/* Answers 408 if that can still be done, and ends the connection after it: RFC 9110 15.5.9. */
static void request_too_slow(struct h1_conn *h1, const char *text)
{
    h1_log(h1, text);
    h1->close_after = true;
    h1->deaf = true;
    h1_drop_buffer(h1);
    h1_set_phase(h1, H1_PHASE_WAIT);
    exchange_client_fail(h1->exchange, END_CLIENT_TIMEOUT, slice_from(text));
}

static void look_at_body(struct h1_conn *h1)
{
    const struct http_settings *settings = h1_http_settings(h1);
    struct h1_pace *pace = &h1->body_pace;
    uint64_t now = loop_now(h1->conn.loop);
    if (pace->since == 0) {
        return; /* we keep the client waiting; the timer is set again with the next wait */
    }
    if (now - pace->since >= settings->body_idle) {
        METRIC_INCREMENT(limit_body_idle);
        request_too_slow(h1, "no byte of the request body came within limits.body_idle");
    } else if (pace_too_slow(pace, now, settings->body_min_rate, settings->body_min_rate_after)) {
        METRIC_INCREMENT(limit_body_min_rate);
        request_too_slow(h1, "the request body came slower than limits.body_min_rate");
    } else {
        set_timer(h1, &h1->read_timer,
                  pace_next_look(pace, now, settings->body_idle, settings->body_min_rate,
                                 settings->body_min_rate_after));
    }
}

static void on_read_timer(struct loop_timer *timer)
{
    struct h1_conn *h1 = LIST_CONTAINER(timer, struct h1_conn, read_timer);
    REQUIRE_OBJECT(h1, H1_CONN_MAGIC);
    switch (h1->phase) {
    case H1_PHASE_IDLE:
        if (h1->conn.requests == 0) {
            METRIC_INCREMENT(limit_header_timeout);
            h1_log(h1, "no request came within limits.header_timeout");
        } else {
            METRIC_INCREMENT(limit_keep_alive);
            log_debug("h1", "connection %llu: limits.keep_alive", (unsigned long long)h1->conn.id);
        }
        h1_close_later(h1, END_COMPLETE);
        break;
    case H1_PHASE_HEAD:
        METRIC_INCREMENT(limit_header_timeout);
        request_too_slow(h1, "the request head did not come within limits.header_timeout");
        break;
    case H1_PHASE_BODY:
        look_at_body(h1);
        break;
    case H1_PHASE_DRAIN:
        METRIC_INCREMENT(limit_early_response_drain);
        h1_log(h1, "the rest of the body did not come in time after an early response");
        h1->close_after = true;
        h1->deaf = true;
        h1_end_exchange(h1);
        break;
    case H1_PHASE_LINGER:
        METRIC_INCREMENT(limit_lingering_close);
        log_debug("h1", "connection %llu: limits.lingering_close", (unsigned long long)h1->conn.id);
        h1_close_later(h1, END_COMPLETE);
        break;
    default:
        break;
    }
}

void h1_timers_phase(struct h1_conn *h1)
{
    const struct http_settings *settings = h1_http_settings(h1);
    bool first = h1->conn.requests == 0;
    switch (h1->phase) {
    case H1_PHASE_IDLE:
        set_timer(h1, &h1->read_timer, first ? settings->header_timeout : settings->keep_alive);
        break;
    case H1_PHASE_HEAD:
        /* The first head's time runs from the connection's start: it is set already. */
        if (h1->conn.requests > 1 || !loop_timer_is_set(&h1->read_timer)) {
            set_timer(h1, &h1->read_timer, settings->header_timeout);
        }
        break;
    case H1_PHASE_BODY:
        h1->body_pace = (struct h1_pace){0};
        loop_timer_clear(&h1->read_timer);
        break;
    case H1_PHASE_DRAIN:
        set_timer(h1, &h1->read_timer, settings->early_response_drain_time);
        break;
    case H1_PHASE_LINGER:
        set_timer(h1, &h1->read_timer, settings->lingering_close);
        break;
    default:
        loop_timer_clear(&h1->read_timer);
        break;
    }
}

void h1_timers_body(struct h1_conn *h1, bool waiting, size_t bytes)
{
    if (h1->phase != H1_PHASE_BODY) {
        return;
    }
    const struct http_settings *settings = h1_http_settings(h1);
    struct h1_pace *pace = &h1->body_pace;
    uint64_t now = loop_now(h1->conn.loop);
    pace->bytes += bytes;
    if (!waiting) {
        pace_stop(pace, now);
        return;
    }
    if (bytes > 0 || pace->since == 0) {
        pace_go_on(pace, now);
    }
    if (!loop_timer_is_set(&h1->read_timer)) {
        set_timer(h1, &h1->read_timer,
                  pace_next_look(pace, now, settings->body_idle, settings->body_min_rate,
                                 settings->body_min_rate_after));
    }
}

/* --- writing -------------------------------------------------------------------------------------- */

/* Bytes of ours that the client's system has taken. What only lies in our socket is no progress, and a socket with a large buffer
 * may become writable only rarely although the client reads on. Under TLS the queue counts a little more than we gave. */
static uint64_t bytes_taken(const struct h1_conn *h1)
{
    uint64_t queued = transport_queued(h1->transport);
    uint64_t given = h1->transport->bytes_out;
    return given > queued ? given - queued : 0;
}

static void note_progress(struct h1_conn *h1, uint64_t now)
{
    uint64_t taken = bytes_taken(h1);
    if (taken > h1->write_seen) {
        h1->write_pace.bytes += taken - h1->write_seen;
        h1->write_seen = taken;
        pace_go_on(&h1->write_pace, now);
    }
}

static void set_write_timer(struct h1_conn *h1, uint64_t now)
{
    const struct http_settings *settings = h1_http_settings(h1);
    uint64_t look = pace_next_look(&h1->write_pace, now, settings->write_stall,
                                   settings->min_send_rate, settings->min_send_rate_after);
    /* Progress shows only when it is looked for: often enough to tell a slow client from a stalled one. */
    set_timer(h1, &h1->write_timer, least(look, settings->write_stall / 4));
}

static void client_stalled(struct h1_conn *h1, const char *text)
{
    h1_log(h1, text);
    exchange_client_fail(h1->exchange, END_CLIENT_STALLED, slice_from(text));
}

static void on_write_timer(struct loop_timer *timer)
{
    struct h1_conn *h1 = LIST_CONTAINER(timer, struct h1_conn, write_timer);
    REQUIRE_OBJECT(h1, H1_CONN_MAGIC);
    const struct http_settings *settings = h1_http_settings(h1);
    struct h1_pace *pace = &h1->write_pace;
    uint64_t now = loop_now(h1->conn.loop);
    if (pace->since == 0 || h1->exchange == NULL || h1_is_over(h1)) {
        return;
    }
    note_progress(h1, now);
    if (now - pace->since >= settings->write_stall) {
        METRIC_INCREMENT(limit_write_stall);
        client_stalled(h1, "the client took nothing of the response for limits.write_stall");
    } else if (pace_too_slow(pace, now, settings->min_send_rate, settings->min_send_rate_after)) {
        METRIC_INCREMENT(limit_min_send_rate);
        client_stalled(h1, "the client took the response slower than limits.min_send_rate");
    } else {
        set_write_timer(h1, now);
    }
}

void h1_timers_write(struct h1_conn *h1, bool blocked)
{
    uint64_t now = loop_now(h1->conn.loop);
    if (!blocked) {
        if (h1->write_pace.since != 0) {
            note_progress(h1, now);
            pace_stop(&h1->write_pace, now);
            loop_timer_clear(&h1->write_timer);
        }
        return;
    }
    if (h1->write_pace.since == 0) {
        h1->write_seen = bytes_taken(h1);
        pace_go_on(&h1->write_pace, now);
    } else {
        note_progress(h1, now);
    }
    if (!loop_timer_is_set(&h1->write_timer)) {
        set_write_timer(h1, now);
    }
}

/* --- life ----------------------------------------------------------------------------------------- */

void h1_timers_init(struct h1_conn *h1)
{
    loop_timer_init(&h1->read_timer, h1->conn.loop, on_read_timer);
    loop_timer_init(&h1->write_timer, h1->conn.loop, on_write_timer);
}

void h1_timers_done(struct h1_conn *h1)
{
    loop_timer_clear(&h1->read_timer);
    loop_timer_clear(&h1->write_timer);
}
