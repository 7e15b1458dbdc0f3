/* SPDX-License-Identifier: MIT */
/*
 * What the library tells. Nothing is read, sent or freed in here: frames are queued with the library, streams are put on the list
 * of those to be looked at (h2_settle), and the flush writes.
 */
#include "h2/h2_state.h"

static struct h2_stream *stream_of(struct h2_conn *h2, int32_t id)
{
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(h2->session, id);
    REQUIRE(stream == NULL || stream->magic == H2_STREAM_MAGIC);
    return stream;
}

/* --- header blocks ------------------------------------------------------------------------------- */

/* Whether a new stream must wait: the client's streams, or the memory of all, are used up. It was not looked at: the client may
 * ask again (RFC 9113 8.7). */
static bool refuses_streams(const struct h2_conn *h2)
{
    size_t counted = h2->open + h2->conn.unconfirmed.length;
    if (counted >= h2->settings->max_concurrent_streams) {
        METRIC_INCREMENT(h2_streams_refused);
        return true;
    }
    if (h2->conn.group->pressure >= PRESSURE_REFUSE) {
        METRIC_INCREMENT(overload_refused);
        return true;
    }
    return false;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *h2 = user;
    h2->block_bytes = h2->block_fields = 0;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        head_block_begin(&h2->block, NULL, h2_http_settings(h2));
        return 0;
    }
    int32_t id = frame->hd.stream_id;
    if (refuses_streams(h2)) {
        h2_scan_excuse(&h2->scan, id);
        head_block_begin(&h2->block, NULL, h2_http_settings(h2));
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    }
    struct h2_stream *stream = h2_stream_new(h2, id);
    if (stream == NULL) {
        METRIC_INCREMENT(h2_no_memory);
        h2_scan_excuse(&h2->scan, id);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the stream is reset */
    }
    head_block_begin(&h2->block, &stream->exchange->arena, h2_http_settings(h2));
    return nghttp2_session_set_stream_user_data(session, id, stream);
}

/* A byte on the wire may be a field of kilobytes, which costs its check again and again (CVE-2026-49975): what comes behind the limits
 * is counted, also where nobody wants the block. */
static int count_decoded(struct h2_conn *h2, size_t length)
{
    const struct http_settings *http = h2_http_settings(h2);
    h2->block_bytes += length + HEAD_BLOCK_FIELD_OVERHEAD;
    h2->block_fields++;
    if (h2->block_bytes > http->header_block_max ||
        h2->block_fields > http->header_fields_max + http->cookie_crumbs_max) {
        h2_guard_glitch(h2);
    }
    return h2_is_over(h2) ? NGHTTP2_ERR_PAUSE : 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
                     void *user)
{
    struct h2_conn *h2 = user;
    (void)session;
    (void)flags;
    const struct h2_stream *stream = stream_of(h2, frame->hd.stream_id);
    if (stream != NULL && stream->exchange != NULL && !stream->reset_out) {
        head_block_field(&h2->block, (struct slice){(const char *)name, name_length},
                         (struct slice){(const char *)value, value_length});
    }
    return count_decoded(h2, name_length + value_length);
}

/* A field that the library would drop silently makes the request malformed (RFC 9113 8.2.1, 8.1.1). */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_length, const uint8_t *value,
                             size_t value_length, uint8_t flags, void *user)
{
    struct h2_conn *h2 = user;
    struct h2_stream *stream = stream_of(h2, frame->hd.stream_id);
    (void)session;
    (void)name;
    (void)name_length;
    (void)value;
    (void)value_length;
    (void)flags;
    if (stream != NULL && !stream->reset_out) {
        METRIC_INCREMENT(h2_malformed);
        h2_stream_reset(stream, NGHTTP2_PROTOCOL_ERROR, END_CLIENT_PROTOCOL);
    }
    return 0;
}

static void on_headers_complete(struct h2_conn *h2, struct h2_stream *stream,
                                const nghttp2_frame *frame)
{
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    stream->remote_ended |= end;
    if (stream->reset_out) {
        return;
    }
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        h2_stream_head(stream);
        return;
    }
    if (stream->exchange != NULL && stream->exchange->request.kind == REQUEST_WEBSOCKET) {
        METRIC_INCREMENT(h2_malformed); /* RFC 9113 8.5: a tunnel has no trailers */
        h2_stream_reset(stream, NGHTTP2_PROTOCOL_ERROR, END_CLIENT_PROTOCOL);
        return;
    }
    if (h2->block.status != 0) {
        h2_stream_refuse(stream, h2->block.status, h2->block.text);
        return;
    }
    METRIC_INCREMENT(h2_request_trailers);
    h2_stream_ended(stream); /* the library has seen to it that trailers end the stream */
}

/* --- frames -------------------------------------------------------------------------------------- */

static void on_reset(struct h2_conn *h2, struct h2_stream *stream)
{
    METRIC_INCREMENT(h2_resets_in);
    if (stream == NULL) {
        return;
    }
    stream->reset_in = true;
    h2_guard_reset(h2, stream->answering);
}

static void on_settings(struct h2_conn *h2, const nghttp2_frame *frame)
{
    if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
        h2->settings_sent_at = 0;
    }
}

static void on_ping(struct h2_conn *h2, const nghttp2_frame *frame)
{
    if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && h2->drain == H2_DRAIN_NOTICE) {
        h2_begin_drain(h2, true); /* the notice has arrived, and what was sent before it too */
    }
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *h2 = user;
    struct h2_stream *stream = frame->hd.stream_id > 0 ? stream_of(h2, frame->hd.stream_id) : NULL;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    (void)session;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (stream != NULL) {
            on_headers_complete(h2, stream, frame);
        }
        break;
    case NGHTTP2_DATA:
        if (!end && frame->hd.length == frame->data.padlen) {
            h2_guard_glitch(h2);
        }
        if (stream != NULL && end) {
            stream->remote_ended = true;
            h2_stream_ended(stream);
        }
        break;
    case NGHTTP2_RST_STREAM:
        on_reset(h2, stream);
        break;
    case NGHTTP2_SETTINGS:
        on_settings(h2, frame);
        break;
    case NGHTTP2_PING:
        on_ping(h2, frame);
        break;
    default:
        break;
    }
    return 0;
}

/* The library refuses a frame, and mostly resets its stream. */
static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                            void *user)
{
    struct h2_conn *h2 = user;
    (void)session;
    if (error == NGHTTP2_ERR_REFUSED_STREAM) {
        METRIC_INCREMENT(h2_streams_refused);
    } else {
        METRIC_INCREMENT(h2_malformed);
    }
    if (frame->hd.stream_id > 0) {
        h2_scan_excuse(&h2->scan, frame->hd.stream_id);
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t length, void *user)
{
    struct h2_conn *h2 = user;
    struct h2_stream *stream = stream_of(h2, id);
    (void)session;
    (void)flags;
    if (stream == NULL) {
        h2_credit_back(h2, length);
    } else {
        h2_stream_body(stream, data, length);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2_conn *h2 = user;
    struct h2_stream *stream = stream_of(h2, id);
    (void)session;
    if (stream != NULL) {
        if (!stream->remote_ended && !stream->reset_in) {
            h2_scan_excuse(&h2->scan, id);
        }
        stream->closed = true;
        stream->close_code = code;
        h2_stream_work(stream);
    }
    return 0;
}

/* --- sending ------------------------------------------------------------------------------------- */

/* Whether a stream that we reset counts among what the client makes us do (CVE-2025-8671). */
static bool is_clients_fault(const struct h2_conn *h2, const struct h2_stream *stream,
                             uint32_t code)
{
    if (code == NGHTTP2_REFUSED_STREAM && h2->conn.group->pressure >= PRESSURE_REFUSE) {
        return false;
    }
    return stream == NULL || stream->cut_reason == END_NONE ||
           stream->cut_reason == END_CLIENT_PROTOCOL;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *h2 = user;
    struct h2_stream *stream = frame->hd.stream_id > 0 ? stream_of(h2, frame->hd.stream_id) : NULL;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        if (stream == NULL || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
            break;
        }
        stream->end_sent = true;
        if (h2_push_mark(stream, 0, true) != ERROR_NONE) {
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
        if (!stream->remote_ended && !stream->tunnel) { /* RFC 9113 8.1: the rest is not wanted */
            METRIC_INCREMENT(h2_early_ends);
            h2_scan_excuse(&h2->scan, stream->id);
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id,
                                             NGHTTP2_NO_ERROR);
        }
        break;
    case NGHTTP2_RST_STREAM:
        if (frame->rst_stream.error_code != NGHTTP2_NO_ERROR) {
            METRIC_INCREMENT(h2_resets_out);
            if (is_clients_fault(h2, stream, frame->rst_stream.error_code)) {
                h2_guard_reset(h2, stream != NULL && stream->answering);
            }
        }
        break;
    case NGHTTP2_GOAWAY:
        METRIC_INCREMENT(h2_goaways);
        break;
    default:
        break;
    }
    return 0;
}

/* A DATA frame goes out: its header is copied, its payload shared with the exchange, which holds it until the socket has taken it. */
static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                     size_t length, nghttp2_data_source *source, void *user)
{
    /* Less than this is copied: two small allocations and a vector cost more. */
    enum { SHARE_FROM = 1024 };
    struct h2_conn *h2 = user;
    struct h2_stream *stream = stream_of(h2, frame->hd.stream_id);
    struct iovec vectors[16];
    (void)session;
    (void)source;
    REQUIRE(stream != NULL && stream->exchange != NULL && frame->data.padlen == 0);
    struct byteq *body = &stream->exchange->response_body;
    if (byteq_append(&h2->out, header, H2_FRAME_HEADER) != ERROR_NONE) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    enum error error = ERROR_NONE;
    size_t left = length;
    while (left > 0 && length < SHARE_FROM && error == ERROR_NONE) {
        size_t count = byteq_peek(body, vectors, 16, left);
        for (size_t i = 0; i < count && error == ERROR_NONE; i++) {
            error = byteq_append(&h2->out, vectors[i].iov_base, vectors[i].iov_len);
            byteq_mark_sent(body, vectors[i].iov_len);
            left -= vectors[i].iov_len;
        }
    }
    if (error == ERROR_NONE && left > 0) {
        error = byteq_share(&h2->out, body, left);
    }
    h2->out_queued += H2_FRAME_HEADER + length;
    h2_guard_data_sent(h2);
    if (error != ERROR_NONE || (length > 0 && h2_push_mark(stream, length, false) != ERROR_NONE)) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return h2->out.size >= H2_OUT_HIGH ? NGHTTP2_ERR_PAUSE : 0;
}

void h2_callbacks_set(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
}
