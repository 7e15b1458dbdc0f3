/* SPDX-License-Identifier: MIT */
/*
 * Signals as something to read: all are blocked, and those that mean something come out of a
 * descriptor.
 */
#ifndef GATEWAY_SIGNALS_H
#define GATEWAY_SIGNALS_H

#include <stddef.h>

/* Blocks all signals in the calling thread (and those it starts) but the ones that a bug raises,
 * ignores SIGPIPE, and returns a non-blocking descriptor that tells of `wanted`; -1 with errno. The
 * caller closes it. */
int signals_open(const int *wanted, size_t count);
/* The next signal, 0 when there is none. */
int signals_next(int fd);
/* "SIGTERM"; "signal 42" for one without a name. A static buffer's text: one thread only. */
const char *signals_name(int number);

#endif
