/* SPDX-License-Identifier: MIT */
/*
 * A growing string for building text (status output, log lines, error texts). Always
 * NUL-terminated. A failed allocation is remembered in `failed` rather than returned at each call:
 * check it once at the end.
 */
#ifndef GATEWAY_BASE_STRBUF_H
#define GATEWAY_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"
#include "base/slice.h"

struct strbuf {
    char *data; /* NULL while empty */
    size_t length, capacity;
    bool failed;
};

void strbuf_init(struct strbuf *buffer);
void strbuf_done(struct strbuf *buffer);
/* Empties it but keeps the memory. */
void strbuf_clear(struct strbuf *buffer);
void strbuf_append(struct strbuf *buffer, const void *data, size_t length);
void strbuf_append_slice(struct strbuf *buffer, struct slice bytes);
void strbuf_append_text(struct strbuf *buffer, const char *text);
void strbuf_append_char(struct strbuf *buffer, char c);
void strbuf_printf(struct strbuf *buffer, const char *format, ...) PRINTF_LIKE(2, 3);
/* Appends the bytes as the inside of a JSON string (RFC 8259 7): quotes, backslashes and
 * controls escaped, bytes that are no UTF-8 written as \ufffd. */
void strbuf_append_json(struct strbuf *buffer, struct slice bytes);
/* The text so far, "" while empty. */
const char *strbuf_text(const struct strbuf *buffer);

#endif
