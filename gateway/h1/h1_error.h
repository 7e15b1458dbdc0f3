/* SPDX-License-Identifier: MIT */
/*
 * Why a request is refused before an app sees it: one row each with the status, the metric that counts it, and a sentence for
 * the client and the log that says what is wrong and what would be right.
 */
#ifndef GATEWAY_H1_H1_ERROR_H
#define GATEWAY_H1_H1_ERROR_H

#include "base/metrics.h"

/* H1_ERROR(name, status, metric, text) */
#define H1_ERRORS(H1_ERROR)                                                                        \
    H1_ERROR(NONE, 0, h1_refused_syntax, "")                                                       \
    H1_ERROR(NO_MEMORY, 503, h1_no_memory, "The server is at capacity. Please try again.")         \
    /* request line, RFC 9112 3 */                                                                 \
    H1_ERROR(LEADING_CRLF, 400, limit_leading_crlf, "Too many empty lines before the request.")    \
    H1_ERROR(LINE_START, 400, h1_refused_syntax, "The request line must begin with a method.")     \
    H1_ERROR(METHOD_TOKEN, 400, h1_refused_syntax,                                                 \
             "The method must be a token followed by one space.")                                  \
    H1_ERROR(METHOD_UNKNOWN, 501, h1_refused_method, "This server does not implement the method.") \
    H1_ERROR(METHOD_REFUSED, 501, h1_refused_method,                                               \
             "This server is no proxy and no echo: it does not implement CONNECT and TRACE.")      \
    H1_ERROR(TARGET_LONG, 414, limit_target,                                                       \
             "The request target is longer than this server accepts.")                             \
    H1_ERROR(TARGET_CHAR, 400, h1_refused_syntax,                                                  \
             "The request target has a character that must be percent-encoded.")                   \
    H1_ERROR(TARGET_FORM, 400, h1_refused_syntax,                                                  \
             "The request target must be a path or an http(s) URL.")                               \
    H1_ERROR(TARGET_STAR, 400, h1_refused_syntax, "The request target * is for OPTIONS only.")     \
    H1_ERROR(TARGET_SCHEME, 400, h1_refused_host,                                                  \
             "The request target's scheme is not that of the connection.")                         \
    H1_ERROR(LINE_SPACE, 400, h1_refused_syntax,                                                   \
             "The parts of the request line must be separated by one space.")                      \
    H1_ERROR(VERSION_MISSING, 400, h1_refused_version,                                             \
             "The request line must end with HTTP/1.1 or HTTP/1.0.")                               \
    H1_ERROR(VERSION, 505, h1_refused_version,                                                     \
             "This connection speaks HTTP/1.1 and HTTP/1.0 only.")                                 \
    H1_ERROR(LINE_END, 400, h1_refused_syntax, "The request line must end with CR LF.")            \
    /* fields, RFC 9112 5 and RFC 9110 5 */                                                        \
    H1_ERROR(BLOCK_LONG, 431, limit_header_block,                                                  \
             "The header fields are larger than this server accepts.")                             \
    H1_ERROR(FIELDS_MANY, 431, limit_header_fields,                                                \
             "There are more header fields than this server accepts.")                             \
    H1_ERROR(COOKIES_MANY, 431, limit_cookie_crumbs,                                               \
             "There are more Cookie fields than this server accepts.")                             \
    H1_ERROR(FIELD_NAME, 400, h1_refused_syntax, "A header field name is not a token.")            \
    H1_ERROR(FIELD_VALUE, 400, h1_refused_syntax,                                                  \
             "A header field has an illegal character or line ending.")                            \
    H1_ERROR(HOST_MISSING, 400, h1_refused_host, "An HTTP/1.1 request must have a Host field.")    \
    H1_ERROR(HOST_TWICE, 400, h1_refused_host, "The request has more than one Host field.")        \
    H1_ERROR(HOST_INVALID, 400, h1_refused_host,                                                   \
             "Host must be a host name or address, with an optional port.")                        \
    H1_ERROR(HOST_DIFFERS, 400, h1_refused_host,                                                   \
             "Host and the authority of the request target differ.")                               \
    /* framing, RFC 9112 6 */                                                                      \
    H1_ERROR(LENGTH, 400, h1_refused_framing, "Content-Length must be one decimal number.")        \
    H1_ERROR(LENGTH_AND_TE, 400, h1_refused_framing,                                               \
             "Content-Length and Transfer-Encoding must not come together.")                       \
    H1_ERROR(TE, 400, h1_refused_framing,                                                          \
             "Transfer-Encoding must be one field with the value chunked.")                        \
    H1_ERROR(TE_UNKNOWN, 501, h1_refused_framing,                                                  \
             "This server knows no Transfer-Encoding but chunked.")                                \
    H1_ERROR(TE_HTTP10, 400, h1_refused_framing,                                                   \
             "An HTTP/1.0 request must not have a Transfer-Encoding.")                             \
    H1_ERROR(FRAMING_DOUBT, 400, h1_refused_framing,                                               \
             "The length of the request body is not clear.")                                       \
    H1_ERROR(EXPECTATION, 417, h1_refused_expectation,                                             \
             "This server knows no expectation but 100-continue.")                                 \
    H1_ERROR(UPGRADE_BODY, 400, h1_refused_framing, "A WebSocket handshake must not have a body.") \
    H1_ERROR(SYNTAX, 400, h1_refused_syntax, "The request is malformed.")                          \
    /* body, RFC 9112 7 */                                                                         \
    H1_ERROR(CHUNK, 400, h1_refused_chunks, "The chunked body is malformed.")                      \
    H1_ERROR(CHUNK_LINE, 400, limit_chunk_line,                                                    \
             "A chunk's first line is longer than this server accepts.")                           \
    H1_ERROR(CHUNK_OVERHEAD, 400, limit_chunk_overhead,                                            \
             "The chunks are too small for the framing they need.")                                \
    H1_ERROR(TRAILER, 400, h1_refused_chunks, "The trailer fields are malformed.")                 \
    H1_ERROR(TRAILERS_LONG, 431, limit_trailers,                                                   \
             "The trailer fields are larger than this server accepts.")                            \
    H1_ERROR(TRAILERS_MANY, 431, limit_trailers,                                                   \
             "There are more trailer fields than this server accepts.")

enum h1_error {
#define H1_ERROR(name, status, metric, text) H1_ERROR_##name,
    H1_ERRORS(H1_ERROR)
#undef H1_ERROR
        H1_ERROR_COUNT
};

/* The status of the response to it. */
unsigned h1_error_status(enum h1_error error);
/* The sentence for it (static). */
const char *h1_error_text(enum h1_error error);
/* Counts it. */
void h1_error_count(enum h1_error error);

#endif
