/* SPDX-License-Identifier: MIT */
/*
 * A scripted worker for the tests of ipc: the other end of a channel's socket, driven frame by frame from the test, and
 * records of everything that the channel tells its owner and its users.
 */
#ifndef TESTS_UNIT_IPC_SCRIPT_H
#define TESTS_UNIT_IPC_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "ipc/channel.h"
#include "ipc/frame.h"
#include "loop/loop.h"

#define SCRIPT_FRAMES 4096

/* What one user of a stream was told, and what it does. */
struct script_user {
    struct channel_stream *stream; /* NULL once gone or detached */
    struct script *script;
    unsigned heads, datas, trailers, files, credits, gones, sendables;
    unsigned status; /* of the latest head */
    uint64_t bytes;  /* of on_data */
    bool end;
    struct channel_gone gone;
    uint64_t to_send; /* body bytes left to send; the end follows */
    bool send_end;
    bool hold; /* does not release what comes */
    uint32_t held;
    enum error answer; /* what on_head, on_data and on_trailers return */
};

struct script {
    struct loop *loop;
    struct ipc_settings settings;
    struct channel *channel; /* NULL once closed */
    int fd;                  /* the worker's end; -1 once closed */
    int page_fd;             /* came with HELLO_ACK */
    bool ended;              /* the gateway closed its end */
    /* what the gateway sent: headers and their payloads in one buffer */
    struct frame frames[SCRIPT_FRAMES];
    size_t count, next;
    struct strbuf payloads;
    struct frame_reader reader;
    /* what the owner was told */
    unsigned ready, goaways, slots_freed, lags, lates, stats, errors, closed;
    bool orderly;
    char text[256];
    enum frame_error error_code;
    struct worker_stats last_stats;
};

extern const struct channel_user_ops script_user_ops;

/* Small but real limits; tests change them before script_start. */
struct ipc_settings script_settings(void);
/* A channel on one end of a socket pair; the process at the other end is this one (`pidfd` -1) unless given. The test sees HELLO_ACK
 * as its first frame. Returns false when memory was out. */
bool script_start(struct script *script, const struct ipc_settings *settings);
bool script_start_with(struct script *script, const struct ipc_settings *settings, int gateway_fd,
                       int worker_fd, int pidfd);
/* script_start, HELLO_ACK read, READY sent and handled. */
void script_ready(struct script *script);
/* Closes everything, lets the channel end, and checks that nothing lives any more. Returns false when something does. */
bool script_end(struct script *script);

/* Runs the loop for some turns without sleeping. */
void script_turns(struct script *script, unsigned turns);
/* Runs turns until *flag is not 0, at most ten seconds. */
bool script_until(struct script *script, const unsigned *flag);

/* The worker sends a frame; `length` is that of the payload. */
void script_send(struct script *script, struct frame frame, const void *payload, size_t length);
/* The same, then turns, so that it is handled. */
void script_say(struct script *script, struct frame frame, const void *payload, size_t length);
void script_write(struct script *script, const void *bytes, size_t length);
/* Reads all that the gateway has sent. */
void script_read(struct script *script);
/* The next frame from the gateway (turns and reads first); type 0 when there is none. */
struct frame script_take(struct script *script);
/* Skips frames until one of this type; type 0 when there is none. */
struct frame script_take_type(struct script *script, unsigned type);

/* Opens a stream with a small head. */
bool script_open(struct script *script, struct script_user *user, const char *body, bool end,
                 bool expect);

#endif
