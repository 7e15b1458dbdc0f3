/* SPDX-License-Identifier: MIT */
/*
 * Opens, reopens and writes the destinations of the logs. It owns the descriptors that it opened.
 * This file alone includes syslog.h, whose LOG_* macros collide with the levels of base/log.h.
 */
#include "base/log_output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

static int log_open_path(const char *path)
{
    /* O_NONBLOCK: opening a FIFO that nobody reads must fail rather than hang; on a file it
     * means nothing. */
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

enum error log_output_open(struct log_output *ret_output, struct slice name, int standard_fd,
                           char *text, size_t text_size)
{
    struct log_output output = {.target = LOG_TARGET_OFF, .fd = -1};

    if (name.length == 0) {
        *ret_output = output;
        return ERROR_NONE;
    }
    if (slice_equal(name, SLICE("-"))) {
        output.target = LOG_TARGET_STANDARD;
        output.fd = standard_fd;
    } else if (slice_equal(name, SLICE("syslog"))) {
        output.target = LOG_TARGET_SYSLOG;
        openlog("gatewayd", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    } else {
        output.target = LOG_TARGET_FILE;
        if (name.length >= sizeof(output.path)) {
            snprintf(text, text_size, "the log path is longer than %zu bytes: use a shorter one",
                     sizeof(output.path) - 1);
            return ERROR_INVALID;
        }
        memcpy(output.path, name.data, name.length);
        output.fd = log_open_path(output.path);
        if (output.fd < 0) {
            snprintf(text, text_size,
                     "cannot open the log file %.200s: %s; check that its folder exists and may be "
                     "written to",
                     output.path, strerror(errno));
            return ERROR_IO;
        }
    }
    *ret_output = output;
    return ERROR_NONE;
}

void log_output_close(struct log_output *output)
{
    if (output->target == LOG_TARGET_FILE && output->fd >= 0) {
        close(output->fd);
    }
    output->target = LOG_TARGET_OFF;
    output->fd = -1;
}

enum error log_output_reopen(struct log_output *output)
{
    if (output->target != LOG_TARGET_FILE) {
        return ERROR_NONE;
    }
    int fd = log_open_path(output->path);
    if (fd < 0) {
        return ERROR_IO;
    }
    if (output->fd >= 0) {
        close(output->fd);
    }
    output->fd = fd;
    output->broken_line = false;
    return ERROR_NONE;
}

uint64_t log_count_lines(const char *data, size_t length)
{
    uint64_t lines = 0;
    const char *end = data + length;

    while (data < end) {
        const char *newline = memchr(data, '\n', (size_t)(end - data));
        if (newline == NULL) {
            break;
        }
        lines++;
        data = newline + 1;
    }
    return lines;
}

static void log_write_syslog(const char *data, size_t length)
{
    /* In the order of enum log_level. */
    static const int severities[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERR};
    const char *end = data + length;

    while (data < end) {
        const char *newline = memchr(data, '\n', (size_t)(end - data));
        if (newline == NULL) {
            newline = end;
        }
        unsigned level = (unsigned)(*data - '0');
        int severity =
            level < sizeof(severities) / sizeof(*severities) ? severities[level] : LOG_INFO;
        syslog(severity, "%.*s", (int)(newline - data - 1), data + 1);
        data = newline + 1;
    }
}

/* Waits until `fd` takes bytes; false when patience ended first. */
static bool log_wait_writable(int fd, int (*patience_ms)(void))
{
    for (;;) {
        int patience = patience_ms();
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        /* In short steps: the patience ends when the process is told to stop. */
        int ready = poll(&poll_fd, 1, patience < 0 || patience > 200 ? 200 : patience);
        if (ready > 0) {
            return true;
        }
        if ((ready < 0 && errno != EINTR) || patience == 0) {
            errno = EAGAIN;
            return false;
        }
    }
}

uint64_t log_output_write(struct log_output *output, const char *data, size_t length,
                          int (*patience_ms)(void))
{
    if (output->target == LOG_TARGET_OFF || length == 0) {
        return 0;
    }
    if (output->target == LOG_TARGET_SYSLOG) {
        log_write_syslog(data, length);
        return 0;
    }
    if (output->broken_line) {
        /* A disk that was full took half a line: end it, so that the next line is whole. */
        if (write(output->fd, "\n", 1) != 1) {
            return log_count_lines(data, length);
        }
        output->broken_line = false;
    }
    size_t done = 0;
    while (done < length) {
        ssize_t written = write(output->fd, data + done, length - done);
        if (written > 0) {
            done += (size_t)written;
        } else if (written < 0 && errno == EAGAIN) {
            if (!log_wait_writable(output->fd, patience_ms)) {
                break;
            }
        } else if (written == 0 || errno != EINTR) {
            break;
        }
    }
    if (done == length) {
        return 0;
    }
    output->broken_line = done > 0 && data[done - 1] != '\n';
    return log_count_lines(data + done, length - done);
}
