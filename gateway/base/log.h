/* SPDX-License-Identifier: MIT */
/*
 * Logs that never block a loop. A line is formatted by its thread, put into a bounded queue and
 * written by one writer thread; when the queue is full or the disk refuses, lines are dropped and
 * counted, and stderr hears of it once a minute. Before log_start (and in the master) lines are
 * written directly.
 */
#ifndef GATEWAY_BASE_LOG_H
#define GATEWAY_BASE_LOG_H

#include <stdbool.h>

#include "base/error.h"
#include "base/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_LEVEL_COUNT };

struct log_settings {
    enum log_level level;
    struct slice error;  /* "-" stderr, "syslog", or an absolute path */
    struct slice access; /* "-" stdout, "" off, or an absolute path */
};

/* A destination of lines: the error log or the access log. */
enum log_sink { LOG_SINK_ERROR, LOG_SINK_ACCESS, LOG_SINK_COUNT };

/* Opens both destinations (paths are created with mode 0640). On failure `ret_text` (a static
 * buffer's text) says what failed. */
enum error log_open(const struct log_settings *settings, const char **ret_text) MUST_CHECK;
/* Starts the writer thread. Once per process, after fork. */
enum error log_start(void) MUST_CHECK;
/* Opens the paths anew (SIGUSR1, after logrotate); a path that fails keeps its old descriptor
 * and is logged. */
void log_reopen(void);
/* The descriptor of a sink that is a file, -1 otherwise (not while the writer thread runs): the
 * master hands it on. */
int log_file_descriptor(enum log_sink sink);
/* Writes to `fd` from now on and owns it: how a server that may not open a log file itself gets
 * a new one from its master. */
void log_replace_take(enum log_sink sink, int fd);
/* Whether there is an access log: without one, formatting its lines can be saved. Any thread. */
bool log_access_enabled(void);
/* Writes what is queued and stops the writer thread (waits at most 2 seconds for a stuck disk). */
void log_stop(void);

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* Parses "debug" ... "error"; false when it is none of them. */
bool log_level_parse(struct slice name, enum log_level *ret_level);

/* Queues one line for a sink (a newline is added). The bytes are copied; dropped and counted
 * when the queue is full. */
void log_queue(enum log_sink sink, struct slice line);
/* Formats and queues one error-log line: "2026-11-20T18:00:00.123Z warning h1: text". Control
 * characters in the text are written as \xNN. Use the macros. */
void log_write(enum log_level level, const char *module, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_at(level, module, ...)                                                                 \
    ((level) >= log_get_level() ? log_write((level), (module), __VA_ARGS__) : (void)0)
#define log_debug(module, ...) log_at(LOG_DEBUG, module, __VA_ARGS__)
#define log_info(module, ...) log_at(LOG_INFO, module, __VA_ARGS__)
#define log_warning(module, ...) log_at(LOG_WARNING, module, __VA_ARGS__)
#define log_error(module, ...) log_at(LOG_ERROR, module, __VA_ARGS__)

#endif
