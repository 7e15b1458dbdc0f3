/* SPDX-License-Identifier: MIT */
/*
 * Bytes from the client, in order, as the transport gives them for each stream. What is framing opens the windows at once; what is
 * content, when a worker has taken it (h3_request.c). What a request may hold is bounded by its window.
 */
#include "h3/h3_state.h"

/* Whether a new request must wait for another connection, or for better times. It was not looked at: the client may ask again. */
static bool refuses_streams(const struct h3_conn *h3)
{
    if (h3->conn.group->pressure >= PRESSURE_REFUSE) {
        METRIC_INCREMENT(overload_refused);
        return true;
    }
    return false;
}

/* The stream of an id, made for the first that is heard of it; NULL: memory is out, and the connection over. */
static struct h3_stream *find_or_begin(struct h3_conn *h3, int64_t id)
{
    struct h3_stream *stream = h3_stream_find(h3, id);
    if (stream != NULL) {
        return stream;
    }
    stream = h3_stream_new(h3, id);
    if (stream == NULL) {
        h3_no_memory(h3);
        return NULL;
    }
    h3_guard_stream(h3);
    if (h3_is_open(h3) && refuses_streams(h3)) {
        h3_stream_reject(stream);
    }
    return stream;
}

/* Hands bytes to the library. */
static void feed(struct h3_conn *h3, int64_t id, struct h3_stream *stream, struct slice bytes,
                 bool end)
{
    nghttp3_ssize used =
        nghttp3_conn_read_stream2(h3->session, id, (const uint8_t *)bytes.data, bytes.length, end,
                                  quic_conn_timestamp(h3->quic));
    if (used < 0) {
        h3_session_failed(h3, used);
        return;
    }
    quic_conn_consumed(h3->quic, id, (size_t)used);
    if (stream != NULL) {
        h3_guard_framing(stream, (size_t)used);
    }
}

enum error h3_on_stream_data(void *user, int64_t id, struct slice bytes, bool end)
{
    struct h3_conn *h3 = h3_of_user(user);
    struct h3_stream *stream = NULL;
    if (!h3_is_open(h3)) {
        return ERROR_NONE;
    }
    if (h3_is_request(id)) {
        stream = find_or_begin(h3, id);
        if (stream == NULL || !h3_is_open(h3)) {
            return ERROR_NONE;
        }
        stream->remote_ended |= end;
    } else {
        h3_guard_uni(h3, bytes.length);
    }
    if (stream != NULL && (stream->ignored || stream->stopped)) {
        quic_conn_consumed(h3->quic, -1, bytes.length);
    } else if (stream != NULL && end && bytes.length == 0 && stream->framing == 0) {
        /* To the library it would be the fault of the whole connection; RFC 9114 4.1 says of one request. */
        h3_stream_reset(stream, NGHTTP3_H3_REQUEST_INCOMPLETE, END_CLIENT_PROTOCOL);
    } else if (h3_is_open(h3)) {
        feed(h3, id, stream, bytes, end);
    }
    h3_settle(h3);
    quic_conn_mark_dirty(
        h3->quic); /* what the library has to say: acknowledgements of QPACK, cancellations */
    h3_timers_arm(h3);
    return ERROR_NONE;
}

void h3_on_stream_reset(void *user, int64_t id, uint64_t code)
{
    struct h3_conn *h3 = h3_of_user(user);
    (void)code;
    if (!h3_is_open(h3)) {
        return;
    }
    if (h3_is_request(id)) {
        struct h3_stream *stream = find_or_begin(h3, id);
        if (stream != NULL) {
            stream->remote_ended = true; /* in a way */
            if (stream->end_sent) {
                /* What is left of the request was not wanted (it may be the answer to our STOP_SENDING); the response still is, and a
                 * part of it that was lost has to be sent again. */
                h3_stream_work(stream);
            } else {
                h3_stream_client_gone(stream);
            }
        }
    } else if (nghttp3_conn_close_stream(h3->session, id, code) ==
               NGHTTP3_ERR_H3_CLOSED_CRITICAL_STREAM) {
        h3_session_failed(h3, NGHTTP3_ERR_H3_CLOSED_CRITICAL_STREAM);
    }
    h3_settle(h3);
}

void h3_on_stop_sending(void *user, int64_t id, uint64_t code)
{
    struct h3_conn *h3 = h3_of_user(user);
    (void)code;
    if (!h3_is_open(h3)) {
        return;
    }
    if (h3_is_request(id)) {
        struct h3_stream *stream = find_or_begin(h3, id);
        if (stream != NULL && !stream->end_sent) {
            h3_stream_client_gone(stream);
        }
    } else { /* our control and QPACK streams live as long as the connection: RFC 9114 6.2.1, RFC 9204 4.2 */
        h3_session_failed(h3, NGHTTP3_ERR_H3_CLOSED_CRITICAL_STREAM);
    }
    h3_settle(h3);
}

void h3_on_stream_closed(void *user, int64_t id, uint64_t code)
{
    struct h3_conn *h3 = h3_of_user(user);
    if (!h3_is_open(h3)) {
        return;
    }
    struct h3_stream *stream = h3_is_request(id) ? h3_stream_find(h3, id) : NULL;
    if (stream != NULL) {
        stream->closed = true;
    }
    /* Of one that was refused unread it may know a PRIORITY_UPDATE. */
    int failed = nghttp3_conn_close_stream(h3->session, id, code);
    if (failed != 0 && failed != NGHTTP3_ERR_STREAM_NOT_FOUND) {
        h3_session_failed(h3, failed);
    }
    if (stream != NULL) {
        if (stream->exchange != NULL && !stream->end_sent && !stream->reset_out) {
            h3_stream_client_gone(
                stream); /* a STOP_SENDING that the transport has answered itself */
        }
        h3_stream_work(stream);
    }
    h3_settle(h3);
}
