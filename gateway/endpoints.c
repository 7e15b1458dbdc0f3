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
    const struct endpoints *old; /* what is open already and need not be opened again */
    bool keep_datagrams; /* UDP sockets are not opened: the server that runs could not take them */
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

/* A file that is ours already goes on being so. */
static void remember_old_file(const struct opening *opening, const char *path)
{
    for (const struct endpoint_file *file = opening->old->files; file != NULL; file = file->next) {
        if (strcmp(file->path, path) == 0) {
            remember_file(opening->endpoints, path);
            return;
        }
    }
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

/* Takes a socket over from `old` when it is bound to the same; true when so. */
static bool adopt(const struct endpoint *old, struct endpoint *endpoint)
{
    if (old->fd < 0 || !slice_equal(old->bind, endpoint->bind)) {
        return false;
    }
    endpoint->fd = old->fd;
    endpoint->id = old->id;
    return true;
}

/* Names sockets within the life of a master, so that it and its server mean the same one. */
static unsigned next_id(struct endpoints *endpoints)
{
    return ++endpoints->last_id;
}

/* Opens one Unix socket that is not a client listener, or takes it over with the owner and mode that are wanted now. */
static enum error open_file(const struct opening *opening, const char *option, struct slice path,
                            unsigned mode, struct slice group, const struct endpoint *old,
                            struct endpoint *endpoint)
{
    struct arena *arena = &opening->endpoints->arena;
    struct listener_settings settings = {.unix_mode = mode};
    struct listener_socket socket;
    size_t count = 0;
    char text[256];

    endpoint->bind = arena_format(arena, "unix:%.*s", SLICE_PRINT(path));
    if (endpoint->bind.data == NULL) {
        return no_memory(opening);
    }
    const char *path_text = endpoint->bind.data + strlen("unix:");
    if (old != NULL && adopt(old, endpoint)) {
        remember_old_file(opening, path_text);
        if (chmod(path_text, mode) != 0) {
            return refuse(opening, option, "%s: cannot set its mode: %s", path_text,
                          strerror(errno));
        }
        return give_file(opening, option, path_text, group);
    }
    enum error error = ensure_directory(opening, option, path_text);
    if (error != ERROR_NONE) {
        return error;
    }
    settings.bind = endpoint->bind;
    error = listener_bind(&settings, 0, 1, &socket, 1, &count, text, sizeof(text));
    if (error != ERROR_NONE) {
        return refuse(opening, option, "%s", text);
    }
    endpoint->fd = socket.fd;
    endpoint->id = next_id(opening->endpoints);
    remember_file(opening->endpoints, path_text);
    return give_file(opening, option, path_text, group);
}

/* Takes over all sockets that `old` has for this address; how many. */
static size_t adopt_listeners(const struct opening *opening, unsigned setting, struct slice bind,
                              unsigned mode)
{
    struct endpoints *endpoints = opening->endpoints;
    size_t count = 0;

    for (size_t i = 0; i < opening->old->listener_count; i++) {
        if (slice_equal(opening->old->listener_binds[i], bind)) {
            struct listener_socket *socket = &endpoints->listeners[endpoints->listener_count];
            *socket = opening->old->listeners[i];
            socket->setting = setting;
            endpoints->listener_binds[endpoints->listener_count++] = bind;
            count++;
        }
    }
    if (count > 0 && slice_starts_with(bind, SLICE("unix:"))) {
        remember_old_file(opening, bind.data + strlen("unix:"));
        (void)chmod(bind.data + strlen("unix:"), mode);
    }
    return count;
}

static enum error open_listener(const struct opening *opening, unsigned setting, unsigned loops,
                                size_t room)
{
    struct endpoints *endpoints = opening->endpoints;
    struct listener_settings settings = opening->config->listeners[setting];
    struct slice bind = arena_copy(&endpoints->arena, settings.bind);
    size_t count = 0;
    char option[48], text[256];

    if (bind.data == NULL) {
        return no_memory(opening);
    }
    if (adopt_listeners(opening, setting, bind, settings.unix_mode) > 0) {
        return ERROR_NONE;
    }
    snprintf(option, sizeof(option), "listen[%u].bind", setting);
    if (listener_bind(&settings, setting, loops, endpoints->listeners + endpoints->listener_count,
                      room - endpoints->listener_count, &count, text, sizeof(text)) != ERROR_NONE) {
        return refuse(opening, option, "%s", text);
    }
    for (size_t i = 0; i < count; i++) {
        endpoints->listener_binds[endpoints->listener_count] = bind;
        endpoints->listeners[endpoints->listener_count++].id = next_id(endpoints);
    }
    if (slice_starts_with(bind, SLICE("unix:"))) {
        remember_file(endpoints, bind.data + strlen("unix:"));
    }
    return ERROR_NONE;
}

static enum error open_listeners(const struct opening *opening, unsigned loops)
{
    const struct config *config = opening->config;
    struct endpoints *endpoints = opening->endpoints;
    /* "*" is two families; one that was opened by a configuration with more loops keeps all its sockets. */
    size_t room = config->listener_count * loops * 2 + opening->old->listener_count;
    enum error error = ERROR_NONE;

    endpoints->listeners = arena_calloc(&endpoints->arena, room, sizeof(*endpoints->listeners));
    endpoints->listener_binds =
        arena_calloc(&endpoints->arena, room, sizeof(*endpoints->listener_binds));
    if (endpoints->listeners == NULL || endpoints->listener_binds == NULL) {
        return no_memory(opening);
    }
    for (unsigned i = 0; i < config->listener_count && error == ERROR_NONE; i++) {
        error = open_listener(opening, i, loops, room);
    }
    return error;
}

static const struct endpoint *find_app(const struct endpoints *old, struct slice path)
{
    for (size_t i = 0; i < old->app_count; i++) {
        struct slice bind = old->apps[i].bind;
        if (slice_equal(slice_skip(bind, strlen("unix:")), path)) {
            return &old->apps[i];
        }
    }
    return NULL;
}

/* Takes over the UDP sockets that `old` has for this address; how many. */
static size_t adopt_datagrams(const struct opening *opening, const struct listener_socket *tcp)
{
    struct endpoints *endpoints = opening->endpoints;
    size_t count = 0;

    for (size_t i = 0; i < opening->old->datagram_count; i++) {
        const struct listener_socket *old = &opening->old->datagrams[i];
        if (old->addr.length == tcp->addr.length &&
            memcmp(&old->addr.storage, &tcp->addr.storage, tcp->addr.length) == 0) {
            struct listener_socket *udp = &endpoints->datagrams[endpoints->datagram_count++];
            *udp = *old;
            udp->setting = tcp->setting;
            count++;
        }
    }
    return count;
}

/* The UDP sockets beside one address's TCP sockets, which stand together in the list, one for each loop. */
static enum error open_datagrams(const struct opening *opening, size_t first, unsigned loops)
{
    struct endpoints *endpoints = opening->endpoints;
    const struct listener_socket *tcp = &endpoints->listeners[first];
    char option[48], text[256];

    if (adopt_datagrams(opening, tcp) > 0 || opening->keep_datagrams) {
        return ERROR_NONE;
    }
    int *fds = arena_alloc(&endpoints->arena, loops * sizeof(*fds));
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
        udp->id = next_id(endpoints);
    }
    return ERROR_NONE;
}

static enum error open_all_datagrams(const struct opening *opening, unsigned loops)
{
    struct endpoints *endpoints = opening->endpoints;
    const struct config *config = opening->config;
    size_t room = endpoints->listener_count + opening->old->datagram_count;

    endpoints->datagrams = arena_calloc(&endpoints->arena, room, sizeof(*endpoints->datagrams));
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
    enum error error = ERROR_NONE;

    endpoints->apps = arena_calloc(&endpoints->arena, config->app_count, sizeof(*endpoints->apps));
    if (endpoints->apps == NULL) {
        return no_memory(opening);
    }
    for (size_t i = 0; i < config->app_count && error == ERROR_NONE; i++) {
        const struct app_settings *app = &config->apps[i];
        char option[128];
        snprintf(option, sizeof(option), "apps.%.*s.socket", SLICE_PRINT(app->name));
        endpoints->apps[i].fd = -1;
        endpoints->app_count = i + 1;
        error = open_file(opening, option, app->socket, app->socket_mode, app->group,
                          find_app(opening->old, app->socket), &endpoints->apps[i]);
    }
    return error;
}

static enum error open_admin_http(const struct opening *opening)
{
    const struct admin_options *admin = &opening->config->admin;
    struct endpoint *endpoint = &opening->endpoints->admin_http;
    struct listener_settings settings = {.bind = admin->http, .unix_mode = admin->socket_mode};
    struct listener_socket socket;
    size_t count = 0;
    char text[256];

    endpoint->bind = arena_copy(&opening->endpoints->arena, admin->http);
    if (endpoint->bind.data == NULL) {
        return no_memory(opening);
    }
    bool is_file = slice_starts_with(endpoint->bind, SLICE("unix:"));
    if (adopt(&opening->old->admin_http, endpoint)) {
        if (is_file) {
            remember_old_file(opening, endpoint->bind.data + strlen("unix:"));
        }
        return ERROR_NONE;
    }
    if (listener_bind(&settings, 0, 1, &socket, 1, &count, text, sizeof(text)) != ERROR_NONE) {
        return refuse(opening, "admin.http", "%s", text);
    }
    endpoint->fd = socket.fd;
    endpoint->id = next_id(opening->endpoints);
    if (is_file) {
        remember_file(opening->endpoints, endpoint->bind.data + strlen("unix:"));
    }
    return ERROR_NONE;
}

static enum error open_admin(const struct opening *opening)
{
    const struct admin_options *admin = &opening->config->admin;
    enum error error = ERROR_NONE;

    if (admin->socket.length > 0) {
        error = open_file(opening, "admin.socket", admin->socket, admin->socket_mode, SLICE(""),
                          &opening->old->admin_socket, &opening->endpoints->admin_socket);
    }
    if (error == ERROR_NONE && admin->http.length > 0) {
        error = open_admin_http(opening);
    }
    return error;
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
    endpoints->pid_path = path.data;
    remember_file(endpoints, path.data);
    return ERROR_NONE;
}

static void init(struct endpoints *endpoints)
{
    *endpoints =
        (struct endpoints){.admin_socket = {.fd = -1}, .admin_http = {.fd = -1}, .pid_file = -1};
}

static enum error open_sockets(const struct opening *opening, unsigned loops)
{
    enum error error = open_listeners(opening, loops);

    if (error == ERROR_NONE) {
        error = open_all_datagrams(opening, loops);
    }
    if (error == ERROR_NONE) {
        error = open_apps(opening);
    }
    if (error == ERROR_NONE) {
        error = open_admin(opening);
    }
    return error;
}

enum error endpoints_open(struct endpoints *endpoints, const struct config *config, unsigned loops,
                          const struct identity *identity, char *text, size_t text_size)
{
    struct endpoints none;
    struct opening opening = {endpoints, &none, false, config, identity, text, text_size};

    init(&none);
    init(endpoints);
    arena_init(&endpoints->arena, 4096);
    /* The pid file first: its message names the other process. */
    enum error error = open_pid_file(&opening);
    if (error == ERROR_NONE) {
        error = open_sockets(&opening, loops);
    }
    if (error != ERROR_NONE) {
        endpoints_done(endpoints, true);
    }
    return error;
}

enum error endpoints_renew(struct endpoints *endpoints, const struct endpoints *old,
                           bool keep_datagrams, const struct config *config, unsigned loops,
                           const struct identity *identity, char *text, size_t text_size)
{
    struct opening opening = {endpoints, old, keep_datagrams, config, identity, text, text_size};

    init(endpoints);
    arena_init(&endpoints->arena, 4096);
    endpoints->pid_file = old->pid_file;
    endpoints->last_id = old->last_id;
    for (const struct endpoint_file *file = old->files; file != NULL; file = file->next) {
        if (old->pid_path != NULL && strcmp(file->path, old->pid_path) == 0) {
            remember_file(endpoints, file->path);
            endpoints->pid_path = endpoints->files != NULL ? endpoints->files->path : NULL;
        }
    }
    enum error error = open_sockets(&opening, loops);
    if (error != ERROR_NONE) {
        endpoints_replace(endpoints, old);
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
static void remove_files(const struct endpoints *endpoints, const struct endpoints *kept)
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

void endpoints_done(struct endpoints *endpoints, bool owner)
{
    if (owner) {
        remove_files(endpoints, NULL);
        endpoints_close_listeners(endpoints);
        for (size_t i = 0; i < endpoints->app_count; i++) {
            close_one(&endpoints->apps[i].fd);
        }
        close_one(&endpoints->admin_socket.fd);
        close_one(&endpoints->admin_http.fd);
        close_one(&endpoints->pid_file);
    }
    arena_done(&endpoints->arena);
    init(endpoints);
}

bool endpoints_have(const struct endpoints *endpoints, unsigned id)
{
    bool found = endpoints->admin_socket.id == id || endpoints->admin_http.id == id;

    for (size_t i = 0; i < endpoints->listener_count && !found; i++) {
        found = endpoints->listeners[i].id == id;
    }
    for (size_t i = 0; i < endpoints->datagram_count && !found; i++) {
        found = endpoints->datagrams[i].id == id;
    }
    for (size_t i = 0; i < endpoints->app_count && !found; i++) {
        found = endpoints->apps[i].id == id;
    }
    return found;
}

/* Closes a socket that `kept` has not. */
static void close_unless_kept(const struct endpoints *kept, unsigned id, int *fd)
{
    if (*fd >= 0 && !endpoints_have(kept, id)) {
        close_one(fd);
    }
}

void endpoints_replace(struct endpoints *gone, const struct endpoints *kept)
{
    remove_files(gone, kept);
    for (size_t i = 0; i < gone->listener_count; i++) {
        close_unless_kept(kept, gone->listeners[i].id, &gone->listeners[i].fd);
    }
    for (size_t i = 0; i < gone->datagram_count; i++) {
        close_unless_kept(kept, gone->datagrams[i].id, &gone->datagrams[i].fd);
    }
    for (size_t i = 0; i < gone->app_count; i++) {
        close_unless_kept(kept, gone->apps[i].id, &gone->apps[i].fd);
    }
    close_unless_kept(kept, gone->admin_socket.id, &gone->admin_socket.fd);
    close_unless_kept(kept, gone->admin_http.id, &gone->admin_http.fd);
    arena_done(&gone->arena);
    init(gone);
}
