/* SPDX-License-Identifier: MIT */
/*
 * The response's body on its way into the exchange's queue: counted against the content-length that the head promised, and swallowed
 * where a response has none.
 */
#include "http/exchange_body.h"

#include "base/chunk.h"
#include "http/conn.h"
#include "http/exchange.h"

/* How many body bytes of an app are swallowed after a body-less response before the app is told that nobody reads. */
#define SWALLOW_MAX (UINT64_C(1) << 20)

/* Whether the app itself said that there is no body, by content-length: 0, where the response could have one (SPEC R54). */
static bool promised_nothing(const struct exchange *exchange)
{
    return exchange->response.content_length == 0 && exchange->response.status != 304 &&
           !slice_equal(exchange->request.method, SLICE("HEAD"));
}

/* A body-less response is complete with its head. */
static bool is_bodyless(const struct exchange *exchange)
{
    return exchange->response_state == RESPONSE_ENDED ||
           exchange->response_state == RESPONSE_FINISHED;
}

/* Body bytes of a body-less response. */
static enum error swallow(struct exchange *exchange, size_t length)
{
    if (length > 0 && promised_nothing(exchange)) {
        return ERROR_INVALID;
    }
    exchange->response_swallowed += length;
    if (exchange->response_swallowed > SWALLOW_MAX) {
        return ERROR_CLOSED;
    }
    if (exchange->worker_half != NULL && length > 0) {
        exchange->handler->on_released(exchange, length);
    }
    return ERROR_NONE;
}

/* Counts bytes that are about to be queued. */
static enum error take_bytes(struct exchange *exchange, size_t length)
{
    if (exchange->conn == NULL || exchange->response_state != RESPONSE_STARTED) {
        return ERROR_CLOSED;
    }
    if (exchange->response_framing == BODY_LENGTH) {
        if (length > (uint64_t)exchange->response_left) {
            return ERROR_INVALID;
        }
        exchange->response_left -= (int64_t)length;
    }
    return ERROR_NONE;
}

static void queued(struct exchange *exchange)
{
    exchange_count_buffered(exchange);
    exchange->conn->ops->resume_body(exchange);
}

enum error exchange_respond_body(struct exchange *exchange, const void *data, size_t length)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    if (is_bodyless(exchange)) {
        return swallow(exchange, length);
    }
    enum error error = take_bytes(exchange, length);
    if (error == ERROR_NONE) {
        error = byteq_append(&exchange->response_body, data, length);
    }
    if (error == ERROR_NONE) {
        queued(exchange);
    }
    return error;
}

enum error exchange_respond_chunk_take(struct exchange *exchange, struct chunk *chunk,
                                       size_t length)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    enum error error = take_bytes(exchange, length);
    if (error != ERROR_NONE) {
        chunk_unref(chunk);
        return error;
    }
    error = byteq_append_take(&exchange->response_body, chunk, 0, length);
    if (error == ERROR_NONE) {
        queued(exchange);
    }
    return error;
}

enum error exchange_respond_judge(const struct exchange *exchange, uint64_t length, bool end,
                                  bool *ret_wanted)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    if (is_bodyless(exchange)) {
        *ret_wanted = false;
        return length > 0 && promised_nothing(exchange) ? ERROR_INVALID : ERROR_NONE;
    }
    *ret_wanted = true;
    if (exchange->conn == NULL || exchange->response_state != RESPONSE_STARTED) {
        return ERROR_CLOSED;
    }
    uint64_t left = (uint64_t)exchange->response_left;
    if (exchange->response_framing == BODY_LENGTH && (length > left || (end && length < left))) {
        return ERROR_INVALID;
    }
    return ERROR_NONE;
}
