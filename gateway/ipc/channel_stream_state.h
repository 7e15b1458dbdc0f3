/* SPDX-License-Identifier: MIT */
/*
 * What one stream of a channel is made of, for the files channel*.c alone.
 */
#ifndef GATEWAY_IPC_CHANNEL_STREAM_STATE_H
#define GATEWAY_IPC_CHANNEL_STREAM_STATE_H

#include "base/list.h"
#include "ipc/channel_stream.h"
#include "ipc/credit.h"
#include "loop/loop.h"

#define CHANNEL_STREAM_MAGIC UINT32_C(0xC4A257EA)

struct channel_stream {
    uint32_t magic;
    uint32_t id;
    struct channel *channel;
    const struct channel_user_ops *ops; /* NULL: detached */
    void *user;
    struct list_node in_channel; /* all streams of the channel, by id */
    struct list_node in_senders; /* has something to send and credit for it */
    struct list_node in_windows; /* a WINDOW is due */
    struct credit_out out;       /* request body */
    struct credit_in in;         /* response body */
    uint64_t request_end;        /* where its REQUEST ends in the link's bytes */
    unsigned informational;      /* 1xx heads so far */
    bool want_send;              /* the user has said so and has not run dry since */
    bool local_ended;            /* our side: END_STREAM, BODY_ABORTED, or the whole stream */
    bool
        gateway_ended; /* we ended the whole stream (SPEC R60); what comes is checked and dropped */
    bool reset_sent, eof_told; /* RESET, DISCONNECT(CLIENT_EOF) was sent */
    bool eof_waits;            /* CLIENT_EOF follows our END_STREAM (SPEC R63) */
    bool worker_spoke;         /* any frame has come on it */
    bool head_seen;            /* final RESPONSE */
    bool remote_ended;         /* END_STREAM, RESET or WS_CLOSE has come */
    bool file_pending;         /* FILE has come and FILE_DONE was not sent */
    bool websocket, accepted;  /* kind 1; WS_ACCEPT has come */
    bool in_message, text;     /* a WS_MSG with MORE came last; its TEXT flag */
    struct loop_grave grave;
};

LIST_DEFINE(stream_list, struct channel_stream, in_channel);
LIST_DEFINE(sender_list, struct channel_stream, in_senders);
LIST_DEFINE(window_list, struct channel_stream, in_windows);

#endif
