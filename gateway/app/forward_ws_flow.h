/* SPDX-License-Identifier: MIT */
/*
 * What forward_ws.c and forward_ws_flow.c share. Nobody else includes it.
 */
#ifndef GATEWAY_APP_FORWARD_WS_FLOW_H
#define GATEWAY_APP_FORWARD_WS_FLOW_H

#include "app/forward_ws.h"

/* The session's write function; `user` is the forward_ws. */
enum error forward_ws_write(void *user, struct slice bytes);
/* Both close frames are out, or nobody waits for one: the tunnel ends, and the forward with it. */
void forward_ws_end(struct forward *forward);
/* It cannot go on: the stream is reset, the client's connection cut. */
void forward_ws_break(struct forward *forward, enum end_reason reason, const char *text);
/* The gateway closes both sides with this code; `reason` is why, for the logs. */
void forward_ws_shut(struct forward *forward, unsigned code, const char *text,
                     enum end_reason reason);
/* What the app sent cannot be passed on: the client gets 1011. The caller's slot returns the error, so that the stream is reset. */
enum error forward_ws_bad_app(struct forward *forward, enum error error,
                              const char *text) MUST_CHECK;
/* (Re)sets the timer; the forward may be over afterwards, when memory is out. */
void forward_ws_set_timer(struct forward *forward);

#endif
