/* SPDX-License-Identifier: MIT */
/* The request line. Every refusal depends on the bytes before it only, so that any split of the input gives the same result. */
#include "h1/h1_line.h"

#include "http/fields.h"

#define METHOD_MAX 32 /* the longest known one has 11 */
#define VERSION_LENGTH (sizeof "HTTP/1.1" - 1)

/* Methods that apps may see (IANA registry, WebDAV family, and PURGE, which caches use). Others are 501: RFC 9110 9.1. */
static const struct slice known_methods[] = {
    {"GET", 3},     {"POST", 4},      {"HEAD", 4},         {"PUT", 3},       {"DELETE", 6},
    {"OPTIONS", 7}, {"PATCH", 5},     {"QUERY", 5},        {"COPY", 4},      {"LOCK", 4},
    {"MKCOL", 5},   {"MOVE", 4},      {"PROPFIND", 8},     {"PROPPATCH", 9}, {"SEARCH", 6},
    {"UNLOCK", 6},  {"BIND", 4},      {"REBIND", 6},       {"UNBIND", 6},    {"ACL", 3},
    {"REPORT", 6},  {"MERGE", 5},     {"MKACTIVITY", 10},  {"CHECKOUT", 8},  {"M-SEARCH", 8},
    {"NOTIFY", 6},  {"SUBSCRIBE", 9}, {"UNSUBSCRIBE", 11}, {"PURGE", 5},     {"MKCALENDAR", 10},
    {"LINK", 4},    {"UNLINK", 6},
};

void h1_line_init(struct h1_line *line, uint64_t target_max)
{
    *line = (struct h1_line){.state = H1_LINE_METHOD, .target_max = target_max};
}

static enum h1_error method_error(struct slice method)
{
    for (size_t i = 0; i < sizeof known_methods / sizeof known_methods[0]; i++) {
        if (slice_equal(method, known_methods[i])) {
            return H1_ERROR_NONE;
        }
    }
    if (slice_equal(method, SLICE("CONNECT")) || slice_equal(method, SLICE("TRACE"))) {
        return H1_ERROR_METHOD_REFUSED;
    }
    return slice_equal(method, SLICE("PRI")) ? H1_ERROR_NONE : H1_ERROR_METHOD_UNKNOWN;
}

static enum h1_error feed_method(struct h1_line *line, const struct h1_text *text, char c)
{
    if (c == ' ') {
        line->state = H1_LINE_TARGET;
        return line->method_length > 0 ? method_error(h1_text_token(text)) : H1_ERROR_LINE_START;
    }
    if (!field_name_valid((struct slice){&c, 1})) { /* a method is a token as well */
        return line->method_length > 0 ? H1_ERROR_METHOD_TOKEN : H1_ERROR_LINE_START;
    }
    return ++line->method_length > METHOD_MAX ? H1_ERROR_METHOD_UNKNOWN : H1_ERROR_NONE;
}

static enum h1_error feed_target(struct h1_line *line, char c)
{
    if (c == ' ') {
        line->state = H1_LINE_VERSION;
        return line->target_length > 0 ? H1_ERROR_NONE : H1_ERROR_LINE_SPACE;
    }
    if (c == '\r' || c == '\n') {
        return H1_ERROR_VERSION_MISSING; /* HTTP/0.9 */
    }
    if (c <= 0x20 ||
        c >= 0x7f) { /* char may be signed: bytes above ASCII are refused by either half */
        return H1_ERROR_TARGET_CHAR;
    }
    return ++line->target_length > line->target_max ? H1_ERROR_TARGET_LONG : H1_ERROR_NONE;
}

/* One byte of the version: "HTTP/" digit "." digit, then CR. */
static enum h1_error feed_version(struct h1_line *line, char c)
{
    static const char pattern[] = "HTTP/0.0";
    size_t at = line->version_length;
    if (at == VERSION_LENGTH) {
        line->state = H1_LINE_LF;
        return c == '\r' ? H1_ERROR_NONE : c == ' ' ? H1_ERROR_LINE_SPACE : H1_ERROR_LINE_END;
    }
    bool expected = pattern[at] == '0' ? c >= '0' && c <= '9' : c == pattern[at];
    if (!expected) {
        return c == ' ' ? H1_ERROR_LINE_SPACE : H1_ERROR_VERSION_MISSING;
    }
    line->version_length++;
    return H1_ERROR_NONE;
}

static enum h1_error feed_byte(struct h1_line *line, const struct h1_text *text, char c)
{
    switch (line->state) {
    case H1_LINE_METHOD:
        return feed_method(line, text, c);
    case H1_LINE_TARGET:
        return feed_target(line, c);
    case H1_LINE_VERSION:
        return feed_version(line, c);
    case H1_LINE_LF:
        line->state = H1_LINE_DONE;
        return c == '\n' ? H1_ERROR_NONE : H1_ERROR_LINE_END;
    case H1_LINE_DONE:
        break;
    }
    return H1_ERROR_LINE_END; /* not reached: the feeder stops at the line's end */
}

static enum h1_error take_parts(const struct h1_line *line, struct h1_text *text,
                                struct h1_line_parts *ret_parts)
{
    struct slice whole = h1_text_finish(text);
    struct slice method = {whole.data, line->method_length};
    struct slice target = {whole.data + line->method_length + 1, line->target_length};
    struct slice version = {target.data + target.length + 1, line->version_length};
    bool h2_preface = slice_equal(whole, SLICE("PRI * HTTP/2.0\r\n")); /* RFC 9113 3.4 */
    enum http_version number = HTTP_1_1;
    if (slice_equal(method, SLICE("PRI")) && !h2_preface) {
        return H1_ERROR_METHOD_UNKNOWN;
    }
    if (slice_equal(version, SLICE("HTTP/1.0"))) {
        number = HTTP_1_0;
    } else if (!slice_equal(version, SLICE("HTTP/1.1")) && !h2_preface) {
        return H1_ERROR_VERSION;
    }
    *ret_parts = (struct h1_line_parts){whole, method, target, number, h2_preface};
    return H1_ERROR_NONE;
}

enum h1_error h1_line_feed(struct h1_line *line, struct h1_text *text, struct slice bytes,
                           size_t *ret_used, struct h1_line_parts *ret_parts)
{
    size_t used = 0;
    size_t copied = 0;
    enum h1_error error = H1_ERROR_NONE;
    while (used < bytes.length && error == H1_ERROR_NONE && line->state != H1_LINE_DONE) {
        if (line->state == H1_LINE_METHOD &&
            bytes.data[used] == ' ') { /* the method is looked up in the text */
            if (!h1_text_append(text, bytes.data + copied, used - copied)) {
                return H1_ERROR_NO_MEMORY;
            }
            copied = used;
        }
        error = feed_byte(line, text, bytes.data[used]);
        used++;
    }
    if (error == H1_ERROR_NONE && !h1_text_append(text, bytes.data + copied, used - copied)) {
        error = H1_ERROR_NO_MEMORY;
    }
    if (error == H1_ERROR_NONE && line->state == H1_LINE_DONE) {
        error = take_parts(line, text, ret_parts);
    }
    *ret_used = used;
    return error;
}
