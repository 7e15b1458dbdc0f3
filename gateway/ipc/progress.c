/* SPDX-License-Identifier: MIT */
/*
 * The progress page and the pidfd: thin wrappers around Linux calls. It owns nothing; the descriptors are the caller's.
 */
#include "ipc/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc/frame_defs.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3; older kernels say EINVAL */
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; older kernels say ENOPROTOOPT */
#endif

static int page_create(void)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("gatewayd-progress", flags | MFD_NOEXEC_SEAL);

    return fd < 0 && errno == EINVAL ? memfd_create("gatewayd-progress", flags) : fd;
}

enum error progress_page_new(int *ret_fd)
{
    int fd = page_create();

    if (fd < 0) {
        return ERROR_IO;
    }
    if (ftruncate(fd, FRAME_PAGE_SIZE) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return ERROR_IO;
    }
    *ret_fd = fd;
    return ERROR_NONE;
}

static bool read_word(int page_fd, unsigned word, uint32_t *ret_value)
{
    uint32_t value; /* native byte order, as the worker stores it */
    ssize_t length = pread(page_fd, &value, sizeof(value), (off_t)(word * sizeof(value)));

    if (length != (ssize_t)sizeof(value)) {
        return false;
    }
    *ret_value = value;
    return true;
}

uint32_t progress_started(int page_fd)
{
    uint32_t id;

    return read_word(page_fd, 0, &id) ? id : UINT32_MAX;
}

bool progress_heartbeat(int page_fd, uint32_t *ret_value)
{
    return read_word(page_fd, 1, ret_value);
}

int progress_pidfd(int socket_fd, pid_t pid)
{
    int pidfd = -1;
    socklen_t length = sizeof(pidfd);

    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0 && pidfd >= 0) {
        (void)fcntl(pidfd, F_SETFD, FD_CLOEXEC); /* the kernel has set it already */
        return pidfd;
    }
    return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

bool progress_is_dead(int pidfd)
{
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};

    return pidfd >= 0 && poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLIN) != 0;
}
