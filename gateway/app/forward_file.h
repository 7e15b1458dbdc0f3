/* SPDX-License-Identifier: MIT */
/*
 * A file whose descriptor a worker sent (SPEC section 13), on its way into the exchange's response body. It never blocks the loop: what
 * is in memory is read at once, everything else by a file thread. At most two pieces of 64 KiB are held.
 */
#ifndef GATEWAY_APP_FORWARD_FILE_H
#define GATEWAY_APP_FORWARD_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct forward;
struct forward_file;

/* channel_user_ops.on_file. */
enum error forward_file_on_file(void *user, int fd, uint64_t offset, uint64_t count, bool end);
/* `length` bytes of the response have left: the worker gets credit for those that it sent itself, the rest is the file's. */
void forward_file_released(struct forward *forward, size_t length);
/* Whether what is left of the response does not need the worker any more: a file with its end (SPEC R111). */
bool forward_file_is_rest(const struct forward *forward);
/* Whether every byte of it has left, and only FILE_DONE is still to be said. */
bool forward_file_is_sent(const struct forward *forward);
/* Nobody wants it any more. */
void forward_file_drop(struct forward *forward);

#endif
