/* SPDX-License-Identifier: MIT */
/*
 * A channel: the streams on one link to one worker (protocol/SPEC.md is the law). It parses what the worker sends, keeps
 * credit, ids and the closed-id rule, and tells its user; it knows frames, not HTTP. A broken worker loses this channel and
 * nothing else. Belongs to one loop; dies with its link, buried by itself after on_closed.
 */
#ifndef GATEWAY_IPC_CHANNEL_H
#define GATEWAY_IPC_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/slice.h"
#include "base/strbuf.h"
#include "ipc/frame_defs.h"
#include "ipc/hello.h"
#include "ipc/settings.h"
#include "loop/loop.h"

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
    /* In the link's flush, after channel_stream_want_send: the link can take up to `room` body bytes of this stream now (credit and
     * slice already applied); the user calls channel_stream_send with at most that much. `room` 0: only the
     * end fits. A user that fills the room is asked again by itself; one that sends less must say want_send when there is more. */
    void (*on_sendable)(void *user, uint32_t room);
    /* The worker granted request-body credit (for an EXPECT stream the first grant means: send 100). */
    void (*on_credit)(void *user);
    /* The stream is over for the user, who forgets it. */
    void (*on_gone)(void *user, const struct channel_gone *gone);
};

/* From a channel towards its owner (app/pool). */
struct channel_owner_ops {
    void (*on_ready)(struct channel *channel, void *owner);
    /* The worker sent GOAWAY: no new requests; streams above last_id were already told REFUSED. */
    void (*on_goaway)(struct channel *channel, void *owner, enum frame_error code);
    /* A stream's slot is free again (DONE, REFUSED, reset and confirmed); exactly once per channel_open, also when the link is lost. */
    void (*on_slot_free)(struct channel *channel, void *owner);
    /* A PONG: the round trip in nanoseconds; or none for unresponsive_after: UINT64_MAX, once. */
    void (*on_lag)(struct channel *channel, void *owner, uint64_t lag);
    /* STATS and LOG, decoded. */
    void (*on_stats)(struct channel *channel, void *owner, const struct worker_stats *stats);
    /* CHANNEL_ERROR from the worker (STARTUP_FAILED with its traceback), shown in status. The close follows. */
    void (*on_error_text)(struct channel *channel, void *owner, enum frame_error code,
                          struct slice text);
    /* The link has ended and every stream was told. `orderly`: after a GOAWAY with no streams left. `text` says why in words. The channel
     * buries itself afterwards. */
    void (*on_closed)(struct channel *channel, void *owner, bool orderly, const char *text);
};

/* Makes a channel of an accepted link whose HELLO was read, and queues HELLO_ACK with the progress page. Takes the descriptors in `link`
 * (closed on failure); `link` itself, with its HELLO, stays the caller's, who frees it by ipc_link_free. Call in the loop that will
 * own it. NULL: no memory or descriptors. */
struct channel *channel_new(struct loop *loop, struct ipc_link *link, const struct hello_ack *ack,
                            const struct ipc_settings *settings,
                            const struct channel_owner_ops *ops, void *owner) MUST_CHECK;

/* --- streams -------------------------------------------------------------------------------------------------------- */

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

/* --- the channel ------------------------------------------------------------------------------------------------------ */

/* Sends CONN (certificates of a TLS connection) once per connection id on this link, before the first REQUEST that names it; CONN_END
 * follows by channel_conn_end. ERROR_LIMIT: 16,384 are open, `map` is over max_frame, or the link's queue is full. `map` is the encoded payload, copied. */
enum error channel_conn(struct channel *channel, uint32_t conn_id, struct slice map) MUST_CHECK;
void channel_conn_end(struct channel *channel, uint32_t conn_id);
/* Sends GOAWAY (DRAINING, RECONNECT, RETIRED): no new streams; closes when the last one is gone. */
void channel_goaway(struct channel *channel, enum frame_error code);
/* Ends the link now, with CHANNEL_ERROR(code, text) if it can be written; streams are told LOST. */
void channel_close(struct channel *channel, enum frame_error code, const char *text);
/* After channel_close: does not wait any longer for the news of the process's death. What is undecided counts as started. */
void channel_give_up(struct channel *channel);
/* Streams open (DONE not seen), of these with a user, and ids used so far. */
struct channel_counts {
    unsigned open, attached;
    uint32_t last_id;
};
struct channel_counts channel_counts(const struct channel *channel);
bool channel_is_ready(const struct channel *channel);
/* Whether HELLO_ACK names these features (FRAME_FEATURE bits, ipc/frame.h). */
bool channel_offers(const struct channel *channel, uint64_t features);
pid_t channel_pid(const struct channel *channel);
void channel_dump(const struct channel *channel, struct strbuf *out);

#endif
