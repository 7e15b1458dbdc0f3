/* SPDX-License-Identifier: MIT */
/*
 * The exchange: state of one request and its response between two halves that do not know each other. It owns the arena
 * and both body queues; it must know neither an HTTP version nor a worker.
 */
#include "http/exchange.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "http/access_log.h"
#include "http/conn.h"
#include "http/exchange_body.h"
#include "http/respond.h"

#define EXCHANGE_ARENA_BLOCK 2048
#define LOG_LINES_PER_SECOND 10

void exchange_count_buffered(struct exchange *exchange)
{
    size_t held = exchange->request_body.size + exchange->response_body.size;
    if (held != exchange->buffered) {
        metric_add(METRIC_buffered_bytes, (int64_t)held - (int64_t)exchange->buffered);
        exchange->buffered = held;
    }
}

static void exchange_free(struct loop_grave *grave)
{
    struct exchange *exchange = LIST_CONTAINER(grave, struct exchange, grave);
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    byteq_done(&exchange->request_body);
    byteq_done(&exchange->response_body);
    exchange_count_buffered(exchange);
    arena_done(&exchange->arena);
    exchange->magic = MAGIC_FREED;
    METRIC_DECREMENT(exchanges);
    mem_free(exchange);
}

static void bury_when_alone(struct exchange *exchange)
{
    if (exchange->conn == NULL && exchange->worker_half == NULL && !exchange->worker_unconfirmed) {
        loop_bury(exchange->loop, &exchange->grave, exchange_free);
    }
}

struct exchange *exchange_new(struct conn *conn)
{
    struct exchange *exchange = mem_calloc(1, sizeof *exchange);
    if (exchange == NULL) {
        return NULL;
    }
    exchange->magic = EXCHANGE_MAGIC;
    exchange->conn = conn;
    exchange->loop = conn->loop;
    exchange->handler = conn->group->handler;
    exchange->started_at = loop_now(conn->loop);
    exchange->request.content_length = -1;
    exchange->response.content_length = -1;
    arena_init(&exchange->arena, EXCHANGE_ARENA_BLOCK);
    byteq_init(&exchange->request_body);
    byteq_init(&exchange->response_body);
    conn->requests++;
    exchange_list_append(&conn->group->exchanges, exchange);
    METRIC_INCREMENT(exchanges);
    return exchange;
}

/* --- the client half ------------------------------------------------------------------------------------------------ */

/* Tells an attached handler that nothing can be sent any more; it lets go before it returns. */
static void tell_worker_gone(struct exchange *exchange)
{
    if (exchange->worker_half != NULL) {
        exchange->handler->on_client_gone(exchange, false);
        REQUIRE(exchange->worker_half == NULL);
    }
}

/* One line for what operators must see: limits of ours and workers that are lost. The codec and the handler tell of the rest, who
 * know more about it. */
static void log_end(const struct exchange *exchange, enum end_reason reason, struct slice text)
{
    /* A flood of refused requests must not become a flood of lines. */
    static _Thread_local uint64_t second;
    static _Thread_local unsigned lines;
    uint64_t now = loop_now(exchange->loop) / CLOCK_NS_PER_S;
    if (reason != END_BODY_TOO_LARGE && reason != END_QUEUE_FULL && reason != END_QUEUE_TIMEOUT &&
        reason != END_NO_WORKER && reason != END_OVERLOAD && reason != END_NO_MEMORY &&
        reason != END_WORKER_LOST && reason != END_SHUTDOWN) {
        return;
    }
    if (now != second) {
        second = now;
        lines = 0;
    }
    if (lines++ < LOG_LINES_PER_SECOND) {
        log_info("http", "client %.*s: a request of %.*s ends with %s: %.*s",
                 SLICE_PRINT(exchange->conn->identity.client_host),
                 SLICE_PRINT(exchange->app_name.length > 0 ? exchange->app_name : SLICE("no app")),
                 end_reason_name(reason), SLICE_PRINT(text));
    }
}

/* A head and the failure of its response may come in the same turn: then the client has seen nothing of it and can be told the truth. */
static void take_back_head(struct exchange *exchange)
{
    bool begun =
        exchange->response_state == RESPONSE_STARTED || exchange->response_state == RESPONSE_ENDED;
    if (!begun || exchange->response_by_gateway || exchange->request.kind == REQUEST_WEBSOCKET ||
        !exchange->conn->ops->take_back(exchange)) {
        return;
    }
    METRIC_INCREMENT(responses_replaced);
    byteq_done(&exchange->response_body);
    exchange_count_buffered(exchange);
    exchange->response = (struct response_head){.content_length = -1};
    exchange->response_state = RESPONSE_NONE;
    exchange->response_end = false;
    exchange->trailers = NULL;
    exchange->trailer_count = 0;
    exchange->first_byte_at = 0;
}

/* The client gets the reason's error response, or the begun response is cut. */
static void end_for_client(struct exchange *exchange, enum end_reason reason, struct slice text)
{
    if (exchange->conn == NULL || exchange->response_state == RESPONSE_CUT) {
        return;
    }
    if (exchange->response_state == RESPONSE_FINISHED) {
        exchange_request_drop(exchange); /* the codec reads the rest on its own account */
        return;
    }
    exchange->end_reason = reason;
    if (text.length > 0) {
        exchange->error_text = arena_copy(&exchange->arena, text);
    }
    log_end(exchange, reason, text);
    exchange_request_drop(exchange);
    if (end_reason_status(reason) != 0) {
        take_back_head(exchange);
    }
    if (exchange->response_state == RESPONSE_NONE && end_reason_status(reason) != 0) {
        respond_error(exchange, reason, (struct slice){NULL, 0});
        return;
    }
    if (exchange->response_state != RESPONSE_NONE) {
        METRIC_INCREMENT(responses_aborted);
    }
    exchange->response_state = RESPONSE_CUT;
    exchange->conn->ops->abort(exchange, reason);
}

static bool server_name_accepted(const struct exchange *exchange)
{
    const struct http_settings *settings = exchange->conn->group->settings;
    if (settings->server_name_count == 0) {
        return true;
    }
    struct slice host = authority_host(exchange->request.authority);
    for (size_t i = 0; i < settings->server_name_count; i++) {
        if (host_matches(settings->server_names[i], host)) {
            return true;
        }
    }
    return false;
}

void exchange_request_head(struct exchange *exchange)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    const struct http_settings *settings = exchange->conn->group->settings;
    METRIC_INCREMENT(requests);
    exchange->head_at = loop_now(exchange->loop);
    exchange->request_end = !exchange->request.has_body;
    /* A tunnel has no length, and what it carries is bounded by [websocket]. */
    exchange->request_body_max =
        exchange->request.kind == REQUEST_WEBSOCKET ? UINT64_MAX : settings->body_size_max;
    if (!server_name_accepted(exchange)) {
        exchange_client_fail(exchange, END_NO_ROUTE, SLICE("Host is not in http.server_names"));
        return;
    }
    if (exchange->conn->identity.redirect_port != 0) {
        respond_redirect_https(exchange);
        return;
    }
    if (exchange->request.content_length > 0 &&
        (uint64_t)exchange->request.content_length > settings->body_size_max) {
        METRIC_INCREMENT(limit_body_size);
        exchange_client_fail(exchange, END_BODY_TOO_LARGE,
                             SLICE("content-length over limits.body_size"));
        return;
    }
    if (exchange->conn->group->pressure >= PRESSURE_REFUSE) {
        METRIC_INCREMENT(overload_refused);
        exchange_client_fail(exchange, END_OVERLOAD, SLICE("gateway.buffer_memory"));
        return;
    }
    exchange->handler->on_head(exchange);
}

size_t exchange_request_room(const struct exchange *exchange)
{
    if (exchange->request_body_dropped) {
        return SIZE_MAX;
    }
    size_t window = (size_t)exchange->conn->group->settings->window;
    size_t held = exchange->request_body.unsent;
    return held >= window ? 0 : window - held;
}

enum error exchange_request_body(struct exchange *exchange, const void *data, size_t length)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->conn != NULL && !exchange->request_end);
    exchange->request_bytes += length;
    if (exchange->request_bytes > exchange->request_body_max) {
        if (!exchange->request_body_dropped) {
            METRIC_INCREMENT(limit_body_size);
            exchange_client_fail(exchange, END_BODY_TOO_LARGE, SLICE("body over limits.body_size"));
        }
        return ERROR_LIMIT;
    }
    if (exchange->request_body_dropped) {
        return ERROR_NONE;
    }
    REQUIRE(length <= exchange_request_room(exchange));
    enum error error = byteq_append(&exchange->request_body, data, length);
    if (error != ERROR_NONE) {
        exchange_client_fail(exchange, END_NO_MEMORY, SLICE("request body"));
        return error;
    }
    exchange_count_buffered(exchange);
    if (exchange->worker_half != NULL) {
        exchange->handler->on_body(exchange);
    }
    return ERROR_NONE;
}

void exchange_request_ended(struct exchange *exchange)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    exchange->request_end = true;
    if (exchange->worker_half != NULL && !exchange->request_body_dropped) {
        exchange->handler->on_body(exchange);
    }
}

void exchange_client_half_closed(struct exchange *exchange)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    if (!exchange->client_half_closed) {
        exchange->client_half_closed = true;
        if (exchange->worker_half != NULL) {
            exchange->handler->on_client_gone(exchange, true);
        }
    }
}

void exchange_response_sent(struct exchange *exchange, size_t length)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    struct byteq *body = &exchange->response_body;
    size_t given = body->size - body->unsent; /* a codec may hold bytes by reference meanwhile */
    if (given < length) {
        byteq_mark_sent(body, length - given);
    }
    byteq_mark_acked(body, length);
    exchange_count_buffered(exchange);
    exchange->response_bytes += length;
    if (exchange->worker_half != NULL) {
        exchange->handler->on_released(exchange, length);
    }
}

void exchange_response_finished(struct exchange *exchange)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->response_state == RESPONSE_ENDED && exchange->response_body.size == 0);
    exchange->response_state = RESPONSE_FINISHED;
    if (exchange->end_reason == END_NONE) {
        exchange->end_reason = END_COMPLETE;
    }
    exchange->ended_at = loop_now(exchange->loop);
}

void exchange_client_fail(struct exchange *exchange, enum end_reason reason, struct slice text)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    tell_worker_gone(exchange);
    end_for_client(exchange, reason, text);
}

void exchange_discard(struct exchange *exchange)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->worker_half == NULL && exchange->response_state == RESPONSE_NONE &&
            exchange->head_at == 0);
    exchange_list_remove(&exchange->conn->group->exchanges, exchange);
    exchange->conn->requests--;
    exchange->conn = NULL;
    bury_when_alone(exchange);
}

void exchange_client_detach(struct exchange *exchange, enum end_reason reason)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->conn != NULL);
    bool finished = exchange->response_state == RESPONSE_FINISHED;
    if (!finished) {
        exchange->response_state = RESPONSE_CUT;
        if (exchange->end_reason == END_NONE) {
            REQUIRE(reason != END_NONE && reason != END_COMPLETE);
            exchange->end_reason = reason;
        }
        exchange->ended_at = loop_now(exchange->loop);
        if (exchange->end_reason == END_CLIENT_GONE) {
            METRIC_INCREMENT(clients_gone);
        }
    }
    if (!finished || !exchange->request_end) {
        /* Also after a complete response, when the app still waits for a body that nobody will read. */
        tell_worker_gone(exchange);
    }
    if (exchange->conn->group->access_log != NULL) {
        access_log_write(exchange->conn->group->access_log, exchange);
    }
    exchange_list_remove(&exchange->conn->group->exchanges, exchange);
    if (exchange->worker_unconfirmed) {
        exchange->charged_to = exchange->conn;
        unconfirmed_list_append(&exchange->conn->unconfirmed, exchange);
    }
    exchange->conn = NULL;
    byteq_done(&exchange->response_body);
    exchange_count_buffered(exchange);
    bury_when_alone(exchange);
}

/* --- the worker half ------------------------------------------------------------------------------------------------- */

void exchange_worker_attach(struct exchange *exchange, void *worker_half)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->worker_half == NULL && worker_half != NULL);
    exchange->worker_half = worker_half;
}

enum error exchange_respond_info(struct exchange *exchange, const struct response_head *head)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(head->status >= 100 && head->status < 200 && head->status != 101);
    if (exchange->conn == NULL || exchange->response_state != RESPONSE_NONE) {
        return ERROR_CLOSED;
    }
    enum http_version version = exchange->request.version;
    bool hidden = version == HTTP_1_0 || (version == HTTP_1_1 && head->status == 103 &&
                                          !exchange->conn->group->settings->early_hints_h1);
    if (hidden || (head->status == 100 && exchange->continue_sent)) {
        return ERROR_NONE;
    }
    exchange->continue_sent |= head->status == 100;
    METRIC_INCREMENT(responses_1xx);
    return exchange->conn->ops->send_head(exchange, head, false);
}

void exchange_continue(struct exchange *exchange)
{
    static const struct response_head head = {.status = 100, .content_length = -1};
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    if (!exchange->request.expect_continue || exchange->request_bytes > 0 ||
        exchange->request_end) {
        return;
    }
    enum error error = exchange_respond_info(exchange, &head);
    if (error == ERROR_NO_MEMORY) {
        /* The client sends its body after a while without the 100 (RFC 9110 10.1.1). */
        log_debug("http", "no memory for a 100 response");
    }
}

static void count_status(unsigned status)
{
    static const enum metric by_class[] = {METRIC_responses_2xx, METRIC_responses_3xx,
                                           METRIC_responses_4xx, METRIC_responses_5xx};
    if (status >= 200 && status < 600) {
        metric_add(by_class[status / 100 - 2], 1);
    }
}

enum error exchange_respond_head(struct exchange *exchange, const struct response_head *head,
                                 bool end)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(head->status >= 200 || head->status < 100);
    if (exchange->conn == NULL) {
        return ERROR_CLOSED;
    }
    REQUIRE(exchange->response_state == RESPONSE_NONE);
    enum body_framing framing = response_framing(&exchange->request, head);
    if (end && framing == BODY_LENGTH) {
        return ERROR_INVALID; /* promises bytes that never come */
    }
    exchange->response = *head;
    exchange->response_framing = framing;
    exchange->response_left = framing == BODY_LENGTH ? head->content_length : 0;
    exchange->first_byte_at = loop_now(exchange->loop);
    bool complete = end || framing == BODY_NONE;
    exchange->response_end = complete;
    exchange->response_state = complete ? RESPONSE_ENDED : RESPONSE_STARTED;
    count_status(head->status);
    return exchange->conn->ops->send_head(exchange, &exchange->response, complete);
}

enum error exchange_accept_websocket(struct exchange *exchange, const struct response_head *head)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->request.kind == REQUEST_WEBSOCKET);
    if (exchange->conn == NULL) {
        return ERROR_CLOSED;
    }
    REQUIRE(exchange->response_state == RESPONSE_NONE);
    exchange->response = *head;
    exchange->response.status = exchange->request.version < HTTP_2 ? 101 : 200;
    exchange->response.content_length = -1;
    exchange->response_framing = BODY_OPEN;
    exchange->first_byte_at = loop_now(exchange->loop);
    exchange->response_state = RESPONSE_STARTED;
    METRIC_INCREMENT(websockets_accepted);
    return exchange->conn->ops->send_head(exchange, &exchange->response, false);
}

enum error exchange_respond_end(struct exchange *exchange, struct field *trailers, size_t count)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    if (exchange->response_state == RESPONSE_ENDED ||
        exchange->response_state == RESPONSE_FINISHED) {
        return ERROR_NONE; /* a body-less response was complete with its head */
    }
    if (exchange->conn == NULL || exchange->response_state != RESPONSE_STARTED) {
        return ERROR_CLOSED;
    }
    if (exchange->response_framing == BODY_LENGTH && exchange->response_left > 0) {
        return ERROR_INVALID;
    }
    bool wanted = exchange->request.te_trailers && exchange->request.version != HTTP_1_0 &&
                  exchange->response_framing == BODY_OPEN;
    exchange->trailers = wanted ? trailers : NULL;
    exchange->trailer_count = wanted ? count : 0;
    exchange->response_end = true;
    exchange->response_state = RESPONSE_ENDED;
    exchange->conn->ops->resume_body(exchange);
    return ERROR_NONE;
}

void exchange_request_taken(struct exchange *exchange, size_t length)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    byteq_mark_sent(&exchange->request_body, length);
    if (exchange->conn != NULL && length > 0) {
        exchange->conn->ops->consumed(exchange, length);
    }
}

void exchange_request_forget(struct exchange *exchange)
{
    struct byteq *body = &exchange->request_body;
    byteq_mark_acked(body, body->size - body->unsent);
    exchange_count_buffered(exchange);
}

void exchange_request_drop(struct exchange *exchange)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    if (exchange->request_body_dropped) {
        return;
    }
    size_t unsent = exchange->request_body.unsent;
    exchange->request_body_dropped = true;
    byteq_done(&exchange->request_body);
    exchange_count_buffered(exchange);
    if (exchange->request_end) {
        return;
    }
    if (exchange->conn != NULL) {
        exchange->conn->ops->consumed(exchange, unsent);
    }
    if (exchange->worker_half != NULL) {
        exchange->handler->on_body(exchange);
    }
}

void exchange_fail(struct exchange *exchange, enum end_reason reason, struct slice text)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->worker_half != NULL);
    exchange->worker_half = NULL;
    if (exchange->conn == NULL) {
        bury_when_alone(exchange);
        return;
    }
    end_for_client(exchange, reason, text);
}

void exchange_worker_detach(struct exchange *exchange)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->worker_half != NULL);
    exchange->worker_half = NULL;
    exchange_request_drop(exchange);
    bury_when_alone(exchange);
}

void exchange_worker_unconfirmed(struct exchange *exchange)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->worker_half != NULL && !exchange->worker_unconfirmed);
    exchange->worker_unconfirmed = true;
    exchange_worker_detach(exchange);
}

void exchange_worker_confirmed(struct exchange *exchange)
{
    REQUIRE_OBJECT(exchange, EXCHANGE_MAGIC);
    REQUIRE(exchange->worker_unconfirmed);
    exchange->worker_unconfirmed = false;
    if (exchange->charged_to != NULL) {
        struct conn *conn = exchange->charged_to;
        unconfirmed_list_remove(&conn->unconfirmed, exchange);
        exchange->charged_to = NULL;
        conn->ops->confirmed(conn);
    }
    bury_when_alone(exchange);
}
