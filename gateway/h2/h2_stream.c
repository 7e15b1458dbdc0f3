/* SPDX-License-Identifier: MIT */
/*
 * Streams: the request side of each, its flow control, and its end. A stream's window is opened as its worker takes what came; the
 * connection's on receipt, until half of http2.connection_window lies here, so that one slow request does not stop the others.
 */
#include "h2/h2_state.h"

#include "base/log.h"
#include "base/mem.h"
#include "http/conn.h"
#include "http/respond.h"

/* --- life ---------------------------------------------------------------------------------------- */

struct h2_stream *h2_stream_new(struct h2_conn *h2, int32_t id)
{
    struct h2_stream *stream = mem_calloc(1, sizeof *stream);
    if (stream == NULL) {
        return NULL;
    }
    stream->exchange = exchange_new(&h2->conn);
    if (stream->exchange == NULL) {
        mem_free(stream);
        return NULL;
    }
    stream->magic = H2_STREAM_MAGIC;
    stream->id = id;
    stream->h2 = h2;
    byteq_init(&stream->held);
    stream->exchange->codec_stream = stream;
    stream->exchange->request.version = HTTP_2;
    h2_stream_list_append(&h2->streams, stream);
    h2->open++;
    h2->idle_since = 0;
    METRIC_INCREMENT(h2_streams);
    h2_timers_arm(h2);
    return stream;
}

static void free_stream(struct loop_grave *grave)
{
    struct h2_stream *stream = LIST_CONTAINER(grave, struct h2_stream, grave);
    REQUIRE_OBJECT(stream, H2_STREAM_MAGIC);
    stream->magic = MAGIC_FREED;
    mem_free(stream);
}

/* Takes the stream's exchange off. */
static void detach(struct h2_stream *stream, enum end_reason reason)
{
    struct h2_conn *h2 = stream->h2;
    struct exchange *exchange = stream->exchange;
    size_t left = stream->unconsumed;
    stream->exchange = NULL;
    stream->unconsumed = 0;
    h2->open--;
    byteq_done(&stream->held);
    exchange_client_detach(exchange, reason);
    h2->unconsumed -= left;
    h2_credit_back(h2, 0);
}

static void bury_when_done(struct h2_stream *stream)
{
    struct h2_conn *h2 = stream->h2;
    if (stream->exchange != NULL || !stream->closed || stream->marks > 0) {
        return;
    }
    if (h2_work_list_linked(stream)) {
        h2_work_list_remove(&h2->work, stream);
    }
    h2_stream_list_remove(&h2->streams, stream);
    if (h2_stream_list_empty(&h2->streams)) {
        h2->idle_since = loop_now(h2->conn.loop);
    }
    loop_bury(h2->conn.loop, &stream->grave, free_stream);
}

void h2_stream_work(struct h2_stream *stream)
{
    if (!h2_work_list_linked(stream)) {
        h2_work_list_append(&stream->h2->work, stream);
        h2_mark_dirty(stream->h2);
    }
}

/* What a stream that the library has closed means for its exchange. END_NONE: not over yet, its last bytes wait for the socket. */
static enum end_reason reason_of_close(const struct h2_stream *stream)
{
    const struct exchange *exchange = stream->exchange;
    if (exchange->response_state == RESPONSE_FINISHED) {
        return END_COMPLETE;
    }
    if (stream->end_sent && exchange->response_state == RESPONSE_ENDED) {
        return END_NONE;
    }
    return stream->reset_in ? END_CLIENT_GONE : END_CLIENT_PROTOCOL;
}

static void settle(struct h2_stream *stream)
{
    if (stream->exchange != NULL && stream->cut_reason != END_NONE) {
        detach(stream, stream->cut_reason);
    }
    if (stream->exchange != NULL && stream->closed) {
        enum end_reason reason = reason_of_close(stream);
        if (reason != END_NONE) {
            detach(stream, reason);
        }
    }
    if (stream->closed) {
        /* Returns an error when the library has forgotten the stream already, which is as good. */
        (void)nghttp2_session_set_stream_user_data(stream->h2->session, stream->id, NULL);
    }
    bury_when_done(stream);
}

void h2_settle(struct h2_conn *h2)
{
    struct h2_stream *stream;
    REQUIRE(!h2->in_library);
    while ((stream = h2_work_list_pop(&h2->work)) != NULL) {
        settle(stream);
    }
}

void h2_streams_end(struct h2_conn *h2, enum end_reason reason)
{
    h2_drop_marks(h2);
    LIST_EACH(h2_stream_list, &h2->streams, struct h2_stream, stream)
    {
        stream->closed = true;
        (void)nghttp2_session_set_stream_user_data(h2->session, stream->id, NULL);
        if (stream->exchange != NULL) {
            bool finished = stream->exchange->response_state == RESPONSE_FINISHED;
            detach(stream, finished ? END_COMPLETE : reason);
        }
        bury_when_done(stream);
    }
}

void h2_stream_reset(struct h2_stream *stream, uint32_t code, enum end_reason reason)
{
    struct h2_conn *h2 = stream->h2;
    if (stream->closed || stream->reset_out) {
        return;
    }
    stream->reset_out = true;
    stream->cut_reason = reason;
    if (!stream->remote_ended) {
        h2_scan_excuse(&h2->scan, stream->id);
    }
    if (nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, stream->id, code) != 0) {
        METRIC_INCREMENT(h2_no_memory);
        h2_close_later(h2, END_NO_MEMORY);
    }
    h2_stream_work(stream);
}

/* --- heads --------------------------------------------------------------------------------------- */

void h2_stream_refuse(struct h2_stream *stream, unsigned status, const char *text)
{
    struct h2_conn *h2 = stream->h2;
    struct exchange *exchange = stream->exchange;
    METRIC_INCREMENT(h2_refused);
    h2_log(h2, text);
    stream->asked = true;
    if (exchange == NULL || stream->cut_reason != END_NONE) {
        return;
    }
    if (exchange->response_state != RESPONSE_NONE) {
        exchange_client_fail(exchange, END_CLIENT_PROTOCOL, slice_from(text));
        return;
    }
    if (exchange->worker_half != NULL) { /* it lets go before we answer */
        exchange->handler->on_client_gone(exchange, false);
    }
    respond_status(exchange, status, text);
    h2_guard_glitch(h2);
}

/* What the client has said of the request's urgency: in a PRIORITY_UPDATE that came before it, or in its field, which the library
 * looks at later. */
static void note_priority(struct h2_stream *stream)
{
    struct request_head *head = &stream->exchange->request;
    const struct field *field = head_find(head->fields, head->field_count, SLICE("priority"));
    nghttp2_extpri priority;
    if (nghttp2_session_get_extpri_stream_priority(stream->h2->session, &priority, stream->id) !=
        0) {
        return;
    }
    bool usual = priority.urgency == NGHTTP2_EXTPRI_DEFAULT_URGENCY && priority.inc == 0;
    if (usual && field != NULL) {
        /* What cannot be read leaves it as it is (RFC 9218 4). */
        (void)nghttp2_extpri_parse_priority(&priority, (const uint8_t *)field->value.data,
                                            field->value.length);
    }
    head->prioritised = !usual || field != NULL;
    head->urgency = (uint8_t)priority.urgency;
    head->incremental = priority.inc != 0;
}

void h2_stream_head(struct h2_stream *stream)
{
    struct h2_conn *h2 = stream->h2;
    struct exchange *exchange = stream->exchange;
    struct head_block *block = &h2->block;
    if (exchange == NULL) {
        return;
    }
    bool good = head_block_finish(block, HTTP_2, h2->conn.identity.secure, stream->remote_ended,
                                  &exchange->request);
    exchange->request_end = stream->remote_ended;
    stream->asked = true;
    if (good) {
        uint64_t most = h2_http_settings(h2)->keep_alive_requests;
        if (most > 0 && h2->conn.requests >= most && h2->drain == H2_DRAIN_NONE) {
            METRIC_INCREMENT(limit_keep_alive_requests);
            log_debug("h2", "connection %llu: limits.keep_alive_requests",
                      (unsigned long long)h2->conn.id);
            h2_begin_drain(h2, false);
        }
        note_priority(stream);
        exchange_request_head(exchange);
    } else if (block->no_memory) {
        METRIC_INCREMENT(h2_no_memory);
        exchange_client_fail(exchange, END_NO_MEMORY, SLICE("no memory for the request head"));
    } else {
        h2_stream_refuse(stream, block->status, block->text);
    }
    *block = (struct head_block){.arena = NULL};
}

/* --- flow control -------------------------------------------------------------------------------- */

void h2_credit_back(struct h2_conn *h2, size_t length)
{
    uint64_t most = h2->settings->connection_window / 2;
    uint64_t keep = h2->unconsumed > most ? h2->unconsumed - most : 0;
    h2->owed += length;
    if (h2->owed > keep && h2->session != NULL) {
        size_t give = (size_t)(h2->owed - keep);
        h2->owed = keep;
        if (nghttp2_session_consume_connection(h2->session, give) != 0) {
            METRIC_INCREMENT(h2_no_memory);
            h2_close_later(h2, END_NO_MEMORY);
        }
        h2_mark_dirty(h2);
    }
}

/* Bytes have been taken or dropped: both windows may be opened by so much. A stream whose rest nobody wants stays shut. */
static void taken(struct h2_stream *stream, size_t length)
{
    struct h2_conn *h2 = stream->h2;
    REQUIRE(length <= stream->unconsumed && length <= h2->unconsumed);
    stream->unconsumed -= length;
    h2->unconsumed -= length;
    if (!stream->remote_ended && !stream->closed && !stream->reset_out &&
        !stream->exchange->request_body_dropped &&
        nghttp2_session_consume_stream(h2->session, stream->id, length) != 0) {
        METRIC_INCREMENT(h2_no_memory);
        h2_close_later(h2, END_NO_MEMORY);
    }
    h2_credit_back(h2, 0);
    h2_mark_dirty(h2);
}

/* Gives the exchange what it has room for; returns how much that was. */
static size_t give(struct h2_stream *stream, const uint8_t *data, size_t length)
{
    struct exchange *exchange = stream->exchange;
    size_t room = exchange_request_room(exchange);
    size_t part = length < room ? length : room;
    bool dropped = exchange->request_body_dropped;
    if (part == 0) {
        return 0;
    }
    /* An error was answered by the exchange, which drops the rest of the body from now on. */
    enum error error = exchange_request_body(exchange, data, part);
    if ((dropped || error != ERROR_NONE) && stream->exchange != NULL) {
        taken(stream, part);
    }
    return part;
}

static void give_held(struct h2_stream *stream)
{
    struct iovec vector;
    if (stream
            ->giving) { /* the handler took bytes while it was given some: the loop below goes on */
        return;
    }
    stream->giving = true;
    while (stream->exchange != NULL && stream->cut_reason == END_NONE &&
           byteq_peek(&stream->held, &vector, 1, SIZE_MAX) > 0) {
        size_t part = give(stream, vector.iov_base, vector.iov_len);
        if (part == 0 || stream->exchange == NULL) {
            break;
        }
        byteq_consume(&stream->held, part);
    }
    stream->giving = false;
    if (stream->exchange != NULL && stream->remote_ended && stream->held.size == 0 &&
        !stream->exchange->request_end) {
        exchange_request_ended(stream->exchange);
    }
}

void h2_stream_consumed(struct h2_stream *stream, size_t length)
{
    if (stream->exchange == NULL || length > stream->unconsumed) {
        return;
    }
    taken(stream, length);
    if (stream->held.size > 0) {
        give_held(stream);
    }
}

void h2_stream_body(struct h2_stream *stream, const uint8_t *data, size_t length)
{
    struct h2_conn *h2 = stream->h2;
    if (stream->exchange == NULL || stream->cut_reason != END_NONE) {
        h2_credit_back(h2, length);
        return;
    }
    stream->unconsumed += length;
    h2->unconsumed += length;
    pace_update(&stream->body_pace, loop_now(h2->conn.loop), true, length);
    size_t part = stream->held.size == 0 ? give(stream, data, length) : 0;
    /* A client that has not seen our SETTINGS yet may send more than they allow (RFC 9113 6.9.2). */
    if (part < length && byteq_append(&stream->held, data + part, length - part) != ERROR_NONE) {
        METRIC_INCREMENT(h2_no_memory);
        h2_stream_reset(stream, NGHTTP2_INTERNAL_ERROR, END_NO_MEMORY);
    }
    h2_credit_back(h2, length);
}

void h2_stream_ended(struct h2_stream *stream)
{
    if (stream->exchange != NULL && stream->cut_reason == END_NONE && stream->held.size == 0 &&
        !stream->exchange->request_end) {
        exchange_request_ended(stream->exchange);
    }
}
