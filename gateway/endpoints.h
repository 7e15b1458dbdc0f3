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

struct endpoints {
    struct arena arena;
    struct listener_socket *listeners;
    size_t listener_count;
    struct listener_socket
        *datagrams; /* UDP sockets of listeners with "h3", beside their TCP ones */
    size_t datagram_count;
    int *app_sockets; /* one per app */
    size_t app_count;
    int admin_socket, admin_http; /* -1: none */
    int pid_file;                 /* locked for as long as the master lives; -1: none */
    struct endpoint_file *files;  /* socket and pid files, to be removed in the end */
};

/* Binds all of it in order, for `loops` loops; files belong to `identity` where that changes. On
 * failure everything is undone and `text` (at least 512 bytes) says what, where in the
 * configuration, and what to do. */
enum error endpoints_open(struct endpoints *endpoints, const struct config *config, unsigned loops,
                          const struct identity *identity, char *text, size_t text_size) MUST_CHECK;
/* Closes the client listeners of this process: the server's close then ends them for good.
 * Allowed twice. */
void endpoints_close_listeners(struct endpoints *endpoints);
/* Forgets everything; `owner` (the master) also closes what is left and removes the files that
 * are still its own. */
void endpoints_done(struct endpoints *endpoints, bool owner);

#endif
