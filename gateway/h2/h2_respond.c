/* SPDX-License-Identifier: MIT */
/*
 * Responses: heads and trailers as the library's name-value pairs, and the body that it pulls when the socket can take more. Names and
 * values were checked by response_head_check.
 */
#include <stdio.h>

#include "base/arena.h"
#include "h2/h2_state.h"
#include "http/conn.h"
#include "http/own_fields.h"

/* Pairs on the stack; a longer head takes its array from the exchange's arena. */
#define PAIRS 64

struct pairs {
    nghttp2_nv *items;
    size_t count;
};

/* The library copies names and values: the exchange may be gone when the frame goes out. */
static void add(struct pairs *pairs, struct slice name, struct slice value)
{
    pairs->items[pairs->count++] = (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)(name.length > 0 ? name.data : ""),
        .value = (uint8_t *)(uintptr_t)(value.length > 0 ? value.data : ""),
        .namelen = name.length,
        .valuelen = value.length,
        .flags = NGHTTP2_NV_FLAG_NONE,
    };
}

static void add_own_fields(struct pairs *pairs, struct h2_conn *h2,
                           const struct response_head *head)
{
    const struct own_fields own = {h2_http_settings(h2), conn_group_date(h2->conn.group),
                                   h2->conn.identity.alt_svc};
    struct field field;
    for (size_t i = 0; i < own_fields_most(own.settings); i++) {
        if (own_fields_get(&own, i, head, &field)) {
            add(pairs, field.name, field.value);
        }
    }
}

static void add_fields(struct pairs *pairs, const struct field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        add(pairs, fields[i].name, fields[i].value);
    }
}

/* Room for `count` pairs: `stack` when they fit. */
static nghttp2_nv *room_for(struct exchange *exchange, nghttp2_nv *stack, size_t count)
{
    return count <= PAIRS ? stack : arena_alloc(&exchange->arena, count * sizeof *stack);
}

/* --- the body ------------------------------------------------------------------------------------ */

static int submit_trailers(struct h2_conn *h2, struct exchange *exchange, int32_t id)
{
    nghttp2_nv stack[PAIRS];
    struct pairs pairs = {room_for(exchange, stack, exchange->trailer_count), 0};
    if (pairs.items == NULL) {
        return NGHTTP2_ERR_NOMEM;
    }
    add_fields(&pairs, exchange->trailers, exchange->trailer_count);
    return nghttp2_submit_trailer(h2->session, id, pairs.items, pairs.count);
}

static nghttp2_ssize read_body(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length,
                               uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_conn *h2 = user;
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)buffer;
    (void)source;
    if (stream == NULL || stream->exchange == NULL || stream->cut_reason != END_NONE) {
        return NGHTTP2_ERR_DEFERRED;
    }
    struct exchange *exchange = stream->exchange;
    size_t unsent = exchange->response_body.unsent;
    size_t part = unsent < length ? unsent : length;
    if (part == 0 && !exchange->response_end) {
        stream->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (part == unsent && exchange->response_end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (exchange->trailer_count > 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (submit_trailers(h2, exchange, id) != 0) {
                METRIC_INCREMENT(h2_no_memory);
                return NGHTTP2_ERR_CALLBACK_FAILURE;
            }
        }
    }
    return (nghttp2_ssize)part;
}

void h2_resume_body(struct exchange *exchange)
{
    struct h2_stream *stream = h2_stream_of(exchange);
    struct h2_conn *h2 = stream->h2;
    if (stream->deferred && !stream->closed) {
        stream->deferred = false;
        int error = nghttp2_session_resume_data(h2->session, stream->id);
        if (nghttp2_is_fatal(error)) {
            METRIC_INCREMENT(h2_no_memory);
            h2_close_later(h2, END_NO_MEMORY);
        }
    }
    h2_mark_dirty(h2);
    h2_timers_arm(h2);
}

/* --- heads --------------------------------------------------------------------------------------- */

/* RFC 9218 8: what the app says of its response's priority counts more than what the client said. */
static void apply_priority(struct h2_stream *stream, const struct response_head *head)
{
    const struct field *field = head_find(head->fields, head->field_count, SLICE("priority"));
    nghttp2_extpri priority;
    if (field == NULL || nghttp2_session_get_extpri_stream_priority(stream->h2->session, &priority,
                                                                    stream->id) != 0) {
        return;
    }
    if (nghttp2_extpri_parse_priority(&priority, (const uint8_t *)field->value.data,
                                      field->value.length) == 0) {
        (void)nghttp2_session_change_extpri_stream_priority(stream->h2->session, stream->id,
                                                            &priority, 1);
    }
}

static int submit(struct h2_stream *stream, const struct pairs *pairs, bool final, bool end)
{
    nghttp2_session *session = stream->h2->session;
    const nghttp2_data_provider2 body = {.source.ptr = NULL, .read_callback = read_body};
    if (!final) {
        return nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE, stream->id, NULL, pairs->items,
                                      pairs->count, NULL);
    }
    return nghttp2_submit_response2(session, stream->id, pairs->items, pairs->count,
                                    end ? NULL : &body);
}

enum error h2_send_head(struct exchange *exchange, const struct response_head *head, bool end)
{
    struct h2_stream *stream = h2_stream_of(exchange);
    struct h2_conn *h2 = stream->h2;
    nghttp2_nv stack[PAIRS];
    char status[8];
    bool final = head->status >= 200;
    size_t most = 1 + head->field_count + own_fields_most(h2_http_settings(h2));
    if (h2_is_over(h2) || stream->closed || stream->reset_out) {
        return ERROR_CLOSED;
    }
    struct pairs pairs = {room_for(exchange, stack, most), 0};
    if (pairs.items == NULL) {
        return ERROR_NO_MEMORY;
    }
    int length = snprintf(status, sizeof status, "%03u", head->status);
    add(&pairs, SLICE(":status"), (struct slice){status, (size_t)length});
    add_fields(&pairs, head->fields, head->field_count);
    if (final) {
        add_own_fields(&pairs, h2, head);
        apply_priority(stream, head);
        stream->answering = true;
        stream->tunnel = exchange->request.kind == REQUEST_WEBSOCKET && head->status / 100 == 2;
    }
    h2_mark_dirty(h2);
    h2_timers_arm(h2);
    int error = submit(stream, &pairs, final, end);
    if (error == 0) {
        return ERROR_NONE;
    }
    return error == NGHTTP2_ERR_NOMEM ? ERROR_NO_MEMORY : ERROR_CLOSED;
}
