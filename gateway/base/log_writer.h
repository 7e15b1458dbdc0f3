/* SPDX-License-Identifier: MIT */
/*
 * The writer thread and its two bounded queues. Internal to base/log*.c.
 */
#ifndef GATEWAY_BASE_LOG_WRITER_H
#define GATEWAY_BASE_LOG_WRITER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/log.h"
#include "base/log_output.h"

/* Starts the thread, which from then on is the only user of `outputs` (LOG_SINK_COUNT of them). */
enum error log_writer_start(struct log_output *outputs) MUST_CHECK;
/* Whether the thread runs. Any thread. */
bool log_writer_running(void);
/* Queues the three parts as one line; false when it is not running. Drops (and counts) when the
 * queue is full. Any thread. */
bool log_writer_queue(enum log_sink sink, struct slice prefix, struct slice line);
/* Asks the thread to open the paths anew before its next write. Any thread. */
void log_writer_reopen(void);
/* Gives the thread a descriptor to write to instead of the one it has (it closes both in the
 * end). Any thread. */
void log_writer_replace(enum log_sink sink, int fd);
/* Lets it write what is queued, at most `timeout_ms`, and ends it. False when it is stuck: then
 * it is left behind. */
bool log_writer_stop(int timeout_ms);

#endif
