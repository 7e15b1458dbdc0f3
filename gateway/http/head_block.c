/* SPDX-License-Identifier: MIT */
/* Refuses, never repairs, like h1/: pseudo-fields into a request_head, one host, and no field that belongs to a connection. */
#include "http/head_block.h"

#include <string.h>

#include "base/metrics.h"
#include "http/fields.h"

#define FIRST_CAPACITY 16

static void refuse(struct head_block *block, unsigned status, const char *text)
{
    if (block->status == 0) {
        block->status = status;
        block->text = text;
    }
}

void head_block_begin(struct head_block *block, struct arena *arena,
                      const struct http_settings *settings)
{
    *block = (struct head_block){.arena = arena, .settings = settings};
}

/* --- counting ------------------------------------------------------------------------------------ */

static void count_trailer(struct head_block *block, struct slice name, struct slice value)
{
    block->counted++;
    block->bytes += name.length + value.length + HEAD_BLOCK_FIELD_OVERHEAD;
    if (block->status == 0 && (block->counted > block->settings->trailer_fields_max ||
                               block->bytes > block->settings->trailer_block_max)) {
        METRIC_INCREMENT(limit_trailers);
        refuse(block, 431, "The request trailers are too large.");
    }
}

static void count_field(struct head_block *block, struct slice name, struct slice value)
{
    const struct http_settings *settings = block->settings;
    bool crumb = slice_equal(name, SLICE("cookie"));
    block->bytes += name.length + value.length + HEAD_BLOCK_FIELD_OVERHEAD;
    block->crumbs += crumb;
    block->counted += !crumb;
    if (block->status != 0) {
        return;
    }
    if (block->crumbs > settings->cookie_crumbs_max) {
        METRIC_INCREMENT(limit_cookie_crumbs);
        refuse(block, 431, "The request has too many cookie fields.");
    } else if (block->counted > settings->header_fields_max) {
        METRIC_INCREMENT(limit_header_fields);
        refuse(block, 431, "The request has too many header fields.");
    } else if (block->bytes > settings->header_block_max) {
        METRIC_INCREMENT(limit_header_block);
        refuse(block, 431, "The request header fields are too large.");
    }
}

/* --- keeping ------------------------------------------------------------------------------------- */

static bool reserve(struct head_block *block)
{
    if (block->field_count < block->field_capacity) {
        return true;
    }
    size_t capacity = block->field_capacity == 0 ? FIRST_CAPACITY : 2 * block->field_capacity;
    struct field *fields = arena_alloc(block->arena, capacity * sizeof *fields);
    if (fields == NULL) {
        return false;
    }
    if (block->field_count > 0) {
        memcpy(fields, block->fields, block->field_count * sizeof *fields);
    }
    block->fields = fields;
    block->field_capacity = capacity;
    return true;
}

static void keep_pseudo(struct head_block *block, struct slice name, struct slice value)
{
    struct slice *place = slice_equal(name, SLICE(":method"))      ? &block->method
                          : slice_equal(name, SLICE(":scheme"))    ? &block->scheme
                          : slice_equal(name, SLICE(":authority")) ? &block->authority
                          : slice_equal(name, SLICE(":path"))      ? &block->path
                          : slice_equal(name, SLICE(":protocol"))  ? &block->protocol
                                                                   : NULL;
    if (place == NULL) {
        refuse(block, 400, "The request has an unknown pseudo-field.");
        return;
    }
    if (place == &block->path && value.length > block->settings->target_max) {
        METRIC_INCREMENT(limit_target);
        refuse(block, 414, "The request target is too long.");
        return;
    }
    *place = arena_copy(block->arena, value);
    block->no_memory |= place->data == NULL;
}

void head_block_field(struct head_block *block, struct slice name, struct slice value)
{
    if (block->arena == NULL) {
        count_trailer(block, name, value);
        return;
    }
    bool pseudo = name.length > 0 && name.data[0] == ':';
    if (!pseudo) {
        count_field(block, name, value);
    }
    if (block->status != 0 || block->no_memory) {
        return;
    }
    if (pseudo) {
        keep_pseudo(block, name, value);
        return;
    }
    if (!field_name_valid(name) || !field_value_valid(value)) {
        refuse(block, 400, "A header field is malformed.");
        return;
    }
    if (block->settings->drop_underscore_fields && memchr(name.data, '_', name.length) != NULL) {
        return;
    }
    struct field field = {arena_copy(block->arena, name), arena_copy(block->arena, value)};
    if (field.name.data == NULL || field.value.data == NULL || !reserve(block)) {
        block->no_memory = true;
        return;
    }
    block->fields[block->field_count++] = field;
}

/* --- the whole head ------------------------------------------------------------------------------ */

/* What `:protocol` says (RFC 8441 4, RFC 9220 3): of all that CONNECT can ask for, WebSockets are spoken here. */
static void check_protocol(struct head_block *block, struct request_head *head)
{
    if (!slice_equal(block->method, SLICE("CONNECT"))) {
        refuse(block, 400, "The field :protocol belongs to CONNECT.");
    } else if (!slice_equal_nocase(block->protocol, SLICE("websocket"))) {
        refuse(block, 501, "This server does not implement the protocol of the extended CONNECT.");
    } else {
        head->kind = REQUEST_WEBSOCKET;
        head->method = SLICE("GET");
    }
}

static bool check_method(struct head_block *block, struct request_head *head)
{
    head->method = block->method;
    if (block->method.length == 0 || !field_name_valid(block->method)) {
        refuse(block, 400, "The request has no method.");
    } else if (block->protocol.data != NULL) {
        check_protocol(block, head);
    } else if (slice_equal(block->method, SLICE("CONNECT")) ||
               slice_equal(block->method, SLICE("TRACE"))) {
        refuse(block, 501, "This server does not implement the request method.");
    }
    return block->status == 0;
}

static bool check_target(struct head_block *block, struct request_head *head)
{
    head->target = block->path;
    if (!slice_equal(block->scheme, SLICE("http")) && !slice_equal(block->scheme, SLICE("https"))) {
        refuse(block, 400, "The scheme of the request is neither http nor https.");
        return false;
    }
    if (slice_equal(block->path, SLICE("*")) && !slice_equal(block->method, SLICE("OPTIONS"))) {
        refuse(block, 400, "The request target * belongs to OPTIONS.");
        return false;
    }
    switch (head_parse_target(block->arena, block->path, head)) {
    case ERROR_NONE:
        return true;
    case ERROR_NO_MEMORY:
        block->no_memory = true;
        return false;
    default:
        refuse(block, 400, "The request target is malformed.");
        return false;
    }
}

/* RFC 9113 8.3.1, RFC 9114 4.3.1: :authority and Host must not differ; one of them must be there (RFC 9110 7.2). */
static bool check_host(struct head_block *block, bool secure, struct request_head *head)
{
    struct slice host = {NULL, 0};
    for (size_t i = 0; i < block->field_count; i++) {
        if (!slice_equal(block->fields[i].name, SLICE("host"))) {
            continue;
        }
        if (host.data != NULL) {
            refuse(block, 400, "The request has two Host fields.");
            return false;
        }
        host = block->fields[i].value;
    }
    struct slice source = block->authority.data != NULL ? block->authority : host;
    if (source.data == NULL || !authority_valid(source) ||
        (host.data != NULL && !authority_valid(host))) {
        refuse(block, 400, "The request names no valid host.");
        return false;
    }
    if (host.data != NULL && !authority_equal(host, source, secure)) {
        refuse(block, 400, "The Host field and :authority differ.");
        return false;
    }
    char *lower = arena_alloc(block->arena, source.length + 1);
    if (lower == NULL) {
        block->no_memory = true;
        return false;
    }
    for (size_t i = 0; i < source.length; i++) {
        char c = source.data[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    head->authority = (struct slice){lower, source.length};
    block->authority = source;
    return true;
}

/* Notes a field that concerns us; true when the app sees it too. */
static bool note_field(struct head_block *block, const struct field *field,
                       struct request_head *head)
{
    unsigned long long length;
    if (slice_equal(field->name, SLICE("te"))) {
        /* RFC 9113 8.2.2, RFC 9114 4.2: nothing else may stand there, and the library has seen to it. */
        head->te_trailers = slice_equal_nocase(field->value, SLICE("trailers"));
        return false;
    }
    if (slice_equal(field->name, SLICE("expect"))) {
        if (!slice_equal_nocase(field->value, SLICE("100-continue"))) {
            refuse(block, 417, "The expectation of the request is unknown.");
        }
        head->expect_continue = head->has_body;
        return false;
    }
    if (slice_equal(field->name, SLICE("content-length"))) {
        if (head->content_length >= 0 || !slice_to_uint(field->value, INT64_MAX, &length)) {
            refuse(block, 400, "Content-Length is malformed.");
            return false;
        }
        head->content_length = (int64_t)length;
    }
    return !slice_equal(field->name, SLICE("host")) && !field_is_connection_specific(field->name);
}

/* Puts Host first (ASGI wants it so) and takes out what is not the app's. */
static bool sort_fields(struct head_block *block, struct request_head *head)
{
    struct field *fields =
        arena_alloc(block->arena, (block->field_count + 1) * sizeof *block->fields);
    if (fields == NULL) {
        block->no_memory = true;
        return false;
    }
    size_t count = 0;
    fields[count++] = (struct field){SLICE("host"), block->authority};
    for (size_t i = 0; i < block->field_count; i++) {
        if (note_field(block, &block->fields[i], head)) {
            fields[count++] = block->fields[i];
        }
    }
    head->fields = fields;
    head->field_count = count;
    return block->status == 0;
}

/* A WebSocket's request ends with its head, and what follows is its tunnel. */
static bool check_tunnel(struct head_block *block, bool secure, bool end, struct request_head *head)
{
    if (head->kind != REQUEST_WEBSOCKET) {
        return true;
    }
    if (end) {
        refuse(block, 400, "The tunnel of the WebSocket ended with its request.");
    } else if (head->content_length >= 0) {
        refuse(block, 400, "A WebSocket handshake must not have a body.");
    }
    head->scheme = secure ? SLICE("wss") : SLICE("ws");
    head->expect_continue = false;
    return block->status == 0;
}

bool head_block_finish(struct head_block *block, enum http_version version, bool secure, bool end,
                       struct request_head *head)
{
    *head = (struct request_head){
        .kind = REQUEST_HTTP,
        .version = version,
        .method = block->method,
        .scheme = secure ? SLICE("https") : SLICE("http"),
        .target = block->path,
        .authority = {"", 0},
        .content_length = -1,
        .has_body = !end,
    };
    if (block->status != 0 || block->no_memory) {
        return false;
    }
    return check_method(block, head) && check_target(block, head) &&
           check_host(block, secure, head) && sort_fields(block, head) &&
           check_tunnel(block, secure, end, head);
}
