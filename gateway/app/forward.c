/* SPDX-License-Identifier: MIT */
/*
 * Requests towards workers: waiting, opening the stream, pumping the body as credit comes, deadlines, the client's end.
 * Responses are in forward_response.c, what happens when a worker is lost in forward_retry.c.
 */
#include "app/forward.h"

#include "app/forward_file.h"
#include "app/forward_ws.h"
#include "app/head_wire.h"
#include "app/proxy_headers.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "http/conn.h"
#include "http/respond.h"

#define FORWARD_MAGIC UINT32_C(0x46575244)

static const struct http_settings *http_settings(const struct forward *forward)
{
    return forward->settings->http;
}

/* --- end ------------------------------------------------------------------------------------------------------------------ */

static void free_forward(struct loop_grave *grave)
{
    struct forward *forward = LIST_CONTAINER(grave, struct forward, grave);
    REQUIRE_OBJECT(forward, FORWARD_MAGIC);
    forward->magic = MAGIC_FREED;
    METRIC_DECREMENT(forwards);
    forward_ws_free(forward->ws);
    apps_settings_release(forward->settings, forward->app_loop->index);
    mem_free(forward);
}

void forward_over(struct forward *forward)
{
    REQUIRE_OBJECT(forward, FORWARD_MAGIC);
    REQUIRE(forward->phase != FORWARD_OVER);
    if (forward->phase == FORWARD_WAITING && pool_waiter_list_linked(&forward->waiter)) {
        pool_cancel(&forward->waiter);
    }
    forward_file_drop(forward);
    if (forward->stream != NULL) {
        channel_stream_detach(forward->stream);
        forward->stream = NULL;
    }
    if (forward->ws != NULL) {
        forward_ws_over(forward);
    }
    forward_left_worker(forward);
    forward->phase = FORWARD_OVER;
    forward->exchange = NULL;
    loop_timer_clear(&forward->timer);
    loop_bury(forward->app_loop->loop, &forward->grave, free_forward);
}

void forward_fail(struct forward *forward, enum end_reason reason, const char *text)
{
    struct exchange *exchange = forward->exchange;
    forward_over(forward);
    exchange_fail(exchange, reason, slice_from(text));
}

/* The worker is told that nobody wants the stream any more. */
static void reset_stream(struct forward *forward, enum frame_error code)
{
    if (forward->stream != NULL) {
        channel_stream_reset(forward->stream, code);
        forward->stream = NULL;
    }
}

/* --- deadlines ------------------------------------------------------------------------------------------------------------ */

static uint64_t at_or_never(uint64_t start, uint64_t limit)
{
    return limit == 0 ? UINT64_MAX : start + limit;
}

/* When the next of the three deadlines is, and what it means. */
static uint64_t next_deadline(const struct forward *forward, enum end_reason *ret_reason)
{
    const struct http_settings *settings = http_settings(forward);
    const struct exchange *exchange = forward->exchange;
    uint64_t at = at_or_never(exchange->started_at, settings->request_deadline);
    *ret_reason = END_REQUEST_DEADLINE;
    uint64_t other = UINT64_MAX;
    if (forward->phase == FORWARD_SENT) {
        other = at_or_never(exchange->dispatched_at, settings->first_byte);
    } else if (forward->phase == FORWARD_ANSWERED) {
        other = at_or_never(forward->last_data_at, settings->response_idle);
    }
    if (other < at) {
        at = other;
        *ret_reason = forward->phase == FORWARD_SENT ? END_FIRST_BYTE_TIMEOUT : END_RESPONSE_IDLE;
    }
    return at;
}

static void on_timer(struct loop_timer *timer)
{
    struct forward *forward = LIST_CONTAINER(timer, struct forward, timer);
    REQUIRE_OBJECT(forward, FORWARD_MAGIC);
    enum end_reason reason;
    if (forward->phase == FORWARD_ANSWERED &&
        (forward->exchange->response_body.size > 0 || forward->file != NULL)) {
        /* It is the client that is slow (limits.write_stall), or the disk: the app may be waiting for it. */
        forward->last_data_at = loop_now(forward->app_loop->loop);
    }
    if (next_deadline(forward, &reason) > loop_now(forward->app_loop->loop)) {
        forward_set_timer(forward);
        return;
    }
    static const char *const texts[] = {
        [END_REQUEST_DEADLINE] = "limits.request_deadline",
        [END_FIRST_BYTE_TIMEOUT] = "limits.first_byte",
        [END_RESPONSE_IDLE] = "limits.response_idle",
    };
    metric_add(reason == END_REQUEST_DEADLINE     ? METRIC_request_deadlines
               : reason == END_FIRST_BYTE_TIMEOUT ? METRIC_first_byte_timeouts
                                                  : METRIC_response_idle_timeouts,
               1);
    log_info("app", "request cut at %s", texts[reason]);
    reset_stream(forward, FRAME_ERROR_DEADLINE);
    forward_fail(forward, reason, texts[reason]);
}

void forward_set_timer(struct forward *forward)
{
    enum end_reason reason;
    uint64_t at = next_deadline(forward, &reason);
    uint64_t now = loop_now(forward->app_loop->loop);
    if (at == UINT64_MAX) {
        loop_timer_clear(&forward->timer);
    } else if (loop_timer_set(&forward->timer, at > now ? at - now : 0) != ERROR_NONE) {
        /* Without its deadline the request could hang for ever. */
        reset_stream(forward, FRAME_ERROR_INTERNAL);
        forward_fail(forward, END_NO_MEMORY, "no memory for a deadline");
    }
}

/* --- towards the worker --------------------------------------------------------------------------------------------------- */

/* The connection's id in CONN frames: made when it is first needed, from 1, never one that another open connection of this loop has. */
static enum error conn_wire_id(struct app_loop *app_loop, struct conn *conn)
{
    while (conn->wire_id == 0) {
        uint32_t id = ++app_loop->last_conn;
        if (id == 0 || idmap_get(&app_loop->conns, id) != NULL) {
            continue;
        }
        enum error error = idmap_put(&app_loop->conns, id, conn);
        if (error != ERROR_NONE) {
            return error;
        }
        conn->wire_id = id;
    }
    return ERROR_NONE;
}

/* Announces the connection's certificates where the worker's default does not say it all; the id for the head. */
static enum error announce_tls(struct forward *forward, struct pool_link *link, uint32_t *ret_id)
{
    struct conn *conn = forward->exchange->conn;
    const struct conn_identity *identity = &conn->identity;
    const struct apps_settings *settings = forward->settings;
    *ret_id = 0;
    if (!identity->secure ||
        (identity->client_chain_pem.length == 0 &&
         slice_equal(identity->server_cert_pem, link->settings->server_cert_pem))) {
        return ERROR_NONE;
    }
    enum error error = conn_wire_id(forward->app_loop, conn);
    if (error != ERROR_NONE) {
        return error;
    }
    if (channel_knows_conn(link->channel, conn->wire_id)) {
        *ret_id = conn->wire_id;
        return ERROR_NONE;
    }
    struct strbuf map;
    strbuf_init(&map);
    head_wire_conn(&map, identity, settings->ipc->max_frame);
    error = map.failed
                ? ERROR_NO_MEMORY
                : channel_conn(link->channel, conn->wire_id, (struct slice){map.data, map.length});
    strbuf_done(&map);
    *ret_id = conn->wire_id;
    return error;
}

/* The REQUEST head into the loop's scratch buffer. */
static enum error write_head(struct forward *forward, struct pool_link *link)
{
    const struct exchange *exchange = forward->exchange;
    const struct conn *conn = exchange->conn;
    const struct apps_settings *settings = forward->settings;
    struct strbuf *head = &forward->app_loop->head;
    struct proxy_identity proxied;
    proxy_headers_resolve(settings, conn, &exchange->request, &proxied);
    struct slice prefix = {NULL, 0};
    if (forward->route != NULL && forward->route->strip_prefix) {
        prefix = forward->route->path;
        while (prefix.length > 0 && prefix.data[prefix.length - 1] == '/') {
            prefix.length--;
        }
    }
    struct head_wire_context context = {
        .identity = &proxied.identity,
        .scheme = proxied.scheme,
        .host = proxied.host,
        .root_path = prefix,
        .early_hints = exchange->request.version >= HTTP_2 ||
                       (exchange->request.version == HTTP_1_1 && settings->http->early_hints_h1),
        .strip_forwarded = !conn->identity.trusted_proxy,
    };
    if (proxied.prefix.length >
        0) { /* what the proxy took off stands before what the route takes off */
        context.root_path = arena_format(&forward->exchange->arena, "%.*s%.*s",
                                         SLICE_PRINT(proxied.prefix), SLICE_PRINT(prefix));
        if (context.root_path.data == NULL) {
            return ERROR_NO_MEMORY;
        }
    }
    enum error error = announce_tls(forward, link, &context.tls_conn);
    if (error == ERROR_NONE) {
        strbuf_clear(head);
        head_wire_request(head, &exchange->request, &context);
        error = head->failed ? ERROR_NO_MEMORY : ERROR_NONE;
    }
    return error;
}

/* Takes body bytes that go inline behind the head: at most what the window allows (SPEC R45, R65). */
static struct slice inline_body(struct forward *forward, bool expect)
{
    struct app_loop *app_loop = forward->app_loop;
    size_t most = sizeof app_loop->body;
    uint32_t window = forward->settings->ipc->window;
    uint32_t frame_room = forward->settings->ipc->max_frame;
    size_t head = app_loop->head.length;
    if (most > window - FRAME_DATA_OVERHEAD) {
        most = window - FRAME_DATA_OVERHEAD;
    }
    if (most > frame_room - head) {
        most = frame_room - head;
    }
    size_t length =
        expect ? 0 : byteq_copy_out(&forward->exchange->request_body, app_loop->body, most);
    return (struct slice){app_loop->body, length};
}

/* What follows an opened stream. */
static void sent_to(struct forward *forward, struct pool_link *link, size_t length, bool end)
{
    struct exchange *exchange = forward->exchange;
    if (channel_stream_id(forward->stream) >= FRAME_MAX_STREAM_ID) {
        atomic_store_explicit(&link->worker->in_loop[forward->app_loop->index].replaceable, true,
                              memory_order_relaxed);
    }
    forward->link = link;
    forward->phase = FORWARD_SENT;
    forward->sent = length;
    forward->end_sent = end;
    if (forward->waiter.again) {
        forward->waited += loop_now(forward->app_loop->loop) - forward->waiting_since;
    }
    exchange->worker_pid = (int)link->worker->pid;
    exchange->dispatched_at = loop_now(forward->app_loop->loop);
    exchange_request_taken(exchange, length);
    if (forward->ws != NULL) {
        forward_ws_placed(forward);
    } else if (exchange->request_body.unsent > 0) {
        channel_stream_want_send(forward->stream);
    }
    if (forward->eof_owed && end) {
        forward->eof_owed = false;
        channel_stream_disconnect(forward->stream, FRAME_ERROR_CLIENT_EOF);
    }
    forward_set_timer(forward);
}

/* The head, with what there is of the body, as a stream on the link. */
static void open_stream(struct forward *forward, struct pool_link *link)
{
    const struct exchange *exchange = forward->exchange;
    /* Once the client was told to go on, or has begun to send, the body comes without being asked for. */
    bool expect = exchange->request.expect_continue && !exchange->continue_sent &&
                  exchange->request_bytes == 0;
    bool websocket = forward->ws != NULL; /* early bytes of the client wait for WS_ACCEPT */
    struct slice body = websocket ? (struct slice){NULL, 0} : inline_body(forward, expect);
    bool end = exchange->request_end && body.length == exchange->request_body.unsent;
    struct channel_request request = {
        .head = {forward->app_loop->head.data, forward->app_loop->head.length},
        .body = body,
        .end = end,
        .expect = expect && !end,
        .websocket = websocket,
    };
    forward->stream = channel_open(link->channel, &request, &forward_stream_ops, forward);
    if (forward->stream != NULL) {
        sent_to(forward, link, body.length, end);
    } else {
        pool_release(link);
        forward_fail(forward, END_NO_MEMORY, "no memory to place the request");
    }
}

static void on_place(struct pool_waiter *waiter, struct pool_link *link)
{
    struct forward *forward = LIST_CONTAINER(waiter, struct forward, waiter);
    REQUIRE_OBJECT(forward, FORWARD_MAGIC);
    struct exchange *exchange = forward->exchange;
    if (write_head(forward, link) != ERROR_NONE) {
        pool_release(link);
        forward_fail(forward, END_NO_MEMORY, "no memory to place the request");
    } else if (forward->app_loop->head.length > forward->settings->ipc->max_frame) {
        pool_release(link);
        METRIC_INCREMENT(limit_header_block);
        forward_over(forward);
        exchange_worker_detach(exchange);
        respond_status(exchange, 431, "The request's target and fields are too large.");
    } else {
        open_stream(forward, link);
    }
}

static void on_expire(struct pool_waiter *waiter, enum end_reason reason)
{
    struct forward *forward = LIST_CONTAINER(waiter, struct forward, waiter);
    forward_fail(forward, reason,
                 reason == END_QUEUE_FULL      ? "apps.queue_max"
                 : reason == END_QUEUE_TIMEOUT ? "apps.queue_timeout: every worker is busy"
                 : reason == END_NO_WORKER     ? "apps.queue_timeout: no worker is ready"
                 : reason == END_NO_MEMORY     ? "no memory for a place in the queue"
                 : reason == END_NO_WEBSOCKET  ? "no worker of the app offers WebSockets"
                                               : "the gateway is stopping");
}

void forward_start(struct app_loop *app_loop, struct exchange *exchange, struct pool *pool,
                   const struct route_settings *route, struct forward_ws *ws)
{
    struct forward *forward = mem_calloc(1, sizeof *forward);
    if (forward == NULL) {
        forward_ws_free(ws);
        exchange_client_fail(exchange, END_NO_MEMORY, SLICE("no memory for the request"));
        return;
    }
    METRIC_INCREMENT(forwards);
    forward->magic = FORWARD_MAGIC;
    forward->app_loop = app_loop;
    forward->settings = apps_settings_hold(app_loop->settings, app_loop->index);
    forward->exchange = exchange;
    forward->route = route;
    forward->replayable = true;
    forward->waiter.on_place = on_place;
    forward->waiter.on_expire = on_expire;
    if (ws != NULL) {
        forward->ws = ws;
        ws->forward = forward;
        forward->waiter.websocket = true;
        forward_ws_list_append(app_loop->websockets, ws);
    }
    loop_timer_init(&forward->timer, app_loop->loop, on_timer);
    exchange->app_name = arena_copy(&exchange->arena, slice_from(pool->app->name));
    exchange_worker_attach(exchange, forward);
    forward->waiter.safe = forward_is_safe(forward, pool);
    pool_wait(pool, &forward->waiter, pool->app->settings->queue_timeout, false);
    if (http_settings(forward)->request_deadline != 0) {
        forward_set_timer(forward);
    }
}

bool forward_credit(const void *worker_half, uint32_t *ret_credit)
{
    const struct forward *forward = worker_half;
    if (forward == NULL || forward->magic != FORWARD_MAGIC || forward->stream == NULL) {
        return false;
    }
    *ret_credit = channel_stream_credit(forward->stream);
    return true;
}

/* --- the exchange's news ---------------------------------------------------------------------------------------------------- */

void forward_body(struct forward *forward)
{
    REQUIRE_OBJECT(forward, FORWARD_MAGIC);
    if (forward->ws != NULL) {
        forward_ws_body(forward);
        return;
    }
    if (forward->stream == NULL || forward->end_sent) {
        return;
    }
    if (forward->exchange
            ->request_body_dropped) { /* the app still runs, but nobody reads the body on */
        forward->end_sent = true;
        channel_stream_abort_body(forward->stream);
    } else {
        channel_stream_want_send(forward->stream);
    }
}

void forward_released(struct forward *forward, size_t length)
{
    REQUIRE_OBJECT(forward, FORWARD_MAGIC);
    if (forward->ws != NULL && forward->ws->accepted) {
        forward_ws_released(forward, length);
    } else if (forward->file != NULL) {
        forward_file_released(forward, length);
    } else if (forward->stream != NULL) {
        channel_stream_release(forward->stream, (uint32_t)length);
    }
}

void forward_client_gone(struct forward *forward, bool half_closed)
{
    REQUIRE_OBJECT(forward, FORWARD_MAGIC);
    struct exchange *exchange = forward->exchange;
    if (half_closed) {
        if (forward->stream != NULL && forward->end_sent) {
            channel_stream_disconnect(forward->stream, FRAME_ERROR_CLIENT_EOF);
        } else {
            forward->eof_owed = true;
        }
        return;
    }
    if (forward_file_is_rest(forward) && forward_file_is_sent(forward)) {
        forward_finish(forward); /* the client has it all; only FILE_DONE was still to be said */
        return;
    }
    forward_file_drop(forward);
    if (forward->stream != NULL) {
        channel_stream_disconnect(forward->stream, FRAME_ERROR_CLIENT_GONE);
    }
    /* Where a connection carries many requests, one that was given up counts until its worker is done with it (CVE-2023-44487). */
    if (forward->stream != NULL && exchange->request.version >= HTTP_2) {
        forward->phase = FORWARD_UNCONFIRMED;
        loop_timer_clear(&forward->timer);
        if (forward->ws != NULL) {
            forward_ws_over(forward);
        }
        exchange_worker_unconfirmed(exchange);
        return;
    }
    forward_over(forward);
    exchange_worker_detach(exchange);
}

void forward_confirmed(struct forward *forward)
{
    REQUIRE_OBJECT(forward, FORWARD_MAGIC);
    REQUIRE(forward->phase == FORWARD_UNCONFIRMED && forward->stream == NULL);
    struct exchange *exchange = forward->exchange;
    forward_over(forward);
    exchange_worker_confirmed(exchange);
}
