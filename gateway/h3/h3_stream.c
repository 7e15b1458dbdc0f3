/* SPDX-License-Identifier: MIT */
/*
 * Request streams: how they begin, and how they end. A stream's place is given back to the client (h3_grant) when it is over for the
 * transport, for its exchange, and for the worker that had it: so that resetting requests makes no room for more work.
 */
#include "base/log.h"
#include "base/mem.h"
#include "h3/h3_state.h"
#include "http/conn.h"

/* --- life ---------------------------------------------------------------------------------------- */

struct h3_stream *h3_stream_find(const struct h3_conn *h3, int64_t id)
{
    return idmap_get(&h3->by_id, (uint64_t)id);
}

struct h3_stream *h3_stream_new(struct h3_conn *h3, int64_t id)
{
    struct h3_stream *stream = mem_calloc(1, sizeof *stream);
    if (stream == NULL) {
        return NULL;
    }
    if (idmap_put(&h3->by_id, (uint64_t)id, stream) != ERROR_NONE) {
        mem_free(stream);
        return NULL;
    }
    stream->magic = H3_STREAM_MAGIC;
    stream->id = id;
    stream->h3 = h3;
    stream->begun_at = loop_now(h3->conn.loop);
    byteq_init(&stream->held);
    byteq_init(&stream->kept);
    h3_stream_list_append(&h3->streams, stream);
    h3->created++;
    h3->idle_since = 0;
    h3_timers_arm(h3);
    return stream;
}

static void free_stream(struct loop_grave *grave)
{
    struct h3_stream *stream = LIST_CONTAINER(grave, struct h3_stream, grave);
    REQUIRE_OBJECT(stream, H3_STREAM_MAGIC);
    byteq_done(&stream->kept);
    h3_stream_count(stream);
    stream->magic = MAGIC_FREED;
    mem_free(stream);
}

static void bury(struct h3_stream *stream)
{
    struct h3_conn *h3 = stream->h3;
    REQUIRE(stream->exchange == NULL);
    if (h3_work_list_linked(stream)) {
        h3_work_list_remove(&h3->work, stream);
    }
    (void)idmap_remove(&h3->by_id, (uint64_t)stream->id);
    h3_stream_list_remove(&h3->streams, stream);
    if (h3_stream_list_empty(&h3->streams)) {
        h3->idle_since = loop_now(h3->conn.loop);
        h3_timers_arm(h3);
    }
    loop_bury(h3->conn.loop, &stream->grave, free_stream);
}

/* Takes the stream's exchange off. The connection's window is given what the exchange has not taken; the stream's stays shut. */
static void detach(struct h3_stream *stream, enum end_reason reason)
{
    struct h3_conn *h3 = stream->h3;
    struct exchange *exchange = stream->exchange;
    size_t left = stream->unconsumed;
    stream->exchange = NULL;
    stream->unconsumed = 0;
    stream->unreleased = stream->due = 0;
    byteq_done(&stream->held);
    h3->unconsumed -= left;
    if (stream->asked) {
        exchange_client_detach(exchange, reason);
    } else { /* its head never came whole */
        exchange_discard(exchange);
    }
    h3_stream_count(stream);
    if (left > 0 && h3_is_open(h3)) {
        quic_conn_consumed(h3->quic, -1, left);
    }
}

void h3_stream_work(struct h3_stream *stream)
{
    if (!h3_work_list_linked(stream)) {
        h3_work_list_append(&stream->h3->work, stream);
        h3_mark_dirty(stream->h3);
    }
}

/* Why the exchange of a stream is over. END_NONE: it is not. */
static enum end_reason reason_of_end(const struct h3_stream *stream)
{
    const struct exchange *exchange = stream->exchange;
    if (stream->cut_reason != END_NONE) {
        return stream->cut_reason;
    }
    if (exchange->response_state == RESPONSE_FINISHED) {
        return stream->remote_ended || stream->stopped || stream->closed ? END_COMPLETE : END_NONE;
    }
    return stream->closed ? END_CLIENT_GONE : END_NONE;
}

static void settle(struct h3_stream *stream)
{
    if (stream->exchange != NULL) {
        enum end_reason reason = reason_of_end(stream);
        if (reason != END_NONE) {
            detach(stream, reason);
        }
    }
    if (stream->closed && stream->exchange == NULL) {
        bury(stream);
    }
}

void h3_settle(struct h3_conn *h3)
{
    struct h3_stream *stream;
    while (h3->phase == H3_PHASE_OPEN && (stream = h3_work_list_pop(&h3->work)) != NULL) {
        settle(stream);
    }
    h3_grant(h3);
}

void h3_grant(struct h3_conn *h3)
{
    uint64_t most = h3->settings->max_concurrent_streams;
    uint64_t busy = h3->streams.length + h3->conn.unconfirmed.length;
    uint64_t free_to_open = h3->granted - h3->created;
    if (!h3_is_open(h3) || h3->drain == H3_DRAIN_FINAL || busy + free_to_open >= most) {
        return;
    }
    uint64_t more = most - busy - free_to_open;
    h3->granted += more;
    nghttp3_conn_set_max_client_streams_bidi(h3->session, h3->granted);
    quic_conn_grant_stream(h3->quic, (unsigned)more);
}

void h3_streams_end(struct h3_conn *h3, enum end_reason reason)
{
    LIST_EACH(h3_stream_list, &h3->streams, struct h3_stream, stream)
    {
        if (stream->exchange != NULL) {
            enum end_reason own = reason_of_end(stream);
            bool finished = stream->exchange->response_state == RESPONSE_FINISHED;
            detach(stream, own != END_NONE ? own : finished ? END_COMPLETE : reason);
        }
    }
}

void h3_streams_free(struct h3_conn *h3)
{
    LIST_EACH(h3_stream_list, &h3->streams, struct h3_stream, stream)
    {
        bury(stream);
    }
}

/* --- ends ---------------------------------------------------------------------------------------- */

void h3_stream_stop(struct h3_stream *stream, uint64_t code)
{
    struct h3_conn *h3 = stream->h3;
    if (stream->stopped || stream->closed) {
        return;
    }
    stream->stopped = true;
    if (!stream->remote_ended) {
        quic_conn_stop_reading(h3->quic, stream->id, code);
    }
    /* Fields that wait for the QPACK table are waited for no more (RFC 9204 2.2.2.2). */
    if (nghttp3_conn_shutdown_stream_read(h3->session, stream->id) != 0) {
        h3_no_memory(h3);
    }
    h3_timers_arm(h3);
}

void h3_stream_reject(struct h3_stream *stream)
{
    struct h3_conn *h3 = stream->h3;
    METRIC_INCREMENT(h3_streams_refused);
    stream->ignored = true;
    stream->reset_out = true;
    stream->begun_at = 0;
    h3_stream_stop(stream, NGHTTP3_H3_REQUEST_REJECTED);
    quic_conn_reset_stream(h3->quic, stream->id, NGHTTP3_H3_REQUEST_REJECTED);
}

/* Both directions, whatever is left of them. */
static void cut(struct h3_stream *stream, uint64_t code, enum end_reason reason)
{
    struct h3_conn *h3 = stream->h3;
    if (stream->cut_reason == END_NONE) {
        stream->cut_reason = reason;
    }
    if (h3_is_open(h3) && !stream->closed && !stream->reset_out) {
        stream->reset_out = true;
        stream->begun_at = 0;
        nghttp3_conn_shutdown_stream_write(h3->session, stream->id);
        quic_conn_reset_stream(h3->quic, stream->id, code);
        h3_stream_stop(stream, code);
    }
    h3_stream_work(stream);
}

void h3_stream_reset(struct h3_stream *stream, uint64_t code, enum end_reason reason)
{
    if (!stream->reset_out && !stream->closed) {
        METRIC_INCREMENT(h3_resets_out);
        /* What clients make us do counts like what they do (CVE-2025-8671). */
        if (reason == END_CLIENT_PROTOCOL || reason == END_CLIENT_TIMEOUT) {
            h3_guard_reset(stream->h3, stream->answering);
        }
    }
    cut(stream, code, reason);
}

void h3_stream_client_gone(struct h3_stream *stream)
{
    if (!stream->reset_in) {
        stream->reset_in = true;
        METRIC_INCREMENT(h3_resets_in);
        h3_guard_reset(stream->h3, stream->answering);
    }
    cut(stream, NGHTTP3_H3_REQUEST_CANCELLED, END_CLIENT_GONE);
}
