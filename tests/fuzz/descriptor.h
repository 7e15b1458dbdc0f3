/* SPDX-License-Identifier: MIT */
/*
 * Sends one byte together with a descriptor, for targets that play a worker.
 */
#ifndef TESTS_FUZZ_DESCRIPTOR_H
#define TESTS_FUZZ_DESCRIPTOR_H

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"

/* Sends bytes over the Unix socket `fd` with a copy of `descriptor` on the first one; returns as sendmsg. */
static inline ssize_t send_with_descriptor(int fd, const uint8_t *bytes, size_t length,
                                           int descriptor)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec vector = {(void *)(uintptr_t)bytes, length};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* A regular file without a name, of this many bytes. */
static inline int new_file(off_t length)
{
    int fd = memfd_create("file", MFD_CLOEXEC);

    REQUIRE(fd > 0 && ftruncate(fd, length) == 0);
    return fd;
}

/* Sends `byte` over the Unix socket `fd` with a copy of `fd` itself; a full socket is no error. */
static inline void send_descriptor(int fd, uint8_t byte)
{
    (void)!send_with_descriptor(fd, &byte, 1, fd);
}

#endif
