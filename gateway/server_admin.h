/* SPDX-License-Identifier: MIT */
/*
 * The server's side of admin/: where its answers come from.
 */
#ifndef GATEWAY_SERVER_ADMIN_H
#define GATEWAY_SERVER_ADMIN_H

#include "base/error.h"

struct control_message;
struct server;

/* Starts the admin socket and the health endpoint in loop 0, where the configuration has them; before the threads start, after
 * the apps were made. ERROR_NO_MEMORY. */
enum error server_admin_init(struct server *server) MUST_CHECK;
/* Goes on with the sockets and bounds of the present configuration; in loop 0's thread. */
void server_admin_apply(struct server *server);
/* Accepts no operators any more, the next process does; who is here is still answered. In loop 0's thread. */
void server_admin_retire(struct server *server);
/* What became of a wish, as the master says it: has loop 0 tell it (server_admin_tell) to whoever waits. In the main thread. */
void server_tell(struct server *server, const struct control_message *message);
void server_admin_tell(struct server *server);
/* Ends them; in loop 0's thread, or when no loop runs. Allowed twice. */
void server_admin_done(struct server *server);

#endif
