/* SPDX-License-Identifier: MIT */
/* Binding in the order of the configuration. Owns descriptors and files; accepts and reads
 * nothing. */
#include "endpoints.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "config/config.h"
#include "net/udp.h"

#define DIRECTORY_MODE 0750

/* A file of ours and what it was when we made it: another's file at the same path is left alone. */
struct endpoint_file {
    struct endpoint_file *next;
    const char *path;
    dev_t device;
    ino_t inode;
};

/* One endpoints_open's state. */
struct opening {
    struct endpoints *endpoints;
    const struct config *config;
    const struct identity *identity;
    char *text;
    size_t text_size;
};

/* Says what failed at the place of `option` in the configuration. */
PRINTF_LIKE(3, 4)
static enum error refuse(const struct opening *opening, const char *option, const char *format, ...)
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

static enum error no_memory(const struct opening *opening)
{
    snprintf(opening->text, opening->text_size, "out of memory");
    return ERROR_NO_MEMORY;
}

/* Makes the directory of `path` when it is not there: for us and the group of the user that we
 * become. */
static enum error ensure_directory(const struct opening *opening, const char *option,
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
        return refuse(opening, option,
                      "cannot make the directory %s: %s; make it, or choose "
                      "another path",
                      directory, strerror(errno));
    }
    /* Whatever the umask is. */
    if (chmod(directory, DIRECTORY_MODE) != 0 ||
        (opening->identity->change &&
         chown(directory, opening->identity->uid, opening->identity->gid) != 0)) {
        return refuse(opening, option, "%s: cannot set its owner and mode: %s", directory,
                      strerror(errno));
    }
    return ERROR_NONE;
}

/* Remembers a file for removal; no more is lost when memory is out than the removal. */
static void remember_file(struct endpoints *endpoints, const char *path)
{
    struct stat status;

    if (lstat(path, &status) != 0) {
        return;
    }
    struct endpoint_file *file = arena_alloc(&endpoints->arena, sizeof(*file));
    struct slice copy = arena_copy(&endpoints->arena, slice_from(path));
    if (file == NULL || copy.data == NULL) {
        return;
    }
    *file = (struct endpoint_file){endpoints->files, copy.data, status.st_dev, status.st_ino};
    endpoints->files = file;
}

/* Gives a socket file to the user that the server becomes, and to a group. */
static enum error give_file(const struct opening *opening, const char *option, const char *path,
                            struct slice group)
{
    uid_t uid = opening->identity->change ? opening->identity->uid : (uid_t)-1;
    gid_t gid = opening->identity->change ? opening->identity->gid : (gid_t)-1;
    char name[65];

    if (group.length > 0 && group.length < sizeof(name)) {
        memcpy(name, group.data, group.length);
        name[group.length] = '\0';
        const struct group *entry = getgrnam(name);
        if (entry == NULL) {
            return refuse(opening, option, "there is no group \"%s\" on this machine", name);
        }
        gid = entry->gr_gid;
    }
    if ((uid != (uid_t)-1 || gid != (gid_t)-1) && lchown(path, uid, gid) != 0) {
        return refuse(opening, option, "%s: cannot give it to the group: %s", path,
                      strerror(errno));
    }
    return ERROR_NONE;
}

/* Binds one Unix socket that is not a client listener. */
static enum error bind_file(const struct opening *opening, const char *option, struct slice path,
                            unsigned mode, struct slice group, int *ret_fd)
{
    struct arena *arena = &opening->endpoints->arena;
    struct slice bind = arena_format(arena, "unix:%.*s", SLICE_PRINT(path));
    struct listener_settings settings = {.bind = bind, .unix_mode = mode};
    struct listener_socket socket;
    size_t count = 0;
    char text[256];

    if (bind.data == NULL) {
        return no_memory(opening);
    }
    const char *path_text = bind.data + strlen("unix:");
    enum error error = ensure_directory(opening, option, path_text);
    if (error != ERROR_NONE) {
        return error;
    }
    error = listener_bind(&settings, 0, 1, &socket, 1, &count, text, sizeof(text));
    if (error != ERROR_NONE) {
        return refuse(opening, option, "%s", text);
    }
    *ret_fd = socket.fd;
    remember_file(opening->endpoints, path_text);
    return give_file(opening, option, path_text, group);
}

static enum error open_listeners(const struct opening *opening, unsigned loops)
{
    const struct config *config = opening->config;
    struct endpoints *endpoints = opening->endpoints;
    size_t room = config->listener_count * loops * 2; /* "*" is two families */
    char option[48], text[256];

    endpoints->listeners = arena_calloc(&endpoints->arena, room, sizeof(*endpoints->listeners));
    if (endpoints->listeners == NULL) {
        return no_memory(opening);
    }
    for (unsigned i = 0; i < config->listener_count; i++) {
        struct slice bind = config->listeners[i].bind;
        size_t count = 0;
        snprintf(option, sizeof(option), "listen[%u].bind", i);
        enum error error = listener_bind(
            &config->listeners[i], i, loops, endpoints->listeners + endpoints->listener_count,
            room - endpoints->listener_count, &count, text, sizeof(text));
        if (error != ERROR_NONE) {
            return refuse(opening, option, "%s", text);
        }
        endpoints->listener_count += count;
        if (slice_starts_with(bind, SLICE("unix:"))) {
            remember_file(endpoints, bind.data + strlen("unix:"));
        }
    }
    return ERROR_NONE;
}

/* The UDP sockets beside one address's TCP sockets, which stand together in the list, one for each loop. */
static enum error open_datagrams(const struct opening *opening, size_t first, unsigned loops)
{
    struct endpoints *endpoints = opening->endpoints;
    const struct listener_socket *tcp = &endpoints->listeners[first];
    int *fds = arena_alloc(&endpoints->arena, loops * sizeof(*fds));
    char option[48], text[256];

    if (fds == NULL) {
        return no_memory(opening);
    }
    snprintf(option, sizeof(option), "listen[%u].bind", tcp->setting);
    if (udp_bind_group(&tcp->addr, loops, fds, text, sizeof(text)) != ERROR_NONE) {
        return refuse(opening, option, "%s", text);
    }
    for (unsigned i = 0; i < loops; i++) {
        struct listener_socket *udp = &endpoints->datagrams[endpoints->datagram_count++];
        *udp = *tcp;
        udp->fd = fds[i];
        udp->loop = i;
    }
    return ERROR_NONE;
}

static enum error open_all_datagrams(const struct opening *opening, unsigned loops)
{
    struct endpoints *endpoints = opening->endpoints;
    const struct config *config = opening->config;

    endpoints->datagrams =
        arena_calloc(&endpoints->arena, endpoints->listener_count, sizeof(*endpoints->datagrams));
    if (endpoints->datagrams == NULL) {
        return no_memory(opening);
    }
    for (size_t i = 0; i < endpoints->listener_count; i++) {
        const struct listener_socket *tcp = &endpoints->listeners[i];
        if (!config->listeners[tcp->setting].h3 || tcp->loop != 0) {
            continue;
        }
        enum error error = open_datagrams(opening, i, loops);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    return ERROR_NONE;
}

static enum error open_apps(const struct opening *opening)
{
    const struct config *config = opening->config;
    struct endpoints *endpoints = opening->endpoints;

    endpoints->app_sockets =
        arena_calloc(&endpoints->arena, config->app_count, sizeof(*endpoints->app_sockets));
    if (endpoints->app_sockets == NULL) {
        return no_memory(opening);
    }
    for (size_t i = 0; i < config->app_count; i++) {
        const struct app_settings *app = &config->apps[i];
        char option[128];
        snprintf(option, sizeof(option), "apps.%.*s.socket", SLICE_PRINT(app->name));
        endpoints->app_sockets[i] = -1;
        endpoints->app_count = i + 1;
        enum error error = bind_file(opening, option, app->socket, app->socket_mode, app->group,
                                     &endpoints->app_sockets[i]);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    return ERROR_NONE;
}

static enum error open_admin(const struct opening *opening)
{
    const struct admin_options *admin = &opening->config->admin;
    struct endpoints *endpoints = opening->endpoints;
    struct listener_settings settings = {.bind = admin->http, .unix_mode = admin->socket_mode};
    struct listener_socket socket;
    size_t count = 0;
    char text[256];

    if (admin->socket.length > 0) {
        enum error error = bind_file(opening, "admin.socket", admin->socket, admin->socket_mode,
                                     SLICE(""), &endpoints->admin_socket);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    if (admin->http.length == 0) {
        return ERROR_NONE;
    }
    if (listener_bind(&settings, 0, 1, &socket, 1, &count, text, sizeof(text)) != ERROR_NONE) {
        return refuse(opening, "admin.http", "%s", text);
    }
    endpoints->admin_http = socket.fd;
    if (slice_starts_with(admin->http, SLICE("unix:"))) {
        remember_file(endpoints, admin->http.data + strlen("unix:"));
    }
    return ERROR_NONE;
}

/* The lock, not the file, says that another master runs: a file that a crash left behind is no
 * obstacle. */
static enum error open_pid_file(const struct opening *opening)
{
    struct endpoints *endpoints = opening->endpoints;
    struct slice path = arena_copy(&endpoints->arena, opening->config->gateway.pid_file);
    char text[32] = "";

    if (path.data == NULL) {
        return no_memory(opening);
    }
    if (path.length == 0) {
        return ERROR_NONE;
    }
    enum error error = ensure_directory(opening, "gateway.pid_file", path.data);
    if (error != ERROR_NONE) {
        return error;
    }
    int fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) {
        return refuse(opening, "gateway.pid_file", "cannot write %s: %s", path.data,
                      strerror(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t got = read(fd, text, sizeof(text) - 1);
        text[got > 0 ? strcspn(text, "\n") : 0] = '\0';
        close(fd);
        return refuse(opening, "gateway.pid_file",
                      "another gatewayd (pid %s) holds %s; stop it, or give this one its own "
                      "gateway.pid_file",
                      text[0] != '\0' ? text : "unknown", path.data);
    }
    int length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length) {
        close(fd);
        return refuse(opening, "gateway.pid_file", "cannot write %s: %s", path.data,
                      strerror(errno));
    }
    endpoints->pid_file = fd;
    remember_file(endpoints, path.data);
    return ERROR_NONE;
}

enum error endpoints_open(struct endpoints *endpoints, const struct config *config, unsigned loops,
                          const struct identity *identity, char *text, size_t text_size)
{
    struct opening opening = {endpoints, config, identity, text, text_size};

    *endpoints = (struct endpoints){.admin_socket = -1, .admin_http = -1, .pid_file = -1};
    arena_init(&endpoints->arena, 4096);
    /* The pid file first: its message names the other process. */
    enum error error = open_pid_file(&opening);
    if (error == ERROR_NONE) {
        error = open_listeners(&opening, loops);
    }
    if (error == ERROR_NONE) {
        error = open_all_datagrams(&opening, loops);
    }
    if (error == ERROR_NONE) {
        error = open_apps(&opening);
    }
    if (error == ERROR_NONE) {
        error = open_admin(&opening);
    }
    if (error != ERROR_NONE) {
        endpoints_done(endpoints, true);
    }
    return error;
}

static void close_one(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void endpoints_close_listeners(struct endpoints *endpoints)
{
    for (size_t i = 0; i < endpoints->listener_count; i++) {
        close_one(&endpoints->listeners[i].fd);
    }
    for (size_t i = 0; i < endpoints->datagram_count; i++) {
        close_one(&endpoints->datagrams[i].fd);
    }
}

static void remove_files(struct endpoints *endpoints)
{
    struct stat status;

    for (const struct endpoint_file *file = endpoints->files; file != NULL; file = file->next) {
        if (lstat(file->path, &status) == 0 && status.st_dev == file->device &&
            status.st_ino == file->inode && unlink(file->path) != 0) {
            log_warning("master", "cannot remove %s: %s", file->path, strerror(errno));
        }
    }
}

void endpoints_done(struct endpoints *endpoints, bool owner)
{
    if (owner) {
        remove_files(endpoints);
        endpoints_close_listeners(endpoints);
        for (size_t i = 0; i < endpoints->app_count; i++) {
            close_one(&endpoints->app_sockets[i]);
        }
        close_one(&endpoints->admin_socket);
        close_one(&endpoints->admin_http);
        close_one(&endpoints->pid_file);
    }
    arena_done(&endpoints->arena);
    *endpoints = (struct endpoints){.admin_socket = -1, .admin_http = -1, .pid_file = -1};
}
