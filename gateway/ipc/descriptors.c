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

int ipc_take_descriptor(struct msghdr *message)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    bool cut = (message->msg_flags & MSG_CTRUNC) != 0;
    int fd;

    if (c == NULL) { /* cut without a header: not even the first one could be made */
        return cut ? IPC_DESCRIPTOR_LOST : IPC_DESCRIPTOR_NONE;
    }
    if (cut || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
        c->cmsg_len != CMSG_LEN(sizeof(int)) || CMSG_NXTHDR(message, c) != NULL) {
        return ipc_close_descriptors(message) ? IPC_DESCRIPTOR_MANY : IPC_DESCRIPTOR_NONE;
    }
    memcpy(&fd, CMSG_DATA(c), sizeof(int));
    return fd;
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
