/* SPDX-License-Identifier: MIT */
/*
 * Everything that the master binds and keeps for as long as it lives: client listeners, worker
 * sockets, admin sockets and the pid file. Servers inherit the descriptors; a server that dies
 * takes none of them along, so clients queue up meanwhile.
 */
#ifndef GATEWAY_ENDPOINTS_H
#define GATEWAY_ENDPOINTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "net/listener.h"
#include "privileges.h"

struct config;
struct endpoint_file;

/* A socket that is no client listener. */
struct endpoint {
    struct slice bind; /* "unix:/path", or as admin.http has it */
    int fd;            /* -1: none */
    unsigned id;       /* as listener_socket's: unique in the life of a master, 0: none */
};

struct endpoints {
    struct arena arena;
    struct listener_socket *listeners;
    struct slice *listener_binds; /* what each was bound for */
    size_t listener_count;
    struct listener_socket
        *datagrams; /* UDP sockets of listeners with "h3", beside their TCP ones */
    size_t datagram_count;
    struct endpoint *apps; /* one per app */
    size_t app_count;
    struct endpoint admin_socket, admin_http;
    int pid_file; /* locked for as long as the master lives; -1: none */
    const char *pid_path;
    struct endpoint_file *files; /* socket and pid files, to be removed in the end */
    unsigned last_id;
};

/* Nothing open, and an arena. */
void endpoints_init(struct endpoints *endpoints);
/* Binds all of it in order, for `loops` loops; files belong to `identity` where that changes. On
 * failure everything is undone and `text` (at least 512 bytes) says what, where in the
 * configuration, and what to do. */
enum error endpoints_open(struct endpoints *endpoints, const struct config *config, unsigned loops,
                          const struct identity *identity, char *text, size_t text_size) MUST_CHECK;
/* The same for another configuration: what `old` has open at the same address is taken over, the rest is bound; `keep_datagrams`: but for UDP. Both may
 * be used until one of them is given up by endpoints_replace(). On failure as endpoints_open; `old` is as before. */
enum error endpoints_renew(struct endpoints *endpoints, const struct endpoints *old,
                           bool keep_datagrams, const struct config *config, unsigned loops,
                           const struct identity *identity, char *text,
                           size_t text_size) MUST_CHECK;
/* Gives `gone` up in favour of `kept`: what only it has is closed and its files are removed. */
void endpoints_replace(struct endpoints *gone, const struct endpoints *kept);
/* As endpoints_replace, but files stay: they are another process's. */
void endpoints_forget(struct endpoints *gone, const struct endpoints *kept);
/* Whether a socket is among them. */
bool endpoints_have(const struct endpoints *endpoints, unsigned id);
/* Closes the client listeners of this process: the server's close then ends them for good.
 * Allowed twice. */
void endpoints_close_listeners(struct endpoints *endpoints);
/* Forgets everything; `owner` (the master) also closes what is left and removes the files that
 * are still its own. */
void endpoints_done(struct endpoints *endpoints, bool owner);

#endif
