/* SPDX-License-Identifier: MIT */
/* The plain reader of requests. Speed does not matter here, being obvious does. */
#include "http_reference.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/check.h"

/* Takes what stands before `mark` off `rest`; everything when there is no mark (then `*ret_found` is false). */
static struct slice take_until(struct slice *rest, const char *mark, bool *ret_found)
{
    const char *at = memmem(rest->data, rest->length, mark, strlen(mark));
    struct slice part = *rest;

    *ret_found = at != NULL;
    if (at == NULL) {
        *rest = (struct slice){rest->data + rest->length, 0};
        return part;
    }
    part.length = (size_t)(at - rest->data);
    *rest = slice_skip(*rest, part.length + strlen(mark));
    return part;
}

static struct slice trimmed(struct slice text)
{
    while (text.length > 0 && strchr(" \t", text.data[0]) != NULL) {
        text = slice_skip(text, 1);
    }
    while (text.length > 0 && strchr(" \t", text.data[text.length - 1]) != NULL) {
        text.length--;
    }
    return text;
}

static bool same_word(struct slice a, struct slice b)
{
    for (size_t i = 0; a.length == b.length && i < a.length; i++) {
        if (tolower((unsigned char)a.data[i]) != tolower((unsigned char)b.data[i])) {
            return false;
        }
    }
    return a.length == b.length;
}

/* --- UTF-8 ------------------------------------------------------------------------------------- */

/* The code point of `count` bytes as a sequence of `need`, the missing ones taken as `filler`. */
static unsigned long code_point(const unsigned char *bytes, size_t count, size_t need,
                                unsigned char filler)
{
    static const unsigned char masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    unsigned long value = bytes[0] & masks[need];

    for (size_t i = 1; i < need; i++) {
        value = value << 6 | ((i < count ? bytes[i] : filler) & 0x3fu);
    }
    return value;
}

/* Whether the first `count` bytes begin a sequence of `need` that stands for a Unicode scalar value. */
static bool can_begin(const unsigned char *bytes, size_t count, size_t need)
{
    static const unsigned long least[] = {0, 0, 0x80, 0x800, 0x10000};

    for (size_t i = 1; i < count; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return false;
        }
    }
    unsigned long low = code_point(bytes, count, need, 0x80);
    unsigned long high = code_point(bytes, count, need, 0xbf);
    bool surrogates = low >= 0xd800 && high <= 0xdfff;
    return high >= least[need] && low <= 0x10ffff && !surrogates;
}

static size_t sequence_length(unsigned char first)
{
    return first < 0x80             ? 1
           : (first & 0xe0) == 0xc0 ? 2
           : (first & 0xf0) == 0xe0 ? 3
           : (first & 0xf8) == 0xf0 ? 4
                                    : 0;
}

void reference_utf8(struct slice text, struct strbuf *out)
{
    for (size_t i = 0; i < text.length;) {
        const unsigned char *bytes = (const unsigned char *)text.data + i;
        size_t need = sequence_length(bytes[0]);
        size_t most = text.length - i < need ? text.length - i : need;
        size_t good = 0;
        while (good < most && can_begin(bytes, good + 1, need)) {
            good++;
        }
        if (need > 0 && good == need) {
            strbuf_append(out, bytes, need);
        } else {
            strbuf_append_text(out, "\xef\xbf\xbd");
        }
        i += good > 0 ? good : 1;
    }
}

/* --- the head ---------------------------------------------------------------------------------- */

static void read_target(struct reference_head *head)
{
    struct slice rest = head->target;
    bool found;

    if (rest.data[0] != '/' && rest.data[0] != '*') {
        take_until(&rest, "://", &found);
        REQUIRE(found);
        while (rest.length > 0 && rest.data[0] != '/' && rest.data[0] != '?') {
            rest = slice_skip(rest, 1);
        }
        if (rest.length == 0 && slice_equal(head->method, SLICE("OPTIONS"))) {
            strbuf_append_char(&head->origin, '*');
        } else if (rest.length == 0 || rest.data[0] == '?') {
            strbuf_append_char(&head->origin, '/');
        }
    }
    strbuf_append_slice(&head->origin, rest);
    rest = (struct slice){head->origin.data, head->origin.length};
    head->raw_path = take_until(&rest, "?", &found);
    head->query = rest;
}

static void read_path(struct reference_head *head)
{
    struct slice raw = head->raw_path;
    struct strbuf decoded;

    strbuf_init(&decoded);
    for (size_t i = 0; i < raw.length; i++) {
        char c = raw.data[i];
        if (c == '%' && i + 2 < raw.length && isxdigit((unsigned char)raw.data[i + 1]) &&
            isxdigit((unsigned char)raw.data[i + 2])) {
            char digits[3] = {raw.data[i + 1], raw.data[i + 2], 0};
            c = (char)strtoul(digits, NULL, 16);
            i += 2;
        }
        strbuf_append_char(&decoded, c);
    }
    reference_utf8((struct slice){decoded.data, decoded.length}, &head->path);
    strbuf_done(&decoded);
}

void reference_head_read(struct reference_head *head, struct slice bytes)
{
    struct slice line;
    bool found;

    *head = (struct reference_head){.field_count = 0};
    strbuf_init(&head->origin);
    strbuf_init(&head->path);
    line = take_until(&bytes, "\r\n", &found);
    head->method = take_until(&line, " ", &found);
    head->target = take_until(&line, " ", &found);
    head->version = line;
    read_target(head);
    read_path(head);
    while ((line = take_until(&bytes, "\r\n", &found)).length > 0) {
        REQUIRE(found);
        void *grown = realloc(head->fields, (head->field_count + 1) * sizeof head->fields[0]);
        REQUIRE(grown != NULL);
        head->fields = grown;
        struct reference_field *field = &head->fields[head->field_count++];
        field->name = take_until(&line, ":", &found);
        REQUIRE(found);
        field->value = trimmed(line);
    }
    REQUIRE(found && bytes.length == 0);
}

void reference_head_done(struct reference_head *head)
{
    strbuf_done(&head->origin);
    strbuf_done(&head->path);
    free(head->fields);
}

size_t reference_count(const struct reference_head *head, struct slice name,
                       struct slice *ret_first)
{
    size_t count = 0;

    for (size_t i = 0; i < head->field_count; i++) {
        if (same_word(head->fields[i].name, name) && count++ == 0) {
            *ret_first = head->fields[i].value;
        }
    }
    return count;
}

bool reference_list_has(const struct reference_head *head, struct slice name, struct slice word)
{
    bool found, has = false;

    for (size_t i = 0; i < head->field_count; i++) {
        struct slice list = head->fields[i].value;
        while (same_word(head->fields[i].name, name) && list.length > 0) {
            struct slice element = take_until(&list, ",", &found);
            has |= same_word(trimmed(take_until(&element, ";", &found)), word);
        }
    }
    return has;
}

/* --- the body ---------------------------------------------------------------------------------- */

enum chunk { CHUNK_WHOLE, CHUNK_LAST, CHUNK_CUT, CHUNK_BROKEN };

/* The size at the beginning of a chunk's line, capped at more than any input has; false when there is none. */
static bool chunk_size(struct slice line, size_t *ret_size)
{
    size_t digits = 0;

    *ret_size = 0;
    while (digits < line.length && isxdigit((unsigned char)line.data[digits])) {
        int c = tolower((unsigned char)line.data[digits++]);
        *ret_size = *ret_size * 16 + (size_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        *ret_size = *ret_size < UINT32_MAX ? *ret_size : UINT32_MAX;
    }
    return digits > 0;
}

/* One chunk with its line and the CR LF behind it. */
static enum chunk read_chunk(struct strbuf *payload, struct slice *rest)
{
    size_t size;
    bool found;
    struct slice line = take_until(rest, "\r\n", &found);

    if (!found || !chunk_size(line, &size)) {
        return found ? CHUNK_BROKEN : CHUNK_CUT;
    }
    if (size == 0) {
        return CHUNK_LAST;
    }
    size_t there = size < rest->length ? size : rest->length;
    strbuf_append(payload, rest->data, there);
    *rest = slice_skip(*rest, there);
    if (rest->length < 2) {
        return CHUNK_CUT;
    }
    bool ended = memcmp(rest->data, "\r\n", 2) == 0;
    *rest = slice_skip(*rest, 2);
    return ended ? CHUNK_WHOLE : CHUNK_BROKEN;
}

static void read_chunked(struct reference_body *body, struct slice rest)
{
    const char *start = rest.data;
    enum chunk chunk;

    do {
        chunk = read_chunk(&body->payload, &rest);
    } while (chunk == CHUNK_WHOLE);
    bool found = chunk == CHUNK_LAST;
    while (found && !body->complete) { /* trailers, then an empty line */
        body->complete = take_until(&rest, "\r\n", &found).length == 0 && found;
    }
    body->used = (size_t)(rest.data - start);
}

void reference_body_read(struct reference_body *body, const struct reference_head *head,
                         struct slice bytes)
{
    struct slice value = {NULL, 0};

    *body = (struct reference_body){.used = 0};
    strbuf_init(&body->payload);
    if (reference_count(head, SLICE("transfer-encoding"), &value) > 0) {
        read_chunked(body, bytes);
        return;
    }
    unsigned long long length = 0;
    if (reference_count(head, SLICE("content-length"), &value) > 0) {
        for (size_t i = 0; i < value.length && length <= UINT32_MAX; i++) {
            length = length * 10 + (unsigned long long)(value.data[i] - '0');
        }
    }
    body->complete = length <= bytes.length;
    body->used = body->complete ? (size_t)length : bytes.length;
    strbuf_append(&body->payload, bytes.data, body->used);
}

void reference_body_done(struct reference_body *body)
{
    strbuf_done(&body->payload);
}
