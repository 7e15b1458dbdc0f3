/* SPDX-License-Identifier: MIT */
/*
 * Sends one byte together with a descriptor, for targets that play a worker.
 */
#ifndef TESTS_FUZZ_DESCRIPTOR_H
#define TESTS_FUZZ_DESCRIPTOR_H

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* Sends `byte` over the Unix socket `fd` with a copy of `fd` itself; a full socket is no error. */
static inline void send_descriptor(int fd, uint8_t byte)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
    (void)!sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

#endif
