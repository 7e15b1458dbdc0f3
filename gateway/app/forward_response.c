/* SPDX-License-Identifier: MIT */
/*
 * What a worker's stream says, made into a response: heads are decoded and judged here, bodies policed by the exchange.
 */
#include "app/forward.h"

#include "app/forward_file.h"
#include "app/forward_ws.h"
#include "app/head_wire.h"
#include "app/pool_links.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "http/conn.h"

/* An HTTP stream that has run so long counts as long-lived. */
#define LONG_LIVED_NS (30 * CLOCK_NS_PER_S)

/* --- long-lived streams --------------------------------------------------------------------------------------------------- */

static void count_long_lived(struct forward *forward)
{
    forward->long_lived = worker_ref(forward->link->worker);
    atomic_fetch_add_explicit(&forward->long_lived->long_lived, 1, memory_order_relaxed);
}

void forward_left_worker(struct forward *forward)
{
    struct worker *worker = forward->long_lived;
    if (worker != NULL) {
        forward->long_lived = NULL;
        atomic_fetch_sub_explicit(&worker->long_lived, 1, memory_order_relaxed);
        worker_unref(worker);
    }
}

/* The media type is all that is looked at (RFC 9110 8.3.1); parameters follow behind ';'. */
static bool is_event_stream(const struct response_head *head)
{
    const struct field *type = head_find(head->fields, head->field_count, SLICE("content-type"));
    if (type == NULL) {
        return false;
    }
    struct slice rest;
    return slice_equal_nocase(slice_trim(slice_cut(type->value, ';', &rest)),
                              SLICE("text/event-stream"));
}

/* An event stream is long-lived from its head on. False: its worker has as many as it may have. */
static bool admit_event_stream(struct forward *forward, const struct response_head *head)
{
    const struct worker *worker = forward->link->worker;
    if (forward->ws != NULL || forward->long_lived != NULL || !is_event_stream(head)) {
        return true;
    }
    if (atomic_load_explicit(&worker->long_lived, memory_order_relaxed) >=
        worker->app->settings->long_lived_max) {
        METRIC_INCREMENT(limit_long_lived);
        return false;
    }
    count_long_lived(forward);
    return true;
}

/* --- refusing ------------------------------------------------------------------------------------------------------------- */

/* The worker's response cannot be sent: 502, or a cut; the caller returns the error so that the stream is reset. */
static enum error bad_response(struct forward *forward, const char *text)
{
    METRIC_INCREMENT(worker_bad_responses);
    log_warning("app", "%.*s: worker %d gave an invalid response: %s",
                SLICE_PRINT(forward->exchange->app_name), forward->exchange->worker_pid, text);
    pool_link_failed(forward->link);
    forward->stream = NULL; /* the channel resets it */
    forward_fail(forward, END_WORKER_PROTOCOL, text);
    return ERROR_INVALID;
}

static enum error no_memory(struct forward *forward)
{
    forward->stream = NULL;
    forward_fail(forward, END_NO_MEMORY, "no memory for the response");
    return ERROR_NO_MEMORY;
}

void forward_finish(struct forward *forward)
{
    struct exchange *exchange = forward->exchange;
    if (forward->stream != NULL && !forward->end_sent) {
        channel_stream_abort_body(forward->stream);
    }
    if (forward->link != NULL) {
        health_succeeded(&forward->link->worker->health);
        if (!atomic_load_explicit(&forward->link->worker->proven, memory_order_relaxed)) {
            atomic_store_explicit(&forward->link->worker->proven, true, memory_order_relaxed);
        }
    }
    forward_over(forward);
    exchange_worker_detach(exchange);
}

/* The client has gone in the same turn, or a body-less response ran over its bound. */
static enum error nobody_reads(struct forward *forward)
{
    forward_client_gone(forward, false);
    return ERROR_NONE;
}

static enum error respond_error_of(struct forward *forward, enum error error)
{
    switch (error) {
    case ERROR_NONE:
        return ERROR_NONE;
    case ERROR_CLOSED:
        return nobody_reads(forward);
    case ERROR_NO_MEMORY:
        return no_memory(forward);
    default:
        return bad_response(forward, "the body does not match its content-length");
    }
}

enum error forward_refuse_response(struct forward *forward, enum error error, const char *text)
{
    switch (error) {
    case ERROR_CLOSED:
        return nobody_reads(forward);
    case ERROR_NO_MEMORY:
        return no_memory(forward);
    default:
        return bad_response(forward, text);
    }
}

static enum error on_info(struct forward *forward, struct response_head *head)
{
    enum error error = exchange_respond_info(forward->exchange, head);
    return error == ERROR_NO_MEMORY ? no_memory(forward) : ERROR_NONE;
}

static enum error on_head(void *user, unsigned status, struct slice bytes, bool end)
{
    struct forward *forward = user;
    struct exchange *exchange = forward->exchange;
    struct response_head head = {.status = status, .content_length = -1};
    const char *text = "its head is malformed";
    enum error error = head_wire_fields(&exchange->arena, bytes, &head.fields, &head.field_count);
    if (error == ERROR_NONE) {
        error = response_head_check(&exchange->arena, &head, &text);
    }
    if (error == ERROR_NONE && forward->ws != NULL && status / 100 == 2 &&
        exchange->request.version >= HTTP_2) { /* RFC 8441 5: it would be the accept */
        text = "a WebSocket of HTTP/2 and above cannot be refused with a 2xx";
        error = ERROR_INVALID;
    }
    if (error == ERROR_NO_MEMORY) {
        return no_memory(forward);
    }
    if (error != ERROR_NONE) {
        return bad_response(forward, text);
    }
    forward->response_seen = true;
    forward->replayable = false;
    exchange_request_forget(exchange);
    if (status < 200) {
        return on_info(forward, &head);
    }
    if (!end && !admit_event_stream(forward, &head)) {
        forward->stream = NULL; /* the channel resets it */
        forward_fail(forward, END_QUEUE_FULL, "apps.long_lived_max");
        return ERROR_LIMIT;
    }
    forward->phase = FORWARD_ANSWERED;
    forward->last_data_at = loop_now(forward->app_loop->loop);
    if (forward->ws != NULL) {
        METRIC_INCREMENT(websockets_denied);
    }
    error = exchange_respond_head(exchange, &head, end);
    if (error != ERROR_NONE) {
        return respond_error_of(forward, error);
    }
    if (end) {
        forward_finish(forward);
    } else if (forward->settings->http->response_idle != 0) {
        forward_set_timer(forward);
    }
    return ERROR_NONE;
}

static enum error on_data(void *user, struct slice data, bool end)
{
    struct forward *forward = user;
    struct exchange *exchange = forward->exchange;
    uint64_t now = loop_now(forward->app_loop->loop);
    forward->last_data_at = now;
    if (forward->long_lived == NULL && now - exchange->dispatched_at >= LONG_LIVED_NS) {
        count_long_lived(forward);
    }
    enum error error = ERROR_NONE;
    if (data.length > 0) {
        error = exchange_respond_body(exchange, data.data, data.length);
    }
    if (error == ERROR_NONE && end) {
        error = exchange_respond_end(exchange, NULL, 0);
    }
    if (error != ERROR_NONE) {
        return respond_error_of(forward, error);
    }
    if (end) {
        forward_finish(forward);
    }
    return ERROR_NONE;
}

static enum error on_trailers(void *user, struct slice bytes)
{
    struct forward *forward = user;
    struct exchange *exchange = forward->exchange;
    struct field *fields = NULL;
    size_t count = 0;
    const char *text = "its trailers are malformed";
    enum error error = head_wire_fields(&exchange->arena, bytes, &fields, &count);
    if (error == ERROR_NONE) {
        error = trailers_check(&exchange->arena, fields, count, &text);
    }
    if (error == ERROR_NO_MEMORY) {
        return no_memory(forward);
    }
    if (error != ERROR_NONE) {
        return bad_response(forward, text);
    }
    error = exchange_respond_end(exchange, fields, count);
    if (error != ERROR_NONE) {
        return respond_error_of(forward, error);
    }
    forward_finish(forward);
    return ERROR_NONE;
}

/* --- the request body, pulled by the link's flush ----------------------------------------------------------------------------- */

static void on_sendable(void *user, uint32_t room)
{
    struct forward *forward = user;
    struct exchange *exchange = forward->exchange;
    char *scratch = forward->app_loop->body;
    if (forward->ws != NULL) {
        forward_ws_sendable(forward);
        return;
    }
    if (forward->end_sent || exchange->request_body_dropped) {
        return;
    }
    size_t most = room < sizeof forward->app_loop->body ? room : sizeof forward->app_loop->body;
    size_t length = byteq_copy_out(&exchange->request_body, scratch, most);
    bool end = exchange->request_end && length == exchange->request_body.unsent;
    if (length == 0 && !end) {
        return;
    }
    if (channel_stream_send(forward->stream, (struct slice){scratch, length}, end) != ERROR_NONE) {
        channel_stream_reset(forward->stream, FRAME_ERROR_INTERNAL);
        forward->stream = NULL;
        forward_fail(forward, END_NO_MEMORY, "no memory for the request body");
        return;
    }
    forward->sent += length;
    forward->end_sent = end;
    exchange_request_taken(exchange, length);
    if (forward->sent > forward->settings->ipc->window) {
        forward->replayable = false;
    }
    if (!forward->replayable) {
        exchange_request_forget(exchange);
    }
    if (exchange->request_body.unsent > 0) {
        channel_stream_want_send(forward->stream);
    }
    if (end && forward->eof_owed) {
        forward->eof_owed = false;
        channel_stream_disconnect(forward->stream, FRAME_ERROR_CLIENT_EOF);
    }
}

static void on_credit(void *user)
{
    struct forward *forward = user;
    if (forward->ws != NULL) {
        return; /* who waits for credit has said want_send */
    }
    exchange_continue(forward->exchange);
    if (forward->exchange->request_body.unsent > 0 ||
        (forward->exchange->request_end && !forward->end_sent)) {
        channel_stream_want_send(forward->stream);
    }
}

static void on_gone(void *user, const struct channel_gone *gone)
{
    struct forward *forward = user;
    forward->stream = NULL;
    if (forward->phase == FORWARD_UNCONFIRMED) {
        forward_confirmed(forward);
        return;
    }
    if (forward->ws != NULL && forward->ws->accepted) {
        forward_ws_gone(forward, gone);
        return;
    }
    if (forward_file_is_rest(forward)) { /* the response needs the worker no more (SPEC R111) */
        forward->link = NULL;
        return;
    }
    if (gone->end != CHANNEL_END_RESET) {
        forward_lost(forward, gone);
        return;
    }
    switch (gone->code) {
    case FRAME_ERROR_APP_EXCEPTION:
        forward_fail(forward, END_APP_EXCEPTION, "the app raised an exception");
        break;
    case FRAME_ERROR_APP_INCOMPLETE:
        forward_fail(forward, END_APP_INCOMPLETE,
                     "the app returned before its response was complete");
        break;
    case FRAME_ERROR_DRAINING:
        forward_fail(forward, END_SHUTDOWN, "the worker is stopping");
        break;
    default:
        forward_fail(forward, END_WORKER_PROTOCOL, "the worker gave the request up");
        break;
    }
}

const struct channel_user_ops forward_stream_ops = {
    .on_head = on_head,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_accept = forward_ws_on_accept,
    .on_message = forward_ws_on_message,
    .on_close = forward_ws_on_close,
    .on_file = forward_file_on_file,
    .on_sendable = on_sendable,
    .on_credit = on_credit,
    .on_gone = on_gone,
};
