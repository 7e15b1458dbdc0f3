/* SPDX-License-Identifier: MIT */
/*
 * The life of a WebSocket's forward: handshake, keep-alive, and all ways in which it ends. The bytes and messages of an open one go
 * through forward_ws_flow.c.
 */
#include "app/forward_ws.h"

#include "app/forward_ws_flow.h"
#include "app/head_wire.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "http/conn.h"
#include "http/respond.h"
#include "ws/ws_handshake.h"

static void on_timer(struct loop_timer *timer);

/* --- handshake -------------------------------------------------------------------------------------------------------------- */

static void refuse(struct exchange *exchange, enum ws_verdict verdict, const char *text)
{
    metric_add(
        verdict == WS_VERDICT_ORIGIN ? METRIC_ws_refused_origin : METRIC_ws_refused_handshake, 1);
    if (verdict == WS_VERDICT_VERSION) { /* RFC 6455 4.4 */
        respond_status_field(exchange, 426, text,
                             (struct field){SLICE("sec-websocket-version"), SLICE("13")});
    } else {
        respond_status(exchange, verdict == WS_VERDICT_ORIGIN ? 403 : 400, text);
    }
}

void forward_ws_start(struct app_loop *app_loop, struct exchange *exchange, struct pool *pool,
                      const struct route_settings *route)
{
    const struct ws_settings *settings = app_loop->settings->ws;
    const char *text = "";
    if (settings == NULL) {
        exchange_client_fail(exchange, END_NO_WEBSOCKET, SLICE("WebSockets are off"));
        return;
    }
    enum ws_verdict verdict = ws_handshake_judge(&exchange->request, settings, &text);
    if (verdict != WS_VERDICT_GOOD) {
        refuse(exchange, verdict, text);
        return;
    }
    struct forward_ws *ws = mem_calloc(1, sizeof *ws);
    if (ws == NULL) {
        exchange_client_fail(exchange, END_NO_MEMORY, SLICE("no memory for the WebSocket"));
        return;
    }
    ws->deflate = ws_deflate_negotiate(&exchange->request, settings);
    loop_timer_init(&ws->timer, app_loop->loop, on_timer);
    forward_start(app_loop, exchange, pool, route, ws);
}

void forward_ws_placed(struct forward *forward)
{
    forward_ws_left_worker(forward);
    forward->ws->worker = worker_ref(forward->link->worker);
    atomic_fetch_add_explicit(&forward->ws->worker->long_lived, 1, memory_order_relaxed);
}

void forward_ws_left_worker(struct forward *forward)
{
    struct worker *worker = forward->ws->worker;
    if (worker != NULL) {
        forward->ws->worker = NULL;
        atomic_fetch_sub_explicit(&worker->long_lived, 1, memory_order_relaxed);
        worker_unref(worker);
    }
}

/* The answer as the app wants it, judged (SPEC R84). ERROR_INVALID: `ret_text` says why. */
static enum error read_accept(struct forward *forward, struct slice bytes,
                              struct response_head *ret_head, const char **ret_text)
{
    struct exchange *exchange = forward->exchange;
    struct slice subprotocol;
    struct field *fields = NULL;
    size_t count = 0;
    enum error error = head_wire_accept(&exchange->arena, bytes, &subprotocol, &fields, &count);
    if (error == ERROR_NONE && subprotocol.length > 0 &&
        !ws_handshake_offers(&exchange->request, subprotocol)) {
        *ret_text = "its subprotocol is not one that the client offers";
        return ERROR_INVALID;
    }
    if (error == ERROR_NONE) {
        error = ws_handshake_check_fields(&exchange->arena, fields, &count, ret_text);
    }
    if (error == ERROR_NONE) {
        error = ws_handshake_answer(&exchange->arena, &exchange->request, &forward->ws->deflate,
                                    subprotocol, fields, count, ret_head);
    }
    return error;
}

enum error forward_ws_on_accept(void *user, struct slice accept)
{
    struct forward *forward = user;
    struct forward_ws *ws = forward->ws;
    struct app_loop *app_loop = forward->app_loop;
    struct response_head head;
    const char *text = "its WS_ACCEPT is malformed";
    enum error error = read_accept(forward, accept, &head, &text);
    if (error == ERROR_NONE) {
        error = exchange_accept_websocket(forward->exchange, &head);
    }
    if (error != ERROR_NONE) {
        return forward_refuse_response(forward, error, text);
    }
    forward->response_seen = true;
    forward->replayable = false;
    forward->phase = FORWARD_ANSWERED;
    loop_timer_clear(&forward->timer); /* no deadline holds for an open WebSocket */
    ws->accepted = true;
    ws_session_init(&ws->session, forward->settings->ws, &ws->deflate, forward_ws_write, ws);
    METRIC_INCREMENT(websockets);
    ws->heard_at = loop_now(app_loop->loop);
    if (app_loop->draining) {
        forward_ws_shut(forward, WS_CODE_GOING_AWAY, "the server is stopping", END_SHUTDOWN);
        return ERROR_NONE;
    }
    forward_ws_set_timer(forward);
    if (forward->phase != FORWARD_OVER) {
        forward_ws_body(forward); /* what came early */
    }
    return ERROR_NONE;
}

/* --- ends --------------------------------------------------------------------------------------------------------------------- */

void forward_ws_end(struct forward *forward)
{
    struct exchange *exchange = forward->exchange;
    enum error error = exchange_respond_end(exchange, NULL, 0);
    forward_over(forward);
    if (error == ERROR_NONE) {
        exchange_worker_detach(exchange);
    } else {
        exchange_fail(exchange, END_CLIENT_GONE, SLICE("the client is gone"));
    }
}

void forward_ws_break(struct forward *forward, enum end_reason reason, const char *text)
{
    if (forward->stream != NULL) {
        channel_stream_reset(forward->stream, FRAME_ERROR_INTERNAL);
        forward->stream = NULL;
    }
    forward_fail(forward, reason, text);
}

/* Our close frame goes out; the client has close_timeout for its own. The stream was let go. */
static void begin_closing(struct forward *forward, unsigned code, struct slice reason)
{
    struct forward_ws *ws = forward->ws;
    REQUIRE(forward->stream == NULL);
    forward_ws_left_worker(forward);
    ws->closing = true;
    ws->close_at = loop_now(forward->app_loop->loop);
    if (ws_session_close(&ws->session, code, reason) != ERROR_NONE) {
        forward_ws_break(forward, END_NO_MEMORY, "no memory for a close frame");
        return;
    }
    forward_ws_set_timer(forward);
    if (forward->phase != FORWARD_OVER) {
        forward_ws_body(forward); /* nothing of it waits for the app any more */
    }
}

/* Why it ends, for the logs. */
static void note_reason(struct forward *forward, enum end_reason reason, const char *text)
{
    struct exchange *exchange = forward->exchange;
    if (reason != END_NONE && exchange->end_reason == END_NONE) {
        exchange->end_reason = reason;
        exchange->error_text = slice_from(text);
    }
}

void forward_ws_shut(struct forward *forward, unsigned code, const char *text,
                     enum end_reason reason)
{
    note_reason(forward, reason, text);
    if (forward->stream != NULL) {
        channel_stream_close_websocket(forward->stream, code, slice_from(text));
        forward->stream = NULL;
    }
    begin_closing(forward, code, slice_from(text));
}

/* The stream is over without a WS_CLOSE (SPEC R89). */
static void lost_app(struct forward *forward, unsigned code, const char *text,
                     enum end_reason reason)
{
    forward->stream = NULL;
    if (!forward->ws->closing) {
        note_reason(forward, reason, text);
        begin_closing(forward, code, slice_from(text));
    }
}

enum error forward_ws_bad_app(struct forward *forward, enum error error, const char *text)
{
    if (error != ERROR_NO_MEMORY) {
        METRIC_INCREMENT(worker_bad_responses);
        log_warning("app", "%.*s: worker %d: %s", SLICE_PRINT(forward->exchange->app_name),
                    forward->exchange->worker_pid, text);
    }
    lost_app(forward, WS_CODE_INTERNAL, "internal error", END_WORKER_PROTOCOL);
    return error;
}

void forward_ws_gone(struct forward *forward, const struct channel_gone *gone)
{
    if (gone->end != CHANNEL_END_RESET) {
        lost_app(forward, WS_CODE_INTERNAL, "the application process ended", END_WORKER_LOST);
    } else if (gone->code == FRAME_ERROR_DRAINING) {
        lost_app(forward, WS_CODE_RESTART, "the application restarts", END_SHUTDOWN);
    } else if (gone->code == FRAME_ERROR_APP_EXCEPTION) {
        lost_app(forward, WS_CODE_INTERNAL, "internal error", END_APP_EXCEPTION);
    } else {
        lost_app(forward, WS_CODE_INTERNAL, "internal error", END_APP_INCOMPLETE);
    }
}

enum error forward_ws_on_close(void *user, unsigned code, struct slice reason)
{
    struct forward *forward = user;
    if (!ws_code_valid(code) || !ws_utf8_valid(reason)) { /* SPEC R87 */
        return forward_ws_bad_app(forward, ERROR_INVALID,
                                  "its WS_CLOSE has a reserved code or a reason that is not UTF-8");
    }
    channel_stream_detach(forward->stream);
    forward->stream = NULL;
    begin_closing(forward, code, reason);
    return ERROR_NONE;
}

void forward_ws_over(struct forward *forward)
{
    struct forward_ws *ws = forward->ws;
    if (!forward_ws_list_linked(ws)) {
        return; /* its client went before */
    }
    forward_ws_left_worker(forward);
    loop_timer_clear(&ws->timer);
    forward_ws_list_remove(forward->app_loop->websockets, ws);
    if (ws->accepted) {
        METRIC_DECREMENT(websockets);
    }
}

void forward_ws_free(struct forward_ws *ws)
{
    if (ws != NULL) {
        ws_session_done(&ws->session);
        mem_free(ws);
    }
}

/* --- draining ------------------------------------------------------------------------------------------------------------------ */

void forward_ws_drain_loop(struct app_loop *app_loop)
{
    app_loop->draining = true;
    LIST_EACH(forward_ws_list, app_loop->websockets, struct forward_ws, ws)
    {
        if (ws->accepted && !ws->closing) {
            forward_ws_shut(ws->forward, WS_CODE_GOING_AWAY, "the server is stopping",
                            END_SHUTDOWN);
        }
    }
}

void forward_ws_drain_link(struct app_loop *app_loop, const struct pool_link *link)
{
    uint64_t keep = link->pool->app->settings->ws_on_drain;
    LIST_EACH(forward_ws_list, app_loop->websockets, struct forward_ws, ws)
    {
        if (ws->forward->stream == NULL || ws->forward->link != link || ws->drain_at != 0) {
            continue;
        }
        ws->drain_at = loop_now(app_loop->loop) + keep;
        if (ws->accepted) {
            forward_ws_set_timer(ws->forward);
        }
    }
}

/* --- keep-alive ------------------------------------------------------------------------------------------------------------------ */

/* When the timer is needed next; UINT64_MAX: not. */
static uint64_t next_time(const struct forward_ws *ws)
{
    const struct ws_settings *settings = ws->forward->settings->ws;
    if (ws->closing) {
        return ws->close_at + settings->close_timeout;
    }
    uint64_t at = ws->drain_at != 0 ? ws->drain_at : UINT64_MAX;
    if (settings->ping_interval != 0) {
        uint64_t ping = ws->ping_at != 0 ? ws->ping_at + settings->ping_timeout
                                         : ws->heard_at + settings->ping_interval;
        at = ping < at ? ping : at;
    }
    return at;
}

void forward_ws_set_timer(struct forward *forward)
{
    struct forward_ws *ws = forward->ws;
    uint64_t at = next_time(ws);
    uint64_t now = loop_now(forward->app_loop->loop);
    if (at == UINT64_MAX) {
        loop_timer_clear(&ws->timer);
    } else if (loop_timer_set(&ws->timer, at > now ? at - now : 0) != ERROR_NONE) {
        forward_ws_break(forward, END_NO_MEMORY, "no memory for a timer");
    }
}

/* The client's silence is no fault of its own while we do not read what it says. */
static bool is_excused(const struct forward_ws *ws)
{
    return ws->blocked || ws->forward->exchange->request_body.unsent > 0;
}

static void keep_alive(struct forward *forward, uint64_t now)
{
    struct forward_ws *ws = forward->ws;
    if (is_excused(ws)) {
        ws->heard_at = now;
        ws->ping_at = 0;
    } else if (ws->ping_at == 0) {
        ws->ping_at = now;
        if (ws_session_ping(&ws->session) != ERROR_NONE) {
            forward_ws_break(forward, END_NO_MEMORY, "no memory for a PING");
            return;
        }
    } else {
        METRIC_INCREMENT(limit_ws_ping_timeout);
        log_info("app", "WebSocket closed at websocket.ping_timeout");
        forward_ws_shut(forward, WS_CODE_INTERNAL, "ping timeout", END_CLIENT_TIMEOUT);
        return;
    }
    forward_ws_set_timer(forward);
}

static void on_timer(struct loop_timer *timer)
{
    struct forward_ws *ws = LIST_CONTAINER(timer, struct forward_ws, timer);
    struct forward *forward = ws->forward;
    uint64_t now = loop_now(forward->app_loop->loop);
    if (next_time(ws) > now) {
        forward_ws_set_timer(forward);
    } else if (ws->closing) {
        METRIC_INCREMENT(limit_ws_close_timeout);
        log_info("app", "WebSocket cut at websocket.close_timeout");
        forward_fail(forward, END_CLIENT_STALLED, "websocket.close_timeout");
    } else if (ws->drain_at != 0 && ws->drain_at <= now) {
        forward_ws_shut(forward, WS_CODE_RESTART, "the application restarts", END_SHUTDOWN);
    } else {
        keep_alive(forward, now);
    }
}
