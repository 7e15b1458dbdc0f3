/* SPDX-License-Identifier: MIT */
/*
 * The socket between master and server: orders one way, news the other. Its end of file tells each
 * of the other's death.
 */
#ifndef GATEWAY_CONTROL_H
#define GATEWAY_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

/* Of one kind's text; longer ones are cut when they are sent. */
#define CONTROL_TEXT_MAX 8192

enum control_kind {
    /* master to server */
    CONTROL_STOP = 1, /* drain, then exit */
    CONTROL_STOP_NOW, /* exit without draining; also during a drain */
    CONTROL_LOG,      /* `argument` is a log sink, with the descriptor to write to from now on */
    /* Another configuration: BEGIN, then FILE and SOCKET messages, then END, which is answered by RELOADED or REFUSED. After
     * RELOADED comes RELEASE: the master has closed what is listened on no more, and the server does now. */
    CONTROL_RELOAD_BEGIN, /* text: the name of the configuration file; empty: none */
    CONTROL_RELOAD_FILE, /* text: path, NUL, what it leads to; with its descriptor, if it was opened */
    CONTROL_RELOAD_SOCKET, /* `argument`: control_socket; text: its struct; a descriptor if it is new */
    CONTROL_RELOAD_END,     /* `number`: of the configuration */
    CONTROL_RELOAD_RELEASE, /* nothing more */
    /* An upgrade, to the older server: */
    CONTROL_SAVE,      /* say APP_STATE of each app, then SAVED */
    CONTROL_RECONNECT, /* have the workers dial again, and accept none */
    CONTROL_RESUME,    /* the upgrade has failed: accept workers again */
    CONTROL_RETIRE,    /* accept nothing any more, without emptying shared queues, and drain */
    /* to the newer one, which was started to stand by: */
    CONTROL_ACCEPT_WORKERS, /* after its APP_STATEs; answered by WORKERS as soon as they are back */
    CONTROL_ACCEPT,         /* clients and operators too */
    CONTROL_APP_STATE, /* both ways: `number`: ready workers; text: name, NUL, what app_hand_over() says */
    CONTROL_RESULT, /* `argument`: control_result(); `number`: the last wish that it answers; text: for people */
    /* server to master */
    CONTROL_READY, /* clients and workers are accepted */
    CONTROL_SAVED,
    CONTROL_RETIRED,     /* after RETIRE: the next server may accept */
    CONTROL_WORKERS,     /* every app that had ready workers has some again */
    CONTROL_RELOADED,    /* text: what could not change, a line each */
    CONTROL_REFUSED,     /* text: why */
    CONTROL_PLEASE_STOP, /* gatewayctl drain: as SIGTERM */
    CONTROL_WISH /* `argument`: control_wish; `number`: of this wish, counted up from 1. By the admin socket */
};

enum control_wish { CONTROL_WISH_RELOAD, CONTROL_WISH_UPGRADE };
#define CONTROL_WISHES 2

/* What CONTROL_RESULT is about, and whether it failed. */
static inline int32_t control_result(enum control_wish wish, int failed)
{
    return (int32_t)wish * 2 + (failed != 0);
}

enum control_socket {
    CONTROL_SOCKET_LISTENER, /* struct listener_socket */
    CONTROL_SOCKET_APP,      /* struct endpoint, in the order of the apps; so are the following */
    CONTROL_SOCKET_ADMIN,
    CONTROL_SOCKET_ADMIN_HTTP
};

struct control_message {
    enum control_kind kind;
    int32_t argument;
    uint32_t number;
    int fd; /* -1: none; the receiver owns it */
    struct slice text;
};

/* A connected pair, both ends non-blocking and close-on-exec. ERROR_IO: errno. */
enum error control_pair(int ret_fds[2]) MUST_CHECK;
/* Sends; `fd` stays the sender's. Waits at most `patience_ms` for room. ERROR_IO: the other side is gone or does not read. */
enum error control_send(int socket, const struct control_message *message,
                        int patience_ms) MUST_CHECK;
/* NONE: a message, whose text is in `text` (CONTROL_TEXT_MAX + 1 bytes, and a NUL behind it). AGAIN: none now. CLOSED: the other
 * side is gone. IO: errno. PROTOCOL: not one of ours. */
enum error control_receive(int socket, struct control_message *ret_message, char *text) MUST_CHECK;

#endif
