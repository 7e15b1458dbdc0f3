/* SPDX-License-Identifier: MIT */
/*
 * The master process: a single thread without protocol code that binds, starts and watches the
 * server, and speaks with the operator and the service manager.
 */
#ifndef GATEWAY_MASTER_H
#define GATEWAY_MASTER_H

#include <stddef.h>

struct config;
struct tls_context;
struct tls_keyring;

/* Where the configuration came from, to read it again. */
struct master_source {
    const char *path; /* NULL: none */
    const char *const *overrides;
    size_t override_count;
    char **argv;         /* of the command line, to execute it again */
    const char *program; /* the path of the binary */
    int handover;        /* of the master before (master_handover.h); -1: none */
};

/* What an upgrade asks of a new binary before it is trusted (the configuration is valid): can it take over, and open what is new? Returns
 * the exit code. */
int master_try(struct config *config, const struct master_source *source);
/* Runs until it is told to stop; returns the exit code of the process (the forked server returns
 * through it too). `tls` and `keyring` are NULL when no listener has TLS. Takes all three over, also on failure. */
int master_run(struct config *config, struct tls_context *tls, struct tls_keyring *keyring,
               const struct master_source *source);

#endif
