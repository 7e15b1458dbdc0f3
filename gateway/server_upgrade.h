/* SPDX-License-Identifier: MIT */
/*
 * The server's part in a binary upgrade: as the newer one, which stands by until the workers have come, and as the older one, which
 * sends them there, goes on serving, and drains in the end.
 */
#ifndef GATEWAY_SERVER_UPGRADE_H
#define GATEWAY_SERVER_UPGRADE_H

#include <stdbool.h>

struct control_message;
struct server;
struct server_loop;

/* What the master says of an upgrade; in the main thread. False: it is none of that. */
bool server_upgrade_take(struct server *server, const struct control_message *message);
/* Tells the master when the workers are back; from time to time while server->await_workers. */
void server_upgrade_look(struct server *server);
/* Tells the master that nothing is accepted or read here any more. */
void server_upgrade_retired(struct server *server);
/* The loop's part of an order: SERVER_ORDER_ANNOUNCE to SERVER_ORDER_TELL. */
void server_upgrade_order(struct server_loop *server_loop);

#endif
