/* SPDX-License-Identifier: MIT */
/*
 * The listeners of one loop: made at the start and by reloads, kept, changed and given up. All in the loop's thread, or before it runs.
 */
#ifndef GATEWAY_SERVER_LISTENERS_H
#define GATEWAY_SERVER_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct listener_socket;
struct server_generation;
struct server_loop;

/* Listens on those sockets of this loop whose descriptor is there, and takes it (-1 then); marks them as fresh. ERROR_NO_MEMORY: some may
 * be there already. */
enum error server_listeners_add(struct server_loop *server_loop, struct listener_socket *sockets,
                                size_t count,
                                const struct server_generation *generation) MUST_CHECK;
/* Takes fresh ones back. */
void server_listeners_abandon(struct server_loop *server_loop);
/* Serves by this generation: those that are no longer among the sockets are marked as leaving, and go on until
 * server_listeners_release(). */
void server_listeners_apply(struct server_loop *server_loop, const struct listener_socket *sockets,
                            size_t count, const struct server_generation *generation);
/* Lets the leaving ones accept what the kernel has, then close: the master has closed its own copies. */
void server_listeners_release(struct server_loop *server_loop);
/* Frees those that have left and have nothing under way. True: others are still leaving. */
bool server_listeners_sweep(struct server_loop *server_loop);
/* Leaves what waits to whoever else has the sockets. */
void server_listeners_stop(struct server_loop *server_loop);
void server_listeners_drain(struct server_loop *server_loop);
void server_listeners_hold(struct server_loop *server_loop, bool hold);
/* How many still listen. */
unsigned server_listeners_open(const struct server_loop *server_loop);
/* Frees all. */
void server_listeners_close(struct server_loop *server_loop);

#endif
