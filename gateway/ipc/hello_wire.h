/* SPDX-License-Identifier: MIT */
/*
 * HELLO and HELLO_ACK as bytes (SPEC section 4). No sockets.
 */
#ifndef GATEWAY_IPC_HELLO_WIRE_H
#define GATEWAY_IPC_HELLO_WIRE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "ipc/hello.h"
#include "ipc/settings.h"

/* Decodes HELLO's payload into `ret_hello`; its slices are copies in the arena. ERROR_PROTOCOL: `ret_text` (static) says what is wrong
 * or names the key. ERROR_NO_MEMORY. */
enum error hello_decode(struct arena *arena, struct slice payload, struct hello *ret_hello,
                        const char **ret_text) MUST_CHECK;
/* Appends HELLO_ACK's payload; check out->failed. */
void hello_ack_encode(struct strbuf *out, const struct hello_ack *ack,
                      const struct ipc_settings *settings);

#endif
