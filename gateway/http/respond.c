/* SPDX-License-Identifier: MIT */
/*
 * Responses that the gateway makes itself: a status, a sentence as text/plain, nothing that helps an attacker. They go
 * through the exchange like an app's own, so that framing and counting are the same.
 */
#include "http/respond.h"

#include <stdio.h>

#include "base/metrics.h"
#include "http/conn.h"
#include "http/exchange.h"
#include "http/fields.h"

struct phrase {
    unsigned status;
    const char *text;
};

/* RFC 9110 15, RFC 6585, RFC 8297, RFC 8470 and the IANA registry; sorted. */
static const struct phrase phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {208, "Already Reported"},
    {226, "IM Used"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {418, "I'm a Teapot"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {511, "Network Authentication Required"},
};

const char *status_phrase(unsigned status)
{
    size_t low = 0;
    size_t high = sizeof phrases / sizeof phrases[0];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (phrases[middle].status == status) {
            return phrases[middle].text;
        }
        if (phrases[middle].status < status) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return "";
}

/* Sends a complete response with at most one field of its own and a text body. When memory is out, the exchange is cut. */
static void respond_text(struct exchange *exchange, unsigned status, struct slice text,
                         struct field extra)
{
    struct arena *arena = &exchange->arena;
    struct field *fields = arena_calloc(arena, 3, sizeof *fields);
    struct slice length = arena_format(arena, "%zu", text.length);
    bool failed = fields == NULL || length.data == NULL || text.data == NULL ||
                  (extra.name.length > 0 && extra.value.data == NULL);
    if (!failed) {
        struct response_head head = {
            .status = status, .fields = fields, .content_length = (int64_t)text.length};
        fields[head.field_count++] =
            (struct field){SLICE("content-type"), SLICE("text/plain; charset=utf-8")};
        fields[head.field_count++] = (struct field){SLICE("content-length"), length};
        if (extra.name.length > 0) {
            fields[head.field_count++] = extra;
        }
        exchange->response_by_gateway = true;
        METRIC_INCREMENT(responses_by_gateway);
        failed = exchange_respond_head(exchange, &head, text.length == 0) != ERROR_NONE ||
                 exchange_respond_body(exchange, text.data, text.length) != ERROR_NONE ||
                 exchange_respond_end(exchange, NULL, 0) != ERROR_NONE;
    }
    if (failed && exchange->conn != NULL && exchange->response_state != RESPONSE_CUT) {
        exchange->response_state = RESPONSE_CUT;
        exchange->conn->ops->abort(exchange, END_NO_MEMORY);
    }
}

void respond_error(struct exchange *exchange, enum end_reason reason, struct slice extra)
{
    unsigned status = end_reason_status(reason);
    const char *text = end_reason_text(reason);
    REQUIRE(status != 0);
    struct slice body = extra.length > 0
                            ? arena_format(&exchange->arena, "%s %.*s\n", text, SLICE_PRINT(extra))
                            : arena_format(&exchange->arena, "%s\n", text);
    struct field retry_after = {{NULL, 0}, {NULL, 0}};
    if (status == 503) {
        retry_after.value =
            arena_format(&exchange->arena, "%u", exchange->conn->group->settings->retry_after);
        retry_after.name = SLICE("retry-after");
    }
    exchange->end_reason = reason;
    exchange_request_drop(exchange);
    respond_text(exchange, status, body, retry_after);
}

void respond_status(struct exchange *exchange, unsigned status, const char *text)
{
    respond_status_field(exchange, status, text, (struct field){{NULL, 0}, {NULL, 0}});
}

void respond_status_field(struct exchange *exchange, unsigned status, const char *text,
                          struct field field)
{
    exchange->end_reason = END_CLIENT_PROTOCOL;
    exchange->error_text = slice_from(text);
    exchange_request_drop(exchange);
    respond_text(exchange, status, arena_format(&exchange->arena, "%s\n", text), field);
}

void respond_redirect_https(struct exchange *exchange)
{
    const struct request_head *head = &exchange->request;
    unsigned port = exchange->conn->identity.redirect_port;
    struct slice host = authority_host(head->authority);
    if (host.length == 0) {
        respond_status(exchange, 400, "The request names no host.");
        return;
    }
    char port_text[8] = "";
    if (port != 443) {
        snprintf(port_text, sizeof port_text, ":%u", port);
    }
    /* "OPTIONS *" is about the server itself, whose URL has no path (RFC 9112 3.2.4). */
    struct slice path = slice_equal(head->raw_path, SLICE("*")) ? SLICE("") : head->raw_path;
    struct slice location = arena_format(
        &exchange->arena, "https://%.*s%s%.*s%s%.*s", SLICE_PRINT(host), port_text,
        SLICE_PRINT(path), head->query.length > 0 ? "?" : "", SLICE_PRINT(head->query));
    exchange_request_drop(exchange);
    respond_text(exchange, 308, SLICE("Moved to https.\n"),
                 (struct field){SLICE("location"), location});
}
