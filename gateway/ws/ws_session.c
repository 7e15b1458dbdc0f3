/* SPDX-License-Identifier: MIT */
/*
 * The session's side towards the client: our frames, and control frames in both directions. What messages of the client go through
 * is in ws_receive.c.
 */
#include "ws/ws_session.h"

#include <string.h>

#include "base/metrics.h"
#include "ws/ws_receive.h"

/* Shorter messages gain nothing by compression. */
#define COMPRESS_MIN 32

void ws_session_init(struct ws_session *session, const struct ws_settings *settings,
                     const struct ws_deflate_params *deflate, ws_write_fn *write, void *user)
{
    *session = (struct ws_session){
        .settings = settings, .write = write, .user = user, .deflate = deflate->enabled};
    ws_frames_init(&session->frames);
    if (deflate->enabled) {
        ws_inflater_init(&session->inflater, deflate);
        ws_deflater_init(&session->deflater, deflate);
    }
}

void ws_session_done(struct ws_session *session)
{
    ws_frames_done(&session->frames);
    ws_inflater_done(&session->inflater);
    ws_deflater_done(&session->deflater);
}

bool ws_code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/* --- our frames ----------------------------------------------------------------------------------------------------------- */

/* One frame. A short one goes as one piece. */
static enum error send_frame(struct ws_session *session, unsigned opcode, bool fin, bool rsv1,
                             struct slice payload)
{
    uint8_t bytes[WS_HEADER_MAX + WS_CONTROL_MAX];
    size_t length = ws_frame_header(bytes, opcode, fin, rsv1, payload.length);
    bool together = payload.length > 0 && payload.length <= WS_CONTROL_MAX;
    if (together) {
        memcpy(bytes + length, payload.data, payload.length);
        length += payload.length;
    }
    enum error error = session->write(session->user, (struct slice){(const char *)bytes, length});
    if (error == ERROR_NONE && !together && payload.length > 0) {
        error = session->write(session->user, payload);
    }
    return error;
}

enum error ws_session_pong(struct ws_session *session)
{
    if (!session->pong_due || session->state != WS_OPEN) {
        return ERROR_NONE;
    }
    session->pong_due = false;
    return send_frame(session, WS_PONG, true, false,
                      (struct slice){(const char *)session->pong, session->pong_length});
}

enum error ws_session_ping(struct ws_session *session)
{
    if (session->state != WS_OPEN) {
        return ERROR_NONE;
    }
    METRIC_INCREMENT(ws_pings);
    return send_frame(session, WS_PING, true, false, (struct slice){NULL, 0});
}

/* Cuts at a character: the reason on the wire must stay UTF-8. */
static size_t reason_fit(struct slice reason)
{
    size_t length = reason.length;
    if (length > WS_REASON_MAX) {
        length = WS_REASON_MAX;
        while (length > 0 && ((unsigned char)reason.data[length] & 0xc0) == 0x80) {
            length--;
        }
    }
    return length;
}

/* The close frame; the session's state is the caller's. */
static enum error send_close(struct ws_session *session, unsigned code, struct slice reason)
{
    char payload[WS_CONTROL_MAX];
    if (code == WS_CODE_NONE) {
        return send_frame(session, WS_CLOSE, true, false, (struct slice){NULL, 0});
    }
    size_t length = reason_fit(reason);
    payload[0] = (char)(code >> 8);
    payload[1] = (char)(code & 0xff);
    if (length > 0) {
        memcpy(payload + 2, reason.data, length);
    }
    return send_frame(session, WS_CLOSE, true, false, (struct slice){payload, length + 2});
}

enum error ws_session_close(struct ws_session *session, unsigned code, struct slice reason)
{
    if (session->state != WS_OPEN) {
        return ERROR_NONE;
    }
    session->state = WS_CLOSING;
    return send_close(session, code, reason);
}

/* --- the app's messages --------------------------------------------------------------------------------------------------- */

static enum error send_piece(struct ws_session *session, struct slice data, bool last)
{
    unsigned opcode = !session->out_first ? WS_CONTINUATION
                      : session->out_text ? WS_TEXT
                                          : WS_BINARY;
    bool rsv1 = session->out_first && session->out_compressed;
    session->out_first = false;
    return send_frame(session, opcode, last, rsv1, data);
}

static enum error on_deflated(void *user, struct slice bytes, bool last)
{
    return send_piece(user, bytes, last);
}

enum error ws_session_send(struct ws_session *session, struct slice data, bool text, bool more)
{
    if (!session->out_within) {
        session->out_within = session->out_first = true;
        session->out_text = text;
        session->out_compressed = session->deflate && (more || data.length >= COMPRESS_MIN);
        session->out_utf8 = (struct ws_utf8){0};
    }
    REQUIRE(session->out_text == text);
    session->out_within = more;
    if (text && (!ws_utf8_take(&session->out_utf8, data) ||
                 (!more && !ws_utf8_complete(&session->out_utf8)))) {
        return ERROR_INVALID;
    }
    if (session->state != WS_OPEN) {
        return ERROR_NONE;
    }
    if (!more) {
        METRIC_INCREMENT(ws_messages_out);
    }
    if (!session->out_compressed) {
        return send_piece(session, data, !more);
    }
    return ws_deflater_put(&session->deflater, data, !more, on_deflated, session);
}

/* --- control frames of the client ----------------------------------------------------------------------------------------- */

enum ws_event ws_receive_fail(struct ws_session *session, unsigned code, const char *text)
{
    enum error error = ERROR_NONE;
    if (session->state == WS_OPEN) {
        error = send_close(session, code, slice_from(text));
    }
    session->state = WS_CLOSED;
    session->code = code;
    session->text_for_log = text;
    size_t length = reason_fit(slice_from(text));
    memcpy(session->reason, text, length);
    session->reason_length = (uint8_t)length;
    return error == ERROR_NONE ? WS_EVENT_FAILED : WS_EVENT_BROKEN;
}

/* RFC 6455 5.5.1, 7.4.1: the code and the reason, then our own close frame in answer. */
static enum ws_event take_close(struct ws_session *session)
{
    const uint8_t *payload = session->control;
    size_t length = session->control_length;
    unsigned code = length >= 2 ? (unsigned)(payload[0] << 8 | payload[1]) : WS_CODE_NONE;
    if (length == 1 || (length >= 2 && !ws_code_valid(code))) {
        return ws_receive_fail(session, WS_CODE_PROTOCOL, "a close frame with an invalid code");
    }
    struct slice reason = {NULL, 0};
    if (length > 2) {
        reason = (struct slice){(const char *)payload + 2, length - 2};
        if (!ws_utf8_valid(reason)) {
            return ws_receive_fail(session, WS_CODE_NOT_UTF8, "a close reason that is not UTF-8");
        }
        memcpy(session->reason, reason.data, reason.length);
    }
    session->code = code;
    session->reason_length = (uint8_t)reason.length;
    enum error error = ERROR_NONE;
    if (session->state == WS_OPEN) {
        error = send_close(session, code, (struct slice){NULL, 0});
    }
    session->state = WS_CLOSED;
    return error == ERROR_NONE ? WS_EVENT_CLOSED : WS_EVENT_BROKEN;
}

enum ws_event ws_receive_control(struct ws_session *session, const struct ws_piece *piece)
{
    if (piece->first) {
        session->control_length = 0;
    }
    REQUIRE(piece->data.length <= (size_t)(WS_CONTROL_MAX - session->control_length));
    if (piece->data.length > 0) {
        memcpy(session->control + session->control_length, piece->data.data, piece->data.length);
        session->control_length = (uint8_t)(session->control_length + piece->data.length);
    }
    if (!piece->last) {
        return WS_EVENT_MORE;
    }
    if (piece->opcode == WS_CLOSE) {
        return take_close(session);
    }
    if (piece->opcode == WS_PING) {
        session->pong_due = true;
        session->pong_length = session->control_length;
        memcpy(session->pong, session->control, session->control_length);
    }
    return WS_EVENT_MORE;
}
