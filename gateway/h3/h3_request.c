/* SPDX-License-Identifier: MIT */
/*
 * The request side of a stream: its head, its body and the windows. Both windows are opened as the worker takes what came: a stream holds
 * its window at most, a connection http3.connection_window; what a stream that ends has left behind is given back to the connection.
 */
#include "base/log.h"
#include "h3/h3_state.h"
#include "http/conn.h"
#include "http/respond.h"

/* --- heads --------------------------------------------------------------------------------------- */

bool h3_stream_section(struct h3_stream *stream, bool head)
{
    struct h3_conn *h3 = stream->h3;
    if (!head) {
        head_block_begin(&stream->block, NULL, h3_http_settings(h3));
        return true;
    }
    stream->exchange = exchange_new(&h3->conn);
    if (stream->exchange == NULL) {
        return false;
    }
    stream->exchange->codec_stream = stream;
    stream->exchange->request.version = HTTP_3;
    head_block_begin(&stream->block, &stream->exchange->arena, h3_http_settings(h3));
    METRIC_INCREMENT(h3_streams);
    return true;
}

/* Answers a bad request if that is still possible, else resets the stream. */
static void refuse(struct h3_stream *stream, unsigned status, const char *text)
{
    struct h3_conn *h3 = stream->h3;
    struct exchange *exchange = stream->exchange;
    METRIC_INCREMENT(h3_refused);
    h3_log(h3, text);
    if (exchange->response_state != RESPONSE_NONE) {
        exchange_client_fail(exchange, END_CLIENT_PROTOCOL, slice_from(text));
        return;
    }
    if (exchange->worker_half != NULL) { /* it lets go before we answer */
        exchange->handler->on_client_gone(exchange, false);
    }
    respond_status(exchange, status, text);
    h3_guard_glitch(h3);
}

/* What the client has said of the request's urgency, in its field or in a PRIORITY_UPDATE that came before it. */
static void note_priority(struct h3_stream *stream)
{
    struct request_head *head = &stream->exchange->request;
    nghttp3_pri priority;
    if (nghttp3_conn_get_stream_priority(stream->h3->session, &priority, stream->id) != 0) {
        return;
    }
    bool usual = priority.urgency == NGHTTP3_DEFAULT_URGENCY && priority.inc == 0;
    head->prioritised =
        !usual || head_find(head->fields, head->field_count, SLICE("priority")) != NULL;
    head->urgency = (uint8_t)priority.urgency;
    head->incremental = priority.inc != 0;
}

/* RFC 9110 9.2.1. */
static bool is_safe(struct slice method)
{
    return slice_equal(method, SLICE("GET")) || slice_equal(method, SLICE("HEAD")) ||
           slice_equal(method, SLICE("OPTIONS"));
}

/* RFC 8470 5.1: tells the app that the request may be a replay. */
static bool mark_early(struct exchange *exchange)
{
    struct request_head *head = &exchange->request;
    if (head_find(head->fields, head->field_count, SLICE("early-data")) != NULL) {
        return true;
    }
    struct field *fields = arena_alloc(&exchange->arena, (head->field_count + 1) * sizeof *fields);
    if (fields == NULL) {
        return false;
    }
    for (size_t i = 0; i < head->field_count; i++) {
        fields[i] = head->fields[i];
    }
    fields[head->field_count++] = (struct field){SLICE("early-data"), SLICE("1")};
    head->fields = fields;
    return true;
}

/* A request that came before the handshake was complete may be one that somebody else has recorded (RFC 8446 8): only what does no
 * harm twice goes to an app. False: it was answered. */
static bool admit_early(struct h3_stream *stream)
{
    struct h3_conn *h3 = stream->h3;
    struct exchange *exchange = stream->exchange;
    if (!quic_conn_early(h3->quic) || !quic_conn_stream_early(h3->quic, stream->id)) {
        return true;
    }
    if (exchange->request.kind != REQUEST_HTTP || exchange->request.has_body ||
        !is_safe(exchange->request.method)) {
        METRIC_INCREMENT(h3_early_refused);
        respond_status(exchange, 425, "This request is not taken in early data.");
        return false;
    }
    if (!mark_early(exchange)) {
        METRIC_INCREMENT(h3_no_memory);
        exchange_client_fail(exchange, END_NO_MEMORY, SLICE("no memory for the request head"));
        return false;
    }
    METRIC_INCREMENT(h3_early_requests);
    return true;
}

/* The connection's share of requests is used up: this one is served still. */
static void look_at_count(struct h3_conn *h3)
{
    uint64_t most = h3_http_settings(h3)->keep_alive_requests;
    if (most > 0 && h3->conn.requests >= most && h3->drain == H3_DRAIN_NONE) {
        METRIC_INCREMENT(limit_keep_alive_requests);
        log_debug("h3", "connection %llu: limits.keep_alive_requests",
                  (unsigned long long)h3->conn.id);
        h3_begin_drain(h3, false);
    }
}

void h3_stream_head(struct h3_stream *stream, bool end)
{
    struct h3_conn *h3 = stream->h3;
    struct exchange *exchange = stream->exchange;
    struct head_block *block = &stream->block;
    bool good = head_block_finish(block, HTTP_3, h3->conn.identity.secure, end, &exchange->request);
    exchange->request_end = end;
    stream->asked = true;
    stream->begun_at = 0;
    if (good) {
        look_at_count(h3);
        note_priority(stream);
        if (admit_early(stream)) {
            exchange_request_head(exchange);
        }
    } else if (block->no_memory) {
        METRIC_INCREMENT(h3_no_memory);
        exchange_client_fail(exchange, END_NO_MEMORY, SLICE("no memory for the request head"));
    } else {
        refuse(stream, block->status, block->text);
    }
    *block = (struct head_block){.arena = NULL};
}

void h3_stream_trailers(struct h3_stream *stream)
{
    if (stream->exchange->request.kind == REQUEST_WEBSOCKET) {
        h3_stream_reset(stream, NGHTTP3_H3_MESSAGE_ERROR,
                        END_CLIENT_PROTOCOL); /* a tunnel has none */
        return;
    }
    if (stream->block.status != 0) {
        refuse(stream, stream->block.status, stream->block.text);
        return;
    }
    METRIC_INCREMENT(h3_request_trailers); /* the library sees to it that nothing follows them */
}

/* --- bodies -------------------------------------------------------------------------------------- */

/* Bytes have been taken or dropped. A stream whose rest nobody wants stays shut. */
static void taken(struct h3_stream *stream, size_t length)
{
    struct h3_conn *h3 = stream->h3;
    REQUIRE(length <= stream->unconsumed && length <= h3->unconsumed);
    stream->unconsumed -= length;
    h3->unconsumed -= length;
    if (h3_is_open(h3)) {
        bool open = !stream->stopped && !stream->exchange->request_body_dropped;
        quic_conn_consumed(h3->quic, open ? stream->id : -1, length);
    }
}

/* Gives the exchange what it has room for; returns how much that was. */
static size_t give(struct h3_stream *stream, const uint8_t *data, size_t length)
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

static void give_held(struct h3_stream *stream)
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
    if (stream->exchange != NULL && stream->ended && stream->held.size == 0 &&
        !stream->exchange->request_end) {
        exchange_request_ended(stream->exchange);
    }
}

void h3_stream_consumed(struct h3_stream *stream, size_t length)
{
    if (stream->exchange == NULL || length > stream->unconsumed) {
        return;
    }
    taken(stream, length);
    if (stream->held.size > 0) {
        give_held(stream);
    }
}

void h3_stream_body(struct h3_stream *stream, const uint8_t *data, size_t length)
{
    struct h3_conn *h3 = stream->h3;
    stream->content += length;
    if (stream->exchange == NULL || stream->cut_reason != END_NONE) {
        quic_conn_consumed(h3->quic, -1, length);
        return;
    }
    stream->unconsumed += length;
    h3->unconsumed += length;
    pace_update(&stream->body_pace, loop_now(h3->conn.loop), true, length);
    size_t part = stream->held.size == 0 ? give(stream, data, length) : 0;
    /* A request that is given to another worker takes the room of what the first one had (exchange_request_room). */
    if (part < length && stream->exchange != NULL &&
        byteq_append(&stream->held, data + part, length - part) != ERROR_NONE) {
        METRIC_INCREMENT(h3_no_memory);
        h3_stream_reset(stream, NGHTTP3_H3_INTERNAL_ERROR, END_NO_MEMORY);
    }
}

void h3_stream_ended(struct h3_stream *stream)
{
    stream->ended = true;
    if (stream->held.size == 0 && !stream->exchange->request_end) {
        exchange_request_ended(stream->exchange);
    }
}
