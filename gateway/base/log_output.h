/* SPDX-License-Identifier: MIT */
/*
 * Where log lines end: a descriptor or syslog. Internal to base/log*.c. A sink is used by one
 * thread at a time: the writer thread while it runs, else the caller of log_open and log_queue.
 */
#ifndef GATEWAY_BASE_LOG_OUTPUT_H
#define GATEWAY_BASE_LOG_OUTPUT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

enum log_target { LOG_TARGET_OFF, LOG_TARGET_STANDARD, LOG_TARGET_FILE, LOG_TARGET_SYSLOG };

struct log_output {
    enum log_target target;
    int fd;              /* -1: none */
    bool broken_line;    /* the last write ended inside a line: the next one starts anew */
    char path[PATH_MAX]; /* LOG_TARGET_FILE */
};

/* Opens `name` ("-" = `standard_fd`, "" = off, "syslog", a path) into `ret_output`; the reason
 * of a failure goes to `text`. */
enum error log_output_open(struct log_output *ret_output, struct slice name, int standard_fd,
                           char *text, size_t text_size) MUST_CHECK;
/* Closes what it owns (never the standard descriptors). */
void log_output_close(struct log_output *output);
/* Opens a path anew; on failure the old descriptor stays and errno tells. */
enum error log_output_reopen(struct log_output *output) MUST_CHECK;
/* Writes whole lines, each ending in a newline (for syslog: each starting with the digit of its
 * level). A full pipe is waited for as long as patience_ms() says (negative: for ever). Returns how
 * many lines were lost; errno tells why. */
uint64_t log_output_write(struct log_output *output, const char *data, size_t length,
                          int (*patience_ms)(void));
/* The number of newlines in `data`. */
uint64_t log_count_lines(const char *data, size_t length);

#endif
