/* SPDX-License-Identifier: MIT */
/*
 * The client's frames into messages: the rules of fragments (RFC 6455 5.4), limits, inflate, UTF-8. Payload is gathered in the
 * caller's room, which bounds each step: a message is never held here, nor what a small frame inflates to.
 */
#include "ws/ws_receive.h"

#include "base/metrics.h"

/* Compressed bytes that a message may have beyond its limit: what cannot be compressed grows a little, and blocks without content
 * cost time alone. */
#define WIRE_MARGIN 65536u

static const char missing_tail[4] = {0, 0, '\xff', '\xff'}; /* RFC 7692 7.2.2 */

static enum ws_event too_big(struct ws_session *session)
{
    METRIC_INCREMENT(limit_ws_max_message);
    return ws_receive_fail(session, WS_CODE_TOO_BIG,
                           "a message is longer than websocket.max_message");
}

static enum ws_event bad_frame(struct ws_session *session, const char *text)
{
    METRIC_INCREMENT(ws_protocol_errors);
    return ws_receive_fail(session, WS_CODE_PROTOCOL, text);
}

static enum ws_event not_utf8(struct ws_session *session)
{
    METRIC_INCREMENT(ws_not_utf8);
    return ws_receive_fail(session, WS_CODE_NOT_UTF8, "a text message is not UTF-8");
}

/* --- headers -------------------------------------------------------------------------------------------------------------- */

/* The first frame of a message, or one more. */
static enum ws_event begin_data(struct ws_session *session, const struct ws_piece *piece)
{
    if (piece->opcode == WS_CONTINUATION) {
        if (!session->within) {
            return bad_frame(session, "a continuation frame outside a message");
        }
    } else if (session->within) {
        return bad_frame(session, "a new message within a fragmented one");
    } else {
        session->within = true;
        session->text = piece->opcode == WS_TEXT;
        session->compressed = piece->rsv1;
        session->payload_over = false;
        session->utf8 = (struct ws_utf8){0};
        session->fragments = 0;
        session->size = session->wire_size = 0;
    }
    if (++session->fragments > session->settings->max_fragments) {
        METRIC_INCREMENT(limit_ws_max_fragments);
        return ws_receive_fail(session, WS_CODE_POLICY,
                               "a message has more frames than websocket.max_fragments");
    }
    uint64_t most = session->settings->max_message;
    most += session->compressed ? most / 64 + WIRE_MARGIN : 0;
    if (piece->length > most || session->wire_size > most - piece->length) {
        return too_big(session);
    }
    session->wire_size += piece->length;
    return WS_EVENT_MORE;
}

/* RFC 6455 5.1, 5.2: what a frame's header must keep; MORE: it does. */
static enum ws_event check_header(struct ws_session *session, const struct ws_piece *piece)
{
    bool control = piece->opcode >= 8;
    if (!piece->masked) {
        return bad_frame(session, "a frame that is not masked");
    }
    if (piece->opcode > WS_PONG || (piece->opcode > WS_BINARY && !control)) {
        return bad_frame(session, "a frame with a reserved opcode");
    }
    bool may_compress =
        session->deflate && (piece->opcode == WS_TEXT || piece->opcode == WS_BINARY);
    if (piece->rsv23 || (piece->rsv1 && !may_compress)) {
        return bad_frame(session, "a frame with a reserved bit");
    }
    if (control || session->state != WS_OPEN) {
        return WS_EVENT_MORE;
    }
    return begin_data(session, piece);
}

/* --- payload -------------------------------------------------------------------------------------------------------------- */

/* What is in the room so far. */
struct gathered {
    struct ws_room room;
    size_t length;
};

/* Bytes that were put into the room: counted and checked. MORE: fine. */
static enum ws_event take_bytes(struct ws_session *session, struct gathered *gathered,
                                size_t length)
{
    uint64_t left = session->settings->max_message - session->size;
    size_t fits = length < left ? length : (size_t)left;
    struct slice added = {gathered->room.data + gathered->length, fits};
    gathered->length += length;
    session->size += fits;
    if (session->text && !ws_utf8_take(&session->utf8, added)) {
        return not_utf8(session);
    }
    return fits < length ? too_big(session) : WS_EVENT_MORE;
}

/* One step of the message's payload from `source` into the room, which has some left. */
static enum ws_event move_payload(struct ws_session *session, struct slice *source,
                                  struct gathered *gathered)
{
    size_t left = gathered->room.size - gathered->length;
    char *out = gathered->room.data + gathered->length;
    size_t length = source->length < left ? source->length : left;
    if (!session->compressed) {
        memcpy(out, source->data, length);
        *source = slice_skip(*source, length);
        return take_bytes(session, gathered, length);
    }
    enum error error = ws_inflater_step(&session->inflater, source, out, left, &length);
    if (error == ERROR_NO_MEMORY) {
        return WS_EVENT_BROKEN;
    }
    session->output_held = length == left;
    /* What came out before a fault is judged first, so that the room does not decide which fault is told. */
    enum ws_event event = length > 0 ? take_bytes(session, gathered, length) : WS_EVENT_MORE;
    if (event == WS_EVENT_MORE && error != ERROR_NONE) {
        METRIC_INCREMENT(ws_protocol_errors);
        return ws_receive_fail(session, WS_CODE_NOT_UTF8,
                               "a compressed message is no deflate data");
    }
    return event;
}

static bool room_full(const struct gathered *gathered)
{
    return gathered->length == gathered->room.size;
}

static enum ws_event give_part(struct ws_session *session, const struct gathered *gathered,
                               bool more, struct ws_part *ret_part)
{
    *ret_part = (struct ws_part){
        .data = {gathered->length > 0 ? gathered->room.data : NULL, gathered->length},
        .text = session->text,
        .more = more,
    };
    return WS_EVENT_PART;
}

/* The payload is over. Of a compressed message the end is inflated, too, until nothing more comes out. */
static enum ws_event end_message(struct ws_session *session, struct gathered *gathered,
                                 struct ws_part *ret_part)
{
    while (session->compressed && (session->tail.length > 0 || session->output_held)) {
        if (room_full(gathered)) {
            return gathered->length > 0 ? give_part(session, gathered, true, ret_part)
                                        : WS_EVENT_BLOCKED;
        }
        enum ws_event event = move_payload(session, &session->tail, gathered);
        if (event != WS_EVENT_MORE) {
            return event;
        }
    }
    if (session->text && !ws_utf8_complete(&session->utf8)) {
        return not_utf8(session);
    }
    if (session->compressed) {
        ws_inflater_end(&session->inflater);
    }
    session->within = session->payload_over = session->output_held = false;
    METRIC_INCREMENT(ws_messages_in);
    return give_part(session, gathered, false, ret_part);
}

/* Takes the held piece as far as the room goes. MORE: it was taken. */
static enum ws_event take_piece(struct ws_session *session, struct gathered *gathered,
                                struct ws_part *ret_part)
{
    struct ws_piece *piece = &session->piece;
    while (piece->data.length > 0 || session->output_held) {
        if (room_full(gathered)) {
            return gathered->length > 0 ? give_part(session, gathered, true, ret_part)
                                        : WS_EVENT_BLOCKED;
        }
        enum ws_event event = move_payload(session, &piece->data, gathered);
        if (event != WS_EVENT_MORE) {
            return event;
        }
    }
    session->piece_held = false;
    if (piece->last && piece->fin) {
        session->payload_over = true;
        session->tail = (struct slice){missing_tail, sizeof missing_tail};
    }
    return WS_EVENT_MORE;
}

/* --- the loop ------------------------------------------------------------------------------------------------------------- */

/* A piece that has just come out of a frame. MORE: go on. */
static enum ws_event on_piece(struct ws_session *session)
{
    const struct ws_piece *piece = &session->piece;
    enum ws_event event = piece->first ? check_header(session, piece) : WS_EVENT_MORE;
    if (event != WS_EVENT_MORE) {
        return event;
    }
    if (piece->opcode >= 8) {
        return ws_receive_control(session, piece);
    }
    session->piece_held = session->state == WS_OPEN;
    return WS_EVENT_MORE;
}

/* What has been gathered when the input is used up. */
static enum ws_event out_of_input(struct ws_session *session, const struct gathered *gathered,
                                  struct ws_part *ret_part)
{
    return gathered->length > 0 ? give_part(session, gathered, true, ret_part) : WS_EVENT_MORE;
}

enum ws_event ws_session_receive(struct ws_session *session, struct slice *input,
                                 struct ws_room room, struct ws_part *ret_part)
{
    struct gathered gathered = {.room = room};
    if (session->state != WS_OPEN) {
        session->piece_held = session->payload_over = false;
    }
    while (session->state != WS_CLOSED) {
        enum ws_event event = WS_EVENT_MORE;
        if (session->piece_held || session->payload_over) {
            if (room.data == NULL) {
                return WS_EVENT_BLOCKED;
            }
            event = session->piece_held ? take_piece(session, &gathered, ret_part)
                                        : end_message(session, &gathered, ret_part);
            if (event != WS_EVENT_MORE) {
                return event;
            }
            continue;
        }
        switch (ws_frames_next(&session->frames, input, &session->piece)) {
        case WS_NEXT_PIECE:
            event = on_piece(session);
            if (event != WS_EVENT_MORE) {
                return event;
            }
            break;
        case WS_NEXT_MORE:
            return out_of_input(session, &gathered, ret_part);
        case WS_NEXT_BAD:
            return bad_frame(session, "a frame that is malformed");
        case WS_NEXT_NO_MEMORY:
            return WS_EVENT_BROKEN;
        }
    }
    *input = slice_skip(*input, input->length);
    return WS_EVENT_MORE;
}
