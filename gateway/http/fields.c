/* SPDX-License-Identifier: MIT */
/*
 * The rules of field names, values and authorities, and what an app's response head means. Pure functions over slices and an
 * arena; knows no HTTP version and no connection.
 */
#include "http/fields.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

/* Classes of ASCII characters, one bit each. */
#define CLASS_TOKEN 1u /* tchar, RFC 9110 5.6.2 */
#define CLASS_UPPER 2u
#define CLASS_HOST 4u  /* unreserved and sub-delims, RFC 3986 2.2, 2.3 */
#define CLASS_VALUE 8u /* VCHAR, SP, HTAB: RFC 9110 5.5 */

/* clang-format off */
static const uint8_t class_table[128] = {
    /* 0x00 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0,
    /* 0x10 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /* 0x20 */ 8, 13, 8, 9, 13, 9, 13, 13, 12, 12, 13, 13, 12, 13, 13, 8,
    /* 0x30 */ 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 8, 12, 8, 12, 8, 8,
    /* 0x40 */ 8, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    /* 0x50 */ 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 8, 8, 8, 9, 13,
    /* 0x60 */ 9, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13,
    /* 0x70 */ 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 8, 9, 8, 13, 0,
};
/* clang-format on */

static bool has_class(char c, unsigned class)
{
    unsigned char byte = (unsigned char)c;
    /* Above ASCII is obs-text: part of values, of nothing else. */
    return ((byte < 128 ? class_table[byte] : CLASS_VALUE) & class) != 0;
}

bool field_name_valid(struct slice name)
{
    for (size_t i = 0; i < name.length; i++) {
        if (!has_class(name.data[i], CLASS_TOKEN)) {
            return false;
        }
    }
    return name.length > 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool field_value_valid(struct slice value)
{
    for (size_t i = 0; i < value.length; i++) {
        if (!has_class(value.data[i], CLASS_VALUE)) {
            return false;
        }
    }
    return value.length == 0 ||
           (!is_blank(value.data[0]) && !is_blank(value.data[value.length - 1]));
}

static bool is_one_of(struct slice name, const struct slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_equal(name, names[i])) {
            return true;
        }
    }
    return false;
}

bool field_is_connection_specific(struct slice name)
{
    static const struct slice names[] = {
        {"connection", 10},        {"keep-alive", 10}, {"proxy-connection", 16},
        {"transfer-encoding", 17}, {"upgrade", 7},     {"te", 2},
    };
    return is_one_of(name, names, sizeof names / sizeof names[0]);
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* "[...]" with an IPv6 address inside; the future forms and zones of RFC 3986 and 6874 have no use in a Host. */
static bool ip_literal_valid(struct slice inside)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (inside.length >= sizeof text || memchr(inside.data, '\0', inside.length) != NULL) {
        return false;
    }
    memcpy(text, inside.data, inside.length);
    text[inside.length] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

static bool port_valid(struct slice port)
{
    unsigned long long value;
    return port.length == 0 || (port.length <= 5 && slice_to_uint(port, 65535, &value));
}

bool authority_valid(struct slice authority)
{
    struct slice port;
    if (authority.length > 0 && authority.data[0] == '[') {
        const char *end = memchr(authority.data, ']', authority.length);
        if (end == NULL || !ip_literal_valid((struct slice){authority.data + 1,
                                                            (size_t)(end - authority.data) - 1})) {
            return false;
        }
        size_t used = (size_t)(end - authority.data) + 1;
        port = (struct slice){authority.data + used, authority.length - used};
        if (port.length > 0 && port.data[0] != ':') {
            return false;
        }
        return port.length == 0 || port_valid((struct slice){port.data + 1, port.length - 1});
    }
    struct slice host = slice_cut(authority, ':', &port);
    for (size_t i = 0; i < host.length; i++) {
        bool escape = host.data[i] == '%' && host.length - i > 2 && is_hex(host.data[i + 1]) &&
                      is_hex(host.data[i + 2]) &&
                      host.data[i + 1] >= '8'; /* RFC 3986 3.2.2: UTF-8 only */
        if (!escape && !has_class(host.data[i], CLASS_HOST)) {
            return false;
        }
    }
    return host.length > 0 && port_valid(port);
}

bool host_matches(struct slice pattern, struct slice host)
{
    if (!slice_starts_with(pattern, SLICE("*."))) {
        return slice_equal_nocase(pattern, host);
    }
    struct slice suffix = slice_skip(pattern, 1);
    return host.length > suffix.length &&
           slice_equal_nocase(slice_skip(host, host.length - suffix.length), suffix);
}

struct slice authority_host(struct slice authority)
{
    struct slice rest;
    if (authority.length > 0 && authority.data[0] == '[') {
        const char *end = memchr(authority.data, ']', authority.length);
        return end == NULL ? authority
                           : (struct slice){authority.data, (size_t)(end - authority.data) + 1};
    }
    return slice_cut(authority, ':', &rest);
}

/* The authority without a port that says nothing. */
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

bool authority_equal(struct slice a, struct slice b, bool secure)
{
    return slice_equal_nocase(without_default_port(a, secure), without_default_port(b, secure));
}

/* The lower-case form of a name: the slice itself when it has no capitals. */
static struct slice lower_name(struct arena *arena, struct slice name)
{
    size_t i = 0;
    while (i < name.length && !has_class(name.data[i], CLASS_UPPER)) {
        i++;
    }
    if (i == name.length) {
        return name;
    }
    char *out = arena_alloc(arena, name.length);
    if (out == NULL) {
        return (struct slice){NULL, 0};
    }
    for (i = 0; i < name.length; i++) {
        out[i] = has_class(name.data[i], CLASS_UPPER) ? (char)(name.data[i] + ('a' - 'A'))
                                                      : name.data[i];
    }
    return (struct slice){out, name.length};
}

/* Validates one field in place: lower-case name, value without white space around it. */
static enum error field_clean(struct arena *arena, struct field *field, const char **ret_text)
{
    if (!field_name_valid(field->name)) {
        *ret_text = "a field name is not a token (RFC 9110 5.6.2)";
        return ERROR_INVALID;
    }
    field->value = slice_trim(field->value);
    if (!field_value_valid(field->value)) {
        *ret_text = "a field value has a control character, such as CR, LF or NUL (RFC 9110 5.5)";
        return ERROR_INVALID;
    }
    field->name = lower_name(arena, field->name);
    return field->name.data != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
}

/* Takes a content-length field into the head. `*ret_keep`: whether the field stays in the list. */
static enum error take_content_length(struct response_head *head, struct slice value,
                                      bool *ret_keep, const char **ret_text)
{
    unsigned long long length;
    if (!slice_to_uint(value, INT64_MAX, &length)) {
        *ret_text = "content-length is not a decimal number";
        return ERROR_INVALID;
    }
    if (head->content_length >= 0 && head->content_length != (int64_t)length) {
        *ret_text = "two content-length fields differ";
        return ERROR_INVALID;
    }
    *ret_keep = head->content_length < 0;
    head->content_length = (int64_t)length;
    return ERROR_NONE;
}

/* A status whose responses never have a content-length of their own (RFC 9110 8.6; 205 always has an empty body, 15.3.6). */
static bool status_has_no_length(unsigned status)
{
    return status < 200 || status == 204 || status == 205;
}

enum error response_head_check(struct arena *arena, struct response_head *head,
                               const char **ret_text)
{
    if (head->status < 100 || head->status > 999 || head->status == 101) {
        *ret_text = "the status is not one of 100 to 999, or it is 101";
        return ERROR_INVALID;
    }
    size_t kept = 0;
    head->content_length = -1;
    for (size_t i = 0; i < head->field_count; i++) {
        struct field field = head->fields[i];
        enum error error = field_clean(arena, &field, ret_text);
        bool keep = true;
        if (error == ERROR_NONE && slice_equal(field.name, SLICE("content-length"))) {
            error = take_content_length(head, field.value, &keep, ret_text);
            keep = keep && !status_has_no_length(head->status);
        }
        if (error != ERROR_NONE) {
            return error;
        }
        if (keep && !field_is_connection_specific(field.name)) {
            head->fields[kept++] = field;
        }
    }
    head->field_count = kept;
    if (status_has_no_length(head->status)) {
        head->content_length = -1;
    }
    return ERROR_NONE;
}

enum body_framing response_framing(const struct request_head *request,
                                   const struct response_head *response)
{
    unsigned status = response->status;
    if (status < 200 || status == 204 || status == 205 || status == 304 ||
        response->content_length == 0 || slice_equal(request->method, SLICE("HEAD"))) {
        return BODY_NONE;
    }
    return response->content_length > 0 ? BODY_LENGTH : BODY_OPEN;
}

/* RFC 9110 6.5.1: fields that frame, route, authenticate, modify the request, control the response or describe the content. */
static bool trailer_forbidden(struct slice name)
{
    static const struct slice names[] = {
        {"age", 3},
        {"authorization", 13},
        {"cache-control", 13},
        {"cookie", 6},
        {"date", 4},
        {"expect", 6},
        {"expires", 7},
        {"host", 4},
        {"location", 8},
        {"max-forwards", 12},
        {"pragma", 6},
        {"proxy-authenticate", 18},
        {"proxy-authorization", 19},
        {"range", 5},
        {"retry-after", 11},
        {"set-cookie", 10},
        {"trailer", 7},
        {"vary", 4},
        {"warning", 7},
        {"www-authenticate", 16},
    };
    return field_is_connection_specific(name) || slice_starts_with(name, SLICE("content-")) ||
           slice_starts_with(name, SLICE("if-")) ||
           is_one_of(name, names, sizeof names / sizeof names[0]);
}

enum error trailers_check(struct arena *arena, struct field *fields, size_t count,
                          const char **ret_text)
{
    for (size_t i = 0; i < count; i++) {
        enum error error = field_clean(arena, &fields[i], ret_text);
        if (error != ERROR_NONE) {
            return error;
        }
        if (trailer_forbidden(fields[i].name)) {
            *ret_text = "a field that may not be a trailer (RFC 9110 6.5.1)";
            return ERROR_INVALID;
        }
    }
    return ERROR_NONE;
}
