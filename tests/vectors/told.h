/* SPDX-License-Identifier: MIT */
/*
 * The user and the owner of the channel under test: writes down what they are told as lines of the transcripts' notation, and
 * sends request bodies when the channel can take them. One channel at a time.
 */
#ifndef TESTS_VECTORS_TOLD_H
#define TESTS_VECTORS_TOLD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"
#include "ipc/channel.h"
#include "vectors/notation.h"

#define TOLD_EVENTS 4096
#define TOLD_STREAMS 8

struct gateway_user {
    struct channel_stream *stream; /* NULL: gone or detached */
    uint32_t id;                   /* 0: not used yet */
    struct note_bytes body;        /* to be sent */
    size_t sent;
    bool end;
    bool message, text; /* `body` is a WebSocket message */
    bool full;          /* takes no FILE */
};

struct told {
    struct channel *channel; /* NULL before HELLO and after on_closed */
    bool closed, orderly;
    struct gateway_user users[TOLD_STREAMS];
    char *events[TOLD_EVENTS];
    size_t event_count, event_next; /* the first that no step has asked for */
};

extern struct told told;
extern const struct channel_user_ops gateway_user_ops;
extern const struct channel_owner_ops gateway_owner_ops;

/* Writes an event down. */
void told_event(const char *format, ...) PRINTF_LIKE(1, 2);
/* Forgets everything. */
void told_reset(void);

#endif
