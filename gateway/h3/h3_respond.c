/* SPDX-License-Identifier: MIT */
/*
 * Responses: heads and trailers as the library's name-value pairs, and the body that it asks for when its turn has come (RFC 9218). Names
 * and values were checked by response_head_check.
 */
#include <stdio.h>

#include "base/arena.h"
#include "h3/h3_state.h"
#include "http/conn.h"
#include "http/own_fields.h"

/* Pairs on the stack; a longer head takes its array from the exchange's arena. */
#define PAIRS 64
/* Of a DATA frame. */
#define FRAME_MOST 65536

struct pairs {
    nghttp3_nv *items;
    size_t count;
};

/* The library copies names and values: the exchange may be gone when the frame goes out. */
static void add(struct pairs *pairs, struct slice name, struct slice value)
{
    pairs->items[pairs->count++] = (nghttp3_nv){
        .name = (const uint8_t *)(name.length > 0 ? name.data : ""),
        .value = (const uint8_t *)(value.length > 0 ? value.data : ""),
        .namelen = name.length,
        .valuelen = value.length,
        .flags = NGHTTP3_NV_FLAG_NONE,
    };
}

static void add_own_fields(struct pairs *pairs, struct h3_conn *h3,
                           const struct response_head *head)
{
    const struct own_fields own = {h3_http_settings(h3), conn_group_date(h3->conn.group),
                                   h3->conn.identity.alt_svc};
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
static nghttp3_nv *room_for(struct exchange *exchange, nghttp3_nv *stack, size_t count)
{
    return count <= PAIRS ? stack : arena_alloc(&exchange->arena, count * sizeof *stack);
}

/* --- the body ------------------------------------------------------------------------------------ */

static int submit_trailers(struct h3_stream *stream)
{
    struct exchange *exchange = stream->exchange;
    nghttp3_nv stack[PAIRS];
    struct pairs pairs = {room_for(exchange, stack, exchange->trailer_count), 0};
    if (pairs.items == NULL) {
        return NGHTTP3_ERR_NOMEM;
    }
    add_fields(&pairs, exchange->trailers, exchange->trailer_count);
    return nghttp3_conn_submit_trailers(stream->h3->session, stream->id, pairs.items, pairs.count);
}

/* The library can be told no other way that one stream has failed. */
static nghttp3_ssize give_up(struct h3_stream *stream)
{
    METRIC_INCREMENT(h3_no_memory);
    h3_stream_reset(stream, NGHTTP3_H3_INTERNAL_ERROR, END_NO_MEMORY);
    return NGHTTP3_ERR_WOULDBLOCK;
}

static nghttp3_ssize read_body(nghttp3_conn *session, int64_t id, nghttp3_vec *pieces, size_t most,
                               uint32_t *flags, void *user, void *stream_user)
{
    enum { VECTORS = 8 };
    struct iovec vectors[VECTORS];
    struct h3_stream *stream = stream_user;
    (void)session;
    (void)id;
    (void)user;
    if (stream == NULL || stream->exchange == NULL || stream->cut_reason != END_NONE) {
        return NGHTTP3_ERR_WOULDBLOCK;
    }
    struct exchange *exchange = stream->exchange;
    size_t length = 0;
    if (exchange->response_body.unsent == 0 && !exchange->response_end) {
        stream->deferred = true;
        return NGHTTP3_ERR_WOULDBLOCK;
    }
    size_t count =
        byteq_peek(&exchange->response_body, vectors, most < VECTORS ? most : VECTORS, FRAME_MOST);
    for (size_t i = 0; i < count; i++) {
        pieces[i] = (nghttp3_vec){vectors[i].iov_base, vectors[i].iov_len};
        length += vectors[i].iov_len;
    }
    if (h3_stream_keep(stream, length) != ERROR_NONE) {
        return give_up(stream);
    }
    if (exchange->response_body.unsent == 0 && exchange->response_end) {
        *flags |= NGHTTP3_DATA_FLAG_EOF;
        if (exchange->trailer_count > 0) {
            *flags |= NGHTTP3_DATA_FLAG_NO_END_STREAM;
            if (submit_trailers(stream) != 0) {
                return give_up(stream);
            }
        }
    }
    return (nghttp3_ssize)count;
}

void h3_resume_body(struct exchange *exchange)
{
    struct h3_stream *stream = h3_stream_of(exchange);
    struct h3_conn *h3 = stream->h3;
    if (!h3_is_open(h3)) {
        return;
    }
    if (stream->deferred && !stream->closed) {
        stream->deferred = false;
        if (nghttp3_conn_resume_stream(h3->session, stream->id) != 0) {
            h3_no_memory(h3);
        }
    }
    quic_conn_mark_dirty(h3->quic);
    h3_timers_arm(h3);
}

/* --- heads --------------------------------------------------------------------------------------- */

/* RFC 9218 8: what the app says of its response's priority counts more than what the client said. A value that cannot be read leaves it
 * as it is (RFC 9218 4). */
static void apply_priority(struct h3_stream *stream, const struct response_head *head)
{
    const struct field *field = head_find(head->fields, head->field_count, SLICE("priority"));
    nghttp3_conn *session = stream->h3->session;
    nghttp3_pri priority;
    if (field == NULL || nghttp3_conn_get_stream_priority(session, &priority, stream->id) != 0) {
        return;
    }
    if (nghttp3_pri_parse_priority(&priority, (const uint8_t *)field->value.data,
                                   field->value.length) == 0 &&
        nghttp3_conn_set_server_stream_priority(session, stream->id, &priority) != 0) {
        h3_no_memory(stream->h3);
    }
}

static int submit(struct h3_stream *stream, const struct pairs *pairs, bool final, bool end)
{
    static const nghttp3_data_reader body = {.read_data = read_body};
    nghttp3_conn *session = stream->h3->session;
    if (!final) {
        return nghttp3_conn_submit_info(session, stream->id, pairs->items, pairs->count);
    }
    return nghttp3_conn_submit_response(session, stream->id, pairs->items, pairs->count,
                                        end ? NULL : &body);
}

enum error h3_send_head(struct exchange *exchange, const struct response_head *head, bool end)
{
    struct h3_stream *stream = h3_stream_of(exchange);
    struct h3_conn *h3 = stream->h3;
    nghttp3_nv stack[PAIRS];
    char status[8];
    bool final = head->status >= 200;
    size_t most = 1 + head->field_count + own_fields_most(h3_http_settings(h3));
    if (!h3_is_open(h3) || stream->closed || stream->reset_out) {
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
        add_own_fields(&pairs, h3, head);
        apply_priority(stream, head);
        stream->answering = true;
        stream->tunnel = exchange->request.kind == REQUEST_WEBSOCKET && head->status / 100 == 2;
    }
    quic_conn_mark_dirty(h3->quic);
    h3_timers_arm(h3);
    int error = submit(stream, &pairs, final, end);
    if (error == 0) {
        return ERROR_NONE;
    }
    return error == NGHTTP3_ERR_NOMEM ? ERROR_NO_MEMORY : ERROR_CLOSED;
}
