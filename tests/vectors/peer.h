/* SPDX-License-Identifier: MIT */
/*
 * The worker's end of one link, for the transcripts: connects to an acceptor, writes bytes with or without a descriptor, runs
 * the gateway's loop until nothing moves any more, and splits what the gateway wrote into frames. It knows no channel.
 */
#ifndef TESTS_VECTORS_PEER_H
#define TESTS_VECTORS_PEER_H

#include <stdbool.h>
#include <sys/types.h>

#include "loop/loop.h"
#include "vectors/notation.h"

struct peer {
    struct loop *loop;
    struct loop_resume resume;
    unsigned turns;       /* left until the loop is stopped */
    int listener, fd;     /* fd: the worker's end */
    int page_fd;          /* came with HELLO_ACK; -1 before */
    bool ended;           /* the gateway closed the link */
    char path[108];       /* of the listening socket */
    struct note_bytes in; /* what the gateway wrote and was not taken yet */
    pid_t child;          /* stands for the worker's process; 0: none */
};

/* Makes the loop and a listening socket in a folder of its own. */
void peer_open(struct peer *peer);
/* Connects; the acceptor is in place by now. */
void peer_dial(struct peer *peer);
/* Closes everything and frees the loop, in which nothing may be registered any more. */
void peer_close(struct peer *peer);
/* Runs turns until nothing has moved, reading what the gateway writes. */
void peer_settle(struct peer *peer);
/* Runs the loop until `*flag` or five seconds have passed; for what needs a timer of the gateway. */
void peer_wait(struct peer *peer, const bool *flag);
/* Writes all bytes, with a descriptor on the first one unless it is -1, and settles. Stops when the gateway closes. */
void peer_write(struct peer *peer, const uint8_t *data, size_t length, int descriptor);
/* Takes the next whole frame out of what was read. */
bool peer_next(struct peer *peer, struct note_frame *ret_frame);
/* A process that does nothing, and its pidfd; it is killed by peer_kill. */
int peer_spawn(struct peer *peer);
void peer_kill(struct peer *peer);

#endif
