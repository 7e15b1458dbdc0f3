/* SPDX-License-Identifier: MIT */
/*
 * The streams of a channel as their user (app/forward) sees them: what a worker says on one, and what can be said to it
 * (protocol/SPEC.md sections 6 to 9 and 11).
 */
#ifndef GATEWAY_IPC_CHANNEL_STREAM_H
#define GATEWAY_IPC_CHANNEL_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "ipc/frame_defs.h"

struct channel;
struct channel_stream;

/* How a stream ended for its user; nothing is called after on_gone. */
enum channel_end {
    CHANNEL_END_DONE,  /* the worker's DONE after a complete response */
    CHANNEL_END_RESET, /* RESET by the worker; the code says why (APP_EXCEPTION ...), or DONE without an end (APP_INCOMPLETE) */
    CHANNEL_END_REFUSED, /* REFUSED, or above the worker's GOAWAY last id: it never started */
    CHANNEL_END_LOST     /* the link or the process is gone; `fate` says what is known */
};

/* What is known of a request whose worker was lost (the retry table: app/forward_retry.c). */
enum channel_fate {
    CHANNEL_FATE_UNWRITTEN,   /* REQUEST was never wholly written */
    CHANNEL_FATE_NOT_STARTED, /* the process is known dead and its page says not started */
    CHANNEL_FATE_STARTED      /* it may have started */
};

struct channel_gone {
    enum channel_end end;
    enum frame_error code;
    enum channel_fate fate;
};

/* From a worker's stream towards its user (app/forward). */
struct channel_user_ops {
    /* A RESPONSE head: msgpack bytes to be decoded by the user (not yet checked), the status of the frame. `end`: no body and no trailers
     * follow. Informational heads come with status < 200. An error return resets the stream with HEADER_INVALID (INTERNAL for
     * ERROR_NO_MEMORY); the user, who has already failed its exchange, is detached without on_gone. */
    enum error (*on_head)(void *user, unsigned status, struct slice head, bool end);
    /* Body bytes within the granted credit (already checked); empty only with `end`. Error: as above, code PROTOCOL, and
     * no RESET when the worker's side has ended (SPEC R54). */
    enum error (*on_data)(void *user, struct slice data, bool end);
    /* TRAILERS: the same encoding as a head; the response is complete. Error: as above. */
    enum error (*on_trailers)(void *user, struct slice trailers);
    /* WS_ACCEPT on a stream of kind 1: msgpack bytes to be decoded and judged by the user (SPEC R84). Error: as above. */
    enum error (*on_accept)(void *user, struct slice accept);
    /* WS_MSG within the granted credit: a message or a part of one; frames of a message come in order (SPEC R85). The user releases its
     * bytes and FRAME_DATA_OVERHEAD by channel_stream_release. Error: the code is PROTOCOL (a text that is not UTF-8). */
    enum error (*on_message)(void *user, struct slice data, bool text, bool more);
    /* WS_CLOSE: the worker's side has ended; code and reason are not judged yet (SPEC R87). Error: as on_message. */
    enum error (*on_close)(void *user, unsigned code, struct slice reason);
    /* FILE: `count` bytes of a regular file from `offset` on, which are there now, are body; `end` ends the response. NONE: the descriptor is
     * the user's, who says channel_stream_file_done later. Otherwise it stays the channel's. LIMIT: there is no room for it (SPEC
     * R110). Other errors: as on_data. */
    enum error (*on_file)(void *user, int fd, uint64_t offset, uint64_t count, bool end);
    /* In the link's flush, after channel_stream_want_send: the link can take up to `room` body bytes of this stream now (credit and
     * slice already applied); the user calls channel_stream_send with at most that much. `room` 0: only the
     * end fits. A user that fills the room is asked again by itself; one that sends less must say want_send when there is more. */
    void (*on_sendable)(void *user, uint32_t room);
    /* The worker granted request-body credit (for an EXPECT stream the first grant means: send 100). */
    void (*on_credit)(void *user);
    /* The stream is over for the user, who forgets it. */
    void (*on_gone)(void *user, const struct channel_gone *gone);
};

struct channel_request {
    struct slice head; /* msgpack REQUEST array, copied */
    struct slice body; /* first body bytes, at most FRAME_MAX_INLINE_BODY and the window; copied */
    bool end;          /* the request is complete with `body` */
    bool expect;       /* Expect: 100-continue; then no body */
    bool
        websocket; /* kind 1: no body and no end; only where channel_offers(FRAME_FEATURE(websocket)) */
};

/* Whether a new stream may be opened: ready, no GOAWAY, ids left, link queue under its bound. */
bool channel_can_open(const struct channel *channel);
/* Opens a stream and queues its REQUEST for this turn's flush. NULL: no memory. REQUIREs channel_can_open. The user is told through `ops`
 * until on_gone or channel_stream_detach. */
struct channel_stream *channel_open(struct channel *channel, const struct channel_request *request,
                                    const struct channel_user_ops *ops, void *user) MUST_CHECK;
/* The user has body bytes (or the end) to send: on_sendable is called in this or a later flush, when credit and link allow. Idempotent. */
void channel_stream_want_send(struct channel_stream *stream);
/* Sends body bytes, only from on_sendable and at most its room; `end` may come with the last bytes or alone. Copied. */
enum error channel_stream_send(struct channel_stream *stream, struct slice data,
                               bool end) MUST_CHECK;
/* Sends a part of a message, only from on_sendable and while channel_stream_may_send; at most its room. Empty only when it ends the
 * message (`more` false). Copied. */
enum error channel_stream_send_message(struct channel_stream *stream, struct slice data, bool text,
                                       bool more) MUST_CHECK;
/* Whether one more message frame may be sent now, inside on_sendable, and with how many bytes at most. */
bool channel_stream_may_send(const struct channel_stream *stream, uint32_t *ret_room);
/* Ends a WebSocket's stream with WS_CLOSE (SPEC R87). The user is detached. */
void channel_stream_close_websocket(struct channel_stream *stream, unsigned code,
                                    struct slice reason);
/* Request-body credit that the worker holds open for us now. */
uint32_t channel_stream_credit(const struct channel_stream *stream);
/* Response bytes have left for the client: the worker gets credit back (WINDOW at half a window, or when it stands at zero). */
void channel_stream_release(struct channel_stream *stream, uint32_t length);
/* The last byte of the FILE has left for the client (SPEC R99). */
void channel_stream_file_done(struct channel_stream *stream);
/* Ends the request body only (early response): RESET(BODY_ABORTED). */
void channel_stream_abort_body(struct channel_stream *stream);
/* Tells the worker that the client half-closed (FRAME_ERROR_CLIENT_EOF; goes out behind our end of the body, SPEC R63) or is gone
 * (FRAME_ERROR_CLIENT_GONE: the stream has ended for us, what comes is dropped, the user still gets on_gone unless he detaches). */
void channel_stream_disconnect(struct channel_stream *stream, enum frame_error code);
/* Ends the whole stream with a code (DEADLINE ...). The user is detached. */
void channel_stream_reset(struct channel_stream *stream, enum frame_error code);
/* The user wants no more calls. The stream lives on until the worker's DONE (its slot stays taken); what comes is counted and dropped,
 * its credit given back so that the app's send() does not hang. */
void channel_stream_detach(struct channel_stream *stream);
/* Its id on the link, for logs. */
uint32_t channel_stream_id(const struct channel_stream *stream);

#endif
