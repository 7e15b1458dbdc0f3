/* SPDX-License-Identifier: MIT */
/*
 * Another configuration in a server that runs. The master sends the files and sockets; everything is made of them first, and then
 * taken over at one moment, in which no loop runs. What the former configuration still serves keeps it alive.
 */
#ifndef GATEWAY_SERVER_RELOAD_H
#define GATEWAY_SERVER_RELOAD_H

#include "server_loop.h"

struct apps_change;
struct file_set;

/* What the master has sent so far, and what was made of it. */
struct server_change {
    char *path; /* of the configuration; NULL: none */
    struct file_set *files;
    struct listener_socket
        *listeners; /* all; `fd` of those that the server does not have yet, else -1 */
    size_t listener_count;
    struct server_socket *sockets; /* all others, in the same way */
    size_t socket_count;
    struct server_generation *generation;
    struct apps_change *apps;
    _Atomic bool failed; /* a loop had no memory */
};

/* The sockets of workers and operators that the server has, by the master's ids. */
struct server_socket {
    enum control_socket kind;
    unsigned id;
    int fd;
};

/* A CONTROL_RELOAD_ message; takes its descriptor. Answers to the master. */
void server_reload_take(struct server *server, const struct control_message *message);
/* Frees what is over; from time to time (server->sweep_at). */
void server_reload_sweep(struct server *server);
/* Frees a change that was begun; NULL is allowed. */
void server_reload_abandon(struct server *server);

#endif
