/* SPDX-License-Identifier: MIT */
/* Writing qlog. It blocks as any file does, which is one of the reasons why it is for debugging only. */
#include "h3/quic_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "h3/quic_state.h"

struct quic_trace {
    int fd;
};

struct quic_trace *quic_trace_new(struct slice directory, const uint8_t *cid, size_t length)
{
    char path[PATH_MAX];
    int at;

    if (directory.length == 0) {
        return NULL;
    }
    at = snprintf(path, sizeof(path), "%.*s/", SLICE_PRINT(directory));
    for (size_t i = 0; i < length && at > 0 && (size_t)at < sizeof(path); i++) {
        at += snprintf(path + at, sizeof(path) - (size_t)at, "%02x", cid[i]);
    }
    if (at < 0 || (size_t)at + sizeof(".sqlog") > sizeof(path)) {
        return NULL;
    }
    memcpy(path + at, ".sqlog", sizeof(".sqlog"));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct quic_trace *trace = fd >= 0 ? mem_alloc(sizeof(*trace)) : NULL;
    if (trace == NULL) {
        log_warning("quic", "http3.qlog: cannot write %s: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    trace->fd = fd;
    return trace;
}

void quic_trace_free(struct quic_trace *trace)
{
    if (trace != NULL) {
        close(trace->fd);
        mem_free(trace);
    }
}

void quic_trace_write(void *user, uint32_t flags, const void *data, size_t length)
{
    const struct quic_conn *conn = user;
    (void)flags;
    ssize_t written = write(conn->trace->fd, data, length);
    (void)written;
}
