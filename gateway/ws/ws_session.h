/* SPDX-License-Identifier: MIT */
/*
 * One accepted WebSocket, without input or output: tunnel bytes of the client become parts of messages, parts of the app's messages
 * become tunnel bytes (RFC 6455, RFC 7692). It answers PINGs, checks UTF-8 and limits, and keeps the closing handshake's
 * state; it has no clock and knows neither the carrier (HTTP/1.1, 2, 3) nor the app.
 */
#ifndef GATEWAY_WS_WS_SESSION_H
#define GATEWAY_WS_WS_SESSION_H

#include "base/error.h"
#include "ws/ws_deflate.h"
#include "ws/ws_frames.h"
#include "ws/ws_utf8.h"

#define WS_REASON_MAX 123

/* Close codes that the gateway says by itself (RFC 6455 7.4.1 and the IANA registry). */
enum ws_code {
    WS_CODE_NORMAL = 1000,
    WS_CODE_GOING_AWAY = 1001,
    WS_CODE_PROTOCOL = 1002,
    WS_CODE_NONE = 1005, /* a close frame without a code; never on the wire */
    WS_CODE_NOT_UTF8 = 1007,
    WS_CODE_POLICY = 1008,
    WS_CODE_TOO_BIG = 1009,
    WS_CODE_INTERNAL = 1011,
    WS_CODE_RESTART = 1012
};

enum ws_state {
    WS_OPEN,
    WS_CLOSING, /* our close frame is out, the client's has not come: its messages are dropped */
    WS_CLOSED   /* nothing more is taken or given */
};

enum ws_event {
    WS_EVENT_MORE,    /* the input is used up */
    WS_EVENT_PART,    /* *ret_part is a part of a message */
    WS_EVENT_BLOCKED, /* payload waits for room */
    WS_EVENT_CLOSED,  /* the client's close frame came: session->code and reason; ours is out */
    WS_EVENT_FAILED,  /* the client broke a rule or a limit: likewise, and nothing more is read */
    WS_EVENT_BROKEN   /* memory is out, or bytes for the client were refused */
};

/* A part of a message: all parts in order are the message. */
struct ws_part {
    struct slice data;
    bool text, more;
};

/* Where a part may go. data NULL: nowhere; size 0: only the end of a message without bytes. */
struct ws_room {
    char *data;
    size_t size;
};

/* Takes bytes for the client. */
typedef enum error ws_write_fn(void *user, struct slice bytes);

struct ws_session {
    const struct ws_settings *settings;
    ws_write_fn *write;
    void *user;
    enum ws_state state;
    bool deflate;
    struct ws_frames frames;
    struct ws_inflater inflater;
    struct ws_deflater deflater;

    struct ws_piece piece; /* came out of a frame; its data was not taken yet */
    bool piece_held;
    bool within;           /* the client's message has begun and not ended */
    bool text, compressed; /* of it */
    bool payload_over;     /* all its frames have come */
    bool output_held;      /* compressed: the room was filled, more may lie in zlib */
    struct slice tail; /* compressed: what of the four bytes that are not sent must be inflated */
    struct ws_utf8 utf8;
    uint32_t fragments;
    uint64_t size, wire_size; /* delivered; on the wire */

    bool out_within, out_text, out_compressed; /* the app's message */
    bool out_first;                            /* none of its frames is out */
    struct ws_utf8 out_utf8;

    bool pong_due; /* the latest PING's payload waits for ws_session_pong */
    uint8_t pong_length, control_length, reason_length;
    uint8_t pong[WS_CONTROL_MAX], control[WS_CONTROL_MAX];
    unsigned code; /* CLOSED or FAILED: the client's code, or ours */
    char reason[WS_REASON_MAX];
    const char *text_for_log; /* FAILED: what the client did */
};

/* A session for a handshake that was accepted with these parameters. `settings` outlives it; `write` is called with `user`. */
void ws_session_init(struct ws_session *session, const struct ws_settings *settings,
                     const struct ws_deflate_params *deflate, ws_write_fn *write, void *user);
void ws_session_done(struct ws_session *session);
/* Goes on with `input`, advanced over what was taken, up to the next event. Payload is gathered in `room`. Call again until it
 * says MORE or BLOCKED, with an empty input too. */
enum ws_event ws_session_receive(struct ws_session *session, struct slice *input,
                                 struct ws_room room, struct ws_part *ret_part) MUST_CHECK;
/* Answers the latest unanswered PING (RFC 6455 5.5.3), if there is one; the caller waits while the client takes nothing. */
enum error ws_session_pong(struct ws_session *session) MUST_CHECK;
/* Sends a part of the app's message. ERROR_INVALID: text that is not UTF-8. Dropped unless the session is open. */
enum error ws_session_send(struct ws_session *session, struct slice data, bool text,
                           bool more) MUST_CHECK;
/* Sends a PING. */
enum error ws_session_ping(struct ws_session *session) MUST_CHECK;
/* Begins the closing handshake, if the session is open: `reason` is valid UTF-8, cut at WS_REASON_MAX. */
enum error ws_session_close(struct ws_session *session, unsigned code,
                            struct slice reason) MUST_CHECK;
/* Whether a close frame may have this code (RFC 6455 7.4, IANA registry). */
bool ws_code_valid(unsigned code);

#endif
