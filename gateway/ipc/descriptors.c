/* SPDX-License-Identifier: MIT */
/* Closes descriptors that nobody asked for. It owns nothing. */
#include "ipc/descriptors.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/metrics.h"

static void close_all(const struct cmsghdr *c)
{
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        close(fd);
        METRIC_INCREMENT(ipc_descriptors_refused);
    }
}

bool ipc_close_descriptors(struct msghdr *message)
{
    bool any = (message->msg_flags & MSG_CTRUNC) != 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            close_all(c);
            any = true;
        }
    }
    return any;
}
