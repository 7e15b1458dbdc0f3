/* SPDX-License-Identifier: MIT */
/*
 * Bytes to the client, as the transport's flush asks for them. What a response has given to the library stays where it is until the
 * client has acknowledged it, for a packet that is lost is made anew from it. A worker gets credit when its bytes are in packets, so that
 * the congestion window decides how fast it goes, as long as no more than http3.response_unacked of a response wait for acknowledgements;
 * then when they are acknowledged.
 */
#include "h3/h3_state.h"

/* --- what is kept -------------------------------------------------------------------------------- */

void h3_stream_count(struct h3_stream *stream)
{
    size_t others = stream->exchange != NULL ? stream->unreleased : 0;
    size_t held = stream->kept.size > others ? stream->kept.size - others : 0;
    if (held != stream->counted) {
        metric_add(METRIC_buffered_bytes, (int64_t)held - (int64_t)stream->counted);
        stream->counted = held;
    }
}

enum error h3_stream_keep(struct h3_stream *stream, size_t length)
{
    enum error error = byteq_share(&stream->kept, &stream->exchange->response_body, length);
    byteq_mark_sent(&stream->kept, stream->kept.unsent);
    if (error == ERROR_NONE) {
        stream->unreleased += length;
        h3_stream_count(stream);
    }
    return error;
}

/* How many bytes of a response may wait for acknowledgements before its worker has to wait too. */
static uint64_t kept_most(const struct h3_conn *h3)
{
    uint64_t window = 2 * quic_conn_cwnd(h3->quic);
    return window > h3->settings->response_unacked ? window : h3->settings->response_unacked;
}

/* Gives the worker credit for what is in packets. */
static void release(struct h3_stream *stream)
{
    struct exchange *exchange = stream->exchange;
    size_t length = stream->due;
    if (exchange == NULL || length == 0) {
        return;
    }
    if (!stream->end_sent && stream->kept.size > kept_most(stream->h3)) {
        if (!stream->waits_for_acks) {
            METRIC_INCREMENT(h3_unacked_waits);
        }
        stream->waits_for_acks = true;
        return;
    }
    stream->waits_for_acks = false;
    stream->due = 0;
    stream->unreleased -= length;
    exchange_response_sent(exchange, length);
    h3_stream_count(stream);
}

void h3_stream_acked(struct h3_stream *stream, size_t length)
{
    REQUIRE(length <= stream->kept.size);
    byteq_mark_acked(&stream->kept, length);
    pace_update(&stream->write_pace, loop_now(stream->h3->conn.loop), stream->write_pace.since != 0,
                length);
    h3_stream_count(stream);
}

/* --- pulling ------------------------------------------------------------------------------------- */

enum error h3_pull(void *user, int64_t *ret_stream, bool *ret_end, struct iovec *vectors,
                   size_t max, size_t *ret_count)
{
    enum { MOST = 16 };
    struct h3_conn *h3 = h3_of_user(user);
    nghttp3_vec pieces[MOST];
    int64_t id = -1;
    int end = 0;
    *ret_stream = -1;
    *ret_end = false;
    *ret_count = 0;
    if (!h3_is_open(h3)) {
        return ERROR_NONE;
    }
    nghttp3_ssize count =
        nghttp3_conn_writev_stream(h3->session, &id, &end, pieces, max < MOST ? max : MOST);
    if (count < 0) {
        h3_session_failed(h3, count);
        return ERROR_CLOSED;
    }
    h3->pulled = 0;
    h3->pulled_end = end != 0;
    for (nghttp3_ssize i = 0; i < count; i++) {
        vectors[i] = (struct iovec){pieces[i].base, pieces[i].len};
        h3->pulled += pieces[i].len;
    }
    *ret_stream = id;
    *ret_end = end != 0;
    *ret_count = (size_t)count;
    return ERROR_NONE;
}

/* The whole response is in packets, the transport sees to the rest. */
static void response_sent(struct h3_stream *stream)
{
    struct exchange *exchange = stream->exchange;
    stream->end_sent = true;
    stream->due = stream->unreleased;
    release(stream);
    if (exchange == NULL || stream->exchange == NULL ||
        exchange->response_state != RESPONSE_ENDED) {
        return;
    }
    exchange_response_finished(exchange);
    if (!stream->remote_ended && !stream->tunnel) { /* RFC 9114 4.1: the rest is not wanted */
        METRIC_INCREMENT(h3_early_ends);
        h3_stream_stop(stream, NGHTTP3_H3_NO_ERROR);
    }
    h3_stream_work(stream);
}

void h3_on_taken(void *user, int64_t id, size_t bytes)
{
    struct h3_conn *h3 = h3_of_user(user);
    if (!h3_is_open(h3)) {
        return;
    }
    if (nghttp3_conn_add_write_offset(h3->session, id, bytes) != 0) {
        h3_no_memory(h3);
        return;
    }
    bool all = bytes == h3->pulled;
    h3->pulled -= bytes <= h3->pulled ? bytes : h3->pulled;
    struct h3_stream *stream = h3_is_request(id) ? h3_stream_find(h3, id) : NULL;
    if (stream == NULL) {
        if (h3->drain == H3_DRAIN_FINAL) {
            h3_mark_dirty(h3); /* was it the last GOAWAY? */
        }
        return;
    }
    size_t room = stream->unreleased - stream->due;
    stream->due += bytes < room ? bytes : room;
    if (all && h3->pulled_end) {
        response_sent(stream);
    } else {
        release(stream);
    }
}

void h3_on_acked(void *user, int64_t id, uint64_t bytes)
{
    struct h3_conn *h3 = h3_of_user(user);
    if (!h3_is_open(h3)) {
        return;
    }
    if (nghttp3_conn_add_ack_offset(h3->session, id, bytes) != 0) {
        h3_no_memory(h3);
        return;
    }
    struct h3_stream *stream = h3_is_request(id) ? h3_stream_find(h3, id) : NULL;
    if (stream != NULL) {
        release(stream);
    }
}

void h3_on_blocked(void *user, int64_t id)
{
    struct h3_conn *h3 = h3_of_user(user);
    if (h3_is_open(h3)) {
        nghttp3_conn_block_stream(h3->session, id);
        h3_timers_arm(h3);
    }
}

void h3_on_shut(void *user, int64_t id)
{
    struct h3_conn *h3 = h3_of_user(user);
    if (!h3_is_open(h3)) {
        return;
    }
    nghttp3_conn_shutdown_stream_write(h3->session, id);
    struct h3_stream *stream = h3_is_request(id) ? h3_stream_find(h3, id) : NULL;
    if (stream != NULL && !stream->end_sent && !stream->reset_out) {
        h3_stream_client_gone(stream); /* the transport has answered a STOP_SENDING */
    }
}

void h3_on_stream_window(void *user, int64_t id)
{
    struct h3_conn *h3 = h3_of_user(user);
    if (h3_is_open(h3)) {
        if (nghttp3_conn_unblock_stream(h3->session, id) != 0) {
            h3_no_memory(h3);
        }
        quic_conn_mark_dirty(h3->quic);
    }
}
