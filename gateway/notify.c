/* SPDX-License-Identifier: MIT */
/* The service manager's socket. A failure is a debug line: the service runs with or without a
 * listener there. */
#include "notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

void notify_send(const char *assignments)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path == NULL || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    size_t length = strlen(path);
    if (length >= sizeof(address.sun_path)) {
        log_warning("master", "NOTIFY_SOCKET is longer than a socket path can be: not used");
        return;
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') {
        address.sun_path[0] = '\0'; /* the abstract namespace, unix(7) */
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return;
    }
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (sendto(fd, assignments, strlen(assignments), MSG_NOSIGNAL,
               (const struct sockaddr *)&address, size) < 0) {
        log_debug("master", "NOTIFY_SOCKET %s: %s", path, strerror(errno));
    }
    close(fd);
}

void notify_reloading(void)
{
    char text[96];

    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             clock_now() / CLOCK_NS_PER_US);
    notify_send(text);
}
