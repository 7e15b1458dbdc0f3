/* SPDX-License-Identifier: MIT */
/*
 * Hygiene of descriptors that come along with a worker's bytes.
 */
#ifndef GATEWAY_IPC_DESCRIPTORS_H
#define GATEWAY_IPC_DESCRIPTORS_H

#include <stdbool.h>

struct msghdr;

/* Closes every descriptor of a received message and counts them; true when there were any, or more than the message had room for
 * (the kernel keeps those back; SPEC R5). */
bool ipc_close_descriptors(struct msghdr *message);

#define IPC_DESCRIPTOR_NONE (-1)
#define IPC_DESCRIPTOR_LOST (-2) /* one was sent, but the process has no room for it (EMFILE) */
#define IPC_DESCRIPTOR_MANY (-3) /* more than one was sent; all are closed and counted */

/* The descriptor of a message, which is the caller's from now on, or one of the values above. */
int ipc_take_descriptor(struct msghdr *message);

#endif
