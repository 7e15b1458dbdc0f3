/* SPDX-License-Identifier: MIT */
/*
 * What a master hands to itself when it executes another binary in place: its sockets, its servers and a few numbers, as lines of text
 * in a memory file, so that the two binaries need not be of one version.
 */
#ifndef GATEWAY_MASTER_HANDOVER_H
#define GATEWAY_MASTER_HANDOVER_H

#include "master_state.h"

/* The environment variable that tells a new binary what it is started for: "trial:FD" or "takeover:FD", where FD is the file. */
#define MASTER_HANDOVER_VARIABLE "GATEWAYD_UPGRADE"
/* What a trial says when all is well. */
#define MASTER_HANDOVER_TOKEN "gatewayd: ready to take over\n"

/* Writes it. The descriptor is close-on-exec, as those that it names; -1 with errno. */
int master_handover_write(const struct master *master);
/* Lets all these descriptors, and `fd`, pass exec, or not (again). */
void master_handover_pass(const struct master *master, int fd, bool pass);
/* Reads it into a master that has nothing yet: endpoints, servers, numbers. ERROR_INVALID: it is not of this form. Consumes `fd`. */
enum error master_handover_read_take(struct master *master, int fd) MUST_CHECK;

#endif
