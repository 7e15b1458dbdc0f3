/* SPDX-License-Identifier: MIT */
/* Serialisation. Names and values were checked by response_head_check; nothing here can add a line of its own to them. */
#include "h1/h1_write.h"

#include <stdio.h>
#include <string.h>

#include "http/own_fields.h"
#include "http/respond.h"

/* Text of known length: first measured with data NULL, then written. */
struct sink {
    char *data;
    size_t length;
};

static void put(struct sink *sink, struct slice bytes)
{
    if (sink->data != NULL && bytes.length > 0) {
        memcpy(sink->data + sink->length, bytes.data, bytes.length);
    }
    sink->length += bytes.length;
}

static void put_field(struct sink *sink, struct slice name, struct slice value)
{
    put(sink, name);
    put(sink, SLICE(": "));
    put(sink, value);
    put(sink, SLICE("\r\n"));
}

static bool has_field(const struct response_head *head, struct slice name)
{
    return head_find(head->fields, head->field_count, name) != NULL;
}

static void put_own_fields(struct sink *sink, const struct h1_head_context *context,
                           const struct response_head *head)
{
    const struct own_fields own = {context->settings, context->date, context->alt_svc};
    struct field field;
    for (size_t i = 0; i < own_fields_most(context->settings); i++) {
        if (own_fields_get(&own, i, head, &field)) {
            put_field(sink, field.name, field.value);
        }
    }
}

/* Whether an empty body must be announced: these responses would have one otherwise (RFC 9112 6.3). */
static bool needs_zero_length(const struct h1_head_context *context,
                              const struct response_head *head, enum body_framing framing)
{
    if (has_field(head, SLICE("content-length")) || head->status == 204 || head->status == 304 ||
        slice_equal(context->request->method, SLICE("HEAD"))) {
        return false;
    }
    return framing == BODY_NONE || (framing == BODY_OPEN && context->end);
}

static void put_head(struct sink *sink, const struct h1_writer *writer,
                     const struct h1_head_context *context, const struct response_head *head)
{
    char status[16];
    int length = snprintf(status, sizeof status, "HTTP/1.1 %03u ", head->status);
    put(sink, (struct slice){status, (size_t)length});
    put(sink, slice_from(status_phrase(head->status)));
    put(sink, SLICE("\r\n"));
    for (size_t i = 0; i < head->field_count; i++) {
        put_field(sink, head->fields[i].name, head->fields[i].value);
    }
    if (head->status == 101) {
        put(sink, SLICE("upgrade: websocket\r\nconnection: Upgrade\r\n"));
    } else if (head->status >= 200) {
        enum body_framing framing = response_framing(context->request, head);
        put_own_fields(sink, context, head);
        if (writer->chunked) {
            put(sink, SLICE("transfer-encoding: chunked\r\n"));
        } else if (context->whole) {
            char text[24];
            int digits = snprintf(text, sizeof text, "%zu", context->length);
            put_field(sink, SLICE("content-length"), (struct slice){text, (size_t)digits});
        } else if (needs_zero_length(context, head, framing)) {
            put(sink, SLICE("content-length: 0\r\n"));
        }
        if (context->close) {
            put(sink, SLICE("connection: close\r\n"));
        } else if (context->request->version == HTTP_1_0) {
            put(sink, SLICE("connection: keep-alive\r\n"));
        }
    }
    put(sink, SLICE("\r\n"));
}

void h1_writer_init(struct h1_writer *writer)
{
    *writer = (struct h1_writer){.chunked = false};
}

enum error h1_writer_head(struct h1_writer *writer, struct arena *arena,
                          const struct h1_head_context *context, const struct response_head *head)
{
    struct sink sink = {NULL, 0};
    REQUIRE(!writer->final);
    bool tunnel = head->status == 101; /* what follows are the tunnel's bytes as they are */
    bool final = head->status >= 200 || tunnel;
    if (final && !tunnel && !context->end && !context->whole &&
        response_framing(context->request, head) == BODY_OPEN) {
        writer->chunked = context->request->version != HTTP_1_0;
        writer->close_marks_end = !writer->chunked;
        REQUIRE(writer->chunked || context->close);
    }
    put_head(&sink, writer, context, head);
    size_t waiting = writer->head.length;
    char *data = arena_alloc(arena, waiting + sink.length);
    if (data == NULL) {
        return ERROR_NO_MEMORY;
    }
    if (waiting > 0) {
        memcpy(data, writer->head.data, waiting);
    }
    sink = (struct sink){data, waiting};
    put_head(&sink, writer, context, head);
    writer->head = (struct slice){data, sink.length};
    writer->final = final;
    return ERROR_NONE;
}

/* "\r\n" (when a chunk stands before it) "0\r\n" trailers "\r\n": RFC 9112 7.1. */
static enum error plan_last_chunk(struct h1_writer *writer, struct arena *arena,
                                  const struct field *trailers, size_t count)
{
    struct slice before = writer->body_left > 0 ? SLICE("\r\n0\r\n") : SLICE("0\r\n");
    if (count == 0) {
        writer->tail = writer->body_left > 0 ? SLICE("\r\n0\r\n\r\n") : SLICE("0\r\n\r\n");
        return ERROR_NONE;
    }
    struct sink sink = {NULL, 0};
    for (int pass = 0; pass < 2; pass++) {
        sink.length = 0;
        put(&sink, before);
        for (size_t i = 0; i < count; i++) {
            put_field(&sink, trailers[i].name, trailers[i].value);
        }
        put(&sink, SLICE("\r\n"));
        if (pass == 0) {
            sink.data = arena_alloc(arena, sink.length);
            if (sink.data == NULL) {
                return ERROR_NO_MEMORY;
            }
        }
    }
    writer->tail = (struct slice){sink.data, sink.length};
    return ERROR_NONE;
}

enum error h1_writer_plan(struct h1_writer *writer, struct arena *arena, const struct byteq *body,
                          bool end, const struct field *trailers, size_t trailer_count)
{
    bool busy = writer->chunk_sent < writer->chunk_length || writer->body_left > 0 ||
                writer->tail.length > 0;
    if (!writer->final || writer->last || busy) {
        return ERROR_NONE;
    }
    writer->body_left = body->unsent;
    if (writer->chunked && writer->body_left > 0) {
        int length =
            snprintf(writer->chunk_line, sizeof writer->chunk_line, "%zx\r\n", writer->body_left);
        writer->chunk_length = (size_t)length;
        writer->chunk_sent = 0;
        writer->tail = SLICE("\r\n");
    }
    if (!end) {
        return ERROR_NONE;
    }
    writer->last = true;
    if (!writer->chunked) {
        return ERROR_NONE;
    }
    return plan_last_chunk(writer, arena, trailers, trailer_count);
}

static size_t add_vector(struct iovec *vectors, size_t count, const char *data, size_t length)
{
    if (length == 0) {
        return count;
    }
    /* iovec has no const; writev does not write. */
    vectors[count].iov_base = (void *)(uintptr_t)data;
    vectors[count].iov_len = length;
    return count + 1;
}

size_t h1_writer_gather(const struct h1_writer *writer, const struct byteq *body,
                        struct iovec *vectors, size_t max)
{
    REQUIRE(max >= 4);
    size_t count = add_vector(vectors, 0, writer->head.data, writer->head.length);
    count = add_vector(vectors, count, writer->chunk_line + writer->chunk_sent,
                       writer->chunk_length - writer->chunk_sent);
    size_t covered = 0;
    if (writer->body_left > 0) {
        size_t pieces = byteq_peek(body, vectors + count, max - 1 - count, writer->body_left);
        for (size_t i = 0; i < pieces; i++) {
            covered += vectors[count + i].iov_len;
        }
        count += pieces;
    }
    if (covered == writer->body_left) {
        count = add_vector(vectors, count, writer->tail.data, writer->tail.length);
    }
    return count;
}

static size_t take(size_t *left, size_t available)
{
    size_t taken = *left < available ? *left : available;
    *left -= taken;
    return taken;
}

size_t h1_writer_sent(struct h1_writer *writer, size_t length)
{
    size_t head = take(&length, writer->head.length);
    writer->head = slice_skip(writer->head, head);
    writer->chunk_sent += take(&length, writer->chunk_length - writer->chunk_sent);
    size_t body = take(&length, writer->body_left);
    writer->body_left -= body;
    size_t tail = take(&length, writer->tail.length);
    writer->tail = slice_skip(writer->tail, tail);
    REQUIRE(length == 0);
    return body;
}

bool h1_writer_pending(const struct h1_writer *writer)
{
    return writer->head.length > 0 || writer->chunk_sent < writer->chunk_length ||
           writer->body_left > 0 || writer->tail.length > 0;
}

bool h1_writer_finished(const struct h1_writer *writer)
{
    return writer->last && !h1_writer_pending(writer);
}
