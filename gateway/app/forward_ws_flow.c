/* SPDX-License-Identifier: MIT */
/*
 * An open WebSocket's bytes: tunnel bytes of the client become WS_MSG frames as far as the worker's credit goes, WS_MSG frames of the
 * worker become tunnel bytes, whose leaving gives the worker credit back. So a slow app stops the client's messages, and a slow
 * client stops `await send()`.
 */
#include "app/forward_ws_flow.h"

#include "base/log.h"
#include "base/metrics.h"
#include "http/conn.h"

/* Bytes that may wait for the client before a PONG waits too: one that does not read gets one answer to all its PINGs. */
#define PONG_QUEUE 4096u

/* --- towards the client ------------------------------------------------------------------------------------------------------- */

enum error forward_ws_write(void *user, struct slice bytes)
{
    struct forward_ws *ws = user;
    enum error error = exchange_respond_body(ws->forward->exchange, bytes.data, bytes.length);
    ws->output_failed |= error != ERROR_NONE;
    return error;
}

static void answer_ping(struct forward *forward)
{
    struct forward_ws *ws = forward->ws;
    if (ws->session.pong_due && forward->exchange->response_body.size < PONG_QUEUE &&
        ws_session_pong(&ws->session) != ERROR_NONE) {
        forward_ws_break(forward, END_NO_MEMORY, "no memory for a PONG");
    }
}

/* Gives credit back for what has left. Frames and compression make other numbers of the app's bytes: the credit leaves in shares,
 * and all of it with the last byte. */
static void release(struct forward *forward, size_t left)
{
    struct forward_ws *ws = forward->ws;
    size_t waiting = forward->exchange->response_body.size;
    uint64_t share = waiting == 0 ? ws->owed : ws->owed * left / (waiting + left);
    if (share > 0 && forward->stream != NULL) {
        ws->owed -= share;
        channel_stream_release(forward->stream, (uint32_t)share);
    }
}

void forward_ws_released(struct forward *forward, size_t length)
{
    release(forward, length);
    answer_ping(forward);
}

enum error forward_ws_on_message(void *user, struct slice data, bool text, bool more)
{
    struct forward *forward = user;
    struct forward_ws *ws = forward->ws;
    ws->owed += data.length + FRAME_DATA_OVERHEAD;
    enum error error = ws_session_send(&ws->session, data, text, more);
    if (error == ERROR_INVALID) {
        return forward_ws_bad_app(forward, error, "its text message is not UTF-8");
    }
    if (error != ERROR_NONE) {
        forward->stream = NULL; /* the channel resets it */
        forward_fail(forward, END_NO_MEMORY, "no memory for a message");
        return error;
    }
    if (forward->exchange->response_body.size == 0) {
        release(forward, 0); /* it lies in the compressor */
    }
    return ERROR_NONE;
}

/* --- towards the app ------------------------------------------------------------------------------------------------------------ */

/* The client has ended the session, with its close frame or by a fault; ours is out. */
static void session_ended(struct forward *forward, bool failed)
{
    struct forward_ws *ws = forward->ws;
    const struct ws_session *session = &ws->session;
    if (failed) {
        forward->exchange->end_reason = END_CLIENT_PROTOCOL;
        forward->exchange->error_text = slice_from(session->text_for_log);
        log_info("app", "WebSocket closed with %u: %s", session->code, session->text_for_log);
    }
    if (forward->stream != NULL) {
        channel_stream_close_websocket(forward->stream, session->code,
                                       (struct slice){session->reason, session->reason_length});
        forward->stream = NULL;
    }
    forward_ws_end(forward);
}

/* The tunnel has ended without a close frame: FIN, or END_STREAM. */
static void client_left(struct forward *forward)
{
    if (forward->stream != NULL) {
        channel_stream_disconnect(forward->stream, FRAME_ERROR_CLIENT_GONE);
    }
    forward_fail(forward, END_CLIENT_GONE, "the client ended the connection");
}

/* Where a part of a message may go now. */
static struct ws_room room_now(struct forward *forward, bool sending)
{
    struct app_loop *app_loop = forward->app_loop;
    uint32_t most;
    if (!sending || forward->stream == NULL || !channel_stream_may_send(forward->stream, &most)) {
        return (struct ws_room){NULL, 0};
    }
    size_t size = most < sizeof app_loop->body ? most : sizeof app_loop->body;
    return (struct ws_room){app_loop->body, size};
}

/* One event of the session. True: there may be more. */
static bool take_event(struct forward *forward, enum ws_event event, const struct ws_part *part)
{
    struct forward_ws *ws = forward->ws;
    switch (event) {
    case WS_EVENT_MORE:
        return forward->exchange->request_body.unsent > 0;
    case WS_EVENT_PART:
        if (channel_stream_send_message(forward->stream, part->data, part->text, part->more) !=
            ERROR_NONE) {
            forward_ws_break(forward, END_NO_MEMORY, "no memory for a message");
            return false;
        }
        return true;
    case WS_EVENT_BLOCKED:
        ws->blocked = true;
        channel_stream_want_send(forward->stream);
        return false;
    case WS_EVENT_CLOSED:
    case WS_EVENT_FAILED:
        session_ended(forward, event == WS_EVENT_FAILED);
        return false;
    case WS_EVENT_BROKEN:
        break;
    }
    forward_ws_break(forward, END_NO_MEMORY, "no memory for the WebSocket");
    return false;
}

/* Takes tunnel bytes as far as the app's credit goes; `sending`: inside on_sendable. */
static void pump(struct forward *forward, bool sending)
{
    struct forward_ws *ws = forward->ws;
    struct exchange *exchange = forward->exchange;
    bool more = true;
    ws->blocked = false;
    while (more) {
        struct iovec vector = {.iov_len = 0};
        struct ws_part part;
        (void)byteq_peek(&exchange->request_body, &vector, 1, SIZE_MAX);
        struct slice input = {vector.iov_base, vector.iov_len};
        enum ws_event event =
            ws_session_receive(&ws->session, &input, room_now(forward, sending), &part);
        if (vector.iov_len > input.length) {
            exchange_request_taken(exchange, vector.iov_len - input.length);
            exchange_request_forget(exchange);
        }
        more = take_event(forward, event, &part);
    }
    if (forward->phase == FORWARD_OVER) {
        return;
    }
    answer_ping(forward);
    if (forward->phase != FORWARD_OVER && !ws->blocked && exchange->request_end &&
        exchange->request_body.unsent == 0) {
        client_left(forward);
    }
}

void forward_ws_body(struct forward *forward)
{
    struct forward_ws *ws = forward->ws;
    if (!ws->accepted) {
        if (forward->exchange->request_end) {
            client_left(forward);
        }
        return;
    }
    ws->heard_at = loop_now(forward->app_loop->loop);
    if (ws->ping_at != 0) { /* the timer waits for ping_timeout */
        ws->ping_at = 0;
        forward_ws_set_timer(forward);
        if (forward->phase == FORWARD_OVER) {
            return;
        }
    }
    pump(forward, false);
}

void forward_ws_sendable(struct forward *forward)
{
    pump(forward, true);
}
