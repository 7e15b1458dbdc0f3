/* SPDX-License-Identifier: MIT */
/*
 * Request targets into paths (percent-decoding, UTF-8) and look-ups in field lists. Knows no HTTP version and no connection.
 */
#include "http/head.h"

#include <string.h>

/* What a byte may be in a request target. RFC 3986 3.3, 3.4; the bytes of QUERY_ONLY are not in the grammar, but browsers send
 * them unescaped in queries (WHATWG URL, query percent-encode set), never in paths. */
enum target_byte { TARGET_NEVER, TARGET_ANY, TARGET_QUERY_ONLY };

static enum target_byte target_byte_class(unsigned char byte)
{
    if (byte <= 0x20 || byte >= 0x7f) {
        return TARGET_NEVER;
    }
    switch (byte) {
    case '"':
    case '<':
    case '>':
    case '#':
        return TARGET_NEVER;
    case '\\':
    case '^':
    case '`':
    case '{':
    case '|':
    case '}':
        return TARGET_QUERY_ONLY;
    default:
        return TARGET_ANY;
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes the %-escapes of `raw` into `out` (as long as raw); returns the length, or SIZE_MAX for an escaped NUL. */
static size_t percent_decode(struct slice raw, char *out)
{
    size_t length = 0;
    for (size_t i = 0; i < raw.length; i++) {
        char c = raw.data[i];
        if (c == '%' && raw.length - i > 2) {
            int high = hex_value(raw.data[i + 1]);
            int low = hex_value(raw.data[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (char)(high * 16 + low);
                i += 2;
                if (c == '\0') {
                    return SIZE_MAX;
                }
            }
        }
        out[length++] = c;
    }
    return length;
}

/* How many bytes at `p` are one well-formed UTF-8 sequence (0: none), and how many are its longest well-formed beginning: a bad
 * sequence is replaced as a whole (Unicode 3.9, "substitution of maximal subparts", what Python's errors="replace" does). */
static size_t utf8_sequence(const unsigned char *p, size_t left, size_t *ret_bad)
{
    size_t need = p[0] < 0x80   ? 1
                  : p[0] < 0xc2 ? 0
                  : p[0] < 0xe0 ? 2
                  : p[0] < 0xf0 ? 3
                  : p[0] < 0xf5 ? 4
                                : 0;
    *ret_bad = 1;
    if (need == 0) {
        return 0;
    }
    for (size_t i = 1; i < need; i++) {
        unsigned char low = 0x80;
        unsigned char high = 0xbf;
        if (i == 1) { /* overlong forms, surrogates, above U+10FFFF */
            low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
            high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
        }
        if (i >= left || p[i] < low || p[i] > high) {
            *ret_bad = i;
            return 0;
        }
    }
    return need;
}

static bool is_ascii(const char *data, size_t length)
{
    unsigned char all = 0;
    for (size_t i = 0; i < length; i++) {
        all |= (unsigned char)data[i];
    }
    return all < 0x80;
}

/* Copies `text` into the arena with U+FFFD for what is not UTF-8. */
static enum error utf8_repair(struct arena *arena, struct slice text, struct slice *ret_text)
{
    char *out = arena_alloc(arena, text.length * 3 + 1);
    if (out == NULL) {
        return ERROR_NO_MEMORY;
    }
    size_t length = 0;
    for (size_t i = 0; i < text.length;) {
        size_t bad = 1;
        size_t good = utf8_sequence((const unsigned char *)text.data + i, text.length - i, &bad);
        if (good > 0) {
            memcpy(out + length, text.data + i, good);
            length += good;
            i += good;
        } else {
            memcpy(out + length, "\xef\xbf\xbd", 3);
            length += 3;
            i += bad;
        }
    }
    out[length] = '\0';
    *ret_text = (struct slice){out, length};
    return ERROR_NONE;
}

static enum error decode_path(struct arena *arena, struct slice raw, struct slice *ret_path)
{
    if (memchr(raw.data, '%', raw.length) == NULL) {
        *ret_path = raw; /* ASCII, checked by the caller */
        return ERROR_NONE;
    }
    char *out = arena_alloc(arena, raw.length + 1);
    if (out == NULL) {
        return ERROR_NO_MEMORY;
    }
    size_t length = percent_decode(raw, out);
    if (length == SIZE_MAX) {
        return ERROR_INVALID;
    }
    out[length] = '\0';
    if (is_ascii(out, length)) {
        *ret_path = (struct slice){out, length};
        return ERROR_NONE;
    }
    return utf8_repair(arena, (struct slice){out, length}, ret_path);
}

enum error head_parse_target(struct arena *arena, struct slice target, struct request_head *head)
{
    if (slice_equal(target, SLICE("*"))) {
        head->raw_path = head->path = target;
        head->query = (struct slice){"", 0};
        return ERROR_NONE;
    }
    if (target.length == 0 || target.data[0] != '/') {
        return ERROR_INVALID;
    }
    const char *question = memchr(target.data, '?', target.length);
    size_t path_length = question != NULL ? (size_t)(question - target.data) : target.length;
    for (size_t i = 0; i < target.length; i++) {
        enum target_byte class = target_byte_class((unsigned char)target.data[i]);
        if (class == TARGET_NEVER || (class == TARGET_QUERY_ONLY && i < path_length)) {
            return ERROR_INVALID;
        }
    }
    struct slice raw_path = {target.data, path_length};
    struct slice path;
    enum error error = decode_path(arena, raw_path, &path);
    if (error != ERROR_NONE) {
        return error;
    }
    head->raw_path = raw_path;
    head->path = path;
    head->query = question != NULL ? (struct slice){question + 1, target.length - path_length - 1}
                                   : (struct slice){"", 0};
    return ERROR_NONE;
}

const struct field *head_find(const struct field *fields, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_equal(fields[i].name, name)) {
            return &fields[i];
        }
    }
    return NULL;
}
