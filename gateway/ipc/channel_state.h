/* SPDX-License-Identifier: MIT */
/*
 * What a channel and its streams are made of, for the files channel*.c alone: life (channel.c), streams (channel_streams.c),
 * what comes (channel_receive.c, channel_control.c), what goes (channel_send.c) and the end (channel_loss.c).
 */
#ifndef GATEWAY_IPC_CHANNEL_STATE_H
#define GATEWAY_IPC_CHANNEL_STATE_H

#include <stdatomic.h>

#include "base/idmap.h"
#include "base/list.h"
#include "ipc/channel.h"
#include "ipc/channel_stream_state.h"
#include "ipc/frame.h"
#include "ipc/link.h"

#define CHANNEL_MAGIC UINT32_C(0xC4A22E10)

/* Only channel_set_state writes it; states are left downwards only. */
enum channel_state {
    CHANNEL_STARTING, /* HELLO_ACK queued, READY has not come */
    CHANNEL_READY,
    CHANNEL_ENDING,  /* the link ends in this turn's flush */
    CHANNEL_WAITING, /* the link is closed; some streams wait for the news of the process's death */
    CHANNEL_CLOSED   /* everybody was told; in the graveyard */
};

struct channel {
    uint32_t magic;
    enum channel_state state;
    struct loop *loop;
    struct link link;
    struct ipc_settings settings;
    const struct channel_owner_ops *ops;
    void *owner;
    pid_t pid;
    uint32_t index;    /* of the worker's channels */
    uint64_t features; /* of HELLO_ACK */
    int page_fd, pidfd;

    struct idmap streams_by_id;
    struct stream_list streams;
    struct sender_list senders;
    struct window_list windows;
    struct channel_stream *sending; /* inside its on_sendable */
    uint32_t sending_room;
    unsigned attached;
    _Atomic uint32_t *abandoned; /* of channel_watch; NULL: nowhere */
    _Atomic uint64_t *lag;
    uint32_t last_id;
    struct idmap conns; /* connection ids told by CONN; the value is the channel itself */

    bool goaway_sent, goaway_received;
    uint32_t goaway_last; /* the worker's */
    bool writable;        /* the socket said so since it was full */
    bool traffic;         /* frames since the last tick */

    bool pong_queued;
    bool ping_open, ping_told, beat_known; /* a PING is unanswered; its lateness was told */
    uint32_t pong_nonce, ping_nonce, beat; /* the heartbeat when the PING was made */
    uint64_t ping_at, pong_at; /* when PING was sent; when the last PONG came, 0: none yet */

    uint64_t flood_since, log_since, stats_at;
    unsigned flood_count, log_count;

    struct loop_dirty dirty;
    struct loop_timer tick;    /* start_timeout, then ping_interval */
    struct loop_timer wait;    /* bounds reading after a write error, and the wait for death */
    struct loop_io death;      /* the pidfd */
    enum frame_error end_code; /* to be told in CHANNEL_ERROR unless NO_ERROR */
    bool end_orderly;
    bool end_told;        /* in the log, by who was told the worker's last words */
    uint64_t end_written; /* bytes written when the link ended */
    char end_text[256];
    struct loop_grave grave;
};

/* channel.c */
void channel_set_state(struct channel *channel, enum channel_state state);
/* Ends the link in this turn's flush, once; `code` NO_ERROR: the worker is not told. The text is logged and kept. */
void channel_end(struct channel *channel, enum frame_error code, bool orderly, const char *format,
                 ...) PRINTF_LIKE(4, 5);
/* The worker broke a rule: counted, then as channel_end. */
void channel_violation(struct channel *channel, enum frame_error code, const char *text,
                       const struct frame *frame);
/* Queues a frame without payload or with `payload`; out of memory ends the link. */
void channel_queue(struct channel *channel, const struct frame *frame, struct slice payload);
/* Frees it. */
void channel_dispose(struct channel *channel);
static inline bool channel_is_open(const struct channel *channel)
{
    return channel->state < CHANNEL_ENDING;
}

/* channel_streams.c */
/* DONE, REFUSED or the link's end: takes it off the table and frees its slot. The user was told or is detached. */
void channel_stream_close(struct channel_stream *stream);
/* Tells the user, if there is one, and detaches him. */
void channel_stream_tell(struct channel_stream *stream, const struct channel_gone *gone);
/* Bad content: RESET(code) unless the worker's side has ended; the user, who has failed its exchange, is detached. */
void channel_stream_fail(struct channel_stream *stream, enum frame_error code);
/* Puts it among the senders when it has a wish and credit. */
void channel_stream_schedule(struct channel_stream *stream);
/* Response bytes that came but that nobody wants. */
void channel_stream_discard(struct channel_stream *stream, uint32_t length);

/* channel_receive.c */
/* R67: takes the credit of a frame. False: the link ends. */
bool channel_stream_pay(struct channel_stream *stream, const struct frame *frame, uint32_t payload);
/* Whether the user still wants to hear of this stream. */
bool channel_stream_wanted(const struct channel_stream *stream);
/* R50, R51, R99: whether a frame of the body may come now. False: the link ends. */
bool channel_body_in_order(struct channel_stream *stream, const struct frame *frame);
/* Which code tells the worker that the user refused what it sent (R38, R54). */
enum frame_error channel_refusal(enum error error, enum frame_error content);
void channel_on_io(struct loop_io *io, unsigned events);
/* A frame that changed nothing; too many in FRAME_FLOOD_SECONDS end the link (SPEC R77). */
void channel_no_effect(struct channel *channel);

/* channel_websocket.c */
/* WS_ACCEPT, WS_MSG, WS_CLOSE. */
void channel_on_websocket(struct channel_stream *stream, const struct frame *frame);

/* channel_file.c */
/* FILE with the descriptor that came along. */
void channel_on_file(struct channel_stream *stream, const struct frame *frame);
/* FILE on a closed stream (SPEC R21). */
void channel_drop_file(struct channel *channel);

/* channel_control.c */
void channel_on_control(struct channel *channel, const struct frame *frame);
void channel_on_tick(struct loop_timer *timer);

/* channel_send.c */
enum loop_flush channel_flush(struct loop_dirty *dirty);

/* channel_loss.c */
/* Closes the link and tells everybody, at once or after the wait for the process's death. In the flush. */
void channel_finish(struct channel *channel);
void channel_on_wait(struct loop_timer *timer);
void channel_on_death(struct loop_io *io, unsigned events);

#endif
