/* SPDX-License-Identifier: MIT */
/* One qlog trace per connection, in a directory, for debugging: off unless http3.qlog is set. Internal to quic_*.c. */
#ifndef GATEWAY_H3_QUIC_TRACE_H
#define GATEWAY_H3_QUIC_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct quic_trace;

/* Opens DIRECTORY/CONNECTION-ID.sqlog. NULL when the directory is empty, or the file cannot be made (logged). */
struct quic_trace *quic_trace_new(struct slice directory, const uint8_t *cid, size_t length);
void quic_trace_free(struct quic_trace *trace);
/* The library's qlog_write; `user` is the connection. */
void quic_trace_write(void *user, uint32_t flags, const void *data, size_t length);

#endif
