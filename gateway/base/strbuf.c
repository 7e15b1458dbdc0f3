/* SPDX-License-Identifier: MIT */
/* The growing string. It owns its memory; after a failed allocation it stays a whole prefix and
 * `failed` tells. */
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "base/mem.h"

#define STRBUF_FIRST_CAPACITY 128

void strbuf_init(struct strbuf *buffer)
{
    *buffer = (struct strbuf){0};
}

void strbuf_done(struct strbuf *buffer)
{
    mem_free(buffer->data);
    strbuf_init(buffer);
}

void strbuf_clear(struct strbuf *buffer)
{
    buffer->length = 0;
    buffer->failed = false;
    if (buffer->data != NULL) {
        buffer->data[0] = '\0';
    }
}

/* Makes room for `more` bytes and the NUL; false (and `failed`) when memory is out. */
static bool strbuf_reserve(struct strbuf *buffer, size_t more)
{
    if (buffer->failed) {
        return false;
    }
    if (buffer->data != NULL && more < buffer->capacity - buffer->length) {
        return true;
    }
    if (more > SIZE_MAX / 2 - buffer->length) {
        buffer->failed = true;
        return false;
    }
    size_t needed = buffer->length + more + 1;
    size_t capacity = buffer->capacity > 0 ? buffer->capacity : STRBUF_FIRST_CAPACITY;
    while (capacity < needed) {
        capacity *= 2;
    }
    char *data = mem_realloc(buffer->data, capacity);
    if (data == NULL) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void strbuf_append(struct strbuf *buffer, const void *data, size_t length)
{
    if (!strbuf_reserve(buffer, length)) {
        return;
    }
    if (length > 0) {
        memcpy(buffer->data + buffer->length, data, length);
    }
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
}

void strbuf_append_slice(struct strbuf *buffer, struct slice bytes)
{
    strbuf_append(buffer, bytes.data, bytes.length);
}

void strbuf_append_text(struct strbuf *buffer, const char *text)
{
    strbuf_append(buffer, text, strlen(text));
}

void strbuf_append_char(struct strbuf *buffer, char c)
{
    strbuf_append(buffer, &c, 1);
}

void strbuf_printf(struct strbuf *buffer, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !strbuf_reserve(buffer, (size_t)length)) {
        buffer->failed = true;
        return;
    }
    va_start(arguments, format);
    vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->length += (size_t)length;
}

/* Whether bytes[1..] are `count` continuation bytes, the first of them within low..high (RFC
 * 3629 4). */
static bool utf8_tail(const uint8_t *bytes, size_t available, size_t count, uint8_t low,
                      uint8_t high)
{
    if (available <= count || bytes[1] < low || bytes[1] > high) {
        return false;
    }
    for (size_t i = 2; i <= count; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return false;
        }
    }
    return true;
}

/* The length of the well-formed UTF-8 character at `bytes`, 0 when there is none (RFC 3629 4: no
 * overlong forms, no surrogates, nothing above U+10FFFF). */
static size_t utf8_character(const uint8_t *bytes, size_t available)
{
    uint8_t first = bytes[0];

    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xc2 && first <= 0xdf) {
        return utf8_tail(bytes, available, 1, 0x80, 0xbf) ? 2 : 0;
    }
    if (first >= 0xe0 && first <= 0xef) {
        uint8_t low = first == 0xe0 ? 0xa0 : 0x80;
        uint8_t high = first == 0xed ? 0x9f : 0xbf;
        return utf8_tail(bytes, available, 2, low, high) ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        uint8_t low = first == 0xf0 ? 0x90 : 0x80;
        uint8_t high = first == 0xf4 ? 0x8f : 0xbf;
        return utf8_tail(bytes, available, 3, low, high) ? 4 : 0;
    }
    return 0;
}

/* Writes one ASCII byte; controls as \n and the like or \u00NN. */
static void strbuf_json_ascii(struct strbuf *buffer, uint8_t byte)
{
    static const char short_names[] = "\b\f\n\r\t\"\\";
    static const char short_letters[] = "bfnrt\"\\";
    const char *found = byte != 0 ? strchr(short_names, byte) : NULL;

    if (found != NULL) {
        strbuf_append_char(buffer, '\\');
        strbuf_append_char(buffer, short_letters[found - short_names]);
    } else if (byte < 0x20 || byte == 0x7f) {
        strbuf_printf(buffer, "\\u%04x", byte);
    } else {
        strbuf_append_char(buffer, (char)byte);
    }
}

void strbuf_append_json(struct strbuf *buffer, struct slice bytes)
{
    const uint8_t *data = (const uint8_t *)bytes.data;

    for (size_t i = 0; i < bytes.length;) {
        size_t length = utf8_character(data + i, bytes.length - i);
        if (length == 1) {
            strbuf_json_ascii(buffer, data[i]);
        } else if (length == 0) {
            strbuf_append_text(buffer, "\\ufffd");
            length = 1;
        } else {
            strbuf_append(buffer, data + i, length);
        }
        i += length;
    }
}

const char *strbuf_text(const struct strbuf *buffer)
{
    return buffer->data != NULL ? buffer->data : "";
}
