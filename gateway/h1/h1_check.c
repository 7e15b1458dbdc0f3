/* SPDX-License-Identifier: MIT */
/* Refuses, never repairs: what two parsers could read in two ways is answered with 400 and the connection ends. */
#include "h1/h1_check.h"

#include <string.h>

#include "http/fields.h"

/* What the fields of one head say, collected in one pass. */
struct findings {
    const struct field *host, *length, *transfer_encoding;
    size_t hosts, lengths, transfer_encodings;
    bool close, keep_alive, connection_upgrade; /* Connection */
    bool upgrade_websocket;                     /* Upgrade */
    bool te_trailers;                           /* TE */
    bool expect, expect_other;                  /* Expect */
};

/* Takes the next non-empty element off a comma-separated list (RFC 9110 5.6.1). */
static bool next_element(struct slice *list, struct slice *ret_element)
{
    while (list->data != NULL) {
        struct slice element = slice_trim(slice_cut(*list, ',', list));
        if (element.length > 0) {
            *ret_element = element;
            return true;
        }
    }
    return false;
}

static void note_connection(struct findings *found, struct slice value)
{
    struct slice element;
    while (next_element(&value, &element)) {
        found->close |= slice_equal_nocase(element, SLICE("close"));
        found->keep_alive |= slice_equal_nocase(element, SLICE("keep-alive"));
        found->connection_upgrade |= slice_equal_nocase(element, SLICE("upgrade"));
    }
}

static bool list_has(struct slice value, struct slice wanted)
{
    struct slice element;
    while (next_element(&value, &element)) {
        struct slice parameters;
        if (slice_equal_nocase(slice_trim(slice_cut(element, ';', &parameters)), wanted)) {
            return true;
        }
    }
    return false;
}

static bool is_token_list(struct slice value)
{
    struct slice element = {NULL, 0};
    while (next_element(&value, &element)) {
        if (!field_name_valid(element)) {
            return false;
        }
    }
    return element.length > 0;
}

static void note_field(struct findings *found, const struct field *field)
{
    if (slice_equal(field->name, SLICE("host"))) {
        found->host = field;
        found->hosts++;
    } else if (slice_equal(field->name, SLICE("connection"))) {
        note_connection(found, field->value);
    } else if (slice_equal(field->name, SLICE("content-length"))) {
        found->length = field;
        found->lengths++;
    } else if (slice_equal(field->name, SLICE("transfer-encoding"))) {
        found->transfer_encoding = field;
        found->transfer_encodings++;
    } else if (slice_equal(field->name, SLICE("expect"))) {
        found->expect = true;
        found->expect_other |= !slice_equal_nocase(field->value, SLICE("100-continue"));
    } else if (slice_equal(field->name, SLICE("upgrade"))) {
        found->upgrade_websocket |= list_has(field->value, SLICE("websocket"));
    } else if (slice_equal(field->name, SLICE("te"))) {
        found->te_trailers |= list_has(field->value, SLICE("trailers"));
    }
}

/* RFC 9112 6.1, 6.3. Sets content_length and has_body. */
static enum h1_error check_framing(const struct findings *found, struct request_head *head,
                                   struct h1_message *message)
{
    unsigned long long length = 0;
    if (found->transfer_encodings > 0) {
        struct slice value = found->transfer_encoding->value;
        if (found->lengths > 0) {
            return H1_ERROR_LENGTH_AND_TE;
        }
        if (head->version == HTTP_1_0) {
            return H1_ERROR_TE_HTTP10;
        }
        if (found->transfer_encodings > 1) {
            return H1_ERROR_TE;
        }
        if (!slice_equal_nocase(value, SLICE("chunked"))) {
            return is_token_list(value) ? H1_ERROR_TE_UNKNOWN : H1_ERROR_TE;
        }
        message->chunked = true;
        head->has_body = true;
        return H1_ERROR_NONE;
    }
    if (found->lengths > 0) {
        if (found->lengths > 1 || !slice_to_uint(found->length->value, INT64_MAX, &length)) {
            return H1_ERROR_LENGTH;
        }
        head->content_length = (int64_t)length;
        head->has_body = length > 0;
    }
    return H1_ERROR_NONE;
}

/* The authority without a port that says nothing: RFC 9110 4.2.3. */
static struct slice without_default_port(struct slice authority, bool secure)
{
    struct slice port = secure ? SLICE(":443") : SLICE(":80");
    size_t length = authority.length;
    if (length > port.length &&
        memcmp(authority.data + length - port.length, port.data, port.length) == 0) {
        length -= port.length;
    } else if (length > 0 && authority.data[length - 1] == ':') {
        length--;
    }
    return (struct slice){authority.data, length};
}

/* RFC 9112 3.2: one Host on HTTP/1.1, at most one on HTTP/1.0; an authority in the target must say the same. */
static enum h1_error check_host(struct arena *arena, const struct findings *found, bool secure,
                                bool absolute, struct request_head *head)
{
    if (found->hosts > 1) {
        return H1_ERROR_HOST_TWICE;
    }
    if (found->hosts == 0 && head->version != HTTP_1_0) {
        return H1_ERROR_HOST_MISSING;
    }
    struct slice host = found->hosts > 0 ? found->host->value : (struct slice){"", 0};
    if (found->hosts > 0 && !authority_valid(host)) {
        return H1_ERROR_HOST_INVALID;
    }
    if (absolute && found->hosts > 0 &&
        !slice_equal_nocase(without_default_port(host, secure),
                            without_default_port(head->authority, secure))) {
        return H1_ERROR_HOST_DIFFERS;
    }
    struct slice source = absolute ? head->authority : host;
    char *lower = arena_alloc(arena, source.length + 1);
    if (lower == NULL) {
        return H1_ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < source.length; i++) {
        char c = source.data[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    head->authority = (struct slice){lower, source.length};
    return H1_ERROR_NONE;
}

/* Splits an absolute-form target (RFC 9112 3.2.2): sets the authority (as sent) and gives the origin-form. */
static enum h1_error split_absolute(struct arena *arena, struct slice target, bool secure,
                                    struct request_head *head, struct slice *ret_origin)
{
    const char *colon = memchr(target.data, ':', target.length);
    size_t scheme_length = colon != NULL ? (size_t)(colon - target.data) : 0;
    struct slice scheme = {target.data, scheme_length};
    bool https = slice_equal_nocase(scheme, SLICE("https"));
    if (colon == NULL || !(https || slice_equal_nocase(scheme, SLICE("http")))) {
        return H1_ERROR_TARGET_FORM;
    }
    struct slice rest = {colon, target.length - scheme_length};
    if (!slice_starts_with(rest, SLICE("://"))) {
        return H1_ERROR_TARGET_FORM;
    }
    if (https != secure) {
        return H1_ERROR_TARGET_SCHEME;
    }
    rest = (struct slice){rest.data + 3, rest.length - 3};
    size_t length = 0;
    while (length < rest.length && rest.data[length] != '/' && rest.data[length] != '?' &&
           rest.data[length] != '#') {
        length++;
    }
    head->authority = (struct slice){rest.data, length};
    rest = (struct slice){rest.data + length, rest.length - length};
    if (!authority_valid(head->authority)) {
        return H1_ERROR_HOST_INVALID;
    }
    if (rest.length == 0) {
        *ret_origin = slice_equal(head->method, SLICE("OPTIONS")) ? SLICE("*") : SLICE("/");
        return H1_ERROR_NONE;
    }
    if (rest.data[0] == '?') {
        rest = arena_format(arena, "/%.*s", SLICE_PRINT(rest));
    }
    *ret_origin = rest;
    return rest.data != NULL ? H1_ERROR_NONE : H1_ERROR_NO_MEMORY;
}

/* RFC 9112 3.2: the four forms of a target; authority-form belongs to CONNECT, which is refused earlier. */
static enum h1_error check_target(struct arena *arena, bool secure, bool *ret_absolute,
                                  struct request_head *head)
{
    struct slice origin = head->target;
    enum h1_error error = H1_ERROR_NONE;
    *ret_absolute = false;
    if (slice_equal(origin, SLICE("*"))) {
        if (!slice_equal(head->method, SLICE("OPTIONS"))) {
            return H1_ERROR_TARGET_STAR;
        }
    } else if (origin.data[0] != '/') {
        *ret_absolute = true;
        error = split_absolute(arena, head->target, secure, head, &origin);
    }
    if (error != H1_ERROR_NONE) {
        return error;
    }
    switch (head_parse_target(arena, origin, head)) {
    case ERROR_NONE:
        return H1_ERROR_NONE;
    case ERROR_NO_MEMORY:
        return H1_ERROR_NO_MEMORY;
    default:
        return H1_ERROR_TARGET_CHAR;
    }
}

/* Takes out what belongs to the connection or is answered by the gateway, and puts Host first (ASGI wants it so). */
static size_t sort_fields(struct field *fields, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct field field = fields[i];
        if (field_is_connection_specific(field.name) || slice_equal(field.name, SLICE("expect"))) {
            continue;
        }
        if (slice_equal(field.name, SLICE("host"))) {
            memmove(&fields[1], &fields[0], kept * sizeof fields[0]);
            fields[0] = field;
        } else {
            fields[kept] = field;
        }
        kept++;
    }
    return kept;
}

static enum h1_error check_all(struct arena *arena, const struct findings *found, bool secure,
                               struct request_head *head, struct h1_message *message)
{
    bool absolute;
    enum h1_error error = check_framing(found, head, message);
    if (error == H1_ERROR_NONE) {
        error = check_target(arena, secure, &absolute, head);
    }
    if (error == H1_ERROR_NONE) {
        error = check_host(arena, found, secure, absolute, head);
    }
    if (error != H1_ERROR_NONE) {
        return error;
    }
    if (found->expect && head->version != HTTP_1_0) { /* RFC 9110 10.1.1: ignored on HTTP/1.0 */
        if (found->expect_other) {
            return H1_ERROR_EXPECTATION;
        }
        head->expect_continue = head->has_body;
    }
    message->websocket =
        found->upgrade_websocket && found->connection_upgrade && head->version == HTTP_1_1;
    return message->websocket && head->has_body ? H1_ERROR_UPGRADE_BODY : H1_ERROR_NONE;
}

enum h1_error h1_check_head(struct arena *arena, const struct h1_line_parts *line,
                            struct field *fields, size_t count, bool secure,
                            struct request_head *head, struct h1_message *message)
{
    struct findings found = {0};
    *head = (struct request_head){
        .kind = REQUEST_HTTP,
        .version = line->version,
        .method = line->method,
        .scheme = secure ? SLICE("https") : SLICE("http"),
        .target = line->target,
        .content_length = -1,
    };
    *message = (struct h1_message){.chunked = false};
    for (size_t i = 0; i < count; i++) {
        note_field(&found, &fields[i]);
    }
    message->keep_alive = !found.close && (line->version == HTTP_1_1 || found.keep_alive);
    head->te_trailers = found.te_trailers;
    enum h1_error error = check_all(arena, &found, secure, head, message);
    head->fields = fields;
    head->field_count = error == H1_ERROR_NONE ? sort_fields(fields, count) : 0;
    return error;
}
