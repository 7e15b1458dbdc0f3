/* SPDX-License-Identifier: MIT */
/*
 * What ws_session.c and ws_receive.c share. Nobody else includes it.
 */
#ifndef GATEWAY_WS_WS_RECEIVE_H
#define GATEWAY_WS_WS_RECEIVE_H

#include "ws/ws_session.h"

/* Fails the connection (RFC 6455 7.1.7): our close frame with this code, `text` as its reason. */
enum ws_event ws_receive_fail(struct ws_session *session, unsigned code, const char *text);
/* Takes a piece of a control frame; MORE: go on. */
enum ws_event ws_receive_control(struct ws_session *session, const struct ws_piece *piece);

#endif
