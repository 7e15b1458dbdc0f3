/* SPDX-License-Identifier: MIT */
/*
 * The socket between master and server: orders one way, news the other. Its end of file tells each
 * of the other's death.
 */
#ifndef GATEWAY_CONTROL_H
#define GATEWAY_CONTROL_H

#include "base/error.h"

enum control_kind {
    /* master to server */
    CONTROL_STOP = 1, /* drain, then exit */
    CONTROL_STOP_NOW, /* exit without draining; also during a drain */
    CONTROL_LOG,      /* `argument` is a log sink, with the descriptor to write to from now on */
    /* server to master */
    CONTROL_READY,      /* clients and workers are accepted */
    CONTROL_PLEASE_STOP /* gatewayctl drain: as SIGTERM */
};

struct control_message {
    enum control_kind kind;
    int argument;
    int fd; /* -1: none; the receiver owns it */
};

/* A connected pair, both ends non-blocking and close-on-exec. ERROR_IO: errno. */
enum error control_pair(int ret_fds[2]) MUST_CHECK;
/* Sends; `fd` stays the sender's. ERROR_IO: the other side is gone or does not read. */
enum error control_send(int socket, const struct control_message *message) MUST_CHECK;
/* NONE: a message. AGAIN: none now. CLOSED: the other side is gone. IO: errno. PROTOCOL: not one
 * of ours. */
enum error control_receive(int socket, struct control_message *ret_message) MUST_CHECK;

#endif
