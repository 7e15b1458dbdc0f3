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
#include "ipc/channel_stream.h"
#include "ipc/frame_defs.h"
#include "ipc/hello.h"
#include "ipc/settings.h"
#include "loop/loop.h"

struct channel;

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

/* --- the channel ------------------------------------------------------------------------------------------------------ */

/* Sends CONN (certificates of a TLS connection) once per connection id on this link, before the first REQUEST that names it; CONN_END
 * follows by channel_conn_end. ERROR_LIMIT: 16,384 are open, `map` is over max_frame, or the link's queue is full. `map` is the encoded payload, copied. */
enum error channel_conn(struct channel *channel, uint32_t conn_id, struct slice map) MUST_CHECK;
void channel_conn_end(struct channel *channel, uint32_t conn_id);
/* GOAWAY(RECONNECT) that only announces (SPEC R96): the worker dials again, and requests go on here. */
void channel_announce(struct channel *channel);
/* Whether CONN was sent for this id: then its map need not be made. */
bool channel_knows_conn(const struct channel *channel, uint32_t conn_id);
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
/* What the channel keeps up to date beyond on_lag, in what outlives it: how many streams the gateway has ended whose DONE has not come, and
 * while a PING is unanswered its age in nanoseconds, at every tick. Once, before the first stream. */
void channel_watch(struct channel *channel, _Atomic uint32_t *abandoned, _Atomic uint64_t *lag);
bool channel_is_ready(const struct channel *channel);
/* Whether HELLO_ACK names these features (FRAME_FEATURE bits, ipc/frame.h). */
bool channel_offers(const struct channel *channel, uint64_t features);
pid_t channel_pid(const struct channel *channel);
/* After the end: the code that we ended it with; NO_ERROR: the worker did. */
enum frame_error channel_end_code(const struct channel *channel);
void channel_dump(const struct channel *channel, struct strbuf *out);

#endif
