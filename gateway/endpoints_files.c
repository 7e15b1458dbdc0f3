/* SPDX-License-Identifier: MIT */
/* Socket files and the pid file on disk. Knows no socket. */
#include "endpoints_files.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/log.h"
#include "config/config.h"

#define DIRECTORY_MODE 0750

/* Says what failed at the place of `option` in the configuration. */
enum error endpoints_refuse(const struct endpoints_opening *opening, const char *option,
                            const char *format, ...)
{
    char place[256];
    va_list arguments;

    config_place(opening->config, option, place, sizeof(place));
    int length = snprintf(opening->text, opening->text_size, "%s: ", place);
    if (length > 0 && (size_t)length < opening->text_size) {
        va_start(arguments, format);
        vsnprintf(opening->text + length, opening->text_size - (size_t)length, format, arguments);
        va_end(arguments);
    }
    return ERROR_IO;
}

enum error endpoints_no_memory(const struct endpoints_opening *opening)
{
    snprintf(opening->text, opening->text_size, "out of memory");
    return ERROR_NO_MEMORY;
}

/* Makes the directory of `path` when it is not there: for us and the group of the user that we
 * become. */
enum error endpoints_ensure_directory(const struct endpoints_opening *opening, const char *option,
                                      const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (slash == NULL || slash == path || (size_t)(slash - path) >= sizeof(directory)) {
        return ERROR_NONE;
    }
    memcpy(directory, path, (size_t)(slash - path));
    directory[slash - path] = '\0';
    if (mkdir(directory, DIRECTORY_MODE) != 0) {
        if (errno == EEXIST) {
            return ERROR_NONE;
        }
        return endpoints_refuse(opening, option,
                                "cannot make the directory %s: %s; make it, or choose "
                                "another path",
                                directory, strerror(errno));
    }
    /* Whatever the umask is. */
    if (chmod(directory, DIRECTORY_MODE) != 0 ||
        (opening->identity->change &&
         chown(directory, opening->identity->uid, opening->identity->gid) != 0)) {
        return endpoints_refuse(opening, option, "%s: cannot set its owner and mode: %s", directory,
                                strerror(errno));
    }
    return ERROR_NONE;
}

/* No more is lost when memory is out than the removal. */
static void remember(struct endpoints *endpoints, const char *path, dev_t device, ino_t inode)
{
    struct endpoint_file *file = arena_alloc(&endpoints->arena, sizeof(*file));
    struct slice copy = arena_copy(&endpoints->arena, slice_from(path));
    if (file == NULL || copy.data == NULL) {
        return;
    }
    *file = (struct endpoint_file){endpoints->files, copy.data, device, inode};
    endpoints->files = file;
}

void endpoints_remember(struct endpoints *endpoints, const char *path)
{
    struct stat status;

    if (lstat(path, &status) == 0) {
        remember(endpoints, path, status.st_dev, status.st_ino);
    }
}

/* A file that is ours already goes on being so; what may lie there instead by now does not become ours. */
void endpoints_remember_old(const struct endpoints_opening *opening, const char *path)
{
    for (const struct endpoint_file *file = opening->old->files; file != NULL; file = file->next) {
        if (strcmp(file->path, path) == 0) {
            remember(opening->endpoints, path, file->device, file->inode);
            return;
        }
    }
}

/* The directory may be that of the user that the server becomes: what lies there now is not followed if it is a link. */
int endpoints_set_mode(const char *path, unsigned mode)
{
    return fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}

/* Gives a socket file to the user that the server becomes, and to a group. */
enum error endpoints_give(const struct endpoints_opening *opening, const char *option,
                          const char *path, struct slice group)
{
    uid_t uid = opening->identity->change ? opening->identity->uid : (uid_t)-1;
    gid_t gid = opening->identity->change ? opening->identity->gid : (gid_t)-1;
    char name[65];

    if (group.length > 0 && group.length < sizeof(name)) {
        memcpy(name, group.data, group.length);
        name[group.length] = '\0';
        const struct group *entry = getgrnam(name);
        if (entry == NULL) {
            return endpoints_refuse(opening, option, "there is no group \"%s\" on this machine",
                                    name);
        }
        gid = entry->gr_gid;
    }
    if ((uid != (uid_t)-1 || gid != (gid_t)-1) && lchown(path, uid, gid) != 0) {
        return endpoints_refuse(opening, option, "%s: cannot give it to the group: %s", path,
                                strerror(errno));
    }
    return ERROR_NONE;
}

/* The lock, not the file, says that another master runs: a file that a crash left behind is no
 * obstacle. */
enum error endpoints_open_pid_file(const struct endpoints_opening *opening)
{
    struct endpoints *endpoints = opening->endpoints;
    struct slice path = arena_copy(&endpoints->arena, opening->config->gateway.pid_file);
    char text[32] = "";

    if (path.data == NULL) {
        return endpoints_no_memory(opening);
    }
    if (path.length == 0) {
        return ERROR_NONE;
    }
    enum error error = endpoints_ensure_directory(opening, "gateway.pid_file", path.data);
    if (error != ERROR_NONE) {
        return error;
    }
    int fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) {
        return endpoints_refuse(opening, "gateway.pid_file", "cannot write %s: %s", path.data,
                                strerror(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t got = read(fd, text, sizeof(text) - 1);
        text[got > 0 ? strcspn(text, "\n") : 0] = '\0';
        close(fd);
        return endpoints_refuse(
            opening, "gateway.pid_file",
            "another gatewayd (pid %s) holds %s; stop it, or give this one its own "
            "gateway.pid_file",
            text[0] != '\0' ? text : "unknown", path.data);
    }
    int length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length) {
        close(fd);
        return endpoints_refuse(opening, "gateway.pid_file", "cannot write %s: %s", path.data,
                                strerror(errno));
    }
    endpoints->pid_file = fd;
    endpoints->pid_path = path.data;
    endpoints_remember(endpoints, path.data);
    return ERROR_NONE;
}

static bool has_file(const struct endpoints *endpoints, const struct endpoint_file *wanted)
{
    for (const struct endpoint_file *file = endpoints->files; file != NULL; file = file->next) {
        if (file->device == wanted->device && file->inode == wanted->inode) {
            return true;
        }
    }
    return false;
}

/* Removes the files that are still ours, but not those that `kept` (NULL: nothing) has too. */
void endpoints_remove_files(const struct endpoints *endpoints, const struct endpoints *kept)
{
    struct stat status;

    for (const struct endpoint_file *file = endpoints->files; file != NULL; file = file->next) {
        if (kept != NULL && has_file(kept, file)) {
            continue;
        }
        if (lstat(file->path, &status) == 0 && status.st_dev == file->device &&
            status.st_ino == file->inode && unlink(file->path) != 0) {
            log_warning("master", "cannot remove %s: %s", file->path, strerror(errno));
        }
    }
}
