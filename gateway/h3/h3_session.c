/* SPDX-License-Identifier: MIT */
/*
 * The library's session: its settings, its memory, its three streams, and what it tells. Nothing is read, sent or freed in a callback:
 * streams are put on the list of those to be looked at (h3_settle), and the transport's flush pulls.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "h3/h3_state.h"

/* --- memory and randomness ----------------------------------------------------------------------- */

static void *session_malloc(size_t size, void *user)
{
    (void)user;
    return mem_alloc(size);
}

static void session_free(void *memory, void *user)
{
    (void)user;
    mem_free(memory);
}

static void *session_calloc(size_t count, size_t size, void *user)
{
    (void)user;
    return mem_calloc(count, size);
}

static void *session_realloc(void *old, size_t size, void *user)
{
    (void)user;
    return mem_realloc(old, size);
}

/* --- field sections ------------------------------------------------------------------------------ */

static struct h3_stream *stream_of(void *stream_user)
{
    struct h3_stream *stream = stream_user;
    REQUIRE(stream == NULL || stream->magic == H3_STREAM_MAGIC);
    return stream;
}

/* Whether what comes of a stream is of interest still. */
static bool is_wanted(const struct h3_stream *stream)
{
    return stream != NULL && stream->exchange != NULL && stream->cut_reason == END_NONE;
}

static int on_begin_headers(nghttp3_conn *session, int64_t id, void *user, void *stream_user)
{
    struct h3_stream *stream = h3_stream_find(user, id);
    (void)stream_user;
    if (stream == NULL || stream->cut_reason != END_NONE) {
        return 0;
    }
    h3_guard_section(stream);
    if (!h3_stream_section(stream, true)) {
        METRIC_INCREMENT(h3_no_memory);
        h3_stream_reset(stream, NGHTTP3_H3_INTERNAL_ERROR, END_NO_MEMORY);
        return 0;
    }
    return nghttp3_conn_set_stream_user_data(session, id, stream);
}

static int on_field(nghttp3_conn *session, int64_t id, int32_t token, nghttp3_rcbuf *name,
                    nghttp3_rcbuf *value, uint8_t flags, void *user, void *stream_user)
{
    struct h3_conn *h3 = user;
    struct h3_stream *stream = stream_of(stream_user);
    nghttp3_vec name_bytes = nghttp3_rcbuf_get_buf(name);
    nghttp3_vec value_bytes = nghttp3_rcbuf_get_buf(value);
    (void)session;
    (void)id;
    (void)token;
    (void)flags;
    if (is_wanted(stream)) {
        head_block_field(&stream->block,
                         (struct slice){(const char *)name_bytes.base, name_bytes.len},
                         (struct slice){(const char *)value_bytes.base, value_bytes.len});
    }
    if (stream != NULL) {
        h3_guard_field(stream, name_bytes.len + value_bytes.len);
    }
    /* The library stops nowhere else inside a section; the connection is over then. */
    return h3->phase == H3_PHASE_OPEN ? 0 : NGHTTP3_ERR_CALLBACK_FAILURE;
}

static int on_end_headers(nghttp3_conn *session, int64_t id, int end, void *user, void *stream_user)
{
    struct h3_stream *stream = stream_of(stream_user);
    (void)session;
    (void)id;
    (void)user;
    if (is_wanted(stream)) {
        h3_stream_head(stream, end != 0);
    }
    return 0;
}

static int on_begin_trailers(nghttp3_conn *session, int64_t id, void *user, void *stream_user)
{
    struct h3_stream *stream = stream_of(stream_user);
    (void)session;
    (void)id;
    (void)user;
    if (stream != NULL) {
        h3_guard_section(stream);
    }
    if (is_wanted(stream)) {
        return h3_stream_section(stream, false) ? 0 : NGHTTP3_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

static int on_end_trailers(nghttp3_conn *session, int64_t id, int end, void *user,
                           void *stream_user)
{
    struct h3_stream *stream = stream_of(stream_user);
    (void)session;
    (void)id;
    (void)end;
    (void)user;
    if (is_wanted(stream)) {
        h3_stream_trailers(stream);
    }
    return 0;
}

/* --- bodies and ends ----------------------------------------------------------------------------- */

static int on_body(nghttp3_conn *session, int64_t id, const uint8_t *data, size_t length,
                   void *user, void *stream_user)
{
    struct h3_conn *h3 = user;
    struct h3_stream *stream = stream_of(stream_user);
    (void)session;
    if (stream != NULL) {
        h3_stream_body(stream, data, length);
    } else {
        quic_conn_consumed(h3->quic, id, length);
    }
    return 0;
}

/* Bytes of a stream that had waited for the QPACK table. */
static int on_deferred_consume(nghttp3_conn *session, int64_t id, size_t length, void *user,
                               void *stream_user)
{
    struct h3_conn *h3 = user;
    (void)session;
    (void)stream_user;
    quic_conn_consumed(h3->quic, id, length);
    return 0;
}

static int on_end_stream(nghttp3_conn *session, int64_t id, void *user, void *stream_user)
{
    struct h3_stream *stream = stream_of(stream_user);
    (void)session;
    (void)id;
    (void)user;
    if (is_wanted(stream)) {
        h3_stream_ended(stream);
    }
    return 0;
}

static int on_acked(nghttp3_conn *session, int64_t id, uint64_t length, void *user,
                    void *stream_user)
{
    struct h3_stream *stream = stream_of(stream_user);
    (void)session;
    (void)id;
    (void)user;
    if (stream != NULL) {
        h3_stream_acked(stream, (size_t)length);
    }
    return 0;
}

/* The library wants no more of a stream: unknown unidirectional ones, and requests behind our last GOAWAY. */
static int on_stop_sending(nghttp3_conn *session, int64_t id, uint64_t code, void *user,
                           void *stream_user)
{
    struct h3_conn *h3 = user;
    struct h3_stream *stream = h3_stream_find(h3, id);
    (void)session;
    (void)stream_user;
    if (stream != NULL) {
        stream->stopped = true;
    }
    quic_conn_stop_reading(h3->quic, id, code);
    return 0;
}

static int on_reset_stream(nghttp3_conn *session, int64_t id, uint64_t code, void *user,
                           void *stream_user)
{
    struct h3_conn *h3 = user;
    struct h3_stream *stream = h3_stream_find(h3, id);
    (void)session;
    (void)stream_user;
    if (stream != NULL) {
        METRIC_INCREMENT(h3_streams_refused);
        stream->reset_out = true;
        stream->begun_at = 0;
    }
    quic_conn_reset_stream(h3->quic, id, code);
    return 0;
}

static void on_rand(uint8_t *out, size_t length)
{
    random_bytes(out, length);
}

static const nghttp3_callbacks callbacks = {
    .acked_stream_data = on_acked,
    .recv_data = on_body,
    .deferred_consume = on_deferred_consume,
    .begin_headers = on_begin_headers,
    .recv_header = on_field,
    .end_headers = on_end_headers,
    .begin_trailers = on_begin_trailers,
    .recv_trailer = on_field,
    .end_trailers = on_end_trailers,
    .stop_sending = on_stop_sending,
    .end_stream = on_end_stream,
    .reset_stream = on_reset_stream,
    .rand = on_rand,
};

/* --- life ---------------------------------------------------------------------------------------- */

static enum error bind_streams(struct h3_conn *h3)
{
    int64_t control, encoder, decoder;
    enum error error = quic_conn_open_uni(h3->quic, &control);
    if (error == ERROR_NONE) {
        error = quic_conn_open_uni(h3->quic, &encoder);
    }
    if (error == ERROR_NONE) {
        error = quic_conn_open_uni(h3->quic, &decoder);
    }
    if (error != ERROR_NONE) {
        return error;
    }
    return nghttp3_conn_bind_control_stream(h3->session, control) == 0 &&
                   nghttp3_conn_bind_qpack_streams(h3->session, encoder, decoder) == 0
               ? ERROR_NONE
               : ERROR_NO_MEMORY;
}

enum error h3_session_new(struct h3_conn *h3)
{
    static const nghttp3_mem memory = {NULL, session_malloc, session_free, session_calloc,
                                       session_realloc};
    const struct h3_settings *ours = h3->settings;
    nghttp3_settings settings;
    nghttp3_settings_default(&settings);
    settings.max_field_section_size = h3_http_settings(h3)->header_block_max;
    settings.qpack_max_dtable_capacity = (size_t)ours->qpack_table;
    settings.qpack_encoder_max_dtable_capacity = (size_t)ours->qpack_table;
    settings.qpack_blocked_streams = (size_t)ours->qpack_blocked;
    settings.enable_connect_protocol = 1; /* RFC 9220 3 */
    /* The library's own limiter guards what only it sees: unknown frames and streams. */
    settings.glitch_ratelim_burst = ours->glitch_burst;
    settings.glitch_ratelim_rate = ours->glitch_rate;
    if (nghttp3_conn_server_new(&h3->session, &callbacks, &settings, &memory, h3) != 0) {
        h3->session = NULL;
        return ERROR_NO_MEMORY;
    }
    nghttp3_conn_set_max_client_streams_bidi(h3->session, ours->max_concurrent_streams);
    nghttp3_conn_set_max_concurrent_streams(h3->session, (size_t)ours->max_concurrent_streams);
    return bind_streams(h3);
}

void h3_session_failed(struct h3_conn *h3, nghttp3_ssize error)
{
    if (error == NGHTTP3_ERR_NOMEM || error == NGHTTP3_ERR_CALLBACK_FAILURE) {
        h3_no_memory(h3);
        return;
    }
    if (error == NGHTTP3_ERR_H3_EXCESSIVE_LOAD) {
        METRIC_INCREMENT(h3_glitch_floods);
    }
    /* RFC 9114 8 lets a malformed message end its connection; the library knows no less. */
    h3_fail(h3, nghttp3_err_infer_quic_app_error_code((int)error), nghttp3_strerror((int)error));
}
