/* SPDX-License-Identifier: MIT */
/* Binding in the order of the configuration. Owns descriptors and files; accepts and reads
 * nothing. */
#include "endpoints.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "config/config.h"
#include "endpoints_files.h"
#include "net/udp.h"

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
static enum error open_file(const struct endpoints_opening *opening, const char *option,
                            struct slice path, unsigned mode, struct slice group,
                            const struct endpoint *old, struct endpoint *endpoint)
{
    struct arena *arena = &opening->endpoints->arena;
    struct listener_settings settings = {.unix_mode = mode};
    struct listener_socket socket;
    size_t count = 0;
    char text[256];

    endpoint->bind = arena_format(arena, "unix:%.*s", SLICE_PRINT(path));
    if (endpoint->bind.data == NULL) {
        return endpoints_no_memory(opening);
    }
    const char *path_text = endpoint->bind.data + strlen("unix:");
    if (old != NULL && adopt(old, endpoint)) {
        endpoints_remember_old(opening, path_text);
        if (endpoints_set_mode(path_text, mode) != 0) {
            return endpoints_refuse(opening, option, "%s: cannot set its mode: %s", path_text,
                                    strerror(errno));
        }
        return endpoints_give(opening, option, path_text, group);
    }
    enum error error = endpoints_ensure_directory(opening, option, path_text);
    if (error != ERROR_NONE) {
        return error;
    }
    settings.bind = endpoint->bind;
    error = listener_bind(&settings, 0, 1, &socket, 1, &count, text, sizeof(text));
    if (error != ERROR_NONE) {
        return endpoints_refuse(opening, option, "%s", text);
    }
    endpoint->fd = socket.fd;
    endpoint->id = next_id(opening->endpoints);
    endpoints_remember(opening->endpoints, path_text);
    return endpoints_give(opening, option, path_text, group);
}

/* Takes over all sockets that `old` has for this address; how many. */
static size_t adopt_listeners(const struct endpoints_opening *opening, unsigned setting,
                              struct slice bind, unsigned mode)
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
        endpoints_remember_old(opening, bind.data + strlen("unix:"));
        (void)endpoints_set_mode(bind.data + strlen("unix:"), mode);
    }
    return count;
}

static enum error open_listener(const struct endpoints_opening *opening, unsigned setting,
                                unsigned loops, size_t room)
{
    struct endpoints *endpoints = opening->endpoints;
    struct listener_settings settings = opening->config->listeners[setting];
    struct slice bind = arena_copy(&endpoints->arena, settings.bind);
    size_t count = 0;
    char option[48], text[256];

    if (bind.data == NULL) {
        return endpoints_no_memory(opening);
    }
    if (adopt_listeners(opening, setting, bind, settings.unix_mode) > 0) {
        return ERROR_NONE;
    }
    snprintf(option, sizeof(option), "listen[%u].bind", setting);
    if (listener_bind(&settings, setting, loops, endpoints->listeners + endpoints->listener_count,
                      room - endpoints->listener_count, &count, text, sizeof(text)) != ERROR_NONE) {
        return endpoints_refuse(opening, option, "%s", text);
    }
    for (size_t i = 0; i < count; i++) {
        endpoints->listener_binds[endpoints->listener_count] = bind;
        endpoints->listeners[endpoints->listener_count++].id = next_id(endpoints);
    }
    if (slice_starts_with(bind, SLICE("unix:"))) {
        endpoints_remember(endpoints, bind.data + strlen("unix:"));
    }
    return ERROR_NONE;
}

static enum error open_listeners(const struct endpoints_opening *opening, unsigned loops)
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
        return endpoints_no_memory(opening);
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
static size_t adopt_datagrams(const struct endpoints_opening *opening,
                              const struct listener_socket *tcp)
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
static enum error open_datagrams(const struct endpoints_opening *opening, size_t first,
                                 unsigned loops)
{
    struct endpoints *endpoints = opening->endpoints;
    const struct listener_socket *tcp = &endpoints->listeners[first];
    char option[48], text[256];

    if (adopt_datagrams(opening, tcp) > 0 || opening->keep_datagrams) {
        return ERROR_NONE;
    }
    int *fds = arena_alloc(&endpoints->arena, loops * sizeof(*fds));
    if (fds == NULL) {
        return endpoints_no_memory(opening);
    }
    snprintf(option, sizeof(option), "listen[%u].bind", tcp->setting);
    if (udp_bind_group(&tcp->addr, loops, fds, text, sizeof(text)) != ERROR_NONE) {
        return endpoints_refuse(opening, option, "%s", text);
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

static enum error open_all_datagrams(const struct endpoints_opening *opening, unsigned loops)
{
    struct endpoints *endpoints = opening->endpoints;
    const struct config *config = opening->config;
    size_t room = endpoints->listener_count + opening->old->datagram_count;

    endpoints->datagrams = arena_calloc(&endpoints->arena, room, sizeof(*endpoints->datagrams));
    if (endpoints->datagrams == NULL) {
        return endpoints_no_memory(opening);
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

static enum error open_apps(const struct endpoints_opening *opening)
{
    const struct config *config = opening->config;
    struct endpoints *endpoints = opening->endpoints;
    enum error error = ERROR_NONE;

    endpoints->apps = arena_calloc(&endpoints->arena, config->app_count, sizeof(*endpoints->apps));
    if (endpoints->apps == NULL) {
        return endpoints_no_memory(opening);
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

static enum error open_admin_http(const struct endpoints_opening *opening)
{
    const struct admin_options *admin = &opening->config->admin;
    struct endpoint *endpoint = &opening->endpoints->admin_http;
    struct listener_settings settings = {.bind = admin->http, .unix_mode = admin->socket_mode};
    struct listener_socket socket;
    size_t count = 0;
    char text[256];

    endpoint->bind = arena_copy(&opening->endpoints->arena, admin->http);
    if (endpoint->bind.data == NULL) {
        return endpoints_no_memory(opening);
    }
    bool is_file = slice_starts_with(endpoint->bind, SLICE("unix:"));
    if (adopt(&opening->old->admin_http, endpoint)) {
        if (is_file) {
            endpoints_remember_old(opening, endpoint->bind.data + strlen("unix:"));
        }
        return ERROR_NONE;
    }
    if (listener_bind(&settings, 0, 1, &socket, 1, &count, text, sizeof(text)) != ERROR_NONE) {
        return endpoints_refuse(opening, "admin.http", "%s", text);
    }
    endpoint->fd = socket.fd;
    endpoint->id = next_id(opening->endpoints);
    if (is_file) {
        endpoints_remember(opening->endpoints, endpoint->bind.data + strlen("unix:"));
    }
    return ERROR_NONE;
}

static enum error open_admin(const struct endpoints_opening *opening)
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

/* Without an arena. */
static void init(struct endpoints *endpoints)
{
    *endpoints =
        (struct endpoints){.admin_socket = {.fd = -1}, .admin_http = {.fd = -1}, .pid_file = -1};
}

void endpoints_init(struct endpoints *endpoints)
{
    init(endpoints);
    arena_init(&endpoints->arena, 4096);
}

static enum error open_sockets(const struct endpoints_opening *opening, unsigned loops)
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
    struct endpoints_opening opening = {endpoints, &none, false, config, identity, text, text_size};

    init(&none);
    endpoints_init(endpoints);
    /* The pid file first: its message names the other process. */
    enum error error = endpoints_open_pid_file(&opening);
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
    struct endpoints_opening opening = {endpoints, old,  keep_datagrams, config,
                                        identity,  text, text_size};

    endpoints_init(endpoints);
    endpoints->pid_file = old->pid_file;
    endpoints->last_id = old->last_id;
    for (const struct endpoint_file *file = old->files; file != NULL; file = file->next) {
        if (old->pid_path != NULL && strcmp(file->path, old->pid_path) == 0) {
            endpoints_remember(endpoints, file->path);
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

void endpoints_done(struct endpoints *endpoints, bool owner)
{
    if (owner) {
        endpoints_remove_files(endpoints, NULL);
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
    endpoints_remove_files(gone, kept);
    endpoints_forget(gone, kept);
}

void endpoints_forget(struct endpoints *gone, const struct endpoints *kept)
{
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
