/* SPDX-License-Identifier: MIT */
/* Messages on a SOCK_SEQPACKET pair: a head, a text, at most one descriptor with each. Both sides are of one binary (an upgrade
 * hands sockets over in its own way), so the head is a struct. */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct control_head {
    int32_t kind, argument;
    uint32_t number;
};

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

static bool wait_for_room(int socket, int patience_ms)
{
    struct pollfd room = {.fd = socket, .events = POLLOUT};

    return poll(&room, 1, patience_ms) > 0 && (room.revents & POLLOUT) != 0;
}

enum error control_send(int socket, const struct control_message *message, int patience_ms)
{
    struct control_head head = {(int32_t)message->kind, message->argument, message->number};
    size_t length =
        message->text.length < CONTROL_TEXT_MAX ? message->text.length : CONTROL_TEXT_MAX;
    struct iovec vectors[2] = {{&head, sizeof(head)},
                               {(void *)(uintptr_t)message->text.data, length}};
    struct msghdr header = {.msg_iov = vectors, .msg_iovlen = length > 0 ? 2 : 1};
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
    } while (sent < 0 && (errno == EINTR || ((errno == EAGAIN || errno == ETOOMANYREFS) &&
                                             wait_for_room(socket, patience_ms))));
    return sent == (ssize_t)(sizeof(head) + length) ? ERROR_NONE : ERROR_IO;
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

enum error control_receive(int socket, struct control_message *ret_message, char *text)
{
    struct control_head head;
    struct iovec vectors[2] = {{&head, sizeof(head)}, {text, CONTROL_TEXT_MAX}};
    union control_buffer buffer;
    struct msghdr header = {.msg_iov = vectors,
                            .msg_iovlen = 2,
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
    if (got < (ssize_t)sizeof(head)) {
        if (fd >= 0) {
            close(fd);
        }
        return ERROR_PROTOCOL;
    }
    size_t length = (size_t)got - sizeof(head);
    text[length] = '\0';
    *ret_message = (struct control_message){.kind = (enum control_kind)head.kind,
                                            .argument = head.argument,
                                            .number = head.number,
                                            .fd = fd,
                                            .text = {text, length}};
    return ERROR_NONE;
}
