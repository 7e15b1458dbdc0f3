/* SPDX-License-Identifier: MIT */
/*
 * Binds an app's Unix socket: directory, stale file, mode and group (SPEC S1, S11). It owns nothing; the descriptor is the
 * caller's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/hello.h"

#define BACKLOG 1024

struct bind_text {
    char *data;
    size_t size;
};

static enum error fail(const struct bind_text *text, enum error error, const char *format, ...)
    PRINTF_LIKE(3, 4);

static enum error fail(const struct bind_text *text, enum error error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text->data, text->size, format, arguments);
    va_end(arguments);
    return error;
}

static enum error fill_address(const char *path, struct sockaddr_un *address,
                               const struct bind_text *text)
{
    size_t length = strlen(path);

    if (path[0] != '/') {
        return fail(text, ERROR_INVALID, "%s: the socket's path must be absolute", path);
    }
    if (length >= sizeof(address->sun_path)) {
        return fail(
            text, ERROR_INVALID,
            "the socket's path has %zu bytes, the system allows %zu; choose a shorter one: %s",
            length, sizeof(address->sun_path) - 1, path);
    }
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, path, length + 1);
    return ERROR_NONE;
}

/* The directory, mode 0750, when it is missing; its parent must be there. */
static enum error make_directory(const char *path, gid_t group, const struct bind_text *text)
{
    char directory[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    size_t length = (size_t)(strrchr(path, '/') - path);
    struct stat status;

    if (length == 0) {
        return ERROR_NONE;
    }
    memcpy(directory, path, length);
    directory[length] = '\0';
    if (stat(directory, &status) == 0) {
        return S_ISDIR(status.st_mode)
                   ? ERROR_NONE
                   : fail(text, ERROR_INVALID, "%s is not a directory", directory);
    }
    /* chmod: the umask must not take the group's right away. */
    if (mkdir(directory, 0750) != 0 || chmod(directory, 0750) != 0 ||
        (group != (gid_t)-1 && chown(directory, (uid_t)-1, group) != 0)) {
        return fail(text, ERROR_IO,
                    "cannot make the directory %s: %s; make it, or choose another path", directory,
                    strerror(errno));
    }
    return ERROR_NONE;
}

/* Removes the file of a process that is gone. Refuses one that somebody listens on, and what is no socket. */
static enum error clear_stale(const char *path, const struct sockaddr_un *address,
                              const struct bind_text *text)
{
    struct stat status;

    if (lstat(path, &status) != 0) {
        return errno == ENOENT ? ERROR_NONE : fail(text, ERROR_IO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISSOCK(status.st_mode)) {
        return fail(text, ERROR_INVALID,
                    "%s exists and is not a socket; remove it, or choose another path", path);
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) {
        return fail(text, ERROR_IO, "socket: %s", strerror(errno));
    }
    int result = connect(probe, (const struct sockaddr *)address, sizeof(*address));
    int why = result == 0 ? 0 : errno;
    close(probe);
    if (why == ECONNREFUSED) {
        return unlink(path) == 0 || errno == ENOENT
                   ? ERROR_NONE
                   : fail(text, ERROR_IO, "cannot remove the stale socket %s: %s", path,
                          strerror(errno));
    }
    /* Connected, or its backlog is full (EAGAIN), or not ours to judge (EACCES). */
    return fail(text, ERROR_LIMIT,
                "%s: another process listens there%s%s; stop it, or choose another path", path,
                why != 0 && why != EAGAIN ? ": " : "",
                why != 0 && why != EAGAIN ? strerror(why) : "");
}

/* Mode and group are right before listen(), that is before anybody can connect. */
static enum error bind_and_listen(int fd, const char *path, const struct sockaddr_un *address,
                                  gid_t group, const struct bind_text *text)
{
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) != 0) {
        return fail(text, ERROR_IO, "cannot bind %s: %s", path, strerror(errno));
    }
    if (chmod(path, 0660) != 0 || (group != (gid_t)-1 && lchown(path, (uid_t)-1, group) != 0) ||
        listen(fd, BACKLOG) != 0) {
        enum error error = fail(text, ERROR_IO, "cannot set up %s: %s", path, strerror(errno));
        (void)unlink(path);
        return error;
    }
    return ERROR_NONE;
}

enum error ipc_socket_bind(const char *path, gid_t group, int *ret_fd, char *error_text,
                           size_t error_size)
{
    struct bind_text text = {.data = error_text, .size = error_size};
    struct sockaddr_un address;
    enum error error = fill_address(path, &address, &text);

    if (error == ERROR_NONE) {
        error = make_directory(path, group, &text);
    }
    if (error == ERROR_NONE) {
        error = clear_stale(path, &address, &text);
    }
    if (error != ERROR_NONE) {
        return error;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return fail(&text, ERROR_IO, "socket: %s", strerror(errno));
    }
    /* The file is made with the descriptor's mode, so it is never wider than meant. */
    (void)fchmod(fd, 0660);
    error = bind_and_listen(fd, path, &address, group, &text);
    if (error != ERROR_NONE) {
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return ERROR_NONE;
}
