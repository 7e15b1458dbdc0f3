/* SPDX-License-Identifier: MIT */
/*
 * The request line, byte by byte and strictly (RFC 9112 3): what llhttp lets through (doubled spaces, HTTP/0.9, other protocols
 * and their methods, odd bytes in the target) is refused here, before llhttp sees the line. Knows no fields and no sockets.
 */
#ifndef GATEWAY_H1_H1_LINE_H
#define GATEWAY_H1_H1_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "h1/h1_error.h"
#include "h1/h1_text.h"
#include "http/head.h"

enum h1_line_state { H1_LINE_METHOD, H1_LINE_TARGET, H1_LINE_VERSION, H1_LINE_LF, H1_LINE_DONE };

struct h1_line {
    enum h1_line_state state;
    uint64_t target_max;
    size_t method_length, target_length, version_length;
};

/* What a whole line says; the slices live in the text's arena. */
struct h1_line_parts {
    struct slice line; /* with CR LF */
    struct slice method, target;
    enum http_version version;
    bool h2_preface; /* "PRI * HTTP/2.0": the rest is empty */
};

/* Prepares for the first byte of a method. */
void h1_line_init(struct h1_line *line, uint64_t target_max);
/* Takes bytes up to the line's LF at most and appends them to the text's token. NONE with state DONE: `*ret_parts` is set. */
enum h1_error h1_line_feed(struct h1_line *line, struct h1_text *text, struct slice bytes,
                           size_t *ret_used, struct h1_line_parts *ret_parts) MUST_CHECK;

#endif
