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

#endif
