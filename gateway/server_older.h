/* SPDX-License-Identifier: MIT */
/*
 * Datagrams between the servers of an upgrade: the sockets are shared, the newest one reads them, and what belongs to a connection of
 * an older one goes there, by the generation in its connection id.
 */
#ifndef GATEWAY_SERVER_OLDER_H
#define GATEWAY_SERVER_OLDER_H

#include "base/error.h"

struct server;

/* Begins to take what newer servers send (loop 0), and to send to older ones; before the threads run. ERROR_NO_MEMORY. */
enum error server_older_init(struct server *server) MUST_CHECK;
/* Lets go of older servers that are gone; from time to time, in the main thread. */
void server_older_look(struct server *server);
/* Stops taking; in loop 0's thread, or when none runs. Allowed twice. */
void server_older_stop(struct server *server);
void server_older_free(struct server *server);

#endif
