/* SPDX-License-Identifier: MIT */
/*
 * Drives llhttp in pieces that end where a limit ends, so that what is refused, and why, depends on the bytes and not on how
 * they were split.
 */
#include "h1/h1_parse.h"

#include <string.h>

#include "http/fields.h"

#define FIELDS_FIRST 24

/* --- what llhttp tells ---------------------------------------------------------------------------------------------- */

static struct h1_parser *parser_of(llhttp_t *llhttp)
{
    return llhttp->data;
}

/* Remembers the first error and stops llhttp. */
static int refuse(struct h1_parser *parser, enum h1_error error)
{
    if (parser->error == H1_ERROR_NONE) {
        parser->error = error;
    }
    return HPE_USER;
}

static int on_field(llhttp_t *llhttp, const char *at, size_t length)
{
    struct h1_parser *parser = parser_of(llhttp);
    if (parser->state == H1_PARSE_TRAILERS) {
        return 0; /* llhttp has checked them; nobody reads them (trailers are validated, counted and dropped) */
    }
    return h1_text_append_lower(&parser->text, at, length) ? 0 : refuse(parser, H1_ERROR_NO_MEMORY);
}

static int grow_fields(struct h1_parser *parser)
{
    size_t capacity = parser->field_capacity > 0 ? parser->field_capacity * 2 : FIELDS_FIRST;
    struct field *fields = arena_calloc(parser->text.arena, capacity, sizeof *fields);
    if (fields == NULL) {
        return refuse(parser, H1_ERROR_NO_MEMORY);
    }
    if (parser->field_count > 0) {
        memcpy(fields, parser->fields, parser->field_count * sizeof *fields);
    }
    parser->fields = fields;
    parser->field_capacity = capacity;
    return 0;
}

static int on_field_complete(llhttp_t *llhttp)
{
    struct h1_parser *parser = parser_of(llhttp);
    if (parser->state == H1_PARSE_TRAILERS) {
        return ++parser->trailer_count > parser->settings->trailer_fields_max
                   ? refuse(parser, H1_ERROR_TRAILERS_MANY)
                   : 0;
    }
    struct slice name = h1_text_finish(&parser->text);
    if (!field_name_valid(name)) {
        return refuse(parser, H1_ERROR_FIELD_NAME);
    }
    if (slice_equal(name, SLICE("cookie"))) {
        if (++parser->cookie_count > parser->settings->cookie_crumbs_max) {
            return refuse(parser, H1_ERROR_COOKIES_MANY);
        }
    } else if (parser->field_count - parser->cookie_count >= parser->settings->header_fields_max) {
        return refuse(parser, H1_ERROR_FIELDS_MANY);
    }
    if (parser->field_count == parser->field_capacity && grow_fields(parser) != 0) {
        return HPE_USER;
    }
    parser->fields[parser->field_count++].name = name;
    return 0;
}

static int on_value(llhttp_t *llhttp, const char *at, size_t length)
{
    struct h1_parser *parser = parser_of(llhttp);
    if (parser->state == H1_PARSE_TRAILERS) {
        return 0;
    }
    return h1_text_append(&parser->text, at, length) ? 0 : refuse(parser, H1_ERROR_NO_MEMORY);
}

static int on_value_complete(llhttp_t *llhttp)
{
    struct h1_parser *parser = parser_of(llhttp);
    if (parser->state == H1_PARSE_TRAILERS) {
        return 0;
    }
    struct field *field = &parser->fields[parser->field_count - 1];
    field->value = slice_trim(h1_text_finish(&parser->text));
    if (!field_value_valid(field->value)) {
        return refuse(parser, H1_ERROR_FIELD_VALUE);
    }
    if (parser->settings->drop_underscore_fields &&
        memchr(field->name.data, '_', field->name.length) != NULL) {
        parser->field_count--;
    }
    return 0;
}

static int on_complete(llhttp_t *llhttp)
{
    parser_of(llhttp)->complete = true;
    return HPE_PAUSED;
}

/* A chunk's first line is over; llhttp has its length in content_length. */
static int on_chunk_header(llhttp_t *llhttp)
{
    struct h1_parser *parser = parser_of(llhttp);
    parser->complete = true;
    parser->left = llhttp->content_length;
    return HPE_PAUSED;
}

static const llhttp_settings_t callbacks = {
    .on_header_field = on_field,
    .on_header_field_complete = on_field_complete,
    .on_header_value = on_value,
    .on_header_value_complete = on_value_complete,
    .on_headers_complete = on_complete,
    .on_message_complete = on_complete,
    .on_chunk_header = on_chunk_header,
};

/* What llhttp's own refusal means; by place when its code does not say. */
static enum h1_error error_of(const struct h1_parser *parser, llhttp_errno_t code)
{
    switch (parser->state) {
    case H1_PARSE_LINE:
        return H1_ERROR_SYNTAX;
    case H1_PARSE_CHUNK_LINE:
    case H1_PARSE_CHUNK_DATA:
        return H1_ERROR_CHUNK;
    case H1_PARSE_TRAILERS:
        return H1_ERROR_TRAILER;
    default:
        break;
    }
    switch (code) {
    case HPE_INVALID_CONTENT_LENGTH:
        return H1_ERROR_LENGTH;
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        return H1_ERROR_LENGTH_AND_TE;
    case HPE_INVALID_TRANSFER_ENCODING:
        return H1_ERROR_TE;
    case HPE_INVALID_HEADER_TOKEN:
    case HPE_LF_EXPECTED:
    case HPE_CR_EXPECTED:
    case HPE_UNEXPECTED_SPACE:
        return H1_ERROR_FIELD_VALUE;
    default:
        return H1_ERROR_SYNTAX;
    }
}

/* Gives llhttp bytes. True when it took them all or paused after `*ret_used` of them (then parser->complete). */
static bool run_llhttp(struct h1_parser *parser, const char *data, size_t length, size_t *ret_used)
{
    parser->complete = false;
    llhttp_errno_t code = llhttp_execute(&parser->llhttp, data, length);
    if (code == HPE_OK) {
        *ret_used = length;
        return true;
    }
    *ret_used = (size_t)(llhttp_get_error_pos(&parser->llhttp) - data);
    if (code == HPE_PAUSED) {
        llhttp_resume(&parser->llhttp);
        return true;
    }
    if (parser->error == H1_ERROR_NONE) {
        parser->error = error_of(parser, code);
    }
    return false;
}

/* --- the states ------------------------------------------------------------------------------------------------------- */

void h1_parser_init(struct h1_parser *parser, const struct http_settings *settings,
                    const struct h1_settings *h1_settings, bool secure)
{
    *parser =
        (struct h1_parser){.settings = settings, .h1_settings = h1_settings, .secure = secure};
    llhttp_init(&parser->llhttp, HTTP_REQUEST, &callbacks);
}

void h1_parser_begin(struct h1_parser *parser, struct arena *arena, struct request_head *head)
{
    REQUIRE(parser->state == H1_PARSE_BETWEEN);
    llhttp_reset(&parser->llhttp);
    parser->llhttp.data = parser;
    parser->state = H1_PARSE_LINE;
    parser->error = H1_ERROR_NONE;
    parser->head = head;
    *head = (struct request_head){.version = HTTP_1_1, .content_length = -1};
    h1_line_init(&parser->line, parser->settings->target_max);
    h1_text_init(&parser->text, arena);
    parser->fields = NULL;
    parser->field_count = parser->field_capacity = parser->cookie_count = parser->trailer_count = 0;
    parser->block = parser->left = parser->body_read = parser->body_bytes = 0;
    parser->message = (struct h1_message){.chunked = false};
}

static enum h1_event fail(struct h1_parser *parser, enum h1_error error)
{
    parser->error = parser->error != H1_ERROR_NONE ? parser->error : error;
    parser->state = H1_PARSE_FAILED;
    return H1_EVENT_FAILED;
}

/* Robustness of RFC 9112 2.2: at least one empty line before a request is ignored. */
static enum h1_event feed_between(struct h1_parser *parser, const char *data, size_t length,
                                  size_t *used)
{
    while (*used < length) {
        bool half = parser->leading % 2 == 1;
        char c = data[*used];
        if (!half && c != '\r' && c != '\n') {
            parser->leading = 0;
            return H1_EVENT_BEGIN;
        }
        if (c != (half ? '\n' : '\r')) {
            return fail(parser, H1_ERROR_LINE_START);
        }
        (*used)++;
        if (++parser->leading > parser->h1_settings->leading_crlf_max * 2) {
            return fail(parser, H1_ERROR_LEADING_CRLF);
        }
    }
    return H1_EVENT_NEED_DATA;
}

static enum h1_event feed_line(struct h1_parser *parser, const char *data, size_t length,
                               size_t *used)
{
    size_t taken = 0;
    struct slice bytes = {data + *used, length - *used};
    enum h1_error error = h1_line_feed(&parser->line, &parser->text, bytes, &taken, &parser->parts);
    *used += taken;
    if (error != H1_ERROR_NONE) {
        return fail(parser, error);
    }
    if (parser->line.state != H1_LINE_DONE) {
        return H1_EVENT_NEED_DATA;
    }
    if (parser->parts.h2_preface) {
        parser->state = H1_PARSE_FAILED;
        parser->error = H1_ERROR_VERSION;
        return H1_EVENT_H2_PREFACE;
    }
    parser->head->method = parser->parts.method;
    parser->head->target = parser->parts.target;
    parser->head->version = parser->parts.version;
    /* The second opinion: llhttp must take the line too. */
    if (!run_llhttp(parser, parser->parts.line.data, parser->parts.line.length, &taken)) {
        return fail(parser, H1_ERROR_SYNTAX);
    }
    parser->state = H1_PARSE_FIELDS;
    return H1_EVENT_NEED_DATA;
}

/* Both parsers must agree about the body: RFC 9112 6.3. */
static bool framing_agrees(const struct h1_parser *parser)
{
    bool chunked = (parser->llhttp.flags & F_CHUNKED) != 0;
    bool has_length = (parser->llhttp.flags & F_CONTENT_LENGTH) != 0;
    return chunked == parser->message.chunked &&
           has_length == (parser->head->content_length >= 0) &&
           (!has_length || parser->llhttp.content_length == (uint64_t)parser->head->content_length);
}

static enum h1_event finish_head(struct h1_parser *parser)
{
    struct h1_line_parts parts = parser->parts;
    enum h1_error error =
        h1_check_head(parser->text.arena, &parts, parser->fields, parser->field_count,
                      parser->secure, parser->head, &parser->message);
    if (error == H1_ERROR_NONE && !framing_agrees(parser)) {
        error = H1_ERROR_FRAMING_DOUBT;
    }
    if (error != H1_ERROR_NONE) {
        return fail(parser, error);
    }
    parser->block = 0;
    if (parser->message.chunked) {
        parser->state = H1_PARSE_CHUNK_LINE;
    } else if (parser->head->has_body) {
        parser->left = (uint64_t)parser->head->content_length;
        parser->state = H1_PARSE_LENGTH;
    } else {
        parser->state = H1_PARSE_ENDED;
    }
    return H1_EVENT_HEAD;
}

/* Gives llhttp what may still come of a block of at most `max` bytes, and one byte more to learn that it is longer. */
static bool run_bounded(struct h1_parser *parser, const char *data, size_t length, size_t *used,
                        uint64_t max)
{
    size_t piece = length - *used;
    size_t taken = 0;
    if (piece > max + 1 - parser->block) {
        piece = (size_t)(max + 1 - parser->block);
    }
    bool ok = run_llhttp(parser, data + *used, piece, &taken);
    *used += taken;
    parser->block += taken;
    return ok;
}

static enum h1_event feed_fields(struct h1_parser *parser, const char *data, size_t length,
                                 size_t *used)
{
    uint64_t max = parser->settings->header_block_max;
    if (!run_bounded(parser, data, length, used, max)) {
        return fail(parser, H1_ERROR_SYNTAX);
    }
    if (parser->block > max) {
        return fail(parser, H1_ERROR_BLOCK_LONG);
    }
    return parser->complete ? finish_head(parser) : H1_EVENT_NEED_DATA;
}

static enum h1_event feed_length(struct h1_parser *parser, const char *data, size_t length,
                                 size_t *used, struct slice *ret_body)
{
    size_t piece = length - *used;
    if (piece == 0) {
        return H1_EVENT_NEED_DATA;
    }
    if (piece > parser->left) {
        piece = (size_t)parser->left;
    }
    *ret_body = (struct slice){data + *used, piece};
    *used += piece;
    parser->left -= piece;
    parser->body_bytes += piece;
    if (parser->left == 0) {
        parser->state = H1_PARSE_ENDED;
    }
    return H1_EVENT_BODY;
}

/* The line of a chunk: hexadecimal length, extensions (ignored), CR LF; before it the CR LF of the chunk before. */
static bool feed_chunk_line(struct h1_parser *parser, const char *data, size_t length, size_t *used)
{
    uint64_t max = parser->h1_settings->chunk_line_max;
    size_t before = *used;
    if (!run_bounded(parser, data, length, used, max)) {
        return false;
    }
    parser->body_read += *used - before;
    if (parser->block > max) {
        parser->error = H1_ERROR_CHUNK_LINE;
        return false;
    }
    uint64_t overhead = parser->body_read - parser->body_bytes;
    if (overhead > parser->h1_settings->chunk_overhead_max &&
        parser->body_bytes < parser->body_read / 4 && parser->complete) {
        parser->error = H1_ERROR_CHUNK_OVERHEAD;
        return false;
    }
    if (parser->complete) {
        parser->block = 0;
        parser->state = parser->left > 0 ? H1_PARSE_CHUNK_DATA : H1_PARSE_TRAILERS;
    }
    return true;
}

static bool feed_trailers(struct h1_parser *parser, const char *data, size_t length, size_t *used)
{
    uint64_t max = parser->settings->trailer_block_max + 2; /* the empty line is not theirs */
    if (!run_bounded(parser, data, length, used, max)) {
        return false;
    }
    if (parser->block > max) {
        parser->error = H1_ERROR_TRAILERS_LONG;
        return false;
    }
    if (parser->complete) {
        parser->state = H1_PARSE_ENDED;
    }
    return true;
}

/* The payload of a chunk, moved behind the payload that this call already has. */
static bool feed_chunk_data(struct h1_parser *parser, char *data, size_t length, size_t *used,
                            struct slice *body)
{
    size_t piece = length - *used;
    size_t taken = 0;
    if (piece > parser->left) {
        piece = (size_t)parser->left;
    }
    if (!run_llhttp(parser, data + *used, piece, &taken)) {
        return false;
    }
    REQUIRE(taken == piece);
    if (body->length == 0) {
        body->data = data + *used;
    } else {
        memmove(data + (body->data - data) + body->length, data + *used, piece);
    }
    body->length += piece;
    *used += piece;
    parser->left -= piece;
    parser->body_read += piece;
    parser->body_bytes += piece;
    if (parser->left == 0) {
        parser->state = H1_PARSE_CHUNK_LINE;
    }
    return true;
}

static enum h1_event feed_chunked(struct h1_parser *parser, char *data, size_t length, size_t *used,
                                  struct slice *ret_body)
{
    struct slice body = {NULL, 0};
    bool ok = true;
    while (ok && *used < length && parser->state != H1_PARSE_ENDED) {
        switch (parser->state) {
        case H1_PARSE_CHUNK_LINE:
            ok = feed_chunk_line(parser, data, length, used);
            break;
        case H1_PARSE_CHUNK_DATA:
            ok = feed_chunk_data(parser, data, length, used, &body);
            break;
        default:
            ok = feed_trailers(parser, data, length, used);
            break;
        }
    }
    *ret_body = body;
    if (!ok) { /* the payload before the fault still counts; FAILED is the next event then */
        enum h1_event failed = fail(parser, H1_ERROR_CHUNK);
        return body.length > 0 ? H1_EVENT_BODY : failed;
    }
    return body.length > 0 ? H1_EVENT_BODY : H1_EVENT_NEED_DATA;
}

enum h1_event h1_parser_feed(struct h1_parser *parser, char *data, size_t length, size_t *ret_used,
                             struct slice *ret_body)
{
    enum h1_event event = H1_EVENT_NEED_DATA;
    size_t used = 0;
    *ret_body = (struct slice){NULL, 0};
    while (event == H1_EVENT_NEED_DATA && (used < length || parser->state >= H1_PARSE_ENDED)) {
        switch (parser->state) {
        case H1_PARSE_BETWEEN:
            event = feed_between(parser, data, length, &used);
            break;
        case H1_PARSE_LINE:
            event = feed_line(parser, data, length, &used);
            break;
        case H1_PARSE_FIELDS:
            event = feed_fields(parser, data, length, &used);
            break;
        case H1_PARSE_LENGTH:
            event = feed_length(parser, data, length, &used, ret_body);
            break;
        case H1_PARSE_CHUNK_LINE:
        case H1_PARSE_CHUNK_DATA:
        case H1_PARSE_TRAILERS:
            event = feed_chunked(parser, data, length, &used, ret_body);
            break;
        case H1_PARSE_ENDED:
            parser->state = H1_PARSE_BETWEEN;
            parser->leading = 0;
            event = H1_EVENT_END;
            break;
        case H1_PARSE_FAILED:
            event = H1_EVENT_FAILED;
            break;
        }
    }
    *ret_used = used;
    return event;
}

uint64_t h1_parser_body_left(const struct h1_parser *parser)
{
    switch (parser->state) {
    case H1_PARSE_LENGTH:
        return parser->left;
    case H1_PARSE_BETWEEN:
    case H1_PARSE_ENDED:
        return 0;
    default:
        return UINT64_MAX;
    }
}
