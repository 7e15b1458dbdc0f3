/* SPDX-License-Identifier: MIT */
/*
 * Telling a service manager how far we are: the sd_notify(3) protocol, a datagram to
 * $NOTIFY_SOCKET.
 */
#ifndef GATEWAY_NOTIFY_H
#define GATEWAY_NOTIFY_H

/* Sends assignments ("READY=1\nSTATUS=serving"); does nothing without $NOTIFY_SOCKET. Never
 * blocks. */
void notify_send(const char *assignments);
/* "RELOADING=1" with the time that Type=notify-reload wants. */
void notify_reloading(void);

#endif
