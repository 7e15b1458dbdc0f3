/* SPDX-License-Identifier: MIT */
/* Messages of two bytes on a SOCK_SEQPACKET pair, at most one descriptor with each. */
#include "control.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control_buffer {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

enum error control_pair(int ret_fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret_fds) == 0
               ? ERROR_NONE
               : ERROR_IO;
}

enum error control_send(int socket, const struct control_message *message)
{
    uint8_t bytes[2] = {(uint8_t)message->kind, (uint8_t)message->argument};
    struct iovec vector = {bytes, sizeof(bytes)};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};
    union control_buffer buffer;

    if (message->fd >= 0) {
        memset(&buffer, 0, sizeof(buffer));
        header.msg_control = buffer.bytes;
        header.msg_controllen = sizeof(buffer.bytes);
        struct cmsghdr *control = CMSG_FIRSTHDR(&header);
        control->cmsg_level = SOL_SOCKET;
        control->cmsg_type = SCM_RIGHTS;
        control->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(control), &message->fd, sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(socket, &header, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof(bytes) ? ERROR_NONE : ERROR_IO;
}

static int take_descriptor(struct msghdr *header)
{
    struct cmsghdr *control = CMSG_FIRSTHDR(header);
    int fd = -1;

    if (control != NULL && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS &&
        control->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(&fd, CMSG_DATA(control), sizeof(int));
    }
    return fd;
}

enum error control_receive(int socket, struct control_message *ret_message)
{
    uint8_t bytes[2];
    struct iovec vector = {bytes, sizeof(bytes)};
    union control_buffer buffer;
    struct msghdr header = {.msg_iov = &vector,
                            .msg_iovlen = 1,
                            .msg_control = buffer.bytes,
                            .msg_controllen = sizeof(buffer.bytes)};
    ssize_t got;

    do {
        got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno == EAGAIN ? ERROR_AGAIN : errno == ECONNRESET ? ERROR_CLOSED : ERROR_IO;
    }
    if (got == 0) {
        return ERROR_CLOSED;
    }
    int fd = take_descriptor(&header);
    if (got != (ssize_t)sizeof(bytes)) {
        if (fd >= 0) {
            close(fd);
        }
        return ERROR_PROTOCOL;
    }
    *ret_message = (struct control_message){(enum control_kind)bytes[0], bytes[1], fd};
    return ERROR_NONE;
}
