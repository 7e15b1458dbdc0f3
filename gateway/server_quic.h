/* SPDX-License-Identifier: MIT */
/* QUIC in the server: UDP sockets to endpoints, QUIC connections to HTTP/3. Without a listener that has "h3" all of this does nothing. */
#ifndef GATEWAY_SERVER_QUIC_H
#define GATEWAY_SERVER_QUIC_H

#include <stdbool.h>

#include "base/error.h"

struct server;
struct server_loop;

/* What the loops share; before they are made. ERROR_NO_MEMORY. */
enum error server_quic_init(struct server *server) MUST_CHECK;
/* Makes the loop's endpoint and gives it the loop's sockets; before the thread runs. ERROR_NO_MEMORY: server_quic_done undoes it. */
enum error server_quic_listen(struct server_loop *server_loop) MUST_CHECK;
/* Begins to read the loop's sockets: server_quic_listen() does, unless the server stands by. In the loop's thread. */
enum error server_quic_open(struct server_loop *server_loop) MUST_CHECK;
/* Another process takes new connections on the same sockets. */
void server_quic_yield(struct server_loop *server_loop);
/* No new connections: for good; for as long as `hold`. */
void server_quic_drain(struct server_loop *server_loop);
/* The next process reads the sockets from now on. */
void server_quic_retire(struct server_loop *server_loop);
void server_quic_hold(struct server_loop *server_loop, bool hold);
/* Closes all connections in this turn's flush. */
void server_quic_close(struct server_loop *server_loop);
/* Frees the endpoint; the thread does not run. */
void server_quic_done(struct server_loop *server_loop);

#endif
